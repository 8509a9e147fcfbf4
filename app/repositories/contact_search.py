"""Lists of contacts: an audience's members, by what is known of them and by the tags that they carry.

A list is read in the order of an index until its page is full, so what it costs depends on how far the page is from
the next match, not on how long the list is. Where a filter can only be met by who carries one of some tags, the list
is read from those tags; of all such sets of tags the one with the fewest contacts, which the counts tell exactly.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, TypeAlias
from uuid import UUID

from app.database import Row, Statement
from app.errors import FieldError, InvalidInput
from app.pagination import Page, PageRequest, decode_cursor, fingerprint, id_part, page_of, text_part
from app.repositories.base import Repository, unknown_audience
from app.repositories.contacts import CONTACT_COLUMNS, Contact, contact_from_row
from app.repositories.subscriptions import SubscriptionStatus
from app.values import EMAIL_MAX_LENGTH, fold


@dataclass(frozen=True, slots=True)
class NamedTag:
    """A tag by its slug; `place` is where the call names it, for the error that says so."""

    slug: str
    place: tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class TagFilter:
    """Who carries all of `all`, one at least of `any`, and none of `none`. What is empty asks for nothing.

    Each is a list of tags and of further filters, by which a contact is meant that meets them.
    """

    all: Sequence["NamedTag | TagFilter"] = ()
    any: Sequence["NamedTag | TagFilter"] = ()
    none: Sequence["NamedTag | TagFilter"] = ()

    def tags(self) -> Iterable[NamedTag]:
        """Every tag that is named, in every depth."""
        for item in (*self.all, *self.any, *self.none):
            if isinstance(item, NamedTag):
                yield item
            else:
                yield from item.tags()

    def identity(self) -> object:
        """What makes it this filter, wherever the call names its tags."""
        return [
            [item.slug if isinstance(item, NamedTag) else item.identity() for item in items]
            for items in (self.all, self.any, self.none)
        ]


@dataclass(frozen=True, slots=True)
class _CountedTag:
    id: UUID
    contact_count: int


_FIND_TAGS = Statement(
    "contact_search.find_tags",
    """
    select found.*
    from audiences a
    left join lateral (
        select t.id, t.slug, (
            select cast(coalesce(sum(c.n), 0) as bigint)
            from tag_counts c where c.workspace_id = t.workspace_id and c.tag_id = t.id
        ) as contact_count
        from tags t
        where t.workspace_id = a.workspace_id and t.audience_id = a.id and t.slug = any(:slugs)
    ) found on true
    where a.workspace_id = :workspace_id and a.slug = :audience
    """,
)

# What a list is walked along, with the column that holds the contact.
Source: TypeAlias = Literal["contacts", "members", "tags"]
_SOURCES: dict[Source, tuple[str, str]] = {
    "contacts": ("contacts c", "c.id"),
    "members": ("audience_members m", "m.contact_id"),
    # Who carries a tag is a member of its audience.
    "tags": ("contact_tags ct", "ct.contact_id"),
}

# What a member agreed to with the key's client. Who is subscribed has an index that ends with the contact, so that a
# member costs one look-up there, and all of them are counted without looking at members.
_AGREED = """from subscriptions s
            where s.workspace_id = :workspace_id and s.audience_id = (select scope.id from scope)
                and s.client_id = :client_id"""
_SUBSCRIBED = f"""{_AGREED} and s.status = 'subscribed'
                and not exists (
                    select from contacts g
                    where g.workspace_id = :workspace_id and g.id = s.contact_id
                        and g.global_unsubscribed_at is not null
                )"""

# Each filter is a clause of its own and there only when it is given, so that its index is used.
_FILTERS = {
    # In the order of bytes, all that begins with the text comes up to the text with the last character there is behind
    # it, as often as an email is long.
    "search": f"""c.email_key >= :search
        and c.email_key <= rpad(cast(:search as text), {EMAIL_MAX_LENGTH}, U&'\\+10FFFF') collate "C" """,
    "email_key": "c.email_key = :email_key",
    "external_id": "c.external_id = :external_id",
    # Two spellings of each word, of which one is to be found: what is stored of a name is not folded, and what the
    # database makes of capitals beyond ASCII depends on its locale.
    "words": """not exists (
            select from generate_series(1, cardinality(cast(:words as text[])), 2) as n
            where strpos(said.of_them, (cast(:words as text[]))[n]) = 0
                and strpos(said.of_them, (cast(:words as text[]))[n + 1]) = 0
        )""",
    "statuses": f"""exists (
            select {_AGREED} and s.status = any(cast(:statuses as text[])) and s.contact_id = {{contact}}
        )""",
    "subscribed": f"exists (select {_SUBSCRIBED} and s.contact_id = {{contact}}) = :subscribed",
}
# Those of them that ask what is in the row of the contact itself.
_OF_CONTACTS = frozenset({"search", "email_key", "external_id", "words"})

# A search is answered in the order of emails. Up to so many contacts of a tag or an audience are sorted for it; where
# there are more, it walks along the emails.
SORTED_MAX = 10_000

# Several tags are walked along side by side, each as far as the page could need it. Beyond so many contacts in all,
# the members are walked along instead.
WALKED_MAX = 50_000

# How the total of a list is counted: contact by contact; or, faster where there are many, from all assignments of the
# tags that its filter names, as those who meet it, or as all members but those who do not.
Counting: TypeAlias = Literal["one_by_one", "carriers", "all_but_carriers"]
# Looking up what one contact carries takes as long as reading so many assignments in a row.
_LOOKUP_COSTS = 5


@lru_cache(maxsize=500)
def _list(
    source: Source,
    filters: tuple[str, ...],
    condition: str | None,
    counting: Counting,
    *,
    in_audience: bool,
    has_cursor: bool,
    newest_first: bool,
) -> Statement:
    """The statement of a list. `condition` is SQL over `tagged.ids`, those of the named tags that a contact carries.

    Bounded, since callers make up conditions; what they hold comes as parameters.
    """
    found = _found(source, filters, condition, in_audience=in_audience)
    total = (
        _grouped_total(condition, counting)
        if condition and counting != "one_by_one"
        else _total(source, filters, condition, found)
    )
    return Statement(
        f"contact_search.list.{source}",
        f"""
        with scope as (
            select a.id from audiences a where a.workspace_id = :workspace_id and a.slug = :audience
        )
        select head.*, page.key, contact.*
        from (
            select (select scope.id from scope) as audience_id,
                (select count(*) from tags t where t.workspace_id = :workspace_id and t.id = any(:tag_ids)) as tags,
                case when :include_total then ({total}) end as total
        ) head
        left join lateral ({_page(source, filters, found, has_cursor=has_cursor, newest_first=newest_first)}
            limit :limit offset :offset
        ) page on true
        left join lateral (
            select {CONTACT_COLUMNS} from contacts c where c.workspace_id = :workspace_id and c.id = page.id offset 0
        ) contact on true
        order by page.key {"desc" if newest_first else ""}
        """,
    )


def _found(source: Source, filters: tuple[str, ...], condition: str | None, *, in_audience: bool) -> str:
    """The contacts of a list, with what is looked up for one after the other, in the order of the walk.

    `offset 0` and the aggregate keep it so: as a join, planned without knowing which tags or emails are meant, it might
    begin at the wrong end.
    """
    table, contact_id = _SOURCES[source]
    clauses = [f"{contact_id.partition('.')[0]}.workspace_id = :workspace_id"]
    lookups = ""
    if source == "members":
        clauses.append("m.audience_id = (select scope.id from scope)")
    clauses += [_FILTERS[name].replace("{contact}", contact_id) for name in filters]
    if source == "contacts":
        if in_audience:
            lookups += f"""
            cross join lateral (
                select from audience_members m
                where m.workspace_id = :workspace_id and m.audience_id = (select scope.id from scope)
                    and m.contact_id = {contact_id}
                offset 0
            ) member"""
    elif _OF_CONTACTS & set(filters):
        lookups += f"""
            cross join lateral (
                select c.email_key, c.external_id, c.first_name, c.last_name from contacts c
                where c.workspace_id = :workspace_id and c.id = {contact_id}
                offset 0
            ) c"""
    if "words" in filters:
        lookups += """
            cross join lateral (
                select c.email_key || ' ' || lower(concat_ws(' ', c.first_name, c.last_name) collate "C") as of_them
                offset 0
            ) said"""
    if condition:
        clauses.append(condition)
        lookups += f"""
            cross join lateral (
                select coalesce(array_agg(carried.tag_id), '{{}}') as ids
                from contact_tags carried
                where carried.workspace_id = :workspace_id and carried.contact_id = {contact_id}
                    and carried.tag_id = any(cast(:named as uuid[]))
            ) tagged"""
    return f"from {table} {lookups} where {' and '.join(clauses)}"


def _page(source: Source, filters: tuple[str, ...], found: str, *, has_cursor: bool, newest_first: bool) -> str:
    contact_id = _SOURCES[source][1]
    key = "c.email_key" if "search" in filters else contact_id
    beyond, direction = ("<", "desc") if newest_first else (">", "")
    after = f"and {key} {beyond} :after" if has_cursor else ""
    if source != "tags":
        return f"""
            select {contact_id} as id, {key} as key
            {found} {after}
            order by {key} {direction}"""
    # As many of each tag as the page could need; who carries several of them is there several times.
    return f"""
            select distinct one.id, one.key
            from unnest(cast(:driving as uuid[])) as driving(tag_id)
            cross join lateral (
                select {contact_id} as id, {key} as key
                {found} and ct.tag_id = driving.tag_id {after}
                order by {key} {direction}
                limit cast(:limit as bigint) + cast(:offset as bigint)
            ) one
            order by one.key {direction}"""


_SUBSCRIBED_TOTAL = f"""
    select case when :subscribed then agreed.n else members.n - agreed.n end
    from (select count(*) as n {_SUBSCRIBED}) agreed, (
        select count(*) as n from audience_members m
        where m.workspace_id = :workspace_id and m.audience_id = (select scope.id from scope)
    ) members"""


def _total(source: Source, filters: tuple[str, ...], condition: str | None, found: str) -> str:
    # Who is driven by tags is not all who are subscribed, or are not.
    if filters == ("subscribed",) and not condition and source != "tags":
        return _SUBSCRIBED_TOTAL
    if source == "tags":
        return f"select count(distinct ct.contact_id) {found} and ct.tag_id = any(:driving)"
    return f"select count(*) {found}"


def _grouped_total(condition: str, counting: Counting) -> str:
    members = """(
            select count(*) from audience_members m
            where m.workspace_id = :workspace_id and m.audience_id = (select scope.id from scope)
        ) -"""
    but = counting == "all_but_carriers"
    return f"""
        select {members if but else ""} count(*)
        from (
            select array_agg(ct.tag_id) as ids
            from contact_tags ct
            where ct.workspace_id = :workspace_id and ct.tag_id = any(cast(:named as uuid[]))
            group by ct.contact_id
        ) tagged
        where {"not" if but else ""} {condition}"""


_COUNT_MEMBERS = Statement(
    "contact_search.count_members",
    """
    select count(*) as n
    from (
        select from audience_members m
        where m.workspace_id = :workspace_id and m.audience_id = (
            select a.id from audiences a where a.workspace_id = :workspace_id and a.slug = :audience
        )
        limit :at_most
    ) counted
    """,
)


class ContactSearchRepository(Repository):
    """Which contacts there are, in one audience or in the whole workspace."""

    async def list(
        self,
        page: PageRequest,
        *,
        audience: str | None = None,
        search: str | None = None,
        email: str | None = None,
        external_id: str | None = None,
        words: str | None = None,
        subscribed: bool | None = None,
        statuses: Sequence[SubscriptionStatus] | None = None,
        tags: TagFilter | None = None,
        include_total: bool = False,
        newest_first: bool = False,
    ) -> Page[Contact]:
        """A page of the audience's members; of all contacts for the audience `*`, or where none is in force.

        By id, and with `search`, the start of the email, by email; backwards with `newest_first`. Tags need an
        audience; InvalidInput names those that it has not. `subscribed` and `statuses` look at what members agreed to
        with the key's client. Each of the `words` is part of the email or of a name, whatever its case; beyond ASCII a
        name's capitals are to be sent as they are. For that all members are read.
        """
        slug = self._audience_or_all(audience)
        filtered_by = (search, email, external_id, words, subscribed, statuses, tags and tags.identity())
        identity = fingerprint("contacts", slug, *filtered_by, newest_first)
        by_email = search is not None
        after: UUID | str | None = None
        if page.cursor is not None:
            [after] = decode_cursor(page.cursor, identity, text_part if by_email else id_part)
        filters: dict[str, object] = {
            "search": None if search is None else fold(search),
            "email_key": None if email is None else fold(email),
            "external_id": external_id,
            "words": None if words is None else [form for word in words.split() for form in _spellings(word)],
            "subscribed": subscribed,
            "statuses": statuses,
        }
        rows = await self._fetch(
            slug,
            {name: value for name, value in filters.items() if value is not None},
            tags,
            include_total=include_total,
            limit=page.limit + 1,
            offset=page.offset,
            after=after,
            newest_first=newest_first,
        )
        return page_of(
            [contact_from_row(row) for row in rows if row["id"] is not None],
            page,
            total=rows[0]["total"],
            list_fingerprint=identity,
            key=lambda contact: [fold(contact.email) if by_email else str(contact.id)],
        )

    async def count(self, tags: TagFilter, *, audience: str | None = None) -> int:
        """How many members of the audience the filter means."""
        slug = self._audience_or_all(audience)
        [row] = await self._fetch(slug, {}, tags, include_total=True, limit=0, offset=0, after=None)
        return int(row["total"])

    async def _fetch(
        self,
        audience: str | None,
        filters: dict[str, object],
        tags: TagFilter | None,
        *,
        include_total: bool,
        limit: int,
        offset: int,
        after: UUID | str | None,
        newest_first: bool = False,
    ) -> Sequence[Row]:
        found = await self._find(tags, audience) if tags is not None else {}
        cover = None if tags is None else _cover(tags, found)
        source = await self._source(audience, filters, cover, depth=limit + offset)
        lists: list[list[UUID]] = []
        condition = None
        if tags is not None and not (source == "tags" and _is_a_single_list(tags)):
            condition = _condition(tags, found, lists)
        counting: Counting = "one_by_one" if tags is None or filters else _counting(tags, found, cover)
        rows = await self._database.fetch(
            _list(
                source,
                tuple(filters),
                condition,
                counting,
                in_audience=audience is not None,
                has_cursor=after is not None,
                newest_first=newest_first,
            ),
            **self._caller,
            **filters,
            **{f"tags_{place}": ids for place, ids in enumerate(lists)},
            named=[tag_id for ids in lists for tag_id in ids],
            driving=[tag.id for tag in cover or ()],
            tag_ids=[tag.id for tag in found.values()],
            audience=audience,
            include_total=include_total,
            limit=limit,
            offset=offset,
            after=after,
        )
        if audience is not None and rows[0]["audience_id"] is None:
            raise unknown_audience(audience)
        if rows[0]["tags"] < len(found):
            # One went since it was found, and now nobody carries it: `none` of it would mean everyone.
            return await self._fetch(
                audience,
                filters,
                tags,
                include_total=include_total,
                limit=limit,
                offset=offset,
                after=after,
                newest_first=newest_first,
            )
        return rows

    async def _source(
        self, audience: str | None, filters: dict[str, object], cover: Sequence[_CountedTag] | None, *, depth: int
    ) -> Source:
        """What the list is walked along; `depth` is how many contacts its page ends behind."""
        if audience is None:
            return "contacts"
        if filters.keys() & {"email_key", "external_id"}:
            # One contact at most.
            return "contacts"
        if "search" in filters:
            if cover is not None and _contact_count(cover) <= SORTED_MAX:
                return "tags"
            row = await self._database.fetch_one(
                _COUNT_MEMBERS, **self._caller, audience=audience, at_most=SORTED_MAX + 1
            )
            return "members" if row["n"] <= SORTED_MAX else "contacts"
        if cover is None:
            return "members"
        return "tags" if len(cover) == 1 or len(cover) * depth <= WALKED_MAX else "members"

    async def _find(self, tags: TagFilter, audience: str | None) -> Mapping[str, _CountedTag]:
        """The tags that a filter names, by slug. One that is not there must not be passed over: in `none` it would
        mean everyone."""
        named = list(tags.tags())
        if audience is None:
            detail = "Tags belong to an audience, so a filter by tags needs one: audience=<slug>."
            raise InvalidInput([FieldError(("query", "audience"), "audience_required", detail)])
        rows = await self._database.fetch(
            _FIND_TAGS, **self._caller, audience=audience, slugs=list({tag.slug for tag in named})
        )
        if not rows:
            raise unknown_audience(audience)
        found = {row["slug"]: _CountedTag(row["id"], row["contact_count"]) for row in rows}
        unknown = [
            FieldError(tag.place, "unknown_tag", f"There is no tag {tag.slug} in the audience {audience}.")
            for tag in named
            if tag.slug not in found
        ]
        if unknown:
            raise InvalidInput(unknown)
        return found


def _spellings(word: str) -> tuple[str, str]:
    """A word as emails are compared, and as it was sent but for the capitals of ASCII."""
    return fold(word), "".join(character.lower() if character.isascii() else character for character in word)


def _condition(tags: TagFilter, found: Mapping[str, _CountedTag], lists: list[list[UUID]]) -> str:
    """The filter as SQL over `tagged.ids`. Each list of tags in it goes into `lists`, as the parameter `tags_N`."""

    def terms(items: Sequence[NamedTag | TagFilter], operator: str) -> Iterable[str]:
        if ids := [found[item.slug].id for item in items if isinstance(item, NamedTag)]:
            lists.append(ids)
            yield f"tagged.ids {operator} cast(:tags_{len(lists) - 1} as uuid[])"
        yield from (_condition(item, found, lists) for item in items if isinstance(item, TagFilter))

    clauses = list(terms(tags.all, "@>"))
    if tags.any:
        clauses.append(f"({' or '.join(terms(tags.any, '&&'))})")
    if tags.none:
        clauses.append(f"not ({' or '.join(terms(tags.none, '&&'))})")
    return f"({' and '.join(clauses)})"


def _cover(tags: TagFilter, found: Mapping[str, _CountedTag]) -> Sequence[_CountedTag] | None:
    """The tags with the fewest contacts, of which everyone carries one whom the filter means; None without such."""
    choices = [_cover_of(item, found) for item in tags.all]
    if tags.any:
        each = [_cover_of(item, found) for item in tags.any]
        # One of them that anybody may meet leaves the whole list open.
        choices.append(None if None in each else list({tag for cover in each for tag in cover or ()}))
    return min((cover for cover in choices if cover is not None), key=_contact_count, default=None)


def _cover_of(item: NamedTag | TagFilter, found: Mapping[str, _CountedTag]) -> Sequence[_CountedTag] | None:
    return [found[item.slug]] if isinstance(item, NamedTag) else _cover(item, found)


def _contact_count(cover: Sequence[_CountedTag]) -> int:
    return sum(tag.contact_count for tag in cover)


def _counting(tags: TagFilter, found: Mapping[str, _CountedTag], cover: Sequence[_CountedTag] | None) -> Counting:
    if cover is None:
        return "all_but_carriers" if _is_met_without_tags(tags) else "carriers"
    return "carriers" if _contact_count([*found.values()]) < _LOOKUP_COSTS * _contact_count(cover) else "one_by_one"


def _is_met_without_tags(tags: TagFilter) -> bool:
    """Whether the filter means who carries none of the tags that it names."""

    def is_met(item: NamedTag | TagFilter) -> bool:
        return isinstance(item, TagFilter) and _is_met_without_tags(item)

    return (
        all(is_met(item) for item in tags.all)
        and (not tags.any or any(is_met(item) for item in tags.any))
        and not any(is_met(item) for item in tags.none)
    )


def _is_a_single_list(tags: TagFilter) -> bool:
    """Whether who carries one of its cover is meant by it, so that nothing else is left to be looked at."""
    single = (*tags.all, *tags.any)
    return (
        not tags.none and (len(tags.all) + bool(tags.any) == 1) and all(isinstance(item, NamedTag) for item in single)
    )
