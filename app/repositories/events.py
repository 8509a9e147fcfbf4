"""What happened: how a verb records it, and the feed that tells of it.

A verb's events are pieces of its own statement, so that both commit or neither does. A committed event gets its place
in the feed when somebody reads that far: numbers that writers draw are not the order in which they commit, and a
reader that went past one would never see it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Literal, get_args
from uuid import UUID

from app.database import Connection, Row, Statement
from app.errors import InvalidCursor
from app.repositories.base import Repository

EventType = Literal[
    "tag.created",
    "tag.updated",
    "tag.deleted",
    "tag.contacts_changed",
    "contact.created",
    "contact.updated",
    "contact.deleted",
    "contact.joined",
    "contact.left",
    "contact.tags_changed",
    "audience.created",
    "audience.updated",
    "audience.deleted",
]
EVENT_TYPES: tuple[EventType, ...] = get_args(EventType)

# Ids that one event carries at most in `added`, and in `removed`. Larger changes write several events.
IDS_PER_EVENT = 500


def record(
    kind: EventType,
    source: str,
    *,
    audience: str = "null",
    tag: str = "null",
    contact: str = "null",
    payload: str = "'{}'",
) -> str:
    """An INSERT of one event for each row of `source`; the other arguments are SQL expressions over that row.

    The event's sequence number is drawn as its row is made, so `source` must be finished when its first row comes
    out: an aggregate or a grouping over the changed rows, never a bare look at them. Then the locks are held, and
    changes that conflict are numbered in the order of their effects.
    """
    return f"""
        insert into events
            (workspace_id, type, audience_id, tag_id, contact_id, payload, client_id, key_id, front_end, request_id)
        select
            :workspace_id, '{kind}', cast({audience} as uuid), cast({tag} as uuid), cast({contact} as uuid),
            cast({payload} as jsonb), cast(:client_id as uuid), cast(:key_id as uuid),
            cast(:front_end as text), cast(:request_id as text)
        from {source}
    """


def chunks(changes: str, *, group: str, member: str) -> str:
    """Rows of (group, added, removed), at most 500 ids each, from rows of (group, member, delta) named `changes`."""
    return f"""
        select
            {group},
            coalesce(jsonb_agg({member} order by {member}) filter (where delta > 0), '[]') as added,
            coalesce(jsonb_agg({member} order by {member}) filter (where delta < 0), '[]') as removed
        from (
            select
                {group}, {member}, delta,
                (row_number() over (partition by {group}, delta order by {member}) - 1) / {IDS_PER_EVENT} as chunk
            from {changes}
        ) numbered
        group by {group}, chunk
        order by {group}, chunk
    """


@dataclass(frozen=True, slots=True)
class Event:
    """A change. Ids and counts only; `payload` is what its type tells beside them."""

    position: int
    id: UUID
    type: EventType
    occurred_at: datetime
    audience_id: UUID | None
    tag_id: UUID | None
    contact_id: UUID | None
    client_id: UUID | None
    key_id: UUID | None
    front_end: str
    request_id: str
    payload: dict[str, Any]


@dataclass(frozen=True, slots=True)
class EventPage:
    """A part of the feed. `next_position` is where the next one begins, also when there is nothing there yet."""

    events: Sequence[Event]
    next_position: int
    has_more: bool


# Events that one call numbers, and positions that it looks at for the types it wants: so that the first reader of a
# long feed, or one of a rare type, gets on in steps.
STEP = 10_000

_LOCK_STREAM = Statement(
    "events.lock_stream",
    "select s.last_position from event_streams s where s.workspace_id = :workspace_id for update",
)

# In a statement of its own: it sees all that was committed before the lock was had. Without a join: planned while the
# table was small, it would compare each event with each.
_NUMBER = Statement(
    "events.number",
    f"""
    with unnumbered as materialized (
        select array_agg(one.sequence order by one.sequence) as sequences, max(one.sequence) as last
        from (
            select e.sequence
            from events e
            where e.workspace_id = :workspace_id and e.position is null
            order by e.sequence
            limit {STEP}
        ) one
    ), numbered as (
        update events e
        -- The bucket of a number among all of them, in order, is its place there.
        set position = cast(:last_position as bigint) + width_bucket(e.sequence, unnumbered.sequences)
        from unnumbered
        where e.workspace_id = :workspace_id and e.position is null and e.sequence <= unnumbered.last
        returning e.id
    )
    update event_streams set last_position = last_position + (select count(*) from numbered)
    where workspace_id = :workspace_id
    """,
)


@cache
def _read(*, has_types: bool) -> Statement:
    return Statement(
        "events.read",
        f"""
        select head.*, page.*
        from (
            select s.last_position, exists (
                select from events e where e.workspace_id = :workspace_id and e.position is null
            ) as has_unnumbered
            from event_streams s
            where s.workspace_id = :workspace_id
        ) head
        left join lateral (
            select e.position, e.id, e.type, e.occurred_at, e.audience_id, e.tag_id, e.contact_id, e.client_id,
                e.key_id, e.front_end, e.request_id, e.payload
            from events e
            where e.workspace_id = :workspace_id and e.position > :after
                and e.position <= cast(:after as bigint) + {STEP}
                {"and e.type = any(:types)" if has_types else ""}
            order by e.position
            limit :limit
        ) page on true
        order by page.position
        """,
    )


class EventRepository(Repository):
    """The feed of a workspace: every change, once, in an order in which each can be applied."""

    async def list(self, *, after: int, limit: int, types: Sequence[EventType] = ()) -> EventPage:
        """The events behind this position. Those that nobody has read yet are numbered first.

        InvalidCursor where the feed does not reach that far: this is another database, or an older state of it.
        """
        values = {**self._caller, "after": after, "limit": limit, "types": list(types)}
        read = _read(has_types=bool(types))

        async def number_and_read(connection: Connection) -> Sequence[Row]:
            stream = await connection.fetch_one(_LOCK_STREAM, **self._caller)
            await connection.fetch(_NUMBER, **self._caller, last_position=stream["last_position"])
            return await connection.fetch(read, **values)

        rows: Sequence[Row] = await self._database.fetch(read, **values)
        page = _page(rows, after, limit)
        if len(page.events) < limit and page.next_position == rows[0]["last_position"] and page.has_more:
            page = _page(await self._database.transaction(number_and_read), after, limit)
        return page


def _page(rows: Sequence[Row], after: int, limit: int) -> EventPage:
    head = rows[0]
    if after > head["last_position"]:
        raise InvalidCursor(
            f"The feed has only come to position {head['last_position']}, so this cursor is not of it. If the database "
            "was put back to an older state, read what there is now and follow the feed from its end."
        )
    found = [_event_from_row(row) for row in rows if row["id"] is not None]
    seen: int = found[-1].position if len(found) == limit else min(after + STEP, head["last_position"])
    return EventPage(found, seen, has_more=seen < head["last_position"] or head["has_unnumbered"])


def _event_from_row(row: Row) -> Event:
    return Event(
        position=row["position"],
        id=row["id"],
        type=row["type"],
        occurred_at=row["occurred_at"],
        audience_id=row["audience_id"],
        tag_id=row["tag_id"],
        contact_id=row["contact_id"],
        client_id=row["client_id"],
        key_id=row["key_id"],
        front_end=row["front_end"],
        request_id=row["request_id"],
        payload=row["payload"],
    )
