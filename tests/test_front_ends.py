"""What holds of every front end: each error has a rendering in it, its routes keep their promises, and it can be left
out.
"""

import io
import json
import os
import sys
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from typing import Any, get_args
from uuid import UUID

import httpx
import pytest
from pydantic import SecretStr
from starlette.responses import Response
from starlette.routing import Mount
from starlette.types import ASGIApp

from app import cli, errors, logs, main
from app.config import Settings
from app.database import Database
from app.errors import (
    FIELD_CODES,
    AppError,
    Conflict,
    ConflictCode,
    Duplicate,
    FieldError,
    Forbidden,
    IdempotencyKeyReused,
    InternalError,
    InvalidCursor,
    InvalidInput,
    MethodNotAllowed,
    NotFound,
    PreconditionFailed,
    RateLimited,
    RouteNotFound,
    SlowBody,
    StillRunning,
    TooLarge,
    Unauthenticated,
    UnauthenticatedReason,
    Unavailable,
    UniqueField,
    Unreadable,
    UnsupportedMediaType,
)
from app.frontend import _NO_AUDIENCE, FrontEnd, Route, terms_of
from app.main import DIALECTS, FRONT_ENDS, chosen_dialects, create_app, openapi_document
from app.openapi import routes_of
from app.rate_limits import RateLimits
from app.routers import NATIVE
from app.values import SCOPES, new_key
from tests.conftest import Api, Workspace, client_of, make_workspace, started
from tests.documents import with_key
from tests.routers.calls import all_routes, forget_default_audience, problem

front_ends = pytest.mark.parametrize("front_end", FRONT_ENDS.values(), ids=list(FRONT_ENDS))
dialects = pytest.mark.parametrize("dialect", DIALECTS, ids=[dialect.slug for dialect in DIALECTS])

# What dialects serve without a key.
OPEN = {"/api/v1/ping"}

KEY = new_key()
TAG_ID = UUID("0190a0a0-0000-7000-8000-00000000beef")
# What a caller may have sent and an error says back: a key, half a character, and what JSON and headers mind.
NASTY = f'"{KEY}" \ud800\udfff é ☃ \x7f\r\n\\'


def error_types() -> set[type[AppError]]:
    return {value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, AppError)}


def invalid(*location: str | int, code: str = "invalid_value") -> InvalidInput:
    return InvalidInput([FieldError(location, code, f"{NASTY} is wrong.")])


SAMPLES: list[AppError] = [
    *(Unauthenticated(reason) for reason in get_args(UnauthenticatedReason)),
    *(Forbidden([scope]) for scope in SCOPES),
    Forbidden(SCOPES),
    *(NotFound(resource, TAG_ID) for resource in ("tag", "contact", "audience", "key", "route")),
    NotFound("tag", NASTY, where=f"on the contact {TAG_ID}"),
    NotFound("contact", 7),
    RouteNotFound("/"),
    RouteNotFound(NASTY),
    MethodNotAllowed("PUT", ["GET", "HEAD"]),
    MethodNotAllowed("BREW", ["DELETE", "GET", "HEAD", "PATCH", "POST", "PUT"]),
    MethodNotAllowed("GET", ["POST"]),
    Unreadable(NASTY),
    UnsupportedMediaType(None),
    UnsupportedMediaType(NASTY),
    TooLarge(1_048_576),
    SlowBody(30),
    *(invalid("body", "name", code=code) for code in FIELD_CODES),
    *(invalid(source) for source in ("body", "query", "header", "path")),
    *(invalid(source, "name") for source in ("body", "query", "header", "path")),
    invalid("body", "contacts", 3, "tags", 0),
    invalid("body", 0),
    invalid("body", ""),
    invalid("body", NASTY, KEY, "\ud800"),
    invalid("query", NASTY),
    InvalidInput([_NO_AUDIENCE]),
    InvalidInput([FieldError(("body", f"field {n} {NASTY}"), "unknown_field", NASTY) for n in range(1_000)]),
    InvalidInput([FieldError(("query", "limit"), "out_of_range", "A."), FieldError(("body", "name"), "missing", "B.")]),
    InvalidCursor(),
    InvalidCursor(NASTY),
    *(
        Duplicate(resource, field, value, existing_id)
        for resource in ("tag", "contact", "audience")
        for field in get_args(UniqueField)
        for value, existing_id in (("VIP", TAG_ID), (NASTY, None), (7, TAG_ID))
    ),
    *(Conflict(code, NASTY, contact_count=3, name=NASTY) for code in get_args(ConflictCode)),
    PreconditionFailed("tag"),
    PreconditionFailed(NASTY),
    IdempotencyKeyReused(),
    StillRunning(),
    StillRunning(retry_after=7),
    RateLimited("Too many."),
    RateLimited(NASTY, retry_after=7),
    Unavailable("Busy."),
    Unavailable(NASTY, retry_after=7),
    InternalError(),
]


def test_every_error_has_samples() -> None:
    assert {type(error) for error in SAMPLES} == error_types() - {AppError}
    # Each is a leaf: what a front end does with a class, it does with all there is of it.
    assert all(not kind.__subclasses__() for kind in {type(error) for error in SAMPLES})


def rendered(front_end: FrontEnd, error: AppError, request_id: str = "r1") -> tuple[Response, Any]:
    """An error as a front end says it, and the JSON of that."""
    response = front_end.render_error(error, request_id)
    return response, json.loads(bytes(response.body).decode("utf-8"))


@front_ends
@pytest.mark.parametrize("kind", {type(error): None for error in SAMPLES}, ids=lambda kind: kind.__name__)
def test_every_front_end_says_every_error(front_end: FrontEnd, kind: type[AppError]) -> None:
    for error in [error for error in SAMPLES if type(error) is kind]:
        response, body = rendered(front_end, error)
        natively, _ = rendered(NATIVE, error)
        assert 400 <= response.status_code < 600
        # Whose fault it is, is no matter of taste.
        assert response.status_code // 100 == natively.status_code // 100
        assert isinstance(body, dict)
        assert body
        assert (response.media_type or "").partition(";")[0] in {"application/json", "application/problem+json"}
        assert response.headers["content-length"] == str(len(bytes(response.body)))
        # Without half a character, also where JSON would write it out in digits.
        text = json.dumps(body, ensure_ascii=False)
        text.encode("utf-8")
        assert KEY not in text + str(response.headers)
        assert KEY[5:] not in text
        assert all(value.isascii() and value.isprintable() for value in response.headers.values())


@front_ends
@pytest.mark.parametrize("error", SAMPLES, ids=lambda error: type(error).__name__)
def test_headers_that_http_has_for_an_error(front_end: FrontEnd, error: AppError) -> None:
    response, _ = rendered(front_end, error)
    if response.status_code == 401:
        assert response.headers["www-authenticate"].split()[0].isalpha()
    if isinstance(error, MethodNotAllowed):
        # In the vendor's order.
        assert sorted(response.headers["allow"].split(", ")) == sorted(error.allowed)
        assert response.status_code == 405
    if isinstance(error, Unavailable | StillRunning | RateLimited):
        assert response.headers["retry-after"] == str(error.retry_after)
    for kind, status in _SAME_EVERYWHERE.items():
        assert not isinstance(error, kind) or response.status_code == status
    assert ("www-authenticate" in response.headers) is isinstance(error, Unauthenticated | Forbidden)
    assert ("allow" in response.headers) is isinstance(error, MethodNotAllowed)
    assert ("retry-after" in response.headers) is isinstance(error, Unavailable | StillRunning | RateLimited)


# What a client's library acts on by itself.
_SAME_EVERYWHERE: dict[type[AppError], int] = {
    SlowBody: 408,
    StillRunning: 409,
    PreconditionFailed: 412,
    RateLimited: 429,
    Unavailable: 503,
}


# Routes.


def operations_of(front_end: FrontEnd) -> list[tuple[str, str, str]]:
    """Method, path and handler of every call."""
    return [
        (method, route.path_format, route.name)
        for route in routes_of(front_end)
        for method in sorted(route.methods or ())
    ]


def test_each_front_end_has_a_place_of_its_own() -> None:
    assert list(FRONT_ENDS) == [front_end.slug for front_end in (NATIVE, *DIALECTS)]
    assert {(front_end.mount, front_end.slug) for front_end in DIALECTS} == {
        (f"/{slug}", slug) for slug in FRONT_ENDS
    } - {("/native", "native")}
    assert len({front_end.title for front_end in FRONT_ENDS.values()}) == len(FRONT_ENDS)
    # No native path is hidden behind a mount.
    native_heads = {path.split("/")[1] for _, path in all_routes()}
    assert not native_heads & {dialect.mount.strip("/") for dialect in DIALECTS}


@front_ends
def test_handlers_have_names_of_their_own(front_end: FrontEnd) -> None:
    """They are what SDKs call their methods."""
    handlers = [route.name for route in routes_of(front_end)]
    assert handlers
    assert len(set(handlers)) == len(handlers)
    calls = [(method, path) for method, path, _ in operations_of(front_end)]
    assert len(set(calls)) == len(calls)


@dialects
def test_every_call_of_a_dialect_names_a_native_one(dialect: FrontEnd) -> None:
    named = {
        route.name: terms_of(route.endpoint).native for route in routes_of(dialect) if route.path_format not in OPEN
    }
    there = {f"{method} {path}" for method, path in all_routes()}
    assert {name: native for name, native in named.items() if native not in there} == {}


def test_no_native_call_names_another() -> None:
    assert {terms_of(route.endpoint).native for route in routes_of(NATIVE)} == {None}


@front_ends
def test_the_document_lists_every_call(front_end: FrontEnd) -> None:
    document = openapi_document(front_end)
    listed = [
        (method.upper(), path, operation["operationId"])
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    ]
    assert sorted(listed) == sorted(operations_of(front_end))
    assert document["info"]["title"] == front_end.title
    assert document["servers"] == [{"url": front_end.mount or "/"}]
    for operations in document["paths"].values():
        assert all(operation["summary"] for operation in operations.values())
    json.dumps(document, allow_nan=False).encode()


@pytest.mark.parametrize(
    ("slug", "path", "follows", "takes", "place"),
    [
        ("native", "/tags", "get_tag", "tag_id", "/id"),
        ("native", "/audiences", "get_audience", "slug", "/slug"),
        ("topmail", "/api/v1/contacts", "topmail_update_contact", "contact_id", "/data/id"),
        ("buttondown", "/v1/tags", "buttondown_delete_tag", "id", "/id"),
        ("sendportal", "/api/v1/tags", "sendportal_add_tag_subscribers", "tag", "/data/id"),
    ],
)
def test_the_document_says_what_takes_the_id_of_what_was_made(
    slug: str, path: str, follows: str, takes: str, place: str
) -> None:
    links = openapi_document(main.FRONT_ENDS[slug])["paths"][path]["post"]["responses"]["201"]["links"]
    assert links[follows] == {"operationId": follows, "parameters": {takes: f"$response.body#{place}"}}


@front_ends
def test_no_body_is_null(front_end: FrontEnd) -> None:
    """One that may be left out is not described as null."""
    document = openapi_document(front_end)
    for path in document["paths"].values():
        for operation in path.values():
            for media in operation.get("requestBody", {}).get("content", {}).values():
                assert {"type": "null"} not in media["schema"].get("anyOf", ())


# As they are served.


async def send(
    app: ASGIApp, method: str, front_end: FrontEnd, path: str, headers: dict[str, str] | None = None
) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://polytag.test") as client:
        return await client.request(method, front_end.mount + path, headers=headers)


def a_path(route: Route) -> str:
    """A path that the route serves, with something for each of its parameters that can stand there."""
    path = route.path_format
    for name in route.param_convertors:
        path = path.replace(f"{{{name}}}", "1")
    assert route.path_regex.match(path)
    return path


def assert_says(response: httpx.Response, front_end: FrontEnd, error: AppError) -> None:
    """The answer is what the front end says of this error, and of no other."""
    expected, body = rendered(front_end, error, response.headers["x-request-id"])
    assert (response.status_code, response.json()) == (expected.status_code, body)
    # What the server adds is more.
    assert dict(expected.headers).items() <= dict(response.headers).items()


@front_ends
async def test_what_is_not_there_is_said_in_its_own_form(app: ASGIApp, front_end: FrontEnd) -> None:
    for path in ("/nothing", "/api/v1/nothing", "/nothing/"):
        expected = RouteNotFound(front_end.mount + path, below=path)
        assert_says(await send(app, "GET", front_end, path), front_end, expected)


# That of HTTP which no route has, and what HTTP does not have. CONNECT and what its parser does not know end at the
# server, see tests/test_protocol.py; another server may let them through.
METHODS_NOWHERE = ["OPTIONS", "TRACE", "CONNECT", "PROPFIND", "BREW"]


def methods_by_path(front_end: FrontEnd) -> dict[str, set[str]]:
    """What each path that is served takes, HEAD aside, with those of the documentation."""
    routes = routes_of(front_end)
    paths = {a_path(route) for route in routes}
    taken = {
        path: {method for route in routes if route.path_regex.match(path) for method in route.methods or ()}
        for path in paths
    }
    return taken | {"/openapi.json": {"GET"}, "/docs": {"GET"}}


@front_ends
@pytest.mark.parametrize("method", METHODS_NOWHERE)
async def test_methods_that_are_not_there_are_said_in_its_own_form(
    app: ASGIApp, front_end: FrontEnd, method: str
) -> None:
    for path, methods in methods_by_path(front_end).items():
        allowed = sorted(methods | ({"HEAD"} if "GET" in methods else set()))
        response = await send(app, method, front_end, path, {"X-Secret": "never to be seen again"})
        assert_says(response, front_end, MethodNotAllowed(method, allowed, below=path))
        # TRACE would send back what it was sent.
        assert "never to be seen again" not in f"{response.headers}{response.text}"


@front_ends
async def test_methods_that_another_path_has(app: ASGIApp, front_end: FrontEnd) -> None:
    for path, methods in methods_by_path(front_end).items():
        allowed = sorted(methods | ({"HEAD"} if "GET" in methods else set()))
        for method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"} - set(allowed):
            response = await send(app, method, front_end, path)
            # Each in the order of its own.
            assert (response.status_code, sorted(response.headers["allow"].split(", "))) == (405, allowed)
            if method != "HEAD":
                assert_says(response, front_end, MethodNotAllowed(method, allowed, below=path))


@front_ends
async def test_head_is_get_without_the_body(app: ASGIApp, workspace: Workspace, front_end: FrontEnd) -> None:
    headers = with_key(front_end, workspace.provisioned.key)
    for path in [path for path, methods in methods_by_path(front_end).items() if "GET" in methods]:
        get, head = [await send(app, method, front_end, path, headers) for method in ("GET", "HEAD")]
        assert head.status_code == get.status_code
        assert head.content == b""
        assert head.headers.keys() == get.headers.keys()
        # With the length of what it leaves out. Metrics count these very requests, and so are never as long as before.
        passing = {"x-request-id", *({"content-length"} if path == "/metrics" else ())}
        lasting = {name for name in get.headers if name not in passing and "ratelimit" not in name}
        assert {name: head.headers[name] for name in lasting} == {name: get.headers[name] for name in lasting}


# What tells of the rate limit, where that is 3 requests in 10 seconds and 7 of these are left: after the first request,
# and after one too many.
RATE_HEADERS: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "topmail": (
        {"x-ratelimit-remaining": "2", "x-ratelimit-reset": "2027-01-15T08:00:10Z"},
        {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "2027-01-15T08:00:10Z"},
    ),
    "buttondown": (
        {"x-ratelimit-limit": "3", "x-ratelimit-remaining": "2", "x-ratelimit-reset": "1800000010"},
        {"x-ratelimit-limit": "3", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "1800000010"},
    ),
    "sendportal": (
        {"x-ratelimit-limit": "3", "x-ratelimit-remaining": "2"},
        {"x-ratelimit-limit": "3", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "1800000010"},
    ),
}
STANDARD_RATE_HEADERS = (
    {"ratelimit-policy": '"default";q=3;w=10', "ratelimit": '"default";r=2;t=7'},
    {"ratelimit-policy": '"default";q=3;w=10', "ratelimit": '"default";r=0;t=7'},
)


def rate_headers(response: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in response.headers.items() if "ratelimit" in name}


@front_ends
async def test_every_answer_to_a_key_tells_what_is_left(
    monkeypatch: pytest.MonkeyPatch, database_url: str, database: Database, front_end: FrontEnd
) -> None:
    first, exceeded = RATE_HEADERS.get(front_end.slug, STANDARD_RATE_HEADERS)
    monkeypatch.setattr(main, "RateLimits", partial(RateLimits, clock=lambda: 1_800_000_003.25))
    workspace = await make_workspace(database, scopes=("events:read",))
    headers = with_key(front_end, workspace.provisioned.key)
    [route, *_] = [route for route in routes_of(front_end) if "tags:read" in (terms_of(route.endpoint).scopes or ())]
    [method] = route.methods or set[str]()
    async with started(Settings(database_url=SecretStr(database_url), rate_limit="3/10s")) as app:
        # Refused ones count, and tell it.
        answers = [await send(app, method, front_end, a_path(route), headers) for _ in range(4)]
        assert rate_headers(answers[0]) == first
        assert [answer.status_code for answer in answers] == [403, 403, 403, 429]
        assert rate_headers(answers[3]) == exceeded
        assert answers[3].headers["retry-after"] == "7"
        assert_says(
            answers[3],
            front_end,
            RateLimited(
                "The API key may make no more than 3 requests in 10 seconds. Nothing was done. Try again in 7 seconds.",
                retry_after=7,
            ),
        )
        # Who has no key has no limit that one could tell of.
        assert rate_headers(await send(app, method, front_end, a_path(route))) == {}


@dialects
async def test_a_key_without_an_audience(app: ASGIApp, workspace: Workspace, dialect: FrontEnd) -> None:
    """A front end that knows one audience cannot work without; in the others a call may name it."""
    await forget_default_audience(workspace)
    headers = with_key(dialect, workspace.provisioned.key)
    for route in routes_of(dialect):
        for method in route.methods or ():
            response = await send(app, method, dialect, a_path(route), headers)
            if dialect.one_audience and terms_of(route.endpoint).scopes is not None:
                assert_says(response, dialect, InvalidInput([_NO_AUDIENCE]))
            assert response.status_code < 500


@front_ends
async def test_the_document_is_served_as_it_is_written(app: ASGIApp, front_end: FrontEnd) -> None:
    assert (await send(app, "GET", front_end, "/openapi.json")).json() == openapi_document(front_end)
    assert (await send(app, "GET", front_end, "/docs")).status_code == 200


# Which of them are served.

DATABASE = SecretStr("postgresql://nobody@127.0.0.1:1/nowhere")


def settings_with(dialects: str) -> Settings:
    return Settings(database_url=DATABASE, dialects=dialects)


def mounts_of(dialects: str) -> list[str]:
    return [route.path for route in create_app(settings_with(dialects)).routes if isinstance(route, Mount)]


ALL = [dialect.slug for dialect in DIALECTS]
FIRST, *_, LAST = ALL


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("all", ALL),
        ("ALL", ALL),
        (" all ", ALL),
        ("none", []),
        (" None ", []),
        # As a line without a value in an .env file has it.
        ("", ALL),
        (" , ", ALL),
        *((slug, [slug]) for slug in ALL),
        (f" {LAST.upper()} ,{FIRST.title()},", [FIRST, LAST]),
        (f"{FIRST},{FIRST}", [FIRST]),
        (",".join(ALL), ALL),
    ],
)
def test_the_dialects_that_are_chosen(value: str, expected: list[str]) -> None:
    assert [dialect.slug for dialect in chosen_dialects(settings_with(value).dialects)] == expected
    assert mounts_of(value) == [f"/{slug}" for slug in expected]


def test_all_dialects_are_served_unless_told_otherwise() -> None:
    assert mounts_of(Settings.model_fields["dialects"].default) == [dialect.mount for dialect in DIALECTS]


UNKNOWN = ["mailchimp", f"{FIRST},mailchimp", "all,none", f"all,{FIRST}", f"none,{FIRST}", "native", f"{FIRST};{LAST}"]


@pytest.mark.parametrize("value", UNKNOWN)
def test_a_dialect_that_there_is_not(value: str) -> None:
    with pytest.raises(
        ValueError, match=f"POLYTAG_DIALECTS must be all, none, or names of {', '.join(ALL)} .+; it has "
    ):
        create_app(settings_with(value))


def test_none_is_said_to_stand_alone() -> None:
    with pytest.raises(ValueError, match=r"; it has none beside other names\.$"):
        create_app(settings_with(f"none,{FIRST}"))


@pytest.fixture
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("POLYTAG_")]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize("by", ["option", "variable"])
@pytest.mark.usefixtures("clean_environment")
def test_serving_a_dialect_that_there_is_not(monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    """It is said in a sentence, before anything is started."""
    words = ["polytag", "serve", "--port", "0"]
    if by == "option":
        words += ["--dialects", f"{FIRST},Mailchimp"]
    else:
        monkeypatch.setenv("POLYTAG_DIALECTS", f"{FIRST},Mailchimp")
    monkeypatch.setenv("POLYTAG_DATABASE_URL", DATABASE.get_secret_value())
    monkeypatch.setattr(sys, "argv", words)
    # It would go on logging to a stream that is closed.
    monkeypatch.setattr(logs, "configure", lambda *_: None)
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as exited:
        cli.main()
    assert exited.value.code == 1
    assert out.getvalue() == ""
    assert err.getvalue() == (
        f"polytag: The settings cannot be taken. POLYTAG_DIALECTS must be all, none, or names of {', '.join(ALL)} "
        "with commas between; it has mailchimp.\n"
    )


@pytest.mark.parametrize(
    ("value", "served"),
    [("none", []), *((dialect.slug, [dialect]) for dialect in DIALECTS)],
    ids=["none", *ALL],
)
async def test_a_dialect_that_is_not_served_is_no_path_at_all(
    database_url: str, workspace: Workspace, value: str, served: list[FrontEnd]
) -> None:
    settings = Settings(database_url=SecretStr(database_url), dialects=value)
    async with started(settings) as app, client_of(app, workspace) as client:
        for dialect in DIALECTS:
            for path in (a_path(routes_of(dialect)[0]), "/openapi.json", "/docs", ""):
                response = await client.get(dialect.mount + path)
                if dialect not in served:
                    assert problem(response, 404, "route_not_found")["detail"].endswith(f"{dialect.mount}{path}.")
            if dialect in served:
                assert (await client.get(f"{dialect.mount}/openapi.json")).json() == openapi_document(dialect)
        assert (await client.get("/tags")).status_code == 200


@pytest.mark.parametrize("path", ["a%0Ab", "%0A", "api%0A/v1/tags", "tags%0D%0A"])
@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.slug)
async def test_all_that_is_below_a_mount_is_answered_by_it(api: Api, dialect: FrontEnd, path: str) -> None:
    """Also behind a newline, where the framework's own pattern would end."""
    response = await api.get(f"{dialect.mount}/{path}")
    assert response.status_code == 404
    assert response.headers["content-type"].startswith("application/json")
