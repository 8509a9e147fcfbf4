"""Cursors: what goes in comes out, and nothing else does."""

import base64
import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import InvalidCursor
from app.pagination import (
    CursorKey,
    Page,
    PageRequest,
    decode_cursor,
    encode_cursor,
    fingerprint,
    id_part,
    number_part,
    page_of,
    text_part,
    time_part,
)

LIST = fingerprint("tags", "newsletter")
TEXT_AND_ID = ["VIP", "0190a0a0-0000-7000-8000-000000000000"]
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

# What a key may be of: text that the database can hold, and numbers of 64 bits.
keys = st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\x00")) | st.integers(-(2**63), 2**63 - 1))


def read(cursor: str, like: CursorKey, list_fingerprint: str = LIST) -> list[Any]:
    """Read a cursor whose parts are of the types of this key's."""
    parts = [number_part if isinstance(part, int) else text_part for part in like]
    return decode_cursor(cursor, list_fingerprint, *parts)


def forge(payload: object) -> str:
    """A cursor with a good checksum, which guards against damage, not against somebody who works it out."""
    raw = payload if isinstance(payload, bytes) else json.dumps(payload, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(hashlib.sha256(raw).digest()[:6] + raw).rstrip(b"=").decode()


@given(keys)
def test_what_goes_in_comes_out(key: list[str | int]) -> None:
    cursor = encode_cursor(LIST, key)
    assert read(cursor, key) == key
    # It stands in a query as it is.
    assert set(cursor) <= set(ALPHABET)


def test_a_forged_cursor_is_read_if_it_makes_sense() -> None:
    """Otherwise the tests below would prove nothing."""
    assert read(forge([1, LIST, "a"]), ["a"]) == ["a"]


@pytest.mark.parametrize("key", [[*"a"], [*"ab"], [*"abc"], TEXT_AND_ID, [7, "é🎉"], []])
def test_a_cursor_with_one_character_changed(key: list[str | int]) -> None:
    """Every character counts, also the last one, of which the decoder needs a part only."""
    cursor = encode_cursor(LIST, key)
    assert read(cursor, key) == key
    for place, character in enumerate(cursor):
        for other in {*ALPHABET, "+", "/", "=", " ", "é", "\n", "%"} - {character}:
            with pytest.raises(InvalidCursor):
                read(cursor[:place] + other + cursor[place + 1 :], key)


@pytest.mark.parametrize("key", [[*"a"], [*"ab"], [*"abc"], TEXT_AND_ID])
def test_a_cursor_with_one_bit_changed(key: list[str | int]) -> None:
    cursor = encode_cursor(LIST, key)
    raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    for place in range(len(raw)):
        for bit in range(8):
            changed = raw[:place] + bytes([raw[place] ^ 1 << bit]) + raw[place + 1 :]
            with pytest.raises(InvalidCursor):
                read(base64.urlsafe_b64encode(changed).rstrip(b"=").decode(), key)


@pytest.mark.parametrize("key", [[*"a"], [*"ab"], [*"abc"], TEXT_AND_ID])
def test_a_cursor_that_is_shorter_or_longer(key: list[str | int]) -> None:
    cursor = encode_cursor(LIST, key)
    others = [cursor[:end] for end in range(len(cursor))]
    others += [cursor[start:] for start in range(1, len(cursor))]
    others += [cursor + more for more in ("A", "AA", "AAAA", "=", "==", "====", " ", "\n", cursor)]
    others += [" " + cursor, "A" + cursor, cursor.lower(), cursor.upper(), cursor[::-1]]
    for other in others:
        with pytest.raises(InvalidCursor):
            read(other, key)


@given(st.text())
def test_what_is_no_cursor(text: str) -> None:
    with pytest.raises(InvalidCursor):
        read(text, ["a"])


@pytest.mark.parametrize("other", [fingerprint("tags", "courses"), fingerprint("contacts", "newsletter"), ""])
def test_a_cursor_of_another_list(other: str) -> None:
    with pytest.raises(InvalidCursor):
        read(encode_cursor(LIST, TEXT_AND_ID), TEXT_AND_ID, other)


@pytest.mark.parametrize("like", [[], ["a"], ["a", 1], [1, "a"], ["a", "a", "a"]])
def test_a_cursor_with_other_parts(like: list[str | int]) -> None:
    with pytest.raises(InvalidCursor):
        read(encode_cursor(LIST, TEXT_AND_ID), like)


@pytest.mark.parametrize(
    ("part", "value", "expected"),
    [
        (text_part, "é\n🎉", "é\n🎉"),
        (number_part, 2**63 - 1, 2**63 - 1),
        (number_part, -(2**63), -(2**63)),
        (id_part, TEXT_AND_ID[1], UUID(TEXT_AND_ID[1])),
        (time_part, "2026-01-01T02:00:00+02:00", datetime(2026, 1, 1, tzinfo=UTC)),
    ],
)
def test_parts(part: Callable[[Any], Any], value: str | int, expected: object) -> None:
    assert decode_cursor(encode_cursor(LIST, [value]), LIST, part) == [expected]


@pytest.mark.parametrize(
    ("part", "value"),
    [
        (text_part, "a\x00"),
        (text_part, "\ud800"),
        *((text_part, value) for value in (None, 1, True, ["a"])),
        *((number_part, value) for value in (2**63, -(2**63) - 1, 10**30, 1.0, True, "1", None)),
        *((id_part, value) for value in ("", "x", 1, None)),
        *((time_part, value) for value in ("", "yesterday", "2026-01-01T00:00:00", "2026-13-01T00:00:00+00:00", 5)),
        # In UTC they are beyond the first year and the last.
        *((time_part, value) for value in ("0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59")),
    ],
)
def test_parts_that_cannot_be(part: Callable[[Any], Any], value: object) -> None:
    with pytest.raises(InvalidCursor):
        decode_cursor(forge([1, LIST, value]), LIST, part)


@pytest.mark.parametrize(
    "payload",
    [
        5,
        None,
        True,
        "text",
        {},
        {"a": 1, "b": 2, "c": 3},
        [],
        [1],
        [1, LIST],
        [0, LIST, "a"],
        [2, LIST, "a"],
        ["1", LIST, "a"],
        [True, LIST, "a"],
        [1.0, LIST, "a"],
        [1, [LIST], "a"],
        [1, LIST, None],
        [1, LIST, 1.5],
        [1, LIST, True],
        [1, LIST, ["a"]],
        [1, LIST, {"a": 1}],
        [1, LIST, "a", "b"],
    ],
)
def test_a_cursor_with_a_checksum_but_another_form(payload: Any) -> None:
    with pytest.raises(InvalidCursor):
        read(forge(payload), ["a"])


@pytest.mark.parametrize("raw", [b"", b"[", b"\xff", b"[1," + b"[" * 600, b"NaN", b"[" + b"1" * 5_000 + b"]"])
def test_a_cursor_with_a_checksum_but_no_json(raw: bytes) -> None:
    with pytest.raises(InvalidCursor):
        read(forge(raw), ["a"])


def test_fingerprints_tell_lists_apart() -> None:
    lists = [("a",), ("a", None), ("a", "None"), ("a", "b"), ("ab",), ("a", ["b"]), ("a", "\ud800"), ("A",)]
    assert len({fingerprint(*parts) for parts in lists}) == len(lists)
    assert all(fingerprint(*parts) == fingerprint(*parts) for parts in lists)


@pytest.mark.parametrize(("found", "limit", "shown", "more"), [(0, 2, 0, False), (2, 2, 2, False), (3, 2, 2, True)])
def test_the_one_item_too_many_says_that_there_are_more(found: int, limit: int, shown: int, more: bool) -> None:
    request = PageRequest(limit)
    page: Page[int] = page_of(list(range(found)), request, total=7, list_fingerprint=LIST, key=lambda item: [item])
    assert (page.items, page.total, page.request) == (list(range(shown)), 7, request)
    if more:
        assert page.next_cursor is not None
        assert read(page.next_cursor, [0]) == [shown - 1]
    else:
        assert page.next_cursor is None
