"""Changes of many tags or many members at once, each in one transaction that also keeps what came of it.

What is meant is a list of ids, or everyone but those of a list. Locks are taken in the order of all verbs: the
audience where tags change or go, the tags, the members, the assignments, the counts.
"""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Literal, TypeAlias
from uuid import UUID

from app.database import Connection, Row, Statement
from app.errors import FieldError, InvalidInput, NotFound
from app.repositories import events
from app.repositories.base import Repository
from app.repositories.tags import LOCK_AUDIENCE
from app.values import new_id

# Rows that one action changes at most: assignments made or removed, tags changed or deleted.
CHANGES_MAX = 10_000

BulkActionType: TypeAlias = Literal["apply_tags", "change_tags_colors", "delete_tags"]


@dataclass(frozen=True, slots=True)
class Selection:
    """Those with these ids or, with `all_but`, all that there are but those. Each id must be there in either case."""

    ids: Sequence[UUID]
    all_but: bool = False


@dataclass(frozen=True, slots=True)
class BulkAction:
    """An action that is done. `metadata` is what was asked for, as it was sent; `result` counts what changed."""

    id: UUID
    type: BulkActionType
    metadata: Mapping[str, Any]
    status: str
    result: Mapping[str, int]
    created_at: datetime
    completed_at: datetime


def _is_selected(column: str, *, all_but: bool) -> str:
    return f"{column} <> all(cast(:ids as uuid[]))" if all_but else f"{column} = any(cast(:ids as uuid[]))"


_LOCK_TAGS = Statement(
    "bulk_actions.lock_tags",
    """
    select t.id, t.audience_id
    from tags t
    join audiences a on a.workspace_id = t.workspace_id and a.id = t.audience_id
    where t.workspace_id = :workspace_id and t.id = any(cast(:tag_ids as uuid[])) and a.slug = :audience
    order by t.id
    for key share of t
    """,
)

_LOCK_MEMBERS = Statement(
    "bulk_actions.lock_members",
    """
    select m.contact_id
    from audience_members m
    where m.workspace_id = :workspace_id and m.audience_id = :audience_id
        and m.contact_id = any(cast(:ids as uuid[]))
    order by m.contact_id
    for key share
    """,
)

# The changes, counted in the connection's slot and recorded tag by tag.
_COUNT_AND_RECORD = f"""
    counted as (
        insert into tag_counts (workspace_id, tag_id, slot, n)
        select :workspace_id, tag_id, :slot, sum(delta) from changes
        group by tag_id
        order by tag_id
        on conflict (workspace_id, tag_id, slot) do update set n = tag_counts.n + excluded.n
    ), recorded as (
        {
    events.record(
        "tag.contacts_changed",
        f"({events.chunks('changes', group='tag_id', member='contact_id')}) chunk",
        audience=":audience_id",
        tag="chunk.tag_id",
        payload="jsonb_build_object('added', chunk.added, 'removed', chunk.removed)",
    )
}
    )
    select (select count(*) from chosen) as chosen, (select count(*) from changes) as changed,
        (select count(distinct contact_id) from changes) as members
"""


@cache
def _add_tags(*, all_but: bool) -> Statement:
    return Statement(
        "bulk_actions.add_tags",
        f"""
        with chosen as (
            -- What is there already needs neither a lock nor a place among those that are counted.
            select n.tag_id, m.contact_id
            from unnest(cast(:tag_ids as uuid[])) as n(tag_id)
            cross join audience_members m
            where m.workspace_id = :workspace_id and m.audience_id = :audience_id
                and {_is_selected("m.contact_id", all_but=all_but)}
                and not exists (
                    select from contact_tags ct
                    where ct.workspace_id = :workspace_id and ct.tag_id = n.tag_id and ct.contact_id = m.contact_id
                )
            limit {CHANGES_MAX + 1}
        ), wanted as (
            select chosen.tag_id, m.contact_id
            from chosen
            join audience_members m on m.workspace_id = :workspace_id and m.audience_id = :audience_id
                and m.contact_id = chosen.contact_id
            order by m.contact_id
            for key share of m
        ), gate as (
            -- An aggregate, so that every lock is held before the first row is written.
            select count(*) as n from wanted having (select count(*) from chosen) <= {CHANGES_MAX}
        ), added as (
            insert into contact_tags (workspace_id, tag_id, contact_id, client_id, front_end)
            select cast(:workspace_id as uuid), w.tag_id, w.contact_id, cast(:client_id as uuid),
                cast(:front_end as text)
            from gate, wanted w
            order by 2, 3
            on conflict do nothing
            returning tag_id, contact_id
        ), changes as (
            select tag_id, contact_id, 1 as delta from added
        ), {_COUNT_AND_RECORD}
        """,
    )


@cache
def _remove_tags(*, all_but: bool) -> Statement:
    return Statement(
        "bulk_actions.remove_tags",
        f"""
        with chosen as (
            select ct.ctid as place
            from contact_tags ct
            where ct.workspace_id = :workspace_id and ct.tag_id = any(cast(:tag_ids as uuid[]))
                and {_is_selected("ct.contact_id", all_but=all_but)}
            order by ct.tag_id, ct.contact_id
            limit {CHANGES_MAX + 1}
            for update of ct
        ), locked as (
            -- An aggregate: every row that goes is held, in order, before the first one does. By their places, since
            -- a join of two long lists may look at each pair; see tag_contacts.
            select array_agg(place) as places from chosen having count(*) <= {CHANGES_MAX}
        ), removed as (
            delete from contact_tags ct
            where ct.ctid = any(cast((select places from locked) as tid[])) and ct.workspace_id = :workspace_id
            returning ct.tag_id, ct.contact_id
        ), changes as (
            select tag_id, contact_id, -1 as delta from removed
        ), {_COUNT_AND_RECORD}
        """,
    )


# The audience is held, so none of them goes.
_FIND_TAGS = Statement(
    "bulk_actions.find_tags",
    """
    select t.id
    from tags t
    where t.workspace_id = :workspace_id and t.audience_id = :audience_id and t.id = any(cast(:ids as uuid[]))
    """,
)


@cache
def _recolor(*, all_but: bool) -> Statement:
    return Statement(
        "bulk_actions.recolor",
        f"""
        with chosen as (
            select t.id
            from tags t
            where t.workspace_id = :workspace_id and t.audience_id = :audience_id and t.color <> :color
                and {_is_selected("t.id", all_but=all_but)}
            order by t.id
            limit {CHANGES_MAX + 1}
            for no key update
        ), changed as (
            update tags t
            set color = :color, version = t.version + 1, updated_at = now()
            from chosen
            where t.workspace_id = :workspace_id and t.id = chosen.id
                and (select count(*) from chosen) <= {CHANGES_MAX}
            returning t.id, t.version
        ), finished as (
            select jsonb_agg(jsonb_build_array(id, version)) as pairs from changed
        ), recorded as (
            {
            events.record(
                "tag.updated",
                "finished, jsonb_array_elements(finished.pairs) as pair",
                audience=":audience_id",
                tag="pair ->> 0",
                payload="jsonb_build_object('version', pair -> 1, 'fields', jsonb_build_array('color'))",
            )
        }
        )
        select (select count(*) from chosen) as chosen, (select count(*) from changed) as changed
        """,
    )


# Whoever assigns one of them holds it FOR KEY SHARE, so from here on nobody does.
@cache
def _lock_doomed(*, all_but: bool) -> Statement:
    return Statement(
        "bulk_actions.lock_doomed",
        f"""
        select t.id
        from tags t
        where t.workspace_id = :workspace_id and t.audience_id = :audience_id
            and {_is_selected("t.id", all_but=all_but)}
        order by t.id
        limit {CHANGES_MAX + 1}
        for update
        """,
    )


_COUNT_ASSIGNMENTS = Statement(
    "bulk_actions.count_assignments",
    """
    select cast(coalesce(sum(c.n), 0) as bigint) as n
    from tag_counts c
    where c.workspace_id = :workspace_id and c.tag_id = any(cast(:tag_ids as uuid[]))
    """,
)

# Removals lock no tag, but each holds its rows before it counts. After this, none is on its way to the counts.
_LOCK_ASSIGNMENTS = Statement(
    "bulk_actions.lock_assignments",
    """
    select count(*) as n
    from (
        select from contact_tags ct
        where ct.workspace_id = :workspace_id and ct.tag_id = any(cast(:tag_ids as uuid[]))
        order by ct.tag_id, ct.contact_id
        for update
    ) locked
    """,
)

_DELETE = Statement(
    "bulk_actions.delete",
    f"""
    with removed as (
        delete from contact_tags where workspace_id = :workspace_id and tag_id = any(cast(:tag_ids as uuid[]))
        returning tag_id
    ), uncounted as (
        delete from tag_counts where workspace_id = :workspace_id and tag_id = any(cast(:tag_ids as uuid[]))
    ), deleted as (
        delete from tags where workspace_id = :workspace_id and id = any(cast(:tag_ids as uuid[]))
        returning id
    ), totals as (
        select tag_id, count(*) as n from removed group by tag_id
    ), finished as (
        select jsonb_agg(jsonb_build_array(deleted.id, coalesce(totals.n, 0))) as pairs
        from deleted
        left join totals on totals.tag_id = deleted.id
    ), recorded as (
        {
        events.record(
            "tag.deleted",
            "finished, jsonb_array_elements(finished.pairs) as pair",
            audience=":audience_id",
            tag="pair ->> 0",
            payload="jsonb_build_object('removed_count', pair -> 1)",
        )
    }
    )
    select (select count(*) from deleted) as deleted, (select count(*) from removed) as removed
    """,
)

_COLUMNS = "b.id, b.type, b.metadata, b.status, b.result, b.created_at, b.completed_at"

_KEEP = Statement(
    "bulk_actions.keep",
    f"""
    with made as (
        insert into bulk_actions (workspace_id, id, audience_id, type, metadata, status, result, completed_at)
        values (
            :workspace_id, :id, :audience_id, :type, cast(:metadata as jsonb), 'processed', cast(:result as jsonb),
            clock_timestamp()
        )
        returning *
    )
    select {_COLUMNS} from made b
    """,
)

_GET = Statement(
    "bulk_actions.get",
    f"""
    select {_COLUMNS}
    from bulk_actions b
    where b.workspace_id = :workspace_id and b.id = :id
        and b.audience_id = (
            select a.id from audiences a where a.workspace_id = :workspace_id and a.slug = :audience
        )
    """,
)


class BulkActionRepository(Repository):
    """Actions in one audience. InvalidInput for ids that are not there, and for more changes than one may make."""

    async def get(self, bulk_action_id: UUID, *, audience: str | None = None) -> BulkAction:
        """One action, as long as its audience is there."""
        rows = await self._database.fetch(_GET, **self._caller, id=bulk_action_id, audience=self._audience(audience))
        if not rows:
            raise NotFound("bulk action", bulk_action_id)
        return _from_row(rows[0])

    async def apply_tags(
        self,
        tag_ids: Sequence[UUID],
        members: Selection,
        *,
        removes: bool,
        metadata: Mapping[str, Any],
        audience: str | None = None,
    ) -> BulkAction:
        """Give tags to members, or take them away."""
        wanted = list(dict.fromkeys(tag_ids))

        async def work(connection: Connection) -> BulkAction:
            scope = {**self._caller, "tag_ids": wanted, "ids": members.ids, "audience": self._audience(audience)}
            tags = await connection.fetch(_LOCK_TAGS, **scope)
            if not wanted or len(tags) < len(wanted):
                raise _unknown("tag_ids", "tag")
            audience_id: UUID = tags[0]["audience_id"]
            scope["audience_id"] = audience_id
            known = await connection.fetch(_LOCK_MEMBERS, **scope)
            if len(known) < len(set(members.ids)):
                raise _unknown("ids", "member")
            statement = (_remove_tags if removes else _add_tags)(all_but=members.all_but)
            row = await connection.fetch_one(statement, **scope)
            _check_number(row["chosen"])
            result = {"changed": row["changed"], "subscribers": row["members"]}
            return await self._keep(connection, audience_id, "apply_tags", metadata, result)

        return await self._database.transaction(work)

    async def recolor_tags(
        self, tags: Selection, color: str, *, metadata: Mapping[str, Any], audience: str | None = None
    ) -> BulkAction:
        """Give tags this color."""

        async def work(connection: Connection, scope: dict[str, object]) -> Mapping[str, int]:
            await self._check_known(connection, scope, tags)
            row = await connection.fetch_one(_recolor(all_but=tags.all_but), **scope, color=color)
            _check_number(row["chosen"])
            return {"changed": row["changed"], "tags": row["changed"]}

        return await self._with_audience("change_tags_colors", tags, metadata, audience, work)

    async def delete_tags(
        self, tags: Selection, *, metadata: Mapping[str, Any], audience: str | None = None
    ) -> BulkAction:
        """Delete tags, and take them from all contacts."""

        async def work(connection: Connection, scope: dict[str, object]) -> Mapping[str, int]:
            await self._check_known(connection, scope, tags)
            doomed = await connection.fetch(_lock_doomed(all_but=tags.all_but), **scope)
            _check_number(len(doomed))
            going = {**scope, "tag_ids": [row["id"] for row in doomed]}
            # The counters are exact, so nothing needs to be locked to see that it would be too much.
            counted = await connection.fetch_one(_COUNT_ASSIGNMENTS, **going)
            _check_number(len(doomed) + counted["n"])
            await connection.fetch(_LOCK_ASSIGNMENTS, **going)
            row = await connection.fetch_one(_DELETE, **going)
            return {"changed": row["deleted"] + row["removed"], "tags": row["deleted"]}

        return await self._with_audience("delete_tags", tags, metadata, audience, work)

    async def _with_audience(
        self,
        kind: BulkActionType,
        tags: Selection,
        metadata: Mapping[str, Any],
        audience: str | None,
        change: Callable[[Connection, dict[str, object]], Awaitable[Mapping[str, int]]],
    ) -> BulkAction:
        """Hold the audience, as changing its tags wants it, change them, and keep what came of it."""

        async def work(connection: Connection) -> BulkAction:
            held: Sequence[Row] = await connection.fetch(
                LOCK_AUDIENCE, **self._caller, audience=self._audience(audience)
            )
            if not held:
                raise _unknown("ids", "tag")
            audience_id: UUID = held[0]["id"]
            result = await change(connection, {**self._caller, "ids": tags.ids, "audience_id": audience_id})
            return await self._keep(connection, audience_id, kind, metadata, result)

        return await self._database.transaction(work)

    async def _check_known(self, connection: Connection, scope: dict[str, object], tags: Selection) -> None:
        if tags.ids and len(await connection.fetch(_FIND_TAGS, **scope)) < len(set(tags.ids)):
            raise _unknown("ids", "tag")

    async def _keep(
        self,
        connection: Connection,
        audience_id: UUID,
        kind: BulkActionType,
        metadata: Mapping[str, Any],
        result: Mapping[str, int],
    ) -> BulkAction:
        row = await connection.fetch_one(
            _KEEP,
            **self._caller,
            id=new_id(),
            audience_id=audience_id,
            type=kind,
            metadata=json.dumps(metadata),
            result=json.dumps(result),
        )
        return _from_row(row)


def _unknown(field: str, what: str) -> InvalidInput:
    return InvalidInput(
        [FieldError(("body", "metadata", field), "unknown_ids", f"One of them is no {what} of this audience.")]
    )


def _check_number(changes: int) -> None:
    if changes > CHANGES_MAX:
        detail = f"More than {CHANGES_MAX:,} rows would change. Nothing was done; name fewer."
        raise InvalidInput([FieldError(("body", "metadata", "ids"), "out_of_range", detail)])


def _from_row(row: Row) -> BulkAction:
    return BulkAction(
        id=row["id"],
        type=row["type"],
        metadata=row["metadata"],
        status=row["status"],
        result=row["result"],
        created_at=row["created_at"],
        completed_at=row["completed_at"],
    )
