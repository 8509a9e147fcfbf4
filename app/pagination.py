"""Pages of lists, and the cursor that leads from one to the next."""

import base64
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar
from uuid import UUID

from app.errors import InvalidCursor

T = TypeVar("T")
Item_co = TypeVar("Item_co", covariant=True)

LIMIT_DEFAULT = 100
LIMIT_MAX = 1_000
OFFSET_MAX = 100_000
# How one looks, for the OpenAPI documents.
CURSOR_EXAMPLE = "HLVVOj-sWzEsIjk3ZGU4YjgyYzBhNyIsIjAxYTIwNGJiLTNjNWUtNzQ0NS1iMzNhLTc2YjdlYzA2MjY5NCJd"

_VERSION = 1
_CHECKSUM_BYTES = 6

CursorKey = Sequence[str | int]


@dataclass(frozen=True, slots=True)
class PageRequest:
    """Which part of a list is wanted: after a cursor, or after so many items."""

    limit: int = LIMIT_DEFAULT
    offset: int = 0
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class Page(Generic[Item_co]):
    """A part of a list. `total` is None where it was not asked for; no next cursor means that this is the end."""

    items: Sequence[Item_co]
    request: PageRequest
    total: int | None
    next_cursor: str | None


def fingerprint(*parts: object) -> str:
    """A short hash of what makes a list this list: its name, filters and order."""
    return hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).hexdigest()[:12]


def encode_cursor(list_fingerprint: str, key: CursorKey) -> str:
    """A cursor that stands behind the item with this key. Opaque to callers."""
    payload = json.dumps([_VERSION, list_fingerprint, *key], separators=(",", ":"), ensure_ascii=False).encode()
    return base64.urlsafe_b64encode(_checksum(payload) + payload).rstrip(b"=").decode()


def decode_cursor(cursor: str, list_fingerprint: str, *parts: Callable[[Any], Any]) -> list[Any]:
    """The key in a cursor, each part read by one of the functions below.

    Raises InvalidCursor if it is damaged or another list's. The checksum is no secret, so nothing in it is believed.
    """
    try:
        raw = base64.b64decode(cursor.encode() + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        decoded = json.loads(raw[_CHECKSUM_BYTES:])
        # One spelling alone is good, the one that was given out.
        if not isinstance(decoded, list) or encode_cursor(list_fingerprint, decoded[2:]) != cursor:
            raise InvalidCursor
        return [read(value) for read, value in zip(parts, decoded[2:], strict=True)]
    except (ValueError, OverflowError, RecursionError) as error:
        raise InvalidCursor from error


def text_part(value: object) -> str:
    """A part that is text, as the database can hold it."""
    if not isinstance(value, str) or "\x00" in value:
        raise ValueError
    value.encode()
    return value


def id_part(value: object) -> UUID:
    """A part that is an id."""
    return UUID(text_part(value))


def number_part(value: object) -> int:
    """A part that is a number of 64 bits."""
    if not isinstance(value, int) or isinstance(value, bool) or not -(2**63) <= value < 2**63:
        raise ValueError
    return value


def time_part(value: object) -> datetime:
    """A part that is a point in time, with its zone."""
    time = datetime.fromisoformat(text_part(value))
    if time.utcoffset() is None:
        raise ValueError
    # What lies beyond the years that there are in UTC cannot be sent to the database.
    return time.astimezone(UTC)


def page_of(
    items: list[T], request: PageRequest, *, total: int | None, list_fingerprint: str, key: Callable[[T], CursorKey]
) -> Page[T]:
    """The page out of up to `limit + 1` items: the one too many says that there are more."""
    shown = items[: request.limit]
    more = len(items) > request.limit
    return Page(shown, request, total, encode_cursor(list_fingerprint, key(shown[-1])) if more else None)


def _checksum(payload: bytes) -> bytes:
    return hashlib.sha256(payload).digest()[:_CHECKSUM_BYTES]
