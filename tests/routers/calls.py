"""What tests of the native API have in common: a few calls, and what every answer must be like."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import httpx

from app.database import Database, Statement
from app.frontend import Route
from app.routers import NATIVE
from tests.conftest import Api, Workspace

Json = dict[str, Any]

# Whatever a workspace has, except how far its events are numbered, which their readers do.
STATE_TABLES = (
    "api_keys",
    "audiences",
    "audience_members",
    "bulk_actions",
    "clients",
    "contacts",
    "contact_tags",
    "events",
    "idempotency_keys",
    "subscriptions",
    "tags",
    "tag_counts",
)

# Except when a key was last used, which authentication notes by itself.
_STATE = Statement(
    "test.state",
    " union all ".join(
        f"select '{table}' as source, cast(to_jsonb(t) - 'last_used_at' as text) as line from {table} t "
        "where t.workspace_id = :workspace_id"
        for table in STATE_TABLES
    ),
)

_FORGET_AUDIENCE = Statement(
    "test.forget_audience", "update api_keys set audience_id = null where workspace_id = :workspace_id"
)


def answered(response: httpx.Response, status: int = 200) -> Any:
    """The JSON of an answer that must have this status; None where it has no body."""
    assert response.status_code == status, response.text
    return response.json() if response.content else None


def problem(response: httpx.Response, status: int, code: str) -> Json:
    """The problem document of a refusal."""
    document: Json = answered(response, status)
    assert response.headers["content-type"] == "application/problem+json"
    assert (document["status"], document["code"]) == (status, code), document
    assert document["request_id"] == response.headers["x-request-id"]
    return document


def field_problem(response: httpx.Response, pointer: str, code: str) -> Json:
    """The problem document of one field that breaks one rule."""
    document = problem(response, 422, code)
    assert [(error["pointer"], error["code"]) for error in document["errors"]] == [(pointer, code)]
    return document


def pointers(document: Json) -> list[str]:
    return [error["pointer"] for error in document["errors"]]


async def call(api: Api, method: str, path: str, body: object = None, /, status: int = 200, **params: Any) -> Any:
    """Send a body if there is one, and give the JSON of the answer."""
    # Empty parameters would take those away that stand in the path.
    return answered(await api.request(method, path, json=body, params=params or None), status)


async def make_tag(api: Api, name: str, *, audience: str = "newsletter", **fields: Any) -> Json:
    tag: Json = await call(api, "POST", "/tags", {"name": name, **fields}, status=201, audience=audience)
    return tag


async def make_tags(api: Api, *names: str, audience: str = "newsletter") -> list[Json]:
    made: list[Json] = []
    for start in range(0, len(names), 100):
        batch = {"tags": [{"name": name} for name in names[start : start + 100]]}
        made += [one["tag"] for one in (await call(api, "POST", "/tags/batch", batch, audience=audience))["data"]]
    return made


async def make_contacts(api: Api, count: int, *, prefix: str = "c") -> list[str]:
    """Ids of new members of the newsletter: c0@example.com with the external id c0, and so on."""
    return [str(contact_id) for contact_id in await api.workspace.make_contacts(count, prefix=prefix)]


async def make_audience(api: Api, slug: str, *members: str) -> None:
    await call(api, "POST", "/audiences", {"name": slug.title(), "slug": slug}, status=201)
    for contact_id in members:
        await call(api, "PUT", f"/contacts/{contact_id}/audiences/{slug}", {}, status=201)


async def make_key(api: Api, *, create_missing: bool = False, **fields: Any) -> Json:
    """A new key, which may read tags unless told otherwise."""
    body = {"scopes": ["tags:read"], **fields}
    made: Json = await call(api, "POST", "/keys", body, status=201, create_missing=create_missing)
    return made


async def make_outsider(api: Api, email: str = "outsider@example.com", **fields: Any) -> str:
    """The id of a contact of the workspace that is a member of no audience."""
    made = await call(api, "POST", "/contacts", {"email": email, "audiences": [], **fields}, status=201)
    return str(made["id"])


async def slugs_of(api: Api, contact_id: str, audience: str = "newsletter") -> list[str]:
    """The tags that a contact carries."""
    listed = await call(api, "GET", f"/contacts/{contact_id}/tags", audience=audience)
    return [tag["slug"] for tag in listed["data"]]


async def carriers(api: Api, tag_id: str) -> list[str]:
    """The contacts that carry a tag; its count must be their number."""
    listed = await call(api, "GET", f"/tags/{tag_id}/contacts", limit=1000)
    tag = await call(api, "GET", f"/tags/{tag_id}")
    assert tag["contact_count"] == listed["pagination"]["total"] == len(listed["data"])
    return [contact["id"] for contact in listed["data"]]


async def walk(api: Api, path: str, **params: Any) -> list[list[Json]]:
    """Every page of a list, from link to link."""
    pages = []
    response = await api.get(path, params=params)
    while True:
        page = answered(response)
        pagination = page["pagination"]
        assert len(page["data"]) <= pagination["limit"]
        pages.append(page["data"])
        following = response.links.get("next")
        assert pagination["has_more"] is (following is not None) is (pagination["next_cursor"] is not None)
        if following is None:
            return pages
        assert len(page["data"]) == pagination["limit"]
        assert httpx.URL(following["url"]).params["cursor"] == pagination["next_cursor"]
        response = await api.get(following["url"])


def ids_of(items: Sequence[Mapping[str, Any]]) -> list[str]:
    return [item["id"] for item in items]


async def state_of(workspace: Workspace) -> list[tuple[str, str]]:
    """All rows of a workspace, to be compared with what they are later."""
    rows = await workspace.database.fetch(_STATE, workspace_id=workspace.principal.workspace_id)
    return sorted((row["source"], row["line"]) for row in rows)


async def forget_default_audience(workspace: Workspace) -> None:
    """Leave the workspace's key without a default audience. To be done before the key is first used."""
    await workspace.database.fetch(_FORGET_AUDIENCE, workspace_id=workspace.principal.workspace_id)


async def run(database: Database, sql: str, **values: object) -> list[Any]:
    """Rows of a statement of a test's own."""
    return await database.fetch(Statement("test.own", sql), **values)


def routes_of(method: str, path: str) -> set[tuple[str, str]]:
    """The route that serves this call: its method and its template."""
    path = path.partition("?")[0]
    return {
        (method, route.path)
        for route in _routes()
        if method in (route.methods or ()) and route.path_regex.fullmatch(path)
    }


def all_routes() -> set[tuple[str, str]]:
    return {(method, route.path) for route in _routes() for method in route.methods or ()}


def _routes() -> list[Route]:
    return [route for router in NATIVE.routers for route in router.routes if isinstance(route, Route)]


RANDOM_ID = str(UUID("0190a0a0-0000-7000-8000-00000000dead"))
