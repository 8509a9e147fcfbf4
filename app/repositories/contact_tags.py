"""The tags a contact carries: the assignments seen from the contact's side.

One statement changes them, for one contact or for many: it adds, removes, or does both. Only adding and only removing
run by themselves; what does both, replacing above all, first holds the member in a statement of its own, since what it
removes is decided by rows that another one may just have written. So does whatever depends on the set as it was: the
same statement that changes the set tells what it was, and if that was another one, all is rolled back.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from hashlib import blake2b
from uuid import UUID

from app.database import Connection, Row, Statement
from app.errors import FieldError, InvalidInput, NotFound, PreconditionFailed, Unavailable
from app.repositories import events
from app.repositories.base import Repository, unknown_audience
from app.repositories.tags import TagRepository
from app.values import fold, slug_for_name, slugify


@dataclass(frozen=True, slots=True)
class ContactTag:
    """A tag on a contact, and since when. Without a count: a list of tags would otherwise cost as much as counting."""

    id: UUID
    number: int
    audience: str
    name: str
    slug: str
    secondary_id: int
    color: str
    description: str | None
    public_description: str | None
    subscriber_editable: bool
    version: int
    created_at: datetime
    updated_at: datetime
    assigned_at: datetime


@dataclass(frozen=True, slots=True)
class ChangedTags:
    """A contact's tags in one audience after a change, by slug, and what the change added and removed."""

    tags: list[ContactTag]
    added: list[str]
    removed: list[str]


@dataclass(frozen=True, slots=True)
class TagRef:
    """A tag as a call names it: by id, or by a string that means a name first and then a slug.

    `place` is where the call names it, for the error that says so.
    """

    place: tuple[str | int, ...]
    id: UUID | None = None
    name: str | None = None
    slug: str | None = None
    slug_first: bool = False

    @classmethod
    def by_slug(cls, slug: str, place: tuple[str | int, ...]) -> "TagRef":
        """In a path a string means a slug before a name; a tag that it makes is named after it."""
        return cls(place, name=slug, slug=slug, slug_first=True)

    @classmethod
    def by_name(cls, name: str, place: tuple[str | int, ...]) -> "TagRef":
        """Natively a string means a slug only if it is one as it stands: "C#" does not mean the tag "c"."""
        return cls(place, name=name, slug=name if name == slugify(name) else None)


@dataclass(frozen=True, slots=True)
class TagChange:
    """What shall happen to one contact's tags in an audience. With `replace`, all that `add` does not name go."""

    contact_id: UUID
    add: Sequence[TagRef] = field(default=())
    remove: Sequence[TagRef] = field(default=())
    replace: bool = False


# Each further one is needed only when a tag or a member goes in the moment in which it is named.
_ATTEMPTS = 3

_TAG_COLUMNS = """
    t.id, t.number, t.name, t.slug, t.secondary_id, t.color, t.description, t.public_description,
    t.subscriber_editable, t.version, t.created_at, t.updated_at
"""

_LIST = Statement(
    "contact_tags.list",
    f"""
    with scope as (
        select a.id, a.slug from audiences a
        where a.workspace_id = :workspace_id and (cast(:audience as text) is null or a.slug = :audience)
    )
    select
        (select count(*) from scope) as audiences,
        exists (select from contacts c where c.workspace_id = :workspace_id and c.id = :contact_id) as is_contact,
        (
            select count(*) from audience_members m join scope on scope.id = m.audience_id
            where m.workspace_id = :workspace_id and m.contact_id = :contact_id
        ) as memberships,
        carried.*
    from (select) one
    left join lateral (
        select {_TAG_COLUMNS}, scope.slug as audience, ct.assigned_at
        from contact_tags ct
        join tags t on t.workspace_id = ct.workspace_id and t.id = ct.tag_id
        join scope on scope.id = t.audience_id
        where ct.workspace_id = :workspace_id and ct.contact_id = :contact_id
            and (
                cast(:slug as text) is null
                or t.id = (
                    -- What the slug means, whether or not this contact carries it: a slug before a name.
                    select meant.id from tags meant
                    where meant.workspace_id = :workspace_id and meant.audience_id = scope.id
                        and (meant.slug = :slug or meant.name_key = :name_key)
                    order by meant.slug = :slug desc
                    limit 1
                )
            )
    ) carried on true
    order by carried.slug, carried.audience
    """,
)

_LIST_OF_MANY = Statement(
    "contact_tags.list_of_many",
    f"""
    select ct.contact_id, {_TAG_COLUMNS}, a.slug as audience, ct.assigned_at
    from contact_tags ct
    join tags t on t.workspace_id = ct.workspace_id and t.id = ct.tag_id
    join audiences a on a.workspace_id = t.workspace_id and a.id = t.audience_id
    where ct.workspace_id = :workspace_id and ct.contact_id = any(:contact_ids)
        and (cast(:audience as text) is null or a.slug = :audience)
    order by t.slug, a.slug
    limit :at_most
    """,
)

# What lists of contacts show of their tags at once: more takes seconds of a process that serves others too.
TAGS_OF_MANY_MAX = 10_000

# FOR NO KEY UPDATE lets bulk assignment pass, and holds off all that changes this contact's tags from its side.
_LOCK_MEMBERS = Statement(
    "contact_tags.lock_members",
    """
    select m.contact_id
    from audience_members m
    join audiences a on a.workspace_id = m.workspace_id and a.id = m.audience_id
    where a.workspace_id = :workspace_id and a.slug = :audience and m.contact_id = any(:contact_ids)
    order by m.contact_id
    for no key update of m
    """,
)

# The tags that several contacts shall get, held in one order. Taken contact by contact, each sorted by itself, two such
# units, or one that deletes several tags, would wait for each other.
_HOLD_TAGS = Statement(
    "contact_tags.hold_tags",
    """
    select t.id
    from tags t
    join audiences a on a.workspace_id = t.workspace_id and a.id = t.audience_id
    where t.workspace_id = :workspace_id and a.slug = :audience
        and (
            t.id = any(cast(:ref_ids as uuid[])) or t.name_key = any(cast(:ref_name_keys as text[]))
            or t.slug = any(cast(:ref_slugs as text[]))
        )
    order by t.id
    for key share of t
    """,
)

_REFS = """
    scope as (
        select a.id, a.slug from audiences a where a.workspace_id = :workspace_id and a.slug = :audience
    ), subjects as (
        select s.contact_id, s.replace
        from unnest(cast(:contact_ids as uuid[]), cast(:replaces as boolean[])) as s(contact_id, replace)
    ), refs as (
        -- What each string or id means: a name before a slug, or the reverse where a path says so.
        select r.place, r.contact_id, r.delta, r.tag_id is not null as by_id,
            case when r.slug_first
                then coalesce(by_slug.id, by_name.id) else coalesce(by_id.id, by_name.id, by_slug.id)
            end as tag_id
        from unnest(
            cast(:ref_contact_ids as uuid[]), cast(:ref_deltas as int[]), cast(:ref_ids as uuid[]),
            cast(:ref_name_keys as text[]), cast(:ref_slugs as text[]), cast(:ref_slug_firsts as boolean[])
        ) with ordinality as r(contact_id, delta, tag_id, name_key, slug, slug_first, place)
        left join scope on true
        left join tags by_id on by_id.workspace_id = :workspace_id and by_id.audience_id = scope.id
            and by_id.id = r.tag_id
        left join tags by_name on by_name.workspace_id = :workspace_id and by_name.audience_id = scope.id
            and by_name.name_key = r.name_key
        left join tags by_slug on by_slug.workspace_id = :workspace_id and by_slug.audience_id = scope.id
            and by_slug.slug = r.slug
    ), overlap as (
        select r.place from refs r
        where r.delta < 0 and exists (
            select from refs a where a.delta > 0 and a.contact_id = r.contact_id and a.tag_id = r.tag_id
        )
    )"""

# The tags to be added, held. One row in `gate` if all of them are there, no id is unknown, and no tag shall be both
# added and removed; else none, and nothing may be written.
_WANTED = """
    wanted as (
        select t.id as tag_id, m.contact_id
        from refs r
        join tags t on t.workspace_id = :workspace_id and t.id = r.tag_id
        join audience_members m on m.workspace_id = t.workspace_id and m.audience_id = t.audience_id
            and m.contact_id = r.contact_id
        where r.delta > 0
        order by m.contact_id, t.id
        -- SHARE keeps a replace of the same contact out; two that add do not mind each other.
        for share of m for key share of t
    ), gate as (
        select count(*) as n
        from wanted
        having count(*) = (select count(*) from refs where delta > 0)
            and not exists (select from refs where by_id and tag_id is null)
            and not exists (select from overlap)
    )"""

_NOTHING_WANTED = """
    gate as (
        select 0 as n where not exists (select from refs where by_id and tag_id is null)
    )"""

_DOOMED = """
    doomed as (
        select ct.tag_id, ct.contact_id
        from ({doomed}) named
        join contact_tags ct on ct.workspace_id = :workspace_id and ct.contact_id = named.contact_id
            and ct.tag_id = named.tag_id
        cross join gate
        order by ct.tag_id, ct.contact_id
        for update of ct
    ), locked as (
        -- An aggregate: every row that goes is held, in order, before the first one does.
        select count(*) as n from doomed
    )"""

_REMOVED = """
    removed as (
        delete from contact_tags ct
        using doomed d, locked{after}
        where ct.workspace_id = :workspace_id and ct.tag_id = d.tag_id and ct.contact_id = d.contact_id
        returning ct.tag_id, ct.contact_id
    )"""

# What is both adds first: an add may wait for another one, and must not hold a row that is gone while it does.
_AFTER_ADDING = ", (select count(*) from added) as done"

_NAMED = "select tag_id, contact_id from refs where delta < 0"

# Set-wise, since a statement that is planned once knows nothing of how many there are.
_NOT_IN_THE_LIST = """
        (
            select ct.tag_id, ct.contact_id
            from subjects s
            join contact_tags ct on ct.workspace_id = :workspace_id and ct.contact_id = s.contact_id
            join tags t on t.workspace_id = :workspace_id and t.id = ct.tag_id
            join scope on scope.id = t.audience_id
            where s.replace
            except
            select tag_id, contact_id from wanted
        )
        union
        """

_ADDED = """
    added as (
        insert into contact_tags (workspace_id, tag_id, contact_id, client_id, front_end)
        select distinct cast(:workspace_id as uuid), w.tag_id, w.contact_id,
            cast(:client_id as uuid), cast(:front_end as text)
        from {source}
        order by 2, 3
        on conflict do nothing
        returning tag_id, contact_id, assigned_at
    )"""


@cache
def _change(*, adds: bool, removes: bool, lists: bool = True, checks: bool = False) -> Statement:
    """The statement that changes the tags of contacts. The parts that a change does not need are left out of it.

    One that `checks` also tells whether a pair that it should have removed was removed by another one just before.
    """
    changes = ["select tag_id, contact_id, 1 as delta from added"] if adds else []
    changes += ["select tag_id, contact_id, -1 as delta from removed"] if removes else []
    parts = [_REFS, _WANTED if adds else _NOTHING_WANTED]
    unwanted = _NOT_IN_THE_LIST + _NAMED if adds else _NAMED
    parts += [_DOOMED.format(doomed=unwanted)] if removes else []
    parts += [_ADDED.format(source="gate, locked, wanted w" if removes else "gate, wanted w")] if adds else []
    parts += [_REMOVED.format(after=_AFTER_ADDING if adds else "")] if removes else []
    return Statement(
        f"contact_tags.change.{'add' * adds}{'remove' * removes}{'' if lists else '.many'}{'.check' * checks}",
        f"""
        with {", ".join(parts)}, changes as (
            {" union all ".join(changes)}
        ), {_COUNT_AND_RECORD}
        {
            _list_after(adds=adds, removes=removes, overtaken=_OVERTAKEN.format(unwanted=unwanted) if checks else "")
            if lists
            else "select exists (select from gate) as done, array(select distinct contact_id from changes) as changed"
        }
        """,
    )


_COUNT_AND_RECORD = f"""
    counted as (
        insert into tag_counts (workspace_id, tag_id, slot, n)
        select :workspace_id, tag_id, :slot, sum(delta) from changes
        group by tag_id
        having sum(delta) <> 0
        order by tag_id
        on conflict (workspace_id, tag_id, slot) do update set n = tag_counts.n + excluded.n
    ), recorded as (
        {
    events.record(
        "contact.tags_changed",
        f"({events.chunks('changes', group='contact_id', member='tag_id')}) chunk",
        audience="(select id from scope)",
        contact="chunk.contact_id",
        payload="jsonb_build_object('added', chunk.added, 'removed', chunk.removed)",
    )
}
    )"""


# A column. One that was overtaken lists the pair as if it were still carried: it was, when the statement began.
_OVERTAKEN = """
            exists (
                select from ({unwanted}) unwanted
                join snapshot s on s.contact_id = unwanted.contact_id and s.tag_id = unwanted.tag_id
                where not exists (
                    select from removed r where r.contact_id = s.contact_id and r.tag_id = s.tag_id
                )
            ) as is_overtaken,"""


def _list_after(*, adds: bool, removes: bool, overtaken: str) -> str:
    """The rest of the statement: what came of it, and the contact's tags in the audience after it."""
    # The rows of the snapshot, and every pair that was named. A pair that another request wrote meanwhile has no time
    # yet that this statement could see.
    carried = ["select contact_id, tag_id, assigned_at, false as is_added, false as is_removed from snapshot"]
    if adds:
        carried += [
            "select contact_id, tag_id, assigned_at, true, false from added",
            "select wanted.contact_id, wanted.tag_id, null, false, false from gate, wanted",
        ]
    if removes:
        carried += ["select contact_id, tag_id, null, false, true from removed"]
    return f"""
        , snapshot as (
            select ct.contact_id, ct.tag_id, ct.assigned_at
            from subjects s
            join contact_tags ct on ct.workspace_id = :workspace_id and ct.contact_id = s.contact_id
        ), carried as (
            -- An aggregate and no joins, which would be as long as the square of the rows in a large batch.
            select contact_id, tag_id, max(assigned_at) as assigned_at,
                bool_or(is_added) as is_added, bool_or(is_removed) as is_removed
            from ({" union all ".join(carried)}) pairs
            group by contact_id, tag_id
        ), listed as (
            select carried.contact_id, {_TAG_COLUMNS}, scope.slug as audience, carried.assigned_at,
                carried.is_added, carried.is_removed
            from carried
            join tags t on t.workspace_id = :workspace_id and t.id = carried.tag_id
            join scope on scope.id = t.audience_id
        )
        select
            s.contact_id as subject_id,
            (select id from scope) as audience_id,
            exists (
                select from audience_members m join scope on scope.id = m.audience_id
                where m.workspace_id = :workspace_id and m.contact_id = s.contact_id
            ) as is_member,
            exists (select from gate) as done,
            array(select place from refs where tag_id is null order by place) as unresolved,
            array(select place from overlap order by place) as overlapping,
            now() as changed_at,{overtaken}
            listed.*
        from subjects s
        left join listed on listed.contact_id = s.contact_id
        order by s.contact_id, listed.slug
    """


_KNOWN_REFS = Statement(
    "contact_tags.known_refs",
    """
    select exists (
        select from tags t
        join audiences a on a.workspace_id = t.workspace_id and a.id = t.audience_id
        where t.workspace_id = :workspace_id and a.slug = :audience
            and (t.id = r.tag_id or t.name_key = r.name_key or t.slug = r.slug)
    ) as known
    from unnest(cast(:ids as uuid[]), cast(:name_keys as text[]), cast(:slugs as text[]))
        with ordinality as r(tag_id, name_key, slug, place)
    order by r.place
    """,
)


class Outdated(Exception):
    """All that was named was there, and yet not all could be held: a tag or the member has just gone. Look again."""


class _ShortOfNames(Exception):
    """Nothing stood in the way but names that mean no tag yet."""


class ContactTagRepository(Repository):
    """The tags of a contact."""

    async def list(self, contact_id: UUID, *, audience: str | None = None) -> Sequence[ContactTag]:
        """The contact's tags in one audience by slug; in all of them for the audience `*`."""
        everywhere = audience == "*"
        return await self._list(contact_id, None if everywhere else self._audience(audience), slug=None)

    async def list_of_one(self, contact_id: UUID, *, audience: str | None = None) -> Sequence[ContactTag]:
        """`list` for a contact that was there a moment ago: one that has left since carries none."""
        tags = await self._list_of_many([contact_id], self._audience(audience), at_most=None)
        return tags[contact_id]

    async def list_of_many(
        self, contact_ids: Sequence[UUID], *, audience: str | None = None
    ) -> Mapping[UUID, Sequence[ContactTag]]:
        """The tags of each contact by slug, in one audience; in all of them for `*`, or where none is in force.

        InvalidInput where there are more than 10,000 of them.
        """
        return await self._list_of_many(contact_ids, self._audience_or_all(audience), at_most=TAGS_OF_MANY_MAX)

    async def _list_of_many(
        self, contact_ids: Sequence[UUID], audience: str | None, *, at_most: int | None
    ) -> Mapping[UUID, Sequence[ContactTag]]:
        rows = await self._database.fetch(
            _LIST_OF_MANY,
            **self._caller,
            contact_ids=contact_ids,
            audience=audience,
            # No limit is null.
            at_most=None if at_most is None else at_most + 1,
        )
        if at_most is not None and len(rows) > at_most:
            detail = f"The contacts of this page carry more than {TAGS_OF_MANY_MAX:,} tags. Ask for fewer contacts."
            raise InvalidInput([FieldError(("query", "limit"), "out_of_range", detail)])
        tags: dict[UUID, list[ContactTag]] = {contact_id: [] for contact_id in contact_ids}
        for row in rows:
            tags[row["contact_id"]].append(contact_tag_from_row(row, row["assigned_at"]))
        return tags

    async def get(self, contact_id: UUID, slug: str, *, audience: str | None = None) -> ContactTag:
        """One tag of the contact. NotFound when the contact does not carry it, whether or not the tag exists."""
        tags = await self._list(contact_id, self._audience(audience), slug=slug)
        if not tags:
            raise NotFound("tag", slug, where=f"on the contact {contact_id}")
        return tags[0]

    async def change(
        self,
        change: TagChange,
        *,
        audience: str | None = None,
        create_missing: bool = True,
        if_match: Collection[str] | None = None,
    ) -> ChangedTags:
        """Add, remove or replace one contact's tags, making those named that do not exist unless told otherwise.

        With `if_match`, PreconditionFailed unless one of these is the `etag_of` the contact's tags before the change.
        """
        slug = self._audience(audience)
        for _ in range(_ATTEMPTS):
            try:
                rows = await self._change(change, slug, create_missing=create_missing, if_match=if_match)
                break
            except Outdated:
                continue
        else:
            raise Unavailable("Other requests kept removing what this one names. Nothing was written.")
        times: dict[UUID, datetime] = {}
        if any(row["id"] is not None and row["assigned_at"] is None for row in rows):
            # Another request wrote a pair that this one named, while this one waited for it.
            times = {tag.id: tag.assigned_at for tag in await self._list(change.contact_id, slug, slug=None)}
        return _changed_from_rows(rows, times)

    async def _change(
        self, change: TagChange, audience: str, *, create_missing: bool, if_match: Collection[str] | None
    ) -> Sequence[Row]:
        values = self._values([change], audience)
        removes = change.replace or bool(change.remove)
        adds, removes = change.replace or bool(change.add), removes or not change.add
        statement = _change(adds=adds, removes=removes, checks=removes and if_match is not None)
        locks_first = change.replace or bool(change.add and change.remove) or if_match is not None

        async def run(connection: Connection) -> Sequence[Row]:
            held = await connection.fetch(_LOCK_MEMBERS, **values)
            rows = await connection.fetch(statement, **values)
            if rows[0]["is_member"]:
                if not held:
                    # It joined after it was looked for, so nothing keeps another one out.
                    raise Outdated
                if if_match is not None:
                    _check_unchanged(rows, if_match)
            return rows

        def check(rows: Sequence[Row]) -> None:
            if create_missing and self._is_short_of_names(rows[0], change):
                raise _ShortOfNames
            self._check(rows[0], change, audience, create_missing=create_missing)

        async def work(connection: Connection) -> Sequence[Row]:
            rows = await run(connection)
            check(rows)
            return rows

        async def work_with_missing(connection: Connection) -> Sequence[Row]:
            await self.create_missing_within(connection, [ref for ref in change.add if ref.name], audience)
            rows = await run(connection)
            self._check(rows[0], change, audience, create_missing=create_missing)
            return rows

        try:
            if locks_first:
                return await self._database.transaction(work)
            return await self._database.fetch_checked(statement, check, **values)
        except _ShortOfNames:
            # Nothing was written. Now the audience is locked first, as creating tags wants it.
            return await self._database.transaction(work_with_missing)

    async def change_many_within(
        self, connection: Connection, changes: Sequence[TagChange], audience: str
    ) -> Collection[UUID]:
        """`change` for several members as a part of a larger unit of work, which has made the missing tags.

        Answers which contacts' tags changed. Raises Outdated if a tag has gone since the unit made or found it.
        """
        statement = _change(adds=True, removes=any(change.replace for change in changes), lists=False)
        values = self._values(changes, audience)
        await connection.fetch(_LOCK_MEMBERS, **values)
        if len(changes) > 1:
            await connection.fetch(_HOLD_TAGS, **values)
        row = await connection.fetch_one(statement, **values)
        if not row["done"]:
            raise Outdated
        changed: Collection[UUID] = row["changed"]
        return changed

    async def lock_if_missing_within(self, connection: Connection, refs: Sequence[TagRef], audience: str) -> bool:
        """Lock the audience, as creating tags wants it, if one of the strings means no tag yet; say whether.

        InvalidInput for ids that are no tag's, since they cannot be made.
        """
        known = await self._known(connection, refs, audience)
        errors = [
            FieldError(ref.place, "unknown_ids", f"There is no tag {ref.id} in the audience {audience}.")
            for ref, is_known in zip(refs, known, strict=True)
            if ref.id is not None and not is_known
        ]
        if errors:
            raise InvalidInput(errors)
        if all(known):
            return False
        await self._sibling(TagRepository).lock_audience(connection, audience)
        return True

    async def create_missing_within(self, connection: Connection, refs: Sequence[TagRef], audience: str) -> None:
        """Lock the audience, and make a tag for each string that means none yet, neither by name nor by slug."""
        tags = self._sibling(TagRepository)
        locked = await tags.lock_audience(connection, audience)
        known = await self._known(connection, refs, audience)
        names: list[str] = []
        slugs: set[str] = set()
        for ref, is_known in zip(refs, known, strict=True):
            # A string may also mean the tag that one before it makes.
            if not is_known and ref.name is not None and (ref.slug is None or ref.slug not in slugs):
                names.append(ref.name)
                slugs.add(slug_for_name(ref.name))
        await tags.find_or_create(connection, locked, [{"name": name} for name in names])

    async def _known(self, connection: Connection, refs: Sequence[TagRef], audience: str) -> Sequence[bool]:
        rows = await connection.fetch(
            _KNOWN_REFS,
            **self._caller,
            audience=audience,
            ids=[ref.id for ref in refs],
            name_keys=[fold(ref.name or "") for ref in refs],
            slugs=[ref.slug for ref in refs],
        )
        return [row["known"] for row in rows]

    async def _list(self, contact_id: UUID, audience: str | None, *, slug: str | None) -> Sequence[ContactTag]:
        rows = await self._database.fetch(
            _LIST,
            **self._caller,
            contact_id=contact_id,
            audience=audience,
            slug=slug,
            name_key=None if slug is None else fold(slug),
        )
        if not rows[0]["audiences"] and audience is not None:
            raise unknown_audience(audience)
        if not rows[0]["is_contact"] or (audience is not None and not rows[0]["memberships"]):
            raise NotFound("contact", contact_id, where="" if audience is None else f"in the audience {audience}")
        return [contact_tag_from_row(row, row["assigned_at"]) for row in rows if row["id"] is not None]

    def _values(self, changes: Sequence[TagChange], audience: str) -> dict[str, object]:
        refs = [(change.contact_id, 1, ref) for change in changes for ref in change.add]
        refs += [(change.contact_id, -1, ref) for change in changes for ref in change.remove]
        return {
            **self._caller,
            "audience": audience,
            "contact_ids": [change.contact_id for change in changes],
            "replaces": [change.replace for change in changes],
            "ref_contact_ids": [contact_id for contact_id, _, _ in refs],
            "ref_deltas": [delta for _, delta, _ in refs],
            "ref_ids": [ref.id for _, _, ref in refs],
            "ref_name_keys": [None if ref.name is None else fold(ref.name) for _, _, ref in refs],
            "ref_slugs": [ref.slug for _, _, ref in refs],
            "ref_slug_firsts": [ref.slug_first for _, _, ref in refs],
        }

    def _is_short_of_names(self, row: Row, change: TagChange) -> bool:
        """Whether names are all that stood in the way."""
        refs = [*change.add, *change.remove]
        unresolved = [(place <= len(change.add), refs[place - 1]) for place in row["unresolved"]]
        return (
            row["is_member"]
            and any(is_add and ref.name is not None for is_add, ref in unresolved)
            and not any(ref.id is not None for _, ref in unresolved)
        )

    def _check(self, row: Row, change: TagChange, audience: str, *, create_missing: bool) -> None:
        """Raise what kept the statement from writing."""
        if row["audience_id"] is None:
            raise unknown_audience(audience)
        if not row["is_member"]:
            raise NotFound("contact", change.contact_id, where=f"in the audience {audience}")
        if row["done"]:
            return
        refs = [*change.add, *change.remove]
        errors = [
            FieldError(refs[place - 1].place, "overlap", "The same tag is to be added and removed.")
            for place in row["overlapping"]
        ] or [
            FieldError(
                ref.place,
                "unknown_ids" if ref.id else "unknown_tag",
                f"There is no tag {ref.id or ref.name} in the audience {audience}.",
            )
            for place in row["unresolved"]
            for ref in [refs[place - 1]]
            # A name is no error where it would be made, were it not for the others.
            if ref.id is not None or (place <= len(change.add) and not create_missing)
        ]
        raise InvalidInput(errors) if errors else Outdated


def etag_of(tags: Sequence[ContactTag]) -> str:
    """What a contact's set of tags, by slug, is known by: all that is shown of a tag moves its version."""
    return _etag((tag.id, tag.version, tag.assigned_at) for tag in tags)


def _etag(tags: Iterable[tuple[UUID, int, datetime]]) -> str:
    # A timestamp is exact to the microsecond, and made five times as fast as text.
    text = ",".join([f"{tag_id.hex} {version} {assigned_at.timestamp()}" for tag_id, version, assigned_at in tags])
    return blake2b(text.encode(), digest_size=16).hexdigest()


def _check_unchanged(rows: Sequence[Row], if_match: Collection[str]) -> None:
    """Raise PreconditionFailed unless the set that the statement of these rows has changed had one of these etags.

    What it has changed, it holds; so it knows of each such pair whether the snapshot was still true. Of the others it
    need not know: who changes those while it runs comes after it.
    """
    before = [row for row in rows if row["id"] is not None and not row["is_added"]]
    is_overtaken = rows[0]["done"] and (
        # A pair that was there and had to be added had been removed meanwhile: it is missing here, and in the etag.
        # One that was not there and could not be added had been added meanwhile.
        any(row["assigned_at"] is None for row in before)
        # One that had to go was gone.
        or rows[0].get("is_overtaken", False)
    )
    if is_overtaken or _etag((row["id"], row["version"], row["assigned_at"]) for row in before) not in if_match:
        raise PreconditionFailed("contact's set of tags")


def _changed_from_rows(rows: Sequence[Row], times: dict[UUID, datetime]) -> ChangedTags:
    """The change out of one contact's rows. `times` has when pairs were assigned that the statement could not see."""
    tags = [row for row in rows if row["id"] is not None]
    return ChangedTags(
        tags=[
            contact_tag_from_row(row, row["assigned_at"] or times.get(row["id"]) or row["changed_at"])
            for row in tags
            if not row["is_removed"]
        ],
        added=[row["slug"] for row in tags if row["is_added"]],
        removed=[row["slug"] for row in tags if row["is_removed"]],
    )


def contact_tag_from_row(row: Row, assigned_at: datetime) -> ContactTag:
    """A contact's tag from a row with the tag's columns."""
    return ContactTag(
        id=row["id"],
        number=row["number"],
        audience=row["audience"],
        name=row["name"],
        slug=row["slug"],
        secondary_id=row["secondary_id"],
        color=row["color"],
        description=row["description"],
        public_description=row["public_description"],
        subscriber_editable=row["subscriber_editable"],
        version=row["version"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        assigned_at=assigned_at,
    )
