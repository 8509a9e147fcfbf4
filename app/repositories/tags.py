"""Tags: what they are called and look like, and how many contacts carry each."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Literal, TypedDict
from uuid import UUID

from app.database import Connection, Row, Statement
from app.errors import Conflict, Duplicate, FieldError, InvalidInput, NotFound, PreconditionFailed, UniqueField
from app.pagination import (
    Page,
    PageRequest,
    decode_cursor,
    fingerprint,
    id_part,
    number_part,
    page_of,
    text_part,
    time_part,
)
from app.repositories import events
from app.repositories.base import Repository, unknown_audience
from app.values import DEFAULT_COLOR, fold, new_id, numbered_slug, slug_for_name

TagSort = Literal["name", "-name", "created_at", "-created_at", "contact_count", "-contact_count"]
OnConflict = Literal["error", "return", "update"]


@dataclass(frozen=True, slots=True)
class Tag:
    """A tag with its exact count: the caller's own change and all that was committed before its statement began."""

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
    contact_count: int
    created_at: datetime
    updated_at: datetime

    @property
    def etag(self) -> str:
        """What this state is known by. The version stands for all fields but the count."""
        return f"{self.version}-{self.contact_count}"


@dataclass(frozen=True, slots=True)
class FoundTag:
    """A tag that a call asked to exist, and whether the call made it."""

    tag: Tag
    created: bool


class TagFields(TypedDict, total=False):
    """The fields that a call gave; what it left out is absent. A new tag needs a name."""

    name: str
    color: str
    description: str | None
    public_description: str | None
    subscriber_editable: bool
    secondary_id: int


_COLUMNS = """
    t.id, t.number, a.slug as audience, t.name, t.name_key, t.slug, t.secondary_id, t.color, t.description,
    t.public_description, t.subscriber_editable, t.version, t.created_at, t.updated_at
"""

_COUNT = """(
        select cast(coalesce(sum(c.n), 0) as bigint)
        from tag_counts c where c.workspace_id = t.workspace_id and c.tag_id = t.id
    )"""

_GET = Statement(
    "tags.get",
    f"""
    select {_COLUMNS}, {_COUNT} as contact_count
    from tags t
    join audiences a on a.workspace_id = t.workspace_id and a.id = t.audience_id
    where t.workspace_id = :workspace_id and t.id = any(:tag_ids)
        and (cast(:only_audience as text) is null or a.slug = :only_audience)
    """,
)

_IDS_BY_NUMBER = Statement(
    "tags.ids_by_number",
    """
    select found.*
    from audiences a
    left join lateral (
        select named.number, tag.id
        from unnest(cast(:numbers as bigint[])) as named(number)
        cross join lateral (
            select t.id, t.audience_id from tags t where t.workspace_id = :workspace_id and t.number = named.number
            -- Each is looked up by itself, whatever was known of the table when this was planned.
            offset 0
        ) tag
        where tag.audience_id = a.id
    ) found on true
    where a.workspace_id = :workspace_id and a.slug = :audience
    """,
)

# The lock for creating, renaming and deleting tags. Nothing in the audience's set of tags changes while it is held.
LOCK_AUDIENCE = Statement(
    "tags.lock_audience",
    """
    select a.id, a.slug, a.last_secondary_id
    from audiences a
    where a.workspace_id = :workspace_id and a.slug = :audience
    for no key update
    """,
)

_LOCK_AUDIENCE_OF_TAG = Statement(
    "tags.lock_audience_of_tag",
    """
    select a.id, a.slug, a.last_secondary_id
    from audiences a
    where a.workspace_id = :workspace_id
        and a.id = (select t.audience_id from tags t where t.workspace_id = :workspace_id and t.id = :tag_id)
        and (cast(:only_audience as text) is null or a.slug = :only_audience)
    for no key update
    """,
)

_FIND_BY_NAME = Statement(
    "tags.find_by_name",
    f"""
    select {_COLUMNS}, {_COUNT} as contact_count
    from tags t
    join audiences a on a.workspace_id = t.workspace_id and a.id = t.audience_id
    where t.workspace_id = :workspace_id and t.audience_id = :audience_id and t.name_key = any(:name_keys)
    """,
)

_FIND_MANY = Statement(
    "tags.find_many",
    f"""
    select {_COLUMNS}, {_COUNT} as contact_count
    from tags t
    join audiences a on a.workspace_id = t.workspace_id and a.id = t.audience_id
    where t.workspace_id = :workspace_id and a.slug = :audience
        and (t.id = any(cast(:tag_ids as uuid[])) or t.name_key = any(cast(:name_keys as text[])))
    """,
)

_TAKEN_SLUGS = Statement(
    "tags.taken_slugs",
    """
    select t.slug from tags t
    where t.workspace_id = :workspace_id and t.audience_id = :audience_id and t.slug = any(:slugs)
    """,
)

# As many numbers beyond the last one as are asked for, and one more for each that a PATCH has taken there.
_FREE_SECONDARY_IDS = Statement(
    "tags.free_secondary_ids",
    """
    with ahead as (
        select t.secondary_id from tags t
        where t.workspace_id = :workspace_id and t.audience_id = :audience_id and t.secondary_id > :last
    )
    select n
    from generate_series(:last + 1, :last + :wanted + (select count(*) from ahead)) as n
    where not exists (select from ahead where secondary_id = n)
    order by n
    limit :wanted
    """,
)

_INSERT = Statement(
    "tags.insert",
    f"""
    with made as (
        insert into tags (
            workspace_id, audience_id, id, name, name_key, slug, secondary_id, color, description, public_description,
            subscriber_editable
        )
        select :workspace_id, :audience_id, n.*
        from unnest(
            cast(:ids as uuid[]), cast(:names as text[]), cast(:name_keys as text[]), cast(:slugs as text[]),
            cast(:secondary_ids as bigint[]), cast(:colors as text[]), cast(:descriptions as text[]),
            cast(:public_descriptions as text[]), cast(:subscriber_editables as boolean[])
        ) as n
        returning *
    ), allotted as (
        update audiences set last_secondary_id = :last_secondary_id
        where workspace_id = :workspace_id and id = :audience_id
    ), recorded as (
        {events.record("tag.created", "made", audience="made.audience_id", tag="made.id")}
    )
    select {_COLUMNS}, cast(0 as bigint) as contact_count
    from made t
    join audiences a on a.workspace_id = t.workspace_id and a.id = t.audience_id
    """,
)

# Whoever assigns the tag holds it FOR KEY SHARE, so from here on none does, and none will.
_LOCK_FOR_DELETE = Statement(
    "tags.lock_for_delete",
    "select t.id, t.version from tags t where t.workspace_id = :workspace_id and t.id = :tag_id for update",
)

# Removals lock no tag, but each holds its rows before it counts. After this, none is on its way to the counts.
_LOCK_ASSIGNMENTS = Statement(
    "tags.lock_assignments",
    """
    select count(*) as n
    from (
        select from contact_tags ct
        where ct.workspace_id = :workspace_id and ct.tag_id = :tag_id
        order by ct.contact_id
        for update
    ) locked
    """,
)

_DELETE = Statement(
    "tags.delete",
    f"""
    with removed as (
        delete from contact_tags where workspace_id = :workspace_id and tag_id = :tag_id
        returning contact_id
    ), uncounted as (
        delete from tag_counts where workspace_id = :workspace_id and tag_id = :tag_id
    ), deleted as (
        delete from tags where workspace_id = :workspace_id and id = :tag_id
        returning id, audience_id
    )
    {
        events.record(
            "tag.deleted",
            "deleted, (select count(*) as n from removed) total",
            audience="deleted.audience_id",
            tag="deleted.id",
            payload="jsonb_build_object('removed_count', total.n)",
        )
    }
    """,
)


_UPDATE = Statement(
    "tags.update",
    f"""
    with changed as (
        update tags
        set name = :name, name_key = :name_key, color = :color, description = :description,
            public_description = :public_description, subscriber_editable = :subscriber_editable,
            secondary_id = :secondary_id, version = version + 1, updated_at = now()
        where workspace_id = :workspace_id and id = :tag_id
        returning *
    ), recorded as (
        {
        events.record(
            "tag.updated",
            "changed",
            audience="changed.audience_id",
            tag="changed.id",
            payload="jsonb_build_object('version', changed.version, 'fields', to_jsonb(cast(:fields as text[])))",
        )
    }
    )
    select {_COLUMNS}, {_COUNT} as contact_count
    from changed t
    join audiences a on a.workspace_id = t.workspace_id and a.id = t.audience_id
    """,
)

_FIND_HOLDER = Statement(
    "tags.find_holder",
    """
    select t.id from tags t
    where t.workspace_id = :workspace_id and t.audience_id = :audience_id
        and (t.name_key = :name_key or t.secondary_id = :secondary_id) and t.id <> :tag_id
    """,
)

# Each order ends with the id, so that a cursor always has one place to go on from.
_SORT_KEYS = {
    "name": ("t.name_key", text_part, "text"),
    "created_at": ("t.created_at", time_part, "timestamptz"),
    "contact_count": ("counted.n", number_part, "bigint"),
}


# Each filter is there only when it is given, so that its index is used.
_FILTERS = {
    # Part of the folded name; unlike LIKE, it knows no wildcards.
    "search": "strpos(t.name_key, :search) > 0",
    "tag_ids": "t.id = any(:tag_ids)",
    "slug": "t.slug = :slug",
}


@cache
def _list_statement(sort: TagSort, filters: tuple[str, ...], *, has_cursor: bool) -> Statement:
    expression, _, sql_type = _SORT_KEYS[sort.removeprefix("-")]
    direction, beyond = ("desc", "<") if sort.startswith("-") else ("asc", ">")
    where = " and ".join(["t.workspace_id = :workspace_id", *(_FILTERS[name] for name in filters)])
    after = f"and ({expression}, t.id) {beyond} (cast(:after_key as {sql_type}), cast(:after_id as uuid))"
    return Statement(
        f"tags.list.{sort}",
        f"""
        with scope as (
            select a.id, a.slug from audiences a where a.workspace_id = :workspace_id and a.slug = :audience
        )
        select head.audience_id, head.total, page.*
        from (
            -- Two scans and no common CTE, which would be made whole for each page.
            select (select id from scope) as audience_id,
                (select count(*) from tags t join scope on scope.id = t.audience_id where {where}) as total
        ) head
        left join lateral (
            select {_COLUMNS}, counted.n as contact_count
            from tags t
            join scope a on a.id = t.audience_id
            cross join lateral (select {_COUNT} as n) counted
            where {where} {after if has_cursor else ""}
            order by {expression} {direction}, t.id {direction}
            limit :limit offset :offset
        ) page on true
        order by {expression.replace("t.", "page.").replace("counted.n", "page.contact_count")} {direction},
            page.id {direction}
        """,
    )


class TagRepository(Repository):
    """The tags of a workspace."""

    async def list(
        self,
        page: PageRequest,
        *,
        audience: str | None = None,
        search: str | None = None,
        ids: Sequence[UUID] | None = None,
        slug: str | None = None,
        sort: TagSort = "name",
    ) -> Page[Tag]:
        """A page of one audience's tags, with the number of all that the filters leave."""
        audience = self._audience(audience)
        folded_search = fold(search) if search else None
        identity = fingerprint("tags", audience, folded_search, sorted(map(str, ids or ())), slug, sort)
        after_key, after_id = None, None
        if page.cursor is not None:
            read_key = _SORT_KEYS[sort.removeprefix("-")][1]
            after_key, after_id = decode_cursor(page.cursor, identity, read_key, id_part)
        filters = {"search": folded_search, "tag_ids": ids, "slug": slug}
        given = {name: value for name, value in filters.items() if value is not None}
        rows = await self._database.fetch(
            _list_statement(sort, tuple(given), has_cursor=page.cursor is not None),
            **self._caller,
            **given,
            audience=audience,
            limit=page.limit + 1,
            offset=page.offset,
            after_key=after_key,
            after_id=after_id,
        )
        if rows[0]["audience_id"] is None:
            raise unknown_audience(audience)
        return page_of(
            [tag_from_row(row) for row in rows if row["id"] is not None],
            page,
            total=rows[0]["total"],
            list_fingerprint=identity,
            key=lambda tag: (_sort_value(tag, sort), str(tag.id)),
        )

    async def get(self, tag_id: UUID) -> Tag:
        """One tag of the workspace, in whichever audience."""
        rows = await self._database.fetch(_GET, **self._caller, tag_ids=[tag_id])
        if not rows:
            raise NotFound("tag", tag_id)
        return tag_from_row(rows[0])

    async def ids_by_number(self, numbers: Sequence[int], *, audience: str | None = None) -> Mapping[int, UUID]:
        """The ids of those of these numbers that are tags of the audience."""
        audience = self._audience(audience)
        if not numbers:
            return {}
        rows = await self._database.fetch(_IDS_BY_NUMBER, **self._caller, audience=audience, numbers=numbers)
        if not rows:
            raise unknown_audience(audience)
        return {row["number"]: row["id"] for row in rows if row["id"] is not None}

    async def find_by_name(self, name: str, *, audience: str | None = None) -> Tag | None:
        """The tag of the audience that has this name, in whichever case."""
        found = await self.find_many(ids=(), names=[name], audience=audience)
        return found[0] if found else None

    async def find_many(
        self, *, ids: Sequence[UUID], names: Sequence[str], audience: str | None = None
    ) -> Sequence[Tag]:
        """The tags of one audience that have one of the ids or one of the names, in no order."""
        rows = await self._database.fetch(
            _FIND_MANY,
            **self._caller,
            audience=self._audience(audience),
            tag_ids=ids,
            name_keys=[fold(name) for name in names],
        )
        return [tag_from_row(row) for row in rows]

    async def check_audience(self, tag_id: UUID, audience: str) -> None:
        """Raise InvalidInput if a tag, which never changes its audience, is of another one than this."""
        tag = await self.get(tag_id)
        if tag.audience != audience:
            detail = f"The tag belongs to the audience {tag.audience}, not to {audience}."
            raise InvalidInput([FieldError(("query", "audience"), "other_audience", detail)])

    async def create(
        self, new: TagFields, *, audience: str | None = None, on_conflict: OnConflict = "error"
    ) -> FoundTag:
        """Make a tag. If the name is taken: refuse with Duplicate, return the tag as it is, or update it."""

        async def work(connection: Connection) -> FoundTag:
            return await self.create_within(connection, new, audience=audience, on_conflict=on_conflict)

        return await self._database.transaction(work)

    async def create_within(
        self, connection: Connection, new: TagFields, *, audience: str | None, on_conflict: OnConflict
    ) -> FoundTag:
        """`create` as a part of a larger unit of work."""
        locked = await self.lock_audience(connection, audience)
        [found] = await self.find_or_create(connection, locked, [new])
        if found.created or on_conflict == "return":
            return found
        if on_conflict == "error":
            raise Duplicate("tag", "name", new["name"], found.tag.id)
        return FoundTag(await self._update(connection, locked["id"], found.tag, new), created=False)

    async def create_many(self, new: Sequence[TagFields], *, audience: str | None = None) -> Sequence[FoundTag]:
        """Find or make each tag by its name, in the order asked. Names that fold alike are one tag, made once."""

        async def work(connection: Connection) -> Sequence[FoundTag]:
            return await self.find_or_create(connection, await self.lock_audience(connection, audience), new)

        return await self._database.transaction(work)

    async def update(self, tag_id: UUID, changes: TagFields, *, if_match: Collection[str] | None = None) -> Tag:
        """Change what is given. The slug stays. Duplicate if another tag has the name or the secondary_id.

        With `if_match`, PreconditionFailed unless one of these etags has the tag's version, with whatever count.
        """

        async def work(connection: Connection) -> Tag:
            locked = await connection.fetch(_LOCK_AUDIENCE_OF_TAG, **self._caller, tag_id=tag_id)
            rows = await connection.fetch(_GET, **self._caller, tag_ids=[tag_id])
            if not locked or not rows:
                raise NotFound("tag", tag_id)
            # The audience is locked, so this is still the version when the tag is changed.
            _check_version(rows[0], if_match)
            return await self._update(connection, locked[0]["id"], tag_from_row(rows[0]), changes)

        return await self._database.transaction(work)

    async def delete(self, tag_id: UUID, *, if_unused: bool = False, if_match: Collection[str] | None = None) -> None:
        """Delete a tag and its assignments. With `if_unused`, Conflict while a contact carries it.

        `if_match` is as for `update`.
        """

        async def work(connection: Connection) -> None:
            locked = await connection.fetch(_LOCK_AUDIENCE_OF_TAG, **self._caller, tag_id=tag_id)
            rows = locked and await connection.fetch(_LOCK_FOR_DELETE, **self._caller, tag_id=tag_id)
            if not rows:
                raise NotFound("tag", tag_id)
            _check_version(rows[0], if_match)
            assigned = await connection.fetch_one(_LOCK_ASSIGNMENTS, **self._caller, tag_id=tag_id)
            if if_unused and assigned["n"]:
                raise Conflict(
                    "tag_in_use", f"{assigned['n']} contacts carry the tag.", contact_count=int(assigned["n"])
                )
            await connection.fetch(_DELETE, **self._caller, tag_id=tag_id)

        await self._database.transaction(work)

    async def lock_audience(self, connection: Connection, audience: str | None) -> Row:
        """Hold the audience in force, so that its set of tags is this transaction's to change."""
        slug = self._audience(audience)
        rows = await connection.fetch(LOCK_AUDIENCE, **self._caller, audience=slug)
        if not rows:
            raise unknown_audience(slug)
        return rows[0]

    async def find_or_create(
        self, connection: Connection, audience: Row, new: Sequence[TagFields]
    ) -> Sequence[FoundTag]:
        """The tags of these names, those made that were missing. The audience must be locked by this transaction."""
        wanted: dict[str, TagFields] = {}
        for spec in new:
            wanted.setdefault(fold(spec["name"]), spec)
        scope = {**self._caller, "audience_id": audience["id"]}
        rows = await connection.fetch(_FIND_BY_NAME, **scope, name_keys=list(wanted))
        found = {row["name_key"]: FoundTag(tag_from_row(row), created=False) for row in rows}
        missing = {key: spec for key, spec in wanted.items() if key not in found}
        if missing:
            slugs = await self._free_slugs(
                connection, scope, [slug_for_name(spec["name"]) for spec in missing.values()]
            )
            rows = await connection.fetch(
                _FREE_SECONDARY_IDS, **scope, last=audience["last_secondary_id"], wanted=len(missing)
            )
            numbers = [row["n"] for row in rows]
            specs = list(missing.values())
            rows = await connection.fetch(
                _INSERT,
                **scope,
                ids=[new_id() for _ in specs],
                names=[spec["name"] for spec in specs],
                name_keys=list(missing),
                slugs=slugs,
                secondary_ids=numbers,
                colors=[spec.get("color", DEFAULT_COLOR) for spec in specs],
                descriptions=[spec.get("description") for spec in specs],
                public_descriptions=[spec.get("public_description") for spec in specs],
                subscriber_editables=[spec.get("subscriber_editable", False) for spec in specs],
                last_secondary_id=numbers[-1],
            )
            found |= {row["name_key"]: FoundTag(tag_from_row(row), created=True) for row in rows}
        made: set[str] = set()
        answer = []
        for key in (fold(spec["name"]) for spec in new):
            # Of two spellings of one new name, the first made it and the second found it.
            answer.append(FoundTag(found[key].tag, created=found[key].created and key not in made))
            made.add(key)
        return answer

    async def _free_slugs(
        self, connection: Connection, scope: dict[str, object], asked: Sequence[str]
    ) -> Sequence[str]:
        """A free slug for each one asked for, with a number behind it where that is taken."""
        given: list[str] = []
        looked_up: set[str] = set()
        taken: set[str] = set()

        async def look_up(slugs: set[str]) -> None:
            rows = await connection.fetch(_TAKEN_SLUGS, **scope, slugs=list(slugs))
            looked_up.update(slugs)
            taken.update(row["slug"] for row in rows)

        await look_up(set(asked))
        # Where the last one of each slug was found, so that a thousand of one slug are not a thousand walks.
        numbers: dict[str, int] = {}
        for slug in asked:
            number = numbers.get(slug, 1)
            while (candidate := numbered_slug(slug, number)) in taken or candidate not in looked_up:
                if candidate not in looked_up:
                    # Runs that grow keep the rounds few where many names have one slug.
                    await look_up({numbered_slug(slug, n) for n in range(number, number * 4)} - looked_up)
                else:
                    number += 1
            numbers[slug] = number + 1
            taken.add(candidate)
            given.append(candidate)
        return given

    async def _update(self, connection: Connection, audience_id: UUID, tag: Tag, changes: TagFields) -> Tag:
        current: TagFields = {
            "name": tag.name,
            "color": tag.color,
            "description": tag.description,
            "public_description": tag.public_description,
            "subscriber_editable": tag.subscriber_editable,
            "secondary_id": tag.secondary_id,
        }
        target: TagFields = {**current, **changes}
        fields = sorted(field for field in changes if target[field] != current[field])  # type: ignore[literal-required]
        if not fields:
            return tag
        scope = {**self._caller, "audience_id": audience_id, "tag_id": tag.id}
        # The audience is locked, so looking first is safe, and tells who has the value.
        lookups: tuple[tuple[UniqueField, object, dict[str, object]], ...] = (
            ("name", target["name"], {"name_key": fold(target["name"]), "secondary_id": None}),
            ("secondary_id", target["secondary_id"], {"name_key": None, "secondary_id": target["secondary_id"]}),
        )
        for field, value, lookup in lookups:
            if field in fields:
                holders = await connection.fetch(_FIND_HOLDER, **scope, **lookup)
                if holders:
                    raise Duplicate("tag", field, value, holders[0]["id"])
        row = await connection.fetch_one(_UPDATE, **scope, **target, name_key=fold(target["name"]), fields=fields)
        return tag_from_row(row)


def _check_version(row: Row, if_match: Collection[str] | None) -> None:
    """Raise PreconditionFailed unless one of the etags has the version of the tag in this row."""
    if if_match is not None and str(row["version"]) not in {etag.partition("-")[0] for etag in if_match}:
        raise PreconditionFailed("tag")


def tag_from_row(row: Row) -> Tag:
    """A tag from a row with its columns and count."""
    return Tag(
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
        contact_count=row["contact_count"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def _sort_value(tag: Tag, sort: TagSort) -> str | int:
    if sort.endswith("name"):
        return fold(tag.name)
    return tag.created_at.isoformat() if sort.endswith("created_at") else tag.contact_count
