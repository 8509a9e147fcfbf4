"""Which scopes each call needs: all of those of the contract's table, and no others."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from starlette.types import ASGIApp

from app.database import Database
from app.repositories.tags import TagRepository
from app.values import SCOPES
from tests.conftest import Api, client_of, make_workspace
from tests.routers.calls import Json, all_routes, problem, routes_of, state_of

EMAIL: Json = {"email": "new@example.com"}
TAGGED: Json = {**EMAIL, "tags": ["x"]}

CALLS: list[tuple[str, str, Json | None, tuple[str, ...]]] = [
    ("GET", "/tags", None, ("tags:read",)),
    ("POST", "/tags", {"name": "x"}, ("tags:write",)),
    ("POST", "/tags", {"name": "x", "contact_ids": ["{contact}"]}, ("tags:write",)),
    ("POST", "/tags/batch", {"tags": [{"name": "x"}]}, ("tags:write",)),
    ("GET", "/tags/{tag}", None, ("tags:read",)),
    ("PATCH", "/tags/{tag}", {"name": "x"}, ("tags:write",)),
    ("DELETE", "/tags/{tag}", None, ("tags:write",)),
    ("GET", "/tags/{tag}/contacts", None, ("tags:read", "contacts:read")),
    ("POST", "/tags/{tag}/contacts", {"contact_ids": ["{contact}"]}, ("tags:write",)),
    ("PUT", "/tags/{tag}/contacts", {"contact_ids": ["{contact}"]}, ("tags:write",)),
    ("DELETE", "/tags/{tag}/contacts", {"contact_ids": ["{contact}"]}, ("tags:write",)),
    ("POST", "/tags/{tag}/contacts/remove", {"contact_ids": ["{contact}"]}, ("tags:write",)),
    ("GET", "/contacts/{contact}/tags", None, ("tags:read",)),
    ("POST", "/contacts/{contact}/tags", {"tags": ["x"]}, ("tags:write",)),
    ("PUT", "/contacts/{contact}/tags", {"tags": ["x"]}, ("tags:write",)),
    ("PATCH", "/contacts/{contact}/tags", {"add": ["x"]}, ("tags:write",)),
    ("DELETE", "/contacts/{contact}/tags", {"tags": ["x"]}, ("tags:write",)),
    ("PUT", "/contacts/{contact}/tags/x", None, ("tags:write",)),
    ("GET", "/contacts/{contact}/tags/vip", None, ("tags:read",)),
    ("DELETE", "/contacts/{contact}/tags/x", None, ("tags:write",)),
    ("GET", "/contacts", None, ("contacts:read",)),
    ("GET", "/contacts?expand=tags", None, ("contacts:read", "tags:read")),
    ("GET", "/contacts?tags_none=vip", None, ("contacts:read", "tags:read")),
    ("POST", "/contacts/search", {"filter": {"all": ["vip"]}}, ("contacts:read", "tags:read")),
    ("POST", "/contacts", EMAIL, ("contacts:write",)),
    ("POST", "/contacts", TAGGED, ("contacts:write", "tags:write")),
    ("POST", "/contacts?tags_mode=replace", {**EMAIL, "tags": []}, ("contacts:write", "tags:write")),
    ("POST", "/contacts/batch", {"contacts": [EMAIL]}, ("contacts:write",)),
    ("POST", "/contacts/batch", {"contacts": [EMAIL, TAGGED]}, ("contacts:write", "tags:write")),
    ("GET", "/contacts/{contact}", None, ("contacts:read",)),
    ("PATCH", "/contacts/{contact}", {"first_name": "x"}, ("contacts:write",)),
    ("DELETE", "/contacts/{contact}", None, ("contacts:write",)),
    ("GET", "/contacts/{contact}/audiences", None, ("contacts:read",)),
    ("PUT", "/contacts/{contact}/audiences/newsletter", {"status": "pending"}, ("contacts:write",)),
    ("DELETE", "/contacts/{contact}/audiences/newsletter", None, ("contacts:write",)),
    ("GET", "/audiences", None, ("tags:read",)),
    ("POST", "/audiences", {"name": "x"}, ("admin",)),
    ("GET", "/audiences/newsletter", None, ("tags:read",)),
    ("PATCH", "/audiences/newsletter", {"name": "x"}, ("admin",)),
    ("DELETE", "/audiences/other", None, ("admin",)),
    ("GET", "/events", None, ("events:read",)),
    ("GET", "/keys", None, ("admin",)),
    ("POST", "/keys", {"scopes": ["tags:read"]}, ("admin",)),
    ("DELETE", "/keys/{key}", None, ("admin",)),
    ("GET", "/me", None, ()),
    ("GET", "/healthz", None, ()),
    ("GET", "/readyz", None, ()),
    ("GET", "/metrics", None, ()),
]


@asynccontextmanager
async def holder_of(
    app: ASGIApp, database: Database, scopes: tuple[str, ...]
) -> AsyncIterator[tuple[Api, dict[str, str]]]:
    """A client with these scopes, and what the paths of the table name."""
    workspace = await make_workspace(database, scopes=scopes)
    [contact] = await workspace.make_contacts(1)
    tag = (await workspace.repository(TagRepository).create({"name": "VIP"})).tag
    async with client_of(app, workspace) as api:
        yield api, {"contact": str(contact), "tag": str(tag.id), "key": str(workspace.principal.key_id)}


def filled(body: Json | None, names: dict[str, str]) -> Json | None:
    if body is None or "contact_ids" not in body:
        return body
    return {**body, "contact_ids": [names["contact"]]}


@pytest.mark.parametrize(("method", "path", "body", "needed"), CALLS)
async def test_without_one_of_its_scopes_a_call_is_refused(
    app: ASGIApp, database: Database, method: str, path: str, body: Json | None, needed: tuple[str, ...]
) -> None:
    for missing in needed:
        # All the others, except the one that implies them.
        has = tuple(scope for scope in SCOPES if scope not in {missing, "admin"})
        async with holder_of(app, database, has) as (api, names):
            before = await state_of(api.workspace)
            response = await api.request(method, path.format(**names), json=filled(body, names))
            assert problem(response, 403, "insufficient_scope")["missing_scopes"] == [missing]
            assert f'scope="{missing}"' in response.headers["www-authenticate"]
            assert await state_of(api.workspace) == before


@pytest.mark.parametrize(("method", "path", "body", "needed"), CALLS)
async def test_its_scopes_are_enough(
    app: ASGIApp, database: Database, method: str, path: str, body: Json | None, needed: tuple[str, ...]
) -> None:
    for has in {needed, ("admin",)}:
        async with holder_of(app, database, has) as (api, names):
            response = await api.request(method, path.format(**names), json=filled(body, names))
            # Some of what is named does not exist; nothing is forbidden.
            assert response.is_success or response.status_code == 404, response.text
            assert response.status_code != 404 or path.endswith(("/tags/vip", "/audiences/other"))


def test_every_call_is_in_the_table() -> None:
    assert set().union(*(routes_of(method, path) for method, path, _, _ in CALLS)) == all_routes()
