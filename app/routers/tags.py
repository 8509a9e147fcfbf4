"""Tags: list, make, change, delete."""

from typing import Annotated, Any, Literal, cast
from uuid import UUID

from fastapi import Query, Request, Response

from app.dependencies import PageDep, TagContacts, Tags
from app.errors import Conflict, Duplicate
from app.frontend import new_router, requires
from app.repositories.tag_contacts import ContactRefs
from app.repositories.tags import OnConflict, TagFields, TagSort
from app.routers.parameters import LINKED, LOCATED, AudienceParam, TagIdDep, link_next, locate
from app.routers.preconditions import IfMatchParam, IfNoneMatchParam, answer_304, put_etag
from app.schemas.base import Slug, Text
from app.schemas.fields import TAG_ID
from app.schemas.pagination import Pagination
from app.schemas.tags import BATCH_MAX, TagBatch, TagBatchResult, TagCreate, TagList, TagOutcome, TagRead, TagUpdate
from app.values import NAME_MAX_LENGTH

router = new_router("tags", "Tags: make, find, change and delete them, with exact counts.")

_MADE: dict[str, Any] = {"headers": {**LOCATED["headers"], "ETag": {"$ref": "#/components/headers/ETag"}}}


@router.get("/tags", response_description="A page of tags.", responses={200: LINKED})
@requires("tags:read")
async def list_tags(
    request: Request,
    response: Response,
    tags: Tags,
    page: PageDep,
    audience: AudienceParam = None,
    search: Annotated[
        Text | None,
        Query(
            max_length=NAME_MAX_LENGTH, description="Only tags with this in their name, in any case.", examples=["vip"]
        ),
    ] = None,
    ids: Annotated[
        list[UUID] | None,
        Query(
            max_length=BATCH_MAX,
            description="Only tags with one of these ids. Repeat it: `ids=…&ids=…`.",
            examples=[[TAG_ID]],
        ),
    ] = None,
    slug: Annotated[Slug | None, Query(description="Only the tag with this slug.", examples=["vip"])] = None,
    sort: Annotated[TagSort, Query(description="The order. A minus turns it round.")] = "name",
) -> TagList:
    """List the tags of an audience, with exact counts."""
    found = await tags.list(page, audience=audience, search=search, ids=ids, slug=slug, sort=sort)
    link_next(request, response, found)
    return TagList(data=[TagRead.model_validate(tag) for tag in found.items], pagination=Pagination.of(found))


@router.post(
    "/tags",
    status_code=201,
    response_description="The tag, which is new.",
    responses={
        200: {
            "model": TagRead,
            "description": "The tag, which was there: the call has `on_conflict=return` or `update`.",
            **_MADE,
        },
        201: _MADE,
    },
)
@requires("tags:write", bulk=True, raises=(Duplicate,))
async def create_tag(
    request: Request,
    response: Response,
    tags: Tags,
    tag_contacts: TagContacts,
    body: TagCreate,
    audience: AudienceParam = None,
    on_conflict: Annotated[
        OnConflict,
        Query(
            description="When the name is taken. `error`: the answer is 409. `return`: it is the tag that has the "
            "name, as it is. `update`: it is that tag with these fields."
        ),
    ] = "error",
) -> TagRead:
    """Make a tag, and give it to contacts if any are named. Answers 200 when the tag was there."""
    given = body.model_dump()
    contact_ids: list[UUID] = given.pop("contact_ids", [])
    fields = cast("TagFields", given)
    if contact_ids:
        refs = ContactRefs("contact_ids", contact_ids)
        found = await tag_contacts.create_tag(fields, refs, audience=audience, on_conflict=on_conflict)
    else:
        found = await tags.create(fields, audience=audience, on_conflict=on_conflict)
    locate(request, response, f"/tags/{found.tag.id}")
    put_etag(response, found.tag.etag)
    response.status_code = 201 if found.created else 200
    return TagRead.model_validate(found.tag)


@router.post("/tags/batch", response_description="An outcome for each tag.")
@requires("tags:write")
async def create_tags(tags: Tags, body: TagBatch, audience: AudienceParam = None) -> TagBatchResult:
    """Find or make up to 100 tags by name, with an outcome for each. Those that are there stay as they are."""
    found = await tags.create_many([cast("TagFields", spec.model_dump()) for spec in body.tags], audience=audience)
    outcomes: list[TagOutcome] = []
    for one in found:
        outcome: Literal["created", "found"] = "created" if one.created else "found"
        outcomes.append(TagOutcome(outcome=outcome, tag=TagRead.model_validate(one.tag)))
    return TagBatchResult(data=outcomes)


@router.get("/tags/{tag_id}", response_model=TagRead, response_description="The tag.")
@requires("tags:read")
async def get_tag(
    response: Response, tags: Tags, tag_id: TagIdDep, copies: IfNoneMatchParam = None
) -> TagRead | Response:
    """Get a tag, with its exact count."""
    tag = await tags.get(tag_id)
    return answer_304(response, tag.etag, copies) or TagRead.model_validate(tag)


@router.patch("/tags/{tag_id}", response_description="The tag, changed.")
@requires("tags:write", raises=(Duplicate,))
async def update_tag(
    response: Response, tags: Tags, tag_id: TagIdDep, body: TagUpdate, if_match: IfMatchParam = None
) -> TagRead:
    """Change a tag. What is left out stays as it is."""
    tag = await tags.update(tag_id, cast("TagFields", body.model_dump()), if_match=if_match)
    put_etag(response, tag.etag)
    return TagRead.model_validate(tag)


@router.delete("/tags/{tag_id}", status_code=204, response_description="The tag is gone.")
@requires("tags:write", raises=(Conflict,))
async def delete_tag(
    tags: Tags,
    tag_id: TagIdDep,
    if_match: IfMatchParam = None,
    if_unused: Annotated[
        bool, Query(description="Refuse with 409, and the count, while a contact carries it.")
    ] = False,
) -> None:
    """Delete a tag. Its assignments go with it; the contacts stay."""
    await tags.delete(tag_id, if_unused=if_unused, if_match=if_match)
