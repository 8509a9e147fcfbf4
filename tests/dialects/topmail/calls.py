"""What tests of the TopMail dialect have in common: its calls, and what its errors must be like."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
from starlette.types import ASGIApp

from app.dialects.topmail import TOPMAIL
from app.frontend import Route
from tests.conftest import Api, Workspace, client_of
from tests.routers.calls import Json, answered, make_key

BASE = "/topmail/api/v1"
# RFC 9562's version 7, like those that are given out.
UNKNOWN_TAG = "0190a0a0-0000-7000-8000-00000000beef"
UNKNOWN_CONTACT = "0190a0a0-0000-7000-8000-00000000cafe"


async def call(api: Api, method: str, path: str, body: object = None, /, status: int = 200, **params: Any) -> Any:
    """Send a body if there is one, and give the JSON of the answer."""
    return answered(await api.request(method, BASE + path, json=body, params=params or None), status)


async def make_tag(api: Api, name: str = "VIP", **fields: Any) -> Json:
    made: Json = (await call(api, "POST", "/tags", {"name": name, **fields}, status=201))["data"]
    return made


async def make_contact(api: Api, email: str = "ada@example.com", **fields: Any) -> Json:
    made: Json = (await call(api, "POST", "/contacts", {"email": email, **fields}, status=201))["data"]
    return made


async def assign(api: Api, tag: Json, contact_ids: Sequence[str]) -> Json:
    done: Json = (await call(api, "POST", f"/tags/{tag['id']}/contacts", {"contact_ids": contact_ids}))["data"]
    return done


async def carriers(api: Api, tag: Json) -> list[str]:
    """The contacts that carry a tag; its count must be their number."""
    page = await call(api, "GET", f"/tags/{tag['id']}/contacts", limit=1000)
    count = (await call(api, "GET", f"/tags/{tag['id']}"))["data"]["contact_count"]
    assert count == page["pagination"]["total"] == len(page["data"])
    return [contact["id"] for contact in page["data"]]


async def walk(api: Api, path: str, limit: int, **params: Any) -> list[Json]:
    """Every item of a list, by offset, as a client of the vendor reads it to its end."""
    items: list[Json] = []
    while True:
        page = await call(api, "GET", path, limit=limit, offset=len(items), **params)
        pagination = page["pagination"]
        items += page["data"]
        has_more = len(items) < pagination["total"]
        assert pagination == {
            "total": pagination["total"],
            "limit": limit,
            "offset": len(items) - len(page["data"]),
            "has_more": has_more,
        }
        if not has_more:
            return items
        assert len(page["data"]) == limit


def error_of(response: httpx.Response, status: int, code: str, path: str | None = None) -> str:
    """The message of a refusal, which has the vendor's form and names this field, or none."""
    document = answered(response, status)
    assert response.headers["content-type"] == "application/json"
    message: str = document["error"]["message"]
    assert document == {"error": {"code": code, "message": message} | ({} if path is None else {"path": path})}
    assert message
    return message


@asynccontextmanager
async def holder_of(app: ASGIApp, workspace: Workspace, key: str) -> AsyncIterator[Api]:
    """A client with another key of the workspace."""
    async with client_of(app, workspace) as client:
        client.headers["Authorization"] = f"Bearer {key}"
        yield client


async def make_api_key(api: Api, **fields: Any) -> str:
    """The secret of a new key that may all, unless told otherwise."""
    secret: str = (await make_key(api, **{"scopes": ["admin"], **fields}))["key"]
    return secret


def routes_of(method: str, path: str) -> set[tuple[str, str]]:
    """The route that serves this call, below the dialect's mount: its method and its template."""
    path = path.partition("?")[0].removeprefix(TOPMAIL.mount)
    return {
        (method, route.path)
        for route in _routes()
        if method in (route.methods or ()) and route.path_regex.fullmatch(path)
    }


def all_routes() -> set[tuple[str, str]]:
    return {(method, route.path) for route in _routes() for method in route.methods or ()}


def _routes() -> list[Route]:
    return [route for router in TOPMAIL.routers for route in router.routes if isinstance(route, Route)]
