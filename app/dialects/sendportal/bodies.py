"""What a call sends, as PHP and Laravel read it.

JSON where the type has `/json` or `+json` in it, or a form, `tags[]=1&tags[]=2`. All else, and what cannot be read, is
no input at all. What the query string has is input too, where the body has no such field.
"""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from pydantic import MISSING
from starlette.requests import Request

from app.bodies import parse_json
from app.dialects.sendportal.schemas import FORM, In, NewSubscriberIn, SubscribersIn, TagIn, TagsIn
from app.errors import FieldError, InvalidInput, Unreadable

# A form of more pairs takes seconds of a process that serves others too. Twice the longest list there is.
FIELDS_MAX = 20_000

# The names of all fields that there are anywhere. Others are passed over, however many.
_FIELDS = frozenset(
    field.alias or name
    for model in (TagsIn, SubscribersIn, TagIn, NewSubscriberIn)
    for name, field in model.model_fields.items()
)

# `tags[0]`, and `tags[0][name]`, of which it is enough to know that the element is no number.
_ELEMENT = re.compile(r"([^\[]+)\[([^\]]*)\](\[.*)?", re.DOTALL)

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def parse_body(media_type: str | None, body: bytes) -> object:
    """The fields of a body. Nothing is wrong with one that cannot be read, except that it has no fields."""
    declared = (media_type or "").lower()
    value: object = {}
    try:
        if "/json" in declared or "+json" in declared:
            value = parse_json(body)
        elif declared.partition(";")[0].strip() == FORM:
            value = read_pairs(body, "body")
    except Unreadable:
        return {}
    return {name: value[name] for name in value.keys() & _FIELDS} if isinstance(value, dict) else {}


def read_pairs(encoded: bytes, source: str) -> dict[str, object]:
    """The fields of a form or a query string. `tags[]` and `tags[0]` are elements of a list, `tags[a]` of a map."""
    if encoded.count(b"&") >= FIELDS_MAX:
        detail = f"The {source} has more than {FIELDS_MAX:,} fields."
        raise InvalidInput([FieldError((source,), "too_many_fields", detail)])
    try:
        pairs = parse_qsl(encoded.decode(), keep_blank_values=True, errors="strict")
    except UnicodeDecodeError:
        raise Unreadable(f"The {source} is not in UTF-8.") from None
    fields: dict[str, object] = {}
    elements: dict[str, _Elements] = {}
    for name, value in pairs:
        element = _ELEMENT.fullmatch(name)
        if element is None:
            fields[name] = value
            elements.pop(name, None)
            continue
        field, key, deeper = element.groups()
        held = elements.setdefault(field, _Elements())
        held.put(key, {} if deeper else value)
        fields[field] = held.by_key
    return {
        name: list(value.values()) if isinstance(value, dict) and _is_list(value) else value
        for name, value in fields.items()
    }


class _Elements:
    """What came for one field with brackets. `[]` takes the number behind the highest one so far, as in PHP."""

    def __init__(self) -> None:
        self.by_key: dict[str, object] = {}
        self._next = 0

    def put(self, key: str, value: object) -> None:
        """Keep an element by its key, or by the next number where it has none."""
        key = key or str(self._next)
        if _INDEX.fullmatch(key):
            self._next = max(self._next, int(key) + 1)
        self.by_key[key] = value


# As PHP writes integers; longer ones are text to it.
_INDEX = re.compile(r"0|[1-9][0-9]{0,17}")


def _is_list(held: Mapping[str, object]) -> bool:
    return all(key == str(place) for place, key in enumerate(held))


def input_of(request: Request, body: In | None) -> Mapping[str, Any]:
    """All that a call sends, body and query; a POST that asks to be taken for another call is refused."""
    given = read_query(request)
    if body is not None:
        given |= {
            field.alias or name: value
            for name, field in type(body).model_fields.items()
            if (value := getattr(body, name)) is not MISSING
        }
    if request.method == "POST":
        headers = request.headers.getlist("x-http-method-override")
        for place, asked in (
            *((("header", "X-HTTP-Method-Override"), value) for value in headers),
            (("body", "_method"), given.get("_method")),
        ):
            if isinstance(asked, str) and asked.strip().upper() in METHODS - {"POST"}:
                method = asked.strip().upper()
                detail = f"This request is sent as POST and asks to be taken for {method}. Send it as {method}."
                raise InvalidInput([FieldError(place, "not_together", detail)])
    return given


def read_query(request: Request) -> dict[str, object]:
    """The fields of the query string."""
    try:
        return read_pairs(request.scope["query_string"], "query")
    except Unreadable as error:
        raise InvalidInput([FieldError(("query",), "invalid_characters", error.detail)]) from None
