"""Requests that are done once, however often they are sent.

The key, the change and its answer are one transaction. A repeat that comes meanwhile waits for the key's row, and then
finds the answer there; if the first one fails, nothing of it is left, and the next does the work.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from app.database import Connection, Database, LockTimeout, Statement
from app.errors import IdempotencyKeyReused, StillRunning
from app.repositories.base import Repository


@dataclass(frozen=True, slots=True)
class Answer:
    """What a repeat is answered with."""

    status: int
    body: bytes
    location: str | None
    etag: str | None


# The key of an answer that is too old counts as new, whether or not it was swept away.
_CLAIM = Statement(
    "idempotency.claim",
    """
    insert into idempotency_keys (workspace_id, key_id, front_end, key, fingerprint)
    values (:workspace_id, :key_id, :front_end, :key, :fingerprint)
    on conflict (workspace_id, key_id, front_end, key) do update
    set fingerprint = excluded.fingerprint, status = null, body = null, location = null, etag = null,
        created_at = excluded.created_at
    where idempotency_keys.created_at < now() - make_interval(hours => :kept_hours)
    returning true
    """,
)

_FIND = Statement(
    "idempotency.find",
    """
    select fingerprint, status, body, location, etag from idempotency_keys
    where workspace_id = :workspace_id and key_id = :key_id and front_end = :front_end and key = :key
    """,
)

_KEEP = Statement(
    "idempotency.keep",
    """
    update idempotency_keys set status = :status, body = :body, location = :location, etag = :etag
    where workspace_id = :workspace_id and key_id = :key_id and front_end = :front_end and key = :key
    """,
)

KEPT_HOURS = 24


class IdempotencyRepository(Repository):
    """The answers that are kept for one API key and front end."""

    async def once(self, key: str, fingerprint: bytes, verb: Callable[[Database], Awaitable[Answer]]) -> Answer | None:
        """Run `verb`, unless the request of this key was answered before: then, that answer.

        The verb gets a database of which all units are part of one transaction, which is committed before this returns
        None. It may be run a second time, after a deadlock. What it raises takes everything back. Raises
        IdempotencyKeyReused for another request's key, and StillRunning where the first one takes longer than the lock
        timeout.
        """
        values = {**self._caller, "key": key, "fingerprint": fingerprint}

        async def work(connection: Connection) -> Answer | None:
            try:
                claimed = await connection.fetch(_CLAIM, **values, kept_hours=KEPT_HOURS)
            except LockTimeout:
                raise StillRunning from None
            if not claimed:
                row = await connection.fetch_one(_FIND, **values)
                if row["fingerprint"] != fingerprint:
                    raise IdempotencyKeyReused
                return Answer(row["status"], row["body"], row["location"], row["etag"])
            answer = await verb(self._database.joined(connection))
            await connection.fetch(
                _KEEP,
                **values,
                status=answer.status,
                body=answer.body,
                location=answer.location,
                etag=answer.etag,
            )
            return None

        return await self._database.transaction(work)
