"""Buttondown's API of tags, subscribers and bulk actions: how it reads a key and says an error.

What its documents leave open is decided here, and told in docs/dialects/buttondown.md.
"""

from starlette.requests import Request
from starlette.responses import Response

from app.bodies import parse_json
from app.dialects.buttondown.parameters import CONTEXT_PARAMETER, read_context
from app.dialects.buttondown.refusals import COLLISION_HEADER, NAME_CODES, refusal
from app.dialects.buttondown.router import bulk_actions_router, subscribers_router, tags_router
from app.dialects.buttondown.schemas import ErrorOut
from app.dialects.buttondown.typeids import TAG_ID
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

_TABLE: dict[type[AppError], tuple[int, str]] = {
    # The only 403 whose code is documented is that of bulk actions.
    Forbidden: (403, "forbidden"),
    NotFound: (404, "not_found"),
    RouteNotFound: (404, "not_found"),
    MethodNotAllowed: (405, "method_not_allowed"),
    TooLarge: (413, "payload_too_large"),
    SlowBody: (408, "request_timeout"),
    InvalidCursor: (400, "invalid_cursor"),
    Duplicate: (400, "already_exists"),
    PreconditionFailed: (412, "precondition_failed"),
    # Every operation of its document has a 409 without a word; a clash of keys is the likely use.
    IdempotencyKeyReused: (409, "idempotency_key_reused"),
    StillRunning: (409, "still_running"),
    RateLimited: (429, "rate_limited"),
    Unavailable: (503, "unavailable"),
    InternalError: (500, "internal_error"),
}

# What the core finds wrong with values that are well formed, by where they stand, in the vendor's codes.
_CODES: dict[tuple[str, str], str] = {
    ("tags", "unknown_ids"): "tag_invalid",
    ("tag", "unknown_tag"): "invalid_tag",
    ("-tag", "unknown_tag"): "invalid_tag",
    ("metadata", "unknown_ids"): "bulk_action_invalid_ids",
    ("metadata", "out_of_range"): "max_bulk_actions_exceeded",
}

# What its callers can do about it, where that is not the same in other front ends.
_UNAUTHENTICATED = {
    "missing": "This call needs an API key: send Authorization: Token <key>.",
    "malformed": "The Authorization header must be: Token <key>.",
}
_DETAILS = {
    "tag_invalid": "There is no tag with one of these ids.",
    "audience_required": "The API key has no newsletter of its own: name one by Buttondown-Context, or make a key "
    "with an audience.",
}

_RESOURCES = {"contact": "subscriber"}
# The core's own names, where the vendor has others.
_PARAMETERS = {"limit": "page_size"}
_TYPES = {"invalid_value": "value_error", "out_of_range": "value_error", "unknown_audience": "value_error"}


def read_token(request: Request) -> str:
    """The key out of `Authorization: Token …`."""
    return read_authorization(request, "Token")


def render_error(error: AppError, _request_id: str) -> Response:
    """`{"code", "detail", "metadata"}`, or, for what is wrong with fields, 422 with a list in `detail`."""
    status, body = _rendered(error)
    return error_response(status, body, error, scheme="Token")


def _rendered(error: AppError) -> tuple[int, dict[str, object]]:
    match error:
        case Unreadable() | UnsupportedMediaType():
            # In the vendor's words, and without a code.
            return 400, {"detail": "Cannot parse request body"}
        case InvalidInput():
            return _invalid(error.errors)
        case Conflict():
            metadata = {name: str(value) for name, value in error.facts.items()}
            return 400, {"code": error.code, "detail": error.detail} | ({"metadata": metadata} if metadata else {})
        case Unauthenticated():
            code = "authentication_missing" if error.reason == "missing" else "authentication_invalid"
            return 401, {"code": code, "detail": _UNAUTHENTICATED.get(error.reason, error.detail)}
    status, code = _TABLE[type(error)]
    detail = error.detail
    if isinstance(error, NotFound):
        detail = f"There is no such {_RESOURCES.get(error.resource, error.resource)}."
    return status, {"code": code, "detail": detail}


def _invalid(errors: tuple[FieldError, ...]) -> tuple[int, dict[str, object]]:
    coded = [(error, code) for error in errors if (code := _code_of(error))]
    if len(coded) == len(errors):
        error, code = coded[0]
        # Ids in the core's words are no ids of this API.
        return 400, {"code": code, "detail": _DETAILS.get(code, error.detail)}
    # Where anything of the body has the wrong shape, the client is told of that first.
    shapes = [error for error in errors if not _code_of(error)]
    return 422, {
        "detail": [
            {
                "type": _TYPES.get(error.kind or error.code, error.kind or error.code),
                "loc": _loc(error.location),
                "msg": _DETAILS.get(error.code, error.detail),
            }
            for error in shapes
        ]
    }


def _code_of(error: FieldError) -> str | None:
    if error.kind in NAME_CODES:
        return error.kind
    if error.kind == "too_long" and error.location[1:] in (("metadata", "ids"), ("metadata", "tag_ids")):
        return "max_bulk_actions_exceeded"
    place = str(error.location[1]) if len(error.location) > 1 else ""
    return None if error.kind else _CODES.get((place, error.code))


def _loc(location: tuple[str | int, ...]) -> list[str | int]:
    source, *place = location
    if source == "body":
        return ["body", "payload", *place]
    return [source, *(_PARAMETERS.get(str(part), part) for part in place)]


def rate_headers(quota: Quota) -> dict[str, str]:
    """The vendor's three; its reset is Unix time."""
    return {
        "x-ratelimit-limit": str(quota.requests),
        "x-ratelimit-remaining": str(quota.remaining),
        "x-ratelimit-reset": str(quota.resets_at),
    }


BUTTONDOWN = FrontEnd(
    slug="buttondown",
    title="Polytag as Buttondown",
    mount="/buttondown",
    routers=(tags_router, subscribers_router, bulk_actions_router),
    read_token=read_token,
    render_error=render_error,
    # Whatever it is declared as: some clients declare nothing, others JSON where there is no body.
    parse_body=lambda _media_type, body: parse_json(body),
    one_audience=True,
    about=About(
        "Buttondown's API of tags, subscribers and bulk actions, over Polytag. A client written for Buttondown works "
        "after a change of its base URL and key. `Buttondown-Context` names another newsletter than the key's own.",
        security_schemes={
            "tokenAuth": {
                "type": "apiKey",
                "in": "header",
                "name": "Authorization",
                "description": "`Authorization: Token <key>`, the word included. A key begins with `ptag_`.",
            },
        },
        parameters=(CONTEXT_PARAMETER,),
        error_schema=ErrorOut,
        error_examples={
            UnsupportedMediaType: (UnsupportedMediaType("application/json", encoding="gzip"),),
            # Every call looks at the version.
            InvalidInput: (
                InvalidInput([FieldError(("body", "color"), "missing", "This is required.", "missing")]),
                refusal("api_version_invalid", "X-API-Version must be a date like 2026-04-01, not latest."),
            ),
            Duplicate: (
                refusal(
                    "name_already_exists",
                    "Another tag has this name.",
                    tag_id=TAG_ID,
                    remedy_header=f"{COLLISION_HEADER}: overwrite",
                ),
                refusal("email_already_exists", "Another subscriber has this email address."),
            ),
            Conflict: (
                refusal("bulk_action_invalid_ids", "metadata.ids is missing or empty."),
                refusal("max_bulk_actions_exceeded", "This must have at most 200 items."),
            ),
        },
    ),
    idempotency_header="X-Idempotency-Key",
    read_context=read_context,
    rate_headers=rate_headers,
)
