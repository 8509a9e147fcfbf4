"""API keys: list, make, revoke."""

from functools import partial
from typing import Annotated, cast

from fastapi import Query, Request, Response

from app.dependencies import AuthenticatorDep, Keys, PageDep
from app.frontend import new_router, requires
from app.idempotency import after_commit
from app.repositories.keys import KeyFields
from app.routers.parameters import LINKED, IncludeTotalParam, KeyIdParam, link_next
from app.schemas.keys import KeyCreate, KeyCreated, KeyList, KeyRead
from app.schemas.pagination import Pagination

router = new_router("keys", "API keys: list, make, revoke.")


@router.get("/keys", response_description="A page of API keys.", responses={200: LINKED})
@requires("admin")
async def list_keys(
    request: Request,
    response: Response,
    keys: Keys,
    page: PageDep,
    include_total: IncludeTotalParam = False,
) -> KeyList:
    """List the API keys of the workspace, the newest first. Revoked and expired ones stay in the list."""
    found = await keys.list(page, include_total=include_total)
    link_next(request, response, found)
    return KeyList(data=[KeyRead.model_validate(key) for key in found.items], pagination=Pagination.of(found))


@router.post("/keys", status_code=201, response_description="The API key, which is new.")
@requires("admin", shown_once="key")
async def create_key(
    response: Response,
    keys: Keys,
    body: KeyCreate,
    create_missing: Annotated[
        bool, Query(description="Whether a client that is not there is made. With false that is an error.")
    ] = False,
) -> KeyCreated:
    """Make an API key. The answer is the one time that it is shown."""
    made = await keys.create(cast("KeyFields", body.model_dump()), create_missing=create_missing)
    response.headers["Cache-Control"] = "no-store"
    return KeyCreated(key=made.secret, **KeyRead.model_validate(made.key).model_dump())


@router.delete("/keys/{key_id}", status_code=204, response_description="The API key is revoked.")
@requires("admin")
async def revoke_key(request: Request, keys: Keys, authenticator: AuthenticatorDep, key_id: KeyIdParam) -> None:
    """Revoke an API key for good; the calling one, too. 204 also when it was revoked before.

    Every process of the service refuses it within 5 seconds.
    """
    await keys.revoke(key_id)
    # A look-up before that would find the key alive, and believe it for a while.
    after_commit(request, partial(authenticator.forget, key_id))
