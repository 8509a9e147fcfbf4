"""What stands around every answer, whichever front end gives it: headers for browsers, time limits, no inside."""

import asyncio
import json
import re
from base64 import b64encode
from collections.abc import AsyncIterator
from hashlib import sha256
from typing import Any

import asyncpg
import httpx
import pytest
import structlog
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.config import Settings
from app.frontend import QUERY_MAX_BYTES, QUERY_PARAMETERS_MAX, BodyLimits, build
from app.main import DIALECTS, FRONT_ENDS
from app.middleware import Edge
from app.routers import NATIVE
from tests.conftest import Api, Workspace, client_of, started
from tests.routers.calls import field_problem, problem

STRICT = "default-src 'none'; frame-ancestors 'none'"
EVERYWHERE = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}
MOUNTS = sorted(front_end.mount for front_end in FRONT_ENDS.values())


# Headers.


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/tags"),
        ("HEAD", "/tags"),
        ("GET", "/tags/none"),
        ("GET", "/nothing"),
        ("PUT", "/tags"),
        ("OPTIONS", "/tags"),
        ("GET", "/tags?unknown=1"),
        ("POST", "/tags"),
        ("GET", "/healthz"),
        ("GET", "/readyz"),
        ("GET", "/metrics"),
        ("GET", "/openapi.json"),
        *(
            (method, f"{dialect.mount}{path}")
            for dialect in DIALECTS
            for method in ("GET", "PUT")
            for path in ("/", "/x")
        ),
        ("GET", "/topmail/api/v1/tags"),
        ("GET", "/buttondown/v1/tags"),
        ("GET", "/sendportal/docs/x"),
        ("GET", "/sendportal/openapi.json"),
        ("GET", "/datamailer/openapi.json"),
    ],
)
async def test_every_answer_has_the_headers_for_browsers(api: Api, method: str, path: str) -> None:
    headers = {"Origin": "https://evil.example", "Access-Control-Request-Method": "GET"}
    response = await api.request(method, path, headers=headers)
    expected = {**EVERYWHERE, "content-security-policy": STRICT, "cross-origin-resource-policy": "same-origin"}
    assert {name: response.headers.get(name) for name in expected} == expected
    assert [name for name in response.headers if name.startswith("access-control-")] == []
    assert "server" not in response.headers
    # What is sent in plain cannot bind a browser to TLS.
    assert "strict-transport-security" not in response.headers
    if method == "OPTIONS":
        problem(response, 405, "method_not_allowed")


async def test_an_answer_keeps_what_it_says_of_caches_itself() -> None:
    async def answer(_scope: Scope, _receive: Receive, send: Send) -> None:
        headers = [(b"cache-control", b"private, no-cache"), (b"content-security-policy", b"sandbox")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    [start, _] = await call(Edge(answer, timeout=5))
    assert [value for name, value in start["headers"] if name == b"cache-control"] == [b"private, no-cache"]
    assert [value for name, value in start["headers"] if name == b"content-security-policy"] == [b"sandbox"]


@pytest.mark.parametrize(
    ("public_url", "expected"),
    [("https://tags.example.com", "max-age=63072000"), ("http://tags.example.com", None), (None, None)],
)
async def test_browsers_are_bound_to_tls_where_it_is_spoken(
    database_url: str, workspace: Workspace, public_url: str | None, expected: str | None
) -> None:
    settings = Settings(database_url=database_url, public_url=public_url)
    async with started(settings) as app, client_of(app, workspace) as api:
        for path in ("/me", "/nothing", "/sendportal/api/v1/ping"):
            assert (await api.get(path)).headers.get("strict-transport-security") == expected


async def call(app: ASGIApp, receive: Receive | None = None, **scope: Any) -> list[Message]:
    """A request below httpx."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def empty() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    given = {"method": "GET", "path": "/", "query_string": b"", "headers": [], "state": {}, "root_path": "", **scope}
    await app({"type": "http", **given}, receive or empty, send)
    return sent


# The page of the documentation.


@pytest.mark.parametrize("mount", MOUNTS)
async def test_the_page_may_run_what_it_is_made_of_and_nothing_else(api: Api, mount: str) -> None:
    response = await api.get(f"{mount}/docs")
    assert response.status_code == 200
    assert {name: response.headers[name] for name in EVERYWHERE} == EVERYWHERE
    policy = dict(rule.split(" ", 1) for rule in response.headers["content-security-policy"].split("; "))
    page = response.text
    [inline] = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    [script] = re.findall(r'<script src="([^"]+)"', page)
    [style] = re.findall(r'<link [^>]*rel="stylesheet" href="([^"]+)"', page)
    digest = b64encode(sha256(inline.encode()).digest()).decode()
    assert policy.pop("script-src").split() == [f"'sha256-{digest}'", script]
    assert policy.pop("style-src").split() == ["'unsafe-inline'", style]
    assert policy == {
        "default-src": "'none'",
        "img-src": "data:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    # Nothing else is loaded from anywhere, and no attribute runs a script.
    assert {link for link in re.findall(r'(?:href|src)="([^"]+)"', page) if link.startswith("http")} == {script, style}
    assert not re.search(r"<[^>]+ on\w+=", page)
    assert f"url: '{mount}/openapi.json'" in inline


@pytest.mark.parametrize("mount", MOUNTS)
@pytest.mark.parametrize("path", ["/docs", "/openapi.json"])
async def test_nothing_may_stand_behind_the_paths_of_the_documentation(api: Api, mount: str, path: str) -> None:
    assert (await api.get(f"{mount}{path}")).status_code == 200
    for ending in ("%0A", "/", "/oauth2-redirect"):
        assert (await api.get(f"{mount}{path}{ending}")).status_code == 404


# The query.


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("search=" + "a" * (QUERY_MAX_BYTES - 6), "too_long"),
        ("&".join(["ids=x"] * (QUERY_PARAMETERS_MAX + 1)), "too_many_fields"),
    ],
    ids=["bytes", "parameters"],
)
async def test_a_query_beyond_the_limit(api: Api, query: str, code: str) -> None:
    field_problem(await api.get(f"/tags?{query}"), "?", code)
    # As each front end says that something is wrong with the input.
    statuses = {
        path: (await api.get(f"{path}?{query}")).status_code
        for path in ("/topmail/api/v1/tags", "/buttondown/v1/tags", "/sendportal/api/v1/tags")
    }
    assert statuses == {"/topmail/api/v1/tags": 400, "/buttondown/v1/tags": 422, "/sendportal/api/v1/tags": 422}
    # Before a key is looked for in it.
    assert (await api.get(f"/sendportal/api/v1/tags?{query}", headers={"Authorization": ""})).status_code == 422


async def test_a_query_at_the_limit(api: Api) -> None:
    response = await api.get("/tags?search=" + "a" * (QUERY_MAX_BYTES - 7))
    field_problem(response, "?search", "too_long")
    assert (await api.get("/tags?" + "&".join(["limit=1"] * QUERY_PARAMETERS_MAX))).status_code == 200


async def test_a_thousand_tags_may_stand_in_a_query(api: Api) -> None:
    subscriber = (await api.post("/sendportal/api/v1/subscribers", json={"email": "ada@example.com"})).json()["data"][
        "id"
    ]
    query = "&".join(["tags%5B%5D=1000000000"] * 1_000)
    response = await api.delete(
        f"/sendportal/api/v1/subscribers/{subscriber}/tags?api_token={api.workspace.provisioned.key}&{query}"
    )
    assert response.json()["errors"]["tags.0"] == ["Tag ID 1000000000 does not exist."]


async def test_the_longest_query_that_there_may_be(api: Api) -> None:
    slugs = [f"{n:03}".ljust(120, "x") for n in range(100)]
    query = "&".join(f"{name}={slug}" for name in ("tags_all", "tags_any", "tags_none") for slug in slugs)
    document = problem(await api.get(f"/contacts?{query}"), 422, "unknown_tag")
    assert len(document["errors"]) == 100


@pytest.mark.parametrize("unit", ["a", "%20", "-", "%C3%A9", "%EF%B7%BA", "%0A", "%00", "a-", "%CC%81", "ptag_"])
async def test_a_long_path_costs_little(api: Api, unit: str) -> None:
    segment = unit * (60_000 // len(unit))
    contact = (await api.post("/contacts", json={"email": "long@example.com"})).json()["id"]
    for method, path in (
        ("GET", f"/tags/{segment}"),
        ("GET", f"/{segment}"),
        ("GET", f"/contacts/{contact}/tags/{segment}"),
        ("PUT", f"/contacts/{contact}/tags/{segment}"),
        ("GET", f"/audiences/{segment}"),
        ("GET", f"/topmail/api/v1/tags/{segment}"),
        ("GET", f"/buttondown/v1/subscribers/{segment}"),
        ("GET", f"/sendportal/api/v1/tags/{segment}"),
        ("GET", f"/datamailer/{segment}"),
    ):
        loop = asyncio.get_running_loop()
        before = loop.time()
        response = await api.request(method, path)
        # A few milliseconds; what grows with the square of the length takes seconds.
        assert loop.time() - before < 1, path[:60]
        assert response.status_code < 500
        assert len(response.content) < 3_000


# Bodies that do not come.


def code_of(front_end: str, document: Any) -> object:
    """What programs tell the error by, in the form of this front end."""
    if front_end in {"topmail", "datamailer"}:
        return document["error"]["code"]
    if front_end == "sendportal":
        return list(document)
    return document["code"]


SLOW = [
    ("native", "/tags", "slow_body"),
    ("topmail", "/topmail/api/v1/tags", "request_timeout"),
    ("buttondown", "/buttondown/v1/tags", "request_timeout"),
    ("sendportal", "/sendportal/api/v1/tags", ["message"]),
    ("datamailer", "/datamailer/api/contacts", "request_timeout"),
]


async def test_a_body_that_does_not_come_in_time(database_url: str, workspace: Workspace) -> None:
    async def half() -> AsyncIterator[bytes]:
        yield b'{"name":'
        await asyncio.Event().wait()

    async with (
        started(Settings(database_url=database_url, request_timeout=1, pool_size=1)) as app,
        client_of(app, workspace) as api,
    ):
        # The key is known by now, and the connection made.
        assert (await api.get("/me")).status_code == 200

        async def send_half(front_end: str, path: str) -> httpx.Response:
            scheme = "Token" if front_end == "buttondown" else "Bearer"
            headers = {"Content-Type": "application/json", "Authorization": f"{scheme} {workspace.provisioned.key}"}
            return await api.post(path, content=half(), headers=headers)

        with structlog.testing.capture_logs() as lines:
            waiting = [asyncio.create_task(send_half(front_end, path)) for front_end, path, _ in SLOW]
            for _ in range(3):
                assert (await api.get("/tags")).status_code == 200
            # They hold no connection of the one that there is.
            assert not any(one.done() for one in waiting)
            responses = await asyncio.gather(*waiting)
        for (front_end, _, code), response in zip(SLOW, responses, strict=True):
            assert response.status_code == 408
            assert code_of(front_end, response.json()) == code
            assert response.headers["connection"] == "close"
            assert response.headers["x-content-type-options"] == "nosniff"
            [line] = [line for line in lines if (line.get("status"), line.get("front_end")) == (408, front_end)]
            assert (line["error"], line["workspace"]) == ("SlowBody", workspace.principal.workspace)
        assert (await api.get("/tags")).json()["data"] == []


async def test_what_is_slow_after_its_body_is_not_the_fault_of_the_body(
    database_url: str, workspace: Workspace
) -> None:
    settings = Settings(database_url=database_url, request_timeout=1)
    holder = await asyncpg.connect(database_url)
    try:
        async with started(settings) as app, client_of(app, workspace) as api, holder.transaction():
            mine = "select * from audiences where workspace_id = $1 for update"
            await holder.execute(mine, workspace.principal.workspace_id)
            response = await api.post("/tags", json={"name": "VIP"})
    finally:
        await holder.close()
    problem(response, 503, "unavailable")
    assert "connection" not in response.headers


# Faults.


class Broken:
    """Fails between `Edge` and the front end, before the answer or in it."""

    def __init__(self, app: ASGIApp, *, begun: bool) -> None:
        self._app = app
        self._begun = begun

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if self._begun:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        secret = "of the inside"
        raise RuntimeError(f"something {secret}")


@pytest.mark.parametrize("begun", [False, True])
async def test_a_fault_outside_of_the_net_shows_nothing(begun: bool) -> None:
    app = build(
        NATIVE,
        version="1",
        body_limits=BodyLimits(1, 1),
        middleware=(Middleware(Edge, timeout=5), Middleware(Broken, begun=begun)),
    )
    sent: list[Message] = []

    async def keep(message: Message) -> None:
        sent.append(message)

    async def unused() -> Message:
        raise AssertionError

    scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": [], "state": {}}
    # The server logs it, and closes the connection where the answer has begun.
    with pytest.raises(RuntimeError, match="of the inside"):
        await app(scope, unused, keep)
    if begun:
        assert len(sent) == 1
        return
    assert (sent[0]["status"], dict(sent[0]["headers"])[b"content-type"]) == (500, b"application/problem+json")
    document = json.loads(sent[1]["body"])
    assert document["code"] == "internal_error"
    assert document["request_id"]
    assert b"inside" not in sent[1]["body"]
