"""What another client of the workspace has agreed to does not exist, and audiences are told apart.

Calls that name something of another workspace are compared with others in tests/test_isolation_matrix.py.
"""

from typing import Any

from starlette.types import ASGIApp

from tests.conftest import Api
from tests.dialects.datamailer.calls import (
    SCOPE,
    STATUS_KEYS,
    call,
    colleague,
    colleagues,
    emails,
    put_tags,
    refuse,
    status_of,
    subscribe,
    tags_path,
    upsert,
)
from tests.routers.calls import run, state_of


async def test_a_contact_of_another_client_is_not_there(app: ASGIApp, api: Api) -> None:
    """Without an agreement with this client it is `not_found`, has no status and is in no list; its tags stay."""
    shop = await colleague(api.workspace, client="shop")
    async with colleagues(app, shop) as [other]:
        theirs = await subscribe(other, "ada@example.com", client="shop", tags=["kept"])
        before = await state_of(api.workspace)
        body: dict[str, Any] = {**SCOPE, "tags": []}
        for method, slug in (("PUT", None), ("POST", "vip"), ("DELETE", "kept")):
            refusal = await refuse(api, method, tags_path(theirs, slug), body, 404)
            assert refusal == {"contact_id": "not_found"}
        hidden = await status_of(api)
        assert list(hidden) == STATUS_KEYS
        assert hidden == {**await status_of(api, "nobody@example.com"), "email": "ada@example.com"}
        assert hidden["exists"] is False
        assert await emails(api) == []
        assert await emails(api, tags="kept") == []
        assert await state_of(api.workspace) == before
        assert await emails(other, client="shop") == ["ada@example.com"]


async def test_tags_are_shared_by_the_clients_of_an_audience(app: ASGIApp, api: Api) -> None:
    """Each agreement is the client's own."""
    shop = await colleague(api.workspace, client="shop")
    async with colleagues(app, shop) as [other]:
        theirs = await subscribe(other, client="shop", tags=["theirs"])
        ours = await upsert(api, tags=["ours"])
        assert ours["contact_id"] == theirs["contact_id"]
        assert ours["tags"] == ["ours", "theirs"]
        assert (ours["client"]["slug"], ours["client"]["status"]) == ("web", "pending")
        assert await put_tags(other, theirs, "new", client="shop") == ["new"]
        assert (await call(api, "POST", tags_path(ours, "more"), SCOPE))["tags"] == ["more", "new"]
        assert (await status_of(other, client="shop"))["client"]["status"] == "subscribed"


async def test_a_member_without_any_agreement_is_not_there(api: Api) -> None:
    """One with which only the audience as a whole agreed, too."""
    contact = await upsert(api, tags=["kept"])
    await run(
        api.workspace.database,
        "update subscriptions set client_id = null where workspace_id = :workspace_id",
        workspace_id=api.workspace.principal.workspace_id,
    )
    body = {**SCOPE, "tags": []}
    assert await refuse(api, "PUT", tags_path(contact), body, 404) == {"contact_id": "not_found"}
    assert (await status_of(api))["exists"] is False
    assert await emails(api) == []
    assert (await upsert(api))["tags"] == ["kept"]


async def test_an_audience_and_a_client_are_told_apart_by_case(api: Api) -> None:
    contact = await upsert(api)
    body = {**SCOPE, "tags": []}
    path = tags_path(contact)
    assert await refuse(api, "PUT", path, {**body, "audience": "Newsletter"}) == {"audience": "not_found"}
    assert await refuse(api, "PUT", path, {**body, "client": "Web"}, 403) == {"client": "forbidden"}
    padded = {**body, "audience": "\n newsletter\u00a0", "client": "\tweb "}
    assert (await call(api, "PUT", path, padded))["audience"]["slug"] == "newsletter"


async def test_any_audience_of_the_workspace_can_be_named(api: Api) -> None:
    """The key's default audience does not matter."""
    await colleague(api.workspace, audience="courses")
    contact = await subscribe(api, audience="courses", tags=["Python"])
    assert contact["audience"]["slug"] == "courses"
    assert contact["tags"] == ["python"]
    assert await emails(api, audience="courses") == ["ada@example.com"]
    assert await emails(api) == []
