"""Datamailer's contact and tag API: how it reads a key, a body, and says an error.

Its source, at commit 9252b88, and a run of it are what it is built from; where its published page differs, the page
wins. docs/dialects/datamailer.md tells what differs here, and why.
"""

from starlette.requests import Request
from starlette.responses import Response

from app.bodies import parse_json
from app.dialects.datamailer.checks import refusal
from app.dialects.datamailer.router import contacts_router, subscriptions_router, tags_router
from app.dialects.datamailer.schemas import ErrorOut
from app.errors import (
    AppError,
    Conflict,
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
    Unreadable,
    UnsupportedMediaType,
)
from app.frontend import About, FrontEnd, error_response, read_authorization

_UNAUTHENTICATED = {
    "missing": "missing_authorization",
    "malformed": "invalid_authorization",
    "invalid": "invalid_api_key",
    "inactive_client": "inactive_client",
}

# The order in which it lists the methods of a path. HEAD and OPTIONS are not among them.
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")

# A refused body of any kind is 400 there, one that is too long, too.
_BODY_CODES: dict[type[AppError], str] = {
    Unreadable: "invalid_json",
    UnsupportedMediaType: "invalid_json",
    TooLarge: "too_large",
}

# What it has no fields for, nor a code of its own.
_WITH_MESSAGE: dict[type[AppError], tuple[int, str]] = {
    SlowBody: (408, "request_timeout"),
    PreconditionFailed: (412, "precondition_failed"),
    IdempotencyKeyReused: (422, "idempotency_key_reused"),
    StillRunning: (409, "still_running"),
    RateLimited: (429, "rate_limited"),
    Unavailable: (503, "unavailable"),
    InternalError: (500, "internal_error"),
}

# What the core calls by another name.
_FIELD_CODES = {"unknown_audience": "not_found"}


def read_token(request: Request) -> str:
    """The key out of `Authorization: Bearer …`. An empty header is one that was not sent."""
    if not request.headers.get("authorization", "").strip():
        raise Unauthenticated("missing")
    return read_authorization(request, "Bearer")


def parse_body(_media_type: str | None, body: bytes) -> object:
    """A JSON object, whatever it is declared as, with the numbers that Python's parser takes."""
    value = parse_json(body, lenient=True)
    if not isinstance(value, dict):
        raise refusal({"body": "must_be_object"})
    return value


def render_error(error: AppError, _request_id: str) -> Response:
    """`{"error": {"code": "validation_error", "fields": {field: code}}}`, or a code with a message."""
    status, body = _rendered(error)
    return error_response(status, {"error": body}, error)


def _rendered(error: AppError) -> tuple[int, dict[str, object]]:
    match error:
        case Unauthenticated():
            code = _UNAUTHENTICATED[error.reason]
            return 401, {"code": code, "message": "Authentication credentials were not accepted."}
        case Forbidden():
            return 403, {"code": "insufficient_scope", "message": error.detail}
        case RouteNotFound():
            return 404, {"code": "not_found", "message": error.detail}
        case MethodNotAllowed():
            allowed = [method for method in _METHODS if method in error.allowed]
            return 405, {"code": "method_not_allowed", "allowed_methods": allowed}
    if type(error) in _WITH_MESSAGE:
        status, code = _WITH_MESSAGE[type(error)]
        return status, {"code": code, "message": error.detail}
    status, fields = _fields_of(error)
    return status, {"code": "validation_error", "fields": fields}


def _fields_of(error: AppError) -> tuple[int, dict[str, str]]:
    match error:
        case InvalidInput():
            fields: dict[str, str] = {}
            for broken in error.errors:
                source, *place = broken.location
                fields.setdefault(str(place[0] if place else source), _FIELD_CODES.get(broken.code, broken.code))
            return (403 if "forbidden" in fields.values() else 400), fields
        case InvalidCursor():
            return 400, {"cursor": "invalid"}
        case NotFound():
            return 404, {"contact_id" if error.resource == "contact" else error.resource: "not_found"}
        case Duplicate():
            return 409, {error.field: "already_exists"}
        case Conflict():
            return 409, {"contact": error.code}
    return 400, {"body": _BODY_CODES[type(error)]}


DATAMAILER = FrontEnd(
    slug="datamailer",
    title="Polytag as Datamailer",
    mount="/datamailer",
    routers=(tags_router, contacts_router, subscriptions_router),
    read_token=read_token,
    render_error=render_error,
    parse_body=parse_body,
    about=About(
        "Datamailer's API of contacts and their tags, over Polytag. A client written for Datamailer works after a "
        "change of its base URL and key. Bodies and queries name the audience and the client that they speak for.",
        security_schemes={
            "bearerAuth": {
                "type": "http",
                "scheme": "bearer",
                "description": "`Authorization: Bearer <key>`. A key begins with `ptag_`.",
            },
        },
        error_schema=ErrorOut,
        error_examples={
            NotFound: (NotFound("contact", 7),),
            InvalidInput: (
                refusal({"email": "required"}),
                refusal({"client": "forbidden"}),
            ),
            UnsupportedMediaType: (UnsupportedMediaType("application/json", encoding="gzip"),),
        },
    ),
)
