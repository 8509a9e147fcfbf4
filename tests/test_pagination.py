"""Cursors: what goes in comes out, and nothing else does."""

import base64
import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import InvalidCursor
from app.pagination import Page, PageRequest, decode_cursor, encode_cursor, fingerprint, page_of

LIST = fingerprint("tags", "newsletter")
TEXT_AND_ID = ["VIP", "0190a0a0-0000-7000-8000-000000000000"]
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

keys = st.lists(st.text() | st.integers(), max_size=4)


@given(keys)
def test_what_goes_in_comes_out(key: list[str | int]) -> None:
    cursor = encode_cursor(LIST, key)
    assert decode_cursor(cursor, LIST, [type(part) for part in key]) == key
    # It stands in a query as it is.
    assert set(cursor) <= set(ALPHABET)


@pytest.mark.parametrize("key", [[*"a"], [*"ab"], [*"abc"], TEXT_AND_ID, [7, "é🎉\x00"], []])
def test_a_cursor_with_one_character_changed(key: list[str | int]) -> None:
    """Every character counts, also the last one, of which the decoder needs a part only."""
    cursor = encode_cursor(LIST, key)
    kinds = [type(part) for part in key]
    for place, character in enumerate(cursor):
        for other in {*ALPHABET, "+", "/", "=", " ", "é", "\n", "%"} - {character}:
            with pytest.raises(InvalidCursor):
                decode_cursor(cursor[:place] + other + cursor[place + 1 :], LIST, kinds)


@pytest.mark.parametrize("key", [[*"a"], [*"ab"], [*"abc"], TEXT_AND_ID])
def test_a_cursor_with_one_bit_changed(key: list[str | int]) -> None:
    cursor = encode_cursor(LIST, key)
    raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    for place in range(len(raw)):
        for bit in range(8):
            changed = raw[:place] + bytes([raw[place] ^ 1 << bit]) + raw[place + 1 :]
            with pytest.raises(InvalidCursor):
                decode_cursor(base64.urlsafe_b64encode(changed).rstrip(b"=").decode(), LIST, [type(p) for p in key])


@pytest.mark.parametrize("key", [[*"a"], [*"ab"], [*"abc"], TEXT_AND_ID])
def test_a_cursor_that_is_shorter_or_longer(key: list[str | int]) -> None:
    cursor = encode_cursor(LIST, key)
    others = [cursor[:end] for end in range(len(cursor))]
    others += [cursor[start:] for start in range(1, len(cursor))]
    others += [cursor + more for more in ("A", "AA", "AAAA", "=", "==", "====", " ", "\n", cursor)]
    others += [" " + cursor, "A" + cursor, cursor.lower(), cursor.upper(), cursor[::-1]]
    for other in others:
        with pytest.raises(InvalidCursor):
            decode_cursor(other, LIST, [type(part) for part in key])


@given(st.text())
def test_what_is_no_cursor(text: str) -> None:
    with pytest.raises(InvalidCursor):
        decode_cursor(text, LIST, [str])


@pytest.mark.parametrize("other", [fingerprint("tags", "courses"), fingerprint("contacts", "newsletter"), ""])
def test_a_cursor_of_another_list(other: str) -> None:
    with pytest.raises(InvalidCursor):
        decode_cursor(encode_cursor(LIST, TEXT_AND_ID), other, [str, str])


@pytest.mark.parametrize("kinds", [[], [str], [str, int], [int, str], [str, str, str]])
def test_a_cursor_with_other_parts(kinds: list[type]) -> None:
    with pytest.raises(InvalidCursor):
        decode_cursor(encode_cursor(LIST, TEXT_AND_ID), LIST, kinds)


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
    """The checksum guards against damage, not against somebody who works it out."""
    raw = json.dumps(payload).encode()
    cursor = base64.urlsafe_b64encode(hashlib.sha256(raw).digest()[:6] + raw).rstrip(b"=").decode()
    with pytest.raises(InvalidCursor):
        decode_cursor(cursor, LIST, [str])


@pytest.mark.parametrize("raw", [b"", b"[", b"\xff", b"[1," + b"[" * 600, b"NaN", b"[" + b"1" * 5_000 + b"]"])
def test_a_cursor_with_a_checksum_but_no_json(raw: bytes) -> None:
    cursor = base64.urlsafe_b64encode(hashlib.sha256(raw).digest()[:6] + raw).rstrip(b"=").decode()
    with pytest.raises(InvalidCursor):
        decode_cursor(cursor, LIST, [str])


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
        assert decode_cursor(page.next_cursor, LIST, [int]) == [shown - 1]
    else:
        assert page.next_cursor is None
