"""What tests of the Buttondown dialect have in common: its calls, and what its errors must be like."""

from typing import Any

import httpx
from starlette.types import ASGIApp

from app.database import statement_log
from app.dialects.buttondown import BUTTONDOWN
from app.frontend import Route
from tests.conftest import Api, Workspace, client_of
from tests.routers.calls import Json, answered, make_key

BASE = "/buttondown/v1"
# The same id in both forms; nobody has it.
UNKNOWN = "0190a0a0-0000-7000-8000-00000000beef"
UNKNOWN_TAG = "sub_tag_01j2ga0000e008000000001fqf"
UNKNOWN_SUBSCRIBER = "sub_01j2ga0000e008000000001fqf"


async def send(api: Api, method: str, path: str, body: object = None, /, headers: Json | None = None) -> httpx.Response:
    """Send a request in the vendor's way: with its word before the key."""
    key = api.headers["Authorization"].split()[-1]
    sent = {"Authorization": f"Token {key}"} | (headers or {})
    return await api.request(method, BASE + path, json=body, headers=sent)


async def call(
    api: Api, method: str, path: str, body: object = None, /, status: int = 200, headers: Json | None = None
) -> Any:
    """Send a body if there is one, and give the JSON of the answer."""
    return answered(await send(api, method, path, body, headers), status)


async def make_tag(api: Api, name: str = "VIP", **fields: Any) -> Json:
    made: Json = await call(api, "POST", "/tags", {"name": name, **fields}, status=201)
    return made


async def make_subscriber(api: Api, email: str = "ada@example.com", **fields: Any) -> Json:
    made: Json = await call(api, "POST", "/subscribers", {"email_address": email, **fields}, status=201)
    return made


async def tags_of(api: Api, subscriber: str) -> list[str]:
    """The names of a subscriber's tags, sorted."""
    return sorted((await call(api, "GET", f"/subscribers/{subscriber}"))["tags"])


async def bulk(api: Api, kind: str, **metadata: Any) -> Json:
    """A bulk action that is done."""
    done: Json = await call(api, "POST", "/bulk_actions", {"type": kind, "metadata": metadata}, status=201)
    return done


async def statements_of(api: Api, method: str, path: str, body: object = None) -> list[str]:
    """The statements that a call runs, but for the look-up of its key."""
    await call(api, "GET", "/tags")
    ran: list[str] = []
    token = statement_log.set(ran)
    try:
        response = await send(api, method, path, body)
    finally:
        statement_log.reset(token)
    assert response.is_success, response.text
    return ran


def coded(response: httpx.Response, status: int, code: str) -> Json:
    """The metadata of a refusal of the vendor's first form."""
    document: Json = answered(response, status)
    assert response.headers["content-type"] == "application/json"
    assert document["code"] == code, document
    assert document.keys() <= {"code", "detail", "metadata"}
    assert isinstance(document["detail"], str)
    assert document["detail"]
    metadata: Json = document.get("metadata", {})
    assert all(isinstance(value, str) for value in metadata.values())
    return metadata


def listed(response: httpx.Response) -> list[tuple[str, list[str | int]]]:
    """The faults of a refusal of the vendor's second form: what each is, and where."""
    document = answered(response, 422)
    assert document.keys() == {"detail"}
    for fault in document["detail"]:
        assert fault.keys() == {"type", "loc", "msg"}
        assert isinstance(fault["msg"], str)
        assert fault["msg"]
    return [(fault["type"], fault["loc"]) for fault in document["detail"]]


def refused(response: httpx.Response) -> None:
    """Whatever was sent: an answer below 500, and in one of the vendor's forms if it is an error."""
    assert response.status_code < 500, response.text
    if response.status_code < 400:
        return
    document = response.json()
    assert document.keys() <= {"code", "detail", "metadata"}
    if response.status_code == 422:
        listed(response)
    else:
        assert isinstance(document["detail"], str)
        assert "code" in document or document["detail"] == "Cannot parse request body"


async def key_of(api: Api, **fields: Any) -> str:
    """The secret of a new key that may all, unless told otherwise."""
    secret: str = (await make_key(api, **{"scopes": ["admin"], **fields}))["key"]
    return secret


def holder_of(app: ASGIApp, workspace: Workspace, key: str) -> Api:
    """A client with another key of the workspace."""
    client = client_of(app, workspace)
    client.headers["Authorization"] = f"Bearer {key}"
    return client


def all_routes() -> set[tuple[str, str]]:
    return {(method, route.path) for route in _routes() for method in route.methods or ()}


def _routes() -> list[Route]:
    return [route for router in BUTTONDOWN.routers for route in router.routes if isinstance(route, Route)]
