"""What a member of an audience agreed to: once for the audience as a whole, and once with each client."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from app.database import Connection, Row, Statement
from app.repositories import events
from app.repositories.base import Repository

SubscriptionStatus = Literal["pending", "subscribed", "unsubscribed"]


@dataclass(frozen=True, slots=True)
class Subscription:
    """One agreement. `reason` is why it ended; `verified_at` is when the address was confirmed for it."""

    status: SubscriptionStatus
    reason: str | None
    verified_at: datetime | None
    unsubscribed_at: datetime | None


@dataclass(frozen=True, slots=True)
class SubscriptionChange:
    """What shall become of an agreement; None leaves a thing as it is.

    A status that moves takes its reason along: the one given, or none. With `has_reason` the reason changes under the
    status that is there, too. `verified` keeps the time at which it was first so. `unsubscribed_at` is when it was that
    it ended, where that was not now.
    """

    status: SubscriptionStatus | None = None
    reason: str | None = None
    has_reason: bool = False
    verified: bool | None = None
    unsubscribed_at: datetime | None = None

    def applied(self, before: Subscription | None, now: datetime) -> Subscription:
        """The agreement after the change. One that was not there is pending unless a status is given."""
        if before is None:
            before = Subscription("pending", None, None, None)
        status = self.status or before.status
        moves = status != before.status
        verified = before.verified_at is not None if self.verified is None else self.verified
        return Subscription(
            status,
            self.reason if moves or self.has_reason else before.reason,
            (before.verified_at or now) if verified else None,
            self._ended_at(before, now) if status == "unsubscribed" else None,
        )

    def _ended_at(self, before: Subscription, now: datetime) -> datetime | None:
        # Unsubscribing again does not move the time of the first.
        kept = before.unsubscribed_at if before.status == "unsubscribed" else now
        return self.unsubscribed_at or kept


_GET = Statement(
    "subscriptions.get",
    """
    select now() as now, s.status, s.reason, s.verified_at, s.unsubscribed_at
    from (select) one
    left join subscriptions s on s.workspace_id = :workspace_id and s.contact_id = :contact_id
        and s.audience_id = :audience_id and s.client_id is not distinct from cast(:of_client_id as uuid)
    """,
)

_PUT = Statement(
    "subscriptions.put",
    f"""
    with changed as (
        insert into subscriptions
            (workspace_id, audience_id, contact_id, client_id, status, reason, verified_at, unsubscribed_at)
        values (
            :workspace_id, :audience_id, :contact_id, cast(:of_client_id as uuid), :status, :reason, :verified_at,
            :unsubscribed_at
        )
        on conflict (workspace_id, contact_id, audience_id, client_id) do update
        set status = excluded.status, reason = excluded.reason, verified_at = excluded.verified_at,
            unsubscribed_at = excluded.unsubscribed_at, updated_at = now()
        returning audience_id, contact_id
    )
    {
        events.record(
            "contact.updated",
            "changed",
            audience="changed.audience_id",
            contact="changed.contact_id",
            payload="jsonb_build_object('fields', to_jsonb(cast(:fields as text[])))",
        )
    }
    """,
)


class SubscriptionRepository(Repository):
    """The agreements of members. Whoever changes one holds the member, so reading first is safe."""

    async def change_within(
        self,
        connection: Connection,
        *,
        audience_id: UUID,
        contact_id: UUID,
        client_id: UUID | None,
        change: SubscriptionChange,
    ) -> None:
        """Change the agreement with a client, or, without one, with the audience as a whole; make it if need be.

        The unit of work must hold the member.
        """
        scope = {**self._caller, "audience_id": audience_id, "contact_id": contact_id, "of_client_id": client_id}
        row = await connection.fetch_one(_GET, **scope)
        before = subscription_from_row(row)
        after = change.applied(before, row["now"])
        if after == before:
            return
        names = ("status", "reason", "verified_at")
        fields = [name for name in names if getattr(after, name) != (getattr(before, name) if before else None)]
        # It moves with the status, and is told by itself where it moved alone.
        fields = fields or ["unsubscribed_at"]
        await connection.fetch(
            _PUT,
            **scope,
            status=after.status,
            reason=after.reason,
            verified_at=after.verified_at,
            unsubscribed_at=after.unsubscribed_at,
            fields=fields,
        )


def subscription_from_row(row: Row, prefix: str = "") -> Subscription | None:
    """An agreement from a row that has its columns, each with this prefix; None where there is none."""
    if row[f"{prefix}status"] is None:
        return None
    return Subscription(
        status=row[f"{prefix}status"],
        reason=row[f"{prefix}reason"],
        verified_at=row[f"{prefix}verified_at"],
        unsubscribed_at=row[f"{prefix}unsubscribed_at"],
    )
