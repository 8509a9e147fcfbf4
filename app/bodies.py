"""The body of a request, from bytes to the value that is validated."""

import json
import math
import re
from itertools import accumulate
from typing import NoReturn

from app.errors import Unreadable, UnsupportedMediaType
from app.logs import shown

JSON_MAX_DEPTH = 64
# A hundred for each contact of the longest list there is. Each costs the parser as much as a long text.
JSON_MAX_CONTAINERS = 100_000


def parse_declared_json(media_type: str | None, body: bytes) -> object:
    """The value of a JSON text that is declared as one: `application/json`, or a type that ends in `+json`."""
    if media_type is None or not _JSON_TYPE.fullmatch(media_type):
        raise UnsupportedMediaType(media_type and shown(media_type))
    return parse_json(body)


# With any parameters, but no charset except UTF-8.
_JSON_TYPE = re.compile(
    r'\s*application/(?:[\w!#$&^.+-]+\+)?json\s*(?:;\s*+(?:charset\s*=\s*"?utf-?8"?\s*|(?!charset\b)[^;]*))*',
    re.IGNORECASE | re.ASCII,
)


def parse_json(body: bytes, *, lenient: bool = False) -> object:
    """The value of a JSON text, which must be one by the book: UTF-8, finite numbers, and not nested too deeply.

    `lenient` takes NaN, Infinity and numbers beyond a float, too, as Python's own parser does.
    """
    if body.startswith(b"\xef\xbb\xbf"):
        raise Unreadable("The body begins with a byte order mark; send plain UTF-8.")
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise Unreadable(f"The body is not in UTF-8: byte {error.start + 1:,} cannot be read.") from None
    _check_structure(body)
    try:
        return (_DECODER if lenient else _STRICT_DECODER).decode(text)
    except json.JSONDecodeError as error:
        raise Unreadable(
            f"The body is not valid JSON: {error.msg} at line {error.lineno:,}, column {error.colno:,}."
        ) from None
    except ValueError:
        # What is left is the length that integers are read up to.
        raise Unreadable("The body holds a number with too many digits.") from None


def _finite(number: str) -> float:
    value = float(number)
    if math.isinf(value):
        raise Unreadable("The body holds a number that is too large.")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise Unreadable(f"The body is not valid JSON: it knows no {name}.")


_DECODER = json.JSONDecoder()
_STRICT_DECODER = json.JSONDecoder(parse_float=_finite, parse_constant=_refuse_constant)

# Opening brackets become 1, closing ones -1.
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
_ALL_BUT_BRACKETS_AND_QUOTES = bytes(set(range(256)) - set(b'[]{}"'))


def _check_structure(body: bytes) -> None:
    """Done by bulk operations on the bytes, since the parser recurses, and walking over a large body is slow."""
    if body.count(b"[") + body.count(b"{") <= JSON_MAX_DEPTH:
        return
    if b"\\" in body:
        body = _ESCAPE.sub(b"", body)
    structure = body.translate(_STEPS, _ALL_BUT_BRACKETS_AND_QUOTES)
    # Without escapes, every second piece between quotes is the inside of a string.
    steps = b"".join(structure.split(b'"')[::2])
    if steps.count(1) > JSON_MAX_CONTAINERS:
        raise Unreadable(f"The body has more than {JSON_MAX_CONTAINERS:,} lists and objects in it; send it in parts.")
    if max(accumulate(memoryview(steps).cast("b")), default=0) > JSON_MAX_DEPTH:
        raise Unreadable(f"The body is nested deeper than {JSON_MAX_DEPTH} levels.")


_ESCAPE = re.compile(rb"\\.", re.DOTALL)
