"""Real concurrency: many connections at once, on the same few objects.

Each race runs as many rounds as were needed to see the wrong shape fail: a replace in one statement, for one, ended as
a mixture in 298 of 300 rounds. Afterwards every invariant holds, and the server counted no deadlock.
"""

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextvars import Context, ContextVar
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, cast
from uuid import UUID, uuid4

import asyncpg
import pytest

from app.database import Connection, Database, Row, Statement, create_engine
from app.errors import AppError, Conflict, InvalidInput, NotFound, PreconditionFailed, Unavailable
from app.pagination import PageRequest
from app.repositories.audiences import AudienceRepository
from app.repositories.base import AnyRepository
from app.repositories.contact_tags import ContactTagRepository, TagChange, etag_of
from app.repositories.contact_upserts import ContactUpsertRepository, NewContact
from app.repositories.idempotency import Answer, IdempotencyRepository
from app.repositories.keys import KeyRepository, NewKey
from app.repositories.memberships import MembershipRepository
from app.repositories.system import SystemRepository
from app.repositories.tag_contacts import ContactRefs, TagContactRepository
from app.repositories.tags import TagRepository
from tests.conftest import MakeDatabase, Workspace, make_workspace
from tests.repositories.crowd import Crowd, names
from tests.repositories.invariants import assert_sound

CONNECTIONS = 16

# Connections to this database that wait for a row of another one.
WAITING = """
    select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'
"""


@dataclass(frozen=True)
class Arena(Workspace):
    """A workspace, and the URL of the database that it has for itself."""

    url: str


@pytest.fixture
async def arena(new_database: MakeDatabase) -> AsyncIterator[Arena]:
    """A workspace on a database of its own, with enough connections for a real race; none may deadlock there."""
    url = await new_database()
    database = Database(create_engine(url, pool_size=CONNECTIONS))
    workspace = Arena(**vars(await make_workspace(database)), url=url)
    yield workspace
    await assert_sound(database, workspace.principal.workspace_id)
    # A connection that closes reports what it counted.
    await database.dispose()
    connection = await asyncpg.connect(url)
    try:
        deadlocks = await connection.fetchval(
            "select deadlocks from pg_stat_database where datname = current_database()"
        )
    finally:
        await connection.close()
    assert deadlocks == 0


async def all_of(*work: Awaitable[Any]) -> list[Any]:
    """Run at once, to the end. An AppError is an answer, unless it says to try again; anything else fails the test."""
    answers = await asyncio.gather(*work, return_exceptions=True)
    for answer in answers:
        if isinstance(answer, BaseException) and (not isinstance(answer, AppError) or isinstance(answer, Unavailable)):
            raise answer
    return answers


async def test_replaces_of_one_contact_never_mix(arena: Arena) -> None:
    tags = arena.repository(ContactTagRepository)
    [contact] = await arena.make_contacts(1)
    lists = [("a", "b", "c"), ("d", "e"), ("f", "g", "h", "a")]
    await tags.change(TagChange(contact, add=names(*"abcdefgh", "extra")))
    for _ in range(150):
        await all_of(*(tags.change(TagChange(contact, add=names(*some), replace=True)) for some in lists))
        slugs = {tag.slug for tag in await tags.list(contact)}
        assert slugs in [set(some) for some in lists]


async def test_replaces_and_an_add_of_one_contact(arena: Arena) -> None:
    tags = arena.repository(ContactTagRepository)
    [contact] = await arena.make_contacts(1)
    await tags.change(TagChange(contact, add=names(*"abcdef", "extra")))
    for _ in range(150):
        await all_of(
            tags.change(TagChange(contact, add=names("a", "b", "c"), replace=True)),
            tags.change(TagChange(contact, add=names("d", "e", "f"), replace=True)),
            tags.change(TagChange(contact, add=names("extra", "a", "f"))),
        )
        slugs = {tag.slug for tag in await tags.list(contact)}
        # One list as a whole, with what was added behind it or without.
        added = {"extra", "a", "f"}
        assert slugs in [{*"abc"}, {*"def"}, {*"abc"} | added, {*"def"} | added]


async def test_replaces_of_one_tag_never_mix(arena: Arena) -> None:
    tag = (await arena.repository(TagRepository).create({"name": "vip"})).tag
    contacts = arena.repository(TagContactRepository)
    ids = await arena.make_contacts(12)
    lists = [ids[:5], ids[5:9], ids[3:12]]
    for _ in range(100):
        await all_of(
            *(contacts.replace(tag.id, ContactRefs("contact_ids", some)) for some in lists),
            contacts.assign(tag.id, ContactRefs("contact_ids", ids[2:6])),
        )
        page = await contacts.list(tag.id, _everything())
        assigned = {item.contact.id for item in page.items}
        assert assigned in [set(some) for some in lists] + [set(some) | set(ids[2:6]) for some in lists]


async def test_replacing_a_tag_and_assigning_it_come_one_after_the_other(arena: Arena) -> None:
    """Of what is assigned, a part is there and about to go. It is assigned whole, before the replace or after it."""
    tag = (await arena.repository(TagRepository).create({"name": "vip"})).tag
    contacts = arena.repository(TagContactRepository)
    old, new, more = await arena.make_contacts(3)
    await contacts.assign(tag.id, ContactRefs("contact_ids", [old]))
    await meet(
        arena,
        (tag.id, new),
        contacts.replace(tag.id, ContactRefs("contact_ids", [new])),
        contacts.assign(tag.id, ContactRefs("contact_ids", [old, more])),
    )
    carried = {item.contact.id for item in (await contacts.list(tag.id, _everything())).items}
    assert carried in ({new}, {old, new, more})


async def test_replacing_a_contacts_tags_and_adding_come_one_after_the_other(arena: Arena) -> None:
    """The same from the contact's side."""
    tags = arena.repository(ContactTagRepository)
    [contact] = await arena.make_contacts(1)
    made = await arena.repository(TagRepository).create_many([{"name": name} for name in ("old", "new", "more")])
    await tags.change(TagChange(contact, add=names("old")))
    await meet(
        arena,
        (made[1].tag.id, contact),
        tags.change(TagChange(contact, add=names("new"), replace=True)),
        tags.change(TagChange(contact, add=names("old", "more"))),
    )
    assert {tag.slug for tag in await tags.list(contact)} in ({"new"}, {"old", "new", "more"})


async def meet(
    arena: Arena, pair: tuple[UUID, UUID], replace: Coroutine[Any, Any, Any], add: Coroutine[Any, Any, Any]
) -> None:
    """Run `add` while `replace` is halfway: it waits for somebody who is writing the pair that it wants to add."""
    somebody, watcher = await asyncpg.connect(arena.url), await asyncpg.connect(arena.url)
    writing = somebody.transaction()
    await writing.start()
    await somebody.execute(
        "insert into contact_tags (workspace_id, tag_id, contact_id, client_id, front_end) values ($1, $2, $3, $1, '')",
        arena.principal.workspace_id,
        *pair,
    )
    replacing = asyncio.create_task(replace)
    while not await watcher.fetchval(WAITING):
        await asyncio.sleep(0.01)
    adding = asyncio.create_task(add)
    # It is done, or it waits as well.
    while not adding.done() and await watcher.fetchval(WAITING) < 2:
        await asyncio.sleep(0.01)
    await writing.rollback()
    await somebody.close()
    await watcher.close()
    await all_of(replacing, adding)


async def test_assigning_a_tag_that_is_being_deleted(arena: Arena) -> None:
    tags, contacts = arena.repository(TagRepository), arena.repository(TagContactRepository)
    ids = await arena.make_contacts(30)
    for _ in range(100):
        tag = (await tags.create({"name": "short-lived"})).tag
        answers = await all_of(
            *(contacts.assign(tag.id, ContactRefs("contact_ids", ids[n * 5 : n * 5 + 10])) for n in range(5)),
            tags.delete(tag.id),
            contacts.unassign(tag.id, ContactRefs("contact_ids", ids)),
        )
        assert all(not isinstance(answer, AppError) or isinstance(answer, NotFound) for answer in answers)
    await assert_sound(arena.database, arena.principal.workspace_id)


async def test_assigning_to_a_contact_that_is_leaving(arena: Arena) -> None:
    contacts, members = arena.repository(TagContactRepository), arena.repository(MembershipRepository)
    tags = [tag.tag.id for tag in await arena.repository(TagRepository).create_many([{"name": n} for n in "abc"])]
    contact_tags = arena.repository(ContactTagRepository)
    ids = await arena.make_contacts(4)
    for _ in range(100):
        await all_of(*(members.put(contact, "newsletter") for contact in ids))
        await all_of(
            *(contacts.assign(tag, ContactRefs("contact_ids", ids), on_missing="skip") for tag in tags),
            *(members.leave(contact, "newsletter") for contact in ids[:2]),
            contact_tags.change(TagChange(ids[0], add=names("a", "c"))),
            contact_tags.change(TagChange(ids[1], add=names("b"), replace=True)),
        )
        for contact in ids[:2]:
            assert await contact_tags.list(contact, audience="*") == []
    await assert_sound(arena.database, arena.principal.workspace_id)


async def test_one_new_slug_added_twice_at_once(arena: Arena) -> None:
    contact_tags, tags = arena.repository(ContactTagRepository), arena.repository(TagRepository)
    ids = await arena.make_contacts(6)
    for round_number in range(100):
        name = f"New {round_number}"
        answers = await all_of(*(contact_tags.change(TagChange(contact, add=names(name))) for contact in ids))
        assert [answer.added for answer in answers] == [[f"new-{round_number}"]] * len(ids)
        page = await tags.list(_everything(), search=name)
        assert [tag.contact_count for tag in page.items if tag.name == name] == [len(ids)]


async def test_creating_with_slugs_that_cross(arena: Arena) -> None:
    """Names in opposite order, whose slugs collide: both callers get all they asked for, each tag made once."""
    contact_tags, tags = arena.repository(ContactTagRepository), arena.repository(TagRepository)
    ids = await arena.make_contacts(4)
    for round_number in range(60):
        some = [f"{letter}{symbol}{round_number}" for letter in "XYZ" for symbol in ("", "+", "#")]
        orders = [some, some[::-1], some[3:] + some[:3], random.sample(some, len(some))]
        answers = await all_of(
            *(
                contact_tags.change(TagChange(contact, add=names(*order)))
                for contact, order in zip(ids, orders, strict=True)
            )
        )
        assert [len(answer.added) for answer in answers] == [len(some)] * len(ids)
    page = await tags.list(_everything())
    assert len({tag.slug for tag in page.items}) == len({tag.secondary_id for tag in page.items}) == page.total == 540


async def test_found_or_created_in_batches_at_once(arena: Arena) -> None:
    tags = arena.repository(TagRepository)
    await tags.create_many([{"name": f"t{n}"} for n in range(50)])
    batches = [random.sample([f"t{n}" for n in range(100)], 100) for _ in range(20)]
    answers = await all_of(*(tags.create_many([{"name": name} for name in batch]) for batch in batches))
    ids = {found.tag.name: found.tag.id for found in answers[0]}
    assert all({found.tag.name: found.tag.id for found in answer} == ids for answer in answers)
    assert sum(found.created for answer in answers for found in answer) == 50


async def test_one_new_contact_made_by_many_at_once(arena: Arena) -> None:
    upserts = arena.repository(ContactUpsertRepository)
    for round_number in range(40):
        answers = await all_of(
            *(
                upserts.upsert(
                    [
                        NewContact(
                            {"email": f"{name}{round_number}@example.com", "external_id": f"{name}{round_number}"},
                            ["newsletter"],
                            tags=names(f"tag {caller % 2}", "all"),
                        )
                        for name in (("a", "b", "c") if caller % 2 else ("c", "b", "a"))
                    ]
                )
                for caller in range(6)
            )
        )
        assert sum(one.outcome == "created" for answer in answers for one in answer) == 3
        assert len({one.contact.id for answer in answers for one in answer}) == 3


async def test_one_contact_joins_and_is_updated_at_once(arena: Arena) -> None:
    """By two verbs that lock the contact and its membership: they must do so in one order."""
    members, upserts = arena.repository(MembershipRepository), arena.repository(ContactUpsertRepository)
    [contact] = await arena.make_contacts(1)
    for turn in range(60):
        await members.leave(contact, "newsletter")
        answers = await all_of(
            *(members.put(contact, "newsletter", status="unsubscribed", reason=f"{turn}") for _ in range(2)),
            *(upserts.upsert([NewContact({"email": "c0@example.com", "first_name": f"{turn}"})]) for _ in range(2)),
            members.leave(contact, "newsletter"),
        )
        assert not any(isinstance(answer, AppError) for answer in answers)


# Rows by which a unit of work is stopped halfway: each is locked by it after the audience.
MEMBERS = "select from audience_members where workspace_id = $1 for update"
CLIENTS = "select from clients where workspace_id = $1 for update"


async def one_after_the_other(arena: Arena, stopped_by: str, *work: Awaitable[Any]) -> list[Any]:
    """Begin each while the one before it waits, the first for whoever has these rows. Errors are answers."""
    somebody, watcher = await asyncpg.connect(arena.url), await asyncpg.connect(arena.url)
    holding = somebody.transaction()
    await holding.start()
    await somebody.execute(stopped_by, arena.principal.workspace_id)
    under_way = []
    for number, one in enumerate(work, start=1):
        under_way.append(asyncio.ensure_future(one))
        while await watcher.fetchval(WAITING) < number:
            assert not under_way[-1].done(), "it should have waited"
            await asyncio.sleep(0.01)
    await holding.rollback()
    await somebody.close()
    await watcher.close()
    return await asyncio.gather(*under_way, return_exceptions=True)


async def test_a_key_for_an_audience_that_is_being_deleted(arena: Arena) -> None:
    audiences, keys = arena.repository(AudienceRepository), arena.repository(KeyRepository)
    await audiences.create("courses", "Courses")
    [contact] = await arena.make_contacts(1)
    await arena.repository(MembershipRepository).put(contact, "courses")
    deleted, made = await one_after_the_other(
        arena, MEMBERS, audiences.delete("courses"), keys.create({"scopes": ["admin"], "audience": "courses"})
    )
    assert deleted is None
    assert isinstance(made, InvalidInput)
    assert [(error.location, error.code) for error in made.errors] == [(("body", "audience"), "unknown_audience")]
    assert len((await keys.list(_everything())).items) == 1


async def test_deleting_an_audience_that_a_key_is_being_made_for(arena: Arena) -> None:
    audiences, keys = arena.repository(AudienceRepository), arena.repository(KeyRepository)
    await audiences.create("courses", "Courses")
    made, deleted = await one_after_the_other(
        arena, CLIENTS, keys.create({"scopes": ["admin"], "audience": "courses"}), audiences.delete("courses")
    )
    assert isinstance(made, NewKey)
    assert isinstance(deleted, Conflict)
    assert deleted.facts == {"keys": 1}
    assert [key.audience for key in (await keys.list(_everything())).items] == ["courses", "newsletter"]


async def test_provisioning_into_an_audience_that_is_being_deleted(arena: Arena) -> None:
    """It was there when it was looked for, and goes before the key leans on it."""
    await arena.repository(AudienceRepository).create("courses", "Courses")
    system = SystemRepository(arena.database)
    somebody, watcher = await asyncpg.connect(arena.url), await asyncpg.connect(arena.url)
    deleting = somebody.transaction()
    await deleting.start()
    await somebody.execute("select from audiences where slug = 'courses' for update")
    provisioning = asyncio.create_task(
        system.provision(workspace=arena.principal.workspace, client="new", audience="courses", scopes=["admin"])
    )
    while not await watcher.fetchval(WAITING):
        await asyncio.sleep(0.01)
    await somebody.execute("delete from audiences where slug = 'courses'")
    await deleting.commit()
    with pytest.raises(Unavailable, match="deleted at the same time"):
        await provisioning
    assert await watcher.fetchval("select count(*) from clients") == 1
    await somebody.close()
    await watcher.close()


async def test_a_key_revoked_by_many_at_once(arena: Arena) -> None:
    keys, system = arena.repository(KeyRepository), SystemRepository(arena.database)
    for _ in range(20):
        made = (await keys.create({"scopes": ["admin"]})).key
        answers = await all_of(keys.revoke(made.id), *(system.revoke_key(made.id) for _ in range(6)))
        times = {answer.key.revoked_at for answer in answers if answer is not None}
        assert len(times) == 1
        assert sum(not answer.was_revoked for answer in answers if answer is not None) <= 1


# What a contact carries, by slug; None if it is no member. And what becomes of that by a change that was done.
Carried: TypeAlias = frozenset[str] | None
Effect = Callable[[Carried], Carried]
FEW = frozenset("ab")


@dataclass(frozen=True)
class Scene:
    """A contact that carries a and b, of tags from a to d."""

    arena: Arena
    contact: UUID
    tags: dict[str, UUID]
    etag: str

    @classmethod
    async def set(cls, arena: Arena) -> "Scene":
        [contact] = await arena.make_contacts(1, prefix=uuid4().hex)
        found = await arena.repository(TagRepository).create_many([{"name": name} for name in "abcd"])
        done = await arena.repository(ContactTagRepository).change(TagChange(contact, add=names(*FEW)))
        return cls(arena, contact, {one.tag.name: one.tag.id for one in found}, etag_of(done.tags))

    def change(self, change: TagChange, *, if_match: str | None = None) -> Coroutine[Any, Any, Any]:
        condition = None if if_match is None else [if_match]
        return self.arena.repository(ContactTagRepository).change(change, if_match=condition)

    async def carried(self) -> Carried:
        try:
            return frozenset(tag.slug for tag in await self.arena.repository(ContactTagRepository).list(self.contact))
        except NotFound:
            return None


# Changes from the contact's side: what is added, what is removed, whether that is all.
OWN_CHANGES: dict[str, tuple[str, str, bool]] = {
    "replace": ("c", "", True),
    "replace and keep": ("ac", "", True),
    "replace by a new one": ("an", "", True),
    "clear": ("", "", True),
    "add": ("c", "", False),
    "add what is there": ("ac", "", False),
    "add a new one": ("n", "", False),
    "add and remove": ("c", "a", False),
    "keep and remove": ("a", "b", False),
    "remove": ("", "a", False),
    "remove all": ("", "ab", False),
}


def own_change(contact: UUID, kind: str) -> TagChange:
    added, removed, replaces = OWN_CHANGES[kind]
    return TagChange(contact, add=names(*added), remove=names(*removed), replace=replaces)


def own_effect(kind: str) -> Effect:
    added, removed, replaces = OWN_CHANGES[kind]

    def effect(carried: Carried) -> Carried:
        return None if carried is None else frozenset(() if replaces else carried) - {*removed} | {*added}

    return effect


def adding(*slugs: str) -> Effect:
    return lambda carried: None if carried is None else carried | {*slugs}


def removing(*slugs: str) -> Effect:
    return lambda carried: None if carried is None else carried - {*slugs}


async def _assign(scene: Scene, name: str) -> None:
    contacts = scene.arena.repository(TagContactRepository)
    await contacts.assign(scene.tags[name], ContactRefs("contact_ids", [scene.contact]))


async def _unassign(scene: Scene, name: str) -> None:
    contacts = scene.arena.repository(TagContactRepository)
    await contacts.unassign(scene.tags[name], ContactRefs("contact_ids", [scene.contact]))


async def _retime(scene: Scene) -> None:
    await _unassign(scene, "a")
    await _assign(scene, "a")


async def _rejoin(scene: Scene) -> None:
    members = scene.arena.repository(MembershipRepository)
    await members.leave(scene.contact, "newsletter")
    await members.put(scene.contact, "newsletter")


# What somebody else does meanwhile.
INTRUSIONS: dict[str, tuple[Callable[[Scene], Awaitable[Any]], Effect]] = {
    "assign one that is named": (lambda scene: _assign(scene, "c"), adding("c")),
    "assign one that is not": (lambda scene: _assign(scene, "d"), adding("d")),
    "unassign a": (lambda scene: _unassign(scene, "a"), removing("a")),
    "unassign b": (lambda scene: _unassign(scene, "b"), removing("b")),
    "unassign and assign a": (_retime, adding("a")),
    "replace the tag's contacts": (
        lambda scene: scene.arena.repository(TagContactRepository).replace(
            scene.tags["a"], ContactRefs("contact_ids", [])
        ),
        removing("a"),
    ),
    "add to the contact": (lambda scene: scene.change(TagChange(scene.contact, add=names("d"))), adding("d")),
    "remove from the contact": (
        lambda scene: scene.change(TagChange(scene.contact, remove=names("a", "b"))),
        removing("a", "b"),
    ),
    "replace the contact's tags": (
        lambda scene: scene.change(TagChange(scene.contact, add=names("d"), replace=True)),
        lambda _: frozenset("d"),
    ),
    "change a tag": (
        lambda scene: scene.arena.repository(TagRepository).update(scene.tags["a"], {"description": uuid4().hex}),
        lambda carried: carried,
    ),
    "delete a tag": (lambda scene: scene.arena.repository(TagRepository).delete(scene.tags["b"]), removing("b")),
    "leave": (
        lambda scene: scene.arena.repository(MembershipRepository).leave(scene.contact, "newsletter"),
        lambda _: None,
    ),
    "leave and join": (_rejoin, lambda _: frozenset()),
}

# Whose statements are counted.
_is_changing: ContextVar[bool] = ContextVar("is_changing", default=False)


@pytest.mark.parametrize("intrusion", INTRUSIONS)
async def test_a_change_by_if_match_is_never_overtaken(
    arena: Arena, monkeypatch: pytest.MonkeyPatch, intrusion: str
) -> None:
    """Whatever somebody else does to the set, at whichever moment: the two come one after the other.

    If the other one comes first, the change is refused; if second, it works on what the change has left.
    """
    intrude, effect = INTRUSIONS[intrusion]
    watcher = await asyncpg.connect(arena.url)
    fetch = Connection.fetch

    async def let_in(scene: Scene) -> asyncio.Task[Any]:
        intruder = asyncio.get_running_loop().create_task(_only(intrude(scene)), context=Context())
        # It is done, or it waits for what the change holds.
        while not intruder.done() and not await watcher.fetchval(WAITING):
            await asyncio.sleep(0.001)
        return intruder

    async def change(scene: Scene, kind: str, moment: int) -> tuple[bool, int, asyncio.Task[Any] | None]:
        """Whether it was done, after how many statements, and who came in after so many of them."""
        run = 0
        intruder = None if moment else await let_in(scene)

        async def fetch_and_let_in(connection: Connection, statement: Statement, **values: object) -> list[Row]:
            nonlocal run, intruder
            rows = await fetch(connection, statement, **values)
            if _is_changing.get():
                run += 1
                if run == moment:
                    intruder = await let_in(scene)
            return rows

        monkeypatch.setattr(Connection, "fetch", fetch_and_let_in)
        token = _is_changing.set(True)
        try:
            await scene.change(own_change(scene.contact, kind), if_match=scene.etag)
        except (PreconditionFailed, NotFound):
            return False, run, intruder
        finally:
            _is_changing.reset(token)
            monkeypatch.setattr(Connection, "fetch", fetch)
        return True, run, intruder

    for kind in OWN_CHANGES:
        for moment in itertools.count():
            scene = await Scene.set(arena)
            is_done, run, intruder = await change(scene, kind, moment)
            if intruder is None:
                # There was no such moment.
                assert is_done
                assert moment > run >= 2
                break
            await intruder
            expected = effect(own_effect(kind)(FEW) if is_done else FEW)
            assert await scene.carried() == expected, (kind, moment)
            # Who comes before all of it is seen, and who comes after all of it is not in the way.
            assert is_done is (moment > 0) or 0 < moment < run, (kind, moment)
    await watcher.close()


async def _only(work: Awaitable[Any]) -> Any:
    return await work


HALFWAY: list[tuple[str, Callable[[Scene, str], Coroutine[Any, Any, None]], str]] = [
    ("replace", _unassign, "a"),
    ("replace and keep", _unassign, "a"),
    ("replace and keep", _unassign, "b"),
    ("replace", _assign, "c"),
    ("clear", _unassign, "b"),
    ("add", _assign, "c"),
    ("add what is there", _unassign, "a"),
    ("add and remove", _unassign, "a"),
    ("add and remove", _assign, "c"),
    ("keep and remove", _unassign, "a"),
    ("remove", _unassign, "a"),
    ("remove all", _unassign, "b"),
]


async def test_a_change_by_if_match_waits_for_one_that_is_halfway(arena: Arena) -> None:
    """It began with the set that it was asked for, and finds another one when the other one ends: it is refused."""
    somebody, watcher = await asyncpg.connect(arena.url), await asyncpg.connect(arena.url)
    for kind, meanwhile, name in HALFWAY:
        scene = await Scene.set(arena)
        halfway = somebody.transaction()
        await halfway.start()
        # Whoever counts this tag waits, whichever share it writes, with the assignment written or gone already.
        await somebody.execute(
            """
            insert into tag_counts (workspace_id, tag_id, slot, n)
            select $1, $2, slot, 0 from generate_series(0, 63) slot
            on conflict (workspace_id, tag_id, slot) do update set n = tag_counts.n
            """,
            arena.principal.workspace_id,
            scene.tags[name],
        )
        other = asyncio.create_task(meanwhile(scene, name))
        while not await watcher.fetchval(WAITING):
            await asyncio.sleep(0.001)
        changing = asyncio.create_task(scene.change(own_change(scene.contact, kind), if_match=scene.etag))
        while not changing.done() and await watcher.fetchval(WAITING) < 2:
            await asyncio.sleep(0.001)
        await halfway.rollback()
        await other
        [answer] = await all_of(changing)
        assert isinstance(answer, PreconditionFailed), (kind, name)
        assert await scene.carried() == (FEW | {name} if meanwhile is _assign else FEW - {name}), (kind, name)
    await somebody.close()
    await watcher.close()


async def test_a_contact_that_joins_while_its_tags_are_replaced(arena: Arena, monkeypatch: pytest.MonkeyPatch) -> None:
    """There was nobody to hold, so another replace would not be kept out: it looks again."""
    [contact] = await arena.make_contacts(1)
    tags, members = arena.repository(ContactTagRepository), arena.repository(MembershipRepository)
    await tags.change(TagChange(contact, add=names("a")))
    await members.leave(contact, "newsletter")
    fetch = Connection.fetch
    ran: list[str] = []

    async def fetch_and_join(connection: Connection, statement: Statement, **values: object) -> list[Row]:
        rows = await fetch(connection, statement, **values)
        if statement.name.startswith("contact_tags."):
            ran.append(statement.name)
        if ran == ["contact_tags.lock_members"] and not rows:
            ran.append("joined")
            await members.put(contact, "newsletter")
        return rows

    monkeypatch.setattr(Connection, "fetch", fetch_and_join)
    for if_match in (None, [etag_of([])]):
        await members.leave(contact, "newsletter")
        ran.clear()
        done = await tags.change(TagChange(contact, add=names("a"), replace=True), if_match=if_match)
        assert done.added == ["a"]
        change = "contact_tags.change.addremove" + (".check" if if_match else "")
        assert ran == ["contact_tags.lock_members", "joined", change, "contact_tags.lock_members", change]


async def test_writing_back_what_was_read_while_tags_are_assigned(arena: Arena) -> None:
    """Whoever replaces a contact's tags by what it read, and one of its own, loses none that others give or take."""
    tags, contacts = arena.repository(ContactTagRepository), arena.repository(TagContactRepository)
    made = await arena.repository(TagRepository).create_many([{"name": f"t{n:02}"} for n in range(40)])
    ids = [one.tag.id for one in made]
    given, taken = ids[:20], ids[20:]
    for _ in range(8):
        [contact] = await arena.make_contacts(1, prefix=uuid4().hex)
        named = ContactRefs("contact_ids", [contact])
        for tag in taken:
            await contacts.assign(tag, named)
        finished = asyncio.Event()

        async def write(own: str, contact: UUID = contact, finished: asyncio.Event = finished) -> tuple[int, int]:
            done = refused = 0
            while not finished.is_set():
                read = await tags.list(contact)
                kept = [tag.name for tag in read if tag.name != own]
                wanted = [*kept, own] if len(kept) == len(read) else kept
                try:
                    await tags.change(TagChange(contact, add=names(*wanted), replace=True), if_match=[etag_of(read)])
                    done += 1
                except PreconditionFailed:
                    refused += 1
            return done, refused

        async def give(some: list[UUID], named: ContactRefs = named) -> None:
            for tag in some:
                await contacts.assign(tag, named)

        async def take(some: list[UUID], named: ContactRefs = named) -> None:
            for tag in some:
                await contacts.unassign(tag, named)

        writers = [asyncio.create_task(write(f"own{n}")) for n in range(2)]
        await all_of(give(given[:10]), give(given[10:]), take(taken[:10]), take(taken[10:]))
        finished.set()
        assert all(done or refused for done, refused in await asyncio.gather(*writers))
        carried = {tag.id for tag in await tags.list(contact)}
        assert carried & {*ids} == {*given}


async def test_everything_at_once(arena: Arena) -> None:
    """Twenty workers on few tags and few contacts, by every verb; nothing but an answer, and all is sound after it."""
    crowd = await Crowd.of(arena)
    assert await all_of(*(crowd.work(40) for _ in range(20))) == [None] * 20
    await assert_sound(arena.database, arena.principal.workspace_id)


def _everything() -> PageRequest:
    return PageRequest(limit=1000)


@dataclass(frozen=True)
class Repeating(Workspace):
    """A workspace whose verbs are each run as a request with an idempotency key is, and then a second time."""

    def repository(self, kind: type[AnyRepository]) -> AnyRepository:
        repository = super().repository(kind)
        once = super().repository(IdempotencyRepository).once

        class Verbs:
            def __getattr__(self, name: str) -> Any:
                async def verb(*arguments: Any, **options: Any) -> Any:
                    done: list[Any] = []

                    async def run(joined: Database) -> Answer:
                        joining = kind(joined, repository._principal, front_end="test", request_id="test")
                        done.append(await getattr(joining, name)(*arguments, **options))
                        return Answer(200, b"", None, None)

                    key = uuid4().hex
                    assert await once(key, b"", run) is None
                    assert await once(key, b"", run) == Answer(200, b"", None, None)
                    return done[-1]

                return verb

        return cast("AnyRepository", Verbs())


async def test_everything_at_once_by_requests_that_are_repeated(arena: Arena) -> None:
    """Half of the callers give a key to each request, so that its verb is part of a larger transaction."""
    crowd = await Crowd.of(arena)
    repeating = replace(crowd, workspace=Repeating(arena.database, arena.provisioned, arena.principal))
    workers = [one.work(30) for one in [crowd, repeating] * 8]
    assert await all_of(*workers) == [None] * 16
    await assert_sound(arena.database, arena.principal.workspace_id)


async def test_adds_of_names_by_requests_that_are_repeated(arena: Arena) -> None:
    """What a first attempt held is let go of before the audience is locked to make what is missing."""
    repeating = Repeating(arena.database, arena.provisioned, arena.principal)
    ids = await arena.make_contacts(4)
    for round_ in range(40):
        await all_of(
            *(
                one.repository(ContactTagRepository).change(
                    TagChange(contact_id, add=names("old", f"new{round_}", f"of{contact_id}"))
                )
                for contact_id in ids
                for one in (arena, repeating, repeating)
            )
        )
    await assert_sound(arena.database, arena.principal.workspace_id)
