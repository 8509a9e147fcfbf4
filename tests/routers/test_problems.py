"""Every error has its problem document."""

import json
from typing import Any
from uuid import uuid4

import pytest
from starlette.requests import Request
from starlette.responses import Response

from app import errors
from app.errors import (
    AppError,
    Conflict,
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
    Unavailable,
    Unreadable,
    UnsupportedMediaType,
)
from app.routers.problems import read_token, render_error
from app.values import new_key

TAG_ID = uuid4()


def document(response: Response) -> dict[str, Any]:
    assert response.media_type == "application/problem+json"
    parsed: dict[str, Any] = json.loads(bytes(response.body))
    assert parsed["status"] == response.status_code
    assert parsed["type"] == f"urn:polytag:problem:{parsed['code']}"
    assert all(parsed[member] for member in ("title", "detail", "request_id"))
    return parsed


CASES: list[tuple[AppError, int, str, dict[str, Any], dict[str, str]]] = [
    (
        Unauthenticated("missing"),
        401,
        "unauthenticated",
        {"detail": "This call needs an API key: send Authorization: Bearer <key>."},
        {"www-authenticate": "Bearer"},
    ),
    (
        Unauthenticated("malformed"),
        401,
        "unauthenticated",
        {"detail": "The Authorization header must be: Bearer <key>."},
        {"www-authenticate": 'Bearer error="invalid_token"'},
    ),
    (Unauthenticated("invalid"), 401, "unauthenticated", {}, {"www-authenticate": 'Bearer error="invalid_token"'}),
    (
        Unauthenticated("inactive_client"),
        401,
        "unauthenticated",
        {},
        {"www-authenticate": 'Bearer error="invalid_token"'},
    ),
    (
        Forbidden(["tags:read", "tags:write"]),
        403,
        "insufficient_scope",
        {"missing_scopes": ["tags:read", "tags:write"]},
        {"www-authenticate": 'Bearer error="insufficient_scope", scope="tags:read tags:write"'},
    ),
    (NotFound("tag", TAG_ID), 404, "not_found", {"detail": f"There is no tag {TAG_ID}."}, {}),
    (RouteNotFound("/x"), 404, "route_not_found", {}, {}),
    (MethodNotAllowed("PUT", ["GET", "HEAD"]), 405, "method_not_allowed", {}, {"allow": "GET, HEAD"}),
    (Unreadable("The body is odd."), 400, "unreadable_body", {"detail": "The body is odd."}, {}),
    (
        UnsupportedMediaType("text/plain"),
        415,
        "unsupported_media_type",
        {"title": "The body is not sent as plain JSON"},
        {},
    ),
    # The title is that of both.
    (
        UnsupportedMediaType("application/json", encoding="gzip"),
        415,
        "unsupported_media_type",
        {"title": "The body is not sent as plain JSON"},
        {},
    ),
    (TooLarge(1_000), 413, "body_too_large", {}, {}),
    (
        InvalidInput([FieldError(("body", "contact_ids", 3), "unknown_ids", "There is no such contact.")]),
        422,
        "unknown_ids",
        {"errors": [{"pointer": "#/contact_ids/3", "code": "unknown_ids", "detail": "There is no such contact."}]},
        {},
    ),
    (
        InvalidInput([FieldError(("query", "limit"), "a", "A."), FieldError(("header", "If-Match"), "b", "B.")]),
        422,
        "invalid_input",
        {
            "errors": [
                {"pointer": "?limit", "code": "a", "detail": "A."},
                {"pointer": "header:If-Match", "code": "b", "detail": "B."},
            ]
        },
        {},
    ),
    (InvalidCursor(), 400, "invalid_cursor", {}, {}),
    (Duplicate("tag", "name", "VIP", TAG_ID), 409, "name_taken", {"existing_id": str(TAG_ID)}, {}),
    (Duplicate("tag", "secondary_id", 7, None), 409, "secondary_id_taken", {"existing_id": None}, {}),
    (Duplicate("contact", "email", "a@b", TAG_ID), 409, "email_taken", {"existing_id": str(TAG_ID)}, {}),
    (Conflict("tag_in_use", "It has contacts.", contact_count=3), 409, "tag_in_use", {"contact_count": 3}, {}),
    (Unavailable("Busy.", retry_after=2), 503, "unavailable", {}, {"retry-after": "2"}),
    (InternalError(), 500, "internal_error", {}, {}),
    (SlowBody(30), 408, "slow_body", {}, {}),
    (PreconditionFailed("tag"), 412, "precondition_failed", {}, {}),
    (IdempotencyKeyReused(), 422, "idempotency_key_reused", {}, {}),
    (StillRunning(retry_after=2), 409, "still_running", {}, {"retry-after": "2"}),
    (RateLimited("Too many.", retry_after=4), 429, "rate_limited", {}, {"retry-after": "4"}),
]


@pytest.mark.parametrize(("error", "status", "code", "members", "headers"), CASES)
def test_each_error(error: AppError, status: int, code: str, members: dict[str, Any], headers: dict[str, str]) -> None:
    response = render_error(error, "r1")
    parsed = document(response)
    assert (response.status_code, parsed["code"], parsed["request_id"]) == (status, code, "r1")
    assert members.items() <= parsed.items()
    assert headers.items() <= dict(response.headers).items()
    assert parsed["detail"] == members.get("detail", error.detail)


def test_no_error_is_left_out() -> None:
    known = {value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, AppError)}
    assert {type(error) for error, *_ in CASES} == known - {AppError}


@pytest.mark.parametrize(
    ("location", "pointer"),
    [
        (("body",), "#"),
        (("body", "a", 0, "b"), "#/a/0/b"),
        (("body", "a/b~c"), "#/a~1b~0c"),
        (("body", "é %"), "#/%C3%A9%20%25"),
        (("body", "\ud800"), "#/%3F"),
        (("body", ""), "#/"),
        (("query",), "?"),
        (("query", "tags_all", 2), "?tags_all.2"),
        (("header", "Idempotency-Key"), "header:Idempotency-Key"),
    ],
)
def test_pointers(location: tuple[str | int, ...], pointer: str) -> None:
    parsed = document(render_error(InvalidInput([FieldError(location, "x", "X.")]), "r1"))
    assert parsed["errors"][0]["pointer"] == pointer


def test_neither_keys_nor_half_characters_leave() -> None:
    key = new_key()
    parsed = document(render_error(Duplicate("tag", "name", f"\udfff {key} é", None), "r1"))
    assert parsed["detail"] == "Another tag has the name ? ptag_… é."


def test_the_length_is_declared() -> None:
    response = render_error(NotFound("tag", "é"), "r1")
    assert response.headers["content-length"] == str(len(response.body))


def request_with(authorization: str | None) -> Request:
    headers = [] if authorization is None else [(b"authorization", authorization.encode("latin-1"))]
    return Request({"type": "http", "headers": headers})


@pytest.mark.parametrize("header", ["Bearer abc", "bearer abc", "BEARER   abc ", "Bearer\tabc"])
def test_reading_a_key(header: str) -> None:
    if "\t" in header:
        with pytest.raises(Unauthenticated):
            read_token(request_with(header))
    else:
        assert read_token(request_with(header)) == "abc"


@pytest.mark.parametrize(
    ("header", "reason"),
    [(None, "missing"), ("", "malformed"), ("abc", "malformed"), ("Token abc", "malformed"), ("Bearer ", "malformed")],
)
def test_reading_no_key(header: str | None, reason: str) -> None:
    with pytest.raises(Unauthenticated) as caught:
        read_token(request_with(header))
    assert caught.value.reason == reason
