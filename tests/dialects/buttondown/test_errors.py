"""How errors are said: each fact in the vendor's form, and whatever is sent to whichever call."""

import json
from typing import Any
from urllib.parse import quote
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.types import ASGIApp

from app import errors
from app.config import Settings
from app.dialects.buttondown import render_error
from app.errors import AppError, FieldError
from tests.conftest import Api, Workspace, client_of, started
from tests.dialects.buttondown.calls import (
    BASE,
    UNKNOWN_TAG,
    all_routes,
    coded,
    holder_of,
    key_of,
    listed,
    make_subscriber,
    make_tag,
    refused,
    send,
)
from tests.routers.calls import answered, state_of

PLACE = ("body", "name")

FACTS: list[tuple[AppError, int, str | None, dict[str, str]]] = [
    (errors.Unauthenticated("missing"), 401, "authentication_missing", {"www-authenticate": "Token"}),
    (errors.Unauthenticated("malformed"), 401, "authentication_invalid", {}),
    (
        errors.Unauthenticated("invalid"),
        401,
        "authentication_invalid",
        {"www-authenticate": 'Token error="invalid_token"'},
    ),
    (errors.Unauthenticated("inactive_client"), 401, "authentication_invalid", {}),
    (errors.Forbidden(["tags:write"]), 403, "forbidden", {}),
    (errors.NotFound("tag", "x"), 404, "not_found", {}),
    (errors.NotFound("contact", "x"), 404, "not_found", {}),
    (errors.RouteNotFound("/x"), 404, "not_found", {}),
    (errors.MethodNotAllowed("PUT", ["GET", "POST"]), 405, "method_not_allowed", {"allow": "GET, POST"}),
    (errors.Unreadable("what is wrong"), 400, None, {}),
    (errors.UnsupportedMediaType("text/plain"), 400, None, {}),
    (errors.TooLarge(7), 413, "payload_too_large", {}),
    (errors.InvalidCursor(), 400, "invalid_cursor", {}),
    (errors.Duplicate("tag", "name", "x", UUID(int=1)), 400, "already_exists", {}),
    (errors.Conflict("tag_in_use", "Because.", n=7), 400, "tag_in_use", {}),
    (errors.Unavailable("Later.", retry_after=3), 503, "unavailable", {"retry-after": "3"}),
    (errors.InternalError(), 500, "internal_error", {}),
    (errors.SlowBody(30), 408, "request_timeout", {}),
    (errors.PreconditionFailed("tag"), 412, "precondition_failed", {}),
    (errors.IdempotencyKeyReused(), 409, "idempotency_key_reused", {}),
    (errors.StillRunning(retry_after=2), 409, "still_running", {"retry-after": "2"}),
    (errors.RateLimited("Too many.", retry_after=4), 429, "rate_limited", {"retry-after": "4"}),
    (errors.InvalidInput([FieldError(("body", "tags", 0), "unknown_ids", "No.")]), 400, "tag_invalid", {}),
    (errors.InvalidInput([FieldError(("query", "-tag"), "unknown_tag", "No.")]), 400, "invalid_tag", {}),
]


@pytest.mark.parametrize(("fact", "status", "code", "headers"), FACTS)
def test_each_fact(fact: AppError, status: int, code: str | None, headers: dict[str, str]) -> None:
    response = render_error(fact, "id")
    assert response.status_code == status
    document = json.loads(bytes(response.body))
    assert document.get("code") == code
    assert isinstance(document["detail"], str)
    assert document["detail"]
    assert {name: response.headers[name] for name in headers} == headers
    if code is None:
        assert document == {"detail": "Cannot parse request body"}


def test_figures_are_told_as_strings() -> None:
    document = json.loads(bytes(render_error(errors.Conflict("tag_in_use", "Because.", n=7), "").body))
    assert document == {"code": "tag_in_use", "detail": "Because.", "metadata": {"n": "7"}}


def test_fields_that_no_validation_found() -> None:
    fault = FieldError(("query", "limit"), "out_of_range", "Too many.")
    document = json.loads(bytes(render_error(errors.InvalidInput([fault]), "").body))
    assert document == {"detail": [{"type": "value_error", "loc": ["query", "page_size"], "msg": "Too many."}]}


def test_shapes_come_before_rules() -> None:
    name = FieldError(PLACE, "invalid_value", "No.", kind="name_blank")
    shape = FieldError(("body", "x"), "unknown_field", "No.", kind="extra_forbidden")
    both = render_error(errors.InvalidInput([name, shape]), "")
    assert both.status_code == 422
    assert [one["type"] for one in json.loads(bytes(both.body))["detail"]] == ["extra_forbidden"]
    assert render_error(errors.InvalidInput([name, name]), "").status_code == 400


# Over HTTP.


@pytest.mark.parametrize(
    ("header", "code"),
    [
        (None, "authentication_missing"),
        ("", "authentication_invalid"),
        ("Token", "authentication_invalid"),
        ("Token ", "authentication_invalid"),
        ("Bearer {key}", "authentication_invalid"),
        ("{key}", "authentication_invalid"),
        ("Token {key} x", "authentication_invalid"),
        ("Token ptag_x", "authentication_invalid"),
    ],
)
@pytest.mark.parametrize(("method", "path"), sorted(all_routes()))
async def test_keys_that_are_none(api: Api, header: str | None, code: str, method: str, path: str) -> None:
    key = api.headers.pop("Authorization").split()[-1]
    headers = {} if header is None else {"Authorization": header.format(key=key)}
    url = "/buttondown" + path.format(id=UNKNOWN_TAG, id_or_email="x")
    # Before anything of the body is looked at.
    coded(await api.request(method, url, headers=headers, content=b"{"), 401, code)


async def test_the_word_in_any_case(api: Api) -> None:
    key = api.headers["Authorization"].split()[-1]
    answered(await api.get(f"{BASE}/tags", headers={"Authorization": f"token  {key}"}))


@pytest.mark.parametrize(("method", "path"), sorted(all_routes()))
async def test_a_scope_that_is_missing(app: ASGIApp, api: Api, method: str, path: str) -> None:
    scopes = ["events:read", "contacts:read", "contacts:write"]
    if path.startswith("/v1/subscribers"):
        scopes = ["events:read", "tags:read", "tags:write"]
    async with holder_of(app, api.workspace, await key_of(api, scopes=scopes)) as holder:
        where = path.removeprefix("/v1").format(id=UNKNOWN_TAG, id_or_email="x")
        response = await send(holder, method, where, {})
        coded(response, 403, "forbidden")
        assert "insufficient_scope" in response.headers["www-authenticate"]


@pytest.mark.parametrize("content", [b"{", b"\xff", b"{'a': 1}", b"NaN", b'{"a": 1e999}', b"[" * 99, b"\xef\xbb\xbf{}"])
@pytest.mark.parametrize("media_type", ["application/json", "text/plain", None])
async def test_a_body_that_is_no_json(api: Api, content: bytes, media_type: str | None) -> None:
    headers = {"Authorization": f"Token {api.workspace.provisioned.key}"}
    if media_type:
        headers["Content-Type"] = media_type
    response = await api.post(f"{BASE}/tags", content=content, headers=headers)
    assert answered(response, 400) == {"detail": "Cannot parse request body"}


async def test_json_by_any_name(api: Api) -> None:
    headers = {"Authorization": f"Token {api.workspace.provisioned.key}", "Content-Type": "text/plain"}
    answered(await api.post(f"{BASE}/tags", content=b'{"name": "VIP"}', headers=headers), 201)
    # Of a GET, nothing is read.
    answered(await api.request("GET", f"{BASE}/tags", content=b"{", headers=headers))


async def test_a_body_that_is_too_large(database_url: str, workspace: Workspace) -> None:
    async with (
        started(Settings(database_url=database_url, max_body_bytes=1_024)) as app,
        client_of(app, workspace) as api,
    ):
        coded(await send(api, "POST", "/tags", {"name": "x" * 1_024}), 413, "payload_too_large")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/tags/x", "DELETE, GET, HEAD, PATCH"),
        ("PUT", "/tags", "GET, HEAD, POST"),
        ("POST", "/tags/x/analytics", "GET, HEAD"),
        ("PUT", "/subscribers/x", "DELETE, GET, HEAD, PATCH"),
        ("DELETE", "/bulk_actions", "POST"),
        ("DELETE", "/bulk_actions/x", "GET, HEAD"),
    ],
)
async def test_methods_that_are_not_there(api: Api, method: str, path: str, allowed: str) -> None:
    response = await send(api, method, path, {})
    coded(response, 405, "method_not_allowed")
    assert response.headers["allow"] == allowed


@pytest.mark.parametrize("path", ["", "/", "/tags/", "/tag", "/tags/x/y", "/subscribers/a/b", "/newsletters"])
async def test_paths_that_are_not_there(api: Api, path: str) -> None:
    coded(await send(api, "GET", path), 404, "not_found")


async def test_head(api: Api) -> None:
    response = await send(api, "HEAD", "/tags")
    assert (response.status_code, response.content) == (200, b"")


async def test_a_fault_of_ours(app: ASGIApp, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("app.repositories.tags.TagRepository.get", fail)
    coded(await send(api, "GET", f"/tags/{UNKNOWN_TAG}"), 500, "internal_error")


async def test_try_again(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise errors.Unavailable("Later.", retry_after=2)

    monkeypatch.setattr("app.repositories.tags.TagRepository.get", fail)
    response = await send(api, "GET", f"/tags/{UNKNOWN_TAG}")
    coded(response, 503, "unavailable")
    assert response.headers["retry-after"] == "2"


# Anything at all.

FIELDS = ["name", "color", "description", "secondary_id", "email_address", "tags", "metadata", "type", "ids", "tag_id"]
VALUES = ["VIP", "all", "-all", "apply_tags", "delete_tags", "add", "#fff", "a@b.c", "\x00", "\ud800", "e\u0301" * 300]
texts = st.text(st.characters(exclude_categories=[]), max_size=20) | st.sampled_from(VALUES)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts
documents = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(FIELDS) | texts, inner, max_size=6),
    max_leaves=12,
)
PARAMETERS = ["page", "page_size", "ids", "tag", "-tag", "x"]
queries = st.lists(st.tuples(st.sampled_from(PARAMETERS), texts | st.integers().map(str)), max_size=4)
NAMED = ["tag", "subscriber", "email", "unknown"]
HEADERS = {
    "X-API-Version": ["2026-01-01", "2020-01-01", "x", "²"],
    "X-Buttondown-Collision-Behavior": ["add", "overwrite", "no_op", "fail", "x", "é"],
    "Buttondown-Context": ["", "x", "é"],
}
headers = st.dictionaries(st.sampled_from(sorted(HEADERS)), st.integers(0, 5), max_size=1).map(
    lambda chosen: {name: HEADERS[name][place % len(HEADERS[name])] for name, place in chosen.items()}
)


@pytest.fixture
async def named(api: Api) -> dict[str, str]:
    """What there is to be named."""
    tag, subscriber = await make_tag(api), await make_subscriber(api, tags=["VIP"])
    return {"tag": tag["id"], "subscriber": subscriber["id"], "email": "ada@example.com", "unknown": UNKNOWN_TAG}


def sendable(text: str) -> str:
    """A text as it can stand in a URL, where there are no lone surrogates."""
    return quote(text.encode("utf-8", "replace"), safe="")


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    route=st.sampled_from(sorted(all_routes())),
    segment=st.sampled_from(NAMED) | texts,
    query=queries,
    sent=headers,
    body=documents,
)
async def test_whatever_is_sent(
    api: Api,
    named: dict[str, str],
    route: tuple[str, str],
    segment: str,
    query: list[tuple[str, str]],
    sent: dict[str, str],
    body: Any,
) -> None:
    """Nothing is a fault of ours; what is refused is refused in the vendor's form, and writes nothing."""
    method, path = route
    place = sendable(named.get(segment, segment)) or "x"
    parameters = "&".join(f"{name}={sendable(value)}" for name, value in query)
    before = await state_of(api.workspace)
    response = await api.request(
        method,
        f"/buttondown{path.format(id=place, id_or_email=place)}?{parameters}",
        content=json.dumps(body).encode() if method in {"POST", "PATCH"} else None,
        headers=[
            (b"Authorization", f"Token {api.workspace.provisioned.key}".encode()),
            *((name.encode(), value.encode()) for name, value in sent.items()),
        ],
    )
    refused(response)
    if response.status_code >= 400 or method == "GET":
        assert await state_of(api.workspace) == before


@pytest.mark.parametrize("query", ["tag=%ff", "ids=%ff", "page=%ff", "-tag=%C3%28", "x=%ff"])
async def test_a_query_that_is_not_in_utf_8(api: Api, query: str) -> None:
    for path in ("/tags", "/subscribers"):
        assert listed(await send(api, "GET", f"{path}?{query}")) == [("invalid_characters", ["query"])]


async def test_an_object_with_too_many_fields(api: Api) -> None:
    body: dict[str, Any] = {f"f{number}": 1 for number in range(65)}
    assert listed(await send(api, "POST", "/tags", body)) == [("too_many_fields", ["body", "payload"])]
