"""From bytes to a value, by the book."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.bodies import JSON_MAX_CONTAINERS, JSON_MAX_DEPTH, parse_declared_json, parse_json
from app.errors import Unreadable, UnsupportedMediaType


@given(
    st.recursive(
        st.text() | st.integers() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_what_json_writes_is_read_again(value: object) -> None:
    assert parse_json(json.dumps(value).encode()) == value
    assert parse_json(json.dumps(value, indent=2).encode()) == value


@given(st.text('[]{}"\\a,:', max_size=40), st.integers(1, 80))
def test_depth_is_that_of_the_value(filling: str, depth: int) -> None:
    body = "[" * depth + json.dumps(["x" * JSON_MAX_DEPTH, filling, "[" * JSON_MAX_DEPTH]) + "]" * depth
    if depth + 1 <= JSON_MAX_DEPTH:
        parse_json(body.encode())
    else:
        with pytest.raises(Unreadable, match="deeper"):
            parse_json(body.encode())


@pytest.mark.parametrize("unit", ["[]", "{}"])
def test_lists_and_objects_are_counted(unit: str) -> None:
    # Those in text do not count.
    text = '"[[{{\\\\\\"[["'
    most = f"[{','.join([text, *[unit] * (JSON_MAX_CONTAINERS - 1)])}]"
    assert len(parse_json(most.encode())) == JSON_MAX_CONTAINERS  # type: ignore[arg-type]
    with pytest.raises(Unreadable, match="more than 100,000 lists and objects"):
        parse_json(f"[{most}]".encode())


def test_4_mb_of_small_lists_cost_little() -> None:
    body = b"[" + b",".join([b"[[[[]]]]"] * 460_000) + b"]"
    before = time.thread_time()
    with pytest.raises(Unreadable, match="lists and objects"):
        parse_json(body)
    # Ten milliseconds, where reading them took a second.
    assert time.thread_time() - before < 0.25


def test_the_last_of_repeated_keys_wins() -> None:
    assert parse_json(b'{"a": 1, "a": 2}') == {"a": 2}


def test_lenient_json_has_the_numbers_of_python() -> None:
    body = b'{"a": NaN, "b": -Infinity, "c": 1e999}'
    with pytest.raises(Unreadable):
        parse_json(body)
    assert str(parse_json(body, lenient=True)) == "{'a': nan, 'b': -inf, 'c': inf}"


@pytest.mark.parametrize("lenient", [False, True])
@pytest.mark.parametrize("body", [b"{", b"\xff", b"\xef\xbb\xbf{}", b" ", b"{} {}", b"[" * 100, b"9" * 5_000])
def test_what_is_no_json(body: bytes, lenient: bool) -> None:
    with pytest.raises(Unreadable):
        parse_json(body, lenient=lenient)


def test_json_that_is_declared_as_something_else() -> None:
    assert parse_declared_json("application/json; charset=utf-8", b"[]") == []
    for media_type in (None, "text/plain", "application/json; charset=latin-1"):
        with pytest.raises(UnsupportedMediaType):
            parse_declared_json(media_type, b"[]")
