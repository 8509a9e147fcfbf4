"""What has become of a key, and how it ends."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from app.database import Database
from app.errors import NotFound
from app.repositories.keys import Key, KeyRepository
from app.repositories.system import SystemRepository
from app.values import new_id
from tests.conftest import Workspace
from tests.routers.calls import run

NOW = datetime(2026, 3, 29, 18, tzinfo=UTC)
BEFORE, AFTER = NOW - timedelta(microseconds=1), NOW + timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("expires_at", "revoked_at", "state"),
    [
        (None, None, "live"),
        (AFTER, None, "live"),
        # As the database has it: a key that expires now is not found any more.
        (NOW, None, "expired"),
        (BEFORE, None, "expired"),
        (None, BEFORE, "revoked"),
        (BEFORE, BEFORE, "revoked"),
        (AFTER, BEFORE, "revoked"),
    ],
)
def test_states(expires_at: datetime | None, revoked_at: datetime | None, state: str) -> None:
    key = Key(
        id=new_id(),
        prefix="ptag_aB3d",
        client="web",
        scopes=["admin"],
        audience=None,
        created_at=BEFORE,
        expires_at=expires_at,
        revoked_at=revoked_at,
        last_used_at=None,
    )
    assert key.state(NOW) == state


REVOKED = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.mark.parametrize("expires_at", [None, datetime(2026, 1, 1, tzinfo=UTC)])
@pytest.mark.parametrize("revoked_at", [None, REVOKED])
async def test_a_key_ends_alike_over_http_and_at_the_command_line(
    workspace: Workspace, expires_at: datetime | None, revoked_at: datetime | None
) -> None:
    """The two statements for it are one rule."""
    database, keys = workspace.database, workspace.repository(KeyRepository)

    async def row_of(key_id: UUID) -> dict[str, Any]:
        [row] = await run(database, "select * from api_keys where id = :id", id=key_id)
        return dict(row)

    verbs: list[Callable[[UUID], Awaitable[object]]] = [keys.revoke, SystemRepository(database).revoke_key]
    for revoke in verbs:
        key_id = (await keys.create({"scopes": ["tags:read"], "expires_at": expires_at})).key.id
        await run(
            database,
            "update api_keys set revoked_at = cast(:at as timestamptz) where id = :id",
            at=revoked_at,
            id=key_id,
        )
        before = await row_of(key_id)
        [clock] = await run(database, "select clock_timestamp() as now")
        await revoke(key_id)
        first = await row_of(key_id)
        assert first == before | {"revoked_at": first["revoked_at"]}
        if revoked_at is None:
            assert first["revoked_at"] >= clock["now"]
        else:
            assert first["revoked_at"] == revoked_at
        await revoke(key_id)
        assert await row_of(key_id) == first


async def test_a_key_that_is_not_there_ends_nowhere(workspace: Workspace, database: Database) -> None:
    unknown, told = new_id(), []
    for revoke in (workspace.repository(KeyRepository).revoke, SystemRepository(database).revoke_key):
        with pytest.raises(NotFound) as caught:
            await revoke(unknown)
        told.append(caught.value.detail)
    assert told[0] == told[1]
