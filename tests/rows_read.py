"""How many rows the database looks at, which no machine and no load changes."""

from typing import Any

import pytest

from app.database import Connection, Statement
from tests.conftest import Api
from tests.routers.calls import answered

_ROWS_READ = Statement(
    "test.rows_read",
    """
    select sum(seq_tup_read + coalesce(idx_tup_fetch, 0)) as n from pg_stat_xact_user_tables
    where cast(:relation as text) is null or relname = :relation
    """,
)


async def rows_read(api: Api, monkeypatch: pytest.MonkeyPatch, path: str, *, table: str | None = None) -> int:
    """How many rows, of one table or of all, the database looks at for a call.

    Its statements are run again, where the server counts them.
    """
    ran: list[tuple[Statement, dict[str, object]]] = []
    fetch = Connection.fetch

    async def note(self: Connection, statement: Statement, **values: object) -> list[Any]:
        # What the service does of its own now and then is not the call's.
        if not statement.name.startswith("system."):
            ran.append((statement, values))
        return await fetch(self, statement, **values)

    # The key is known from here on, so that looking it up is not counted.
    answered(await api.get("/me"))
    with monkeypatch.context() as patched:
        patched.setattr(Connection, "fetch", note)
        answered(await api.get(path))
    assert ran

    async def work(connection: Connection) -> int:
        before = (await connection.fetch_one(_ROWS_READ, relation=table))["n"]
        for statement, values in ran:
            await connection.fetch(statement, **values)
        return int((await connection.fetch_one(_ROWS_READ, relation=table))["n"] - before)

    return await api.workspace.database.transaction(work)
