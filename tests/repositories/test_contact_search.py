"""Filters by tags against what a loop over all contacts finds, on random data."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from app.config import Settings
from app.database import Database, create_engine, statement_log
from app.errors import InvalidCursor, InvalidInput
from app.pagination import PageRequest
from app.repositories import contact_search
from app.repositories.audiences import AudienceRepository
from app.repositories.contact_search import ContactSearchRepository, NamedTag, TagFilter
from app.repositories.contact_tags import TagRef
from app.repositories.contact_upserts import ContactUpsertRepository, NewContact
from app.repositories.subscriptions import SubscriptionStatus
from app.repositories.system import SystemRepository
from app.repositories.tag_contacts import ContactRefs, TagContactRepository
from app.repositories.tags import TagRepository
from app.values import SCOPES
from tests.conftest import MakeDatabase, Workspace, client_of, make_workspace, started
from tests.databases import query
from tests.features.truth import fill
from tests.routers.calls import call, make_audience, make_tags, run
from tests.rows_read import rows_read

SLUGS = ("a", "b", "c", "d", "e")
ALL_TAGS = [TagRef.by_name(slug, ()) for slug in SLUGS]
PEOPLE = 12

named = st.builds(lambda slug: NamedTag(slug, ()), st.sampled_from(SLUGS))


def filters_of(items: st.SearchStrategy[NamedTag | TagFilter]) -> st.SearchStrategy[TagFilter]:
    """Filters with lists of these; one at least is given."""
    some = st.lists(items, max_size=3)
    return st.builds(TagFilter, all=some, any=some, none=some).filter(lambda one: bool(one.all or one.any or one.none))


flat = filters_of(named)
filters = filters_of(named | filters_of(named | flat))
# The slugs that each contact carries.
carried = st.lists(st.frozensets(st.sampled_from(SLUGS)), min_size=PEOPLE, max_size=PEOPLE)


def is_meant(tags: TagFilter, slugs: frozenset[str]) -> bool:
    """What a filter means, by its definition."""

    def is_met(item: NamedTag | TagFilter) -> bool:
        return item.slug in slugs if isinstance(item, NamedTag) else is_meant(item, slugs)

    return (
        all(is_met(item) for item in tags.all)
        and (not tags.any or any(is_met(item) for item in tags.any))
        and not any(is_met(item) for item in tags.none)
    )


@dataclass(frozen=True)
class People:
    """Members of an audience, in the order of their ids, and its tags; both have namesakes elsewhere."""

    workspace: Workspace
    contacts: Sequence[UUID]
    emails: Mapping[UUID, str]
    tags: Mapping[str, UUID]

    async def carry(self, slugs_of: Sequence[frozenset[str]]) -> None:
        """Let each contact carry these tags and no others."""
        assignments = self.workspace.repository(TagContactRepository)
        for slug, tag_id in self.tags.items():
            carriers = [one for one, slugs in zip(self.contacts, slugs_of, strict=True) if slug in slugs]
            await assignments.replace(tag_id, ContactRefs("contact_ids", carriers))


async def make_people(database: Database) -> People:
    workspace = await make_workspace(database)
    await workspace.repository(AudienceRepository).create("other", "Other")
    tags = workspace.repository(TagRepository)
    made = await tags.create_many([{"name": slug} for slug in SLUGS])
    upserts = workspace.repository(ContactUpsertRepository)
    # Half of them are members of the other audience too, and carry all of its tags, of the same names.
    new = [
        NewContact({"email": f"{'xy'[n % 2]}{9 - n % 5}{n}@example.com"}, ["newsletter"], ALL_TAGS[:1])
        for n in range(PEOPLE)
    ]
    contacts = [one.contact for one in await upserts.upsert(new) if one.contact]
    both = [NewContact({"email": one.email}, ["other"], ALL_TAGS) for one in contacts[::2]]
    outsiders = [NewContact({"email": f"x{n}@example.org"}, ["other"], ALL_TAGS) for n in range(3)]
    await upserts.upsert([*both, *outsiders], audience="other")
    return People(
        workspace,
        sorted(one.id for one in contacts),
        {one.id: one.email for one in contacts},
        {found.tag.slug: found.tag.id for found in made},
    )


@given(
    st.data(), carried, st.lists(filters, min_size=1, max_size=6), st.integers(1, 4), st.sampled_from([None, "x", "y9"])
)
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
async def test_a_filter_finds_whom_a_loop_finds(
    database: Database,
    data: st.DataObject,
    slugs_of: Sequence[frozenset[str]],
    wanted: Sequence[TagFilter],
    limit: int,
    search: str | None,
) -> None:
    global _people  # noqa: PLW0603 - made once for all examples
    people = _people = _people or await make_people(database)
    await people.carry(slugs_of)
    repository = people.workspace.repository(ContactSearchRepository)
    for tags in wanted:
        meant = [one for one, slugs in zip(people.contacts, slugs_of, strict=True) if is_meant(tags, slugs)]
        assert await repository.count(tags) == len(meant)
        if search is not None:
            meant = sorted(
                (one for one in meant if people.emails[one].startswith(search)), key=lambda one: people.emails[one]
            )
        found: list[UUID] = []
        page = await repository.list(PageRequest(limit), tags=tags, search=search, include_total=True)
        while True:
            assert page.total == len(meant)
            found += [one.id for one in page.items]
            if page.next_cursor is None:
                break
            assert len(page.items) == limit
            request = PageRequest(limit, cursor=page.next_cursor)
            page = await repository.list(request, tags=tags, search=search, include_total=True)
        assert found == meant
        offset = data.draw(st.integers(0, PEOPLE + 1))
        by_offset = await repository.list(PageRequest(limit, offset), tags=tags, search=search)
        assert [one.id for one in by_offset.items] == meant[offset : offset + limit]
        one, slugs = data.draw(st.sampled_from(list(zip(people.contacts, slugs_of, strict=True))))
        by_email = await repository.list(PageRequest(), tags=tags, email=people.emails[one].upper())
        assert [found.id for found in by_email.items] == ([one] if is_meant(tags, slugs) else [])


_people: People | None = None

# What each member agreed to with the key's client, if anything, and whether it has unsubscribed from everything.
STATUSES: tuple[SubscriptionStatus, ...] = get_args(SubscriptionStatus)
agreements = st.lists(st.tuples(st.sampled_from([None, *STATUSES]), st.booleans()), min_size=PEOPLE, max_size=PEOPLE)

_AGREE = """
    with suppressed as (
        update contacts c set global_unsubscribed_at = case when n.is_suppressed then now() end
        from unnest(cast(:contact_ids as uuid[]), cast(:suppressed as boolean[])) as n(contact_id, is_suppressed)
        where c.workspace_id = :workspace_id and c.id = n.contact_id
    ), scope as (
        select id from audiences where workspace_id = :workspace_id and slug = 'newsletter'
    ), ended as (
        delete from subscriptions s using scope
        where s.workspace_id = :workspace_id and s.audience_id = scope.id and s.client_id = :client_id
            and s.contact_id = any(:without)
    )
    insert into subscriptions (workspace_id, audience_id, contact_id, client_id, status)
    select :workspace_id, scope.id, n.contact_id, :client_id, n.status
    from scope, unnest(cast(:contact_ids as uuid[]), cast(:statuses as text[])) as n(contact_id, status)
    where n.status is not null
    on conflict (workspace_id, contact_id, audience_id, client_id) do update set status = excluded.status
"""


async def make_disagreeing_people(database: Database) -> People:
    """With agreements that no filter may look at: of another audience, of another client, of the audience itself."""
    people = await make_people(database)
    principal = people.workspace.principal
    system = SystemRepository(database)
    await system.provision(workspace=principal.workspace, client="app", audience="newsletter", scopes=SCOPES)
    await run(
        database,
        """
        insert into subscriptions (workspace_id, audience_id, contact_id, client_id, status)
        select m.workspace_id, m.audience_id, m.contact_id, c.id,
            (array['subscribed', 'pending', 'unsubscribed'])[1 + get_byte(uuid_send(m.contact_id), 15) % 3]
        from audience_members m
        join (
            select id from clients where workspace_id = :workspace_id and slug = 'app' union all select null
        ) c on true
        where m.workspace_id = :workspace_id
        """,
        workspace_id=principal.workspace_id,
    )
    return people


@given(
    st.data(),
    carried,
    agreements,
    filters,
    st.lists(
        st.tuples(
            st.booleans() | st.none(),
            st.none() | st.lists(st.sampled_from(STATUSES), max_size=3, unique=True),
            st.sampled_from([None, "x", "y9"]),
            st.booleans(),
        ),
        min_size=1,
        max_size=6,
    ),
    st.integers(1, 4),
)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
async def test_agreements_find_whom_a_loop_finds(
    database: Database,
    data: st.DataObject,
    slugs_of: Sequence[frozenset[str]],
    agreed: Sequence[tuple[SubscriptionStatus | None, bool]],
    tags: TagFilter,
    wanted: Sequence[tuple[bool | None, list[SubscriptionStatus] | None, str | None, bool]],
    limit: int,
) -> None:
    """Alone, and with tags, a search, one email, a cursor and an offset."""
    global _disagreeing  # noqa: PLW0603 - made once for all examples
    people = _disagreeing = _disagreeing or await make_disagreeing_people(database)
    await people.carry(slugs_of)
    principal = people.workspace.principal
    await run(
        database,
        _AGREE,
        workspace_id=principal.workspace_id,
        client_id=principal.client_id,
        contact_ids=list(people.contacts),
        statuses=[status for status, _ in agreed],
        suppressed=[is_suppressed for _, is_suppressed in agreed],
        without=[one for one, (status, _) in zip(people.contacts, agreed, strict=True) if status is None],
    )
    repository = people.workspace.repository(ContactSearchRepository)
    everyone = list(zip(people.contacts, slugs_of, agreed, strict=True))
    for subscribed, statuses, search, by_tags in wanted:
        meant = [
            one
            for one, slugs, (status, is_suppressed) in everyone
            if (subscribed is None or subscribed is (status == "subscribed" and not is_suppressed))
            and (statuses is None or status in statuses)
            and (not by_tags or is_meant(tags, slugs))
            and (search is None or people.emails[one].startswith(search))
        ]
        if search is not None:
            meant.sort(key=lambda one: people.emails[one])
        asked: dict[str, Any] = {"subscribed": subscribed, "statuses": statuses, "tags": tags if by_tags else None}
        found: list[UUID] = []
        page = await repository.list(PageRequest(limit), search=search, include_total=True, **asked)
        while True:
            assert page.total == len(meant)
            found += [one.id for one in page.items]
            if page.next_cursor is None:
                break
            assert len(page.items) == limit
            request = PageRequest(limit, cursor=page.next_cursor)
            page = await repository.list(request, search=search, include_total=True, **asked)
        assert found == meant
        offset = data.draw(st.integers(0, PEOPLE + 1))
        by_offset = await repository.list(PageRequest(limit, offset), search=search, **asked)
        assert [one.id for one in by_offset.items] == meant[offset : offset + limit]
        if search is None:
            one = data.draw(st.sampled_from(people.contacts))
            by_email = await repository.list(PageRequest(), email=people.emails[one].upper(), **asked)
            assert [found.id for found in by_email.items] == ([one] if one in meant else [])


_disagreeing: People | None = None


@pytest.mark.parametrize(
    "other",
    [
        {},
        {"subscribed": True},
        {"statuses": ["subscribed"]},
        {"subscribed": False, "statuses": ["subscribed", "pending"]},
        {"subscribed": False, "statuses": []},
    ],
)
async def test_a_cursor_is_of_its_agreements(workspace: Workspace, other: dict[str, Any]) -> None:
    await workspace.make_contacts(3)
    repository = workspace.repository(ContactSearchRepository)
    page = await repository.list(PageRequest(1), subscribed=False, statuses=["subscribed"])
    assert (page.items, page.next_cursor) == ([], None)
    await run(
        workspace.database,
        "update contacts set global_unsubscribed_at = now() where workspace_id = :workspace_id",
        workspace_id=workspace.principal.workspace_id,
    )
    page = await repository.list(PageRequest(1), subscribed=False, statuses=["subscribed"])
    request = PageRequest(1, cursor=page.next_cursor)
    with pytest.raises(InvalidCursor):
        await repository.list(request, **other)
    assert len((await repository.list(request, subscribed=False, statuses=["subscribed"])).items) == 1


async def test_agreements_cost_no_statement_more(workspace: Workspace) -> None:
    await workspace.repository(TagRepository).create_many([{"name": slug} for slug in SLUGS])
    repository = workspace.repository(ContactSearchRepository)
    ran: list[str] = []
    token = statement_log.set(ran)
    try:
        await repository.list(PageRequest(), subscribed=True, statuses=["pending"], include_total=True)
        await repository.list(PageRequest(), subscribed=True, tags=TagFilter(any=names("a")))
        await repository.list(PageRequest(), statuses=["pending"], tags=TagFilter(none=names("a")))
    finally:
        statement_log.reset(token)
    assert ran == [
        "contact_search.list.members",
        "contact_search.find_tags",
        "contact_search.list.tags",
        "contact_search.find_tags",
        "contact_search.list.members",
    ]


def counted(counts: Mapping[str, int]) -> Mapping[str, contact_search._CountedTag]:
    return {slug: contact_search._CountedTag(uuid4(), counts.get(slug, 0)) for slug in SLUGS}


EVERY_SET = [frozenset(slugs) for size in range(len(SLUGS) + 1) for slugs in itertools.combinations(SLUGS, size)]


@given(filters)
@settings(deadline=None)
def test_whoever_is_meant_carries_a_tag_of_the_cover(tags: TagFilter) -> None:
    """Otherwise a list that is read from those tags would miss somebody."""
    found = counted({slug: n for n, slug in enumerate(SLUGS)})
    slug_of = {tag: slug for slug, tag in found.items()}
    cover = contact_search._cover(tags, found)
    for slugs in EVERY_SET:
        if cover is not None and is_meant(tags, slugs):
            assert slugs & {slug_of[tag] for tag in cover}
    assert contact_search._is_met_without_tags(tags) is is_meant(tags, frozenset())
    if cover is not None and contact_search._is_a_single_list(tags):
        assert all(is_meant(tags, frozenset({slug_of[tag]})) for tag in cover)


def names(*slugs: str) -> Sequence[NamedTag]:
    return [NamedTag(slug, ()) for slug in slugs]


def test_the_cover_has_the_fewest_contacts() -> None:
    found = counted({"a": 100, "b": 7, "c": 50, "d": 3, "e": 2})

    def cover(tags: TagFilter) -> set[str] | None:
        chosen = contact_search._cover(tags, found)
        return None if chosen is None else {slug for slug, tag in found.items() if tag in chosen}

    assert cover(TagFilter(all=names("a", "b", "c"))) == {"b"}
    assert cover(TagFilter(any=names("a", "b"))) == {"a", "b"}
    assert cover(TagFilter(all=names("b"), any=names("d", "e"))) == {"d", "e"}
    assert cover(TagFilter(all=names("b"), any=names("c", "e"))) == {"b"}
    assert cover(TagFilter(all=[*names("a"), TagFilter(any=names("d", "e"))], none=names("e"))) == {"d", "e"}
    assert cover(TagFilter(any=[*names("b"), TagFilter(all=names("a", "d"))])) == {"b", "d"}
    assert cover(TagFilter(none=names("a"))) is None
    assert cover(TagFilter(any=[*names("b"), TagFilter(none=names("a"))])) is None


async def test_a_tag_that_goes_while_it_is_searched_by(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it, `none` would mean everyone: it is an unknown tag, as it is a moment later."""
    tags, repository = workspace.repository(TagRepository), workspace.repository(ContactSearchRepository)
    churned = (await tags.create({"name": "churned"})).tag
    contacts = await workspace.make_contacts(3)
    await workspace.repository(TagContactRepository).assign(churned.id, ContactRefs("contact_ids", contacts))
    find = ContactSearchRepository._find
    searches = (
        lambda: repository.count(TagFilter(none=names("churned"))),
        lambda: repository.list(PageRequest(), tags=TagFilter(none=names("churned"))),
        lambda: repository.list(PageRequest(), tags=TagFilter(any=names("churned"))),
    )
    for search in searches:
        tag_id = (await tags.create({"name": "churned"}, on_conflict="return")).tag.id

        async def find_and_delete(self: ContactSearchRepository, *args: Any, tag_id: UUID = tag_id) -> Any:
            found = await find(self, *args)
            await tags.delete(tag_id)
            return found

        with monkeypatch.context() as patched:
            patched.setattr(ContactSearchRepository, "_find", find_and_delete)
            with pytest.raises(InvalidInput) as refused:
                await search()
        assert refused.value.code == "unknown_tag"


async def test_what_a_page_reads(new_database: MakeDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the audience nor the workspace nor the largest tag, whether or not the server knows of their sizes."""
    url = await new_database()
    database = Database(create_engine(url, pool_size=1))
    workspace = await make_workspace(database)
    async with started(Settings(database_url=SecretStr(url))) as app, client_of(app, workspace) as api:
        await make_audience(api, "few")
        await make_tags(api, "few", audience="few")
        contacts = await fill(url, api, 12_000)
        for name, part in (("most", contacts[:11_990]), ("half", contacts[::2]), ("few", contacts[-20:])):
            for start in range(0, len(part), 10_000):
                body = {"name": name, "contact_ids": part[start : start + 10_000]}
                await call(api, "POST", "/tags?on_conflict=return", body, status=201 if not start else 200)
        # As in life, most tags are on few.
        for tag in await make_tags(api, *(f"t{n}" for n in range(30))):
            await call(api, "POST", f"/tags/{tag['id']}/contacts", {"contact_ids": contacts[::100]})
        for contact in contacts[:3]:
            await call(api, "PUT", f"/contacts/{contact}/audiences/few", {}, status=201)
        for _ in range(2):
            for path in (
                "tags_all=most&tags_all=few&limit=100",
                "tags_all=few&tags_none=most&limit=100",
                "tags_any=few&tags_any=half&limit=10",
                "tags_none=few&limit=10",
            ):
                assert await rows_read(api, monkeypatch, f"/contacts?{path}") < 600, path
            # These are sorted. Where there are few tags or audiences, the server may read all assignments or members
            # in one pass to find theirs, but it looks at no other contact.
            for path in ("search=a&tags_all=few", "search=m&tags_all=few", "search=&audience=few", "search=m11999"):
                assert await rows_read(api, monkeypatch, f"/contacts?{path}", table="contacts") < 100, path
            # What the server does by itself sooner or later, and plans by.
            await query(url, "analyze")
    await database.dispose()


async def test_the_statements_of_a_search(workspace: Workspace) -> None:
    """Two, whatever is asked: one finds the tags and their counts, one the contacts."""
    await workspace.repository(TagRepository).create_many([{"name": slug} for slug in SLUGS])
    repository = workspace.repository(ContactSearchRepository)
    ran: list[str] = []
    token = statement_log.set(ran)
    try:
        await repository.list(PageRequest(), tags=TagFilter(all=names("a", "b"), none=names("c")), include_total=True)
        await repository.list(PageRequest(), tags=TagFilter(none=names("a")))
        await repository.list(PageRequest(), tags=TagFilter(any=names("a")), search="x")
        await repository.list(PageRequest(), tags=TagFilter(any=names("a")), email="x@example.com")
        await repository.list(PageRequest(1000, offset=60_000), tags=TagFilter(any=names("a", "b")))
    finally:
        statement_log.reset(token)
    assert ran[::2] == ["contact_search.find_tags"] * 5
    sources = ("tags", "members", "tags", "contacts", "members")
    assert ran[1::2] == [f"contact_search.list.{source}" for source in sources]


async def test_a_total_by_agreement_and_one_tag(workspace: Workspace) -> None:
    """Such a list is read from the tag's assignments; its total was that of the whole audience."""
    await workspace.make_contacts(3)
    repository = workspace.repository(ContactSearchRepository)
    await workspace.repository(TagRepository).create({"name": "a"})
    tags = TagFilter(any=[NamedTag("a", ())])
    for subscribed in (True, False):
        page = await repository.list(PageRequest(1), tags=tags, subscribed=subscribed, include_total=True)
        assert (page.items, page.total) == ([], 0)
