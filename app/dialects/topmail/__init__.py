"""TopMail's tag and contact API: how it reads a key and says an error.

What its documentation shows is kept; what it leaves open is decided here, and told in docs/dialects/topmail.md.
"""

from datetime import UTC, datetime

from starlette.requests import Request
from starlette.responses import Response

from app.bodies import parse_json
from app.dialects.topmail.router import contacts_router, tags_router
from app.dialects.topmail.schemas import ErrorOut
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
from app.frontend import About, FrontEnd, error_response, read_authorization
from app.rate_limits import Quota

# Its table of statuses has no 422 and no 415: what is wrong with a request is 400. 405, 408, 413 and 503 are not in
# it either; they are HTTP's own, and a client that knows the table takes them by their class.
_TABLE: dict[type[AppError], tuple[int, str]] = {
    Unauthenticated: (401, "unauthorized"),
    Forbidden: (403, "forbidden"),
    NotFound: (404, "not_found"),
    RouteNotFound: (404, "not_found"),
    MethodNotAllowed: (405, "method_not_allowed"),
    Unreadable: (400, "validation_error"),
    UnsupportedMediaType: (400, "validation_error"),
    TooLarge: (413, "payload_too_large"),
    SlowBody: (408, "request_timeout"),
    InvalidInput: (400, "validation_error"),
    InvalidCursor: (400, "validation_error"),
    Duplicate: (409, "duplicate"),
    Conflict: (409, "conflict"),
    PreconditionFailed: (412, "precondition_failed"),
    # "Idempotency conflict" is one of the things that its 409 is said to mean.
    IdempotencyKeyReused: (409, "idempotency_conflict"),
    StillRunning: (409, "idempotency_conflict"),
    RateLimited: (429, "rate_limited"),
    Unavailable: (503, "unavailable"),
    InternalError: (500, "internal_error"),
}


# What its callers can do about it: its two headers are not those of other front ends.
_UNAUTHENTICATED = {
    "missing": "This call needs an API key: send Authorization: Bearer <key>, or X-API-Key: <key>.",
    "malformed": "The Authorization header must be: Bearer <key>.",
}


def read_token(request: Request) -> str:
    """The key out of `Authorization: Bearer …`, or, where that is not sent, of the older `X-API-Key`."""
    # An empty header is what a client sends that was given no key for it.
    if not request.headers.get("authorization", "").strip() and (key := request.headers.get("x-api-key", "").strip()):
        return key
    return read_authorization(request, "Bearer")


def render_error(error: AppError, _request_id: str) -> Response:
    """`{"error": {"code", "message", "path"}}`, the path only where a field is at fault, and then of the first one."""
    status, code = _TABLE[type(error)]
    message = error.detail
    path: str | None = None
    if isinstance(error, Unauthenticated):
        message = _UNAUTHENTICATED.get(error.reason, message)
    elif isinstance(error, NotFound) and error.resource == "contact":
        code = "contact_not_found"
    elif isinstance(error, Duplicate):
        path = error.field
    elif isinstance(error, InvalidInput):
        source, *place = error.errors[0].location
        message = error.errors[0].detail
        path = ".".join(map(str, place)) if source != "header" else None
    body: dict[str, object] = {"code": code, "message": message}
    if path:
        body["path"] = path
    return error_response(status, {"error": body}, error)


_EXAMPLE_ID = "01a204bb-3ba7-739e-b83c-af5ad6ee37f6"


def rate_headers(quota: Quota) -> dict[str, str]:
    """The vendor's two; its reset is a time of day as text."""
    return {
        "x-ratelimit-remaining": str(quota.remaining),
        "x-ratelimit-reset": datetime.fromtimestamp(quota.resets_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


TOPMAIL = FrontEnd(
    slug="topmail",
    title="Polytag as TopMail",
    mount="/topmail",
    routers=(tags_router, contacts_router),
    read_token=read_token,
    render_error=render_error,
    # Whatever it is declared as: the vendor names no rule, and its clients need not have kept one.
    parse_body=lambda _media_type, body: parse_json(body),
    one_audience=True,
    about=About(
        "TopMail's API of tags and contacts, over Polytag. A client written for TopMail works after a change of its "
        "base URL and key. Lists and single objects stand in `data`, errors in `error`.",
        security_schemes={
            "bearerAuth": {
                "type": "http",
                "scheme": "bearer",
                "description": "`Authorization: Bearer <key>`. A key begins with `ptag_`.",
            },
            "apiKeyAuth": {
                "type": "apiKey",
                "in": "header",
                "name": "X-API-Key",
                "description": "The older way to send a key.",
            },
        },
        error_schema=ErrorOut,
        error_examples={
            NotFound: (NotFound("tag", _EXAMPLE_ID), NotFound("contact", _EXAMPLE_ID)),
            InvalidInput: (
                InvalidInput([FieldError(("body", "name"), "too_long", "This must have at most 50 characters.")]),
            ),
            UnsupportedMediaType: (UnsupportedMediaType("application/json", encoding="gzip"),),
        },
    ),
    rate_headers=rate_headers,
)
