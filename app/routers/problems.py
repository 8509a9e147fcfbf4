"""How the native API reads a key and says an error: RFC 9457, one table.

A problem has `type`, `title`, `status`, `detail`, `code` and `request_id`; where fields are wrong also `errors`, a list
of `{pointer, code, detail}`. A pointer says where the value stood:

| pointer            | is                                                                   |
|--------------------|----------------------------------------------------------------------|
| `#/contact_ids/3`  | a place in the body (RFC 6901, as a URI fragment); `#` is all of it  |
| `?limit`           | a parameter of the query; `?` is all of it                           |
| `header:If-Match`  | a header                                                             |
"""

from typing import Literal, get_args
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from app.errors import (
    AppError,
    Conflict,
    ConflictCode,
    Duplicate,
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
    UniqueField,
    Unreadable,
    UnsupportedMediaType,
)
from app.frontend import LISTED_ERRORS_MAX, error_response, read_authorization

_MEDIA_TYPE = "application/problem+json"

# Status, code and title of each error. A code of None is the error's own, see code_of.
_TABLE: dict[type[AppError], tuple[int, str | None, str]] = {
    Unauthenticated: (401, "unauthenticated", "No valid API key"),
    Forbidden: (403, "insufficient_scope", "The API key may not do this"),
    NotFound: (404, "not_found", "Not found"),
    RouteNotFound: (404, "route_not_found", "No such path"),
    MethodNotAllowed: (405, "method_not_allowed", "Method not allowed"),
    Unreadable: (400, "unreadable_body", "The body cannot be read"),
    UnsupportedMediaType: (415, "unsupported_media_type", "The body is not sent as plain JSON"),
    TooLarge: (413, "body_too_large", "The body is too large"),
    SlowBody: (408, "slow_body", "The body did not come in time"),
    InvalidInput: (422, None, "Invalid input"),
    InvalidCursor: (400, "invalid_cursor", "Invalid cursor"),
    Duplicate: (409, None, "Already taken"),
    Conflict: (409, None, "Conflict"),
    PreconditionFailed: (412, "precondition_failed", "Changed since"),
    IdempotencyKeyReused: (422, "idempotency_key_reused", "The idempotency key of another request"),
    StillRunning: (409, "still_running", "The first request is still running"),
    RateLimited: (429, "rate_limited", "Too many requests"),
    Unavailable: (503, "unavailable", "Try again"),
    InternalError: (500, "internal_error", "Internal error"),
}

# What its callers can do about it: each front end has a form of its own.
_UNAUTHENTICATED = {
    "missing": "This call needs an API key: send Authorization: Bearer <key>.",
    "malformed": "The Authorization header must be: Bearer <key>.",
}

RefusalCode = Literal["malformed_request", "head_too_large", "slow_head"]

# Status and title of what is refused before there is a request, hence none of a front end (app/protocol.py).
_REFUSALS: dict[RefusalCode, tuple[int, str]] = {
    "malformed_request": (400, "The request cannot be read"),
    "head_too_large": (431, "The head of the request is too large"),
    "slow_head": (408, "The head of the request did not come in time"),
}

# Status, code and title of every problem, but for the codes of fields (app.errors.FIELD_CODES), which are those of an
# InvalidInput too.
CODES: list[tuple[int, str, str]] = [
    *((status, code, title) for status, code, title in _TABLE.values() if code is not None),
    *((_TABLE[Duplicate][0], f"{field}_taken", _TABLE[Duplicate][2]) for field in get_args(UniqueField)),
    *((_TABLE[Conflict][0], code, _TABLE[Conflict][2]) for code in get_args(ConflictCode)),
    (_TABLE[InvalidInput][0], "invalid_input", _TABLE[InvalidInput][2]),
    *((status, code, title) for code, (status, title) in _REFUSALS.items()),
]


def read_token(request: Request) -> str:
    """The key out of `Authorization: Bearer …`."""
    return read_authorization(request, "Bearer")


def render_error(error: AppError, request_id: str) -> Response:
    """The problem document of an error."""
    status, _, title = _TABLE[type(error)]
    detail = error.detail
    if isinstance(error, Unauthenticated):
        detail = _UNAUTHENTICATED.get(error.reason, detail)
    problem = _problem(status, code_of(error), title, detail, request_id)
    return error_response(status, problem | _members(error), error, media_type=_MEDIA_TYPE)


def render_refusal(code: RefusalCode, detail: str, request_id: str) -> Response:
    """The problem document of what is no request. The connection ends with it."""
    status, title = _REFUSALS[code]
    headers = {"Connection": "close"}
    return JSONResponse(_problem(status, code, title, detail, request_id), status, headers, media_type=_MEDIA_TYPE)


def _problem(status: int, code: str, title: str, detail: str, request_id: str) -> dict[str, object]:
    return {
        "type": f"urn:polytag:problem:{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
        "request_id": request_id,
    }


def code_of(error: AppError) -> str:
    """The stable code of an error, by which programs tell it from others."""
    if isinstance(error, InvalidInput | Conflict):
        return error.code
    if isinstance(error, Duplicate):
        return f"{error.field}_taken"
    code = _TABLE[type(error)][1]
    assert code is not None  # noqa: S101  # the types without one are those above
    return code


def _members(error: AppError) -> dict[str, object]:
    """What a problem of this kind shows beside the members that all have."""
    if isinstance(error, InvalidInput):
        return {
            "errors": [
                {"pointer": _pointer(field.location), "code": field.code, "detail": field.detail}
                for field in error.errors[:LISTED_ERRORS_MAX]
            ]
        }
    if isinstance(error, Duplicate):
        return {"existing_id": None if error.existing_id is None else str(error.existing_id)}
    if isinstance(error, Conflict):
        return dict(error.facts)
    if isinstance(error, Forbidden):
        return {"missing_scopes": list(error.missing_scopes)}
    return {}


def _pointer(location: tuple[str | int, ...]) -> str:
    source, *parts = location
    if source == "body":
        return "#" + "".join("/" + _pointer_part(str(part)) for part in parts)
    name = ".".join(str(part) for part in parts)
    return f"?{name}" if source == "query" else f"{source}:{name}"


def _pointer_part(part: str) -> str:
    return quote(part.replace("~", "~0").replace("/", "~1"), safe="~!$&'()*+,;=:@", errors="replace")
