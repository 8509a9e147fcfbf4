"""SendPortal's API of tags and subscribers: how it reads a key, a body, and says an error.

Its source, at commit 6e6ce11 of mettle/sendportal-core, and a run of it are what it is built from. What differs here,
and why, is told in docs/dialects/sendportal.md.
"""

import re

from starlette.requests import Request
from starlette.responses import Response

from app.dialects.sendportal.bodies import parse_body
from app.dialects.sendportal.checks import EMAIL_TAKEN, NO_SUBSCRIBER, TAG_NAME_TAKEN, broken
from app.dialects.sendportal.router import (
    ping_router,
    subscriber_tags_router,
    subscribers_router,
    tag_subscribers_router,
    tags_router,
)
from app.dialects.sendportal.schemas import ErrorOut
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

_STATUSES: dict[type[AppError], int] = {
    Unauthenticated: 401,
    Forbidden: 403,
    NotFound: 404,
    RouteNotFound: 404,
    MethodNotAllowed: 405,
    Unreadable: 400,
    UnsupportedMediaType: 415,
    TooLarge: 413,
    SlowBody: 408,
    InvalidInput: 422,
    InvalidCursor: 422,
    Duplicate: 422,
    Conflict: 409,
    PreconditionFailed: 412,
    IdempotencyKeyReused: 422,
    StillRunning: 409,
    RateLimited: 429,
    Unavailable: 503,
    InternalError: 500,
}

# The order in which Laravel lists the methods of a path.
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")

# What was found and has gone since is known to the core by an id that callers never see.
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_GONE = frozenset({"unknown_ids", "not_members"})


def read_token(request: Request) -> str:
    """The key out of `Authorization: Bearer …`, or, where that is not sent, of `api_token` in the query.

    The vendor takes `api_token` in a body, too. Here keys are checked before bodies are read.
    """
    if "authorization" not in request.headers and (key := request.query_params.get("api_token", "").strip()):
        return key
    return read_authorization(request, "Bearer")


def render_error(error: AppError, _request_id: str) -> Response:
    """`{"message": …}`, and for wrong fields `{"message": …, "errors": {field: [text, …]}}`."""
    if isinstance(error, MethodNotAllowed):
        allowed = [method for method in _METHODS if method in error.allowed]
        error = MethodNotAllowed(error.method, allowed, below=error.below)
    body: dict[str, object] = {"message": _message(error)}
    if isinstance(error, InvalidInput):
        body = _with_fields([(_field(one), _text(one)) for one in error.errors])
    elif isinstance(error, Duplicate):
        body = _with_fields([(error.field, TAG_NAME_TAKEN if error.resource == "tag" else EMAIL_TAKEN)])
    return error_response(_STATUSES[type(error)], body, error)


def _message(error: AppError) -> str:
    match error:
        case Unauthenticated():
            return "Unauthenticated."
        case RouteNotFound():
            return f"The route {error.below.removeprefix('/')} could not be found."
        case MethodNotAllowed():
            supported = ", ".join(error.allowed)
            route = error.below.removeprefix("/")
            return f"The {error.method} method is not supported for route {route}. Supported methods: {supported}."
        case NotFound():
            noun = "subscriber" if error.resource == "contact" else error.resource
            return f"No query results for {noun}" + (
                "" if _UUID.fullmatch(error.identifier) else f" {error.identifier}"
            )
        case RateLimited():
            return "Too Many Attempts."
        case InternalError():
            return "Server Error"
    return error.detail


def _with_fields(texts: list[tuple[str, str]]) -> dict[str, object]:
    errors: dict[str, list[str]] = {}
    for field, text in texts:
        errors.setdefault(field, []).append(text)
    more = len(texts) - 1
    counted = f" (and {more} more error{'s' if more > 1 else ''})" if more else ""
    return {"message": texts[0][1] + counted, "errors": errors}


def _field(error: FieldError) -> str:
    source, *place = error.location
    named = ".".join(map(str, place or [source]))
    # As the core calls them.
    return named.replace("contact_ids", "subscribers") if error.code in _GONE else named


def _text(error: FieldError) -> str:
    if error.code not in _GONE:
        return error.detail
    field = _field(error)
    return NO_SUBSCRIBER if field.startswith("subscribers") else f"The selected {field} is invalid."


def rate_headers(quota: Quota) -> dict[str, str]:
    """Its framework's: two on every answer, and the Unix time of the reset where there was one request too many."""
    headers = {"x-ratelimit-limit": str(quota.requests), "x-ratelimit-remaining": str(quota.remaining)}
    if quota.is_exceeded:
        headers["x-ratelimit-reset"] = str(quota.resets_at)
    return headers


SENDPORTAL = FrontEnd(
    slug="sendportal",
    title="Polytag as SendPortal",
    mount="/sendportal",
    routers=(subscriber_tags_router, tags_router, tag_subscribers_router, subscribers_router, ping_router),
    read_token=read_token,
    render_error=render_error,
    parse_body=parse_body,
    one_audience=True,
    about=About(
        "SendPortal's API of tags and subscribers, over Polytag. A client written for SendPortal works after a "
        "change of its base URL and key. Bodies are JSON or forms, and fields that are in the query string join "
        "them. A POST that asks by `_method` or `X-HTTP-Method-Override` to be taken for another method is refused.",
        security_schemes={
            "bearerAuth": {
                "type": "http",
                "scheme": "bearer",
                "description": "`Authorization: Bearer <key>`. A key begins with `ptag_`.",
            },
            "apiTokenAuth": {
                "type": "apiKey",
                "in": "query",
                "name": "api_token",
                "description": "The key in the query, for clients that cannot send the header. Proxies may log it.",
            },
        },
        error_schema=ErrorOut,
        error_examples={
            NotFound: (NotFound("tag", 7), NotFound("contact", 7)),
            InvalidInput: (InvalidInput([broken("required", "The name field is required.", "name")]),),
            UnsupportedMediaType: (UnsupportedMediaType("application/json", encoding="gzip"),),
            # What cannot be read is no input here.
            Unreadable: (),
        },
    ),
    rate_headers=rate_headers,
    # As Laravel has it from the start.
    cross_origin="/api/",
)
