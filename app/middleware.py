"""What is around every request, as plain ASGI: its id, its public address, its time limit, the headers that keep
browsers from harm, its line in the log and in the metrics, and a net for faults.

`Edge` stands once around the whole service, `Net` around each front end. What they note about a request lies in
`scope["state"]`, which is the request's own copy of the lifespan state and reaches mounted applications.
"""

import asyncio
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from ipaddress import ip_address
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

import structlog
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import metrics
from app.errors import AppError, InternalError, SlowBody, Unavailable
from app.logs import mask_keys
from app.values import new_id

log = structlog.get_logger(__name__)
access_log = structlog.get_logger("app.access")

Render = Callable[[AppError, str], Response]

_ADDRESS_MAX_LENGTH = 60
_REQUEST_ID = re.compile(r"[\w-]{1,64}", re.ASCII)

# Nobody reads the answer of a request whose client went away; proxies log such a one with this status too.
_CLIENT_CLOSED_REQUEST = 499

# An answer that has one of these keeps its own.
_CACHE_CONTROL = (b"cache-control", b"no-store")
_CONTENT_SECURITY_POLICY = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")
_YIELDING = frozenset({_CACHE_CONTROL[0], _CONTENT_SECURITY_POLICY[0]})
_SAME_ORIGIN = (b"cross-origin-resource-policy", b"same-origin")
_SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
)
# To browsers only, and only where they came by TLS: two years, as their preload list wants.
_ONLY_TLS = (b"strict-transport-security", b"max-age=63072000")

# What a page of another origin may do where `Net` finds that it may call at all. `*` covers all headers but
# Authorization (Fetch standard, CORS protocol and HTTP responses).
_ANY_ORIGIN = (b"access-control-allow-origin", b"*")
_PREFLIGHT_HEADERS = {
    "Access-Control-Allow-Methods": "GET, HEAD, POST, PUT, PATCH, DELETE",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, *",
}


class Edge:
    """Gives a request its id, answers HEAD by what GET would say, limits the time, writes the access line, counts.

    It also adds what is left to the key of the request, to whatever is answered.

    With a public URL the request is what it was before the proxy took the URL's path away: `request.url`, and all that
    is made of it, is public, whatever the headers say.
    """

    def __init__(self, app: ASGIApp, *, timeout: float, public_url: str | None = None) -> None:
        self._app = app
        self._timeout = timeout
        public = urlsplit(public_url or "")
        self._origin = f"{public.scheme}://{public.netloc}" if public_url else ""
        self._scheme, self._host, self._prefix = public.scheme, public.netloc.encode(), public.path
        secured = (*_SECURITY_HEADERS, _ONLY_TLS) if public.scheme == "https" else _SECURITY_HEADERS
        self._headers = (*secured, _SAME_ORIGIN)
        self._cross_origin_headers = (*secured, _ANY_ORIGIN)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = perf_counter()
        status = 0
        method = scope["method"]
        is_head = method == "HEAD"
        if is_head:
            # A copy, since the server must go on seeing HEAD to frame the answer by it.
            scope = {**scope, "method": "GET"}
        if self._origin:
            scope = self._before_the_proxy(scope)
        request_id = _sent_request_id(scope) or new_id().hex
        state: dict[str, Any] = scope.setdefault("state", {})
        state["request_id"] = request_id
        state["origin"], state["prefix"] = self._origin, self._prefix
        id_header = (b"x-request-id", request_id.encode())

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = message.get("headers", ())
                headers = [*own, id_header, *(self._cross_origin_headers if "cross_origin" in state else self._headers)]
                names = _YIELDING.intersection([name for name, _ in own])
                if _CACHE_CONTROL[0] not in names:
                    headers.append(_CACHE_CONTROL)
                if _CONTENT_SECURITY_POLICY[0] not in names:
                    headers.append(_CONTENT_SECURITY_POLICY)
                if quota := state.get("quota"):
                    told = state["front_end"].rate_headers(quota).items()
                    headers += [(name.encode(), value.encode()) for name, value in told]
                message["headers"] = headers
            elif is_head:
                message = {**message, "body": b""}
            await send(message)

        tokens = structlog.contextvars.bind_contextvars(request_id=request_id)
        try:
            async with asyncio.timeout(self._timeout):
                await self._app(scope, receive, answer)
        except TimeoutError:
            if status or "front_end" not in state:
                raise
            error = SlowBody(self._timeout) if "reads_body" in state else _too_slow(self._timeout)
            state["error"] = type(error).__name__
            response = state["front_end"].render_error(error, request_id)
            if "reads_body" in state:
                # What is still to come of it would be taken for the next request.
                response.headers["Connection"] = "close"
            await response(scope, receive, answer)
        finally:
            unanswered = _CLIENT_CLOSED_REQUEST if state.get("client_closed") else 500
            _record(method, scope, state, status or unanswered, perf_counter() - started)
            structlog.contextvars.reset_contextvars(**tokens)

    def _before_the_proxy(self, scope: Scope) -> Scope:
        raw_path = scope.get("raw_path")
        return {
            **scope,
            "scheme": self._scheme,
            "headers": [(b"host", self._host), *(header for header in scope["headers"] if header[0] != b"host")],
            "root_path": self._prefix,
            "path": self._prefix + scope["path"],
            "raw_path": raw_path and self._prefix.encode() + raw_path,
        }


class Net:
    """Turns what nobody foresaw into the front end's own answer, so that the connection lives on.

    `notes` are laid into the request's state, where everything below finds out which front end it serves. Below the
    path `cross_origin`, pages of any origin may call: their browsers ask first, without a key.
    """

    def __init__(
        self, app: ASGIApp, *, notes: Mapping[str, object], render: Render, cross_origin: str | None = None
    ) -> None:
        self._app = app
        self._notes = notes
        self._render = render
        self._cross_origin = cross_origin

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state: dict[str, Any] = scope.setdefault("state", {})
        state.update(self._notes)
        if self._cross_origin is not None and path_below_mount(scope).startswith(self._cross_origin):
            state["cross_origin"] = True
            if scope["method"] == "OPTIONS" and _asks_for_method(scope):
                await Response(None, 204, _PREFLIGHT_HEADERS)(scope, receive, send)
                return
        answered = False

        async def answer(message: Message) -> None:
            nonlocal answered
            answered = True
            await send(message)

        try:
            await self._app(scope, receive, answer)
        except ClientDisconnect:
            # Nobody is there to be answered. A mounted application would make a fault of it, were it raised.
            state["client_closed"] = True
        except Exception:
            if answered:
                # Half an answer cannot be taken back: the server closes the connection, so that the client notices.
                raise
            log.exception("unhandled error", route=route_of(scope))
            response = self._render(InternalError(), state.get("request_id", ""))
            await response(scope, receive, send)


def route_of(scope: Scope) -> str | None:
    """The template of the API route that was taken, with the mount in front, without what a proxy takes away.

    None where none was taken.

    The path itself is not for logs: it may hold an address, and would give metrics as many labels as there are ids.
    """
    state = scope["state"]
    template: str | None = state.get("route") or getattr(scope.get("route"), "path_format", None)
    return None if template is None else scope.get("root_path", "").removeprefix(state.get("prefix", "")) + template


def path_below_mount(scope: Scope) -> str:
    """The path as the front end knows it."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def _asks_for_method(scope: Scope) -> bool:
    """Whether it is a preflight. Any other OPTIONS is a request like all others."""
    return any(name == b"access-control-request-method" for name, _ in scope["headers"])


def _sent_request_id(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            text = value.decode("latin-1")
            # A key would be written down with whatever the request changes.
            return text if _REQUEST_ID.fullmatch(text) and mask_keys(text) == text else None
    return None


def _too_slow(timeout: float) -> Unavailable:
    return Unavailable(
        f"The request took longer than {timeout:g} seconds and was stopped. If it changes something, whether it did "
        "is not known. Repeating it does no harm.",
        retry_after=2,
    )


def _client_ip(scope: Scope) -> str | None:
    client = scope.get("client")
    return _address(client[0][:_ADDRESS_MAX_LENGTH]) if client else None


@lru_cache(maxsize=1_000)
def _address(text: str) -> str | None:
    """An IP address. A proxy may pass on anything that claims to be one; what is none is left out."""
    try:
        # Without the zone of an IPv6 address, which is free text.
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    # Where one socket listens for both versions, clients of the older one have addresses of the newer.
    return str((address.version == 6 and address.ipv4_mapped) or address)


def _record(method: str, scope: Scope, state: Mapping[str, Any], status: int, seconds: float) -> None:
    """The access line, and the metrics of a request."""
    principal = state.get("principal")
    front_end = state.get("front_end")
    route = route_of(scope)
    metrics.count_request(front_end.slug if front_end else metrics.OTHER, method, route, status, seconds)
    if status >= 500:
        write = access_log.warning
    elif principal is None and status < 400:
        # Probes, the docs page and the like would be most of the log.
        write = access_log.debug
    else:
        write = access_log.info
    write(
        "request",
        method=method,
        route=route,
        status=status,
        error=state.get("error"),
        duration_ms=round(seconds * 1000, 1),
        front_end=front_end.slug if front_end else None,
        workspace=principal.workspace if principal else None,
        client=principal.client if principal else None,
        client_ip=_client_ip(scope),
    )
