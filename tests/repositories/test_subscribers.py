"""The members of one audience, as dialects know them: what each verb does, what it writes, and what it tells of it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID, uuid4

import pytest

from app.errors import AppError, Duplicate, InvalidInput, NotFound
from app.pagination import Page, PageRequest
from app.repositories.audiences import AudienceRepository
from app.repositories.base import AnyRepository, Repository
from app.repositories.contact_search import ContactSearchRepository, NamedTag, TagFilter
from app.repositories.contact_tags import ContactTagRepository, TagChange
from app.repositories.contact_upserts import ContactUpsertRepository, NewContact
from app.repositories.contacts import Contact, ContactFields, ContactRepository
from app.repositories.memberships import MembershipRepository
from app.repositories.subscribers import (
    UNVALIDATED,
    EmailValidation,
    EmailValidationChange,
    Subscriber,
    SubscriberChange,
    SubscriberRepository,
)
from app.repositories.subscriptions import Subscription, SubscriptionChange
from app.repositories.system import SystemRepository
from app.repositories.tags import TagRepository
from app.values import ATTRIBUTES_MAX_BYTES, SCOPES, hash_key
from tests.conftest import Workspace, make_workspace
from tests.repositories.crowd import names
from tests.repositories.invariants import assert_sound
from tests.routers.calls import run, state_of

Event = tuple[str, dict[str, Any]]

SUBSCRIBED = SubscriptionChange("subscribed")
UNSUBSCRIBED = SubscriptionChange("unsubscribed")
LATER = datetime(2026, 3, 1, 12, tzinfo=UTC)
EARLIER = datetime(2026, 1, 1, 12, tzinfo=UTC)
# More than a contact can have, but not more than a call can send.
TOO_LARGE: ContactFields = {"attributes": {"x": "x" * ATTRIBUTES_MAX_BYTES}}


@dataclass
class Town:
    """A workspace with a newsletter, which is the key's default audience, and courses; and what was told of it."""

    workspace: Workspace
    seen: int = 0

    def repository(self, kind: type[AnyRepository]) -> AnyRepository:
        return self.workspace.repository(kind)

    @property
    def subscribers(self) -> SubscriberRepository:
        return self.repository(SubscriberRepository)

    async def elsewhere(self, email: str, **fields: Any) -> Contact:
        """A contact that is a member of the courses alone."""
        new = NewContact({"email": email, **fields}, ["courses"])  # type: ignore[typeddict-item]
        [made] = await self.repository(ContactUpsertRepository).upsert([new])
        assert made.contact
        return made.contact

    async def member(self, email: str = "ada@example.com", **fields: Any) -> Subscriber:
        """A new member of the newsletter, whose events are passed over."""
        made = await self.subscribers.create({"email": email, **fields}, own=SUBSCRIBED)  # type: ignore[typeddict-item]
        await self.events()
        return made

    async def audiences_of(self, contact_id: UUID) -> list[str]:
        return [one.audience for one in await self.repository(MembershipRepository).list(contact_id)]

    async def tags_of(self, contact_id: UUID, audience: str = "newsletter") -> list[str]:
        return [tag.slug for tag in await self.repository(ContactTagRepository).list(contact_id, audience=audience)]

    async def events(self) -> list[Event]:
        """What was recorded since this was last asked, with what each event tells of its contact and audience."""
        rows = await run(
            self.workspace.database,
            """
            select e.sequence, e.type, a.slug as audience, e.contact_id, e.client_id, e.payload
            from events e left join audiences a on a.workspace_id = e.workspace_id and a.id = e.audience_id
            where e.workspace_id = :workspace_id and e.sequence > :seen
            order by e.sequence
            """,
            workspace_id=self.workspace.principal.workspace_id,
            seen=self.seen,
        )
        self.seen = max([self.seen, *(row["sequence"] for row in rows)])
        assert {row["client_id"] for row in rows} <= {self.workspace.principal.client_id}
        return [
            (
                row["type"],
                {
                    **({"audience": row["audience"]} if row["audience"] else {}),
                    **({"contact": row["contact_id"]} if row["contact_id"] else {}),
                    **{name: value for name, value in row["payload"].items() if name not in {"added", "removed"}},
                },
            )
            for row in rows
        ]

    async def refused(self, unit: Callable[[], Awaitable[object]]) -> AppError:
        """What is raised by a call that must leave everything as it was."""
        before = await state_of(self.workspace)
        with pytest.raises(AppError) as caught:
            await unit()
        assert await state_of(self.workspace) == before
        return caught.value

    async def changes_nothing(self, unit: Callable[[], Awaitable[object]]) -> None:
        before = await state_of(self.workspace)
        await unit()
        assert await state_of(self.workspace) == before


def created(contact_id: UUID) -> Event:
    return "contact.created", {"contact": contact_id}


def joined(contact_id: UUID, audience: str = "newsletter") -> Event:
    return "contact.joined", {"audience": audience, "contact": contact_id}


def updated(contact_id: UUID, *fields: str) -> Event:
    """Of the contact itself: whatever audience it is in."""
    return "contact.updated", {"contact": contact_id, "fields": list(fields)}


def agreed(contact_id: UUID, *fields: str, audience: str = "newsletter") -> Event:
    return "contact.updated", {"audience": audience, "contact": contact_id, "fields": list(fields)}


def tagged(contact_id: UUID) -> Event:
    return "contact.tags_changed", {"audience": "newsletter", "contact": contact_id}


@pytest.fixture
async def town(workspace: Workspace) -> Town:
    town = Town(workspace)
    await town.repository(AudienceRepository).create("courses", "Courses")
    await town.events()
    return town


async def of_client(workspace: Workspace, slug: str) -> Workspace:
    """The same workspace, as another client of it knows it."""
    system = SystemRepository(workspace.database)
    provisioned = await system.provision(
        workspace=workspace.principal.workspace, client=slug, audience="newsletter", scopes=SCOPES
    )
    found = await system.find_key(hash_key(provisioned.key))
    assert found is not None
    return Workspace(workspace.database, provisioned, found.principal)


def without_default_audience(workspace: Workspace, kind: type[AnyRepository]) -> AnyRepository:
    principal = replace(workspace.principal, audience=None)
    return kind(workspace.database, principal, front_end="test", request_id="test")


# Creating.


async def test_a_new_subscriber(town: Town) -> None:
    made = await town.subscribers.create(
        {"email": "Ada@Example.com", "first_name": "Ada", "attributes": {"plan": "pro"}}, own=SUBSCRIBED
    )
    contact = made.contact
    assert (contact.email, contact.first_name, contact.attributes) == ("Ada@Example.com", "Ada", {"plan": "pro"})
    assert contact.number > 0
    assert made.own == Subscription("subscribed", None, None, None)
    assert made.audience_wide is None
    assert made.email_validation == UNVALIDATED
    times = (made.verified_at, made.global_unsubscribed_at, made.hard_bounced_at, made.complained_at)
    assert times == (None,) * 4
    assert made.joined_at == contact.created_at
    assert made.subscribed
    assert await town.audiences_of(contact.id) == ["newsletter"]
    assert await town.events() == [created(contact.id), joined(contact.id)]
    assert await town.subscribers.get("id", contact.id) == made


async def test_a_new_subscriber_in_an_audience_that_is_named(town: Town) -> None:
    made = await town.subscribers.create({"email": "ada@example.com"}, own=SUBSCRIBED, audience="courses")
    assert await town.audiences_of(made.contact.id) == ["courses"]
    assert await town.events() == [created(made.contact.id), joined(made.contact.id, "courses")]
    assert await town.subscribers.find("id", made.contact.id) is None


@pytest.mark.parametrize(
    ("own", "expected", "told"),
    [
        (SUBSCRIBED, ("subscribed", None), []),
        (UNSUBSCRIBED, ("unsubscribed", None), []),
        (SubscriptionChange("pending"), ("pending", None), []),
        # Nothing was agreed to yet.
        (SubscriptionChange(), ("pending", None), ["status"]),
        # Who joins agrees to it by joining, which is told once.
        (SubscriptionChange("unsubscribed", "bored"), ("unsubscribed", "bored"), []),
        (SubscriptionChange("unsubscribed", "bored", has_reason=True), ("unsubscribed", "bored"), []),
        (SubscriptionChange("subscribed", verified=True), ("subscribed", None), ["verified_at"]),
    ],
)
async def test_what_a_new_subscriber_agrees_to(
    town: Town, own: SubscriptionChange, expected: tuple[str, str | None], told: list[str]
) -> None:
    made = await town.subscribers.create({"email": "ada@example.com"}, own=own)
    assert made.own
    assert (made.own.status, made.own.reason) == expected
    assert (made.own.unsubscribed_at is not None) is (made.own.status == "unsubscribed")
    assert (made.own.verified_at is not None) is (own.verified is True)
    assert made.subscribed is (expected[0] == "subscribed")
    changed = [agreed(made.contact.id, *told)] if told else []
    assert await town.events() == [created(made.contact.id), joined(made.contact.id), *changed]


async def test_a_new_subscriber_with_tags(town: Town) -> None:
    await town.repository(TagRepository).create({"name": "VIP"})
    await town.events()
    made = await town.subscribers.create({"email": "ada@example.com"}, own=SUBSCRIBED, tags=names("vip", "New"))
    contact_id = made.contact.id
    assert await town.tags_of(contact_id) == ["new", "vip"]
    assert await town.events() == [
        created(contact_id),
        joined(contact_id),
        ("tag.created", {"audience": "newsletter"}),
        tagged(contact_id),
    ]


async def test_one_who_is_known_elsewhere_joins_and_is_updated(town: Town) -> None:
    known = await town.elsewhere(
        "ada@example.com", first_name="Ada", last_name="King", attributes={"plan": "pro", "city": "London"}
    )
    await town.repository(ContactTagRepository).change(TagChange(known.id, add=names("Pupil")), audience="courses")
    await town.events()
    made = await town.subscribers.create(
        {"email": "ADA@example.com", "last_name": "Lovelace", "attributes": {"city": None}}, own=UNSUBSCRIBED
    )
    assert made.contact.id == known.id
    # It was found by the address, which stays spelled as it was.
    person = made.contact
    assert (person.email, person.first_name, person.last_name) == ("ada@example.com", "Ada", "Lovelace")
    assert made.contact.attributes == {"plan": "pro"}
    assert made.own
    assert made.own.status == "unsubscribed"
    assert await town.events() == [updated(known.id, "attributes", "last_name"), joined(known.id)]
    assert await town.audiences_of(known.id) == ["courses", "newsletter"]
    assert (await town.tags_of(known.id), await town.tags_of(known.id, "courses")) == ([], ["pupil"])
    there = await town.subscribers.get("id", known.id, audience="courses")
    assert there.own == Subscription("subscribed", None, None, None)


async def test_one_who_is_in_no_audience_joins(town: Town) -> None:
    [known] = await town.repository(ContactUpsertRepository).upsert([NewContact({"email": "ada@example.com"}, [])])
    assert known.contact
    await town.events()
    made = await town.subscribers.create({"email": "ada@example.com"}, own=SUBSCRIBED)
    assert made.contact == known.contact
    assert await town.events() == [joined(made.contact.id)]


async def test_one_who_left_is_new_again(town: Town) -> None:
    """Of what was agreed before nothing is left."""
    member = await town.member()
    await town.elsewhere("ada@example.com")
    await town.subscribers.upsert(
        {"email": "ada@example.com"}, SubscriberChange(audience_wide=SubscriptionChange("unsubscribed", verified=True))
    )
    await town.subscribers.delete(member.contact.id)
    made = await town.subscribers.create({"email": "ada@example.com"}, own=SUBSCRIBED)
    assert made.contact.id == member.contact.id
    assert (made.own, made.audience_wide) == (Subscription("subscribed", None, None, None), None)


async def test_a_member_is_not_made_again(town: Town) -> None:
    member = await town.member(first_name="Ada")

    async def create() -> None:
        await town.subscribers.create(
            {"email": "ADA@example.com", "first_name": "Eve"}, own=UNSUBSCRIBED, tags=names("New")
        )

    error = await town.refused(create)
    assert isinstance(error, Duplicate)
    assert (error.resource, error.field, error.value) == ("contact", "email", "ADA@example.com")
    assert error.existing_id == member.contact.id
    assert await town.events() == []


async def test_a_member_is_not_made_again_whatever_it_agreed_to(town: Town) -> None:
    """Whoever is a member has the email, with no agreement or with one that ended."""
    new = NewContact({"email": "b@example.com"})

    async def join_without_agreement() -> None:
        await town.repository(ContactUpsertRepository).attempt(
            lambda connection: town.repository(ContactUpsertRepository).upsert_within(
                connection, [new], audience="newsletter", status=None
            )
        )

    await join_without_agreement()
    await town.subscribers.create({"email": "c@example.com"}, own=UNSUBSCRIBED)
    for email in ("b@example.com", "c@example.com"):
        fields: ContactFields = {"email": email}
        error = await town.refused(lambda fields=fields: town.subscribers.create(fields, own=SUBSCRIBED))  # type: ignore[misc]
        assert isinstance(error, Duplicate)


@pytest.mark.parametrize("known", [True, False])
async def test_what_cannot_be_stored_makes_nobody(town: Town, known: bool) -> None:
    if known:
        await town.elsewhere("ada@example.com")
    fields: ContactFields = {"email": "ada@example.com", **TOO_LARGE}
    error = await town.refused(lambda: town.subscribers.create(fields, own=SUBSCRIBED, tags=names("New")))
    assert isinstance(error, InvalidInput)
    assert [(field.location, field.code) for field in error.errors] == [(("body", "attributes"), "too_large")]


# Changing.


async def test_updating_a_subscriber(town: Town) -> None:
    member = await town.member(first_name="Ada", last_name="King", attributes={"plan": "pro", "city": "London"})
    changed = await town.subscribers.update(
        member.contact.id,
        {"email": "ada@lovelace.org", "last_name": None, "attributes": {"city": None, "age": 36}},
        SubscriptionChange("unsubscribed", "bored"),
    )
    assert changed.contact.number == member.contact.number
    assert (changed.contact.email, changed.contact.first_name, changed.contact.last_name) == (
        "ada@lovelace.org",
        "Ada",
        None,
    )
    assert changed.contact.attributes == {"plan": "pro", "age": 36}
    assert changed.contact.updated_at > member.contact.updated_at
    assert changed.own
    assert (changed.own.status, changed.own.reason) == ("unsubscribed", "bored")
    contact_id = member.contact.id
    assert await town.events() == [
        updated(contact_id, "attributes", "email", "last_name"),
        agreed(contact_id, "status", "reason"),
    ]
    assert await town.subscribers.get("email", "ADA@lovelace.org") == changed
    assert await town.subscribers.find("email", "ada@example.com") is None


async def test_an_update_of_one_half_leaves_the_other(town: Town) -> None:
    member = await town.member(first_name="Ada")
    changed = await town.subscribers.update(member.contact.id, {"first_name": "Eve"})
    assert (changed.contact.first_name, changed.own) == ("Eve", member.own)
    assert await town.events() == [updated(member.contact.id, "first_name")]
    changed_again = await town.subscribers.update(member.contact.id, {}, UNSUBSCRIBED)
    assert changed_again.contact == changed.contact
    assert not changed_again.subscribed
    assert await town.events() == [agreed(member.contact.id, "status")]


async def test_an_update_that_changes_nothing_writes_nothing(town: Town) -> None:
    member = await town.member(first_name="Ada", attributes={"a": 1})
    for fields, own in (
        ({}, None),
        ({}, SUBSCRIBED),
        ({"email": "ada@example.com", "first_name": "Ada", "attributes": {"a": 1.0, "b": None}}, SubscriptionChange()),
    ):
        given = cast("ContactFields", fields)
        await town.changes_nothing(lambda given=given, own=own: town.subscribers.update(member.contact.id, given, own))  # type: ignore[misc]


async def test_a_first_agreement_by_an_update(town: Town) -> None:
    """Without a status nobody agreed to anything yet."""
    member = await town.member()
    other = Town(await of_client(town.workspace, "app"), town.seen)
    before = await other.subscribers.get("id", member.contact.id)
    assert before.own is None
    assert not before.subscribed
    changed = await other.subscribers.update(member.contact.id, {}, SubscriptionChange())
    assert changed.own == Subscription("pending", None, None, None)
    assert await other.events() == [agreed(member.contact.id, "status")]
    # To each client its own.
    assert (await town.subscribers.get("id", member.contact.id)).own == member.own


async def test_an_update_is_done_whole_or_not_at_all(town: Town) -> None:
    member, holder = await town.member(first_name="Ada"), await town.member("holder@example.com")
    elsewhere = await town.elsewhere("elsewhere@example.com")
    # The email of whoever is known to the workspace cannot be had, in this audience or not.
    for email, existing_id in (("HOLDER@example.com", holder.contact.id), ("elsewhere@example.com", elsewhere.id)):
        fields: ContactFields = {"email": email, "first_name": "Eve"}
        error = await town.refused(
            lambda fields=fields: town.subscribers.update(member.contact.id, fields, UNSUBSCRIBED)  # type: ignore[misc]
        )
        assert isinstance(error, Duplicate)
        assert (error.resource, error.field, error.value, error.existing_id) == ("contact", "email", email, existing_id)
    large: ContactFields = {"first_name": "Eve", **TOO_LARGE}
    error = await town.refused(lambda: town.subscribers.update(member.contact.id, large, UNSUBSCRIBED))
    assert isinstance(error, InvalidInput)
    assert error.code == "too_large"


@pytest.mark.parametrize("fields", [{}, {"first_name": "Eve"}, TOO_LARGE, {"email": "holder@example.com"}])
async def test_who_is_no_member_cannot_be_updated(town: Town, fields: ContactFields) -> None:
    """Nor does an error tell what is known of it elsewhere: how large it is, or that it is there at all."""
    await town.member("holder@example.com")
    elsewhere = await town.elsewhere("ada@example.com", attributes={"y": "y"})
    for contact_id in (elsewhere.id, uuid4()):
        error = await town.refused(
            lambda contact_id=contact_id: town.subscribers.update(contact_id, fields, SUBSCRIBED)  # type: ignore[misc]
        )
        assert isinstance(error, NotFound)
        assert error.detail == f"There is no contact {contact_id}."
        assert (error.resource, error.identifier) == ("contact", str(contact_id))


# Deleting.


async def test_deleting_from_the_last_audience_removes_the_contact(town: Town) -> None:
    member = await town.member()
    contact_id = member.contact.id
    await town.repository(ContactTagRepository).change(TagChange(contact_id, add=names("a", "b")))
    await town.events()
    await town.subscribers.delete(contact_id)
    assert await town.events() == [("contact.deleted", {"contact": contact_id, "removed_count": 2})]
    with pytest.raises(NotFound):
        await town.repository(ContactRepository).get(contact_id)
    await assert_sound(town.workspace.database, town.workspace.principal.workspace_id)


async def test_deleting_from_one_audience_of_several_leaves_it(town: Town) -> None:
    member = await town.member(first_name="Ada")
    contact_id = member.contact.id
    tags = town.repository(ContactTagRepository)
    await town.elsewhere("ada@example.com")
    await tags.change(TagChange(contact_id, add=names("a", "b")))
    await tags.change(TagChange(contact_id, add=names("a")), audience="courses")
    there = await town.subscribers.get("id", contact_id, audience="courses")
    await town.events()
    await town.subscribers.delete(contact_id)
    assert await town.events() == [
        ("contact.left", {"audience": "newsletter", "contact": contact_id, "removed_count": 2})
    ]
    assert await town.audiences_of(contact_id) == ["courses"]
    assert await town.tags_of(contact_id, "courses") == ["a"]
    assert await town.subscribers.find("id", contact_id) is None
    assert await town.subscribers.get("id", contact_id, audience="courses") == there
    await town.subscribers.delete(contact_id, audience="courses")
    assert [kind for kind, _ in await town.events()] == ["contact.deleted"]
    await assert_sound(town.workspace.database, town.workspace.principal.workspace_id)


async def test_who_is_no_member_cannot_be_deleted(town: Town) -> None:
    elsewhere = await town.elsewhere("ada@example.com")
    for contact_id in (elsewhere.id, uuid4()):
        error = await town.refused(lambda contact_id=contact_id: town.subscribers.delete(contact_id))  # type: ignore[misc]
        assert isinstance(error, NotFound)
        assert error.detail == f"There is no contact {contact_id}."


async def test_who_was_deleted_is_not_there_any_more(town: Town) -> None:
    member = await town.member()
    await town.subscribers.delete(member.contact.id)
    for unit in (
        lambda: town.subscribers.delete(member.contact.id),
        lambda: town.subscribers.get("id", member.contact.id),
        lambda: town.subscribers.update(member.contact.id, {"first_name": "Eve"}),
    ):
        assert isinstance(await town.refused(unit), NotFound)


# Making or changing.

SUPPRESSED = SubscriberChange(suppressions={"global_unsubscribed": True})
EVERYTHING = SubscriberChange(
    own=SubscriptionChange("subscribed", verified=True),
    audience_wide=SubscriptionChange("unsubscribed", "bored", has_reason=True),
    email_validation=EmailValidationChange("valid", "smtp", EARLIER, has_time=True),
    suppressions={"global_unsubscribed": True, "hard_bounced": True, "complained": True},
)


async def test_an_upsert_makes_one(town: Town) -> None:
    made = await town.subscribers.upsert({"email": "ada@example.com"}, EVERYTHING, tags=names("New"))
    assert made
    contact_id = made.contact.id
    assert made.own
    assert (made.own.status, made.own.verified_at) == ("subscribed", made.joined_at)
    assert made.audience_wide == Subscription("unsubscribed", "bored", None, made.joined_at)
    assert made.email_validation == EmailValidation("valid", "smtp", EARLIER)
    times = (made.global_unsubscribed_at, made.hard_bounced_at, made.complained_at)
    assert times == (made.joined_at,) * 3
    # Unsubscribed from everything.
    assert not made.subscribed
    assert await town.tags_of(contact_id) == ["new"]
    assert await town.events() == [
        created(contact_id),
        joined(contact_id),
        ("tag.created", {"audience": "newsletter"}),
        tagged(contact_id),
        updated(
            contact_id,
            "email_validation_status",
            "email_validation_reason",
            "email_validated_at",
            "global_unsubscribed_at",
            "hard_bounced_at",
            "complained_at",
        ),
        agreed(contact_id, "verified_at"),
        agreed(contact_id, "status", "reason"),
    ]


async def test_the_same_upsert_again_writes_nothing(town: Town) -> None:
    """All that was first so keeps its time."""
    fields: ContactFields = {"email": "ada@example.com", "first_name": "Ada"}
    made = await town.subscribers.upsert(fields, EVERYTHING, tags=names("New"))
    await town.changes_nothing(lambda: town.subscribers.upsert(fields, EVERYTHING, tags=names("New")))
    assert await town.subscribers.upsert(fields, EVERYTHING) == made
    assert await town.subscribers.upsert(fields, SubscriberChange()) == made
    assert await town.subscribers.upsert(fields, SubscriberChange(), joins=False) == made


async def test_an_upsert_changes_what_it_carries(town: Town) -> None:
    fields: ContactFields = {"email": "ada@example.com", "first_name": "Ada"}
    made = await town.subscribers.upsert(fields, EVERYTHING, tags=names("a"))
    await town.events()
    assert made
    contact_id = made.contact.id
    changed = await town.subscribers.upsert(
        {"email": "ADA@example.com", "last_name": "King"},
        SubscriberChange(
            audience_wide=SubscriptionChange("subscribed"),
            email_validation=EmailValidationChange("invalid", ""),
            suppressions={"hard_bounced": False, "complained": True},
        ),
        tags=names("b"),
    )
    assert changed
    assert changed.contact.id == contact_id
    person = changed.contact
    assert (person.email, person.first_name, person.last_name) == ("ada@example.com", "Ada", "King")
    assert changed.own == made.own
    assert changed.audience_wide == Subscription("subscribed", None, None, None)
    assert changed.email_validation.status == "invalid"
    assert changed.email_validation.validated_at
    assert changed.email_validation.validated_at > EARLIER
    assert changed.hard_bounced_at is None
    assert (changed.global_unsubscribed_at, changed.complained_at) == (made.global_unsubscribed_at, made.complained_at)
    # Tags are added.
    assert await town.tags_of(contact_id) == ["a", "b"]
    assert await town.events() == [
        updated(contact_id, "last_name"),
        ("tag.created", {"audience": "newsletter"}),
        tagged(contact_id),
        updated(
            contact_id, "email_validation_status", "email_validation_reason", "email_validated_at", "hard_bounced_at"
        ),
        agreed(contact_id, "status", "reason"),
    ]


async def test_an_upsert_of_one_who_is_known_elsewhere(town: Town) -> None:
    elsewhere = await town.elsewhere("ada@example.com", first_name="Ada")
    await town.events()
    made = await town.subscribers.upsert({"email": "ada@example.com"}, SubscriberChange(own=UNSUBSCRIBED))
    assert made
    assert made.contact == elsewhere
    assert made.own
    assert made.own.status == "unsubscribed"
    assert await town.events() == [joined(elsewhere.id)]


async def test_a_reason_comes_along_with_the_status_of_an_upsert(town: Town) -> None:
    """Of one who joins, and of one who is there; the same status again keeps the reason that it had."""
    for reason, kept in (("bored", "bored"), ("annoyed", "bored")):
        change = SubscriberChange(own=SubscriptionChange("unsubscribed", reason))
        done = await town.subscribers.upsert({"email": "ada@example.com"}, change)
        assert done
        assert done.own
        assert (done.own.status, done.own.reason) == ("unsubscribed", kept)
    await town.subscribers.upsert({"email": "ada@example.com"}, SubscriberChange(own=SUBSCRIBED))
    done = await town.subscribers.upsert({"email": "ada@example.com"}, change)
    assert done
    assert done.own
    assert done.own.reason == "annoyed"


async def test_an_upsert_without_a_change_of_ones_own_makes_no_agreement(town: Town) -> None:
    made = await town.subscribers.upsert({"email": "ada@example.com"}, SubscriberChange())
    assert made
    assert (made.own, made.audience_wide) == (None, None)
    assert await town.events() == [created(made.contact.id), joined(made.contact.id)]


@pytest.mark.parametrize("known", [True, False])
async def test_an_upsert_that_does_not_join(town: Town, known: bool) -> None:
    """What is known of the address is written; who is no member agrees to nothing."""
    if known:
        await town.elsewhere("ada@example.com")
        await town.events()
    change = replace(EVERYTHING, email_validation=None)
    assert await town.subscribers.upsert({"email": "ada@example.com"}, change, joins=False) is None
    events = await town.events()
    contact_id = events[-1][1]["contact"]
    assert events == [
        *([] if known else [created(contact_id)]),
        updated(contact_id, "global_unsubscribed_at", "hard_bounced_at", "complained_at"),
    ]
    assert await town.audiences_of(contact_id) == (["courses"] if known else [])
    await town.changes_nothing(
        lambda: town.subscribers.upsert({"email": "ada@example.com"}, SubscriberChange(own=SUBSCRIBED), joins=False)
    )
    # It is there when it joins.
    made = await town.subscribers.upsert({"email": "ada@example.com"}, SubscriberChange(own=SUBSCRIBED))
    assert made
    assert made.contact.id == contact_id
    assert made.global_unsubscribed_at == made.complained_at == made.hard_bounced_at is not None
    assert not made.subscribed


async def test_an_upsert_that_need_not_join_changes_a_member(town: Town) -> None:
    member = await town.member()
    change = SubscriberChange(own=UNSUBSCRIBED, suppressions={"global_unsubscribed": True})
    changed = await town.subscribers.upsert({"email": "ada@example.com"}, change, joins=False)
    assert changed
    assert changed.own
    assert changed.own.status == "unsubscribed"
    assert changed.global_unsubscribed_at
    contact_id = member.contact.id
    assert await town.events() == [updated(contact_id, "global_unsubscribed_at"), agreed(contact_id, "status")]


async def test_what_an_upsert_finds_out_is_known_in_every_audience(town: Town) -> None:
    await town.member()
    await town.elsewhere("ada@example.com")
    await town.subscribers.upsert({"email": "ada@example.com"}, EVERYTHING)
    there = await town.subscribers.get("email", "ada@example.com", audience="courses")
    assert there.email_validation == EmailValidation("valid", "smtp", EARLIER)
    assert there.global_unsubscribed_at
    assert not there.subscribed
    # What was agreed is not.
    assert (there.own, there.audience_wide) == (Subscription("subscribed", None, None, None), None)


async def test_an_upsert_that_cannot_be_stored_writes_nothing(town: Town) -> None:
    await town.member()
    for email in ("ada@example.com", "new@example.com"):
        fields: ContactFields = {"email": email, **TOO_LARGE}
        error = await town.refused(
            lambda fields=fields: town.subscribers.upsert(fields, EVERYTHING, tags=names("New"))  # type: ignore[misc]
        )
        assert isinstance(error, InvalidInput)
        assert error.code == "too_large"


async def test_who_joined_by_an_upsert_of_contacts(town: Town) -> None:
    """The audience in force, that is; and of several items for one contact the first."""
    upserts = town.repository(ContactUpsertRepository)

    async def joined_by(*new: NewContact, audience: str | None = None) -> list[bool]:
        return [one.joined for one in await upserts.upsert(new, audience=audience)]

    ada: ContactFields = {"email": "ada@example.com"}
    assert await joined_by(NewContact(ada, [])) == [False]
    assert await joined_by(NewContact(ada, ["courses"])) == [False]
    assert await joined_by(NewContact(ada, ["courses"]), NewContact(ada), NewContact(ada)) == [True, False, False]
    assert await joined_by(NewContact(ada)) == [False]
    eve: ContactFields = {"email": "eve@example.com"}
    assert await joined_by(NewContact(ada), NewContact(eve, ["courses", "newsletter"])) == [False, True]
    zoe: ContactFields = {"email": "zoe@example.com"}
    assert await joined_by(NewContact(eve), NewContact(zoe), audience="courses") == [False, True]


# What was found out about an address.

NOW = datetime(2026, 6, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("before", "change", "expected"),
    [
        # Found for the first time, and found to be so again.
        (UNVALIDATED, EmailValidationChange("valid", ""), EmailValidation("valid", "", NOW)),
        (
            EmailValidation("valid", "", EARLIER),
            EmailValidationChange("valid", ""),
            EmailValidation("valid", "", EARLIER),
        ),
        (EmailValidation("valid", "", None), EmailValidationChange("valid", ""), EmailValidation("valid", "", NOW)),
        # Another status, or another reason.
        (
            EmailValidation("valid", "", EARLIER),
            EmailValidationChange("invalid", ""),
            EmailValidation("invalid", "", NOW),
        ),
        (
            EmailValidation("invalid", "a", EARLIER),
            EmailValidationChange("invalid", "b"),
            EmailValidation("invalid", "b", NOW),
        ),
        # A time of its own is taken, none too.
        (
            EmailValidation("valid", "", EARLIER),
            EmailValidationChange("valid", "", LATER, has_time=True),
            EmailValidation("valid", "", LATER),
        ),
        (
            EmailValidation("valid", "", EARLIER),
            EmailValidationChange("valid", "", None, has_time=True),
            EmailValidation("valid", "", None),
        ),
        (
            UNVALIDATED,
            EmailValidationChange("unknown", "", LATER, has_time=True),
            EmailValidation("unknown", "", LATER),
        ),
        # A time is passed over unless it is said that there is one.
        (UNVALIDATED, EmailValidationChange("valid", "", LATER), EmailValidation("valid", "", NOW)),
        # What is not known was not found.
        (
            EmailValidation("valid", "", EARLIER),
            EmailValidationChange("unknown", ""),
            EmailValidation("unknown", "", None),
        ),
        (
            EmailValidation("unknown", "", EARLIER),
            EmailValidationChange("unknown", ""),
            EmailValidation("unknown", "", None),
        ),
        (UNVALIDATED, EmailValidationChange("unknown", "slow"), EmailValidation("unknown", "slow", None)),
    ],
)
def test_what_is_known_of_an_address_after_a_change(
    before: EmailValidation, change: EmailValidationChange, expected: EmailValidation
) -> None:
    assert change.applied(before, NOW) == expected


@pytest.mark.parametrize(
    ("own", "global_unsubscribed_at", "subscribed"),
    [
        (None, None, False),
        (Subscription("pending", None, None, None), None, False),
        (Subscription("unsubscribed", None, None, NOW), None, False),
        (Subscription("subscribed", None, None, None), None, True),
        (Subscription("subscribed", None, None, None), NOW, False),
    ],
)
async def test_who_may_be_written_to(
    town: Town, own: Subscription | None, global_unsubscribed_at: datetime | None, subscribed: bool
) -> None:
    member = replace(await town.member(), own=own, global_unsubscribed_at=global_unsubscribed_at)
    assert member.subscribed is subscribed
    # What was agreed with the audience as a whole is another thing.
    assert replace(member, audience_wide=Subscription("unsubscribed", None, None, NOW)).subscribed is subscribed


# Finding.


async def test_finding_one(town: Town) -> None:
    member = await town.member("Ada@Example.com")
    await town.member("eve@example.com")
    for key, value in (
        ("id", member.contact.id),
        ("number", member.contact.number),
        ("email", "ada@example.COM"),
        ("email", " ada@example.com "),
    ):
        assert await town.subscribers.find(key, value) == member  # type: ignore[arg-type]
        assert await town.subscribers.get(key, value) == member  # type: ignore[arg-type]


async def test_finding_nobody(town: Town) -> None:
    """Who is in another audience or another workspace is as unknown as who never was."""
    await town.member()
    elsewhere = await town.elsewhere("eve@example.com")
    stranger = await Town(await make_workspace(town.workspace.database)).member("zoe@example.com")
    for contact in (elsewhere, stranger.contact):
        for key, value in (("id", contact.id), ("number", contact.number), ("email", contact.email)):
            assert await town.subscribers.find(key, value) is None  # type: ignore[arg-type]
            with pytest.raises(NotFound, match=f"There is no contact {value}"):
                await town.subscribers.get(key, value)  # type: ignore[arg-type]
    assert await town.subscribers.find("number", 0) is None
    assert await town.subscribers.find("id", uuid4()) is None
    there = await town.subscribers.get("id", elsewhere.id, audience="courses")
    assert there.contact == elsewhere


async def test_another_workspace_is_not_changed(town: Town) -> None:
    """By its id it is unknown; by its email it is another person, who may be made here."""
    other = Town(await make_workspace(town.workspace.database))
    stranger = await other.member("ada@example.com", first_name="Zoe")
    before = await state_of(other.workspace)
    for unit in (
        lambda: town.subscribers.update(stranger.contact.id, {"first_name": "Eve"}, UNSUBSCRIBED),
        lambda: town.subscribers.delete(stranger.contact.id),
    ):
        assert isinstance(await town.refused(unit), NotFound)
    made = await town.subscribers.create({"email": "ada@example.com"}, own=SUBSCRIBED)
    assert made.contact.id != stranger.contact.id
    upserted = await town.subscribers.upsert({"email": "ada@example.com"}, EVERYTHING)
    assert upserted
    assert upserted.contact.id == made.contact.id
    assert await state_of(other.workspace) == before


async def test_several_by_id(town: Town) -> None:
    ada, eve = await town.member("ada@example.com"), await town.member("eve@example.com")
    elsewhere = await town.elsewhere("zoe@example.com")
    wanted = [eve.contact.id, uuid4(), ada.contact.id, elsewhere.id, eve.contact.id]
    assert await town.subscribers.get_many(wanted) == {ada.contact.id: ada, eve.contact.id: eve}
    assert (await town.subscribers.get_many(wanted, audience="courses")).keys() == {elsewhere.id}
    await town.subscribers.delete(eve.contact.id)
    assert await town.subscribers.get_many(wanted) == {ada.contact.id: ada}
    assert await town.subscribers.get_many([]) == {}


async def test_to_each_client_its_own_agreement(town: Town) -> None:
    member = await town.member()
    other = Town(await of_client(town.workspace, "app"))
    await other.subscribers.upsert(
        {"email": "ada@example.com"}, SubscriberChange(own=UNSUBSCRIBED, audience_wide=SubscriptionChange("pending"))
    )
    mine, theirs = (
        await town.subscribers.get("id", member.contact.id),
        await other.subscribers.get("id", member.contact.id),
    )
    assert (mine.own, mine.subscribed) == (member.own, True)
    assert theirs.own
    assert (theirs.own.status, theirs.subscribed) == ("unsubscribed", False)
    assert mine.audience_wide == theirs.audience_wide == Subscription("pending", None, None, None)


# The audience in force.

VERBS: dict[str, Callable[[SubscriberRepository, UUID, str | None], Awaitable[object]]] = {
    "find": lambda subscribers, contact_id, audience: subscribers.find("id", contact_id, audience=audience),
    "get": lambda subscribers, contact_id, audience: subscribers.get("id", contact_id, audience=audience),
    "get_many": lambda subscribers, contact_id, audience: subscribers.get_many([contact_id], audience=audience),
    "list": lambda subscribers, _, audience: subscribers.list(PageRequest(), audience=audience),
    "ids_by_number": lambda subscribers, _, audience: subscribers.ids_by_number([1], audience=audience),
    "list_by_last_name": lambda subscribers, _, audience: subscribers.list_by_last_name(
        PageRequest(), audience=audience
    ),
    "put": lambda subscribers, _, audience: subscribers.put({"email": "new@example.com"}, audience=audience),
    "create": lambda subscribers, _, audience: subscribers.create(
        {"email": "new@example.com"}, own=SUBSCRIBED, audience=audience
    ),
    "upsert": lambda subscribers, _, audience: subscribers.upsert(
        {"email": "new@example.com"}, EVERYTHING, audience=audience
    ),
    "overwrite": lambda subscribers, _, audience: subscribers.overwrite(
        {"email": "new@example.com"}, audience=audience
    ),
    "update": lambda subscribers, contact_id, audience: subscribers.update(contact_id, {}, audience=audience),
    "delete": lambda subscribers, contact_id, audience: subscribers.delete(contact_id, audience=audience),
}


def test_no_verb_is_left_out() -> None:
    assert VERBS.keys() == {
        name for name in vars(SubscriberRepository) if not name.startswith("_") and name not in vars(Repository)
    }


@pytest.mark.parametrize("verb", VERBS)
async def test_an_audience_that_is_not_there(town: Town, verb: str) -> None:
    member = await town.member()
    error = await town.refused(lambda: VERBS[verb](town.subscribers, member.contact.id, "nowhere"))
    assert isinstance(error, InvalidInput)
    assert [(field.location, field.code) for field in error.errors] == [(("query", "audience"), "unknown_audience")]


@pytest.mark.parametrize("verb", VERBS)
async def test_a_key_without_an_audience_must_name_one(town: Town, verb: str) -> None:
    member = await town.member()
    subscribers = without_default_audience(town.workspace, SubscriberRepository)
    error = await town.refused(lambda: VERBS[verb](subscribers, member.contact.id, None))
    assert isinstance(error, InvalidInput)
    assert error.code == "audience_required"
    await VERBS[verb](subscribers, member.contact.id, "newsletter")


# Listing.


async def walked(town: Town, limit: int = 2, **filters: Any) -> list[str]:
    """The emails of a list, page by page. Its total must be their number."""
    emails: list[str] = []
    page = await town.subscribers.list(PageRequest(limit), include_total=True, **filters)
    first = page
    while True:
        emails += [one.contact.email for one in page.items]
        if page.next_cursor is None:
            break
        assert len(page.items) == limit
        page = await town.subscribers.list(PageRequest(limit, cursor=page.next_cursor), **filters)
        assert page.total is None
    assert first.total == len(emails)
    return emails


@pytest.fixture
async def crowd(town: Town) -> Town:
    """Five members, of whom each agreed to something else, and some others elsewhere."""
    subscribers = town.subscribers
    changes = {
        "e": SubscriberChange(own=SUBSCRIBED),
        "d": SubscriberChange(own=SUBSCRIBED, suppressions={"global_unsubscribed": True}),
        "c": SubscriberChange(own=UNSUBSCRIBED),
        "b": SubscriberChange(own=SubscriptionChange()),
        "a": SubscriberChange(audience_wide=SUBSCRIBED),
    }
    for name, change in changes.items():
        await subscribers.upsert({"email": f"{name}@example.com"}, change, tags=names("all", f"tag-{name}"))
    for name in "abz":
        await subscribers.upsert({"email": f"{name}@example.com"}, SubscriberChange(own=SUBSCRIBED), audience="courses")
    return town


def emails(letters: str) -> list[str]:
    return [f"{letter}@example.com" for letter in letters]


async def test_all_members(crowd: Town) -> None:
    """By id, which is the order in which they were made."""
    assert await walked(crowd) == emails("edcba")
    assert sorted(await walked(crowd, audience="courses")) == emails("abz")
    page = await crowd.subscribers.list(PageRequest(3, offset=1))
    assert [one.contact.email for one in page.items] == emails("dcb")
    assert page.total is None
    for one in page.items:
        assert one == await crowd.subscribers.get("id", one.contact.id)


async def test_members_by_what_they_agreed_to(crowd: Town) -> None:
    assert await walked(crowd, subscribed=True) == emails("e")
    assert await walked(crowd, subscribed=False) == emails("dcba")
    assert await walked(crowd, statuses=["subscribed"]) == emails("ed")
    assert await walked(crowd, statuses=["pending", "unsubscribed"]) == emails("cb")
    assert await walked(crowd, statuses=["pending", "subscribed", "unsubscribed"]) == emails("edcb")
    assert await walked(crowd, subscribed=False, statuses=["subscribed"]) == emails("d")
    # Elsewhere it is another agreement, and to another client there is none.
    assert sorted(await walked(crowd, subscribed=True, audience="courses")) == emails("abz")
    other = Town(await of_client(crowd.workspace, "app"))
    assert (await walked(other, subscribed=True), await walked(other, statuses=["pending"])) == ([], [])
    assert await walked(other, subscribed=False) == emails("edcba")


async def test_members_by_email_and_tags(crowd: Town) -> None:
    assert await walked(crowd, search="") == emails("abcde")
    assert await walked(crowd, search="D@") == emails("d")
    both = TagFilter(all=[NamedTag("all", ())], none=[NamedTag("tag-d", ())])
    assert await walked(crowd, tags=both) == emails("ecba")
    assert await walked(crowd, tags=both, search="", statuses=["subscribed", "pending"]) == emails("be")


async def test_a_tag_that_is_not_there(crowd: Town) -> None:
    tags = TagFilter(all=[NamedTag("all", ()), NamedTag("nothing", ("query", "tags"))])
    with pytest.raises(InvalidInput) as refused:
        await crowd.subscribers.list(PageRequest(), tags=tags)
    assert [(field.location, field.code) for field in refused.value.errors] == [(("query", "tags"), "unknown_tag")]
    page = await crowd.subscribers.list(PageRequest(2, offset=1), tags=tags, unknown_tags="nobody")
    assert (page.items, page.next_cursor, page.request) == ([], None, PageRequest(2, offset=1))
    # What else is wrong is not passed over.
    with pytest.raises(InvalidInput) as refused:
        await crowd.subscribers.list(PageRequest(), tags=tags, unknown_tags="nobody", audience="nowhere")
    assert refused.value.code == "unknown_audience"


async def test_one_who_leaves_while_a_page_is_read(crowd: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """It falls out of the page; the walk goes on behind it."""
    listed = ContactSearchRepository.list

    async def list_and_leave(self: ContactSearchRepository, *args: Any, **options: Any) -> Page[Contact]:
        page = await listed(self, *args, **options)
        await crowd.repository(ContactRepository).delete(page.items[-1].id)
        return page

    with monkeypatch.context() as patched:
        patched.setattr(ContactSearchRepository, "list", list_and_leave)
        page = await crowd.subscribers.list(PageRequest(3))
    assert [one.contact.email for one in page.items] == emails("ed")
    assert page.next_cursor
    following = await crowd.subscribers.list(PageRequest(3, cursor=page.next_cursor))
    assert [one.contact.email for one in following.items] == emails("ba")


async def test_finding_out_what_was_known_is_no_change(town: Town) -> None:
    """An address that nobody looked at is one of which nothing is known."""
    made = await town.subscribers.create({"email": "ada@example.com"}, own=SUBSCRIBED)
    await town.events()
    nothing = SubscriberChange(email_validation=EmailValidationChange("unknown", ""))
    assert await town.subscribers.upsert({"email": "ada@example.com"}, nothing) == made
    assert await town.events() == []
    found = SubscriberChange(email_validation=EmailValidationChange("valid", ""))
    await town.subscribers.upsert({"email": "ada@example.com"}, found)
    changed = updated(made.contact.id, "email_validation_status", "email_validated_at")
    assert await town.events() == [changed]


@pytest.mark.parametrize("sent", ["GRACE@example.com", "grace@EXAMPLE.com"])
async def test_an_address_that_finds_somebody_stays_as_it_is(town: Town, sent: str) -> None:
    """Whoever finds a contact by its email, unseen in another audience even, does not spell it anew."""
    made = await town.subscribers.create({"email": "Grace@example.com"}, own=SUBSCRIBED, audience="courses")
    await town.events()
    await town.subscribers.upsert({"email": sent}, SUPPRESSED, joins=False)
    await town.subscribers.upsert({"email": sent}, SubscriberChange(own=SUBSCRIBED))
    joined_too = await town.subscribers.get("email", sent)
    assert joined_too.contact.email == made.contact.email == "Grace@example.com"
    assert joined_too.contact.id == made.contact.id
    contact_id = made.contact.id
    assert await town.events() == [updated(contact_id, "global_unsubscribed_at"), joined(contact_id)]
    await town.subscribers.delete(contact_id)
    again = await town.subscribers.create({"email": sent}, own=SUBSCRIBED)
    assert again.contact.email == "Grace@example.com"
