"""What one API key may take: so many requests in a span of time, so many of a process's connections at once, and so
much of its memory for bodies.

The first is a setting, counted in windows that begin at whole multiples of their length, the same ones in every
process: a count belongs to the number of its window, so nothing has to be kept or swept when a window has passed, and
when one ends is known without asking. The others are always there, and follow from the size of the pool and from that
of the largest body.
"""

import asyncio
import importlib.util
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from typing import NamedTuple
from uuid import UUID

import structlog

from app import metrics
from app.errors import RateLimited

log = structlog.get_logger(__name__)

# No request waits longer for the shared counts. Much less, and a process that is short of a processor would find them
# away.
_SHARED_WITHIN_SECONDS = 0.5
# When they did not answer they are left alone for as long, and then asked by one request.
_SHARED_PAUSE_SECONDS = 5
_WARN_EVERY_SECONDS = 60
_SHARED_CONNECTIONS_MAX = 8


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


class Quota(NamedTuple):
    """What is left to a key when a request of it was counted. `seconds` is the length of a window."""

    requests: int
    seconds: int
    used: int
    # Unix time, in whole seconds.
    resets_at: int
    # Whole seconds from now, at least 1.
    resets_in: int

    @property
    def remaining(self) -> int:
        """The requests that the key may still make in this window."""
        return max(self.requests - self.used, 0)

    @property
    def is_exceeded(self) -> bool:
        """Whether this request was one too many."""
        return self.used > self.requests

    def check(self) -> None:
        """Raises RateLimited when this request was one too many."""
        if self.is_exceeded:
            raise RateLimited(
                f"The API key may make no more than {_counted(self.requests, 'request')} in "
                f"{_counted(self.seconds, 'second')}. Nothing was done. Try again in "
                f"{_counted(self.resets_in, 'second')}.",
                retry_after=self.resets_in,
            )


def demand_redis() -> None:
    """Raises ValueError where shared counts are wanted, but the packages for them are not installed."""
    if any(importlib.util.find_spec(name) is None for name in ("limits", "redis")):
        raise ValueError(
            "POLYTAG_RATE_LIMIT_STORAGE needs the Redis client, which is not installed: pip install 'polytag[redis]', "
            "or leave the setting empty."
        )


class SharedCounts:
    """Counts in Redis, shared by all processes that have its URL. Nothing is connected before the first is made."""

    def __init__(self, url: str) -> None:
        # Here, since they are an extra.
        from limits.aio.storage import RedisStorage  # noqa: PLC0415
        from redis.asyncio import BlockingConnectionPool  # noqa: PLC0415
        from redis.asyncio.retry import Retry  # noqa: PLC0415
        from redis.backoff import NoBackoff  # noqa: PLC0415

        self._pool = BlockingConnectionPool.from_url(
            url,
            max_connections=_SHARED_CONNECTIONS_MAX,
            timeout=None,
            # Once, at once: a Redis that was started anew has closed all connections.
            retry=Retry(NoBackoff(), 1),
        )
        # Where Redis is, the pool knows; the library only reads of the URL which kind it is.
        self._storage = RedisStorage(
            "redis://localhost:6379",
            implementation="redispy",
            key_prefix="polytag",
            connection_pool=self._pool,  # type: ignore[arg-type]  # documented, but not in its types
        )

    async def add(self, name: str, seconds: int) -> int:
        """Count one more by this name, which is forgotten after these seconds, and return how many there are."""
        async with asyncio.timeout(_SHARED_WITHIN_SECONDS):
            return await self._storage.incr(name, seconds)

    async def close(self) -> None:
        """Close all connections."""
        await self._pool.aclose()


class RateLimits:
    """Counts the requests of each key: `requests` are let through in every window of `seconds`.

    Without shared counts each process counts for itself, as do all while the shared ones do not answer: an outage of
    Redis neither refuses a request nor lifts the limit. `clock` is Unix time, in seconds.

    Counting here is not left to `limits`: its memory looks through all keys at each request, which took 0.7 ms with
    10,000 of them (limits 5.8).
    """

    def __init__(
        self,
        requests: int,
        seconds: int,
        *,
        shared: SharedCounts | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._requests = requests
        self._seconds = seconds
        self._shared = shared
        self._clock = clock
        self._window = 0
        # Of this window, hence never more keys than have made a request in one.
        self._counts: dict[UUID, int] = {}
        # Since when the shared counts are left alone, if they are.
        self._paused_at: float | None = None
        self._warned_at: float | None = None

    async def hit(self, key_id: UUID) -> Quota:
        """Count a request of this key."""
        now = self._clock()
        window = int(now // self._seconds)
        used = None
        if self._shared is not None and not self._is_within(_SHARED_PAUSE_SECONDS, self._paused_at, now):
            used = await self._add_shared(self._shared, f"{key_id}/{self._seconds}/{window}", now)
        if used is None:
            used = self._add_here(key_id, window)
        resets_at = (window + 1) * self._seconds
        return Quota(self._requests, self._seconds, used, resets_at, ceil(resets_at - now))

    async def close(self) -> None:
        """Close connections to the shared counts, if there are any."""
        if self._shared is not None:
            await self._shared.close()

    def _add_here(self, key_id: UUID, window: int) -> int:
        if window != self._window:
            self._window, self._counts = window, {}
        used = self._counts[key_id] = self._counts.get(key_id, 0) + 1
        return used

    async def _add_shared(self, shared: SharedCounts, name: str, now: float) -> int | None:
        if self._paused_at is not None:
            # No other request waits until it is known whether they answer again.
            self._paused_at = now
        try:
            used = await shared.add(name, self._seconds)
        except Exception as error:  # noqa: BLE001  # whatever it was, the request goes on
            metrics.rate_limit_storage_failures.inc()
            self._paused_at = now
            if not self._is_within(_WARN_EVERY_SECONDS, self._warned_at, now):
                self._warned_at = now
                log.warning(
                    "rate limits not shared: Redis does not answer, and each worker counts for itself meanwhile. "
                    "See to the Redis of POLYTAG_RATE_LIMIT_STORAGE",
                    cause=repr(error),
                )
            return None
        self._paused_at = None
        return used

    @staticmethod
    def _is_within(seconds: float, since: float | None, now: float) -> bool:
        # A clock that was put back must not make a pause of that.
        return since is not None and 0 <= now - since < seconds


class Bodies:
    """A bound on what the bodies of one key's requests take of this process, from their first byte to the answer.

    Requests that wait hold what they have sent. One alone may have as large a body as its call takes.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        # Of keys that have a body here.
        self._bytes: dict[UUID, int] = {}

    @contextmanager
    def of(self, key_id: UUID) -> Iterator[Callable[[int], None]]:
        """What to tell of each part of a body that comes. It raises RateLimited where it is one too many."""
        own = 0

        def take(size: int) -> None:
            nonlocal own
            own += size
            total = self._bytes[key_id] = self._bytes.get(key_id, 0) + size
            if total > max(own, self._most):
                raise RateLimited(
                    f"Requests of this API key that are under way have bodies of more than {self._most:,} bytes "
                    "together. Nothing was written. Send fewer at the same time.",
                    retry_after=1,
                )

        try:
            yield take
        finally:
            left = self._bytes.pop(key_id, 0) - own
            if left > 0:
                self._bytes[key_id] = left


@dataclass(slots=True)
class _Share:
    places: asyncio.Semaphore
    # At work or waiting.
    requests: int = 0


class _Place:
    """What `Shares.of` gives: a class, since a generator would cost each request twice as much."""

    __slots__ = ("_key_id", "_shares")

    def __init__(self, shares: "Shares", key_id: UUID) -> None:
        self._shares = shares
        self._key_id = key_id

    async def __aenter__(self) -> None:
        await self._shares.enter(self._key_id)

    async def __aexit__(self, *error: object) -> None:
        self._shares.leave(self._key_id)


class Shares:
    """A bound on how many requests of one key are at work in this process, so that others find a connection.

    A key may use one connection of the pool in any case, and no more than leaves two of them, or a quarter where that
    is more, to others. Its other requests wait in the order in which they came, without a connection, for at most
    `wait` seconds.
    """

    def __init__(self, pool_size: int, *, wait: float) -> None:
        self._most = max(pool_size - max(pool_size // 4, 2), 1)
        self._wait = wait
        # Of keys that have a request here; it goes with the last of them.
        self._of: dict[UUID, _Share] = {}

    def of(self, key_id: UUID) -> "_Place":
        """Be one of the requests of this key that are at work, for a block. RateLimited after waiting in vain."""
        return _Place(self, key_id)

    async def enter(self, key_id: UUID) -> None:
        """Begin to be one; each that has begun has to `leave`."""
        share = self._of.get(key_id)
        if share is None:
            share = self._of[key_id] = _Share(asyncio.Semaphore(self._most))
        share.requests += 1
        try:
            # Without a timer where there is nothing to wait for.
            if share.places.locked():
                await self._wait_for(share.places)
            else:
                await share.places.acquire()
        except BaseException:
            self._forget(key_id, share)
            raise

    def leave(self, key_id: UUID) -> None:
        """Make room for the next one."""
        share = self._of[key_id]
        share.places.release()
        self._forget(key_id, share)

    def _forget(self, key_id: UUID, share: _Share) -> None:
        share.requests -= 1
        if not share.requests:
            del self._of[key_id]

    async def _wait_for(self, places: asyncio.Semaphore) -> None:
        try:
            async with asyncio.timeout(self._wait):
                # They are given in the order in which they were asked for.
                await places.acquire()
        except TimeoutError:
            raise RateLimited(
                f"{self._most} requests of this API key are at work already, and none ended within "
                f"{self._wait:g} seconds. Nothing was written. Send fewer at the same time.",
                retry_after=1,
            ) from None
