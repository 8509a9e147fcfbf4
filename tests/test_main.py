"""What the service does beside its requests: counting events that have no position yet."""

import asyncio

import asyncpg
import pytest
from pydantic import SecretStr

from app.config import Settings
from app.database import Connection, Database, create_engine
from app.main import create_app
from app.repositories.system import SystemRepository
from tests.conftest import MakeDatabase, started
from tests.databases import query
from tests.series import here, value


async def until_counted(count: int) -> None:
    async with asyncio.timeout(20):
        while value(here(), "polytag_events_unnumbered") != count:
            await asyncio.sleep(0.01)


async def make_events(url: str, count: int) -> None:
    """Events of a workspace of their own."""
    await query(
        url,
        """
        with made as (insert into workspaces (id, slug, name) values (gen_random_uuid(), $1, 'x') returning id)
        insert into events (workspace_id, type, front_end, request_id, payload)
        select made.id, 'test', 'test', 'test', '{}' from made, generate_series(1, $2)
        """,
        f"w{count}",
        count,
    )


async def test_unnumbered_events_are_counted_up_to_a_cap(new_database: MakeDatabase) -> None:
    url = await new_database()
    database = Database(create_engine(url, pool_size=1))
    system = SystemRepository(database)
    assert await system.count_unnumbered(10) == 0
    await make_events(url, 3)
    await make_events(url, 4)
    assert await system.count_unnumbered(10) == 7
    await query(url, "update events set position = sequence where sequence % 2 = 0")
    assert await system.count_unnumbered(10) in {3, 4}
    await make_events(url, 20)
    assert await system.count_unnumbered(10) == 10
    await database.dispose()


async def test_the_count_goes_on_after_the_database_was_away(
    new_database: MakeDatabase, server_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.main.COUNT_UNNUMBERED_EVERY_SECONDS", 0.05)
    url = await new_database()
    name = url.split("?", maxsplit=1)[0].rsplit("/", 1)[1]
    async with started(Settings(database_url=url)):
        await make_events(url, 41)
        await until_counted(41)
        admin = await asyncpg.connect(server_url)
        try:
            await admin.execute(f"alter database {name} allow_connections false")
            await admin.execute(f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'")
            await asyncio.sleep(0.3)
            await admin.execute(f"alter database {name} allow_connections true")
        finally:
            await admin.close()
        await make_events(url, 2)
        await until_counted(43)


async def test_connections_in_use_are_looked_at(new_database: MakeDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.main.LOOK_AT_POOL_EVERY_SECONDS", 0.01)
    looked_at = "polytag_database_pool_connections_in_use"
    url = await new_database()
    release = asyncio.Event()

    async def hold(_connection: Connection) -> None:
        await release.wait()

    service = create_app(Settings(database_url=SecretStr(url)))
    async with service.router.lifespan_context(service) as state:
        assert state is not None
        holders = [asyncio.create_task(state["database"].transaction(hold)) for _ in range(3)]
        async with asyncio.timeout(20):
            while value(here(), looked_at) != 3:
                await asyncio.sleep(0.01)
        release.set()
        await asyncio.gather(*holders)
        async with asyncio.timeout(20):
            while value(here(), looked_at) != 0:
                await asyncio.sleep(0.01)


async def test_the_count_waits_for_a_schema(new_database: MakeDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    """The service may be started before its database is migrated."""
    monkeypatch.setattr("app.main.COUNT_UNNUMBERED_EVERY_SECONDS", 0.05)
    url = await new_database()
    await make_events(url, 17)
    await query(url, "alter table events rename to later")
    async with started(Settings(database_url=url)):
        await asyncio.sleep(0.2)
        await query(url, "alter table later rename to events")
        await until_counted(17)
