"""Whether the tables keep their promises: every invariant, as a statement that selects what should not be there.

A check is one statement, hence one snapshot, and every transaction keeps the invariants when it commits: all of this
may run beside a live service without a false alarm. The statements belong to no workspace: each goes over whole tables.

The feed is replayed whole, in one statement: of all that events tell of a tag and a contact, the last word counts. That
takes half of the time of all checks. It holds as long as events are kept for ever, as do the checks of lives.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

from app.database import Connection, Database, LockTimeout, Row, Statement
from app.errors import Unavailable
from app.repositories.events import EVENT_TYPES, IDS_PER_EVENT
from app.values import (
    ATTRIBUTES_MAX_BYTES,
    DESCRIPTION_MAX_LENGTH,
    EXTERNAL_ID_MAX_LENGTH,
    PERSON_NAME_MAX_LENGTH,
    SCOPES,
    SECONDARY_ID_MAX,
    fold,
    normalize_color,
    normalize_email,
    normalize_name,
    slugify,
    stored_size,
)


@dataclass(frozen=True, slots=True)
class Check:
    """Something that must not be. `what` names what the statement selects, in the plural.

    A rule that only Python knows is looked at row by row: the statement selects all rows, in batches, and `breaks`
    says which of a row's fields break theirs.
    """

    name: str
    what: str
    statement: Statement
    breaks: Callable[[Row], Sequence[str]] | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found: how many there are that should not be, and the ids of a few of them."""

    name: str
    what: str
    broken: int
    examples: Sequence[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class MendedCount:
    """A tag whose count was wrong, or still there for a tag that is gone, and is right now."""

    workspace_id: UUID
    tag_id: UUID
    counted: int
    assigned: int


@dataclass(frozen=True, slots=True)
class HeldCount:
    """A count that is wrong still: another transaction held it, or its tag, for too long."""

    workspace_id: UUID
    tag_id: UUID


# Rows that Python looks at in one go. The number stands in the text of the statement, since a plan for any number of
# rows might sort the whole table for each batch.
_BATCH = 5_000
_FIRST_ID = UUID(int=0)


def _check(name: str, what: str, sql: str) -> Check:
    """A check whose statement selects what is broken: the ids by which it is found, and what else may be said of it."""
    return Check(
        name,
        what,
        Statement(
            f"doctor.{name}",
            f"""
            with broken as materialized ({sql})
            select (select count(*) from broken) as total, to_json(broken) as example
            from broken
            limit :examples
            """,
        ),
    )


def _check_values(name: str, what: str, select: str, breaks: Callable[[Row], Sequence[str]]) -> Check:
    """A check of each row of a table, whose first two columns are its workspace and its id."""
    return Check(
        name,
        what,
        Statement(
            f"doctor.{name}",
            f"""
            {select} r
            where (r.workspace_id, r.id) > (cast(:after_workspace_id as uuid), cast(:after_id as uuid))
            order by r.workspace_id, r.id
            limit {_BATCH}
            """,
        ),
        breaks,
    )


# The rules of values.


def _keeps(rule: Callable[[str], str], text: str) -> bool:
    try:
        return rule(text) == text
    except ValueError:
        return False


def _is_slug(text: str) -> bool:
    return text != "" and slugify(text) == text


def _broken_audience_fields(row: Row) -> list[str]:
    return _not_kept({"name": _keeps(normalize_name, row["name"]), "slug": _is_slug(row["slug"])})


def _broken_tag_fields(row: Row) -> list[str]:
    return _not_kept(
        {
            "name": _keeps(normalize_name, row["name"]),
            "name_key": row["name_key"] == fold(row["name"]),
            "slug": _is_slug(row["slug"]),
            "secondary_id": 1 <= row["secondary_id"] <= SECONDARY_ID_MAX,
            "color": _keeps(normalize_color, row["color"]),
            "description": len(row["description"] or "") <= DESCRIPTION_MAX_LENGTH,
            "public_description": len(row["public_description"] or "") <= DESCRIPTION_MAX_LENGTH,
            "version": row["version"] >= 1,
        }
    )


def _broken_contact_fields(row: Row) -> list[str]:
    external_id = row["external_id"]
    return _not_kept(
        {
            "email": _keeps(normalize_email, row["email"]),
            "email_key": row["email_key"] == fold(row["email"]),
            "external_id": external_id is None or 1 <= len(external_id) <= EXTERNAL_ID_MAX_LENGTH,
            "first_name": len(row["first_name"] or "") <= PERSON_NAME_MAX_LENGTH,
            "last_name": len(row["last_name"] or "") <= PERSON_NAME_MAX_LENGTH,
            "attributes": stored_size(row["large_attributes"]) <= ATTRIBUTES_MAX_BYTES,
        }
    )


def _not_kept(rules: dict[str, bool]) -> list[str]:
    return [field for field, is_kept in rules.items() if not is_kept]


# Pieces of statements.


def _shared(table: str, noun: str, *keys: str) -> str:
    """The rows of a table that have a key which must be one row's own, and which another row has too."""
    return "union all".join(
        f"""
        select r.workspace_id, r.id as {noun}_id, '{key.rpartition(", ")[2]}' as field
        from {table} r
        join (
            select workspace_id, {key} from {table} group by workspace_id, {key} having count(*) > 1
        ) shared using (workspace_id, {key})
        """
        for key in keys
    )


_CHANGES = "('tag.contacts_changed', 'contact.tags_changed')"
_ENDS = "('tag.deleted', 'contact.deleted', 'contact.left')"

# Payloads that are not what they should be are found by a check of their own, and must not stop the others.
_REMOVED_COUNT = """
    case when jsonb_typeof(e.payload -> 'removed_count') = 'number'
        then cast(e.payload ->> 'removed_count' as numeric) else 0
    end"""


def _length(field: str) -> str:
    return f"""
    case when jsonb_typeof(e.payload -> '{field}') = 'array'
        then jsonb_array_length(e.payload -> '{field}') else 0
    end"""


# Where an event stands for a reader of the feed: at its position; those that have none yet come after all that have.
_PLACE = "coalesce(e.position, e.sequence + (cast(1 as bigint) << 62))"

_LIFE = "{} that were not created exactly once, that are told to be deleted, or were told of before they were created"


def _life(table: str, noun: str) -> str:
    """The rows of a table, all alive, of which the events that have their id in their own column tell another life.

    Whatever concerns a thing is done by who sees it: in a later statement than the one that made it, if not in a
    later transaction. So its number is drawn later, and it stands behind.
    """
    return f"""
        select workspace_id, r.id as {noun}_id, coalesce(told.created, 0) as created,
            coalesce(told.deleted, 0) as deleted, coalesce(told.first < told.begin, false) as is_told_before
        from {table} r
        left join (
            select e.workspace_id, e.{noun}_id as id,
                count(*) filter (where e.type = '{noun}.created') as created,
                count(*) filter (where e.type = '{noun}.deleted') as deleted,
                min({_PLACE}) filter (where e.type = '{noun}.created') as begin,
                min({_PLACE}) as first
            from events e
            where e.{noun}_id is not null
            group by e.workspace_id, e.{noun}_id
        ) told using (workspace_id, id)
        where told.created is distinct from 1 or told.deleted <> 0 or told.first < told.begin
    """


_COUNTS = _check(
    "counts",
    "tags whose count is not the number of their assignments",
    """
    select t.workspace_id, t.id as tag_id, coalesce(counted.n, 0) as counted, coalesce(assigned.n, 0) as assigned
    from tags t
    left join (
        select workspace_id, tag_id, cast(sum(n) as bigint) as n from tag_counts group by workspace_id, tag_id
    ) counted on counted.workspace_id = t.workspace_id and counted.tag_id = t.id
    left join (
        select workspace_id, tag_id, count(*) as n from contact_tags group by workspace_id, tag_id
    ) assigned on assigned.workspace_id = t.workspace_id and assigned.tag_id = t.id
    where coalesce(counted.n, 0) <> coalesce(assigned.n, 0)
    """,
)

CHECKS = (
    _COUNTS,
    _check(
        "gone_counts",
        "counts of tags that are gone",
        """
        select c.workspace_id, c.tag_id, cast(sum(c.n) as bigint) as counted
        from tag_counts c
        where not exists (select from tags t where t.workspace_id = c.workspace_id and t.id = c.tag_id)
        group by c.workspace_id, c.tag_id
        """,
    ),
    _check(
        "assignments",
        "assignments without their tag, their contact, or its membership in the tag's audience",
        """
        select ct.workspace_id, ct.tag_id, ct.contact_id,
            concat_ws(', ',
                case when t.id is null then 'tag' end,
                case when c.id is null then 'contact' end,
                case when t.id is not null and m.contact_id is null then 'membership' end
            ) as missing
        from contact_tags ct
        left join tags t on t.workspace_id = ct.workspace_id and t.id = ct.tag_id
        left join contacts c on c.workspace_id = ct.workspace_id and c.id = ct.contact_id
        left join audience_members m on m.workspace_id = t.workspace_id and m.audience_id = t.audience_id
            and m.contact_id = ct.contact_id
        where t.id is null or c.id is null or m.contact_id is null
        """,
    ),
    # What foreign keys and unique indexes hold. But an index can be damaged, and a dump restored without constraints.
    _check(
        "members",
        "members without their contact or their audience",
        """
        select m.workspace_id, m.audience_id, m.contact_id,
            concat_ws(', ',
                case when c.id is null then 'contact' end,
                case when a.id is null then 'audience' end
            ) as missing
        from audience_members m
        left join contacts c on c.workspace_id = m.workspace_id and c.id = m.contact_id
        left join audiences a on a.workspace_id = m.workspace_id and a.id = m.audience_id
        where c.id is null or a.id is null
        """,
    ),
    _check(
        "subscriptions",
        "subscriptions without a member",
        """
        select s.workspace_id, s.id as subscription_id, s.audience_id, s.contact_id
        from subscriptions s
        left join audience_members m on m.workspace_id = s.workspace_id and m.audience_id = s.audience_id
            and m.contact_id = s.contact_id
        where m.contact_id is null
        """,
    ),
    _check(
        "tag_audiences",
        "tags without their audience",
        """
        select t.workspace_id, t.id as tag_id, t.audience_id
        from tags t
        left join audiences a on a.workspace_id = t.workspace_id and a.id = t.audience_id
        where a.id is null
        """,
    ),
    _check(
        "default_audiences",
        "workspaces with audiences of which not exactly one is the default",
        """
        select a.workspace_id, count(*) filter (where a.is_default) as defaults
        from audiences a
        group by a.workspace_id
        having count(*) filter (where a.is_default) <> 1
        """,
    ),
    _check("audience_keys", "audiences with another one's slug", _shared("audiences", "audience", "slug")),
    _check(
        "tag_keys",
        "tags with the name, slug or secondary_id of another one in their audience, or with another one's number",
        _shared("tags", "tag", "audience_id, name_key", "audience_id, slug", "audience_id, secondary_id", "number"),
    ),
    _check(
        "contact_keys",
        "contacts with another one's email, external id or number",
        _shared("contacts", "contact", "email_key", "external_id", "number"),
    ),
    _check_values(
        "audience_values",
        "audiences whose name or slug breaks its rule",
        "select r.workspace_id, r.id as audience_id, r.name, r.slug from audiences",
        _broken_audience_fields,
    ),
    _check_values(
        "tag_values",
        "tags whose name_key is not the folded name, or with a field that breaks its rule",
        """
            select r.workspace_id, r.id as tag_id, r.name, r.name_key, r.slug, r.secondary_id, r.color,
                r.description, r.public_description, r.version
            from tags""",
        _broken_tag_fields,
    ),
    _check_values(
        "contact_values",
        "contacts whose email_key is not the folded email, or with a field that breaks its rule",
        # As text, attributes have blanks that do not count: those that are short as text need not be looked at.
        f"""
            select r.workspace_id, r.id as contact_id, r.email, r.email_key, r.external_id, r.first_name, r.last_name,
                case when octet_length(cast(r.attributes as text)) > {ATTRIBUTES_MAX_BYTES} then r.attributes end
                    as large_attributes
            from contacts""",
        _broken_contact_fields,
    ),
    _check(
        "key_scopes",
        "API keys without a scope, or with one that there is not",
        f"""
        select k.workspace_id, k.id as key_id
        from api_keys k
        where cardinality(k.scopes) = 0 or not k.scopes <@ array[{", ".join(f"'{scope}'" for scope in SCOPES)}]
        """,
    ),
    _check(
        "event_streams",
        "workspaces without their row in event_streams",
        """
        select w.id as workspace_id
        from workspaces w
        where not exists (select from event_streams s where s.workspace_id = w.id)
        """,
    ),
    _check(
        "event_positions",
        "workspaces whose numbered events are not 1 to last_position, each once",
        """
        select workspace_id, coalesce(s.last_position, 0) as last_position, coalesce(e.numbered, 0) as numbered,
            e.different, e.first, e.last
        from event_streams s
        full join (
            select workspace_id, count(*) as numbered, count(distinct position) as different,
                min(position) as first, max(position) as last
            from events
            where position is not null
            group by workspace_id
        ) e using (workspace_id)
        where coalesce(e.numbered, 0) <> coalesce(s.last_position, 0)
            or e.different <> e.numbered or e.first <> 1 or e.last <> e.numbered
        """,
    ),
    _check(
        "event_types",
        "events of a type that there is not",
        f"""
        select e.workspace_id, e.id as event_id, e.type
        from events e
        where e.type not in ({", ".join(f"'{name}'" for name in EVENT_TYPES)})
        """,
    ),
    _check(
        "event_payloads",
        f"changes with no ids in their lists or more than {IDS_PER_EVENT} in one, and deletions without their count",
        f"""
        select e.workspace_id, e.id as event_id, e.type
        from events e
        where (
            e.type in {_CHANGES} and not coalesce(
                jsonb_typeof(e.payload -> 'added') = 'array' and jsonb_typeof(e.payload -> 'removed') = 'array'
                and greatest({_length("added")}, {_length("removed")}) between 1 and {IDS_PER_EVENT},
                false
            )
        ) or (
            e.type in {_ENDS} and not coalesce(
                jsonb_typeof(e.payload -> 'removed_count') = 'number' and {_REMOVED_COUNT} >= 0, false
            )
        )
        """,
    ),
    _check(
        "event_ids",
        "events with the id of something in another workspace, or in a workspace that there is not",
        """
        select e.workspace_id, e.id as event_id,
            concat_ws(', ',
                case when w.id is null then 'workspace' end,
                case when a.id is not null then 'audience' end,
                case when t.id is not null then 'tag' end,
                case when c.id is not null then 'contact' end,
                case when l.id is not null then 'client' end,
                case when k.id is not null then 'key' end
            ) as foreign
        from events e
        left join workspaces w on w.id = e.workspace_id
        left join audiences a on a.id = e.audience_id and a.workspace_id <> e.workspace_id
        left join tags t on t.id = e.tag_id and t.workspace_id <> e.workspace_id
        left join contacts c on c.id = e.contact_id and c.workspace_id <> e.workspace_id
        left join clients l on l.id = e.client_id and l.workspace_id <> e.workspace_id
        left join api_keys k on k.id = e.key_id and k.workspace_id <> e.workspace_id
        where w.id is null or coalesce(a.id, t.id, c.id, l.id, k.id) is not null
        """,
    ),
    _check("audience_lives", _LIFE.format("audiences"), _life("audiences", "audience")),
    _check("tag_lives", _LIFE.format("tags"), _life("tags", "tag")),
    _check("contact_lives", _LIFE.format("contacts"), _life("contacts", "contact")),
    _check(
        "event_sums",
        "workspaces whose events do not add up to the number of assignments",
        f"""
        select workspace_id, coalesce(told.n, 0) as told, coalesce(assigned.n, 0) as assigned
        from (
            select e.workspace_id, sum({_length("added")} - {_length("removed")} - {_REMOVED_COUNT}) as n
            from events e
            where e.type in {_CHANGES} or e.type in {_ENDS}
            group by e.workspace_id
        ) told
        full join (
            select workspace_id, count(*) as n from contact_tags group by workspace_id
        ) assigned using (workspace_id)
        where coalesce(told.n, 0) <> coalesce(assigned.n, 0)
        """,
    ),
    _check(
        "event_replay",
        "pairs of tag and contact of which the events, replayed in order, tell something else than the assignments",
        f"""
        with told as (
            -- Ids are compared as text: what is none must be found here, and not stop the statement.
            select e.workspace_id, e.audience_id, list.delta, {_PLACE} as place,
                coalesce(cast(e.tag_id as text), member.id) as tag_id,
                coalesce(cast(e.contact_id as text), member.id) as contact_id
            from events e
            cross join (values ('added', 1), ('removed', -1)) as list(name, delta)
            cross join lateral jsonb_array_elements_text(
                case when jsonb_typeof(e.payload -> list.name) = 'array' then e.payload -> list.name end
            ) as member(id)
            where e.type in {_CHANGES}
        ), added_last as (
            select workspace_id, audience_id, tag_id, contact_id, max(place) filter (where delta > 0) as place
            from told
            group by workspace_id, audience_id, tag_id, contact_id
            having max(place) filter (where delta > 0) > coalesce(max(place) filter (where delta < 0), 0)
        ), expected as (
            -- A tag or a contact that was deleted never comes back; who left may have been tagged again.
            select l.workspace_id, l.tag_id, l.contact_id, true as is_told
            from added_last l
            where not exists (
                select from events e
                where e.type = 'tag.deleted' and e.workspace_id = l.workspace_id
                    and cast(e.tag_id as text) = l.tag_id
            ) and not exists (
                select from events e
                where e.type = 'contact.deleted' and e.workspace_id = l.workspace_id
                    and cast(e.contact_id as text) = l.contact_id
            ) and not exists (
                select from events e
                where e.type = 'contact.left' and e.workspace_id = l.workspace_id
                    and e.audience_id = l.audience_id and cast(e.contact_id as text) = l.contact_id
                    and {_PLACE} > l.place
            )
        ), assigned as (
            select workspace_id, cast(tag_id as text) as tag_id, cast(contact_id as text) as contact_id,
                true as is_assigned
            from contact_tags
        )
        select workspace_id, tag_id, contact_id, coalesce(is_assigned, false) as assigned
        from assigned
        full join expected using (workspace_id, tag_id, contact_id)
        where is_assigned is null or is_told is null
        """,
    ),
)

# Only hashing is never the wrong plan for whole tables. Where statistics are old, or there are none yet, the planner
# takes some long list for one of a row or two, and would go over the other one again for each of its rows.
_ONLY_HASHING = Statement(
    "doctor.only_hashing",
    """
    select set_config('enable_nestloop', 'off', true), set_config('enable_mergejoin', 'off', true),
        set_config('enable_sort', 'off', true)
    """,
)

# Mending counts.

_FORGET_GONE_COUNTS = Statement(
    "doctor.forget_gone_counts",
    """
    with forgotten as (
        delete from tag_counts c
        where not exists (select from tags t where t.workspace_id = c.workspace_id and t.id = c.tag_id)
        returning c.workspace_id, c.tag_id, c.n
    )
    select workspace_id, tag_id, cast(sum(n) as bigint) as counted, 0 as assigned
    from forgotten
    group by workspace_id, tag_id
    order by workspace_id, tag_id
    """,
)

# The tag cannot go now, nor can another repair add the same correction. Whoever assigns or unassigns passes.
_HOLD_TAG = Statement(
    "doctor.hold_tag",
    "select t.id from tags t where t.workspace_id = :workspace_id and t.id = :tag_id for no key update",
)

# A count is off by as much before as after any change, since a change moves the assignments and the count alike. So
# what is missing in one snapshot is added, instead of writing a number that is old by the time that it is there.
_MEND_COUNT = Statement(
    "doctor.mend_count",
    """
    with found as (
        select
            (
                select cast(coalesce(sum(c.n), 0) as bigint) from tag_counts c
                where c.workspace_id = :workspace_id and c.tag_id = :tag_id
            ) as counted,
            (
                select count(*) from contact_tags ct
                where ct.workspace_id = :workspace_id and ct.tag_id = :tag_id
            ) as assigned
    ), mended as (
        insert into tag_counts (workspace_id, tag_id, slot, n)
        select :workspace_id, :tag_id, :slot, assigned - counted from found where assigned <> counted
        on conflict (workspace_id, tag_id, slot) do update set n = tag_counts.n + excluded.n
    )
    select cast(:workspace_id as uuid) as workspace_id, cast(:tag_id as uuid) as tag_id, counted, assigned
    from found
    where assigned <> counted
    """,
)


class DoctorRepository:
    """Examines all workspaces, and mends their counts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def examine(self, *, examples: int | None = 5) -> AsyncIterator[Finding]:
        """What each check finds, as soon as it is done, with so many examples at most; None: with all there are."""
        for check in CHECKS:
            if check.breaks is None:
                yield await self._select(check, examples)
            else:
                yield await self._look(check, check.breaks, examples)

    async def repair(self) -> AsyncIterator[MendedCount | HeldCount]:
        """Make every count the number of its tag's assignments, tag by tag; which were not, as soon as they are.

        Exact beside live writers; those that assign and unassign do not even wait. What another transaction holds for
        longer than the lock timeout is left as it is.
        """
        for row in await self._database.fetch(_FORGET_GONE_COUNTS):
            yield _mended_from_row(row)
        for wrong in (await self._select(_COUNTS, None)).examples:
            ids = {"workspace_id": UUID(wrong["workspace_id"]), "tag_id": UUID(wrong["tag_id"])}
            try:
                mended = await self._database.transaction(partial(_mend, ids))
            except Unavailable as error:
                if not isinstance(error.__cause__, LockTimeout):
                    raise
                yield HeldCount(**ids)
            else:
                for row in mended:
                    yield _mended_from_row(row)

    async def _select(self, check: Check, examples: int | None) -> Finding:
        async def work(connection: Connection) -> list[Row]:
            await connection.fetch(_ONLY_HASHING)
            return await connection.fetch(check.statement, examples=examples)

        rows = await self._database.transaction(work)
        return Finding(check.name, check.what, rows[0]["total"] if rows else 0, [row["example"] for row in rows])

    async def _look(self, check: Check, breaks: Callable[[Row], Sequence[str]], examples: int | None) -> Finding:
        broken, found = 0, []
        after = {"after_workspace_id": _FIRST_ID, "after_id": _FIRST_ID}
        while True:
            rows = await self._database.fetch(check.statement, **after)
            for row in rows:
                if fields := breaks(row):
                    broken += 1
                    if examples is None or broken <= examples:
                        ids = list(row.items())[:2]
                        found.append({name: str(value) for name, value in ids} | {"fields": ", ".join(fields)})
            if len(rows) < _BATCH:
                return Finding(check.name, check.what, broken, found)
            after = {"after_workspace_id": rows[-1][0], "after_id": rows[-1][1]}


async def _mend(ids: dict[str, UUID], connection: Connection) -> list[Row]:
    # In a statement of its own: what the next one counts begins after the wait. A tag that is gone took its counts.
    if not await connection.fetch(_HOLD_TAG, **ids):
        return []
    return await connection.fetch(_MEND_COUNT, **ids)


def _mended_from_row(row: Row) -> MendedCount:
    return MendedCount(
        workspace_id=row["workspace_id"], tag_id=row["tag_id"], counted=row["counted"], assigned=row["assigned"]
    )
