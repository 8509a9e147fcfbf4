"""HTTP/1.1 on a connection: uvicorn's protocol, with a bound to what comes before an application sees a request.

Uvicorn 0.54 with httptools takes a head of any size for any time, and an upgrade that it does not know costs a request
its body. What is refused here is answered by a problem document, since no front end is known yet, and is in the log and
in the metrics, without anything that was sent.
"""

import asyncio
import re
from asyncio import TimerHandle
from dataclasses import dataclass, replace
from itertools import chain

import httptools
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from app import metrics
from app.middleware import Edge
from app.routers.problems import RefusalCode, render_refusal

# Request line and headers together; of the trailers of a chunked body as much again.
HEAD_MAX_BYTES = 65_536
HEADERS_MAX = 200
# From the first byte of a request, or from the connection, to the end of the head.
HEAD_SECONDS = 10
# A client that takes nothing of its answer for so long is not there any more, and one that takes next to nothing of
# an answer that is finished is not waited for.
STALLED_SECONDS = 30
STALLED_BYTES = 16_384

# Says of a refusal that it is made; nobody reads it for longer than it takes to write it.
_REFUSAL_SECONDS = 10
# A host's name, an address in brackets, and a port; empty where there is none.
_HOST = re.compile(rb"[0-9A-Za-z._~!$&'()*+,;=%:\[\]-]*")
_FRAMING = frozenset({b"content-length", b"transfer-encoding"})


@dataclass(frozen=True, slots=True)
class _Refused:
    """Why something is not taken for a request."""

    code: RefusalCode
    detail: str
    outcome: str = "Nothing was written."


class _Stop(Exception):
    """Raised in what the parser calls, so that it stops. It comes out of the parser as the context of its own error."""

    def __init__(self, refused: _Refused) -> None:
        super().__init__(refused.detail)
        self.refused = refused


_TOO_LARGE = _Refused(
    "head_too_large",
    f"The request line and the headers have more than {HEAD_MAX_BYTES:,} bytes, or there are more than {HEADERS_MAX} "
    "headers. Nothing was read further.",
)
_TOO_SLOW = _Refused("slow_head", f"The request line and the headers did not come within {HEAD_SECONDS} seconds.")
_MALFORMED = _Refused("malformed_request", "What was sent is not HTTP/1.1 by the book; it may be meant for https.")
_NO_HOST = _Refused("malformed_request", "A request has one Host header, which holds a host's name (RFC 9112, 3.2).")
_NO_TUNNEL = _Refused("malformed_request", "CONNECT asks for a proxy, and this is none.")


class Protocol(HttpToolsProtocol):
    """One connection of a client."""

    # Within a head, from its first byte to its last.
    _in_head = False
    # Within a request, from its first byte to the last one of its body.
    _in_message = False
    # What was received since the last end of a head, piece of a body or end of a request, not counting what came
    # together with it.
    _pending_bytes = 0
    _refused = False
    # The head that is fed is our own, see _ignore_upgrade.
    _repeats_head = False
    _head_timer: TimerHandle | None = None
    _stall_timer: TimerHandle | None = None
    # The request that runs. Uvicorn's `cycle` is the newest, which may wait behind it.
    _running: RequestResponseCycle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        super().connection_made(transport)
        self._start_head_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_head_timer()
        if self._stall_timer is not None:
            self._stall_timer.cancel()
        # Nobody is there for what was asked behind the request that runs.
        self.pipeline.clear()
        super().connection_lost(exc)
        if self._running is not None and not self._running.response_complete:
            # Uvicorn tells the newest one only. This one would write to a closed connection.
            self._running.disconnected = True
            self._running.message_event.set()

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        self._unset_keepalive_if_required()
        self._pending_bytes += len(data)
        try:
            while True:
                try:
                    self.parser.feed_data(data)
                    break
                except httptools.HttpParserUpgrade as upgrade:
                    data = data[upgrade.args[0] :]
                    self._ignore_upgrade()
        except httptools.HttpParserError as error:
            cause = error.__context__
            self._refuse(cause.refused if isinstance(cause, _Stop) else _MALFORMED)
            return
        if self._pending_bytes > HEAD_MAX_BYTES:
            self._refuse(_TOO_LARGE)
        elif self._head_timer is None and (self._in_head or self.cycle is None or self.cycle.response_complete):
            # No request runs, whose time is limited, and uvicorn waits no longer for the next one.
            self._start_head_timer()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGIApp) -> None:  # type: ignore[override]
        self._running = cycle
        # Uvicorn has types of its own.
        super()._start_asgi_task(cycle, app)  # type: ignore[arg-type]

    # What the parser calls.

    def on_message_begin(self) -> None:
        if self._repeats_head:
            return
        self._in_head = self._in_message = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        if self._repeats_head:
            self._repeats_head = False
            return
        size = len(self.url) + sum(map(len, chain.from_iterable(self.headers))) + 4 * len(self.headers)
        if size > HEAD_MAX_BYTES or len(self.headers) > HEADERS_MAX:
            raise _Stop(_TOO_LARGE)
        if self.parser.get_method() == b"CONNECT":
            raise _Stop(_NO_TUNNEL)
        hosts = [value for name, value in self.headers if name == b"host"]
        if len(hosts) > 1 or not all(map(_HOST.fullmatch, hosts)) or not (hosts or self._is_older()):
            raise _Stop(_NO_HOST)
        super().on_headers_complete()
        self._in_head = False
        self._pending_bytes = 0
        self._stop_head_timer()
        # Trailers come the same way, and the application has the list of headers already.
        self.headers = []

    def _is_older(self) -> bool:
        return bool(self.parser.get_http_version() == "1.0")

    def on_body(self, body: bytes) -> None:
        self._pending_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            # The parser takes what follows the head for another protocol.
            return
        self._in_message = False
        self._pending_bytes = 0
        super().on_message_complete()

    def _ignore_upgrade(self) -> None:
        """Go on as if no upgrade had been asked for, which a server may (RFC 9110, 7.8).

        The parser has stopped behind the head. Another one reads a head with the same framing, and with it the body.
        """
        head = [b"POST / HTTP/", self.parser.get_http_version().encode(), b"\r\n"]
        for name, value in self.cycle.scope["headers"]:
            if name in _FRAMING:
                head += [name, b": ", value, b"\r\n"]
        if not self.cycle.keep_alive:
            head.append(b"connection: close\r\n")
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._repeats_head = True
        self.parser.feed_data(b"".join([*head, b"\r\n"]))

    # Refusals.

    def _refuse(self, refused: _Refused) -> None:
        """Answer what cannot be a request, behind the answers of those before it, and end the connection."""
        self._refused = True
        self._stop_head_timer()
        broken = self.cycle if self._in_message and not self._in_head else None
        if broken is not None and self.pipeline and self.pipeline[0][0] is broken:
            # It has not begun; the refusal takes its place.
            self.pipeline.popleft()
        elif broken is not None:
            if broken.response_started:
                self.transport.close()
                return
            # It waits for a body that will not come, or is done without reading one. Its answer will not be sent.
            refused = replace(refused, outcome="Whether the request was carried out is not known.")
            broken.disconnected = True
            broken.message_event.set()
        cycle = RequestResponseCycle(
            scope={
                "type": "http",
                "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
                "http_version": "1.1",
                "method": metrics.OTHER,
                "scheme": self.scheme or "http",
                "path": "",
                "raw_path": b"",
                "query_string": b"",
                "root_path": "",
                "headers": [],
                "client": self.client,
                "server": self.server,
                "state": self.app_state.copy(),
                "extensions": {},
            },
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=False,
            keep_alive=False,
            on_response=self.on_response_complete,
        )
        running = self.cycle is not None and not self.cycle.response_complete and not self.cycle.disconnected
        self.cycle = cycle
        refusal: ASGIApp = Edge(_Refusal(refused), timeout=_REFUSAL_SECONDS)
        if running:
            self.pipeline.appendleft((cycle, refusal))  # type: ignore[arg-type]  # uvicorn has types of its own
        else:
            self._start_asgi_task(cycle, refusal)

    # Time.

    def _start_head_timer(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._head_timed_out)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_timed_out(self) -> None:
        self._head_timer = None
        if self.transport.is_closing():
            return
        if self.flow.read_paused:
            # It is we who do not read on, since an earlier request runs.
            self._start_head_timer()
        elif self._in_head:
            self._refuse(_TOO_SLOW)
        elif self.cycle is None or self.cycle.response_complete:
            self.transport.close()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_writing()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._in_head and not self._refused:
            # Uvicorn waits for what has begun already, and shorter; and it may have stood before us unread till now.
            self._unset_keepalive_if_required()
            self._stop_head_timer()
            self._start_head_timer()
        if self.transport.get_write_buffer_size():
            self._watch_writing()

    def _watch_writing(self, before: int | None = None) -> None:
        """End a connection whose client takes nothing of what is to be sent; closing it would wait for that."""
        left = self.transport.get_write_buffer_size()
        if before is None and self._stall_timer is not None:
            return
        self._stall_timer = None
        # While an answer is being written, what is left may grow although it is read.
        least = STALLED_BYTES if self.cycle is not None and self.cycle.response_complete else 1
        if left and before is not None and before - left < least:
            self.transport.abort()
        elif left:
            self._stall_timer = self.loop.call_later(STALLED_SECONDS, self._watch_writing, left)


@dataclass(frozen=True, slots=True)
class _Refusal:
    """The application of a request that is none."""

    refused: _Refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        state = scope["state"]
        # For the access line.
        state["error"] = self.refused.code
        response = render_refusal(
            self.refused.code, f"{self.refused.detail} {self.refused.outcome}", state["request_id"]
        )
        await response(scope, receive, send)
