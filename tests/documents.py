"""The OpenAPI documents, the calls that they tell of, and requests that are made of their schemas.

A request has *slots*: places that take the name of something, an id or a slug, say. What a place takes is told by
its name, in the tables below. One that stands in none of them fails the tests that are made from here, so that a new
call is looked at, or somebody says why it need not be.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any
from urllib.parse import quote

from starlette.requests import Request

from app.errors import Unauthenticated
from app.frontend import FrontEnd, Terms, terms_of
from app.main import FRONT_ENDS, openapi_document
from app.openapi import routes_of

Json = dict[str, Any]


@cache
def document_of(slug: str) -> Json:
    """The document of a front end, by its slug."""
    return openapi_document(FRONT_ENDS[slug])


def resolved(slug: str, value: Any) -> Any:
    """What is referred to in the document, if this is a reference; else the value."""
    while isinstance(value, dict) and "$ref" in value:
        target: Any = document_of(slug)
        for name in value["$ref"].removeprefix("#/").split("/"):
            target = target[name]
        value = target
    return value


@dataclass(frozen=True)
class Slot:
    """A place that takes a name of this kind (see tests/neighbours.py). The one under test has another's name in it."""

    kind: str
    before: str = ""
    is_tested: bool = False


@dataclass(frozen=True)
class Draft:
    """A request with slots: parameters of the path, the query and the headers by name, and the body."""

    path: Json
    query: Json = field(default_factory=dict)
    headers: Json = field(default_factory=dict)
    body: Any = None


@dataclass(frozen=True)
class Operation:
    """A call, and what its document says of it."""

    front_end: FrontEnd
    method: str
    path: str
    described: Json = field(repr=False, hash=False, compare=False)

    def __str__(self) -> str:
        return f"{self.front_end.slug}.{self.id.removeprefix(self.front_end.slug + '_')}"

    @property
    def id(self) -> str:
        """The name of its handler, in all documents its own."""
        operation_id: str = self.described["operationId"]
        return operation_id

    @property
    def terms(self) -> Terms:
        """On what terms it is served."""
        [terms] = [terms_of(route.endpoint) for route in routes_of(self.front_end) if route.name == self.id]
        return terms

    @property
    def parameters(self) -> list[Json]:
        """Those of its document."""
        parameters: list[Json] = self.described.get("parameters", [])
        return parameters

    @property
    def bodies(self) -> dict[str, Json]:
        """The schemas of its body by media type; none where it takes no body."""
        content: Json = self.described.get("requestBody", {}).get("content", {})
        return {media_type: media["schema"] for media_type, media in content.items()}

    @property
    def body(self) -> Json | None:
        """The schema of its body as JSON, if it takes one."""
        return self.bodies.get("application/json")

    def url(self, path: Json) -> str:
        """Where it is, with these in its path."""
        url = self.front_end.mount + self.path
        for name, value in path.items():
            url = url.replace(f"{{{name}}}", quote(str(value), safe="@"))
        return url


@cache
def operations() -> Sequence[Operation]:
    """Every call of every front end."""
    return [
        Operation(front_end, method.upper(), path, described)
        for slug, front_end in FRONT_ENDS.items()
        for path, methods in document_of(slug)["paths"].items()
        for method, described in methods.items()
    ]


def operations_of(slug: str) -> Sequence[Operation]:
    """Every call of one front end."""
    return [operation for operation in operations() if operation.front_end.slug == slug]


def with_key(front_end: FrontEnd, key: str) -> dict[str, str]:
    """The headers by which a front end is told a key: whichever of the schemes there are it reads."""
    for scheme in ("Bearer", "Token"):
        value = f"{scheme} {key}"
        request = Request({"type": "http", "query_string": b"", "headers": [(b"authorization", value.encode())]})
        try:
            if front_end.read_token(request) == key:
                return {"Authorization": value}
        except Unauthenticated:
            continue
    raise AssertionError(f"{front_end.slug} reads no key")


# What the tables say.

# What a place takes. Looked up by call and place, by front end and place, by place, and by the place's last name;
# several kinds are several forms of a name.
KINDS: dict[str, tuple[str, ...]] = {
    # Paths, by the part before.
    "path tags/{tag_id}": ("tag",),
    "path contacts/{contact_id}": ("contact",),
    "path tags/{slug}": ("tag_slug",),
    "path audiences/{slug}": ("club",),
    "path keys/{key_id}": ("key",),
    "path tags/{id}": ("tag_typeid", "tag"),
    "path bulk_actions/{id}": ("bulk_typeid", "bulk"),
    "path subscribers/{id_or_email}": ("contact_typeid", "contact", "email"),
    "path tags/{tag}": ("tag_number",),
    "path subscribers/{subscriber}": ("contact_number",),
    "datamailer path contacts/{contact_id}": ("contact_number",),
    "path tags/{tag_slug}": ("tag_slug",),
    # Queries.
    "query audience": ("audience",),
    "query client": ("client",),
    "query ids[]": ("tag",),
    "buttondown query ids[]": ("tag_typeid", "tag"),
    "query slug": ("tag_slug",),
    "query email": ("email",),
    "query external_id": ("external_id",),
    "query cursor": ("cursor",),
    "datamailer.list_contacts query offset": ("cursor",),
    "query tags_all[]": ("tag_slug",),
    "query tags_any[]": ("tag_slug",),
    "query tags_none[]": ("tag_slug",),
    "query tags": ("tag_slug",),
    "query tag[]": ("tag_typeid", "tag", "tag_name"),
    "query -tag[]": ("tag_typeid", "tag", "tag_name"),
    "native.list_tags query search": ("tag_name",),
    "topmail.list_tags query search": ("tag_name",),
    "native.list_contacts query search": ("email",),
    "topmail.list_contacts query search": ("email",),
    # Headers.
    "header Buttondown-Context": ("newsletter_typeid", "newsletter"),
    # Bodies.
    "contact_ids[]": ("contact",),
    "emails[]": ("email",),
    "external_ids[]": ("external_id",),
    "tag_ids[]": ("tag",),
    "add_ids[]": ("tag",),
    "remove_ids[]": ("tag",),
    "add[]": ("tag_name", "tag_slug"),
    "remove[]": ("tag_name", "tag_slug"),
    "all[]": ("tag_slug",),
    "any[]": ("tag_slug",),
    "none[]": ("tag_slug",),
    "native tags[]": ("tag_name", "tag_slug"),
    "buttondown tags[]": ("tag_typeid", "tag", "tag_name"),
    "sendportal tags[]": ("tag_number",),
    "datamailer tags[]": ("tag_name", "tag_slug"),
    "subscribers[]": ("contact_number",),
    "audiences[]": ("audience",),
    "audience": ("audience",),
    "client": ("client",),
    # What must be nobody's else in a workspace; in another one it may be anybody's.
    "email": ("new_email",),
    "email_address": ("new_email",),
    "external_id": ("new_external_id",),
    "name": ("new_tag_name",),
    "native.create_audience body slug": ("new_club",),
    "native.create_audience body name": ("new_club_name",),
    "secondary_id": ("secondary_id",),
}

# Places that take text or a number that names nothing.
PLAIN = {
    *("limit", "offset", "page", "page_size", "per_page", "subscription_status", "X-API-Version"),
    *("assigned_after", "assigned_before", "expires_at", "unsubscribed_at", "validated_at"),
    # A position in the workspace's own feed: every number is one.
    "after",
    *("first_name", "last_name", "color", "description", "public_description", "reason"),
    # An audience's name need not be its own.
    "native.update_audience body name",
    # Of a form that each workspace may fill as it likes.
    *("attributes", "metadata"),
    # Taken and not kept.
    *("notes", "referrer_url", "referring_subscriber_id", "ip_address", "utm_campaign", "utm_medium", "utm_source"),
    # Versions of what the path names. An idempotency key belongs to an API key, hence to no other workspace.
    *("If-Match", "If-None-Match", "Idempotency-Key", "X-Idempotency-Key"),
}

# Fields one of which has to be there, which the schemas do not say.
_ONE_OF = {
    "ContactsNamed": "contact_ids",
    "ContactsPut": "contact_ids",
    "TagsNamed": "tags",
    "TagsPut": "tags",
    "TagsPatch": "add",
    "ContactFilter": "all",
}

# Parameters that are read only where there is no body.
_INSTEAD_OF_BODY: dict[str, tuple[str, ...]] = {
    "datamailer.add_contact_tag": ("audience", "client"),
    "datamailer.remove_contact_tag": ("audience", "client"),
}

# Bodies that the schemas do not tell apart: what some fields hold goes by another one.
_TAG, _SUBSCRIBER = Slot("tag_typeid"), Slot("contact_typeid")
_BODIES: dict[str, list[Json]] = {
    "buttondown.create_bulk_action": [
        {"type": kind, "metadata": metadata}
        for kind, metadata in (
            ("apply_tags", {"tag_id": _TAG, "ids": [_SUBSCRIBER]}),
            ("apply_tags", {"tag_id": Slot("tag"), "ids": [Slot("contact")], "action": "remove"}),
            ("apply_tags", {"tag_ids": [_TAG], "ids": ["all"]}),
            ("apply_tags", {"tag_id": _TAG, "ids": [Slot("contact_typeid", before="-")]}),
            ("change_tags_colors", {"color": "#000000", "ids": [_TAG]}),
            ("change_tags_colors", {"color": "#000000", "ids": [Slot("tag_typeid", before="-")]}),
            ("delete_tags", {"ids": [_TAG]}),
            ("delete_tags", {"ids": [Slot("tag_typeid", before="-")]}),
        )
    ],
}


def kinds_of(operation: Operation, source: str, name: str) -> tuple[str, ...]:
    """The kinds of name that a place takes; none where it names nothing."""
    last = name.rpartition(".")[2]
    for place in (
        f"{operation} {source} {name}",
        f"{operation.front_end.slug} {source} {name}",
        f"{source} {name}",
        *((f"{operation.front_end.slug} {last}", last) if source == "body" else ()),
    ):
        if place in PLAIN:
            return ()
        if place in KINDS:
            return KINDS[place]
    if name.removesuffix("[]") in PLAIN or last.removesuffix("[]") in PLAIN:
        return ()
    raise AssertionError(
        f"{operation} takes {name} in its {source}, and tests/documents.py does not know what that is. If it can name "
        "something that belongs to a workspace, say what kind of name it takes in KINDS (and give tests/neighbours.py "
        "one of that kind, if it is new); if it names nothing, add it to PLAIN."
    )


# Requests out of schemas.


def draft_of(operation: Operation) -> Draft:
    """The smallest request that is in order."""
    body = operation.body
    bodies: Sequence[Any] = _BODIES.get(str(operation)) or [None if body is None else _make(operation, body)]
    path: Json = {}
    query: Json = {}
    for parameter in operation.parameters:
        name, source = parameter["name"], parameter["in"]
        if source == "path":
            path[name] = _value(operation, parameter)
        elif source == "query" and parameter.get("required"):
            query[name] = _value(operation, parameter)
    return Draft(path, query, {}, bodies[0])


def probes_of(operation: Operation) -> Iterator[tuple[str, Draft]]:
    """Requests with one slot under test each, and the name of the place. All that the call takes has its turn."""
    basis = draft_of(operation)
    for parameter in operation.parameters:
        name, source = parameter["name"], parameter["in"]
        place, schema = _place(operation, parameter)
        is_list = place.endswith("[]")
        kinds = kinds_of(operation, source, place) if _is_free(schema) else ()
        for kind in kinds:
            slot = Slot(kind, is_tested=True)
            draft = basis
            if name in _INSTEAD_OF_BODY.get(str(operation), ()):
                scope = {other: Slot(other) for other in _INSTEAD_OF_BODY[str(operation)]}
                draft = replace(draft, body=None, query={**draft.query, **scope})
            label = f"{source} {place}" + (f" as {kind}" if len(kinds) > 1 else "")
            if source == "path":
                yield label, replace(draft, path={**draft.path, name: slot})
            elif source == "header":
                yield label, replace(draft, headers={**draft.headers, name: slot})
            else:
                yield label, replace(draft, query={**draft.query, name: [slot] if is_list else slot})
                if is_list:
                    yield f"{label} beside one's own", replace(draft, query={**draft.query, name: [Slot(kind), slot]})
    for label, body in _probed_bodies(operation):
        yield f"body {label}", replace(basis, body=body)
    if len([*slots_of([basis.path, basis.query, basis.body])]) > 1:
        yield "all of it", all_tested(basis)


def modes_of(operation: Operation, draft: Draft) -> Iterator[tuple[str, Draft]]:
    """The request in each of the ways that a condition makes: `on_missing=skip`, say, or `count_only` in the body."""
    for parameter in operation.parameters:
        name, source, schema = parameter["name"], parameter["in"], parameter["schema"]
        given = draft.query if source == "query" else draft.headers
        if source in {"query", "header"} and name not in given:
            for value in _choices(schema):
                more = {name: str(value).lower() if isinstance(value, bool) else value}
                if source == "query":
                    yield f"{name}={value}", replace(draft, query={**draft.query, **more})
                else:
                    yield f"{name}: {value}", replace(draft, headers={**draft.headers, **more})
    schema = _resolved(operation, operation.body or {})
    if isinstance(draft.body, dict) and str(operation) not in _BODIES:
        for name, inner in schema.get("properties", {}).items():
            for value in _choices(inner):
                if draft.body.get(name) != value:
                    yield f"{name}={value} in the body", replace(draft, body={**draft.body, name: value})


def slots_of(value: Any) -> Iterator[Slot]:
    """All slots of a part of a request."""
    if isinstance(value, Slot):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from slots_of(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from slots_of(inner)


def all_tested(draft: Draft) -> Draft:
    """The request with all its slots under test."""

    def tested(value: Any) -> Any:
        if isinstance(value, Slot):
            return replace(value, is_tested=True)
        if isinstance(value, dict):
            return {name: tested(inner) for name, inner in value.items()}
        return [tested(inner) for inner in value] if isinstance(value, list) else value

    return Draft(tested(draft.path), tested(draft.query), tested(draft.headers), tested(draft.body))


def _choices(schema: Json) -> list[Any]:
    """The values other than the usual one that a schema lists."""
    values: list[Any] = []
    for option in schema.get("anyOf") or schema.get("oneOf") or [schema]:
        if option.get("type") == "boolean" and "const" not in option:
            values += [False, True]
        values += option.get("enum") or ([option["const"]] if "const" in option else [])
    return [value for value in values if value is not None and value != schema.get("default")]


def _place(operation: Operation, parameter: Json) -> tuple[str, Json]:
    """What a parameter is called in the tables, and the schema of one of its values."""
    name, schema = parameter["name"], _first(parameter["schema"])
    if parameter["in"] == "path":
        # What it is of: two calls may have an `id` or a `slug` of different things.
        before = operation.path.partition(f"/{{{name}}}")[0].rpartition("/")[2]
        return f"{before}/{{{name}}}", schema
    if schema.get("type") == "array":
        return f"{name}[]", _first(schema["items"])
    return name, schema


def _value(operation: Operation, parameter: Json) -> Any:
    place, schema = _place(operation, parameter)
    kinds = kinds_of(operation, parameter["in"], place) if _is_free(schema) else ()
    return Slot(kinds[0]) if kinds else _plain(schema)


def _is_free(schema: Json) -> bool:
    """Whether callers may put in what they like: text or a number."""
    return "enum" not in schema and "const" not in schema and schema.get("type") != "boolean"


def _first(schema: Json) -> Json:
    """The first way that there is, other than null, of what a schema lets through."""
    options: list[Json] = schema.get("anyOf") or schema.get("oneOf") or [schema]
    chosen = next(option for option in reversed(options) if option.get("type") != "null")
    if isinstance(chosen.get("type"), list):
        chosen = {**chosen, "type": next(one for one in chosen["type"] if one != "null")}
    return {**chosen, **({"default": schema["default"]} if "default" in schema else {})}


def _resolved(operation: Operation, schema: Json) -> Json:
    schema = _first(schema) if schema else schema
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return {**_first(resolved(operation.front_end.slug, schema)), "name of schema": name}
    return schema


def _probed_bodies(operation: Operation) -> Iterator[tuple[str, Any]]:
    if str(operation) in _BODIES:
        assert operation.body is not None
        known = {name for body in _BODIES[str(operation)] for name in _names_in(body)}
        for way in _leaves(operation, operation.body, ()):
            [*_, last] = [step for step in way if step != "[]"]
            assert last in known, f"{operation} takes {last} in its body: add bodies with it to _BODIES."
        for body in _BODIES[str(operation)]:
            for label, probe in _each_tested(body):
                told = " ".join(str(value) for value in body.values() if isinstance(value, str))
                yield f"{told} {label}", probe
        return
    if operation.body is None:
        return
    for way in _leaves(operation, operation.body, ()):
        name = ".".join(way).replace(".[]", "[]")
        kinds = kinds_of(operation, "body", name)
        for kind in kinds:
            slot = Slot(kind, is_tested=True)
            label = name + (f" as {kind}" if len(kinds) > 1 else "")
            yield label, _make(operation, operation.body, way, leaf=[slot])
            if way[-1] == "[]":
                yield f"{label} beside one's own", _make(operation, operation.body, way, leaf=[Slot(kind), slot])


def _names_in(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield name
            yield from _names_in(inner)


def _each_tested(value: Any, label: str = "") -> Iterator[tuple[str, Any]]:
    """The body once for each of its slots, with that under test."""
    if isinstance(value, Slot):
        yield f"{label} as {value.before}{value.kind}", replace(value, is_tested=True)
    elif isinstance(value, dict):
        for name, inner in value.items():
            for at, probe in _each_tested(inner, f"{label}.{name}" if label else name):
                yield at, {**value, name: probe}
    elif isinstance(value, list):
        for n, inner in enumerate(value):
            for at, probe in _each_tested(inner, f"{label}[]"):
                yield at, [*value[:n], probe, *value[n + 1 :]]
                own = Slot(inner.kind)
                if not inner.before:
                    yield f"{at} beside one's own", [own, *value[:n], probe, *value[n + 1 :]]


def _leaves(
    operation: Operation, schema: Json, way: tuple[str, ...], seen: tuple[str, ...] = ()
) -> Iterator[tuple[str, ...]]:
    """The ways to all places in a body that take text or a number. A schema within itself is entered once more."""
    for option in schema.get("anyOf") or schema.get("oneOf") or [schema]:
        if option.get("type") == "null":
            continue
        inner = _resolved(operation, option)
        name = inner.get("name of schema", "")
        if seen.count(name) > 1:
            continue
        if inner.get("type") == "array":
            yield from _leaves(operation, inner["items"], (*way, "[]"), seen)
        elif "properties" in inner:
            for property_name, of_property in inner["properties"].items():
                yield from _leaves(operation, of_property, (*way, property_name), (*seen, name) if name else seen)
        elif _is_free(inner):
            yield way


def _make(
    operation: Operation, schema: Json, way: tuple[str, ...] = (), at: tuple[str, ...] = (), leaf: Sequence[Slot] = ()
) -> Any:
    """A value that the schema takes: what has to be there, and the place at the end of `way`, with `leaf` in it."""
    options = [
        _resolved(operation, option)
        for option in schema.get("anyOf") or schema.get("oneOf") or [schema]
        if option.get("type") != "null"
    ]
    on_the_way = len(at) < len(way) and way[: len(at)] == at
    is_end = bool(leaf) and at == way
    step = way[len(at)] if on_the_way else None
    chosen = next(
        (
            option
            for option in options
            if step and (step in option.get("properties", ()) or (step == "[]" and "items" in option))
        ),
        options[0],
    )
    if is_end:
        return leaf[0]
    if "properties" in chosen:
        wanted = set(chosen.get("required", ()))
        if step:
            wanted.add(step)
        elif (name := _ONE_OF.get(chosen.get("name of schema", ""))) and not wanted:
            wanted.add(name)
        return {
            name: _make(operation, inner, way, (*at, name), leaf)
            for name, inner in chosen["properties"].items()
            if name in wanted
        }
    if chosen.get("type") == "array":
        inside = (*at, "[]")
        if leaf and inside == way:
            return list(leaf)
        return [_make(operation, chosen["items"], way, inside, leaf)]
    if not _is_free(chosen):
        return _plain(chosen)
    kinds = kinds_of(operation, "body", ".".join(at).replace(".[]", "[]"))
    return Slot(kinds[0]) if kinds else _plain(chosen)


def _plain(schema: Json) -> Any:
    """Something that the schema takes and that names nothing."""
    if "const" in schema or "enum" in schema:
        return schema.get("const", (schema.get("enum") or [None])[0])
    match schema.get("type"):
        case "integer":
            return int(schema.get("minimum", 1))
        case "boolean":
            return False
        case "object":
            return {}
    if schema.get("format") == "date-time":
        return "2041-01-01T00:00:00Z"
    return "#aabbcc" if "#" in schema.get("pattern", "") else "plain"


@cache
def probes() -> dict[str, tuple[Operation, Draft]]:
    """Every place of every call that takes a name, by what it is called."""
    return {
        f"{operation} {place}": (operation, draft)
        for operation in operations()
        for place, draft in probes_of(operation)
    }
