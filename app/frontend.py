"""What a front end is, and the one way in and out that all of them share.

A front end (the native API, or a vendor's dialect) is a folder with routes, a way to read a key and a way to say an
error. `build` makes an application of it: exception handlers belong to an application, not to a router.

The way in is `Route`: authenticate, count, check scopes, read the body, and only then let FastAPI validate. The way out
is one `AppError`, whatever was wrong, rendered by the front end.
"""

import json
import re
from base64 import b64encode
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from itertools import islice
from typing import Any, TypeVar
from urllib.parse import unquote_to_bytes
from uuid import UUID

from fastapi import APIRouter, FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.routing import APIRoute, iter_route_contexts
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Mount
from starlette.routing import Route as StarletteRoute
from starlette.types import Lifespan

from app.bodies import parse_declared_json
from app.errors import (
    AppError,
    FieldError,
    Forbidden,
    InternalError,
    InvalidInput,
    MethodNotAllowed,
    NotFound,
    RateLimited,
    RouteNotFound,
    StillRunning,
    TooLarge,
    Unauthenticated,
    Unavailable,
    Unreadable,
    UnsupportedMediaType,
)
from app.idempotency import Idempotency, has_key
from app.logs import mask_keys, shown
from app.middleware import Net, path_below_mount
from app.rate_limits import Quota
from app.repositories.base import Principal
from app.schemas.base import WITHOUT_NUL, UnionBranch
from app.turns import SMALL_BYTES, Turns
from app.values import COLOR_PATTERN, SCOPES

LISTED_ERRORS_MAX = 100
# The longest call there is, three lists of a hundred slugs, has 40,000 bytes. The one with the most parameters is
# SendPortal's removal of 1,000 tags.
QUERY_MAX_BYTES = 49_152
QUERY_PARAMETERS_MAX = 2_000

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])
Authenticate = Callable[[str], Awaitable[Principal]]
# From the media type that is declared, if any, and the bytes, of which there are some. Raises what is wrong with them.
ParseBody = Callable[[str | None, bytes], object]
# From whoever the key belongs to, and what the request says beside it.
ReadContext = Callable[[Request, Principal], Awaitable[Principal]]


def standard_rate_headers(quota: Quota) -> dict[str, str]:
    """What is left to a key, as draft-ietf-httpapi-ratelimit-headers-10 has it."""
    return {
        "ratelimit-policy": f'"default";q={quota.requests};w={quota.seconds}',
        "ratelimit": f'"default";r={quota.remaining};t={quota.resets_in}',
    }


@dataclass(frozen=True, slots=True)
class About:
    """What the OpenAPI document says of a front end, beside what it says of the routes.

    `security_schemes` are OpenAPI's own, by name: each is one way to send a key. `error_schema` is the form of all
    errors. `error_examples` are errors of the kinds that have other statuses or forms here than one would think, one of
    each; none of them for a kind that cannot be here. `parameters` are OpenAPI's own, too: what `read_context` reads of
    every call with a key.
    """

    text: str
    security_schemes: Mapping[str, Mapping[str, object]]
    error_schema: type[BaseModel]
    error_examples: Mapping[type[AppError], tuple[AppError, ...]] = field(default_factory=dict)
    parameters: tuple[Mapping[str, object], ...] = ()


@dataclass(frozen=True, slots=True)
class FrontEnd:
    """A manifest: everything by which one front end differs from another before any of its routes is taken."""

    slug: str
    title: str
    # "" for the native one, which is the application that the others are mounted on.
    mount: str
    routers: tuple[APIRouter, ...]
    # Raises Unauthenticated("missing" or "malformed").
    read_token: Callable[[Request], str]
    # Takes the error and the request id.
    render_error: Callable[[AppError, str], Response]
    # A misspelt condition (`if_unsed=true`) must not be taken for none. Vendors' clients may send what we do not know.
    strict_query: bool = False
    parse_body: ParseBody = parse_declared_json
    # Callers see the audience of their key and nothing else, as if the workspace had no other: the vendors whose paths
    # name none. Repositories are born with that limit, so that no handler can forget it.
    one_audience: bool = False
    # The header by which a repeat of a writing call is known as one.
    idempotency_header: str = "Idempotency-Key"
    # What its OpenAPI document says beside its routes.
    about: About | None = None
    # For a header that names another audience than the key's own. What comes back is who asks, and where.
    read_context: ReadContext | None = None
    # Headers of every answer to a request that was counted, by names in lower case.
    rate_headers: Callable[[Quota], Mapping[str, str]] = standard_rate_headers
    # The path below the mount where pages of any origin may call, without credentials of the browser (CORS).
    cross_origin: str | None = None


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """The largest bodies, in bytes: of calls in general, and of those that take lists of contacts."""

    default: int
    bulk: int


@dataclass(frozen=True, slots=True)
class Terms:
    """On what terms a route is served: without a key where scopes are None, and how large its body may be.

    `native` is the call of the native API that does the same, for those who leave a dialect. `raises` has the errors
    that are this call's own, beside those that all of its kind have. `shown_once` is the member of the answer that is
    not kept for repeats.
    """

    scopes: tuple[str, ...] | None
    bulk: bool = False
    native: str | None = None
    raises: tuple[type[AppError], ...] = ()
    shown_once: str | None = None

    @property
    def writes(self) -> bool:
        """Whether the call may change something."""
        return any(scope == "admin" or scope.endswith(":write") for scope in self.scopes or ())


def requires(
    *scopes: str,
    bulk: bool = False,
    native: str | None = None,
    raises: tuple[type[AppError], ...] = (),
    shown_once: str | None = None,
) -> Callable[[Endpoint], Endpoint]:
    """The scopes that a handler needs, all of them; none of them means that any good key will do.

    `bulk` lets its body have the size of lists of contacts; `native` tells a dialect's guide which native call does the
    same; `raises` tells the OpenAPI document of errors that are this call's own, such as Duplicate; `shown_once` names
    what a repeat is not told again. Write it below the router's decorator.
    """
    if unknown := set(scopes) - set(SCOPES):
        raise ValueError(f"no such scope: {unknown}")
    return _mark(Terms(scopes, bulk, native, raises, shown_once))


def public(endpoint: Endpoint) -> Endpoint:
    """A handler that is served without a key."""
    return _mark(Terms(None))(endpoint)


def terms_of(endpoint: Callable[..., Any]) -> Terms:
    """The terms a handler was marked with. There is no default, so none is open by mistake."""
    terms = vars(endpoint).get("terms")
    if not isinstance(terms, Terms):
        raise TypeError(f"{endpoint.__qualname__} is marked neither with @requires nor with @public")
    return terms


def _mark(terms: Terms) -> Callable[[Endpoint], Endpoint]:
    def mark(endpoint: Endpoint) -> Endpoint:
        vars(endpoint)["terms"] = terms
        return endpoint

    return mark


_NO_AUDIENCE = FieldError(
    ("header", "Authorization"),
    "audience_required",
    "The API key has no default audience, and this API works in one: make a key with an audience.",
)


class Route(APIRoute):
    """A route that knows who asks before it reads what is asked. Routers of it are made by `new_router`."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:  # noqa: ANN401
        super().__init__(path, endpoint, **options)
        self.path_regex = _to_the_end(self.path_regex)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        validate_and_run = super().get_route_handler()
        terms = terms_of(self.endpoint)
        template = self.path_format
        parameters = frozenset(query_parameters(self.dependant))
        headers = header_parameters(self.dependant)
        conditions = _CONDITIONS - headers if "GET" not in (self.methods or ()) else None
        takes_body = self.body_field is not None
        takes_key = terms.writes and "GET" not in (self.methods or ())
        if takes_body and "GET" in (self.methods or ()):
            raise TypeError(f"{self.endpoint.__qualname__}: the body of a GET request is ignored")
        if takes_body and terms.scopes is None:
            raise TypeError(f"{self.endpoint.__qualname__}: whoever sends a body has a key, which it counts for")

        async def handle(request: Request) -> Response:
            state = request.scope["state"]
            state["route"] = template
            # Before anything is parsed of it, as some vendors' keys stand there.
            if query := request.scope["query_string"]:
                _check_size(query)
            if terms.scopes is None:
                check(request)
                return await validate_and_run(request)
            await _admit(request, terms.scopes)
            turns: Turns = state["turns"]
            key_id: UUID = state["principal"].key_id
            if not takes_body:
                if len(query) <= SMALL_BYTES:
                    check(request)
                    return await run(request, b"")

                async def begin() -> Response:
                    check(request)
                    return await run(request, b"")

                return await turns.take(key_id, 0, begin)
            check(request)
            limits: BodyLimits = state["body_limits"]
            with state["bodies"].of(key_id) as take:
                state["reads_body"] = True
                body = await _read_body(request, limits.bulk if terms.bulk else limits.default, take)
                del state["reads_body"]

                async def parse_and_run() -> Response:
                    return await run(_parse_body(request, body), body)

                if len(body) <= SMALL_BYTES:
                    return await parse_and_run()
                return await turns.take(key_id, len(body), parse_and_run)

        def check(request: Request) -> None:
            if request.scope["query_string"]:
                _check_query(request, parameters)
            if conditions:
                _check_conditions(request, conditions)

        async def run(request: Request, body: bytes) -> Response:
            state = request.scope["state"]
            if takes_key and has_key(request):
                idempotency: Idempotency = state["idempotency"]
                return await idempotency.run(
                    request, body, validate_and_run, headers=headers, shown_once=terms.shown_once
                )
            async with state["shares"].of(state["principal"].key_id):
                return await validate_and_run(request)

        return handle


async def _admit(request: Request, scopes: tuple[str, ...]) -> None:
    """Find out who asks, and where. Raises what keeps the key from this call."""
    state = request.scope["state"]
    front_end: FrontEnd = state["front_end"]
    principal: Principal = await state["authenticate"](front_end.read_token(request))
    state["principal"] = principal
    if (rate_limits := state["rate_limits"]) is not None:
        quota = state["quota"] = await rate_limits.hit(principal.key_id)
        quota.check()
    if front_end.read_context is not None:
        principal = state["principal"] = await front_end.read_context(request, principal)
    if missing := principal.missing_scopes(scopes):
        raise Forbidden(missing)
    if front_end.one_audience and principal.audience is None:
        raise InvalidInput([_NO_AUDIENCE])


def _to_the_end(pattern: re.Pattern[str]) -> re.Pattern[str]:
    # The framework's own pattern lets a newline stand behind the path's end.
    return re.compile(pattern.pattern.removesuffix("$") + r"\Z")


class Router(APIRouter):
    """The calls about one thing. Made by `new_router`."""

    tag: str
    about: str


def new_router(tag: str, about: str = "") -> Router:
    """A router for the calls about one thing, which the OpenAPI document describes in these words.

    The names of its calls there are the handlers' own.
    """
    router = Router(route_class=Route, tags=[tag], generate_unique_id_function=lambda route: route.name)
    router.tag, router.about = tag, about
    return router


def build(
    front_end: FrontEnd,
    *,
    version: str,
    body_limits: BodyLimits,
    lifespan: Lifespan[FastAPI] | None = None,
    middleware: tuple[Middleware, ...] = (),
    public_url: str | None = None,
) -> FastAPI:
    """The application of a front end: the service itself for the native one, else one to be mounted on it.

    `public_url` is the service's, for the documents that describe it.
    """

    async def render(request: Request, error: Exception) -> Response:
        fact = _fact(request, error)
        state = request.scope["state"]
        # For the access line. Not the detail, which may name a person.
        state["error"] = type(fact).__name__
        return front_end.render_error(fact, state.get("request_id", ""))

    base = (public_url or "") + front_end.mount
    app = FastAPI(
        title=front_end.title,
        version=version,
        # The framework knows of the mount during a request only.
        servers=[{"url": base or "/"}],
        root_path_in_servers=False,
        lifespan=lifespan,
        redirect_slashes=False,
        # Its page is ours, see _add_docs.
        docs_url=None,
        redoc_url=None,
        # The last is for what not even Net caught: its own faults and those of what is around it.
        exception_handlers={AppError: render, RequestValidationError: render, HTTPException: render, Exception: render},
        middleware=[
            *middleware,
            Middleware(
                Net,
                notes={"front_end": front_end, "body_limits": body_limits},
                render=front_end.render_error,
                cross_origin=front_end.cross_origin,
            ),
        ],
        # FastAPI's own would record whole query strings, hence search terms and keys, as soon as an SDK is installed.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    _add_docs(app)
    for router in front_end.routers:
        for route in router.routes:
            if not isinstance(route, Route):
                raise TypeError(f"{route} would be served without a key: make its router by new_router()")
            # Not by include_router, which matches each route twice and costs more than our handlers do.
            app.router.routes.append(route)
    return app


_DOCS_SCRIPT = "https://cdn.jsdelivr.net/npm/swagger-ui-dist@5/swagger-ui-bundle.js"
_DOCS_STYLE = "https://cdn.jsdelivr.net/npm/swagger-ui-dist@5/swagger-ui.css"
_DOCS_ICON = "data:,"


def _add_docs(app: FastAPI) -> None:
    """The page that shows the OpenAPI document, under a policy that lets it run what it is made of and nothing else."""

    async def docs(request: Request) -> Response:
        page = get_swagger_ui_html(
            openapi_url=request.scope.get("root_path", "").rstrip("/") + app.openapi_url,
            title=app.title,
            swagger_js_url=_DOCS_SCRIPT,
            swagger_css_url=_DOCS_STYLE,
            swagger_favicon_url=_DOCS_ICON,
        )
        inline = [f"'sha256-{b64encode(sha256(text).digest()).decode()}'" for text in _INLINE_SCRIPT.findall(page.body)]
        page.headers["Content-Security-Policy"] = "; ".join(
            [
                "default-src 'none'",
                f"script-src {' '.join(inline)} {_DOCS_SCRIPT}",
                # Swagger UI writes styles into what it draws.
                f"style-src 'unsafe-inline' {_DOCS_STYLE}",
                "img-src data:",
                # The document, and the calls that one tries.
                "connect-src 'self'",
                "base-uri 'none'",
                "form-action 'none'",
                "frame-ancestors 'none'",
            ]
        )
        return page

    app.add_route("/docs", docs, include_in_schema=False)
    for route in app.router.routes:
        if isinstance(route, StarletteRoute):
            route.path_regex = _to_the_end(route.path_regex)


_INLINE_SCRIPT = re.compile(rb"<script>(.*?)</script>", re.DOTALL)


def mount(service: FastAPI, front_end: FrontEnd, application: FastAPI) -> None:
    """Serve a front end below its mount, and with it all paths there are below it."""
    route = Mount(front_end.mount, application)
    # The framework's own pattern ends at a newline, behind which the path would be another front end's.
    route.path_regex = re.compile(route.path_regex.pattern.removesuffix("$") + r"\Z", re.DOTALL)
    service.router.routes.append(route)


def origin_of(request: Request) -> str:
    """Where the caller reached the service, for a vendor's links, which are absolute: `https://tags.example.com`.

    Without a public URL that is what the caller says itself, if it is a host.
    """
    origin: str = request.state.origin
    if origin:
        return origin
    host = request.headers.get("host", "")
    if not _HOST.fullmatch(host):
        name, port = request.scope.get("server") or ("localhost", None)
        host = f"{name}:{port}" if port else name
    return f"{request.scope['scheme']}://{host}"


_HOST = re.compile(r"[0-9A-Za-z._~-]+(:[0-9]+)?|\[[0-9A-Fa-f:.]+\](:[0-9]+)?")


# The way in: the query string and the body.

# Of the schema of a parameter that handlers ask for, where validation lets it be left out: the OpenAPI document says
# that it is required.
NEEDED = "x-needed"


def query_parameters(dependant: Dependant) -> set[str]:
    """The names of all parameters that a route takes in the query."""
    names = {field.alias for field in dependant.query_params}
    return names.union(*(query_parameters(inner) for inner in dependant.dependencies))


def _check_size(query: bytes) -> None:
    if len(query) > QUERY_MAX_BYTES:
        detail = f"The query has more than {QUERY_MAX_BYTES:,} bytes."
        raise InvalidInput([FieldError(("query",), "too_long", detail)])
    if query.count(b"&") >= QUERY_PARAMETERS_MAX:
        detail = f"The query has more than {QUERY_PARAMETERS_MAX:,} parameters."
        raise InvalidInput([FieldError(("query",), "too_many_fields", detail)])


def _check_query(request: Request, known: frozenset[str]) -> None:
    query: bytes = request.scope["query_string"]
    if b"%" in query:
        try:
            unquote_to_bytes(query).decode()
        except UnicodeDecodeError:
            # Starlette would put replacement characters there, and another text would be searched than was sent.
            raise InvalidInput([FieldError(("query",), "invalid_characters", "The query is not in UTF-8.")]) from None
    if request.scope["state"]["front_end"].strict_query and (unknown := request.query_params.keys() - known):
        raise InvalidInput(
            [
                FieldError(
                    ("query", shown(name)), "unknown_parameter", f"There is no query parameter {shown(name)} here."
                )
                for name in islice(sorted(unknown), LISTED_ERRORS_MAX)
            ]
        )


# Of a GET these only spare the answer. A write that does not look at them would do what its caller meant to prevent.
_CONDITIONS = frozenset({b"if-match", b"if-none-match"})


def header_parameters(dependant: Dependant) -> set[bytes]:
    """The names of all headers that a route takes, in lower case."""
    names = {field.alias.lower().encode() for field in dependant.header_params}
    return names.union(*(header_parameters(inner) for inner in dependant.dependencies))


def _check_conditions(request: Request, ignored: frozenset[bytes]) -> None:
    if sent := ignored.intersection([name for name, _ in request.scope["headers"]]):
        names = [name.decode().title() for name in sorted(sent)]
        raise InvalidInput(
            [
                FieldError(
                    ("header", name),
                    "unsupported_header",
                    f"This call does not look at {name}, so it would not be safe by it. Nothing was written.",
                )
                for name in names
            ]
        )


class _ParsedRequest(Request):
    """A request whose body was read and parsed; FastAPI takes both from here."""

    def __init__(self, request: Request, body: bytes, value: object) -> None:
        # Whatever it was declared as: the framework asks for the value only where it is called JSON.
        headers = [header for header in request.scope["headers"] if header[0] != b"content-type"]
        scope = {**request.scope, "headers": [*headers, (b"content-type", b"application/json")]}
        super().__init__(scope, request.receive)
        self._read = body
        self._value = value

    async def body(self) -> bytes:
        return self._read

    async def json(self) -> object:
        return self._value


async def _read_body(request: Request, limit: int, take: Callable[[int], None]) -> bytes:
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and (len(declared) > 18 or int(declared) > limit):
        raise TooLarge(limit)
    chunks = []
    size = 0
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise TooLarge(limit)
        take(len(chunk))
        chunks.append(chunk)
        if not message.get("more_body", False):
            break
    return b"".join(chunks)


def _parse_body(request: Request, body: bytes) -> Request:
    if not body:
        # Nothing to parse and nothing to declare: validation says that the body is missing.
        return _ParsedRequest(request, b"", None)
    media_type = request.headers.get("content-type")
    encoding = ", ".join(request.headers.getlist("content-encoding")) or "identity"
    if encoding.lower() != "identity":
        raise UnsupportedMediaType(media_type and shown(media_type), encoding=shown(encoding))
    parse: ParseBody = request.scope["state"]["front_end"].parse_body
    return _ParsedRequest(request, body, parse(media_type, body))


# The way out: whatever was wrong becomes a fact, which the front end renders with these.


def read_authorization(request: Request, scheme: str) -> str:
    """The key out of `Authorization: <scheme> <key>`, the scheme in any case."""
    header = request.headers.get("authorization")
    if header is None:
        raise Unauthenticated("missing")
    sent, _, token = header.partition(" ")
    token = token.strip()
    if sent.lower() != scheme.lower() or not token or " " in token:
        raise Unauthenticated("malformed")
    return token


def error_response(
    status: int, body: Mapping[str, object], error: AppError, *, scheme: str = "Bearer", media_type: str | None = None
) -> Response:
    """An answer that says an error, with the headers that HTTP has for it. `scheme` is that of `Authorization`."""
    # Neither a key nor half a surrogate pair leaves here, wherever the text came from.
    text = mask_keys(json.dumps(body, ensure_ascii=False, separators=(",", ":")))
    return Response(
        text.encode("utf-8", "replace"),
        status,
        headers=_headers_of(error, scheme),
        media_type=media_type or "application/json",
    )


def _headers_of(error: AppError, scheme: str) -> dict[str, str]:
    if isinstance(error, Unauthenticated):
        # RFC 6750: who sent nothing is told the scheme only.
        return {"WWW-Authenticate": scheme if error.reason == "missing" else f'{scheme} error="invalid_token"'}
    if isinstance(error, Forbidden):
        scopes = " ".join(error.missing_scopes)
        return {"WWW-Authenticate": f'{scheme} error="insufficient_scope", scope="{scopes}"'}
    if isinstance(error, MethodNotAllowed):
        return {"Allow": ", ".join(error.allowed)}
    if isinstance(error, Unavailable | StillRunning | RateLimited):
        return {"Retry-After": str(error.retry_after)}
    return {}


def _fact(request: Request, error: Exception) -> AppError:
    if isinstance(error, AppError):
        return error
    if isinstance(error, RequestValidationError):
        return _invalid(request, error)
    if isinstance(error, HTTPException):
        if error.status_code == 404:
            return RouteNotFound(shown(request.scope["path"]), below=shown(path_below_mount(request.scope)))
        if error.status_code == 405:
            return MethodNotAllowed(
                request.method, _allowed_methods(request), below=shown(path_below_mount(request.scope))
            )
        if error.status_code == 400:
            return Unreadable(error.detail)
    return InternalError()


def _allowed_methods(request: Request) -> list[str]:
    # The framework names the methods of the first route that matches the path only.
    path = path_below_mount(request.scope)
    methods: set[str] = set()
    for context in iter_route_contexts(request.app.routes):
        if context.methods and context.path_regex.match(path):
            methods |= context.methods
    if "GET" in methods:
        methods.add("HEAD")
    return sorted(methods)


def _invalid(request: Request, error: RequestValidationError) -> AppError:
    errors = error.errors()
    for item in errors:
        if item["loc"][0] == "path":
            # An id that cannot exist is answered as one that does not.
            name = str(item["loc"][1])
            return NotFound(name.removesuffix("_id").removesuffix("_slug"), shown(str(request.path_params.get(name))))
    listed = islice(errors, LISTED_ERRORS_MAX)
    return InvalidInput([replace(_field_error(item), kind=item["type"]) for item in listed])


def _field_error(item: Mapping[str, Any]) -> FieldError:
    kind: str = item["type"]
    location = tuple(
        shown(part) if isinstance(part, str) else part for part in item["loc"] if part not in _UNION_BRANCHES
    )
    if kind in _OWN_CODES:
        return FieldError(location, kind, shown(item["msg"]))
    if kind == "string_pattern_mismatch" and item["ctx"]["pattern"] == WITHOUT_NUL:
        return FieldError(location, "invalid_characters", "This must not contain NUL.")
    if kind == "string_pattern_mismatch" and item["ctx"]["pattern"] == COLOR_PATTERN:
        return FieldError(location, "invalid_value", "This must be a color like #1af or #11aaff.")
    if kind == "missing" and item["msg"] != "Field required":
        return FieldError(location, "missing", shown(item["msg"]))
    if kind == "missing" and len(location) == 1:
        return FieldError(location, "missing", "The body is missing.")
    facts = item.get("ctx", {})
    # What app/schemas/base.py raises by the library's own names is in our words already, and has other facts.
    if kind in _REWORDED and (kind not in _CODES or "field_type" in facts):
        code, detail = _REWORDED[kind]
        s = "" if 1 in (facts.get("min_length"), facts.get("max_length")) else "s"
        return FieldError(location, code, detail.format(**facts, s=s))
    if kind == "value_error":
        return FieldError(location, "invalid_value", shown(str(item["ctx"]["error"])))
    code = _CODES.get(kind) or ("invalid_type" if kind.endswith(("_type", "_parsing")) else "invalid_value")
    return FieldError(location, code, shown(item["msg"]))


_UNION_BRANCHES = frozenset(UnionBranch)

# What app/schemas/base.py raises with a code of the table already.
_OWN_CODES = frozenset(
    {"invalid_value", "invalid_characters", "too_many_fields", "too_large", "too_deep", "out_of_range", "not_together"}
)

_CODES = {
    "too_long": "too_long",
    "too_short": "too_short",
    "greater_than": "out_of_range",
    "less_than": "out_of_range",
    "datetime_parsing": "invalid_value",
    "datetime_from_date_parsing": "invalid_value",
}

_REWORDED = {
    "missing": ("missing", "This is required."),
    "extra_forbidden": ("unknown_field", "There is no such field."),
    "model_type": ("invalid_type", "This must be a JSON object."),
    "model_attributes_type": ("invalid_type", "This must be a JSON object."),
    "dict_type": ("invalid_type", "This must be a JSON object."),
    "string_unicode": ("invalid_characters", "This holds half a surrogate pair, which is not a character."),
    "string_type": ("invalid_type", "This must be text."),
    "list_type": ("invalid_type", "This must be a list."),
    "bool_type": ("invalid_type", "This must be true or false."),
    "bool_parsing": ("invalid_type", "This must be true or false."),
    "int_type": ("invalid_type", "This must be a whole number."),
    "int_parsing": ("invalid_type", "This must be a whole number."),
    "int_from_float": ("invalid_type", "This must be a whole number."),
    "int_parsing_size": ("out_of_range", "This number is too large."),
    "uuid_type": ("invalid_type", "This must be a UUID, as text."),
    "uuid_parsing": ("invalid_id", "This must be a UUID, like 01a204bb-3ba7-739e-b83c-af5ad6ee37f6."),
    "string_too_long": ("too_long", "This must have at most {max_length} character{s}."),
    "string_too_short": ("too_short", "This must have at least {min_length} character{s}."),
    "too_long": ("too_long", "This must have at most {max_length:,} item{s}."),
    "too_short": ("too_short", "This must have at least {min_length:,} item{s}."),
    "greater_than_equal": ("out_of_range", "This must be at least {ge}."),
    "less_than_equal": ("out_of_range", "This must be at most {le}."),
    "literal_error": ("invalid_value", "This must be {expected}."),
}
