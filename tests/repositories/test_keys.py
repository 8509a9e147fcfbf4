"""What has become of a key."""

from datetime import UTC, datetime, timedelta

import pytest

from app.repositories.keys import Key
from app.values import new_id

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
