"""Who carries a tag: the assignments seen from the tag's side.

Locks are taken in one order everywhere: the tag, the members by id, the assignments by contact, the count. Assigning
holds tag and members FOR KEY SHARE, so that neither can go while it writes. Replacing holds the tag FOR UPDATE: it
removes and adds in two passes, and another one that adds in between could wait for the first pass while it makes the
second one wait.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from typing import Literal
from uuid import UUID

from app.database import Connection, Row, Statement
from app.errors import FieldError, InvalidInput, NotFound
from app.pagination import Page, PageRequest, decode_cursor, fingerprint, id_part, page_of
from app.repositories import events
from app.repositories.base import Repository
from app.repositories.contacts import CONTACT_COLUMNS, Contact, contact_from_row
from app.repositories.tags import FoundTag, OnConflict, TagFields, TagRepository
from app.values import fold

ContactField = Literal["contact_ids", "emails", "external_ids"]
OnMissing = Literal["error", "skip"]


@dataclass(frozen=True, slots=True)
class ContactRefs:
    """Contacts as a call names them, in its order: by our id, by email or by the caller's own id."""

    field: ContactField
    values: Sequence[UUID | str]

    def keys(self) -> dict[UUID | str, UUID | str]:
        """The value as sent by the key it is looked up with; repeats collapse, the first spelling stays."""
        keys: dict[UUID | str, UUID | str] = {}
        for value in self.values:
            keys.setdefault(fold(value) if self.field == "emails" else value, value)  # type: ignore[arg-type]
        return keys


@dataclass(frozen=True, slots=True)
class Missing:
    """What a list named in vain: unknown to the workspace, or a contact that is no member of the tag's audience."""

    not_found: list[UUID | str]
    not_members: list[UUID | str]


@dataclass(frozen=True, slots=True)
class Assigned:
    """What assigning did. `requested` counts what was named once each; the count is the tag's after it."""

    requested: int
    added: int
    already_assigned: int
    missing: Missing
    contact_count: int


@dataclass(frozen=True, slots=True)
class Replaced:
    """What replacing did; `kept` carried the tag before and after."""

    requested: int
    added: int
    removed: int
    kept: int
    missing: Missing
    contact_count: int


@dataclass(frozen=True, slots=True)
class Unassigned:
    """What taking the tag away did."""

    requested: int
    removed: int
    not_assigned: int
    not_found: list[UUID | str]
    contact_count: int


@dataclass(frozen=True, slots=True)
class AssignedContact:
    """A contact that carries the tag, and since when."""

    contact: Contact
    assigned_at: datetime


# How contacts are named -> the column of contacts, and the type of the list.
_KEYS: dict[ContactField, tuple[str, str]] = {
    "contact_ids": ("id", "uuid[]"),
    "emails": ("email_key", "text[]"),
    "external_ids": ("external_id", "text[]"),
}

# Whether the tag t may be seen: see Repository.only_audience.
_IS_IN_SIGHT = """(
        cast(:only_audience as text) is null or t.audience_id = (
            select a.id from audiences a where a.workspace_id = :workspace_id and a.slug = :only_audience
        )
    )"""

_TAG_AND_COUNT = f"""
    (
        select t.audience_id from tags t
        where t.workspace_id = :workspace_id and t.id = :tag_id and {_IS_IN_SIGHT}
    ) as audience_id,
    (select cast(coalesce(sum(c.n), 0) as bigint)
        from tag_counts c where c.workspace_id = :workspace_id and c.tag_id = :tag_id) as count_before
"""


def _wanted(field: ContactField) -> str:
    """CTEs `wanted` (contact_id, key: the named members, locked) and `gate` (no row: nothing may be written)."""
    column, sql_type = _KEYS[field]
    if field == "contact_ids":
        key, source, match = "m.contact_id", "", "m.contact_id = any(cast(:keys as uuid[]))"
    else:
        key = f"n.{column}"
        source = "join contacts n on n.workspace_id = m.workspace_id and n.id = m.contact_id"
        match = f"n.{column} = any(cast(:keys as {sql_type}))"
    return f"""
    wanted as (
        select m.contact_id, {key} as key
        from tags t
        join audience_members m on m.workspace_id = t.workspace_id and m.audience_id = t.audience_id
        {source}
        where t.workspace_id = :workspace_id and t.id = :tag_id and {_IS_IN_SIGHT} and {match}
        order by m.contact_id
        for key share of t, m
    ), gate as (
        -- An aggregate, so that every lock is held before the first row is written.
        select array_agg(contact_id order by contact_id) as contact_ids
        from wanted
        having :skip_missing or count(*) = cardinality(cast(:keys as {sql_type}))
    )"""


def _missing(field: ContactField) -> str:
    """Columns `missing` and `outsiders`: the keys that are no members, and those of them that are contacts."""
    column, sql_type = _KEYS[field]
    # Set-wise, since a statement that is planned once knows nothing of how many there are.
    absent = f"(select unnest(cast(:keys as {sql_type})) except select key from wanted) as absent(key)"
    some_missing = f"(select count(*) from wanted) < cardinality(cast(:keys as {sql_type}))"
    return f"""
        -- A CASE looks only when something is missing.
        case when {some_missing} then array(select absent.key from {absent}) end as missing,
        case when {some_missing} then array(
            select absent.key from {absent}
            where exists (
                select from contacts c where c.workspace_id = :workspace_id and c.{column} = absent.key
            )
        ) end as outsiders"""


# Rows that are held go by their place, which cannot change while they are: a join of two long lists, planned without
# knowing how long they are, may look at each pair. This leans on assignments never being updated: a row that was, while
# this statement waited for it, would stand in a place that the statement cannot see.
_REMOVED = """locked as (
        -- An aggregate, so that every row is held, in order, before the first one goes.
        select array_agg(place) as places from doomed
    ), removed as (
        delete from contact_tags ct
        where ct.ctid = any(cast((select places from locked) as tid[]))
            and ct.workspace_id = :workspace_id and ct.tag_id = :tag_id
        returning ct.tag_id, ct.contact_id
    )"""

# The changes of one tag, counted in the connection's slot and recorded in as many events as the ids need.
_COUNT_AND_RECORD = f"""
    total as (
        select coalesce(sum(delta), 0) as delta, count(*) as n from changes
    ), counted as (
        insert into tag_counts (workspace_id, tag_id, slot, n)
        select :workspace_id, :tag_id, :slot, total.delta from total where total.delta <> 0
        on conflict (workspace_id, tag_id, slot) do update set n = tag_counts.n + excluded.n
    ), recorded as (
        {
    events.record(
        "tag.contacts_changed",
        f"({events.chunks('changes', group='tag_id', member='contact_id')}) chunk",
        audience="(select t.audience_id from tags t where t.workspace_id = :workspace_id and t.id = :tag_id)",
        tag=":tag_id",
        payload="jsonb_build_object('added', chunk.added, 'removed', chunk.removed)",
    )
}
    )"""


@cache
def _assign(field: ContactField) -> Statement:
    return Statement(
        f"tag_contacts.assign.{field}",
        f"""
        with {_wanted(field)}, added as (
            insert into contact_tags (workspace_id, tag_id, contact_id, client_id, front_end)
            select :workspace_id, :tag_id, contact_id, :client_id, :front_end
            from gate, unnest(gate.contact_ids) as contact_id
            order by contact_id
            on conflict do nothing
            returning tag_id, contact_id
        ), changes as (
            select tag_id, contact_id, 1 as delta from added
        ), {_COUNT_AND_RECORD}
        select {_TAG_AND_COUNT}, (select n from total) as added, (select count(*) from wanted) as members,
            exists (select from gate) as done, {_missing(field)}
        """,
    )


_COUNT_MADE_WITH = Statement(
    "tag_contacts.count_made_with",
    f"""
    select (
        select count(*)
        from contact_tags ct
        join audience_members m on m.workspace_id = ct.workspace_id and m.audience_id = t.audience_id
            and m.contact_id = ct.contact_id
        -- Both are the time of their transaction, so they are the same in no other one.
        where ct.workspace_id = :workspace_id and ct.tag_id = t.id and ct.assigned_at = m.joined_at
    ) as n
    from tags t where t.workspace_id = :workspace_id and t.id = :tag_id and {_IS_IN_SIGHT}
    """,
)

_FIND_TAG = Statement(
    "tag_contacts.find_tag",
    f"select t.id from tags t where t.workspace_id = :workspace_id and t.id = :tag_id and {_IS_IN_SIGHT}",
)

# In a statement of its own: what the next one sees begins after the wait.
_LOCK_TAG = Statement(
    "tag_contacts.lock_tag",
    f"""
    select t.id from tags t where t.workspace_id = :workspace_id and t.id = :tag_id and {_IS_IN_SIGHT}
    for update of t
    """,
)


@cache
def _replace(field: ContactField) -> Statement:
    return Statement(
        f"tag_contacts.replace.{field}",
        f"""
        with {_wanted(field)}, doomed as (
            select ct.ctid as place
            from contact_tags ct
            where ct.workspace_id = :workspace_id and ct.tag_id = :tag_id
                and exists (select from gate)
                and ct.contact_id not in (select wanted.contact_id from wanted)
            order by ct.contact_id
            for update of ct
        ), {_REMOVED}, added as (
            insert into contact_tags (workspace_id, tag_id, contact_id, client_id, front_end)
            select :workspace_id, :tag_id, contact_id, :client_id, :front_end
            -- Joined to `locked`, so that no row is added before all that go are held.
            from gate, locked, unnest(gate.contact_ids) as contact_id
            order by contact_id
            on conflict do nothing
            returning tag_id, contact_id
        ), changes as (
            select tag_id, contact_id, -1 as delta from removed
            union all
            select tag_id, contact_id, 1 from added
        ), {_COUNT_AND_RECORD}
        select {_TAG_AND_COUNT}, (select count(*) from added) as added, (select count(*) from removed) as removed,
            (select count(*) from wanted) as members, exists (select from gate) as done, {_missing(field)}
        """,
    )


@cache
def _unassign(field: ContactField) -> Statement:
    column, sql_type = _KEYS[field]
    if field == "contact_ids":
        key, source, match = "ct.contact_id", "", "ct.contact_id = any(cast(:keys as uuid[]))"
    else:
        key = f"n.{column}"
        source = "join contacts n on n.workspace_id = ct.workspace_id and n.id = ct.contact_id"
        match = f"n.{column} = any(cast(:keys as {sql_type}))"
    return Statement(
        f"tag_contacts.unassign.{field}",
        f"""
        with wanted as (
            select ct.ctid as place, {key} as key
            from contact_tags ct
            {source}
            where ct.workspace_id = :workspace_id and ct.tag_id = :tag_id and {match}
                and exists (
                    select from tags t
                    where t.workspace_id = :workspace_id and t.id = :tag_id and {_IS_IN_SIGHT}
                )
            order by ct.contact_id
            for update of ct
        ), doomed as (
            select place from wanted
        ), {_REMOVED}, changes as (
            select tag_id, contact_id, -1 as delta from removed
        ), {_COUNT_AND_RECORD}
        select {_TAG_AND_COUNT}, (select n from total) as removed, {_missing(field)}
        """,
    )


_FILTERS = {
    "assigned_after": "ct.assigned_at > :assigned_after",
    "assigned_before": "ct.assigned_at < :assigned_before",
}


@cache
def _list(filters: tuple[str, ...], *, has_cursor: bool) -> Statement:
    where = " and ".join(
        ["ct.workspace_id = :workspace_id", "ct.tag_id = :tag_id", *(_FILTERS[name] for name in filters)]
    )
    # The counter is the total of the whole list. A part of it must be counted, hence asked for.
    total = f"case when :include_total then (select count(*) from contact_tags ct where {where}) end"
    if not filters:
        total = """(
            select cast(coalesce(sum(c.n), 0) as bigint) from tag_counts c
            where c.workspace_id = :workspace_id and c.tag_id = :tag_id
        )"""
    return Statement(
        "tag_contacts.list",
        f"""
        select head.*, page.assigned_at, shown.*
        from (
            select t.id as tag_id, {total} as total
            from tags t
            where t.workspace_id = :workspace_id and t.id = :tag_id and {_IS_IN_SIGHT}
        ) head
        left join lateral (
            select ct.contact_id, ct.assigned_at
            from contact_tags ct
            where {where} {"and ct.contact_id > cast(:after_id as uuid)" if has_cursor else ""}
            order by ct.contact_id
            limit :limit offset :offset
        ) page on true
        left join lateral (
            select {CONTACT_COLUMNS}
            from contacts c
            where c.workspace_id = :workspace_id and c.id = page.contact_id
            -- Each contact of the page is looked up by itself: as a join, all contacts before the page would be read.
            offset 0
        ) shown on true
        order by page.contact_id
        """,
    )


class TagContactRepository(Repository):
    """The contacts of a tag."""

    async def list(
        self,
        tag_id: UUID,
        page: PageRequest,
        *,
        assigned_after: datetime | None = None,
        assigned_before: datetime | None = None,
        include_total: bool = False,
        gone_is_empty: bool = False,
    ) -> Page[AssignedContact]:
        """A page of a tag's contacts by id, which is nearly the order in which they were made.

        With `gone_is_empty` a tag that is not there has none: for who has just changed them, and must not hear 404.
        The total of the whole list is always there, that of a part of it only with `include_total`.
        """
        identity = fingerprint("tag_contacts", tag_id, assigned_after, assigned_before)
        after_id: UUID | None = None
        if page.cursor is not None:
            [after_id] = decode_cursor(page.cursor, identity, id_part)
        filters = {"assigned_after": assigned_after, "assigned_before": assigned_before}
        given = {name: value for name, value in filters.items() if value is not None}
        rows = await self._database.fetch(
            _list(tuple(given), has_cursor=after_id is not None),
            **self._caller,
            **given,
            tag_id=tag_id,
            include_total=include_total,
            limit=page.limit + 1,
            offset=page.offset,
            after_id=after_id,
        )
        if not rows and gone_is_empty:
            return Page([], page, 0, None)
        if not rows:
            raise NotFound("tag", tag_id)
        return page_of(
            [AssignedContact(contact_from_row(row), row["assigned_at"]) for row in rows if row["id"] is not None],
            page,
            total=rows[0]["total"],
            list_fingerprint=identity,
            key=lambda item: [str(item.contact.id)],
        )

    async def count_made_with(self, tag_id: UUID) -> int:
        """How many joined the tag's audience with the tag, and carry it still."""
        rows = await self._database.fetch(_COUNT_MADE_WITH, **self._caller, tag_id=tag_id)
        if not rows:
            raise NotFound("tag", tag_id)
        count: int = rows[0]["n"]
        return count

    async def assign(self, tag_id: UUID, contacts: ContactRefs, *, on_missing: OnMissing = "error") -> Assigned:
        """Give the tag to contacts, in one statement. One that is missing leaves all untagged, or is skipped."""
        keys = contacts.keys()
        row = await self._database.fetch_one(_assign(contacts.field), **self._values(tag_id, keys, on_missing))
        if not row["members"] and not await self._database.fetch(_FIND_TAG, **self._caller, tag_id=tag_id):
            # It went while the statement waited for it, and is there for what the statement could see.
            raise NotFound("tag", tag_id)
        return self._assigned(row, tag_id, contacts, keys)

    async def create_tag(
        self,
        new: TagFields,
        contacts: ContactRefs,
        *,
        audience: str | None = None,
        on_conflict: OnConflict = "error",
    ) -> FoundTag:
        """Make a tag, or find it as `on_conflict` says, and give it to contacts; all of it, or nothing."""
        keys = contacts.keys()
        tags = self._sibling(TagRepository)

        async def work(connection: Connection) -> FoundTag:
            found = await tags.create_within(connection, new, audience=audience, on_conflict=on_conflict)
            row = await connection.fetch_one(_assign(contacts.field), **self._values(found.tag.id, keys, "error"))
            assigned = self._assigned(row, found.tag.id, contacts, keys)
            return FoundTag(replace(found.tag, contact_count=assigned.contact_count), found.created)

        return await self._database.transaction(work)

    async def replace(self, tag_id: UUID, contacts: ContactRefs, *, on_missing: OnMissing = "error") -> Replaced:
        """Make these, and no others, the tag's contacts."""
        keys = contacts.keys()

        async def work(connection: Connection) -> Replaced:
            values = self._values(tag_id, keys, on_missing)
            if not await connection.fetch(_LOCK_TAG, **values):
                raise NotFound("tag", tag_id)
            row = await connection.fetch_one(_replace(contacts.field), **values)
            return Replaced(
                requested=len(keys),
                added=row["added"],
                removed=row["removed"],
                kept=row["members"] - row["added"],
                missing=_check_missing(row, contacts, keys),
                contact_count=row["count_before"] + row["added"] - row["removed"],
            )

        return await self._database.transaction(work)

    async def unassign(self, tag_id: UUID, contacts: ContactRefs) -> Unassigned:
        """Take the tag from contacts, in one statement. Whoever does not carry it is reported, no more."""
        keys = contacts.keys()
        row = await self._database.fetch_one(_unassign(contacts.field), **self._values(tag_id, keys, "skip"))
        if row["audience_id"] is None:
            raise NotFound("tag", tag_id)
        unknown = set(row["missing"] or ()) - set(row["outsiders"] or ())
        return Unassigned(
            requested=len(keys),
            removed=row["removed"],
            not_assigned=len(keys) - row["removed"] - len(unknown),
            not_found=[value for key, value in keys.items() if key in unknown],
            contact_count=row["count_before"] - row["removed"],
        )

    def _values(self, tag_id: UUID, keys: dict[UUID | str, UUID | str], on_missing: OnMissing) -> dict[str, object]:
        return {**self._caller, "tag_id": tag_id, "keys": list(keys), "skip_missing": on_missing == "skip"}

    def _assigned(self, row: Row, tag_id: UUID, contacts: ContactRefs, keys: dict[UUID | str, UUID | str]) -> Assigned:
        if row["audience_id"] is None:
            raise NotFound("tag", tag_id)
        return Assigned(
            requested=len(keys),
            added=row["added"],
            already_assigned=row["members"] - row["added"],
            missing=_check_missing(row, contacts, keys),
            contact_count=row["count_before"] + row["added"],
        )


def _check_missing(row: Row, contacts: ContactRefs, keys: dict[UUID | str, UUID | str]) -> Missing:
    """What was named in vain. Raises InvalidInput with the places if it kept the statement from writing."""
    missing, outsiders = set(row["missing"] or ()), set(row["outsiders"] or ())
    if not row["done"]:
        raise InvalidInput(
            [
                FieldError(
                    ("body", contacts.field, place),
                    "not_members" if key in outsiders else "unknown_ids",
                    f"{value} is a contact, but no member of the tag's audience."
                    if key in outsiders
                    else f"There is no contact {value}.",
                )
                for place, value in enumerate(contacts.values)
                for key in [fold(value) if contacts.field == "emails" else value]  # type: ignore[arg-type]
                if key in missing
            ]
        )
    return Missing(
        not_found=[value for key, value in keys.items() if key in missing and key not in outsiders],
        not_members=[value for key, value in keys.items() if key in outsiders],
    )
