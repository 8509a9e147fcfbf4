"""Real concurrency among the verbs of subscribers, and with those of contacts, tags and memberships."""

import asyncio
import random
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from app.errors import AppError, Duplicate, NotFound
from app.pagination import PageRequest
from app.repositories.audiences import AudienceRepository
from app.repositories.bulk_actions import BulkAction, BulkActionRepository, Selection
from app.repositories.contact_tags import ContactTagRepository, TagChange, TagRef
from app.repositories.contact_upserts import ContactUpsertRepository, NewContact
from app.repositories.contacts import ContactFields, ContactRepository
from app.repositories.memberships import MembershipRepository
from app.repositories.subscribers import Subscriber, SubscriberChange, SubscriberRepository
from app.repositories.subscriptions import SubscriptionChange
from app.repositories.tag_contacts import ContactRefs, TagContactRepository
from app.repositories.tags import TagRepository
from tests.repositories import test_races
from tests.repositories.crowd import names
from tests.repositories.invariants import assert_sound
from tests.repositories.test_races import Arena, all_of
from tests.routers.calls import run

# A workspace on a database of its own. Whoever uses it ends with all invariants checked, and no deadlock counted.
arena = test_races.arena

SUBSCRIBED = SubscriptionChange("subscribed")
UNSUBSCRIBED = SubscriptionChange("unsubscribed")


async def count(arena: Arena, table: str, condition: str = "true", **values: object) -> int:
    [row] = await run(
        arena.database,
        f"select count(*) as n from {table} where workspace_id = :workspace_id and {condition}",
        workspace_id=arena.principal.workspace_id,
        **values,
    )
    return int(row["n"])


async def events(arena: Arena, kind: str, contact_id: UUID) -> int:
    return await count(arena, "events", "type = :kind and contact_id = :contact_id", kind=kind, contact_id=contact_id)


def refusals(answers: list[Any]) -> list[AppError]:
    return [answer for answer in answers if isinstance(answer, AppError)]


async def test_one_email_made_by_many_at_once(arena: Arena) -> None:
    """One of them makes it, whoever else it is that is told so."""
    subscribers = arena.repository(SubscriberRepository)
    for turn in range(60):
        fields = [{"email": f"{'aA'[n % 2]}da{turn}@example.com", "first_name": f"{n}"} for n in range(6)]
        answers = await all_of(*(subscribers.create(one, own=SUBSCRIBED) for one in fields))  # type: ignore[arg-type]
        [made] = [answer for answer in answers if isinstance(answer, Subscriber)]
        for place, answer in enumerate(answers):
            if answer is not made:
                assert isinstance(answer, Duplicate)
                assert (answer.value, answer.existing_id) == (fields[place]["email"], made.contact.id)
        # What the others sent is nowhere.
        assert made.contact.first_name == str(answers.index(made))
        assert await subscribers.get("id", made.contact.id) == made
        assert await events(arena, "contact.updated", made.contact.id) == 0
        assert await events(arena, "contact.joined", made.contact.id) == 1
    assert await count(arena, "contacts") == await count(arena, "subscriptions") == 60


async def test_one_who_is_known_elsewhere_made_by_many_at_once(arena: Arena) -> None:
    subscribers = arena.repository(SubscriberRepository)
    await arena.repository(AudienceRepository).create("courses", "Courses")
    for turn in range(60):
        email = f"ada{turn}@example.com"
        known = await subscribers.create({"email": email}, own=SUBSCRIBED, audience="courses")
        answers = await all_of(
            *(subscribers.create({"email": email, "first_name": f"{n}"}, own=UNSUBSCRIBED) for n in range(4)),
            subscribers.update(known.contact.id, {"last_name": "King"}, audience="courses"),
        )
        assert [type(error) for error in refusals(answers)] == [Duplicate] * 3
        [place] = [place for place, answer in enumerate(answers[:4]) if isinstance(answer, Subscriber)]
        found = await subscribers.get("email", email)
        assert (found.contact.id, found.contact.first_name) == (known.contact.id, f"{place}")
        assert found.contact.last_name == "King"


async def test_one_email_in_two_audiences_at_once(arena: Arena) -> None:
    """A new member in each of them, and one contact."""
    subscribers = arena.repository(SubscriberRepository)
    await arena.repository(AudienceRepository).create("courses", "Courses")
    for turn in range(60):
        email = f"ada{turn}@example.com"
        answers = await all_of(
            subscribers.create({"email": email}, own=SUBSCRIBED, tags=names(f"a{turn}")),
            subscribers.create({"email": email}, own=SUBSCRIBED, audience="courses", tags=names(f"b{turn}")),
        )
        assert refusals(answers) == []
        assert len({answer.contact.id for answer in answers}) == 1
    assert (await count(arena, "contacts"), await count(arena, "audience_members")) == (60, 120)
    assert await count(arena, "contact_tags") == 120


async def test_deleting_while_everybody_wants_the_contact(arena: Arena) -> None:
    """Tagged in bulk, joining another audience, deleted natively, tagged by name: it goes whole or stays whole."""
    subscribers, tags = arena.repository(SubscriberRepository), arena.repository(TagContactRepository)
    members, contact_tags = arena.repository(MembershipRepository), arena.repository(ContactTagRepository)
    contacts = arena.repository(ContactRepository)
    await arena.repository(AudienceRepository).create("courses", "Courses")
    tag_ids = [one.tag.id for one in await arena.repository(TagRepository).create_many([{"name": n} for n in "abc"])]
    stayed = went = 0
    for turn in range(100):
        [contact_id] = await arena.make_contacts(1, prefix=f"p{turn}-")
        work: list[Any] = [
            subscribers.delete(contact_id),
            *(tags.assign(tag_id, ContactRefs("contact_ids", [contact_id]), on_missing="skip") for tag_id in tag_ids),
            members.put(contact_id, "courses"),
            contact_tags.change(TagChange(contact_id, add=names("a", "c"))),
        ]
        if turn % 3 == 0:
            work.append(contacts.delete(contact_id))
        if turn % 2:
            work.reverse()
        answers = await all_of(*work)
        assert all(isinstance(error, NotFound) for error in refusals(answers))
        is_here = await subscribers.find("id", contact_id) is not None
        there = await subscribers.find("id", contact_id, audience="courses")
        assert not is_here
        carried = await count(arena, "contact_tags", "contact_id = :contact_id", contact_id=contact_id)
        assert carried == 0
        deleted = await events(arena, "contact.deleted", contact_id)
        if there is None:
            went += 1
            assert deleted == 1
            assert await count(arena, "contacts", "id = :contact_id", contact_id=contact_id) == 0
            assert await count(arena, "audience_members", "contact_id = :contact_id", contact_id=contact_id) == 0
        else:
            stayed += 1
            assert deleted == 0
            assert await events(arena, "contact.left", contact_id) == 1
            await contacts.delete(contact_id)
    # Otherwise nothing was raced for.
    assert stayed
    assert went


async def test_deleting_from_both_audiences_at_once(arena: Arena) -> None:
    """Each leaves one, and with the last of them the contact goes."""
    subscribers = arena.repository(SubscriberRepository)
    await arena.repository(AudienceRepository).create("courses", "Courses")
    for turn in range(60):
        [contact_id] = await arena.make_contacts(1, prefix=f"p{turn}-")
        await arena.repository(MembershipRepository).put(contact_id, "courses")
        answers = await all_of(
            subscribers.delete(contact_id),
            subscribers.delete(contact_id, audience="courses"),
            subscribers.delete(contact_id),
        )
        assert [type(error) for error in refusals(answers)] == [NotFound]
        assert (
            await events(arena, "contact.left", contact_id) == await events(arena, "contact.deleted", contact_id) == 1
        )
    assert await count(arena, "contacts") == 0


async def test_an_upsert_while_the_member_leaves(arena: Arena) -> None:
    """It joins again or was there before; what it agreed to is of the membership that it has."""
    subscribers, members = arena.repository(SubscriberRepository), arena.repository(MembershipRepository)
    await arena.repository(TagRepository).create({"name": "a"})
    [contact_id] = await arena.make_contacts(1)
    change = SubscriberChange(own=SubscriptionChange("unsubscribed", "bored"), audience_wide=SUBSCRIBED)
    for turn in range(150):
        await members.put(contact_id, "newsletter")
        upserts = [
            subscribers.upsert(
                {"email": "c0@example.com", "first_name": f"{turn}"}, change, tags=names("a") if turn % 2 else None
            )
            for _ in range(2)
        ]
        # The other one may not make a member of who has left.
        stays_away = subscribers.upsert({"email": "c0@example.com"}, SubscriberChange(own=SUBSCRIBED), joins=False)
        leave = subscribers.delete if turn % 3 == 0 else lambda one: members.leave(one, "newsletter")
        answers = await all_of(upserts[0], leave(contact_id), stays_away, upserts[1])
        assert refusals(answers) == []
        assert answers[0]
        assert answers[3]
        found = await subscribers.find("email", "c0@example.com")
        if found is not None:
            assert (found.own is None) is (found.audience_wide is None)
            contact_id = found.contact.id
        else:
            contact_id = (await subscribers.create({"email": "c0@example.com"}, own=SUBSCRIBED)).contact.id
    await assert_sound(arena.database, arena.principal.workspace_id)


async def test_upserts_and_native_changes_of_a_members_tags(arena: Arena) -> None:
    """They lock the contact, the member and the assignments, and must do so in one order."""
    subscribers, contact_tags = arena.repository(SubscriberRepository), arena.repository(ContactTagRepository)
    tags, assignments = arena.repository(TagRepository), arena.repository(TagContactRepository)
    members = arena.repository(MembershipRepository)
    [contact_id] = await arena.make_contacts(1)
    tag_ids = [one.tag.id for one in await tags.create_many([{"name": name} for name in "abc"])]
    for turn in range(100):
        status = SUBSCRIBED if turn % 2 else UNSUBSCRIBED
        answers = await all_of(
            subscribers.upsert(
                {"email": "c0@example.com"},
                SubscriberChange(own=status, suppressions={"complained": bool(turn % 2)}),
                tags=names("c", "b", "a"),
            ),
            contact_tags.change(TagChange(contact_id, add=names("a", "b", "c"))),
            contact_tags.change(TagChange(contact_id, add=names("b"), replace=True)),
            contact_tags.change(TagChange(contact_id, remove=names("c", "a"))),
            assignments.assign(tag_ids[turn % 3], ContactRefs("contact_ids", [contact_id])),
            subscribers.update(contact_id, {"first_name": f"{turn}"}, status),
            members.put(contact_id, "newsletter", status="pending"),
        )
        assert refusals(answers) == []


async def test_an_update_while_it_is_deleted(arena: Arena) -> None:
    """Either it was changed before it went, or there was nobody to change."""
    subscribers = arena.repository(SubscriberRepository)
    updated = refused = 0
    for turn in range(100):
        made = await subscribers.create({"email": f"ada{turn}@example.com"}, own=SUBSCRIBED)
        contact_id = made.contact.id
        work: list[Any] = [
            *(subscribers.update(contact_id, {"first_name": f"{n}"}, UNSUBSCRIBED) for n in range(2)),
            subscribers.delete(contact_id),
        ]
        answers = await all_of(*(work if turn % 2 else work[::-1]))
        errors = refusals(answers)
        assert all(isinstance(error, NotFound) for error in errors)
        assert answers.count(None) == 1
        refused += len(errors)
        updated += 2 - len(errors)
        assert await events(arena, "contact.deleted", contact_id) == 1
    assert await count(arena, "contacts") == await count(arena, "subscriptions") == 0
    assert updated
    assert refused


async def test_updates_that_want_one_email(arena: Arena) -> None:
    subscribers = arena.repository(SubscriberRepository)
    ids = await arena.make_contacts(4)
    for turn in range(60):
        email = f"wanted{turn}@example.com"
        answers = await all_of(
            *(subscribers.update(one, {"email": email, "first_name": f"{turn}"}, UNSUBSCRIBED) for one in ids[:3]),
            subscribers.create({"email": email}, own=SUBSCRIBED),
        )
        [winner] = [answer for answer in answers if isinstance(answer, Subscriber)]
        errors = refusals(answers)
        assert [type(error) for error in errors] == [Duplicate] * 3
        assert {error.existing_id for error in errors if isinstance(error, Duplicate)} == {winner.contact.id}
        for one in ids[:3]:
            now = await subscribers.get("id", one)
            assert (now.contact.email == email) is (one == winner.contact.id)
            # All of a change, or nothing of it.
            assert (now.contact.first_name == f"{turn}") is (one == winner.contact.id)


async def test_subscribing_and_unsubscribing_at_once(arena: Arena) -> None:
    """In some order: each agreement is one caller's, and each change of it was recorded."""
    subscribers, members = arena.repository(SubscriberRepository), arena.repository(MembershipRepository)
    [contact_id] = await arena.make_contacts(1)
    fields: Any = {"email": "c0@example.com"}
    unsubscribe = SubscriptionChange("unsubscribed", "bored", verified=False)
    subscribe = SubscriptionChange("subscribed", verified=True)
    for _ in range(100):
        before = await events(arena, "contact.updated", contact_id)
        answers = await all_of(
            subscribers.upsert(fields, SubscriberChange(own=subscribe, audience_wide=unsubscribe)),
            subscribers.upsert(fields, SubscriberChange(own=unsubscribe, audience_wide=subscribe)),
            subscribers.update(contact_id, {}, subscribe),
            members.put(contact_id, "newsletter", status="unsubscribed", reason="bored", has_reason=True),
        )
        assert refusals(answers) == []
        found = await subscribers.get("id", contact_id)
        assert found.own
        assert found.audience_wide
        # The native call says nothing of a confirmation.
        assert (found.own.status, found.own.reason) in {("subscribed", None), ("unsubscribed", "bored")}
        wide = found.audience_wide
        assert (wide.status, wide.reason, wide.verified_at is not None, wide.unsubscribed_at is not None) in {
            ("subscribed", None, True, False),
            ("unsubscribed", "bored", False, True),
        }
        assert await events(arena, "contact.updated", contact_id) > before
    assert await count(arena, "subscriptions") == 2


async def test_first_agreements_at_once(arena: Arena) -> None:
    """Who has none yet: all look, none finds one, and yet there is one in the end."""
    subscribers = arena.repository(SubscriberRepository)
    ids = await arena.make_contacts(30)
    for place, contact_id in enumerate(ids):
        change = SubscriberChange(audience_wide=UNSUBSCRIBED)
        await all_of(*(subscribers.upsert({"email": f"c{place}@example.com"}, change) for _ in range(5)))
        assert await events(arena, "contact.updated", contact_id) == 1
    assert await count(arena, "subscriptions", "client_id is null") == 30


async def test_tags_that_are_missing_are_made_once(arena: Arena) -> None:
    """By verbs of subscribers and native ones, for several people and the same ones, in every order of names."""
    subscribers, tags = arena.repository(SubscriberRepository), arena.repository(TagRepository)
    contact_tags = arena.repository(ContactTagRepository)
    [contact_id] = await arena.make_contacts(1)
    for turn in range(60):
        some = [f"{letter} {turn}" for letter in "abc"]
        answers = await all_of(
            subscribers.create({"email": f"new{turn}@example.com"}, own=SUBSCRIBED, tags=names(*some)),
            subscribers.create({"email": f"new{turn}@example.com"}, own=SUBSCRIBED, tags=names(*some[::-1])),
            subscribers.upsert({"email": "c0@example.com"}, SubscriberChange(own=SUBSCRIBED), tags=names(*some[::-1])),
            subscribers.upsert({"email": f"up{turn}@example.com"}, SubscriberChange(), tags=names(*some[1:], some[0])),
            contact_tags.change(TagChange(contact_id, add=names(*some))),
        )
        assert [type(error) for error in refusals(answers)] == [Duplicate]
        found = await tags.list(PageRequest(), search=f" {turn}")
        here = [tag for tag in found.items if tag.name.endswith(f" {turn}")]
        assert [(tag.name, tag.contact_count) for tag in here] == [(name, 3) for name in some]
    assert await count(arena, "tags") == 180


async def test_tags_that_go_while_they_are_added(arena: Arena) -> None:
    """A tag that is deleted meanwhile is made again, and nobody carries one that is not there."""
    subscribers, tags = arena.repository(SubscriberRepository), arena.repository(TagRepository)
    for turn in range(60):
        short_lived = (await tags.create({"name": "short-lived"}, on_conflict="return")).tag
        answers = await all_of(
            subscribers.create({"email": f"a{turn}@example.com"}, own=SUBSCRIBED, tags=names("short-lived")),
            tags.delete(short_lived.id),
            subscribers.upsert({"email": f"b{turn % 2}@example.com"}, SubscriberChange(), tags=names("short-lived")),
        )
        assert refusals(answers) == []


async def test_a_batch_takes_tags_in_the_order_in_which_a_bulk_action_deletes_them(arena: Arena) -> None:
    """Contact by contact it would hold the second tag while it waits for the first, as the delete does: a deadlock."""
    made = await arena.repository(TagRepository).create_many([{"name": "t1"}, {"name": "t2"}])
    first, second = sorted(one.tag.id for one in made)
    upserts = arena.repository(ContactUpsertRepository)
    fields: list[ContactFields] = [{"email": "a@example.com"}, {"email": "b@example.com"}]
    await upserts.upsert([NewContact(one) for one in fields])
    tagged = [
        NewContact(one, tags=[TagRef(("body",), id=tag_id, name=None)])
        for one, tag_id in zip(fields, (second, first), strict=True)
    ]
    somebody, watcher = await asyncpg.connect(arena.url), await asyncpg.connect(arena.url)
    holding = somebody.transaction()
    await holding.start()
    await somebody.execute(
        "select from tags where workspace_id = $1 and id = $2 for update", arena.principal.workspace_id, first
    )
    waiting: list[asyncio.Task[Any]] = []
    for number, work in enumerate(
        (
            arena.repository(BulkActionRepository).delete_tags(Selection([first, second]), metadata={}),
            upserts.upsert(tagged),
        )
    ):
        waiting.append(asyncio.create_task(work))
        while await watcher.fetchval(test_races.WAITING) <= number:
            await asyncio.sleep(0.01)
    await holding.rollback()
    await somebody.close()
    await watcher.close()
    deleted, given = await all_of(*waiting)
    assert isinstance(deleted, BulkAction)
    # Its tags are gone, which is what it says.
    assert isinstance(given, AppError)


async def test_a_change_whose_tag_goes_before_its_answer(arena: Arena) -> None:
    """Who has just changed a tag's contacts hears that there are none, not that the change was none."""
    tags, carriers = arena.repository(TagRepository), arena.repository(TagContactRepository)
    made = (await tags.create({"name": "short-lived"})).tag
    await tags.delete(made.id)
    assert (await carriers.list(made.id, PageRequest(10), gone_is_empty=True)).total == 0
    with pytest.raises(NotFound):
        await carriers.list(made.id, PageRequest(10))


async def test_everything_at_once(arena: Arena) -> None:
    """Every verb of subscribers on few people in two audiences, beside the native ones."""
    subscribers, members = arena.repository(SubscriberRepository), arena.repository(MembershipRepository)
    contacts, assignments = arena.repository(ContactRepository), arena.repository(TagContactRepository)
    await arena.repository(AudienceRepository).create("courses", "Courses")
    tag_ids = [one.tag.id for one in await arena.repository(TagRepository).create_many([{"name": n} for n in "ab"])]
    dice = random.Random(11)

    async def act() -> None:
        email = f"p{dice.randrange(6)}@example.com"
        audience = dice.choice(["newsletter", "courses"])
        found = await subscribers.find("email", email, audience=audience)
        contact_id = found.contact.id if found else UUID(int=0)
        refs = ContactRefs("emails", [f"p{n}@example.com" for n in dice.sample(range(6), 4)])
        change = SubscriberChange(
            own=dice.choice([None, SUBSCRIBED, UNSUBSCRIBED]),
            audience_wide=dice.choice([None, SUBSCRIBED, UNSUBSCRIBED]),
            suppressions={"complained": dice.random() < 0.5},
        )
        match dice.randrange(9):
            case 0 | 1:
                tags = names(*dice.sample("abcd", 2))
                await subscribers.create({"email": email}, own=SUBSCRIBED, tags=tags, audience=audience)
            case 2 | 3:
                tags = names(*dice.sample("abcd", 2))
                joins = dice.random() < 0.7
                await subscribers.upsert(
                    {"email": email}, change, joins=joins, tags=tags if joins else None, audience=audience
                )
            case 4:
                await subscribers.update(contact_id, {"first_name": f"{dice.random()}"}, change.own, audience=audience)
            case 5:
                await subscribers.delete(contact_id, audience=audience)
            case 6:
                await assignments.assign(dice.choice(tag_ids), refs, on_missing="skip")
            case 7:
                await assignments.replace(dice.choice(tag_ids), refs, on_missing="skip")
            case 8:
                if dice.random() < 0.2:
                    await contacts.delete(contact_id)
                else:
                    await (members.leave if dice.random() < 0.5 else members.put)(contact_id, audience)

    async def work() -> None:
        for _ in range(40):
            try:
                await act()
            except (Duplicate, NotFound):
                # What is gone, or there already, is an answer.
                await asyncio.sleep(0)

    assert await all_of(*(work() for _ in range(16))) == [None] * 16
