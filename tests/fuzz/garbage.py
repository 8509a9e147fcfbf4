"""Bytes that no client in its right mind sends: bodies that are hardly JSON, and requests that are hardly HTTP."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from random import Random
from typing import Any
from urllib.parse import urlsplit

import httpx

from tests.described import check
from tests.documents import Operation, document_of, operations, with_key

# Nothing here takes so long; a connection that is held for ever does.
SOON = 30
_PIECE = 65_536
_SHOWN = 300

# Text of JSON, by which fields are filled. Each is a value, or would like to be one.
VALUES: list[bytes] = [
    rb'"\u0000"',
    b'"a\x00b"',
    rb'"\ud800"',
    rb'"\udc00\ud800"',
    b'"\xff\xfe"',
    b'"\xc0\x80"',
    b'"\xed\xa0\x80"',
    b'"\xf4\x90\x80\x80"',
    b'"\xe2\x82',
    b'"' + b"\xcc\x81" * 5_000 + b'"',
    b'"' + b"a" * 100_000 + b'"',
    b'"a\nb"',
    rb'"\x41"',
    b"9" * 20,
    b"9" * 5_000,
    b"-" + b"9" * 400,
    b"1e400",
    b"-1E-400",
    b"1." + b"0" * 5_000 + b"1",
    b"2147483648",
    b"9223372036854775808",
    b"-9223372036854775809",
    b"01",
    b"+1",
    b".5",
    b"0x10",
    b"NaN",
    b"-Infinity",
    b"[" * 63 + b"]" * 63,
    b"[" * 65 + b"]" * 65,
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b'{"a":' * 60 + b"1" + b"}" * 60,
    b"[" + b"[]," * 100_001 + b"[]]",
    b"[" + b"null," * 20_000 + b"null]",
    b"{" + b",".join(b'"%d":1' % n for n in range(3_000)) + b"}",
    b'{"__proto__":{},"__class__":1}',
    b'"0001-01-01T00:00:00+23:59"',
    b'"9999-12-31T23:59:59-23:59"',
    b'"01a214f6-b04c-7611-92b0-bdb7ff4617f6"',
    b"null",
    b"true",
    b"{}",
    b"[]",
    b'""',
    b"",
]
# Where something is to be named, in the path and in the query.
NAMES = [
    b"1",
    b"0",
    b"-1",
    b"99999999999999999999",
    b"%00",
    b"a%00b",
    b"%ff",
    b"%ED%A0%80",
    b"%",
    b"%zz",
    b"..",
    b"%2e%2e%2f",
    b"%0d%0aX-Injected:%201",
    b"a" * 5_000,
    b"%CC%81" * 300,
    b"01a214f6-b04c-7611-92b0-bdb7ff4617f6",
    b"sub_tag_01m8af5gt0ewzr7pvysjn25g87",
    b"a%40example.com",
    b"%F0%9F%98%80",
]
HEADERS = [
    b"Content-Type: text/plain",
    b"Content-Type: application/json; charset=utf-16",
    b"Content-Type: \xff",
    b"Content-Encoding: gzip",
    b"Idempotency-Key: \xe9\xff",
    b"Idempotency-Key: " + b"k" * 300,
    b"X-Idempotency-Key:",
    b"If-Match: *",
    b'If-Match: "\xff", W/"' + b"1" * 1_000 + b'"',
    b"If-None-Match: ,,,",
    b"Authorization: Bearer nobody",
    b"Host: a\xffb",
    b"X-Request-Id: \xf0\x9f\x98\x80",
    b"X-API-Version: 0000-00-00",
    b"Buttondown-Context: \xff",
    b"Origin: null",
    b"Forwarded: for=\xff;proto=" + b"x" * 100,
    b"Expect: 100-continue",
    b"Expect: 200-ok",
    b"Accept-Encoding: \x80",
    b"Range: bytes=0-0",
]
METHODS = [
    b"BREW",
    b"get",
    b"TRACE",
    b"OPTIONS",
    b"CONNECT",
    b"PROPFIND",
    b"PRI",
    b"G ET",
    b"G\xffT",
    b"A" * 5_000,
    b"",
]


async def throw(
    address: str, keys: Mapping[str, str], *, seed: int, goes_on: Callable[[int], bool]
) -> tuple[int, list[str]]:
    """How many were sent, and what was found. `keys` are those of the front ends, by slug."""
    calls = [operation for operation in operations() if operation.front_end.slug in keys]
    found: list[str] = []
    for number in count():
        if not goes_on(number):
            return number, found
        # Each has its own, so that one can be repeated without those before it.
        random = Random(f"{seed}/{number}")
        operation = random.choice(calls)
        key = keys[operation.front_end.slug]
        try:
            await (_send_body if random.random() < 0.6 else _send_request)(random, address, operation, key)
        except AssertionError as error:
            found.append(f"garbage {number} of seed {seed}, {operation}: {error}")
    raise AssertionError("count() has no end")


def for_seconds(seconds: float) -> Callable[[int], bool]:
    """Goes on until then."""
    end = time.monotonic() + seconds
    return lambda _: time.monotonic() < end


# Bodies, in requests that are HTTP.


async def _send_body(random: Random, address: str, operation: Operation, key: str) -> None:
    body = _body(random, operation)
    target = _target(random, address, operation)
    head = [f"{operation.method} ".encode() + target + b" HTTP/1.1", b"Host: polytag.test", *_key(operation, key)]
    head.append(b"Content-Type: application/json")
    if random.random() < 0.2:
        head += random.sample(HEADERS, 2)
    if random.random() < 0.3:
        head.append(b"Transfer-Encoding: chunked")
        size = random.choice([1, 7, 1_000, _PIECE]) if len(body) < 100_000 else _PIECE
        pieces = [body[begin : begin + size] for begin in range(0, len(body), size)]
        framed = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    else:
        head.append(b"Content-Length: %d" % len(body))
        framed = body
    sent = b"\r\n".join([*head, b"Connection: close", b"", b""]) + framed
    answers = await _exchange(address, sent, ends=False)
    # What is refused before it has come whole is answered, and the connection ended as the head has asked. The rest of
    # a large body then hits a closed socket, and the answer may be lost on the way (RFC 9112, 9.6).
    assert answers or len(sent) > 16_384, f"no answer to {_shown(sent)}"
    for status, headers, content in answers:
        _is_no_fault(status, content, sent)
        if status in {100, 431} or b"malformed_request" in content or b"/.." in target:
            # No front end's answer; or httpx, as a browser would, makes another path of this one.
            continue
        try:
            request = httpx.Request(operation.method, address + target.decode("latin-1").partition("?")[0])
            check(httpx.Response(status, headers=headers, content=content, request=request))
        except AssertionError as error:
            raise AssertionError(f"{error}\n  sent: {_shown(sent)}") from None


def _body(random: Random, operation: Operation) -> bytes:
    kind = random.random()
    if kind < 0.02:
        return b'{"name":"' + b"a" * 10_000_000 + b'"}'
    if kind < 0.1:
        return random.randbytes(random.choice([1, 10, 1_000]))
    if kind < 0.25:
        return random.choice(VALUES)
    names = list(_fields(operation)) or ["name"]
    fields = random.sample(names, random.randint(1, min(3, len(names))))
    members = []
    for name in fields:
        value = random.choice(VALUES)
        members.append(json.dumps(name).encode() + b":" + (b"[" + value + b"]" if random.random() < 0.3 else value))
    body = b"{" + b",".join(members) + b"}"
    if kind > 0.85:
        at = random.randrange(len(body))
        body = body[:at] + random.randbytes(random.randint(0, 2)) + body[at + 1 :]
    return random.choice([b"\xef\xbb\xbf", b""] if kind > 0.95 else [b""]) + body


def _fields(operation: Operation) -> Iterator[str]:
    """The names of the fields that its body may have."""
    schemas: dict[str, Any] = document_of(operation.front_end.slug)["components"]["schemas"]
    waiting = [operation.body or {}]
    while waiting:
        schema = waiting.pop()
        if reference := schema.get("$ref"):
            schema = schemas[reference.rpartition("/")[2]]
        waiting += schema.get("anyOf", [])
        yield from schema.get("properties", {})


def _target(random: Random, address: str, operation: Operation) -> bytes:
    """A path of the call, with something for each of its parameters, and sometimes a query."""
    parts = []
    for part in operation.url({}).split("/"):
        names = NAMES[:4] if random.random() < 0.5 else NAMES
        parts.append(random.choice(names) if "{" in part or "%7B" in part else part.encode())
    path = b"/".join(parts)
    if random.random() < 0.3:
        known = [parameter["name"] for parameter in operation.parameters if parameter["in"] == "query"]
        names_ = random.choices([*known, "unknown"], k=random.randint(1, 3))
        path += b"?" + b"&".join(name.encode() + b"=" + random.choice(NAMES) for name in names_)
    return path


def _key(operation: Operation, key: str) -> list[bytes]:
    return [f"{name}: {value}".encode() for name, value in with_key(operation.front_end, key).items()]


# Requests that are hardly any.


async def _send_request(random: Random, address: str, operation: Operation, key: str) -> None:
    target = _target(random, address, operation)
    line = f"{operation.method} ".encode() + target + b" HTTP/1.1\r\n"
    head = line + b"".join(header + b"\r\n" for header in [b"Host: polytag.test", *_key(operation, key)])
    body = b'{"name":"a"}'
    form = random.choice(_FORMS)
    sent = form(random, head + b"Content-Type: application/json\r\n", body)
    for status, _, content in await _exchange(address, sent, ends=True):
        _is_no_fault(status, content, sent)
        # Never the request, as TRACE would.
        assert key.encode() not in content, f"{status} shows the key that was sent: {_shown(sent)}"


def _wrong_length(random: Random, head: bytes, body: bytes) -> bytes:
    length = random.choice(
        [b"-1", b"1", b"5", b"13", b"99", b"1_0", b"0x5", b"9" * 30, b" 12 ", b"12, 12", b"", b"\xff"]
    )
    return head + b"Content-Length: " + length + b"\r\n\r\n" + body


def _broken_chunks(random: Random, head: bytes, body: bytes) -> bytes:
    chunks = random.choice(
        [
            b"zz\r\n" + body,
            b"-1\r\n" + body,
            b"F" * 17 + b"\r\n" + body,
            b"5\r\n" + body + b"\r\n0\r\n\r\n",
            b"99\r\n" + body,
            b"c\n" + body + b"\n0\n\n",
            b"c;" + b"e" * 70_000 + b"\r\n" + body,
            b"c\r\n" + body + b"\r\n0\r\nTrailer\r\n\r\n",
            b"c\r\n" + body,
            b"0\r\n\r\n" + body,
        ]
    )
    return head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks


def _twice(random: Random, head: bytes, body: bytes) -> bytes:
    extra = random.choice(
        [
            b"Content-Length: 12\r\nContent-Length: 12\r\n",
            b"Content-Length: 12\r\nContent-Length: 3\r\n",
            b"Content-Length: 12\r\nTransfer-Encoding: chunked\r\n",
            b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            b"Transfer-Encoding: identity, chunked\r\n",
            b"Content-Length: 12\r\nHost: a\r\nHost: b\r\n",
            b"Content-Length: 12\r\nContent-Type: text/plain\r\n",
            b"Content-Length: 12\r\nAuthorization: Bearer a\r\n",
            b"Content-Length: 12\r\nIdempotency-Key: a\r\nIdempotency-Key: b\r\n",
            b"Content-Length: 12\r\nIf-Match: a\r\nIf-Match: b\r\n",
        ]
    )
    return head + extra + b"Connection: close\r\n\r\n" + body


def _odd_method(random: Random, head: bytes, body: bytes) -> bytes:
    return random.choice(METHODS) + b" " + head.partition(b" ")[2] + b"Connection: close\r\n\r\n"


def _too_long(random: Random, head: bytes, body: bytes) -> bytes:
    size = random.choice([40_000, 60_000, 200_000])
    method, target, rest = head.split(b" ", 2)
    forms = [
        method + b" " + target + b"?" + b"a" * size + b" " + rest,
        method + b" " + target + b"?" + b"a=1&" * (size // 4) + b" " + rest,
        method + b" " + target + b"/" + b"a" * size + b" " + rest,
        head + b"X: " + b"a" * size + b"\r\n",
        head + b"X: a\r\n" * (size // 6),
        head + b"X" * size + b": a\r\n",
    ]
    return random.choice(forms) + b"Connection: close\r\n\r\n"


def _pipelined(random: Random, head: bytes, body: bytes) -> bytes:
    good = head + b"Content-Length: 12\r\n\r\n" + body
    rubbish = random.choice(
        [random.randbytes(50), b"\r\n" * 100, b"GET", b"\x16\x03\x01\x02\x00", b"PRI * HTTP/2.0\r\n\r\n"]
    )
    return good * random.randint(1, 3) + rubbish


def _odd_target(random: Random, head: bytes, body: bytes) -> bytes:
    target = random.choice(
        [b"*", b"http://other.test/tags", b"//tags", b"/\xff", b"/ /", b"", b"/\x00", b"tags", b"/#a", b"?"]
    )
    method, _, rest = head.split(b" ", 2)
    return method + b" " + target + b" " + rest + b"Connection: close\r\n\r\n"


def _damaged(random: Random, head: bytes, body: bytes) -> bytes:
    sent = bytearray(head + b"Content-Length: 12\r\nConnection: close\r\n\r\n" + body)
    for _ in range(random.randint(1, 5)):
        at = random.randrange(len(sent))
        sent[at : at + random.randint(0, 2)] = random.randbytes(random.randint(0, 2))
    return bytes(sent)


def _breaks_off(random: Random, head: bytes, body: bytes) -> bytes:
    whole = head + b"Content-Length: 12\r\n\r\n" + body
    return whole[: random.randrange(len(whole))]


def _odd_header(random: Random, head: bytes, body: bytes) -> bytes:
    extra = random.choice([b"no colon", b": no name", b"a b: c", b"X:\x00", b"X: \x0b", b"X: a\r\n folded", *HEADERS])
    return head + extra + b"\r\nContent-Length: 12\r\nConnection: close\r\n\r\n" + body


_FORMS = [
    _wrong_length,
    _broken_chunks,
    _twice,
    _odd_method,
    _too_long,
    _pipelined,
    _odd_target,
    _damaged,
    _breaks_off,
    _odd_header,
]


# Sending, and what must hold whatever was sent.

Answer = tuple[int, list[tuple[str, str]], bytes]


async def _exchange(address: str, sent: bytes, *, ends: bool) -> list[Answer]:
    """All answers up to the end of the connection.

    `ends` lets the client end its half of it, whatever it has asked. The server may take that for one that went away.
    """
    parts = urlsplit(address)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)

    async def write() -> None:
        try:
            for begin in range(0, len(sent), _PIECE):
                writer.write(sent[begin : begin + _PIECE])
                await writer.drain()
            if ends:
                writer.write_eof()
        except OSError:
            # It was refused before it had come whole.
            pass

    writing = asyncio.create_task(write())
    received = bytearray()
    try:
        async with asyncio.timeout(SOON):
            try:
                while piece := await reader.read(_PIECE):
                    received += piece
            except ConnectionError:
                pass
            await writing
    except TimeoutError:
        raise AssertionError(f"the connection was held for {SOON} seconds after {_shown(sent)}") from None
    finally:
        writing.cancel()
        writer.close()
    return list(_answers(bytes(received), is_head=sent.startswith(b"HEAD ")))


def _answers(received: bytes, *, is_head: bool) -> Iterator[Answer]:
    while received:
        head, _, received = received.partition(b"\r\n\r\n")
        line, *rest = head.decode("latin-1").split("\r\n")
        assert line.startswith("HTTP/1.1 "), f"an answer that is none: {line[:_SHOWN]!r}"
        headers = [(name.lower(), value) for name, _, value in (one.partition(": ") for one in rest)]
        assert "x-injected" not in dict(headers), "a header was smuggled in"
        length = 0 if is_head else int(dict(headers).get("content-length", 0))
        if len(received) < length:
            # The rest was lost on its way, as the whole may be.
            return
        yield int(line.split()[1]), headers, received[:length]
        received = received[length:]


def _is_no_fault(status: int, content: bytes, sent: bytes) -> None:
    assert status < 500, f"{status} {content[:_SHOWN]!r}\n  sent: {_shown(sent)}"


def _shown(sent: bytes) -> str:
    return f"{sent[:_SHOWN]!r} … ({len(sent):,} bytes)" if len(sent) > _SHOWN else repr(sent)
