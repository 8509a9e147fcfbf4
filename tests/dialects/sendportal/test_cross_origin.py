"""Pages of other origins may call SendPortal's API, as Laravel has it from the start; nothing else is open to them."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from app.config import Settings
from tests.conftest import Api, Workspace, client_of, started

BASE = "/sendportal/api/v1"
ORIGIN = {"Origin": "https://shop.example"}
PREFLIGHT = {
    **ORIGIN,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type",
}


def is_open(response: httpx.Response) -> bool:
    """Whether a page of any origin may read the answer, which it must not get with a browser's credentials."""
    assert "access-control-allow-credentials" not in response.headers
    assert response.headers["x-content-type-options"] == "nosniff"
    allowed = response.headers.get_list("access-control-allow-origin") == ["*"]
    # Browsers would keep the answer from the page by it.
    assert allowed is ("cross-origin-resource-policy" not in response.headers)
    return allowed


@pytest.mark.parametrize("headers", [{}, ORIGIN])
@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/tags", 200),
        ("HEAD", "/tags", 200),
        ("GET", "/ping", 200),
        ("GET", "/tags/999", 404),
        ("GET", "/nothing", 404),
        ("PATCH", "/tags", 405),
        ("OPTIONS", "/tags", 405),
        ("POST", "/tags", 422),
    ],
)
async def test_every_answer_is_open(api: Api, method: str, path: str, status: int, headers: dict[str, str]) -> None:
    response = await api.request(method, f"{BASE}{path}", headers=headers)
    assert response.status_code == status
    assert is_open(response)


async def test_refusals_before_the_handler_are_open_too(api: Api, database_url: str, workspace: Workspace) -> None:
    unauthenticated = await api.get(f"{BASE}/tags", headers={"Authorization": "Bearer unknown"})
    assert unauthenticated.status_code == 401
    assert is_open(unauthenticated)
    too_large = await api.post(f"{BASE}/tags", content=b"x" * 5_000_000)
    assert too_large.status_code == 413
    assert is_open(too_large)

    async def half() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    settings = Settings(database_url=database_url, request_timeout=1)
    async with started(settings) as app, client_of(app, workspace) as hurried:
        slow = await hurried.post(f"{BASE}/tags", content=half())
    assert slow.status_code == 408
    assert is_open(slow)


@pytest.mark.parametrize("path", ["/tags", "/tags/1/subscribers", "/nothing"])
async def test_a_browser_may_ask_first(api: Api, path: str) -> None:
    # It does so without a key.
    response = await api.options(f"{BASE}{path}", headers={**PREFLIGHT, "Authorization": ""})
    assert (response.status_code, response.content) == (204, b"")
    assert is_open(response)
    methods = response.headers["access-control-allow-methods"].split(", ")
    assert methods == ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
    # The wildcard does not cover the first.
    assert response.headers["access-control-allow-headers"].split(", ") == ["Authorization", "Content-Type", "*"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/tags", 405),
        ("/nothing", 404),
        ("/sendportal/docs", 405),
        ("/sendportal/openapi.json", 405),
        ("/sendportal/apix/v1", 404),
        ("/sendportal/nothing", 404),
        ("/topmail/api/v1/tags", 405),
        ("/buttondown/v1/tags", 405),
        ("/datamailer/api/v1/tags", 404),
    ],
)
async def test_nothing_else_is_open(api: Api, path: str, status: int) -> None:
    asked = await api.options(path, headers=PREFLIGHT)
    assert asked.status_code == status
    assert not is_open(asked)
    assert not is_open(await api.get(path, headers=ORIGIN))


async def test_it_is_open_behind_a_proxy(database_url: str, workspace: Workspace) -> None:
    settings = Settings(database_url=database_url, public_url="https://example.com/polytag")
    async with started(settings) as app, client_of(app, workspace) as api:
        assert (await api.options(f"{BASE}/tags", headers=PREFLIGHT)).status_code == 204
        assert is_open(await api.get(f"{BASE}/tags"))
        assert not is_open(await api.get("/sendportal/docs"))
