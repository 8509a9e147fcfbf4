"""What the database module keeps account of, beside what tests/test_recovery.py shows of lost connections."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from app import database as module
from app.database import Connection, Database, Statement, create_engine
from app.errors import Unavailable
from tests.series import here, value

_RETRIES = "polytag_database_unit_retries_total"

_MAKE = Statement("test.make", "create table pair (id integer primary key, n integer not null)")
_FILL = Statement("test.fill", "insert into pair values (1, 0), (2, 0)")
_ADD = Statement("test.add", "update pair set n = n + 1 where id = :id")
_ALL = Statement("test.all", "select n from pair order by id")
_CONFLICT = Statement("test.conflict", "do $$ begin raise sqlstate '40001'; end $$")
_ONE = Statement("test.one", "select 1 as one")


async def test_a_deadlock_is_retried_and_counted(new_database: Any) -> None:
    database = Database(create_engine(await new_database(), pool_size=2))
    await database.fetch(_MAKE)
    await database.fetch(_FILL)
    before = value(here(), _RETRIES, cause="deadlock")
    holding = [asyncio.Event(), asyncio.Event()]

    async def add(first: int, second: int) -> None:
        async def work(connection: Connection) -> None:
            await connection.fetch(_ADD, id=first)
            holding[first - 1].set()
            # Each holds what the other one wants. The one that is run again finds it so.
            await holding[second - 1].wait()
            await connection.fetch(_ADD, id=second)

        await database.transaction(work)

    await asyncio.gather(add(1, 2), add(2, 1))
    assert [row["n"] for row in await database.fetch(_ALL)] == [2, 2]
    assert value(here(), _RETRIES, cause="deadlock") - before == 1
    await database.dispose()


async def test_a_serialization_failure_is_retried_once_and_counted(database: Database) -> None:
    before = value(here(), _RETRIES, cause="serialization")
    with pytest.raises(Unavailable):
        await database.fetch(_CONFLICT)
    assert value(here(), _RETRIES, cause="serialization") - before == 1
    # Also what fails takes its time.
    assert value(here(), "polytag_database_statement_duration_seconds_count", statement="test.conflict") >= 2


async def test_connections_in_use_and_waited_for_in_vain(database_url: str) -> None:
    timeouts = "polytag_database_pool_timeouts_total"
    database = Database(create_engine(database_url, pool_size=2, pool_timeout=0.1))
    before = here()
    release = asyncio.Event()

    async def hold(connection: Connection) -> None:
        await connection.fetch(_ONE)
        await release.wait()

    holders = [asyncio.create_task(database.transaction(hold)) for _ in range(2)]
    await until(lambda: database.connections_in_use() == 2)
    with pytest.raises(Unavailable, match="All database connections are in use"):
        await database.fetch(_ONE)
    assert value(here(), timeouts) - value(before, timeouts) == 1
    waited = "polytag_database_pool_wait_seconds_total"
    assert value(here(), waited) - value(before, waited) > 0.09
    # What is cancelled gives its connection back as well.
    holders[0].cancel()
    await until(lambda: database.connections_in_use() == 1)
    release.set()
    await asyncio.gather(*holders, return_exceptions=True)
    assert database.connections_in_use() == 0
    await database.dispose()


async def test_waits_are_added_up(database_url: str) -> None:
    name = "polytag_database_pool_wait_seconds_total"
    database = Database(create_engine(database_url, pool_size=1, pool_timeout=60))
    release = asyncio.Event()

    async def hold(connection: Connection) -> None:
        await connection.fetch(_ONE)
        await release.wait()

    holder = asyncio.create_task(database.transaction(hold))
    await until(lambda: database.connections_in_use() == 1)
    before = value(here(), name)
    waiting = asyncio.create_task(database.fetch(_ONE))
    await asyncio.sleep(0.1)
    release.set()
    await asyncio.gather(holder, waiting)
    assert value(here(), name) - before > 0.05
    await database.dispose()


async def until(what: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not what():
            await asyncio.sleep(0.01)


async def test_the_connection_that_was_used_last_is_used_next(database_url: str) -> None:
    """It has its plans still. Taken in turn, at low traffic all connections would lose theirs."""
    database = Database(create_engine(database_url, pool_size=3))
    backend = Statement("test.backend", "select pg_backend_pid() as pid")
    meeting = asyncio.Barrier(3)

    async def work(connection: Connection) -> object:
        await meeting.wait()
        return (await connection.fetch_one(backend))["pid"]

    try:
        assert len(set(await asyncio.gather(*(database.transaction(work) for _ in range(3))))) == 3
        assert len({(await database.fetch_one(backend))["pid"] for _ in range(6)}) == 1
    finally:
        await database.dispose()


# The statement tells of itself when it was prepared.
PREPARED_AT = Statement(
    "test.prepared_at",
    "select prepare_time as prepared_at from pg_prepared_statements where statement like '%as prepared_at%'",
)


async def test_a_plan_does_not_outlive_the_tables_that_it_was_made_for(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made while a table was empty, it would be kept until the server happens to look at the table again."""
    assert module.PLAN_LIVES_SECONDS <= 10
    monkeypatch.setattr(module, "PLAN_LIVES_SECONDS", 0.05)
    database = Database(create_engine(database_url, pool_size=1))

    async def work(connection: Connection) -> set[object]:
        first = {row["prepared_at"] for row in await connection.fetch(PREPARED_AT)}
        await asyncio.sleep(0.1)
        return first | {row["prepared_at"] for row in await connection.fetch(PREPARED_AT)}

    try:
        assert len(await database.transaction(work)) == 2
    finally:
        await database.dispose()
