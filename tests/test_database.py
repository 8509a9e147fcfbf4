"""Connections, beside what tests/test_recovery.py shows of lost ones."""

import asyncio

import pytest

from app import database as module
from app.database import Connection, Database, Statement, create_engine

# The statement tells of itself when it was prepared.
PREPARED_AT = Statement(
    "test.prepared_at",
    "select prepare_time as prepared_at from pg_prepared_statements where statement like '%as prepared_at%'",
)


async def test_a_plan_does_not_outlive_the_tables_that_it_was_made_for(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made while a table was empty, it would be kept until the server happens to look at the table again."""
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
