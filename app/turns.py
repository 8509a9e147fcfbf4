"""A bound on how much of a process's time one key may use.

All requests of a process share one event loop. What a request does between two waits (reading JSON, validating, writing
the answer) keeps all others waiting, and a few large bodies at once would do so for seconds.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Generic, TypeVar
from uuid import UUID

T = TypeVar("T")

# Of the process's time, in the long run.
SHARE = 1 / 3
# What a key may use at once before it has to wait: that of some ordinary batches.
BURST_SECONDS = 0.5
# A body that is larger may take noticeably long to read and validate.
LARGE_BODY_BYTES = 65_536
# A query or a body that is smaller takes no time to speak of, so that measuring it would be most of that.
SMALL_BYTES = 1_024
# Keys with a smaller debt are not kept.
_NOTICED_SECONDS = 0.01


@dataclass(slots=True)
class _Account:
    """What a key has used beyond its share, as it was at a time."""

    debt: float = 0
    at: float = field(default_factory=perf_counter)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    requests: int = 0

    def paid(self, now: float) -> float:
        """What is left of the debt, which goes down as time passes."""
        self.debt, self.at = max(self.debt - (now - self.at) * SHARE, 0), now
        return self.debt


class Turns:
    """Lets the requests of a key that has used much, and those with large bodies, begin one after the other.

    Only the beginning is bounded, up to the first wait: that is where a body is parsed and validated. Who has used more
    than the burst waits until the rest is within the key's share of the time.
    """

    def __init__(self) -> None:
        self._accounts: dict[UUID, _Account] = {}

    async def take(self, key_id: UUID, size: int, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a request of this key, whose body has this size, when it is its turn."""
        account = self._accounts.get(key_id)
        if account is None:
            if size <= LARGE_BODY_BYTES:
                return await _Metered(work(), lambda seconds: self._note(key_id, seconds))
            account = self._open(key_id)
        account.requests += 1
        try:
            await account.lock.acquire()
            begun = False

            def note(seconds: float) -> None:
                nonlocal begun
                self._note(key_id, seconds)
                if not begun:
                    begun = True
                    # Not before all others that are ready now have had their turn.
                    asyncio.get_running_loop().call_soon(account.lock.release)

            try:
                # What is owed may become more meanwhile.
                while (beyond := account.paid(perf_counter()) - BURST_SECONDS) > 0:  # noqa: ASYNC110
                    await asyncio.sleep(beyond / SHARE)
                return await _Metered(work(), note)
            finally:
                if not begun:
                    account.lock.release()
        finally:
            account.requests -= 1

    def _open(self, key_id: UUID) -> _Account:
        account = self._accounts[key_id] = _Account()
        self._forget_later(key_id, 0)
        return account

    def _note(self, key_id: UUID, seconds: float) -> None:
        if seconds < _NOTICED_SECONDS:
            return
        account = self._accounts.get(key_id) or self._open(key_id)
        account.debt = account.paid(perf_counter()) + seconds

    def _forget(self, key_id: UUID) -> None:
        """Drop the account of a key that has no debt and no request any more."""
        account = self._accounts[key_id]
        debt = account.paid(perf_counter())
        if debt or account.requests:
            self._forget_later(key_id, debt)
        else:
            del self._accounts[key_id]

    def _forget_later(self, key_id: UUID, debt: float) -> None:
        asyncio.get_running_loop().call_later(debt / SHARE + 1, self._forget, key_id)


class _Metered(Awaitable[T], Generic[T]):
    """A coroutine that tells how long each of its steps took, from one wait to the next."""

    def __init__(self, coroutine: Coroutine[Any, Any, T], note: Callable[[float], None]) -> None:
        self._coroutine = coroutine
        self._note = note

    def __await__(self) -> Generator[Any, Any, T]:
        coroutine, note = self._coroutine, self._note
        raised: BaseException | None = None
        while True:
            started = perf_counter()
            try:
                waited_for = coroutine.send(None) if raised is None else coroutine.throw(raised)
            except StopIteration as done:
                result: T = done.value
                return result
            finally:
                note(perf_counter() - started)
            try:
                yield waited_for
                raised = None
            except BaseException as error:  # noqa: BLE001  # whatever ends the wait is the coroutine's to see
                raised = error
