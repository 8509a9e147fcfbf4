"""HTTP as it is sent: heads without end, upgrades, bodies that break off, and clients that are slow at all of it."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import structlog
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.server import ServerState

from app import protocol
from app.config import Settings
from app.protocol import HEAD_MAX_BYTES, HEADERS_MAX, Protocol
from app.repositories.tags import TagRepository
from tests.conftest import MakeDatabase, Workspace, started
from tests.series import here, value
from tests.test_server import Service

# Nothing here takes so long; a connection that is held for ever does.
SOON = 20


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Connection:
    """A client that sends bytes and reads answers."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, *data: bytes) -> None:
        for piece in data:
            self._writer.write(piece)
            await self._writer.drain()

    async def answer(self) -> Answer:
        """The next one on this connection."""
        async with asyncio.timeout(SOON):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {name.lower(): text for name, _, text in (line.partition(": ") for line in head[1:] if line)}
            body = await self._reader.readexactly(int(headers.get("content-length", 0)))
        return Answer(int(head[0].split()[1]), headers, body)

    async def ends(self) -> bool:
        """Whether the server ends the connection, without another byte."""
        async with asyncio.timeout(SOON):
            try:
                return await self._reader.read() == b""
            except ConnectionResetError:
                return True

    async def is_closed_after(self) -> Answer:
        answer = await self.answer()
        assert await self.ends()
        return answer

    def close(self) -> None:
        self._writer.close()


Connect = Callable[[], Awaitable[Connection]]


@asynccontextmanager
async def served(app: ASGIApp, *, keep_alive: int = 5) -> AsyncIterator[Connect]:
    """A server with this application, without a process of its own."""
    config = Config(app, http=Protocol, lifespan="off", log_config=None, timeout_keep_alive=keep_alive)
    config.load()
    state = ServerState()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Protocol(config, state, {}), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    connections: list[Connection] = []

    async def connect() -> Connection:
        connections.append(Connection(*await asyncio.open_connection("127.0.0.1", port)))
        return connections[-1]

    try:
        yield connect
    finally:
        server.close()
        for connection in connections:
            connection.close()
        async with asyncio.timeout(SOON):
            while state.connections or state.tasks:
                await asyncio.sleep(0.01)


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers by what the request was."""
    request = Request(scope, receive)
    said = {
        "method": request.method,
        "path": request.url.path,
        "body": (await request.body()).decode(),
        "names": [name.decode() for name, _ in scope["headers"]],
    }
    await JSONResponse(said)(scope, receive, send)


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    async with served(echo) as connect:
        yield connect


def refused(answer: Answer, status: int, code: str) -> None:
    """A problem document, and the end of the connection."""
    assert answer.status == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["connection"] == "close"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert "server" not in answer.headers
    document = answer.json
    assert (document["status"], document["code"]) == (status, code)
    assert document["type"] == f"urn:polytag:problem:{code}"
    assert document["request_id"] == answer.headers["x-request-id"]
    assert set(document) == {"type", "title", "status", "detail", "code", "request_id"}


HEAD = b"GET /a HTTP/1.1\r\nHost: x\r\n"
# What the two lines above count: the path, and a name and a value with what is between and behind them.
_SIZE = len(b"/a") + len(b"Hostx") + 4


def head_of(size: int) -> bytes:
    """A head of this size."""
    return HEAD + b"a: " + b"v" * (size - _SIZE - 5) + b"\r\n\r\n"


# The size of the head.


async def test_a_head_may_be_as_large_as_the_limit(connect: Connect) -> None:
    connection = await connect()
    for _ in range(3):
        await connection.send(head_of(HEAD_MAX_BYTES))
        assert (await connection.answer()).json["names"] == ["host", "a"]


async def test_what_follows_the_largest_head_is_no_part_of_it(connect: Connect) -> None:
    connection = await connect()
    length = b"Content-Length: 2\r\n"
    head = head_of(HEAD_MAX_BYTES - (len(length) - 2 + 2)).replace(b"a: ", length + b"a: ")
    for _ in range(2):
        await connection.send(head)
        await asyncio.sleep(0.05)
        await connection.send(b"ok")
        assert (await connection.answer()).json["body"] == "ok"


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(head_of(HEAD_MAX_BYTES + 1), id="one byte more"),
        pytest.param(b"GET /" + b"a" * HEAD_MAX_BYTES + b" HTTP/1.1\r\nHost: x\r\n\r\n", id="path"),
        pytest.param(HEAD + b"".join(b"a%d: b\r\n" % n for n in range(HEADERS_MAX)) + b"\r\n", id="headers"),
        pytest.param(HEAD + b"a: b\r\n" * 20_000 + b"\r\n", id="all of them"),
    ],
)
async def test_a_head_beyond_the_limit(connect: Connect, head: bytes) -> None:
    connection = await connect()
    await connection.send(head)
    refused(await connection.is_closed_after(), 431, "head_too_large")


async def test_as_many_headers_as_the_limit(connect: Connect) -> None:
    connection = await connect()
    await connection.send(HEAD + b"".join(b"a%d: b\r\n" % n for n in range(HEADERS_MAX - 1)) + b"\r\n")
    assert len((await connection.answer()).json["names"]) == HEADERS_MAX


@pytest.mark.parametrize(
    ("begin", "more"),
    [
        pytest.param(b"", b"\r\n", id="empty lines"),
        pytest.param(b"", b"G", id="method"),
        pytest.param(b"GET /", b"a", id="path"),
        pytest.param(HEAD, b"a", id="name"),
        pytest.param(HEAD + b"a:", b" ", id="blanks"),
        pytest.param(HEAD + b"a: ", b"v", id="value"),
        pytest.param(HEAD, b"a: b\r\n", id="headers"),
        pytest.param(
            b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"e", id="chunk extension"
        ),
        pytest.param(
            b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\na:", b"v", id="trailer"
        ),
        pytest.param(
            b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n",
            b"a:v\r\n",
            id="trailers",
        ),
    ],
)
async def test_what_has_no_end_is_not_read_to_its_end(connect: Connect, begin: bytes, more: bytes) -> None:
    connection = await connect()
    sent = 0
    await connection.send(begin)
    piece = more * (16_384 // len(more))
    try:
        async with asyncio.timeout(SOON):
            while sent < 16_000_000:
                await connection.send(piece)
                sent += len(piece)
    except ConnectionError:
        pass
    # What the sockets hold is the most of it.
    assert sent < 16_000_000


async def test_the_count_begins_anew_with_each_request(connect: Connect) -> None:
    connection = await connect()
    large = b"b" * 300_000
    framed = b"Content-Length: %d\r\n\r\n" % len(large)
    post = b"POST /p HTTP/1.1\r\nHost: x\r\n" + framed + large
    for _ in range(3):
        # In one piece, and cut in the middle of the second head.
        whole = post + head_of(HEAD_MAX_BYTES) + post + HEAD
        await connection.send(whole[: len(post) + 30_000], whole[len(post) + 30_000 :], b"\r\n")
        answers = [await connection.answer() for _ in range(4)]
        assert [len(answer.json["body"]) for answer in answers] == [len(large), 0, len(large), 0]


async def test_chunks_and_trailers(connect: Connect) -> None:
    connection = await connect()
    chunked = b"POST /p HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    await connection.send(
        chunked, b"1;a=b\r\nx\r\n" * 50_000, b"0\r\nAuthorization: of a trailer\r\n\r\n", HEAD, b"\r\n"
    )
    answer = await connection.answer()
    assert answer.json["body"] == "x" * 50_000
    # They are no headers of the request.
    assert answer.json["names"] == ["host", "transfer-encoding"]
    assert (await connection.answer()).json["path"] == "/a"


async def test_pieces_of_one_byte(connect: Connect) -> None:
    connection = await connect()
    for piece in (HEAD + b"Content-Length: 2\r\n\r\nok" + HEAD + b"\r\n").decode():
        await connection.send(piece.encode())
    assert (await connection.answer()).json["body"] == "ok"
    assert (await connection.answer()).json["body"] == ""


# What is no HTTP.


@pytest.mark.parametrize(
    "sent",
    [
        b"hello\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\xe9 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, gzip\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
        b"CONNECT example.com:443 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"CONNECT / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"BREW / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"get / HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
async def test_what_cannot_be_read(connect: Connect, sent: bytes) -> None:
    connection = await connect()
    await connection.send(sent)
    refused(await connection.is_closed_after(), 400, "malformed_request")


async def test_a_refusal_comes_behind_the_answers_before_it() -> None:
    go_on = asyncio.Event()

    async def wait(scope: Scope, receive: Receive, send: Send) -> None:
        await go_on.wait()
        await echo(scope, receive, send)

    async with served(wait) as connect:
        connection = await connect()
        await connection.send(HEAD + b"\r\n" + b"GET /b HTTP/1.1\r\nHost: x\r\n\r\n" + b"nonsense\r\n\r\n")
        await asyncio.sleep(0.05)
        go_on.set()
        assert [(await connection.answer()).json["path"] for _ in range(2)] == ["/a", "/b"]
        refused(await connection.is_closed_after(), 400, "malformed_request")


async def test_a_request_is_told_that_its_client_is_gone_though_another_waits_behind_it() -> None:
    """Or it would write to a closed connection, and a fault would be logged that is none."""
    told = asyncio.Event()

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        if scope["path"] == "/b":
            assert (await receive())["type"] == "http.disconnect"
            told.set()
        await Response(scope["path"])(scope, receive, send)

    async with served(answer) as connect:
        connection = await connect()
        await connection.send(HEAD + b"\r\n", b"GET /b HTTP/1.1\r\nHost: x\r\n\r\n", HEAD + b"\r\n")
        assert (await connection.answer()).body == b"/a"
        connection.close()
        async with asyncio.timeout(SOON):
            await told.wait()


CHUNKED = b"POST /%s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


async def test_a_body_that_breaks_is_refused_in_place_of_its_request(connect: Connect) -> None:
    connection = await connect()
    await connection.send(CHUNKED % b"a" + b"1\r\nx\r\n", b"no number\r\n")
    refused(await connection.is_closed_after(), 400, "malformed_request")
    connection = await connect()
    # Here it waits behind another one.
    await connection.send(HEAD + b"\r\n" + CHUNKED % b"b" + b"no number\r\n")
    assert (await connection.answer()).json["path"] == "/a"
    refused(await connection.is_closed_after(), 400, "malformed_request")


async def test_a_body_that_breaks_once_it_is_answered_ends_the_connection() -> None:
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        await Response("early")(scope, receive, send)

    async with served(answer) as connect:
        connection = await connect()
        await connection.send(CHUNKED % b"a")
        assert (await connection.answer()).body == b"early"
        await connection.send(b"no number\r\n")
        assert await connection.ends()


async def test_refusals_are_logged_and_counted_without_what_was_sent(connect: Connect) -> None:
    labels = {"front_end": "other", "method": "other", "route": "other"}

    def counts() -> Sequence[float]:
        return [value(here(), "http_requests_total", **labels, status=status) for status in ("400", "431")]

    before = counts()
    secret = b"ptag_" + b"s" * 38
    with structlog.testing.capture_logs() as lines:
        for sent in (b"%s / HTTP/1.1\r\nHost: x\r\n\r\n" % secret, HEAD + b"Authorization: %s\r\n" % secret * 2_000):
            connection = await connect()
            await connection.send(sent)
            await connection.is_closed_after()
    assert [now - was for now, was in zip(counts(), before, strict=True)] == [1, 1]
    assert [(line["event"], line["status"], line["error"]) for line in lines] == [
        ("request", 400, "malformed_request"),
        ("request", 431, "head_too_large"),
    ]
    assert all(line["client_ip"] == "127.0.0.1" and line["log_level"] == "info" for line in lines)
    assert "ptag_" not in str(lines)


# Upgrades.


UPGRADES = [
    pytest.param(b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n", id="h2c"),
    pytest.param(b"Connection: keep-alive, upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n", id="ws"),
]


@pytest.mark.parametrize("upgrade", UPGRADES)
@pytest.mark.parametrize("pieces", [1, 7, 1_000])
async def test_an_upgrade_is_passed_over(connect: Connect, upgrade: bytes, pieces: int) -> None:
    connection = await connect()
    sent = b"".join(
        [
            b"POST /1 HTTP/1.1\r\nHost: x\r\n" + upgrade + b"Content-Length: 5\r\n\r\nhello",
            b"POST /2 HTTP/1.1\r\nHost: x\r\n"
            + upgrade
            + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
            b"GET /3 HTTP/1.1\r\nHost: x\r\n" + upgrade + b"\r\n",
            b"POST /4 HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nok",
            b"POST /5 HTTP/1.1\r\nHost: x\r\n" + upgrade + b"Content-Length: 0\r\n\r\n",
            b"GET /6 HTTP/1.1\r\nHost: x\r\n" + upgrade + b"Connection: close\r\n\r\n",
        ]
    )
    step = -(-len(sent) // pieces)
    await connection.send(*(sent[start : start + step] for start in range(0, len(sent), step)))
    answers = [await connection.answer() for _ in range(6)]
    assert [(answer.json["path"], answer.json["body"]) for answer in answers] == [
        ("/1", "hello"),
        ("/2", "abcde"),
        ("/3", ""),
        ("/4", "ok"),
        ("/5", ""),
        ("/6", ""),
    ]
    assert answers[0].json["names"].count("content-length") == 1
    assert await connection.ends()


async def test_a_body_behind_an_upgrade_is_no_request(connect: Connect) -> None:
    inner = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
    for framing, body in (
        (b"Content-Length: %d\r\n" % len(inner), inner),
        (b"Transfer-Encoding: chunked\r\n", b"%x\r\n%s\r\n0\r\n\r\n" % (len(inner), inner)),
    ):
        connection = await connect()
        upgrade = b"Connection: Upgrade\r\nUpgrade: h2c\r\n"
        await connection.send(b"POST /a HTTP/1.1\r\nHost: x\r\n" + upgrade + framing + b"\r\n" + body + HEAD + b"\r\n")
        assert (await connection.answer()).json["body"] == inner.decode()
        assert (await connection.answer()).json["path"] == "/a"


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Transfer-Encoding: chunked, gzip\r\n",
        b"Content-Length: +5\r\n",
    ],
)
async def test_a_framing_that_is_in_doubt_is_refused_with_an_upgrade_too(connect: Connect, framing: bytes) -> None:
    connection = await connect()
    await connection.send(
        b"POST /a HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n" + framing + b"\r\nhello"
    )
    refused(await connection.is_closed_after(), 400, "malformed_request")


async def test_the_body_behind_an_upgrade_may_break_too(connect: Connect) -> None:
    connection = await connect()
    upgrade = b"Connection: Upgrade\r\nUpgrade: h2c\r\nTransfer-Encoding: chunked\r\n\r\n"
    await connection.send(b"POST /a HTTP/1.1\r\nHost: x\r\n" + upgrade + b"no number\r\n")
    refused(await connection.is_closed_after(), 400, "malformed_request")


# Slow clients.


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Patience for a fraction of a second."""
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.2)
    monkeypatch.setattr(protocol, "STALLED_SECONDS", 0.2)


@pytest.mark.usefixtures("hurry")
@pytest.mark.parametrize("begun", [b"G", HEAD, HEAD + b"a: b\r\nc: "])
@pytest.mark.parametrize("before", [0, 1])
async def test_a_head_that_does_not_end(connect: Connect, begun: bytes, before: int) -> None:
    connection = await connect()
    for _ in range(before):
        await connection.send(HEAD + b"\r\n")
        await connection.answer()
    await connection.send(begun)
    refused(await connection.is_closed_after(), 408, "slow_head")


@pytest.mark.usefixtures("hurry")
async def test_a_trickle_does_not_make_the_time_longer(connect: Connect) -> None:
    connection = await connect()
    await connection.send(HEAD)

    async def trickle() -> None:
        while True:
            await connection.send(b"a")
            await asyncio.sleep(0.02)

    trickling = asyncio.create_task(trickle())
    try:
        refused(await connection.answer(), 408, "slow_head")
    finally:
        trickling.cancel()
        await asyncio.gather(trickling, return_exceptions=True)


@pytest.mark.usefixtures("hurry")
# After an answer and without another byte it is uvicorn that waits.
@pytest.mark.parametrize(("before", "sent"), [(0, b""), (0, b"\r\n"), (1, b"\r\n")])
async def test_a_connection_on_which_nothing_is_asked_ends_in_silence(
    connect: Connect, before: int, sent: bytes
) -> None:
    connection = await connect()
    for _ in range(before):
        await connection.send(HEAD + b"\r\n")
        await connection.answer()
    await connection.send(sent)
    assert await connection.ends()


@pytest.mark.usefixtures("hurry")
async def test_the_time_of_the_head_is_that_of_the_client() -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def wait(scope: Scope, receive: Receive, send: Send) -> None:
        begun.set()
        await go_on.wait()
        await echo(scope, receive, send)

    async with served(wait) as connect:
        connection = await connect()
        await connection.send(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n")
        async with asyncio.timeout(SOON):
            await begun.wait()
        # Longer than a head may take: neither the body nor the answer is one.
        await asyncio.sleep(0.4)
        # The third head begins, and its rest is not read before the first answer.
        await connection.send(b"ok" + HEAD + b"\r\n" + HEAD)
        await asyncio.sleep(0.4)
        await connection.send(b"\r\n")
        await asyncio.sleep(0.1)
        go_on.set()
        assert (await connection.answer()).json["body"] == "ok"
        assert [(await connection.answer()).json["path"] for _ in range(2)] == ["/a", "/a"]


@pytest.mark.usefixtures("hurry")
async def test_the_time_of_one_head_is_not_that_of_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[Protocol] = []

    def note(self: Protocol) -> None:
        ended.append(self)

    monkeypatch.setattr(Protocol, "_head_timed_out", note)

    async def wait(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(0.5)
        await echo(scope, receive, send)

    async with served(wait) as connect:
        connection = await connect()
        await connection.send(HEAD, b"\r\n")
        await connection.answer()
    assert ended == []


async def test_a_head_that_begins_behind_another_request_has_its_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 1.5)
    # Which is longer than an idle connection is kept.
    async with served(echo, keep_alive=1) as connect:
        connection = await connect()
        await connection.send(HEAD + b"\r\n" + HEAD)
        assert (await connection.answer()).status == 200
        refused(await connection.is_closed_after(), 408, "slow_head")


@pytest.mark.usefixtures("hurry")
async def test_a_body_that_trickles_behind_its_answer_ends_too() -> None:
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        await Response("early")(scope, receive, send)

    async with served(answer) as connect:
        connection = await connect()
        await connection.send(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n")
        assert (await connection.answer()).body == b"early"

        async def trickle() -> None:
            while True:
                await connection.send(b"a")
                await asyncio.sleep(0.02)

        trickling = asyncio.create_task(trickle())
        assert await connection.ends()
        trickling.cancel()
        await asyncio.gather(trickling, return_exceptions=True)


@pytest.mark.usefixtures("hurry")
@pytest.mark.parametrize("high_water", [None, 10**9], ids=["in the answer", "behind the answer"])
@pytest.mark.parametrize("connection_header", [b"", b"Connection: close\r\n"], ids=["kept", "closed"])
async def test_a_client_that_takes_nothing_of_its_answer_is_left(
    high_water: int | None,
    connection_header: bytes,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    lost = asyncio.Event()

    def connection_made(self: Protocol, transport: asyncio.Transport) -> None:
        made(self, transport)
        # Below it the server writes without waiting, and is done with the answer at once.
        transport.set_write_buffer_limits(high=high_water)

    def connection_lost(self: Protocol, error: Exception | None) -> None:
        ended(self, error)
        lost.set()

    made, ended = Protocol.connection_made, Protocol.connection_lost
    monkeypatch.setattr(Protocol, "connection_made", connection_made)
    monkeypatch.setattr(Protocol, "connection_lost", connection_lost)

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"50000001")]})
        await send({"type": "http.response.body", "body": b"x" * 50_000_000, "more_body": True})
        await send({"type": "http.response.body", "body": b"x"})

    async with served(answer) as connect:
        connection = await connect()
        # What was asked behind it is not begun on a connection that is gone.
        await connection.send((HEAD + connection_header + b"\r\n") * 3)
        async with asyncio.timeout(SOON):
            await lost.wait()
        await asyncio.sleep(0.05)
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


# The whole service.


async def test_a_slow_client_holds_nothing_that_another_needs(
    database_url: str, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    authorization = f"Authorization: Bearer {workspace.provisioned.key}\r\n".encode()
    async with (
        started(Settings(database_url=database_url, pool_size=1)) as app,
        served(app) as connect,
    ):
        quick = await connect()

        async def call(method: bytes, path: bytes, body: bytes = b"") -> Answer:
            framing = b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
            await quick.send(b"%s %s HTTP/1.1\r\nHost: x\r\n" % (method, path) + authorization + framing + body)
            return await quick.answer()

        description = b"d" * 1_000
        for batch in range(3):
            tags = b",".join(b'{"name":"%d-%d","description":"%s"}' % (batch, n, description) for n in range(100))
            assert (await call(b"POST", b"/tags/batch", b'{"tags":[%s]}' % tags)).status == 200

        slow_head, slow_body, slow_reader = await connect(), await connect(), await connect()
        await slow_head.send(b"GET /tags HTTP/1.1\r\nHost: x\r\n" + authorization)
        await slow_body.send(b"POST /tags HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n" + authorization)
        await slow_body.send(b'Content-Length: 1000\r\n\r\n{"name":')
        # Far more than sockets hold, and none of it is read.
        await slow_reader.send((b"GET /tags?limit=1000 HTTP/1.1\r\nHost: x\r\n" + authorization + b"\r\n") * 40)
        for n in range(5):
            assert (await call(b"POST", b"/tags", b'{"name":"quick %d"}' % n)).status == 201
            assert (await call(b"GET", b"/tags?limit=1")).status == 200
            await asyncio.sleep(0.05)
        # They are still served, once they go on.
        await slow_head.send(b"\r\n")
        assert (await slow_head.answer()).status == 200
        await slow_body.send(b'"slow"}'.ljust(992))
        assert (await slow_body.answer()).status == 201
        assert [(await slow_reader.answer()).status for _ in range(40)] == [200] * 40


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_broken_body_does_not_hide_that_the_request_is_carried_out(
    database_url: str, workspace: Workspace, at_once: bool
) -> None:
    """A call that reads no body is done before the body turns out to be none."""
    tag = (await workspace.repository(TagRepository).create({"name": "VIP"})).tag
    head = f"DELETE /tags/{tag.id} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
    head += f"Authorization: Bearer {workspace.provisioned.key}\r\n\r\n"
    async with started(Settings(database_url=database_url)) as app, served(app) as connect:
        connection = await connect()
        await connection.send(*([head.encode() + b"zz\r\n"] if at_once else [head.encode(), b"zz\r\n"]))
        answer = await connection.answer()
    if answer.status != 204:
        refused(answer, 400, "malformed_request")
        assert answer.json["detail"].endswith("Whether the request was carried out is not known.")


@pytest.mark.parametrize(
    ("is_finished", "taken", "is_left"), [(True, 1_000, True), (True, 20_000, False), (False, 1, False)]
)
async def test_a_client_that_takes_next_to_nothing_of_its_answer_is_left(
    is_finished: bool, taken: int, is_left: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left of a finished answer; while one is being written, what is left may be more than before."""
    monkeypatch.setattr(protocol, "STALLED_SECONDS", 0.01)
    aborted = asyncio.Event()

    class Socket:
        """What the kernel takes of an answer, which has sizes of its own."""

        left = 10 * taken

        def get_write_buffer_size(self) -> int:
            self.left -= taken
            return max(self.left, 0)

        def abort(self) -> None:
            aborted.set()

    one = object.__new__(Protocol)
    one.transport, one.loop = Socket(), asyncio.get_running_loop()  # type: ignore[assignment]
    one.cycle = SimpleNamespace(response_complete=is_finished)  # type: ignore[assignment]
    one._watch_writing()
    async with asyncio.timeout(SOON):
        while one._stall_timer is not None and not aborted.is_set():
            await asyncio.sleep(0.001)
    assert aborted.is_set() is is_left


async def test_a_running_service(new_database: MakeDatabase) -> None:
    """All of it together, as it is run: in a process of its own, with the event loop that it has there."""
    url = await new_database()
    with Service("--workers", "2", POLYTAG_DATABASE_URL=url) as service:
        where = urlsplit(service.address)

        async def connect() -> Connection:
            return Connection(*await asyncio.open_connection(where.hostname, where.port))

        authorization = b"Authorization: Bearer " + service.key.encode() + b"\r\nContent-Type: application/json\r\n"
        upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
        connection = await connect()
        for name in (b"one", b"two"):
            body = b'{"name":"%s"}' % name
            framing = b"Content-Length: %d\r\n\r\n" % len(body)
            await connection.send(b"POST /tags HTTP/1.1\r\nHost: x\r\n" + authorization + upgrade + framing, body)
            assert (await connection.answer()).json["name"] == name.decode()
        connection.close()
        for sent, status, code in (
            (head_of(HEAD_MAX_BYTES + 1), 431, "head_too_large"),
            (b"nonsense\r\n\r\n", 400, "malformed_request"),
            (b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n", 400, "malformed_request"),
        ):
            connection = await connect()
            await connection.send(sent)
            refused(await connection.is_closed_after(), status, code)
            connection.close()
        async with httpx.AsyncClient() as client:
            assert "server" not in (await client.get(f"{service.address}/healthz")).headers
    requests = [json.loads(line) for line in service.log if '"request"' in line]
    assert [line["error"] for line in requests if line["route"] is None] == [
        "head_too_large",
        "malformed_request",
        "malformed_request",
    ]
    assert not [line for line in service.log if "Invalid HTTP" in line or "upgrade" in line]
