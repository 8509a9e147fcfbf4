"""Which audiences a contact is a member of, and what it subscribed to there with the key's client."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from app.database import Connection, Row, Statement
from app.errors import NotFound
from app.logs import shown
from app.repositories import events
from app.repositories.base import Repository
from app.repositories.subscriptions import SubscriptionChange, SubscriptionRepository, SubscriptionStatus


@dataclass(frozen=True, slots=True)
class Membership:
    """A contact in an audience. `status` is None where the contact has no subscription with the key's client.

    `subscribed` also asks that the contact has not unsubscribed from everything.
    """

    audience: str
    audience_name: str
    joined_at: datetime
    status: SubscriptionStatus | None
    reason: str | None
    unsubscribed_at: datetime | None
    subscribed: bool


# New members subscribe with the key's client, if there is a status. Who is a member already keeps what was agreed.
JOIN = Statement(
    "memberships.join",
    f"""
    with joined as (
        insert into audience_members (workspace_id, audience_id, contact_id)
        select :workspace_id, n.audience_id, n.contact_id
        from unnest(cast(:audience_ids as uuid[]), cast(:contact_ids as uuid[])) as n(audience_id, contact_id)
        order by n.audience_id, n.contact_id
        on conflict do nothing
        returning audience_id, contact_id
    ), subscribed as (
        insert into subscriptions (workspace_id, audience_id, contact_id, client_id, status, reason, unsubscribed_at)
        select :workspace_id, audience_id, contact_id, :client_id, cast(:status as text), cast(:reason as text),
            case when :status = 'unsubscribed' then now() end
        from joined
        where cast(:status as text) is not null
    ), finished as (
        select jsonb_agg(jsonb_build_array(audience_id, contact_id)) as pairs from joined
    ), recorded as (
        {
        events.record(
            "contact.joined",
            "finished, jsonb_array_elements(finished.pairs) as pair",
            audience="pair ->> 0",
            contact="pair ->> 1",
        )
    }
    )
    select audience_id, contact_id from joined
    """,
)

_LIST = Statement(
    "memberships.list",
    """
    select c.id, a.slug as audience, a.name as audience_name, m.joined_at, s.status, s.reason, s.unsubscribed_at,
        coalesce(s.status = 'subscribed', false) and c.global_unsubscribed_at is null as subscribed
    from contacts c
    left join audience_members m on m.workspace_id = c.workspace_id and m.contact_id = c.id
    left join audiences a on a.workspace_id = m.workspace_id and a.id = m.audience_id
    left join subscriptions s on s.workspace_id = m.workspace_id and s.audience_id = m.audience_id
        and s.contact_id = m.contact_id and s.client_id = :client_id
    where c.workspace_id = :workspace_id and c.id = :contact_id
        and (cast(:audience as text) is null or a.slug = :audience)
    order by a.slug
    """,
)

_FIND_AUDIENCE = Statement(
    "memberships.find_audience",
    "select a.id from audiences a where a.workspace_id = :workspace_id and a.slug = :audience",
)

_FIND_CONTACT = Statement(
    "memberships.find_contact",
    "select c.id from contacts c where c.workspace_id = :workspace_id and c.id = :contact_id",
)

# Before the member row, as everywhere: inserting that one locks the contact too, by its foreign key, and would do so
# in the other order. Neither the contact nor the audience can go while they are held.
_HOLD_CONTACT = Statement(
    "memberships.hold_contact",
    "select c.id from contacts c where c.workspace_id = :workspace_id and c.id = :contact_id for key share",
)
_HOLD_AUDIENCE = Statement(
    "memberships.hold_audience",
    """
    select a.id from audiences a where a.workspace_id = :workspace_id and a.slug = :audience
    for key share
    """,
)

LOCK_MEMBER = Statement(
    "memberships.lock_member",
    """
    select m.contact_id from audience_members m
    where m.workspace_id = :workspace_id and m.audience_id = :audience_id and m.contact_id = :contact_id
    for no key update
    """,
)

# From here on nobody gives the contact a tag of this audience: whoever does holds the member.
_LOCK_FOR_LEAVE = Statement(
    "memberships.lock_for_leave",
    """
    select m.contact_id from audience_members m
    where m.workspace_id = :workspace_id and m.audience_id = :audience_id and m.contact_id = :contact_id
    for update
    """,
)

_LOCK_ASSIGNMENTS = Statement(
    "memberships.lock_assignments",
    """
    select ct.tag_id
    from contact_tags ct
    join tags t on t.workspace_id = ct.workspace_id and t.id = ct.tag_id
    where ct.workspace_id = :workspace_id and ct.contact_id = :contact_id and t.audience_id = :audience_id
    order by ct.tag_id
    for update of ct
    """,
)

_LEAVE = Statement(
    "memberships.leave",
    f"""
    with removed as (
        delete from contact_tags ct
        using tags t
        where ct.workspace_id = :workspace_id and ct.contact_id = :contact_id
            and t.workspace_id = :workspace_id and t.id = ct.tag_id and t.audience_id = :audience_id
        returning ct.tag_id
    ), counted as (
        insert into tag_counts (workspace_id, tag_id, slot, n)
        select :workspace_id, tag_id, :slot, -1 from removed order by tag_id
        on conflict (workspace_id, tag_id, slot) do update set n = tag_counts.n - 1
    ), unsubscribed as (
        delete from subscriptions
        where workspace_id = :workspace_id and audience_id = :audience_id and contact_id = :contact_id
    ), departed as (
        delete from audience_members
        where workspace_id = :workspace_id and audience_id = :audience_id and contact_id = :contact_id
        returning audience_id, contact_id
    )
    {
        events.record(
            "contact.left",
            "departed, (select count(*) as n from removed) total",
            audience="departed.audience_id",
            contact="departed.contact_id",
            payload="jsonb_build_object('removed_count', total.n)",
        )
    }
    """,
)


class MembershipRepository(Repository):
    """The audiences of a contact."""

    async def list(self, contact_id: UUID) -> list[Membership]:
        """Every audience that the contact is a member of, by slug."""
        rows = await self._database.fetch(_LIST, **self._caller, contact_id=contact_id, audience=None)
        if not rows:
            raise NotFound("contact", contact_id)
        return [_membership_from_row(row) for row in rows if row["audience"] is not None]

    async def put(
        self,
        contact_id: UUID,
        audience: str,
        *,
        status: SubscriptionStatus | None = None,
        reason: str | None = None,
        has_reason: bool = False,
    ) -> tuple[Membership, bool]:
        """Make the contact a member, and say whether it was none.

        A new member is subscribed with the key's client unless a status is given; one that was there changes its
        status only when one is given, and its reason only with it: when the status moves, or with `has_reason`.
        """

        async def work(connection: Connection) -> tuple[Membership, bool]:
            found = await self._find(connection, contact_id, audience, hold=True)
            while True:
                joined = await connection.fetch(
                    JOIN,
                    **self._caller,
                    audience_ids=[found["audience_id"]],
                    contact_ids=[contact_id],
                    status=status or "subscribed",
                    reason=reason if status else None,
                )
                # One that was there may leave before it is held; then there is a place to join again.
                if joined or await connection.fetch(LOCK_MEMBER, **self._caller, **found):
                    break
            if status is not None and not joined:
                change = SubscriptionChange(status, reason, has_reason=has_reason)
                await self._sibling(SubscriptionRepository).change_within(
                    connection, **found, client_id=self._principal.client_id, change=change
                )
            row = await connection.fetch_one(_LIST, **self._caller, contact_id=contact_id, audience=audience)
            return _membership_from_row(row), bool(joined)

        return await self._database.transaction(work)

    async def leave(self, contact_id: UUID, audience: str) -> None:
        """End the membership, with the tags and subscriptions that hang on it. The contact stays. No error if none."""

        async def work(connection: Connection) -> None:
            await self.leave_within(connection, **await self._find(connection, contact_id, audience))

        await self._database.transaction(work)

    async def leave_within(self, connection: Connection, *, audience_id: UUID, contact_id: UUID) -> None:
        """`leave` as a part of a larger unit of work."""
        scope = {**self._caller, "audience_id": audience_id, "contact_id": contact_id}
        # Each in a statement of its own: the next sees what was written while this one waited.
        if await connection.fetch(_LOCK_FOR_LEAVE, **scope):
            await connection.fetch(_LOCK_ASSIGNMENTS, **scope)
            await connection.fetch(_LEAVE, **scope)

    async def _find(
        self, connection: Connection, contact_id: UUID, audience: str, *, hold: bool = False
    ) -> dict[str, UUID]:
        """The ids of both. They are held where a row shall be made that points at them."""
        scope = {**self._caller, "contact_id": contact_id, "audience": audience}
        audiences = await connection.fetch(_HOLD_AUDIENCE if hold else _FIND_AUDIENCE, **scope)
        contacts = await connection.fetch(_HOLD_CONTACT if hold else _FIND_CONTACT, **scope)
        if not contacts:
            raise NotFound("contact", contact_id)
        if not audiences:
            raise NotFound("audience", shown(audience))
        return {"audience_id": audiences[0]["id"], "contact_id": contact_id}


def _membership_from_row(row: Row) -> Membership:
    return Membership(
        audience=row["audience"],
        audience_name=row["audience_name"],
        joined_at=row["joined_at"],
        status=row["status"],
        reason=row["reason"],
        unsubscribed_at=row["unsubscribed_at"],
        subscribed=row["subscribed"],
    )
