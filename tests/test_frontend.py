"""The way in and out that all front ends share, tried with throw-away routes and a made-up key."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal
from uuid import UUID, uuid4

import httpx
import pytest
import structlog
from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from pydantic import Field
from starlette.middleware import Middleware
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.dependencies import PrincipalDep, repository
from app.errors import AppError, Duplicate, Unauthenticated, Unreadable
from app.frontend import (
    LISTED_ERRORS_MAX,
    BodyLimits,
    FrontEnd,
    Terms,
    build,
    new_router,
    public,
    requires,
    terms_of,
)
from app.middleware import Edge
from app.rate_limits import Bodies, Shares
from app.repositories.base import Principal
from app.repositories.subscribers import SubscriberRepository
from app.repositories.tags import TagRepository
from app.routers.problems import read_token, render_error
from app.schemas.base import Input, JsonObject, TagName, Text
from app.turns import Turns

LIMITS = BodyLimits(default=2_000, bulk=4_000_000)
TIMEOUT = 0.2
KEY = "ptag_" + "k" * 38
PRINCIPAL = Principal(
    workspace_id=uuid4(),
    workspace="acme",
    client_id=uuid4(),
    client="web",
    key_id=uuid4(),
    scopes=frozenset({"tags:read", "tags:write"}),
    audience=None,
    expires_at=None,
)
JSON = {"Content-Type": "application/json"}
# The same in each process, since it stands in the names of tests.
THING_ID = "01a20492-1655-73a6-a6cf-2dd9be9d7e5f"


async def authenticate(key: str) -> Principal:
    if key != KEY:
        raise Unauthenticated("invalid")
    return PRINCIPAL


class Inner(Input):
    value: int


class Thing(Input):
    name: TagName
    contact_ids: Annotated[list[UUID], Field(max_length=10_000)] = Field(default_factory=list)
    attributes: JsonObject = Field(default_factory=dict)
    inner: list[Inner] = Field(default_factory=list)
    kind: Literal["a", "b"] = "a"
    words: list[Annotated[str, Field(min_length=1)]] | None = Field(None, min_length=1, max_length=2)
    pair: list[str] | None = Field(None, min_length=2, max_length=2)


def native_router() -> APIRouter:
    router = new_router("things")

    @router.get("/things")
    @requires("tags:read")
    async def list_things(search: Annotated[Text | None, Query()] = None, limit: int = 1) -> dict[str, object]:
        return {"search": search, "limit": limit}

    @router.post("/things", status_code=201)
    @requires("tags:write")
    async def create_thing(thing: Thing, principal: PrincipalDep) -> dict[str, str]:
        return {"name": thing.name, "workspace": principal.workspace}

    @router.post("/things/batch")
    @requires("tags:write", bulk=True)
    async def create_things(thing: Thing) -> dict[str, int]:
        return {"ids": len(thing.contact_ids)}

    @router.get("/things/{thing_id}")
    @requires("tags:read")
    async def get_thing(thing_id: UUID) -> dict[str, UUID]:
        return {"id": thing_id}

    @router.delete("/things/{thing_id}")
    @requires("admin")
    async def delete_thing(thing_id: UUID) -> None: ...

    @router.patch("/things/{thing_id}")
    @requires("tags:write")
    async def update_thing(thing_id: UUID, thing: Thing) -> None: ...

    @router.get("/named/{thing_slug}")
    @requires()
    async def get_named(thing_slug: Text) -> dict[str, str]:
        return {"slug": thing_slug}

    @router.get("/duplicate")
    @requires()
    async def get_duplicate() -> None:
        raise Duplicate("tag", "name", "\ud800", None)

    @router.get("/fault")
    @public
    async def get_fault() -> None:
        secret = "in a local variable"
        raise RuntimeError(f"broken {len(secret)}")

    @router.get("/half")
    @public
    async def get_half() -> Response:
        return HalfResponse()

    @router.get("/slow")
    @public
    async def get_slow() -> None:
        await asyncio.sleep(10)

    @router.get("/ping")
    @public
    async def get_ping(request: Request) -> dict[str, str]:
        return {"request_id": request.state.request_id, "method": request.method}

    return router


class HalfResponse(Response):
    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError("after the start")


def dialect() -> FrontEnd:
    router = new_router("vendor")

    @router.get("/v1/things/{thing_id}")
    @requires("tags:read")
    async def vendor_thing(thing_id: UUID, request: Request) -> dict[str, str]:
        return {"front_end": request.state.front_end.slug}

    @router.put("/v1/things/{thing_id}")
    @requires("tags:write")
    async def vendor_put(thing_id: UUID, thing: Thing) -> None: ...

    @router.get("/v1/fault")
    @public
    async def vendor_fault() -> None:
        raise RuntimeError

    @router.get("/v1/slow")
    @public
    async def vendor_slow() -> None:
        await asyncio.sleep(10)

    def read(request: Request) -> str:
        key = request.headers.get("x-api-key")
        if key is None:
            raise Unauthenticated("missing")
        return key

    def render(error: AppError, request_id: str) -> Response:
        return JSONResponse({"vendor_error": type(error).__name__}, 400)

    return FrontEnd("vendor", "Vendor", "/vendor", (router,), read, render)


def make_app(*, strict: bool = True, vendor: FrontEnd | None = None) -> FastAPI:
    native = FrontEnd("native", "Test", "", (native_router(),), read_token, render_error, strict)
    app = build(native, version="1", body_limits=LIMITS, middleware=(Middleware(Edge, timeout=TIMEOUT),))
    other = vendor or dialect()
    app.mount(other.mount, build(other, version="1", body_limits=LIMITS))
    return app


def started(app: FastAPI, principal: Principal = PRINCIPAL) -> ASGIApp:
    """The application with the state that its lifespan would have made."""

    async def identify(key: str) -> Principal:
        await authenticate(key)
        return principal

    shares, bodies, turns = Shares(8, wait=TIMEOUT), Bodies(1_000_000), Turns()

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        state = {
            "authenticate": identify,
            "database": None,
            "rate_limits": None,
            "shares": shares,
            "bodies": bodies,
            "turns": turns,
        }
        await app({**scope, "state": state}, receive, send)

    return serve


def client_of(app: ASGIApp) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://test", headers={"Authorization": f"Bearer {KEY}"}
    )


@pytest.fixture(scope="module")
async def app() -> ASGIApp:
    return started(make_app())


@pytest.fixture
async def client(app: ASGIApp) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(app) as client:
        yield client


def problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = response.json()
    assert (document["status"], document["code"]) == (status, code)
    assert document["request_id"] == response.headers["x-request-id"]
    return document


async def call(
    app: ASGIApp, method: str, path: str, *, headers: dict[str, str] | None = None, receive: Receive | None = None
) -> list[Message]:
    """A request below httpx, for what httpx would not send."""

    async def unread() -> Message:
        raise AssertionError("the body was read")

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    sent_headers = {"Authorization": f"Bearer {KEY}", **(headers or {})}
    await app(
        {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "path": path,
            "query_string": b"",
            "root_path": "",
            "scheme": "http",
            "server": ("test", 80),
            "client": ("test", 1),
            "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in sent_headers.items()],
        },
        receive or unread,
        send,
    )
    return sent


def body_of(sent: list[Message]) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(b"".join(message.get("body", b"") for message in sent))
    return document


# Who asks.


async def test_a_good_call(client: httpx.AsyncClient) -> None:
    response = await client.post("/things", json={"name": " Vip "})
    assert response.status_code == 201
    assert response.json() == {"name": "Vip", "workspace": "acme"}


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, "Bearer"),
        ("Basic abc", 'Bearer error="invalid_token"'),
        ("Bearer", 'Bearer error="invalid_token"'),
        ("Bearer a b", 'Bearer error="invalid_token"'),
        ("Bearer unknown", 'Bearer error="invalid_token"'),
        ("Bearer \xe9", 'Bearer error="invalid_token"'),
    ],
)
async def test_without_a_good_key(app: ASGIApp, header: str | None, expected: str) -> None:
    headers = [] if header is None else [(b"Authorization", header.encode("latin-1"))]
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        response = await client.get("/things", headers=headers)
    problem(response, 401, "unauthenticated")
    assert response.headers["www-authenticate"] == expected


async def test_the_scheme_in_any_case(client: httpx.AsyncClient) -> None:
    assert (await client.get("/things", headers={"Authorization": f"bEARER  {KEY}"})).status_code == 200


async def test_the_key_is_looked_at_before_the_body_is_read(app: ASGIApp) -> None:
    sent = await call(app, "POST", "/things", headers={"Authorization": "Bearer unknown"})
    assert sent[0]["status"] == 401


async def test_scopes(app: ASGIApp, client: httpx.AsyncClient) -> None:
    response = await client.delete(f"/things/{THING_ID}")
    document = problem(response, 403, "insufficient_scope")
    assert document["missing_scopes"] == ["admin"]
    assert response.headers["www-authenticate"] == 'Bearer error="insufficient_scope", scope="admin"'


def test_routes_say_their_terms() -> None:
    terms = {route.name: terms_of(route.endpoint) for route in native_router().routes}  # type: ignore[attr-defined]
    assert terms["create_things"] == Terms(("tags:write",), bulk=True)
    assert terms["get_named"] == Terms(())
    assert terms["get_ping"] == Terms(None)


def test_no_route_is_open_by_mistake() -> None:
    router = new_router("things")
    with pytest.raises(TypeError, match="neither with @requires nor with @public"):

        @router.get("/open")
        async def get_open() -> None: ...

    plain = APIRouter()

    @plain.get("/plain")
    async def get_plain() -> None: ...

    with pytest.raises(TypeError, match="without a key"):
        build(FrontEnd("x", "X", "", (plain,), read_token, render_error), version="1", body_limits=LIMITS)


def test_mistakes_in_routes_are_seen_at_once() -> None:
    with pytest.raises(ValueError, match="tags:wirte"):
        requires("tags:wirte")
    router = new_router("things")
    with pytest.raises(TypeError, match="GET"):

        @router.get("/body")
        @public
        async def get_with_body(thing: Thing) -> None: ...


# The body, before it is a value.


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        pytest.param(b'{"name": "a",\n "x"}', "at line 2, column 5", id="malformed"),
        pytest.param(b"{} {}", "Extra data at line 1, column 4", id="two values"),
        pytest.param(b"{'name': 1}", "line 1", id="single quotes"),
        pytest.param(b" ", "line 1", id="blank"),
        pytest.param(b'{"name": NaN}', "NaN", id="nan"),
        pytest.param(b'{"name": -Infinity}', "-Infinity", id="infinity"),
        pytest.param(b'{"name": 1e999}', "too large", id="overflow"),
        pytest.param(b'{"name": %s}' % (b"1" * 1_000 + b"e999"), "too large", id="long overflow"),
        pytest.param(b'{"name": "\xff"}', "byte 11", id="bad utf-8"),
        pytest.param(b'{"name": "\xed\xa0\x80"}', "UTF-8", id="surrogate in utf-8"),
        pytest.param(b"\xef\xbb\xbf{}", "byte order mark", id="bom"),
        pytest.param('{"name": "a"}'.encode("utf-16"), "UTF-8", id="utf-16"),
        pytest.param('{"name": "a"}'.encode("utf-16-le"), "line 1, column 2", id="utf-16 without bom"),
        pytest.param('{"name": "a"}'.encode("utf-32-be"), "line 1, column 1", id="utf-32"),
        pytest.param(b"[" * 65 + b"]" * 65, "deeper than 64", id="deep list"),
        pytest.param(b'{"a":' * 65 + b"1" + b"}" * 65, "deeper than 64", id="deep object"),
        pytest.param(b'{"a":[' * 33 + b"1" + b"]}" * 33, "deeper than 64", id="deep both"),
        pytest.param(b"[" * 1_900, "deeper than 64", id="deep and unclosed"),
    ],
)
async def test_unreadable_bodies(client: httpx.AsyncClient, body: bytes, detail: str) -> None:
    response = await client.post("/things", content=body, headers=JSON)
    assert detail in problem(response, 400, "unreadable_body")["detail"]


async def test_huge_integers(client: httpx.AsyncClient) -> None:
    body = b'{"name": "a", "inner": [{"value": %s}]}' % (b"1" * 5_000)
    response = await client.post("/things/batch", content=body, headers=JSON)
    assert "too many digits" in problem(response, 400, "unreadable_body")["detail"]
    # One that can be read is still no value that the field takes.
    response = await client.post("/things/batch", content=body.replace(b"1" * 1_000, b""), headers=JSON)
    assert response.status_code in {400, 422}


async def test_deep_nesting_is_refused(client: httpx.AsyncClient) -> None:
    response = await client.post("/things/batch", content=b"[" * 2_000_000 + b"]" * 1_999_000, headers=JSON)
    problem(response, 400, "unreadable_body")


async def test_brackets_in_text_are_no_nesting(client: httpx.AsyncClient) -> None:
    name = '[{"\\' * 25
    response = await client.post("/things", json={"name": name})
    assert response.json()["name"] == name


@pytest.mark.parametrize(
    "media_type",
    [
        None,
        "text/plain",
        "text/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/jsonp",
        "application/json; charset=latin-1",
        "application/json; charset=utf-16",
        "application/json; a=b; charset=iso-8859-1",
        "application/json, text/plain",
        "json",
        "application/json\xe9",
        "",
    ],
)
async def test_other_media_types(client: httpx.AsyncClient, media_type: str | None) -> None:
    headers = [] if media_type is None else [(b"Content-Type", media_type.encode("latin-1"))]
    response = await client.post("/things", content=b'{"name": "a"}', headers=headers)
    problem(response, 415, "unsupported_media_type")


@pytest.mark.parametrize(
    "media_type",
    [
        "application/json",
        "Application/JSON",
        "application/json;charset=utf-8",
        'application/json; charset="UTF-8"',
        "application/json; a=b; charset=utf8",
        "application/json; a=b",
        "application/json;",
        "application/merge-patch+json",
        "application/vnd.polytag.v1+json; charset=utf-8",
    ],
)
async def test_media_types_of_json(client: httpx.AsyncClient, media_type: str) -> None:
    response = await client.post("/things", content=b'{"name": "a"}', headers={"Content-Type": media_type})
    assert response.status_code == 201


async def test_encoded_bodies(client: httpx.AsyncClient) -> None:
    headers = {**JSON, "Content-Encoding": "gzip"}
    problem(await client.post("/things", content=b"x", headers=headers), 415, "unsupported_media_type")
    twice = [*JSON.items(), ("Content-Encoding", "identity"), ("Content-Encoding", "gzip")]
    problem(await client.post("/things", content=b"x", headers=twice), 415, "unsupported_media_type")
    headers = {**JSON, "Content-Encoding": "identity"}
    assert (await client.post("/things", content=b'{"name": "a"}', headers=headers)).status_code == 201


async def test_no_body_where_one_is_needed(client: httpx.AsyncClient) -> None:
    document = problem(await client.post("/things"), 422, "missing")
    assert document["errors"] == [{"pointer": "#", "code": "missing", "detail": "The body is missing."}]
    problem(await client.post("/things", content=b"null", headers=JSON), 422, "invalid_type")


async def test_a_body_where_none_is_taken(client: httpx.AsyncClient) -> None:
    response = await client.request("GET", "/things", content=b"\xff" * 5_000)
    assert response.status_code == 200


async def test_a_body_declared_too_large_is_not_read(app: ASGIApp) -> None:
    for length in ("2001", "9" * 5_000):
        sent = await call(app, "POST", "/things", headers={**JSON, "Content-Length": length})
        assert (sent[0]["status"], body_of(sent)["code"]) == (413, "body_too_large")


async def test_a_body_sent_in_chunks_is_counted(client: httpx.AsyncClient) -> None:
    chunks = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal chunks
        for _ in range(100):
            chunks += 1
            yield b" " * 100

    response = await client.post("/things", content=body(), headers=JSON)
    assert "2,000 bytes" in problem(response, 413, "body_too_large")["detail"]


async def test_bulk_routes_take_more(client: httpx.AsyncClient) -> None:
    ids = [str(uuid4()) for _ in range(10_000)]
    response = await client.post("/things/batch", json={"name": "a", "contact_ids": ids})
    assert response.json() == {"ids": 10_000}
    response = await client.post("/things/batch", content=b" " * (LIMITS.bulk + 1), headers=JSON)
    problem(response, 413, "body_too_large")


async def test_a_client_that_goes_away(app: ASGIApp) -> None:
    async def receive() -> Message:
        return {"type": "http.disconnect"}

    with structlog.testing.capture_logs() as lines:
        assert await call(app, "POST", "/things", headers=JSON, receive=receive) == []
    assert [(line["event"], line["status"]) for line in lines] == [("request", 499)]


# Values that cannot be taken.


@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        ({}, "#/name", "missing"),
        ([], "#", "invalid_type"),
        ("name", "#", "invalid_type"),
        (1, "#", "invalid_type"),
        ({"name": 1}, "#/name", "invalid_type"),
        ({"name": None}, "#/name", "invalid_type"),
        ({"name": " "}, "#/name", "too_short"),
        ({"name": "a" * 121}, "#/name", "too_long"),
        ({"name": "a\0"}, "#/name", "invalid_characters"),
        ({"name": "\ud800"}, "#/name", "invalid_characters"),
        ({"name": "a", "nmae": "b"}, "#/nmae", "unknown_field"),
        ({"name": "a", "a/b~c é": "b"}, "#/a~1b~0c%20%C3%A9", "unknown_field"),
        ({"name": "a", "contact_ids": ["x"]}, "#/contact_ids/0", "invalid_id"),
        ({"name": "a", "contact_ids": [THING_ID, 1]}, "#/contact_ids/1", "invalid_type"),
        ({"name": "a", "contact_ids": [THING_ID, "\ud800"]}, "#/contact_ids/1", "invalid_characters"),
        ({"name": "a", "contact_ids": {}}, "#/contact_ids", "invalid_type"),
        ({"name": "a", "inner": [{"value": 1}, {"value": "x"}]}, "#/inner/1/value", "invalid_type"),
        ({"name": "a", "inner": [{"value": 1.5}]}, "#/inner/0/value", "invalid_type"),
        ({"name": "a", "inner": [{"value": 1, "x": 1}]}, "#/inner/0/x", "unknown_field"),
        ({"name": "a", "kind": "c"}, "#/kind", "invalid_value"),
        ({"name": "a", "attributes": {"a": "\0"}}, "#/attributes", "invalid_characters"),
        ({"name": "a", "attributes": {"\ud800": 1}}, "#/attributes", "invalid_characters"),
        ({"name": "a", "attributes": []}, "#/attributes", "invalid_type"),
    ],
)
async def test_invalid_values(client: httpx.AsyncClient, body: object, pointer: str, code: str) -> None:
    response = await client.post("/things", content=json.dumps(body), headers=JSON)
    document = problem(response, 422, code)
    assert [(error["pointer"], error["code"]) for error in document["errors"]] == [(pointer, code)]
    assert document["detail"] == document["errors"][0]["detail"]


@pytest.mark.parametrize(
    ("fields", "code", "detail"),
    [
        ({"words": []}, "too_short", "This must have at least 1 item."),
        ({"words": ["a", "b", "c"]}, "too_long", "This must have at most 2 items."),
        ({"pair": ["a"]}, "too_short", "This must have at least 2 items."),
        ({"contact_ids": [THING_ID] * 10_001}, "too_long", "This must have at most 10,000 items."),
        ({"words": [""]}, "too_short", "This must have at least 1 character."),
        # What a rule of ours says stays as it is.
        ({"name": ""}, "too_short", "This must not be blank."),
        ({"name": "a" * 10_000}, "too_long", "This must have at most 120 characters."),
    ],
)
async def test_how_long_a_value_may_be(
    client: httpx.AsyncClient, fields: dict[str, object], code: str, detail: str
) -> None:
    response = await client.post("/things/batch", json={"name": "a", **fields})
    assert problem(response, 422, code)["detail"] == detail


async def test_an_unknown_field_with_half_a_character(client: httpx.AsyncClient) -> None:
    response = await client.post("/things", content=b'{"name": "a", "\\ud800": 1}', headers=JSON)
    problem(response, 422, "invalid_characters")


async def test_several_errors(client: httpx.AsyncClient) -> None:
    document = problem(await client.post("/things", json={"kind": "c", "x": 1}), 422, "invalid_input")
    assert {error["pointer"] for error in document["errors"]} == {"#/name", "#/kind", "#/x"}


async def test_no_more_than_100_errors_are_listed(client: httpx.AsyncClient) -> None:
    response = await client.post("/things/batch", json={"name": "a", "contact_ids": ["x"] * 10_000})
    document = problem(response, 422, "invalid_id")
    assert [error["pointer"] for error in document["errors"]] == [
        f"#/contact_ids/{index}" for index in range(LISTED_ERRORS_MAX)
    ]


async def test_300_000_unknown_fields_are_one_error(client: httpx.AsyncClient) -> None:
    body = "{" + ",".join(f'"{index}":0' for index in range(300_000)) + "}"
    response = await client.post("/things/batch", content=body, headers=JSON)
    document = problem(response, 422, "too_many_fields")
    assert [error["pointer"] for error in document["errors"]] == ["#"]


async def test_over_long_lists_are_one_error(client: httpx.AsyncClient) -> None:
    response = await client.post("/things/batch", json={"name": "a", "contact_ids": [1] * 1_000_000})
    document = problem(response, 422, "too_long")
    assert [error["pointer"] for error in document["errors"]] == ["#/contact_ids"]


@pytest.mark.parametrize(
    ("query", "pointer", "code"),
    [
        ("search=%00", "?search", "invalid_characters"),
        ("search=a%FF", "?", "invalid_characters"),
        ("search=%ED%A0%80", "?", "invalid_characters"),
        ("limit=x", "?limit", "invalid_type"),
        ("serach=x", "?serach", "unknown_parameter"),
    ],
)
async def test_invalid_queries(client: httpx.AsyncClient, query: str, pointer: str, code: str) -> None:
    document = problem(await client.get(f"/things?{query}"), 422, code)
    assert [(error["pointer"], error["code"]) for error in document["errors"]] == [(pointer, code)]


async def test_queries(client: httpx.AsyncClient) -> None:
    assert (await client.get("/things?search=100%25+%C3%A9%20")).json()["search"] == "100% é "
    assert (await client.get("/things?search=50%")).json()["search"] == "50%"


async def test_unknown_parameters_are_left_alone_where_the_vendor_does() -> None:
    async with client_of(started(make_app(strict=False))) as client:
        assert (await client.get("/things?cache=off")).status_code == 200


# Ids, paths and methods.


@pytest.mark.parametrize("thing_id", ["x", "%00", "%FF", "1" * 300, "0000", f"{THING_ID}x", "%ED%A0%80"])
async def test_an_id_that_cannot_exist(client: httpx.AsyncClient, thing_id: str) -> None:
    document = problem(await client.get(f"/things/{thing_id}"), 404, "not_found")
    assert document["detail"].startswith("There is no thing ")
    assert len(document["detail"]) < 300
    # Also where the body is wrong as well.
    problem(await client.patch(f"/things/{thing_id}", json={}), 404, "not_found")


async def test_a_slug_that_cannot_exist(client: httpx.AsyncClient) -> None:
    assert problem(await client.get("/named/%00"), 404, "not_found")["detail"] == "There is no thing \0."


async def test_ids_in_any_case(client: httpx.AsyncClient) -> None:
    assert (await client.get(f"/things/{THING_ID.upper()}")).json() == {"id": THING_ID}


async def test_unknown_paths(client: httpx.AsyncClient) -> None:
    for path in ("/nothing", "/things/", "//things", f"/things/{THING_ID}/x", "/%00", "/%FF"):
        problem(await client.get(path), 404, "route_not_found")
    document = problem(await client.get(f"/{KEY}"), 404, "route_not_found")
    assert document["detail"] == "There is nothing at /ptag_…."


# What stands there without the newline, and what to send it.
ENDS = [
    ("GET", "/things"),
    ("POST", "/things"),
    ("PUT", "/things"),
    ("GET", "/ping"),
    ("GET", f"/things/{THING_ID}"),
    ("GET", "/vendor/v1/fault"),
    ("GET", f"/vendor/v1/things/{THING_ID}"),
    ("PUT", f"/vendor/v1/things/{THING_ID}"),
    ("GET", "/vendor/"),
]


@pytest.mark.parametrize(("method", "path"), ENDS)
async def test_a_path_that_ends_in_a_newline(method: str, path: str) -> None:
    """It is another path, at which there is nothing, natively and in a mount."""
    async with client_of(started(make_app(vendor=replace(dialect(), render_error=render_error)))) as client:
        for end in ("%0A", "%0D", "%0D%0A", "%0A%0A"):
            response = await client.request(method, path + end, headers={"X-API-Key": KEY})
            assert response.status_code == 404, end
            assert response.json()["code"] in {"route_not_found", "not_found"}
            assert "allow" not in response.headers


async def test_a_path_that_ends_in_a_newline_is_the_mounts_own_affair(client: httpx.AsyncClient) -> None:
    for path in ("/vendor/v1/fault", f"/vendor/v1/things/{THING_ID}", "/vendor/nothing", "/vendor/"):
        assert (await client.get(f"{path}%0A")).json() == {"vendor_error": "RouteNotFound"}


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/things", "GET, HEAD, POST"),
        ("POST", f"/things/{THING_ID}", "DELETE, GET, HEAD, PATCH"),
        ("TRACE", "/things/x", "DELETE, GET, HEAD, PATCH"),
        ("BREW", "/ping", "GET, HEAD"),
        # The path of a batch is that of an id, too.
        ("PUT", "/things/batch", "DELETE, GET, HEAD, PATCH, POST"),
        ("HEAD", "/vendor/nothing", None),
        ("PATCH", "/docs", "GET, HEAD"),
    ],
)
async def test_methods_that_are_not_allowed(
    client: httpx.AsyncClient, method: str, path: str, allowed: str | None
) -> None:
    response = await client.request(method, path)
    if allowed is not None:
        problem(response, 405, "method_not_allowed")
    assert response.headers.get("allow") == allowed


async def test_head_is_get_without_the_body(app: ASGIApp, client: httpx.AsyncClient) -> None:
    get, head = await client.get("/things"), await client.head("/things")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == get.headers["content-length"] == str(len(get.content))
    assert (await client.head("/things/x")).status_code == 404
    assert (await client.head("/things/batch")).status_code == 404
    response = await client.head("/duplicate")
    assert (response.status_code, response.content) == (409, b"")
    # httpx would have left the body out by itself.
    assert [message.get("body") for message in await call(app, "HEAD", "/things")] == [None, b""]


# Faults.


async def test_a_fault_shows_nothing_of_the_inside(client: httpx.AsyncClient) -> None:
    with structlog.testing.capture_logs() as lines:
        response = await client.get("/fault")
    document = problem(response, 500, "internal_error")
    assert set(document) == {"type", "title", "status", "detail", "code", "request_id"}
    assert "broken" not in response.text
    [fault, access] = lines
    assert (fault["event"], fault["route"], fault["exc_info"]) == ("unhandled error", "/fault", True)
    assert (access["route"], access["status"], access["log_level"]) == ("/fault", 500, "warning")


async def test_a_fault_after_the_answer_began_reaches_the_server(app: ASGIApp) -> None:
    with pytest.raises(RuntimeError, match="after the start"):
        await call(app, "GET", "/half")


async def test_what_takes_too_long_is_stopped(client: httpx.AsyncClient) -> None:
    response = await client.get("/slow")
    assert "0.2 seconds" in problem(response, 503, "unavailable")["detail"]
    assert int(response.headers["retry-after"]) >= 1


async def test_half_a_character_does_not_leave(client: httpx.AsyncClient) -> None:
    problem(await client.get("/duplicate"), 409, "name_taken")


# Request ids and the log.


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("abc-DEF_1", True),
        ("a" * 64, True),
        ("a" * 65, False),
        ("", False),
        ("a b", False),
        ("é", False),
        # It would stand in events.
        (KEY, False),
    ],
)
async def test_request_ids(client: httpx.AsyncClient, sent: str, kept: bool) -> None:
    response = await client.get("/ping", headers=[(b"X-Request-Id", sent.encode("latin-1"))])
    request_id = response.headers["x-request-id"]
    assert response.json() == {"request_id": request_id, "method": "GET"}
    assert (request_id == sent) is kept
    assert response.headers.get_list("x-request-id") == [request_id]


async def test_each_request_has_an_id_of_its_own(client: httpx.AsyncClient) -> None:
    responses = await asyncio.gather(*(client.get("/ping") for _ in range(20)))
    assert len({response.json()["request_id"] for response in responses}) == 20


@pytest.mark.parametrize(
    ("path", "route", "status", "level"),
    [
        ("/things?search=someone@example.com", "/things", 200, "info"),
        (f"/things/{THING_ID}", "/things/{thing_id}", 200, "info"),
        ("/someone@example.com", None, 404, "info"),
        ("/ping", "/ping", 200, "debug"),
        ("/openapi.json", None, 200, "debug"),
        (f"/vendor/v1/things/{THING_ID}", "/vendor/v1/things/{thing_id}", 400, "info"),
    ],
)
async def test_the_access_line(
    client: httpx.AsyncClient, path: str, route: str | None, status: int, level: str
) -> None:
    with structlog.testing.capture_logs([structlog.contextvars.merge_contextvars]) as lines:
        response = await client.get(path)
    [line] = lines
    duration = line.pop("duration_ms")
    assert isinstance(duration, float)
    known = status == 200 and level == "info"
    assert line == {
        "event": "request",
        "log_level": level,
        "method": "GET",
        "route": route,
        "status": status,
        # What was the case, and no more: its details may name a person.
        "error": {200: None, 404: "RouteNotFound", 400: "Unauthenticated"}[status],
        "front_end": "vendor" if "vendor" in path else "native",
        "workspace": "acme" if known else None,
        "client": "web" if known else None,
        "client_ip": "127.0.0.1",
        "request_id": response.headers["x-request-id"],
    }
    assert "request_id" not in structlog.contextvars.get_contextvars()


# Mounted front ends.


@pytest.mark.parametrize(
    ("method", "path", "key", "error"),
    [
        ("GET", f"/v1/things/{THING_ID}", None, "Unauthenticated"),
        ("GET", f"/v1/things/{THING_ID}", "unknown", "Unauthenticated"),
        ("GET", "/v1/things/x", KEY, "NotFound"),
        ("PUT", f"/v1/things/{THING_ID}", KEY, "UnsupportedMediaType"),
        ("PATCH", f"/v1/things/{THING_ID}", KEY, "MethodNotAllowed"),
        ("GET", "/v1/nothing", KEY, "RouteNotFound"),
        ("GET", "/v1/fault", KEY, "InternalError"),
        ("GET", "/v1/slow", KEY, "Unavailable"),
    ],
)
async def test_a_dialect_says_errors_its_own_way(
    client: httpx.AsyncClient, method: str, path: str, key: str | None, error: str
) -> None:
    headers = {} if key is None else {"X-API-Key": key}
    response = await client.request(
        method, f"/vendor{path}", headers=headers, content=b"x" if method == "PUT" else None
    )
    assert (response.status_code, response.json()) == (400, {"vendor_error": error})
    assert response.headers["x-request-id"]


async def test_a_dialect_is_told_apart(client: httpx.AsyncClient) -> None:
    response = await client.get(f"/vendor/v1/things/{THING_ID}?unknown=1", headers={"X-API-Key": KEY})
    assert response.json() == {"front_end": "vendor"}
    assert (await client.get("/vendor/openapi.json")).json()["paths"].keys() == {
        "/v1/things/{thing_id}",
        "/v1/fault",
        "/v1/slow",
    }


async def test_a_document_names_the_mount_without_a_request(client: httpx.AsyncClient) -> None:
    vendor = dialect()
    document = build(vendor, version="1", body_limits=LIMITS).openapi()
    assert document["servers"] == [{"url": "/vendor"}]
    assert (await client.get("/vendor/openapi.json")).json() == document
    assert (await client.get("/openapi.json")).json()["servers"] == [{"url": "/"}]


async def test_every_method_in_allow_within_a_mount() -> None:
    native = FrontEnd("native", "Test", "", (native_router(),), read_token, render_error)
    inner = FrontEnd("inner", "Inner", "/inner", (native_router(),), read_token, render_error)
    app = build(native, version="1", body_limits=LIMITS, middleware=(Middleware(Edge, timeout=1),))
    app.mount("/inner", build(inner, version="1", body_limits=LIMITS))
    async with client_of(started(app)) as client:
        response = await client.put("/inner/things/batch")
    problem(response, 405, "method_not_allowed")
    assert response.headers["allow"] == "DELETE, GET, HEAD, PATCH, POST"


async def test_operations_are_named_after_handlers(client: httpx.AsyncClient) -> None:
    paths = (await client.get("/openapi.json")).json()["paths"]
    assert paths["/things"]["post"]["operationId"] == "create_thing"
    assert (await client.get("/docs")).status_code == 200


# What a front end says of itself: how it reads a body, and whether its callers see one audience alone.


@dataclass
class Reader:
    """A way to read bodies that notes what it was given. What it makes of them has nothing to do with JSON."""

    seen: list[tuple[str | None, bytes]] = field(default_factory=list)

    def __call__(self, media_type: str | None, body: bytes) -> object:
        self.seen.append((media_type, body))
        if body == b"odd":
            raise Unreadable("The body is odd.")
        return dict(pair.split("=") for pair in body.decode().split("&"))


def reading_by(reader: Reader) -> ASGIApp:
    """Both front ends of the routes above, of which the mounted one reads bodies by this."""
    vendor = FrontEnd("vendor", "Vendor", "/vendor", (native_router(),), read_token, render_error, parse_body=reader)
    return started(make_app(vendor=vendor))


@pytest.mark.parametrize(
    "media_type",
    [
        None,
        "",
        "application/json",
        "application/json; charset=latin-1",
        "application/vnd.polytag+json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/plain",
        "application/json\xe9",
        "nonsense",
    ],
)
async def test_a_front_end_reads_bodies_its_own_way(media_type: str | None) -> None:
    """Whatever they are declared as; and what it makes of them is validated like any other value."""
    reader = Reader()
    headers = [] if media_type is None else [(b"Content-Type", media_type.encode("latin-1"))]
    async with client_of(reading_by(reader)) as client:
        response = await client.post("/vendor/things", content=b"name= Vip &kind=b", headers=headers)
        assert (response.status_code, response.json()) == (201, {"name": "Vip", "workspace": "acme"})
        response = await client.post("/vendor/things", content=b"nmae=Vip", headers=headers)
        assert {error["pointer"] for error in problem(response, 422, "invalid_input")["errors"]} == {"#/name", "#/nmae"}
        response = await client.post("/vendor/things", content=b"odd", headers=headers)
        assert problem(response, 400, "unreadable_body")["detail"] == "The body is odd."
        assert reader.seen == [(media_type, body) for body in (b"name= Vip &kind=b", b"nmae=Vip", b"odd")]
        # The others read theirs as before.
        assert (await client.post("/things", json={"name": "a"})).status_code == 201
        assert (await client.post("/things", content=b"name=a", headers=headers)).status_code in {400, 415}
    assert len(reader.seen) == 3


async def test_a_body_is_not_read_before_its_turn() -> None:
    """Not without a key, a scope or room for it; and there is nothing to read where nothing was sent."""
    reader = Reader()
    async with client_of(reading_by(reader)) as client:
        response = await client.post("/vendor/things", content=b"x", headers={"Authorization": "Bearer x"})
        problem(response, 401, "unauthenticated")
        problem(await client.post("/vendor/things", content=b"x" * (LIMITS.default + 1)), 413, "body_too_large")
        problem(await client.post("/vendor/things"), 422, "missing")
        response = await client.post("/vendor/things", content=b"x", headers={"Content-Encoding": "gzip"})
        problem(response, 415, "unsupported_media_type")
        response = await client.request("DELETE", f"/vendor/things/{THING_ID}", content=b"x")
        problem(response, 403, "insufficient_scope")
        assert (await client.request("GET", "/vendor/things", content=b"x")).status_code == 200
    assert reader.seen == []


def audience_router() -> APIRouter:
    router = new_router("audiences")

    @router.get("/limit")
    @requires("tags:read")
    async def get_limit(
        tags: Annotated[TagRepository, Depends(repository(TagRepository))],
        subscribers: Annotated[SubscriberRepository, Depends(repository(SubscriberRepository))],
    ) -> dict[str, str | None]:
        assert tags._caller["only_audience"] == tags._only_audience
        return {"tags": tags._only_audience, "subscribers": subscribers._only_audience}

    @router.put("/limit")
    @requires("tags:write")
    async def put_limit(thing: Thing) -> None: ...

    @router.delete("/limit")
    @requires("admin")
    async def delete_limit() -> None: ...

    @router.get("/open")
    @public
    async def get_open() -> dict[str, bool]:
        return {"open": True}

    return router


def limited_app(audience: str | None) -> ASGIApp:
    """The same routes natively, in a front end whose callers see one audience, and in one where they see all."""

    def front_end(slug: str, mount: str, *, one_audience: bool) -> FrontEnd:
        routers = (audience_router(),)
        return FrontEnd(slug, slug, mount, routers, read_token, render_error, one_audience=one_audience)

    native = front_end("native", "", one_audience=False)
    app = build(native, version="1", body_limits=LIMITS, middleware=(Middleware(Edge, timeout=TIMEOUT),))
    for vendor in (front_end("one", "/one", one_audience=True), front_end("every", "/every", one_audience=False)):
        app.mount(vendor.mount, build(vendor, version="1", body_limits=LIMITS))
    return started(app, replace(PRINCIPAL, audience=audience))


async def test_repositories_are_born_with_the_audience_of_the_key() -> None:
    """Where the front end says so, and nowhere else."""
    async with client_of(limited_app("newsletter")) as client:
        assert (await client.get("/one/limit")).json() == {"tags": "newsletter", "subscribers": "newsletter"}
        for mount in ("", "/every"):
            assert (await client.get(f"{mount}/limit")).json() == {"tags": None, "subscribers": None}


async def test_a_key_without_an_audience_where_one_is_all_there_is() -> None:
    async with client_of(limited_app(None)) as client:
        document = problem(await client.get("/one/limit"), 422, "audience_required")
        [error] = document["errors"]
        assert (error["pointer"], error["code"]) == ("header:Authorization", "audience_required")
        # Whatever else is wrong with the call, and before its body is looked at.
        problem(await client.get("/one/limit?x=%FF"), 422, "audience_required")
        problem(await client.put("/one/limit", content=b"x" * 5_000), 422, "audience_required")
        # A key that may not do it at all is told that first, and who has none that he needs one.
        problem(await client.delete("/one/limit"), 403, "insufficient_scope")
        response = await client.get("/one/limit", headers={"Authorization": "Bearer x"})
        problem(response, 401, "unauthenticated")
        assert (await client.get("/one/open")).json() == {"open": True}
        for mount in ("", "/every"):
            assert (await client.get(f"{mount}/limit")).json() == {"tags": None, "subscribers": None}
