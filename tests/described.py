"""Whether answers are as the OpenAPI documents say. Every client of the tests asks, for each answer that it gets."""

from functools import cache
from typing import Any

import httpx
from jsonschema_rs import Draft202012Validator as Validator

from app.frontend import FrontEnd, Route
from app.main import FRONT_ENDS
from app.openapi import routes_of
from tests.documents import document_of, resolved

# What callers act by, beside the body.
_HEADERS = {
    *("etag", "idempotency-replayed", "link", "location", "retry-after", "www-authenticate", "x-request-id"),
    *("ratelimit-policy", "ratelimit", "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"),
}


def route_of(method: str, path: str) -> tuple[FrontEnd, Route] | None:
    """The front end that a path is of, and the route that serves the call."""
    for front_end in reversed(FRONT_ENDS.values()):
        if front_end.mount and not path.startswith(front_end.mount + "/"):
            continue
        below = path.removeprefix(front_end.mount)
        for route in _routes(front_end.slug):
            if method in (route.methods or ()) and route.path_regex.match(below):
                return front_end, route
        if front_end.mount:
            return None
    return None


@cache
def _routes(slug: str) -> tuple[Route, ...]:
    return tuple(routes_of(FRONT_ENDS[slug]))


def check(response: httpx.Response) -> None:
    """Fail if the answer's status, media type or body is not in the document of the front end that gave it."""
    request = response.request
    method = "GET" if request.method == "HEAD" else request.method
    found = route_of(method, request.url.path)
    if found is None or "urn:polytag:problem:route_not_found" in response.text:
        # Also where the front end is not served.
        return
    front_end, route = found
    call = f"{method} {front_end.mount}{route.path_format} answered {response.status_code}"
    described = _response(front_end.slug, route.path_format, method.lower(), response.status_code)
    assert described is not None, f"{call}, which its document does not tell of: {response.text[:300]}"
    for name in _HEADERS & {name.lower() for name in response.headers}:
        named = {name.lower() for name in described.get("headers", {})}
        assert name in named, f"{call} with the header {name}, which its document does not tell of"
    if request.method == "HEAD" or not response.content:
        assert request.method == "HEAD" or not described.get("content"), f"{call} without the body that is described"
        return
    media_type = response.headers.get("content-type", "").partition(";")[0]
    assert media_type in described.get("content", {}), f"{call} as {media_type}, which its document does not tell of"
    if not media_type.endswith("json"):
        return
    validator = _validator(front_end.slug, route.path_format, method.lower(), response.status_code, media_type)
    for error in validator.iter_errors(response.json()):
        raise AssertionError(f"{call} with a body that its document does not describe: {error.message[:600]}")


@cache
def _response(slug: str, path: str, method: str, status: int) -> dict[str, Any] | None:
    described: dict[str, Any] | None = resolved(
        slug, document_of(slug)["paths"][path][method]["responses"].get(str(status))
    )
    return described


@cache
def _validator(slug: str, path: str, method: str, status: int, media_type: str) -> Validator:
    described = _response(slug, path, method, status)
    assert described is not None
    return validator_of(slug, described["content"][media_type]["schema"])


def validator_of(slug: str, schema: Any) -> Validator:
    """What tells whether a value is as a schema of this front end's document says."""
    # References lead to the components, from wherever they stand.
    return Validator({**schema, "components": document_of(slug)["components"]}, validate_formats=True)
