"""Idempotency keys on the wire: which request is a repeat, and what it is answered with.

The header is a string of the caller's choice, also in quotes, as draft-ietf-httpapi-idempotency-key-header has it. Only
its hash is stored, as callers put all kinds of things there.
"""

import asyncio
import hashlib
import json
import re
from collections.abc import Awaitable, Callable, Collection
from weakref import WeakValueDictionary

from starlette.requests import Request
from starlette.responses import Response

from app.errors import FieldError, InvalidInput, StillRunning
from app.repositories.base import Principal
from app.repositories.idempotency import Answer, IdempotencyRepository

KEY_MAX_LENGTH = 255
KEY_PATTERN = r"^[\x20-\x7e]*$"

Handler = Callable[[Request], Awaitable[Response]]

_PRINTABLE = re.compile(KEY_PATTERN.removesuffix("$") + r"\Z")


# Who calls through several front ends carries one's header over to another, and must not be without what it is for.
_HEADERS = ("Idempotency-Key", "X-Idempotency-Key")


def has_key(request: Request) -> bool:
    """Whether the request has an idempotency key, under whichever of the names that front ends have for it."""
    return any(name in request.headers for name in _HEADERS)


def after_commit(request: Request, work: Callable[[], None]) -> None:
    """Do something that is not in the database once the change is: at once, or when the transaction around it ends."""
    waiting: list[Callable[[], None]] | None = request.scope["state"].get("after_commit")
    if waiting is None:
        work()
    else:
        waiting.append(work)


class Idempotency:
    """Runs the handlers of requests that have a key, one at a time for each key.

    Of the repeats that wait in this process only the first holds a database connection.
    """

    def __init__(self, *, wait_seconds: float) -> None:
        self._wait_seconds = wait_seconds
        self._locks: WeakValueDictionary[tuple[object, ...], asyncio.Lock] = WeakValueDictionary()

    async def run(
        self,
        request: Request,
        body: bytes,
        handler: Handler,
        *,
        headers: Collection[bytes] = (),
        shown_once: str | None = None,
    ) -> Response:
        """The handler's answer, or, to a repeat, the one that the first request got.

        `body` and `headers`, in lower case, are what the handler reads of the request's; `shown_once` is the member of
        its answer that is not kept. Raises InvalidInput for a header that is no key, IdempotencyKeyReused for another
        request's, StillRunning and RateLimited after waiting in vain.
        """
        state = request.scope["state"]
        name: str = state["front_end"].idempotency_header
        sent = [value for header in _HEADERS for value in request.headers.getlist(header)]
        key = hashlib.sha256(_key(name, sent).encode()).hexdigest()
        principal: Principal = state["principal"]
        front_end: str = state["front_end"].slug
        lock = self._locks.setdefault((principal.key_id, front_end, key), asyncio.Lock())
        try:
            async with asyncio.timeout(self._wait_seconds):
                await lock.acquire()
        except TimeoutError:
            raise StillRunning from None
        try:
            # Repeats that wait take no part of what the key may have at work.
            async with state["shares"].of(principal.key_id):
                return await self._run(request, handler, key, _fingerprint(request, body, headers), shown_once)
        finally:
            lock.release()

    async def _run(
        self, request: Request, handler: Handler, key: str, fingerprint: bytes, shown_once: str | None
    ) -> Response:
        state = request.scope["state"]
        database = state["database"]
        response: Response | None = None

        async def verb(joined: object) -> Answer:
            nonlocal response
            state["database"], state["after_commit"] = joined, []
            try:
                response = await handler(request)
            finally:
                state["database"] = database
            # Refusals are raised, so this is success.
            return _answer(response, shown_once)

        repository = IdempotencyRepository(
            database, state["principal"], front_end=state["front_end"].slug, request_id=state["request_id"]
        )
        answer = await repository.once(key, fingerprint, verb)
        if answer is not None:
            return _replay(answer)
        assert response is not None  # noqa: S101  # there is no other answer, so it was made here
        for work in state["after_commit"]:
            work()
        return response


def _key(name: str, sent: list[str]) -> str:
    """The key that a header holds."""
    key = sent[0].strip()
    if len(key) > 1 and key.startswith('"') and key.endswith('"'):
        key = key[1:-1]
    if len(set(sent)) > 1:
        code, detail = "invalid_value", "This header must have one value."
    elif not key:
        code, detail = "too_short", "This must have at least 1 character."
    elif len(key) > KEY_MAX_LENGTH:
        code, detail = "too_long", f"This must have at most {KEY_MAX_LENGTH} characters."
    elif not _PRINTABLE.match(key):
        code, detail = "invalid_characters", "This must be made of printable ASCII characters."
    else:
        return key
    raise InvalidInput([FieldError(("header", name), code, detail)])


def _fingerprint(request: Request, body: bytes, headers: Collection[bytes]) -> bytes:
    """What a repeat has in common with the first request: all that says what is to be done, and where."""
    principal: Principal = request.scope["state"]["principal"]
    parts = (
        request.method.encode(),
        request.scope["path"].encode("utf-8", "surrogateescape"),
        request.scope["query_string"],
        # It may have been named by a header.
        (principal.audience or "").encode(),
        body,
        *(part for header in sorted(request.scope["headers"]) if header[0] in headers for part in header),
    )
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.digest()


def _answer(response: Response, shown_once: str | None) -> Answer:
    body = bytes(response.body)
    if shown_once is not None:
        body = json.dumps({**json.loads(body), shown_once: None}, ensure_ascii=False, separators=(",", ":")).encode()
    return Answer(
        response.status_code,
        body,
        response.headers.get("location"),
        response.headers.get("etag"),
    )


def _replay(answer: Answer) -> Response:
    response = Response(answer.body or None, answer.status, media_type="application/json" if answer.body else None)
    response.headers["Idempotency-Replayed"] = "true"
    for name, value in (("Location", answer.location), ("ETag", answer.etag)):
        if value is not None:
            response.headers[name] = value
    return response
