"""Behind a proxy: what the service says of its own address, and whom it believes about a client's."""

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import structlog
from fastapi import Request
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from app.config import Settings
from app.errors import Unauthenticated
from app.frontend import BodyLimits, FrontEnd, build, new_router, public
from app.middleware import Edge
from app.routers.problems import read_token, render_error
from tests.conftest import Api, MakeDatabase, Workspace, client_of, started
from tests.routers.calls import answered, call, ids_of, make_contacts, make_tags, problem, walk
from tests.series import here, value
from tests.test_server import Service, eventually, polytag

PUBLIC_URLS = ["https://tags.example.com", "https://example.com/polytag", "http://example.com:8080/a/b.c"]
HOSTILE = {
    "Host": "evil.example",
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Prefix": "/evil",
    "X-Forwarded-Proto": "gopher",
    "X-Forwarded-For": "evil.example",
    "Forwarded": "host=evil.example",
}


def proxy(app: ASGIApp, public_url: str) -> ASGIApp:
    """What a proxy at this URL makes of a request: it takes its path away, and calls the service by its inner name."""
    prefix = httpx.URL(public_url).path.rstrip("/")

    async def forward(scope: Scope, receive: Receive, send: Send) -> None:
        host = [(name, b"10.0.0.7:8000" if name == b"host" else value) for name, value in scope["headers"]]
        assert scope["path"].startswith(f"{prefix}/"), scope["path"]
        await app(
            {
                **scope,
                "scheme": "http",
                "headers": host,
                "path": scope["path"].removeprefix(prefix),
                "raw_path": scope["raw_path"].removeprefix(prefix.encode()),
            },
            receive,
            send,
        )

    return forward


# The native API.


@pytest.fixture(params=PUBLIC_URLS)
def public_url(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
async def proxied(database_url: str, workspace: Workspace, public_url: str) -> AsyncIterator[Api]:
    """A client that knows the public URL only."""
    async with (
        started(Settings(database_url=database_url, public_url=public_url)) as app,
        client_of(proxy(app, public_url), workspace) as api,
    ):
        api.base_url = httpx.URL(public_url)
        yield api


async def test_links_and_locations_can_be_followed(proxied: Api, public_url: str) -> None:
    tags = await make_tags(proxied, *(f"t{number}" for number in range(5)))
    for path in ("/tags", f"/tags?{'&'.join(f'ids={tag_id}' for tag_id in ids_of(tags))}"):
        pages = await walk(proxied, path, **({} if "?" in path else {"limit": 2}))
        assert sum(map(len, pages)) == 5
    response = await proxied.get("/tags", params={"limit": 2, "search": "t&é"})
    assert "next" not in response.links
    response = await proxied.get("/tags", params={"limit": 2})
    assert response.links["next"]["url"].startswith(f"{public_url}/tags?limit=2&cursor=")
    made = await proxied.post("/tags", json={"name": "VIP"})
    assert made.headers["location"] == f"{public_url}/tags/{made.json()['id']}"
    assert answered(await proxied.get(made.headers["location"])) == made.json()


async def test_no_header_changes_links_and_locations(proxied: Api, public_url: str) -> None:
    made = await proxied.post("/tags", json={"name": "VIP"}, headers=HOSTILE)
    await make_tags(proxied, "other")
    listed = await proxied.get("/tags", params={"limit": 1}, headers=HOSTILE)
    for found in (made.headers["location"], listed.links["next"]["url"]):
        assert found.startswith(f"{public_url}/tags")


async def test_without_a_public_url_they_are_paths(api: Api) -> None:
    made = await api.post("/tags", json={"name": "VIP"}, headers=HOSTILE)
    await make_tags(api, "other")
    listed = await api.get("/tags", params={"limit": 1}, headers=HOSTILE)
    assert made.headers["location"] == f"/tags/{made.json()['id']}"
    assert listed.headers["link"].startswith("</tags?limit=1&cursor=")


async def test_everything_else_is_as_ever(proxied: Api, public_url: str) -> None:
    [contact] = await make_contacts(proxied, 1)
    given = await call(proxied, "PUT", f"/contacts/{contact}/tags/Caf%C3%A9%20%2B")
    assert given["added"] == ["cafe"]
    assert (await proxied.head(f"/contacts/{contact}/tags")).status_code == 200
    response = await proxied.put("/tags/batch")
    problem(response, 405, "method_not_allowed")
    assert response.headers["allow"] == "DELETE, GET, HEAD, PATCH, POST"
    document = problem(await proxied.get("/nothing/here"), 404, "route_not_found")
    assert document["detail"] == f"There is nothing at {httpx.URL(public_url).path.rstrip('/')}/nothing/here."


async def test_the_documentation_finds_its_document(proxied: Api, public_url: str) -> None:
    page = await proxied.get("/docs")
    [found] = re.findall(r"url: '([^']+)'", page.text)
    document = answered(await proxied.get(httpx.URL(public_url).join(found)))
    assert document["servers"] == [{"url": public_url}]
    assert "/tags" in document["paths"]


async def test_routes_are_told_without_the_path_of_the_proxy(proxied: Api) -> None:
    labels = {"front_end": "native", "method": "GET", "route": "/contacts/{contact_id}/tags", "status": "200"}
    [contact] = await make_contacts(proxied, 1)
    before = value(here(), "http_requests_total", **labels)
    with structlog.testing.capture_logs() as lines:
        await call(proxied, "GET", f"/contacts/{contact}/tags")
    assert [line["route"] for line in lines if line["event"] == "request"] == ["/contacts/{contact_id}/tags"]
    assert value(here(), "http_requests_total", **labels) - before == 1


# Mounted front ends.


def dialect() -> FrontEnd:
    router = new_router("vendor")

    @router.get("/v1/things/{name}")
    @public
    async def get_thing(request: Request, name: str) -> dict[str, str]:
        return {
            "name": name,
            "url": str(request.url),
            "base": str(request.base_url),
            "method": request.method,
            "raw": request.scope["raw_path"].decode(),
        }

    @router.put("/v1/things/{name}")
    @public
    async def put_thing(name: str) -> None:
        raise Unauthenticated("missing")

    return FrontEnd("vendor", "Vendor", "/vendor", (router,), read_token, render_error)


@asynccontextmanager
async def mounted(public_url: str | None) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a service with a dialect, through a proxy if it has a public URL."""
    limits = BodyLimits(1_000, 1_000)
    native = FrontEnd("native", "Native", "", (), read_token, render_error)
    service = build(
        native,
        version="1",
        body_limits=limits,
        middleware=(Middleware(Edge, timeout=5, public_url=public_url),),
        public_url=public_url,
    )
    service.mount("/vendor", build(dialect(), version="1", body_limits=limits, public_url=public_url))
    reached: ASGIApp = service if public_url is None else proxy(service, public_url)
    base_url = public_url or "http://direct.example"
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=reached), base_url=base_url) as client:
        yield client


@pytest.mark.parametrize("public_url", [None, *PUBLIC_URLS])
async def test_a_mounted_front_end_sees_the_public_url(public_url: str | None) -> None:
    async with mounted(public_url) as client:
        base_url = public_url or "http://direct.example"
        path = "/vendor/v1/things/a%20b%C3%A9"
        labels = {"front_end": "vendor", "method": "GET", "route": "/vendor/v1/things/{name}", "status": "200"}
        before = value(here(), "http_requests_total", **labels)
        with structlog.testing.capture_logs() as lines:
            found = answered(await client.get(f"{path}?page=2", headers=HOSTILE if public_url else {}))
        assert found == {
            "name": "a bé",
            "url": f"{base_url}/vendor/v1/things/a bé?page=2",
            "base": f"{base_url}/",
            "method": "GET",
            "raw": httpx.URL(base_url).path.rstrip("/") + path,
        }
        assert [line["route"] for line in lines] == ["/vendor/v1/things/{name}"]
        assert value(here(), "http_requests_total", **labels) - before == 1
        assert (await client.head(path)).status_code == 200
        refused = await client.post(path)
        problem(refused, 405, "method_not_allowed")
        assert refused.headers["allow"] == "GET, HEAD, PUT"
        problem(await client.get("/vendor/nothing"), 404, "route_not_found")
        document = answered(await client.get("/vendor/openapi.json"))
        assert document["servers"] == [{"url": f"{public_url or ''}/vendor"}]
        assert (
            f"url: '{httpx.URL(base_url).path.rstrip('/')}/vendor/openapi.json'"
            in (await client.get("/vendor/docs")).text
        )


# Addresses of clients.


@pytest.mark.parametrize(
    ("client", "expected"),
    [
        (("203.0.113.9", 5), "203.0.113.9"),
        (("2001:DB8::0:9", 5), "2001:db8::9"),
        (("fe80::1%ptag_abcdefghijk", 5), "fe80::1"),
        (("::ffff:203.0.113.9", 5), "203.0.113.9"),
        (("ptag_abcdefghijk", 0), None),
        (("203.0.113.9" * 10_000, 0), None),
        (("", 0), None),
        (None, None),
    ],
)
async def test_the_access_line_has_an_address_and_nothing_else(client: Any, expected: str | None) -> None:
    async def answer(_scope: Scope, _receive: Receive, _send: Send) -> None: ...

    async def unused(*_: object) -> Any: ...

    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "client": client, "state": {}}
    with structlog.testing.capture_logs() as lines:
        await Edge(answer, timeout=5)(scope, unused, unused)
    assert [line["client_ip"] for line in lines] == [expected]


def client_ip_of(service: Service, forwarded: str) -> str:
    """Which one is in the log of a request with this header."""
    headers = {"Authorization": f"Bearer {service.key}", "X-Forwarded-For": forwarded}
    request_id = httpx.get(f"{service.address}/me", headers=headers).headers["x-request-id"]

    def lines() -> list[dict[str, Any]]:
        return [line for line in map(json.loads, list(service.log)) if line.get("request_id") == request_id]

    assert eventually(lambda: len(lines()) == 1)
    found: str = lines()[0]["client_ip"]
    return found


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        # The last one that is no proxy of ours: what stands before it was sent by the client.
        ({}, {"203.0.113.9": "203.0.113.9", "198.51.100.1, 203.0.113.9, 127.0.0.1": "203.0.113.9"}),
        ({"POLYTAG_FORWARDED_ALLOW_IPS": "127.0.0.0/8, 10.0.0.0/8"}, {"203.0.113.9, 10.1.2.3": "203.0.113.9"}),
        ({"POLYTAG_FORWARDED_ALLOW_IPS": "10.0.0.7"}, {"203.0.113.9": "127.0.0.1", "10.0.0.7": "127.0.0.1"}),
    ],
)
async def test_only_listed_proxies_are_believed(
    new_database: MakeDatabase, environment: dict[str, str], expected: dict[str, str]
) -> None:
    url = await new_database()
    with Service(POLYTAG_DATABASE_URL=url, **environment) as service:
        assert {forwarded: client_ip_of(service, forwarded) for forwarded in expected} == expected


async def test_a_service_with_a_public_url(new_database: MakeDatabase) -> None:
    url = await new_database()
    public = "https://example.com/polytag"
    with Service("--workers", "2", POLYTAG_DATABASE_URL=url, POLYTAG_PUBLIC_URL=f"{public}/") as service:
        assert f"its public URL      {public}\n" in service.greeting
        assert f"its documentation   {public}/docs\n" in service.greeting
        assert service.address.startswith("http://127.0.0.1:")
        headers = {"Authorization": f"Bearer {service.key}", **HOSTILE}
        async with httpx.AsyncClient(base_url=service.address, headers=headers) as client:
            made = await client.post("/tags", json={"name": "VIP"})
        assert made.headers["location"] == f"{public}/tags/{made.json()['id']}"


def test_a_public_url_that_cannot_be_taken() -> None:
    done = polytag("serve", "--port", "0", POLYTAG_PUBLIC_URL="https://user:hunter2@example.com/")
    assert done.returncode == 1
    assert "POLYTAG_PUBLIC_URL" in done.stderr
    assert "hunter2" not in done.stderr
