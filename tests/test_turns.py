"""How much of a process's time one key may use."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any
from uuid import uuid4

import pytest

from app import turns
from app.turns import LARGE_BODY_BYTES, Turns
from tests.conftest import Api
from tests.routers.calls import answered

KEY, OTHER = uuid4(), uuid4()
LARGE = LARGE_BODY_BYTES + 1

Work = Callable[[], Coroutine[Any, Any, str]]


def busy(seconds: float, log: list[str], name: str) -> Work:
    """A request that computes, waits for nothing in particular, and ends."""

    async def work() -> str:
        log.append(f"{name} begins")
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            pass
        await asyncio.sleep(0)
        log.append(f"{name} ends")
        return name

    return work


async def test_large_bodies_of_one_key_begin_one_after_the_other() -> None:
    """Others have their turn between them, and what follows the first wait is not held up."""
    log: list[str] = []
    gate = asyncio.Event()

    def waiting(name: str) -> Work:
        async def work() -> str:
            log.append(name)
            await gate.wait()
            return name

        return work

    shared = Turns()
    calls = [asyncio.create_task(shared.take(KEY, LARGE, waiting(name))) for name in "abc"]
    calls.append(asyncio.create_task(shared.take(OTHER, LARGE, waiting("other"))))
    await asyncio.sleep(0)
    # The first of each key has begun.
    assert log == ["a", "other"]
    for _ in range(10):
        await asyncio.sleep(0)
    assert log == ["a", "other", "b", "c"]
    gate.set()
    assert await asyncio.gather(*calls) == ["a", "b", "c", "other"]


async def test_who_has_used_much_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "BURST_SECONDS", 0.05)
    shared, log = Turns(), list[str]()
    started = time.perf_counter()
    await shared.take(KEY, 0, busy(0.1, log, "first"))
    await shared.take(OTHER, 0, busy(0, log, "other"))
    # Who has used nothing has no account, and waits for nobody.
    assert shared._accounts.keys() == {KEY}
    # 0.05 s too many are paid by three times as long.
    await shared.take(KEY, 0, busy(0, log, "second"))
    assert time.perf_counter() - started >= 0.2


async def test_small_requests_do_not_wait_for_one_another() -> None:
    log: list[str] = []
    shared = Turns()
    await asyncio.gather(*(shared.take(KEY, LARGE_BODY_BYTES, busy(0, log, name)) for name in "ab"))
    assert log == ["a begins", "b begins", "a ends", "b ends"]
    assert shared._accounts == {}


@pytest.mark.parametrize("size", [0, LARGE])
async def test_errors_and_cancellation_pass_through(size: int) -> None:
    shared = Turns()

    async def fails() -> str:
        await asyncio.sleep(0)
        raise KeyError("x")

    async def fails_at_once() -> str:
        raise KeyError("y")

    ended: list[str] = []

    async def endless() -> str:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("endless")
        return ""

    for work in (fails, fails_at_once):
        with pytest.raises(KeyError):
            await shared.take(KEY, size, work)
    running = asyncio.create_task(shared.take(KEY, size, endless))
    await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert ended == ["endless"]
    async with asyncio.timeout(5):
        assert await shared.take(KEY, size, busy(0, [], "after")) == "after"


async def test_one_that_is_cancelled_while_it_waits_leaves_the_turn_to_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(turns, "BURST_SECONDS", 0.0)
    shared, log = Turns(), list[str]()
    await shared.take(KEY, LARGE, busy(0.05, log, "first"))
    pays = asyncio.create_task(shared.take(KEY, LARGE, busy(0, log, "pays")))
    queues = asyncio.create_task(shared.take(KEY, LARGE, busy(0, log, "queues")))
    await asyncio.sleep(0.01)
    pays.cancel()
    async with asyncio.timeout(5):
        assert await queues == "queues"
    assert "pays begins" not in log


async def test_accounts_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = Turns()
    monkeypatch.setattr(shared, "_forget_later", lambda *_: None)
    for _ in range(20):
        await shared.take(uuid4(), LARGE, busy(0, [], ""))
    await shared.take(KEY, 0, busy(0.02, [], ""))
    assert len(shared._accounts) == 21
    account = shared._accounts[KEY]
    account.at -= 1
    for key_id in list(shared._accounts):
        shared._forget(key_id)
    assert shared._accounts == {}


async def test_heavy_bodies_leave_others_their_turn(api: Api, other_api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six that take long to read and are refused: another key's call is answered long before the last of them."""
    monkeypatch.setattr(turns, "BURST_SECONDS", 0.0)
    heavy = {"contacts": [{"email": "none", "attributes": {str(m): 1e9 for m in range(60)}} for _ in range(1_000)]}
    calls = [asyncio.create_task(api.post("/contacts/batch", json=heavy)) for _ in range(6)]
    await asyncio.sleep(0)
    answered(await other_api.get("/tags"))
    # Without turns it is all of them.
    assert sum(call.done() for call in calls) <= 3
    assert {answer.status_code for answer in await asyncio.gather(*calls)} == {422}
