"""Tells which changes of an OpenAPI document break the clients of another one.

What a client may send must stay valid, so requests may only become wider. What a client must be ready for was told to
it, so answers may only become narrower, but for new fields, headers and error statuses, which clients pass over.
docs/compatibility.md says the same to users. A release keeps its documents in openapi/released/, with which those in
openapi/ are compared.
"""

import json
import re
from collections.abc import Collection, Iterator
from operator import gt, lt
from pathlib import Path
from typing import Any

Json = dict[str, Any]

ROOT = Path(__file__).parent.parent

# Breaking changes since the last release that are meant, as they are told, each with the reason: a vendor changed its
# API, say, or the document was wrong. CHANGELOG.md tells users of each. A release empties this.
ACCEPTED: dict[str, str] = {}

_METHODS = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}

# What says nothing of what is valid. Whatever else stands in a document and is not compared is refused by `_known`.
_NOTES = {"title", "summary", "description", "example", "examples", "externalDocs", "deprecated"}
# By each bound, how one looks that another does not hold.
_BOUNDS = dict.fromkeys(("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"), lt) | dict.fromkeys(
    ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"), gt
)
# Of two that differ nobody can tell which is narrower, so each change counts but that to none.
_OPAQUE = {"pattern", "format", "multipleOf", "uniqueItems", "dependentRequired"}
_VALUES = {"type", "enum", "const", "anyOf", "oneOf", "default", "items"}
_FIELDS = {"properties", "required", "additionalProperties"}


class UnknownPart(Exception):
    """A document has a part that is not compared, so that a change of it would go unseen. It has to be added here."""


class NoRelease(Exception):
    """The documents of the last release are not there, so that nothing could be told of what changed since."""


def breaking_changes(old: Json, new: Json) -> list[str]:
    """What of the old document does not hold in the new one: the call, the place, what changed, and whom it breaks.

    Raises `UnknownPart` where a document has something that this comparison does not know.
    """
    return list(_Comparison(old, new).of_documents())


def last_release(root: Path = ROOT) -> str | None:
    """The version of the topmost heading in CHANGELOG.md that has one, such as `## [1.2.3] - 2027-01-31`; else None."""
    text = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    found = re.search(r"^## \[?v?(\d+\.\d+\.\d+[\w.+-]*)", text, re.MULTILINE)
    return found[1] if found else None


def changes_since_release(root: Path = ROOT) -> list[str]:
    """What the documents in openapi/ break of those in openapi/released/, each with its front end before it.

    Before the first release there are none to compare with. Raises `NoRelease` where openapi/released/ is not what the
    release left that CHANGELOG.md names last, so that no release can leave the comparison without its other side.
    """
    current = _documents(root / "openapi")
    released = _documents(root / "openapi" / "released")
    version = last_release(root)
    kept = {document["info"]["version"] for document in released.values()}
    if kept != ({version} if version else set()):
        raise NoRelease(
            f"CHANGELOG.md names {version or 'nothing'} as released last, openapi/released/ has the documents of "
            f"{', '.join(sorted(kept)) or 'nothing'}. `make release-openapi` brings them, on the commit that releases."
        )
    changes = []
    for name, old in released.items():
        found = breaking_changes(old, current[name]) if name in current else ["is gone. Breaks all its clients"]
        changes += [f"{name}: {change}" for change in found]
    if released:
        unseen = sorted(current.keys() - released)
        changes += [f"{name}: is not in openapi/released/, so that nothing is compared" for name in unseen]
    return changes


def _documents(directory: Path) -> dict[str, Json]:
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(directory.glob("*.json"))}


class _Comparison:
    def __init__(self, old: Json, new: Json) -> None:
        self._old = old
        self._new = new
        # Pairs of schemas that are being compared, further out: a schema may contain itself.
        self._open: set[tuple[int, int, bool]] = set()

    def of_documents(self) -> Iterator[str]:
        new_urls = [server["url"] for server in self._new.get("servers", ())]
        for server in self._old.get("servers", ()):
            if server["url"] not in new_urls:
                yield f"servers: {server['url']} is gone. Breaks every client"
        for path, methods in self._old["paths"].items():
            for part in (methods, self._new["paths"].get(path, {})):
                _known(part, _METHODS, path)
            for method, old in methods.items():
                new = self._new["paths"].get(path, {}).get(method)
                call = f"{method.upper()} {path}"
                if new is None:
                    yield f"{call}: is gone. Breaks whoever calls it"
                    continue
                for change in self._operation(old, new):
                    yield f"{call}: {change}"
        new_schemas = self._new.get("components", {}).get("schemas", {})
        for name in self._old.get("components", {}).get("schemas", {}):
            if name not in new_schemas:
                yield f"schema {name}: is gone. Breaks code that names its class in a generated client"

    def _operation(self, old: Json, new: Json) -> Iterator[str]:
        compared = {"operationId", "tags", "security", "parameters", "requestBody", "responses"}
        for operation in (old, new):
            _known(operation, compared, "an operation")
        for key in ("operationId", "tags"):
            if old.get(key) != new.get(key):
                change = _change(key, old, new)
                yield f"{change}. Breaks code that calls it by a generated client"
        yield from self._security(old, new)
        yield from self._parameters(old, new)
        yield from self._body(old, new)
        yield from self._answers(old, new)

    def _security(self, old: Json, new: Json) -> Iterator[str]:
        accepted = _needs(self._new, new)
        for sent in _needs(self._old, old):
            if not any(needs <= sent for needs in accepted):
                how = " and ".join(sorted(sent)) or "no key"
                yield f"security: {how} no longer suffices. Breaks clients that call it so"

    def _parameters(self, old: Json, new: Json) -> Iterator[str]:
        before, after = _parameters(self._old, old), _parameters(self._new, new)
        for place, parameter in before.items():
            if place not in after:
                yield f"{place}: is gone. Breaks clients that send it, which is refused or does nothing"
                continue
            if not parameter.get("required") and after[place].get("required"):
                yield f"{place}: has to be sent now. Breaks clients that leave it out"
            for key in ("style", "explode"):
                if parameter.get(key) != after[place].get(key):
                    yield f"{place}: {_change(key, parameter, after[place])}. Breaks clients that send it"
            yield from self._schema(parameter["schema"], after[place]["schema"], place, is_answer=False)
        for place, parameter in after.items():
            if place not in before and parameter.get("required"):
                yield f"{place}: is new and has to be sent. Breaks clients that do not know it"

    def _body(self, old: Json, new: Json) -> Iterator[str]:
        before, after = old.get("requestBody", {}), new.get("requestBody", {})
        for body in (before, after):
            _known(body, {"required", "content"}, "a body")
        if not before.get("required") and after.get("required"):
            yield "body: has to be sent now. Breaks clients that send none"
        for media_type, content in before.get("content", {}).items():
            if media_type not in after.get("content", {}):
                yield f"body: {media_type} is no longer taken. Breaks clients that send it"
            else:
                yield from self._content(content, after["content"][media_type], "body", is_answer=False)

    def _answers(self, old: Json, new: Json) -> Iterator[str]:
        before, after = old["responses"], new["responses"]
        for status in before:
            if status in after:
                yield from self._answer(before[status], after[status], f"answer {status}")
            elif status.startswith("2"):
                yield f"answer {status}: is gone. Breaks clients that wait for it"
        for status in after:
            if status.startswith("2") and status not in before:
                yield f"answer {status}: is a new status of success. Breaks clients that look for the old one"

    def _answer(self, old: Json, new: Json, place: str) -> Iterator[str]:
        old, new = _resolved(self._old, old), _resolved(self._new, new)
        for answer in (old, new):
            # Links follow from paths and answers, which are compared.
            _known(answer, {"content", "headers", "links"}, place)
        for media_type, content in old.get("content", {}).items():
            if media_type not in new.get("content", {}):
                yield f"{place}: is no longer sent as {media_type}. Breaks clients that read it so"
            else:
                yield from self._content(content, new["content"][media_type], place, is_answer=True)
        after = {name.lower(): header for name, header in new.get("headers", {}).items()}
        for name, header in old.get("headers", {}).items():
            if name.lower() not in after:
                yield f"{place} header {name}: is gone. Breaks clients that read it"
                continue
            old_header = _resolved(self._old, header)
            new_header = _resolved(self._new, after[name.lower()])
            for one in (old_header, new_header):
                _known(one, {"schema", "required"}, f"{place} header {name}")
            if old_header.get("required") and not new_header.get("required"):
                yield f"{place} header {name}: may be missing now. Breaks clients that rely on it"
            yield from self._schema(
                old_header["schema"], new_header["schema"], f"{place} header {name}", is_answer=True
            )

    def _content(self, old: Json, new: Json, place: str, *, is_answer: bool) -> Iterator[str]:
        for content in (old, new):
            _known(content, {"schema"}, place)
        yield from self._schema(old.get("schema", {}), new.get("schema", {}), place, is_answer=is_answer)

    def _schema(self, old: Json, new: Json, place: str, *, is_answer: bool) -> Iterator[str]:
        """What is valid by the schema of the writer and not by that of the reader.

        A request is written after the old document and read by the new service; an answer the other way round.
        """
        pair = (id(old), id(new), is_answer)
        if pair in self._open:
            return
        self._open.add(pair)
        try:
            before, after = list(_branches(self._old, old)), list(_branches(self._new, new))
            if not is_answer:
                # The same in all branches, or in the one that is no null.
                defaults = [{_text(one["default"]) for one in side if "default" in one} for side in (before, after)]
                if defaults[0] and defaults[0] != defaults[1]:
                    was, now = (", ".join(sorted(side)) or "nothing" for side in defaults)
                    yield f"{place}: left out it meant {was}, and means {now}. Breaks clients that leave it out"
            for written in after if is_answer else before:
                pairs = [
                    (read, written) if is_answer else (written, read)
                    for read in (before if is_answer else after)
                    if _is_kind(written, read)
                ]
                if pairs:
                    # Most often there is one. Of several, one that takes it all is enough, else the likest is told of.
                    found = [list(self._branch(*branches, place, is_answer=is_answer)) for branches in pairs]
                    yield from min(found, key=len)
                elif is_answer:
                    yield f"{place}: may be {_kind(written)} now. Breaks clients that are not ready for it"
                else:
                    yield f"{place}: may no longer be {_kind(written)}. Breaks clients that send it"
        finally:
            self._open.remove(pair)

    def _branch(self, old: Json, new: Json, place: str, *, is_answer: bool) -> Iterator[str]:
        """The same of two schemas without alternatives."""
        written, read = (new, old) if is_answer else (old, new)
        whom = "clients that are not ready for it" if is_answer else "clients that send what was valid"
        if "enum" in read:
            taken = [_text(value) for value in read["enum"]]
            if "enum" not in written:
                may = "may be anything" if is_answer else f"may only be {', '.join(taken)}"
                yield f"{place}: {may} now. Breaks {whom}"
            for value in map(_text, written.get("enum", ())):
                if value not in taken:
                    yield f"{place}: {'may be' if is_answer else 'may no longer be'} {value}. Breaks {whom}"
        for key in sorted(_BOUNDS):
            if key in read and (key not in written or _BOUNDS[key](written[key], read[key])):
                yield f"{place}: {_change(key, old, new)}. Breaks {whom}"
        for key in sorted(_OPAQUE):
            if read.get(key) and read[key] != written.get(key):
                yield f"{place}: {_change(key, old, new)}. Breaks {whom}"
        if "items" in read:
            yield from self._schema(old.get("items", {}), new.get("items", {}), f"{place}[]", is_answer=is_answer)
        yield from self._object(old, new, place, is_answer=is_answer)

    def _object(self, old: Json, new: Json, place: str, *, is_answer: bool) -> Iterator[str]:
        before, after = old.get("properties", {}), new.get("properties", {})
        for name in before:
            if name in after:
                yield from self._schema(before[name], after[name], f"{place}.{name}", is_answer=is_answer)
            elif is_answer:
                yield f"{place}.{name}: is gone. Breaks clients that read it"
            else:
                yield f"{place}.{name}: is gone. Breaks clients that send it, which is refused or does nothing"
        if is_answer:
            for name in sorted((set(old.get("required", ())) - set(new.get("required", ()))) & set(after)):
                yield f"{place}.{name}: may be missing now. Breaks clients that rely on it"
        else:
            for name in sorted(set(new.get("required", ())) - set(old.get("required", ()))):
                yield f"{place}.{name}: has to be sent now. Breaks clients that leave it out"
        # Of fields without a name of their own: their schema, True for any, False for none.
        was, now = old.get("additionalProperties", True), new.get("additionalProperties", True)
        if isinstance(was, dict) and isinstance(now, dict):
            yield from self._schema(was, now, f"{place}.*", is_answer=is_answer)
        elif is_answer and old.get("additionalProperties") and was != now and not isinstance(now, dict):
            yield f"{place}: is no map any more. Breaks clients that read it"
        elif not is_answer and was is not False and now is not True:
            yield f"{place}: further fields are no longer taken as they were. Breaks clients that send some"


def _known(part: Json, compared: Collection[str], where: str) -> None:
    if unknown := sorted(set(part) - set(compared) - _NOTES):
        raise UnknownPart(f"{where}: {', '.join(unknown)}")


def _text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def _change(key: str, old: Json, new: Json) -> str:
    return f"{key} was {_text(old.get(key))}, is {_text(new.get(key))}"


def _resolved(document: Json, part: Json) -> Json:
    """What a reference stands for, and what is said beside it."""
    if "$ref" not in part:
        return part
    target: Any = document
    for step in part["$ref"].removeprefix("#/").split("/"):
        target = target[step]
    return _resolved(document, target) | {key: value for key, value in part.items() if key != "$ref"}


def _branches(document: Json, schema: Json) -> Iterator[Json]:
    """The alternatives of a schema, each with one type and without alternatives of its own."""
    schema = _resolved(document, schema)
    _known(schema, _VALUES | _FIELDS | _BOUNDS.keys() | _OPAQUE, "a schema")
    for key in ("anyOf", "oneOf"):
        if key in schema:
            rest = {name: value for name, value in schema.items() if name != key}
            for branch in schema[key]:
                yield from _branches(document, rest | _resolved(document, branch))
            return
    if "const" in schema:
        schema = {name: value for name, value in schema.items() if name != "const"} | {"enum": [schema["const"]]}
    if isinstance(schema.get("type"), list):
        for kind in schema["type"]:
            yield schema | {"type": kind}
    else:
        yield schema


def _is_kind(written: Json, read: Json) -> bool:
    """Whether the reader looks for values of the type that is written."""
    kinds = (written.get("type"), read.get("type"))
    return kinds[1] is None or kinds[0] == kinds[1] or kinds == ("integer", "number")


def _kind(schema: Json) -> str:
    return str(schema.get("type", "of any type"))


def _needs(document: Json, operation: Json) -> list[frozenset[str]]:
    """The ways in which a call can be authorised: what each needs. What a scheme is called does not matter."""
    ways = operation.get("security", document.get("security", ())) or [{}]
    return [
        frozenset(need for name, scopes in way.items() for need in (_scheme(document, name), *scopes)) for way in ways
    ]


def _scheme(document: Json, name: str) -> str:
    scheme: Json = document["components"]["securitySchemes"][name]
    _known(scheme, {"type", "scheme", "in", "name", "bearerFormat"}, f"the security scheme {name}")
    return " ".join(scheme[key] for key in ("type", "scheme", "in", "name") if key in scheme)


def _parameters(document: Json, operation: Json) -> dict[str, Json]:
    """The parameters of a call by their place. The names of headers have no case."""
    found = {}
    for part in operation.get("parameters", ()):
        parameter = _resolved(document, part)
        _known(parameter, {"name", "in", "required", "schema", "style", "explode"}, "a parameter")
        name = parameter["name"].lower() if parameter["in"] == "header" else parameter["name"]
        found[f"{parameter['in']} {name}"] = parameter
    return found
