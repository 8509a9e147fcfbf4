"""Audiences: the namespaces of tags."""

from typing import cast

from fastapi import Request, Response

from app.dependencies import Audiences
from app.errors import Conflict, Duplicate
from app.frontend import new_router, requires
from app.repositories.audiences import AudienceFields
from app.routers.parameters import LOCATED, AudienceSlugParam, locate
from app.schemas.audiences import AudienceCreate, AudienceList, AudienceRead, AudienceUpdate
from app.values import slug_for_name

router = new_router("audiences", "Audiences: namespaces of tags, of which contacts are members.")


@router.get("/audiences", response_description="The audiences.")
@requires("tags:read")
async def list_audiences(audiences: Audiences) -> AudienceList:
    """List all audiences of the workspace, by slug."""
    return AudienceList(data=[AudienceRead.model_validate(one) for one in await audiences.list()])


@router.post(
    "/audiences", status_code=201, response_description="The audience, which is new.", responses={201: LOCATED}
)
@requires("admin", raises=(Duplicate,))
async def create_audience(
    request: Request, response: Response, audiences: Audiences, body: AudienceCreate
) -> AudienceRead:
    """Make an audience."""
    slug: str = body.model_dump().get("slug") or slug_for_name(body.name)
    made = await audiences.create(slug, body.name)
    locate(request, response, f"/audiences/{made.slug}")
    return AudienceRead.model_validate(made)


@router.get("/audiences/{slug}", response_description="The audience.")
@requires("tags:read")
async def get_audience(audiences: Audiences, slug: AudienceSlugParam) -> AudienceRead:
    """Get an audience."""
    return AudienceRead.model_validate(await audiences.get(slug))


@router.patch("/audiences/{slug}", response_description="The audience, changed.")
@requires("admin")
async def update_audience(audiences: Audiences, slug: AudienceSlugParam, body: AudienceUpdate) -> AudienceRead:
    """Rename an audience, or make it the default. Its slug stays."""
    return AudienceRead.model_validate(await audiences.update(slug, cast("AudienceFields", body.model_dump())))


@router.delete("/audiences/{slug}", status_code=204, response_description="The audience is gone.")
@requires("admin", raises=(Conflict,))
async def delete_audience(audiences: Audiences, slug: AudienceSlugParam) -> None:
    """Delete an audience and its memberships. 409 while it has tags, is the default, or a live key's default."""
    await audiences.delete(slug)
