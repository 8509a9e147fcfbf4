"""The OpenAPI document of a front end: what FastAPI knows of its routes, and what holds for all of them.

FastAPI describes parameters, bodies and successful answers. What `Route` does around a handler it cannot see: keys and
scopes, errors in the front end's own form, idempotency keys, and headers. These are written in here, from the same
facts, constants and functions that are in force when a request comes.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

from fastapi import FastAPI
from pydantic.json_schema import models_json_schema
from starlette.responses import Response

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
    NotFound,
    PreconditionFailed,
    RateLimited,
    SlowBody,
    StillRunning,
    TooLarge,
    Unauthenticated,
    Unavailable,
    Unreadable,
    UnsupportedMediaType,
)
from app.frontend import NEEDED, FrontEnd, Route, Router, header_parameters, query_parameters, terms_of
from app.idempotency import KEY_MAX_LENGTH, KEY_PATTERN
from app.rate_limits import Quota

Json = dict[str, Any]

_ID = UUID("01a204bb-3ba7-739e-b83c-af5ad6ee37f6")
_REQUEST_ID = "01a204bb3ba7739eb83caf5ad6ee37f6"

# An error of each kind as it looks, and when it comes. What a front end says of them is in the document.
_EXAMPLES: dict[type[AppError], tuple[AppError, str]] = {
    Unauthenticated: (Unauthenticated("invalid"), "There is no key, or none that is good."),
    Forbidden: (Forbidden(["tags:write"]), "The key lacks a scope."),
    NotFound: (NotFound("tag", _ID), "There is no such object in the key's workspace."),
    Unreadable: (Unreadable("The body is not valid JSON: Expecting value at line 1, column 1."), "No JSON in UTF-8."),
    UnsupportedMediaType: (
        UnsupportedMediaType("text/plain"),
        "The body has a type, or an encoding, that is not read.",
    ),
    TooLarge: (TooLarge(1_048_576), "The body is larger than the service takes."),
    SlowBody: (SlowBody(30), "The body did not come in time. Nothing was written."),
    InvalidInput: (
        InvalidInput([FieldError(("query", "limit"), "out_of_range", "This must be at most 1000.")]),
        "Something in the request breaks a rule. Nothing was written.",
    ),
    InvalidCursor: (InvalidCursor(), "The cursor is damaged, or belongs to another list."),
    Duplicate: (Duplicate("tag", "name", "VIP", _ID), "Another object has the value."),
    Conflict: (
        Conflict("tag_in_use", "3 contacts carry the tag.", contact_count=3),
        "The state of the object does not allow it.",
    ),
    PreconditionFailed: (PreconditionFailed("tag"), "The object was changed since. Nothing was written."),
    IdempotencyKeyReused: (IdempotencyKeyReused(), "The idempotency key belongs to another request."),
    StillRunning: (StillRunning(), "The first request with this idempotency key has not ended."),
    RateLimited: (RateLimited("The key asks more often than it may."), "The key asks more often than it may."),
    Unavailable: (
        Unavailable("All database connections are in use. Nothing was written."),
        "The database is away, busy or too slow. Try again after `Retry-After` seconds.",
    ),
    InternalError: (InternalError(), "A fault of the service, which its log tells more of."),
}

_SCHEMA = "#/components/schemas/{model}"
_CONTACT = {"name": "The operator of this service"}
_LICENSE = {"name": "Proprietary", "identifier": "LicenseRef-Proprietary"}

_HEADERS: Json = {
    "X-Request-Id": {
        "description": "The id of the request: the one that was sent, if it was fit, else a new one. The log has it.",
        "schema": {"type": "string", "pattern": r"^[\w-]{1,64}$"},
        "example": _REQUEST_ID,
    },
    "ETag": {
        "description": "What this state is known by, for `If-None-Match` and `If-Match`.",
        "schema": {"type": "string"},
        "example": '"3-12"',
    },
    "RateLimit-Policy": {
        "description": "How many requests the key may make (`q`) in how many seconds (`w`).",
        "schema": {"type": "string"},
        "example": '"default";q=10000;w=10',
    },
    "RateLimit": {
        "description": "How many requests are left to the key (`r`), and for how many seconds (`t`).",
        "schema": {"type": "string"},
        "example": '"default";r=9999;t=7',
    },
    "X-RateLimit-Limit": {
        "description": "How many requests the key may make in a window.",
        "schema": {"type": "integer", "minimum": 1},
        "example": 10_000,
    },
    "X-RateLimit-Remaining": {
        "description": "How many requests are left to the key in this window.",
        "schema": {"type": "integer", "minimum": 0},
        "example": 9_999,
    },
    "X-RateLimit-Reset": {
        "description": "When the window ends: Unix time in seconds, or in TopMail's API a time as text.",
        "schema": {"type": ["integer", "string"]},
        "example": 1_800_000_010,
    },
    "Link": {
        "description": "Where there is a next page, its address (RFC 8288).",
        "schema": {"type": "string"},
        "example": '</tags?limit=100&cursor=…>; rel="next"',
    },
    "Location": {
        "description": "The address of the object.",
        "schema": {"type": "string"},
        "example": f"/tags/{_ID}",
    },
    "Retry-After": {
        "description": "In how many seconds to try again.",
        "schema": {"type": "integer", "minimum": 1},
        "example": 1,
    },
    "WWW-Authenticate": {
        "description": "The scheme of the key, and what is wrong with it (RFC 6750).",
        "schema": {"type": "string"},
        "example": 'Bearer error="invalid_token"',
    },
    "Idempotency-Replayed": {
        "description": "`true` in the answer to a repeat, which is the answer of the first request.",
        "schema": {"type": "string", "enum": ["true"]},
        "example": "true",
    },
}
_HEADERS_OF: dict[type[AppError], tuple[str, ...]] = {
    Unauthenticated: ("WWW-Authenticate",),
    Forbidden: ("WWW-Authenticate",),
    StillRunning: ("Retry-After",),
    RateLimited: ("Retry-After",),
    Unavailable: ("Retry-After",),
}


def describe(app: FastAPI, front_end: FrontEnd) -> None:
    """Let an application that `build` made serve this document at its `/openapi.json`."""
    plain = app.openapi
    complete: Json | None = None

    def openapi() -> Json:
        nonlocal complete
        if complete is None:
            complete = _Completion(front_end).of(plain())
        return complete

    app.openapi = openapi  # type: ignore[method-assign]


def routes_of(front_end: FrontEnd) -> list[Route]:
    """The routes of a front end, in the order in which they are tried."""
    return [route for router in front_end.routers for route in router.routes if isinstance(route, Route)]


def errors_of(route: Route) -> Sequence[type[AppError]]:
    """What may be the case when a call is refused."""
    terms = terms_of(route.endpoint)
    kinds: list[type[AppError]] = [InvalidInput, Unavailable, InternalError]
    if terms.scopes is not None:
        kinds += [Unauthenticated, RateLimited]
        if terms.scopes:
            kinds.append(Forbidden)
    if route.param_convertors:
        kinds.append(NotFound)
    if "cursor" in query_parameters(route.dependant):
        kinds.append(InvalidCursor)
    if route.body_field is not None:
        kinds += [Unreadable, UnsupportedMediaType, TooLarge, SlowBody]
    if terms.writes and route.methods and "GET" not in route.methods:
        kinds += [IdempotencyKeyReused, StillRunning]
    if b"if-match" in header_parameters(route.dependant):
        kinds.append(PreconditionFailed)
    return [*kinds, *(kind for kind in terms.raises if kind not in kinds)]


class _Completion:
    """What a front end's document needs beside what FastAPI writes."""

    def __init__(self, front_end: FrontEnd) -> None:
        if front_end.about is None:
            raise TypeError(f"the front end {front_end.slug} has nothing about itself")
        self._front_end = front_end
        self._about = front_end.about
        self._error_schema = {"$ref": f"#/components/schemas/{self._about.error_schema.__name__}"}
        # Without a limit (`off`) they are not sent.
        sent = front_end.rate_headers(Quota(requests=10_000, seconds=10, used=1, resets_at=1_800_000_010, resets_in=7))
        self._rate_headers = [name for name in _HEADERS if name.lower() in sent]
        # Most are those of many calls, and the document holds each once.
        self._error_responses: Json = {}

    def of(self, document: Json) -> Json:
        """The document, completed in place."""
        document["info"] |= {"description": self._about.text, "contact": _CONTACT, "license": _LICENSE}
        about = {router.tag: router.about for router in self._front_end.routers if isinstance(router, Router)}
        document["tags"] = [{"name": name, "description": text} for name, text in about.items()]
        for route in routes_of(self._front_end):
            for method in route.methods or ():
                self._complete(document["paths"][route.path_format][method.lower()], route)
        components: Json = document["components"]
        for name in ("HTTPValidationError", "ValidationError"):
            # FastAPI's own form of errors, which no front end has.
            components["schemas"].pop(name, None)
        _, definitions = models_json_schema([(self._about.error_schema, "serialization")], ref_template=_SCHEMA)
        components["schemas"] |= definitions["$defs"]
        components["responses"] = self._error_responses
        components["securitySchemes"] = dict(self._about.security_schemes)
        used = set(_references(document, "headers"))
        components["headers"] = {name: header for name, header in _HEADERS.items() if name in used}
        _tidy(document)
        _link(document)
        return document

    def _complete(self, operation: Json, route: Route) -> None:
        terms = terms_of(route.endpoint)
        operation["summary"], operation["description"] = _texts(route)
        operation["security"] = [] if terms.scopes is None else [{name: []} for name in self._about.security_schemes]
        responses = operation["responses"]
        responses.pop("422", None)
        if terms.scopes is not None and self._about.parameters:
            operation.setdefault("parameters", []).extend(map(dict, self._about.parameters))
        kinds = errors_of(route)
        headers = ["X-Request-Id", *(self._rate_headers if terms.scopes is not None else ())]
        if StillRunning in kinds:
            operation.setdefault("parameters", []).append(self._idempotency_parameter())
            headers.append("Idempotency-Replayed")
        conditions = header_parameters(route.dependant) & {b"if-match", b"if-none-match"}
        if b"if-none-match" in conditions:
            responses["304"] = {"description": "It is as the ETag that was sent says."}
        if conditions and "204" not in responses:
            headers.append("ETag")
        for response in responses.values():
            response["headers"] = response.get("headers", {}) | _headers(*headers)
        operation["responses"] = dict(
            sorted((responses | self._refusals(kinds, is_counted=terms.scopes is not None)).items())
        )

    def _refusals(self, kinds: Sequence[type[AppError]], *, is_counted: bool) -> Json:
        """References to the answers that say these errors, by status."""
        by_status: dict[str, list[tuple[type[AppError], Response]]] = {}
        for kind in kinds:
            for error in self._about.error_examples.get(kind, (_EXAMPLES[kind][0],)):
                rendered = self._front_end.render_error(error, _REQUEST_ID)
                by_status.setdefault(str(rendered.status_code), []).append((kind, rendered))
        references = {}
        for status, rendered_kinds in by_status.items():
            name = "".join(dict.fromkeys(kind.__name__ for kind, _ in rendered_kinds)) + status
            # A key that is not good is not counted, either; one that is good and in the wrong place is.
            has_quota = is_counted and (status != "401" or self._front_end.read_context is not None)
            headers = self._rate_headers if has_quota else []
            if not is_counted:
                name += "WithoutKey"
            self._error_responses.setdefault(name, self._refusal(rendered_kinds, headers))
            references[status] = {"$ref": f"#/components/responses/{name}"}
        return references

    def _refusal(self, rendered_kinds: Sequence[tuple[type[AppError], Response]], more_headers: Sequence[str]) -> Json:
        """One answer, for all errors of a status, with an example of each."""
        kinds = list(dict.fromkeys(kind for kind, _ in rendered_kinds))
        headers = dict.fromkeys(name for kind in kinds for name in ("X-Request-Id", *_HEADERS_OF.get(kind, ())))
        examples: dict[str, Json] = {}
        for kind, rendered in rendered_kinds:
            name = _in_snake_case(kind.__name__)
            number = 1 + sum(other.partition("__")[0] == name for other in examples)
            examples[name if number == 1 else f"{name}__{number}"] = {"value": json.loads(bytes(rendered.body))}
        media_type = (rendered_kinds[0][1].media_type or "").partition(";")[0]
        return {
            "description": " ".join(_EXAMPLES[kind][1] for kind in kinds),
            "headers": _headers(*headers, *more_headers),
            "content": {media_type: {"schema": self._error_schema, "examples": examples}},
        }

    def _idempotency_parameter(self) -> Json:
        return {
            "name": self._front_end.idempotency_header,
            "in": "header",
            "required": False,
            "description": "A text made up for this request, such as a UUID. A repeat with the same text within 24 "
            "hours changes nothing and gets the first answer.",
            # In the schema. Beside it, /docs would send it with every call, and a key is good for one.
            "schema": {
                "type": "string",
                "minLength": 1,
                "maxLength": KEY_MAX_LENGTH,
                "pattern": KEY_PATTERN,
                "examples": ["6f1c0a52-b4f5-4a7e-9d53-7a1f2f1d0c11"],
            },
        }


def _texts(route: Route) -> tuple[str, str]:
    """Summary and description of a call, from its docstring and its terms."""
    first, _, rest = (route.endpoint.__doc__ or "").strip().partition("\n")
    scopes = terms_of(route.endpoint).scopes
    if scopes:
        needs = f"Needs the scope {' and '.join(f'`{scope}`' for scope in scopes)}."
    else:
        needs = "Needs no key." if scopes is None else "Any good key will do."
    # Markdown has its line ends elsewhere.
    paragraphs = [" ".join(part.split()) for part in rest.strip().split("\n\n")]
    return first.partition(". ")[0].removesuffix("."), "\n\n".join(part for part in (first, *paragraphs, needs) if part)


def _headers(*names: str) -> Json:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _in_snake_case(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def _references(value: object, kind: str) -> Iterator[str]:
    """The names of all components of a kind that are referred to."""
    if isinstance(value, Mapping):
        reference = value.get("$ref")
        if isinstance(reference, str) and reference.startswith(f"#/components/{kind}/"):
            yield reference.rpartition("/")[2]
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    for one in inner:
        yield from _references(one, kind)


def _tidy(document: Json) -> None:
    """Take away what FastAPI and pydantic add and the code does not mean."""
    for path in document["paths"].values():
        for operation in path.values():
            for parameter in operation.get("parameters", ()):
                # Left out is not null: there is no null in a query or a header.
                schema = parameter["schema"] = _without_null(parameter["schema"])
                if schema.pop(NEEDED, False):
                    parameter["required"] = True
                if schema.get("default") == "":
                    # Nor does anybody send an empty text on purpose: it is as good as left out.
                    del schema["default"]
                if schema.get("description") == parameter.get("description"):
                    schema.pop("description", None)
            for media in operation.get("requestBody", {}).get("content", {}).values():
                # A body that may be left out is not null either.
                media["schema"] = _without_null(media["schema"])
    _tidy_schemas(document["paths"])
    _tidy_schemas(document["components"])


def _link(document: Json) -> None:
    """Say which calls take what a call answers of the object that it makes: those whose path goes on with its id, such
    as `GET /tags/{tag_id}` after `POST /tags`."""
    schemas = document["components"]["schemas"]
    for made_at, made_by in document["paths"].items():
        goes_on = re.compile(re.escape(made_at) + r"/\{(\w+)\}[^{}]*")
        for status in ("200", "201"):
            response = made_by.get("post", {}).get("responses", {}).get(status, {})
            schema = response.get("content", {}).get("application/json", {}).get("schema", {})
            links = {
                operation["operationId"]: {
                    "operationId": operation["operationId"],
                    "parameters": {found[1]: f"$response.body#{place}"},
                }
                for path, operations in document["paths"].items()
                if (found := goes_on.fullmatch(path)) and (place := _place_of(found[1], schema, schemas))
                for operation in operations.values()
            }
            if links:
                response["links"] = links


def _place_of(name: str, schema: Json, schemas: Json) -> str | None:
    """Where an answer has what a path calls by this name, as a JSON pointer: its id, if nothing else. Some answers have
    the object in `data`."""
    properties = schemas.get(schema.get("$ref", "").rpartition("/")[2], schema).get("properties", {})
    for one in (name, "id"):
        if one in properties:
            return f"/{one}"
    inner = properties.get("data", {})
    return f"/data{place}" if "$ref" in inner and (place := _place_of(name, inner, schemas)) else None


def _without_null(schema: Json) -> Json:
    branches = [branch for branch in schema.get("anyOf", ()) if branch != {"type": "null"}]
    rest = {name: value for name, value in schema.items() if name != "anyOf"}
    if not branches:
        return schema
    return {**branches[0], **rest} if len(branches) == 1 else {**rest, "anyOf": branches}


def _tidy_schemas(value: object) -> None:
    """Take away titles that only repeat a name, and write limits of whole numbers as such, which FastAPI does not.

    A property may be called `title`; then its value is no text.
    """
    if isinstance(value, dict):
        if isinstance(value.get("title"), str):
            del value["title"]
        for name in ("minimum", "maximum"):
            limit = value.get(name)
            if isinstance(limit, float) and limit.is_integer():
                value[name] = int(limit)
        for name, inner in value.items():
            if name not in {"example", "examples", "value"}:
                _tidy_schemas(inner)
    elif isinstance(value, list):
        for inner in value:
            _tidy_schemas(inner)
