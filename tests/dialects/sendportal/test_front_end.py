"""Around the calls: keys and where they may stand, scopes, errors that are nobody's field, links, statements."""

import io
import json
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import structlog
from starlette.types import ASGIApp, Receive, Scope, Send

from app import logs
from app.config import Settings
from app.database import Database, statement_log
from app.dialects.sendportal import SENDPORTAL, render_error
from app.errors import (
    AppError,
    Conflict,
    IdempotencyKeyReused,
    InternalError,
    InvalidCursor,
    PreconditionFailed,
    RateLimited,
    SlowBody,
    StillRunning,
    Unavailable,
    Unreadable,
)
from app.frontend import Route
from app.repositories.tags import TagRepository
from app.values import SCOPES, new_key
from tests.conftest import Api, client_of, make_workspace, started
from tests.dialects.sendportal.calls import BASE, FORM, call, make_subscriber, make_subscribers, make_tag, make_tags
from tests.routers.calls import Json, answered, forget_default_audience, state_of
from tests.test_proxies import HOSTILE, PUBLIC_URLS, proxy

UNAUTHENTICATED = {"message": "Unauthenticated."}


# Keys.


@pytest.fixture
async def stranger(app: ASGIApp, api: Api) -> AsyncIterator[httpx.AsyncClient]:
    """A client that sends no key by itself."""
    async with client_of(app, api.workspace) as client:
        del client.headers["Authorization"]
        yield client


def key_of(api: Api) -> str:
    return api.workspace.provisioned.key


@pytest.mark.parametrize("word", ["Bearer", "bearer", "BEARER"])
async def test_a_key_in_the_header(stranger: httpx.AsyncClient, api: Api, word: str) -> None:
    answered(await stranger.get(f"{BASE}/tags", headers={"Authorization": f"{word} {key_of(api)}"}))


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
async def test_a_key_in_the_query(stranger: httpx.AsyncClient, api: Api, method: str) -> None:
    tag, subscriber = await make_tag(api, "VIP"), await make_subscriber(api, "ann@example.com")
    path = f"{BASE}/subscribers/{subscriber}/tags"
    response = await stranger.request(method, path, params={"api_token": key_of(api)}, json={"tags": [tag]})
    answered(response)


@pytest.mark.parametrize(
    ("header", "query", "challenge"),
    [
        (None, "", "Bearer"),
        (None, "?api_token=", "Bearer"),
        (None, "?api_token[]={key}", "Bearer"),
        (None, "?API_TOKEN={key}", "Bearer"),
        (None, "?api_token=x", 'Bearer error="invalid_token"'),
        (None, "?api_token={unknown}", 'Bearer error="invalid_token"'),
        (None, "?api_token={key}x", 'Bearer error="invalid_token"'),
        ("Bearer x", "?api_token={key}", 'Bearer error="invalid_token"'),
        ("Basic {key}", "?api_token={key}", 'Bearer error="invalid_token"'),
        ("Bearer", "", 'Bearer error="invalid_token"'),
        ("{key}", "", 'Bearer error="invalid_token"'),
        ("", "", 'Bearer error="invalid_token"'),
    ],
)
async def test_a_key_that_is_none(
    stranger: httpx.AsyncClient, api: Api, header: str | None, query: str, challenge: str
) -> None:
    key = key_of(api)
    headers = {} if header is None else {"Authorization": header.replace("{key}", key)}
    filled = query.replace("{key}", key).replace("{unknown}", new_key())
    before = await state_of(api.workspace)
    for method in ("GET", "POST"):
        response = await stranger.request(
            method, f"{BASE}/tags{filled}", json={"name": "x", "api_token": key}, headers=headers
        )
        assert answered(response, 401) == UNAUTHENTICATED
        assert response.headers["www-authenticate"] == challenge
        assert response.headers["content-type"] == "application/json"
    assert await state_of(api.workspace) == before


async def test_a_key_in_a_body_is_not_looked_for(stranger: httpx.AsyncClient, api: Api) -> None:
    """The vendor does; here nobody without a key has a body read."""
    response = await stranger.post(f"{BASE}/tags", content=f"name=x&api_token={key_of(api)}", headers=FORM)
    assert answered(response, 401) == UNAUTHENTICATED


async def test_a_key_without_an_audience(app: ASGIApp, database: Database) -> None:
    workspace = await make_workspace(database)
    await forget_default_audience(workspace)
    async with client_of(app, workspace) as client:
        document = answered(await client.get(f"{BASE}/tags"), 422)
    assert document["message"].startswith("The API key has no default audience")


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What is written to the log, as the service writes it; afterwards logging is what it was."""
    stream = io.StringIO()
    loggers = [logging.getLogger(name) for name in (None, "uvicorn", "uvicorn.error", "uvicorn.access")]
    before = [(one.handlers[:], one.level, one.propagate, one.disabled) for one in loggers]
    logs.configure("debug", "json", stream)
    # The loggers of modules would otherwise write there for ever.
    structlog.configure(cache_logger_on_first_use=False)
    yield stream
    structlog.reset_defaults()
    for one, (handlers, level, propagate, disabled) in zip(loggers, before, strict=True):
        one.handlers[:], one.level, one.propagate, one.disabled = handlers, level, propagate, disabled
    logging.getLogger().manager._clear_cache()  # type: ignore[attr-defined]  # of what levels let through


async def test_a_key_is_in_no_log_and_no_answer(
    stranger: httpx.AsyncClient, api: Api, log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    tags = await make_tags(api, "a", "b", "c")
    subscriber = await make_subscriber(api, "ann@example.com", tags=tags)
    key = key_of(api)
    texts: list[str] = []

    async def ask(method: str, path: str, status: int, body: Json | None = None) -> Json:
        joint = "&" if "?" in path else "?"
        response = await stranger.request(method, f"{BASE}{path}{joint}api_token={key}", json=body)
        assert response.status_code == status, response.text
        texts.extend([response.text, str(response.headers)])
        return dict(response.json())

    page = await ask("GET", "/tags?per_page=1&page=2", 200)
    for link in [*page["links"].values(), page["meta"]["path"], *(one["url"] for one in page["meta"]["links"])]:
        assert "api_token" not in (link or "")
    await ask("GET", f"/tags/{tags[0]}/subscribers?per_page=1", 200)
    await ask("GET", "/subscribers", 200)
    await ask("POST", "/tags", 422)
    await ask("POST", "/tags", 422, {"name": "x", "subscribers": [key]})
    await ask("POST", f"/subscribers/{subscriber}/tags", 422, {"tags": {key: key}})
    await ask("GET", f"/tags/{key}", 404)
    await ask("GET", f"/{key}", 404)
    await ask("PATCH", f"/subscribers/{key}/tags", 405)

    async def broken(*_: object, **__: object) -> Any:
        raise RuntimeError(f"asked with api_token={key}")

    monkeypatch.setattr(TagRepository, "list", broken)
    await ask("GET", "/tags", 500)
    lines = log.getvalue()
    assert lines.count('"event": "request"') >= 10
    assert "asked with api_token" in lines
    for text in [lines, *texts]:
        assert key not in text
        assert "api_token=ptag_" not in text.replace("api_token=ptag_…", "")


# Scopes.

NEEDS: list[tuple[str, str, Json | None, set[str]]] = [
    ("GET", "/subscribers/{subscriber}/tags", None, {"tags:read"}),
    ("POST", "/subscribers/{subscriber}/tags", {"tags": ["{tag}"]}, {"tags:write"}),
    ("PUT", "/subscribers/{subscriber}/tags", {"tags": ["{tag}"]}, {"tags:write"}),
    ("DELETE", "/subscribers/{subscriber}/tags", {"tags": ["{tag}"]}, {"tags:write"}),
    ("GET", "/tags", None, {"tags:read"}),
    ("POST", "/tags", {"name": "x"}, {"tags:write"}),
    ("POST", "/tags", {"name": "y", "subscribers": ["{subscriber}"]}, {"tags:write", "contacts:read"}),
    ("GET", "/tags/{tag}", None, {"tags:read"}),
    ("PUT", "/tags/{tag}", {"name": "z"}, {"tags:write"}),
    ("PATCH", "/tags/{tag}", {"name": "z"}, {"tags:write"}),
    ("GET", "/tags/{tag}/subscribers", None, {"tags:read", "contacts:read"}),
    ("POST", "/tags/{tag}/subscribers", {"subscribers": ["{subscriber}"]}, {"tags:write", "contacts:read"}),
    ("PUT", "/tags/{tag}/subscribers", {"subscribers": ["{subscriber}"]}, {"tags:write", "contacts:read"}),
    ("DELETE", "/tags/{tag}/subscribers", {"subscribers": ["{subscriber}"]}, {"tags:write", "contacts:read"}),
    ("GET", "/subscribers", None, {"contacts:read"}),
    ("GET", "/subscribers/{subscriber}", None, {"contacts:read", "tags:read"}),
    ("POST", "/subscribers", {"email": "ann@example.com"}, {"contacts:write", "tags:read"}),
    ("POST", "/subscribers", {"email": "ann@example.com", "tags": []}, {"contacts:write", "tags:read", "tags:write"}),
    ("PUT", "/subscribers/{subscriber}", {"email": "ann@example.com"}, {"contacts:write"}),
    ("PATCH", "/subscribers/{subscriber}", {"email": "ann@example.com", "tags": []}, {"contacts:write", "tags:write"}),
    ("DELETE", "/tags/{tag}", None, {"tags:write"}),
    ("DELETE", "/subscribers/{subscriber}", None, {"contacts:write"}),
    ("GET", "/ping", None, set()),
]


@pytest.fixture
async def scoped(app: ASGIApp, database: Database) -> Any:
    """Clients of one workspace, each with the scopes that it is asked for with."""

    @asynccontextmanager
    async def provide(scopes: set[str]) -> AsyncIterator[Api]:
        async with client_of(app, await make_workspace(database, scopes=tuple(scopes))) as client:
            yield client

    return provide


@pytest.mark.parametrize(("method", "path", "body", "needed"), NEEDS)
async def test_scopes(scoped: Any, api: Api, method: str, path: str, body: Json | None, needed: set[str]) -> None:
    """Those that are needed are enough; without one of them it is 403, whatever is asked about."""
    ids = {"tag": 1, "subscriber": 1}
    sent = body and {name: [1] if isinstance(value, list) and value else value for name, value in body.items()}
    for missing in needed:
        async with scoped(set(SCOPES) - {missing, "admin"}) as client:
            before = await state_of(client.workspace)
            response = await client.request(method, BASE + path.format(**ids), json=sent)
            assert answered(response, 403) == {"message": f"The API key lacks the scope {missing}."}
            assert f'scope="{missing}"' in response.headers["www-authenticate"]
            assert await state_of(client.workspace) == before
    async with scoped(needed or {"events:read"}) as client:
        response = await client.request(method, BASE + path.format(**ids), json=sent)
        assert response.status_code != 403


def test_scopes_are_told_of_every_call() -> None:
    served = {
        (method, route.path_format.removeprefix("/api/v1"))
        for router in SENDPORTAL.routers
        for route in router.routes
        if isinstance(route, Route)
        for method in route.methods or ()
    }
    assert {(method, path) for method, path, _, _ in NEEDS} == served


# What is wrong with a request as a whole.


@pytest.mark.parametrize(
    "path", ["/nope", "", "/", "/tags/", "/tags/1/2", "/subscribers/1/tags/1", "/subscribers/tags/x/y"]
)
async def test_there_is_no_such_route(stranger: httpx.AsyncClient, path: str) -> None:
    """Key or no key."""
    expected = {"message": f"The route api/v1{path} could not be found."}
    assert answered(await stranger.get(BASE + path), 404) == expected
    assert answered(await stranger.post(BASE + path, headers={"Accept": "text/html"}), 404) == expected


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PATCH", "/subscribers/1/tags", "GET, HEAD, POST, PUT, DELETE"),
        ("DELETE", "/tags", "GET, HEAD, POST"),
        ("POST", "/tags/1", "GET, HEAD, PUT, PATCH, DELETE"),
        ("PATCH", "/tags/1/subscribers", "GET, HEAD, POST, PUT, DELETE"),
        ("PUT", "/subscribers", "GET, HEAD, POST"),
        ("POST", "/subscribers/1", "GET, HEAD, PUT, PATCH, DELETE"),
        ("POST", "/ping", "GET, HEAD"),
    ],
)
async def test_there_is_no_such_method(stranger: httpx.AsyncClient, method: str, path: str, allowed: str) -> None:
    response = await stranger.request(method, BASE + path)
    assert answered(response, 405) == {
        "message": f"The {method} method is not supported for route api/v1{path}. Supported methods: {allowed}."
    }
    assert response.headers["allow"] == allowed


async def test_ping_needs_no_key(stranger: httpx.AsyncClient) -> None:
    for headers in ({}, {"Authorization": "Bearer x"}):
        response = await stranger.get(f"{BASE}/ping", headers=headers)
        assert (response.status_code, response.text) == (200, "ok")
        assert response.headers["content-type"].startswith("text/plain")


async def test_head_is_get_without_a_body(api: Api) -> None:
    await make_tag(api, "VIP")
    response = await api.head(f"{BASE}/tags")
    assert (response.status_code, response.content) == (200, b"")
    assert int(response.headers["content-length"]) == len((await api.get(f"{BASE}/tags")).content)


async def test_a_body_that_is_too_long(api: Api) -> None:
    response = await api.post(f"{BASE}/subscribers", json={"email": "x" * 2_000_000})
    document = answered(response, 413)
    assert document.keys() == {"message"}
    body = {"name": "x", "unknown": "x" * 2_000_000}
    assert answered(await api.post(f"{BASE}/tags", json=body), 201)


async def test_a_body_that_is_packed(api: Api) -> None:
    """Reading it as nothing would say that a field is missing."""
    response = await api.post(f"{BASE}/tags", json={"name": "x"}, headers={"Content-Encoding": "gzip"})
    assert answered(response, 415).keys() == {"message"}


async def test_a_database_that_is_busy(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    async def busy(*_: object, **__: object) -> Any:
        raise Unavailable("The database took too long and was stopped. Nothing was written.", retry_after=3)

    monkeypatch.setattr(Database, "fetch", busy)
    response = await api.get(f"{BASE}/tags")
    message = "The database took too long and was stopped. Nothing was written."
    assert answered(response, 503) == {"message": message}
    assert response.headers["retry-after"] == "3"


async def test_a_fault_of_ours(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object, **__: object) -> Any:
        raise RuntimeError("secret")

    monkeypatch.setattr(TagRepository, "list", broken)
    assert answered(await api.get(f"{BASE}/tags"), 500) == {"message": "Server Error"}


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Unreadable("x"), 400),
        (InvalidCursor(), 422),
        (Conflict("tag_in_use", "x", contact_count=1), 409),
        (InternalError(), 500),
        (SlowBody(30), 408),
        (PreconditionFailed("tag"), 412),
        (IdempotencyKeyReused(), 422),
        (StillRunning(), 409),
        (RateLimited("Too many."), 429),
    ],
)
def test_what_no_call_answers_has_a_form_as_well(error: AppError, status: int) -> None:
    response = render_error(error, "")
    assert response.status_code == status
    assert json.loads(bytes(response.body)).keys() == {"message"}


# Links.


@pytest.mark.parametrize("public_url", PUBLIC_URLS)
async def test_links_lead_back_through_a_proxy(database_url: str, api: Api, public_url: str) -> None:
    await make_tags(api, "a", "b", "c")
    async with (
        started(Settings(database_url=database_url, public_url=public_url)) as app,
        client_of(proxy(app, public_url), api.workspace) as client,
    ):
        url: str | None = f"{public_url}{BASE}/tags?per_page=1"
        names = []
        while url:
            assert url.startswith(f"{public_url}{BASE}/tags?per_page=1")
            page = answered(await client.get(httpx.URL(url), headers=HOSTILE))
            assert page["meta"]["path"] == f"{public_url}{BASE}/tags"
            names += [tag["name"] for tag in page["data"]]
            url = page["links"]["next"]
        assert names == ["a", "b", "c"]
        response = await client.get(f"{public_url}{BASE}/nope")
        assert answered(response, 404) == {"message": "The route api/v1/nope could not be found."}
        response = await client.delete(f"{public_url}{BASE}/tags")
        assert answered(response, 405)["message"].startswith(
            "The DELETE method is not supported for route api/v1/tags."
        )


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("tags.example.com", "http://tags.example.com"),
        ("tags.example.com:8080", "http://tags.example.com:8080"),
        ("[::1]:8000", "http://[::1]:8000"),
        ("[", "http://127.0.0.1:80"),
        ("evil/path", "http://127.0.0.1:80"),
        ("user@evil", "http://127.0.0.1:80"),
        ("evil?x=", "http://127.0.0.1:80"),
        ("", "http://127.0.0.1:80"),
        (None, "http://127.0.0.1:80"),
    ],
)
async def test_without_a_public_url_links_have_the_host_that_was_called(
    app: ASGIApp, api: Api, host: str | None, origin: str
) -> None:
    async def ask(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [header for header in scope["headers"] if header[0] != b"host"]
        headers += [(b"host", host.encode())] if host is not None else []
        await app({**scope, "headers": headers, "server": ("127.0.0.1", 80)}, receive, send)

    async with client_of(ask, api.workspace) as client:
        page = answered(await client.get(f"{BASE}/tags"))
    assert page["meta"]["path"] == f"{origin}{BASE}/tags"


# How many statements a call takes.


@pytest.mark.parametrize(
    ("method", "path", "body", "expected"),
    [
        ("GET", "/subscribers/{subscriber}/tags", None, 2),
        ("POST", "/subscribers/{subscriber}/tags", {"tags": "{tags}"}, 3),
        ("PUT", "/subscribers/{subscriber}/tags", {"tags": "{tags}"}, 4),
        ("DELETE", "/subscribers/{subscriber}/tags", {"tags": "{tags}"}, 3),
        ("GET", "/tags", None, 1),
        ("GET", "/tags/{tag}", None, 2),
        ("GET", "/tags/{tag}/subscribers", None, 3),
        ("POST", "/tags/{tag}/subscribers", {"subscribers": "{subscribers}"}, 5),
        ("PUT", "/tags/{tag}/subscribers", {"subscribers": "{subscribers}"}, 6),
        ("DELETE", "/tags/{tag}/subscribers", {"subscribers": "{subscribers}"}, 5),
        ("GET", "/subscribers", None, 2),
        ("GET", "/subscribers/{subscriber}", None, 2),
        ("PUT", "/subscribers/{subscriber}", {"email": "s0@example.com", "tags": "{tags}"}, 9),
    ],
)
async def test_statements_do_not_grow_with_what_is_named(
    api: Api, method: str, path: str, body: Json | None, expected: int
) -> None:
    tags, subscribers = await make_tags(api, *(f"t{n}" for n in range(20))), await make_subscribers(api, 20)
    # Somebody carries the tag before and after.
    await make_subscriber(api, "always@example.com", tags=[tags[0]])
    named = {"{tags}": tags, "{subscribers}": subscribers}
    url = BASE + path.format(tag=tags[0], subscriber=subscribers[0])
    for count in (1, 20):
        sent = body and {name: named[value][:count] if value in named else value for name, value in body.items()}
        ran: list[str] = []
        token = statement_log.set(ran)
        try:
            answered(await api.request(method, url, json=sent))
        finally:
            statement_log.reset(token)
        assert len(ran) == expected, ran


# The OpenAPI document.


async def test_the_document_tells_the_shapes(stranger: httpx.AsyncClient) -> None:
    document = answered(await stranger.get("/sendportal/openapi.json"))
    schemas = document["components"]["schemas"]
    assert schemas["TagsIn"]["properties"].keys() == {"tags"}
    assert schemas["TagsIn"]["properties"]["tags"]["items"] == {"type": "integer"}
    assert schemas["Meta"]["properties"].keys() >= {"from", "to"}
    assert schemas["TagOut"]["required"] == ["id", "name", "created_at", "update_at", "updated_at"]
    assert [schemas[name]["required"] for name in ("TagsIn", "SubscribersIn", "TagIn", "NewSubscriberIn")] == [
        ["tags"],
        ["subscribers"],
        ["name"],
        ["email"],
    ]
    assert document["paths"]["/api/v1/subscribers"]["post"]["responses"].keys() >= {"200", "201"}
    [number] = document["paths"]["/api/v1/tags/{tag}"]["get"]["parameters"]
    assert number["schema"]["type"] == "integer"
    page = document["paths"]["/api/v1/tags"]["get"]["parameters"]
    assert {one["name"] for one in page} == {"page", "per_page"}


async def test_pages_of_a_key_without_a_tag(api: Api) -> None:
    """The simplest look that a client takes at whether its key is good."""
    assert await call(api, "GET", "/tags") == []
