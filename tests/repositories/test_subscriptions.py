"""What a member agreed to: the rules of a change, and what it writes."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from app.database import Connection
from app.repositories.subscriptions import Subscription, SubscriptionChange, SubscriptionRepository
from tests.conftest import Workspace
from tests.routers.calls import run, state_of

EARLIER = datetime(2026, 1, 1, tzinfo=UTC)
NOW = datetime(2026, 6, 1, tzinfo=UTC)

PENDING = Subscription("pending", None, None, None)
SUBSCRIBED = Subscription("subscribed", None, EARLIER, None)
UNSUBSCRIBED = Subscription("unsubscribed", "bored", EARLIER, EARLIER)


@pytest.mark.parametrize(
    ("before", "change", "expected"),
    [
        # One that was not there.
        (None, SubscriptionChange(), PENDING),
        (None, SubscriptionChange("pending"), PENDING),
        (None, SubscriptionChange("subscribed"), Subscription("subscribed", None, None, None)),
        (None, SubscriptionChange("unsubscribed"), Subscription("unsubscribed", None, None, NOW)),
        (None, SubscriptionChange("unsubscribed", "bored"), Subscription("unsubscribed", "bored", None, NOW)),
        (None, SubscriptionChange(verified=True), Subscription("pending", None, NOW, None)),
        (None, SubscriptionChange(verified=False), PENDING),
        (None, SubscriptionChange("subscribed", verified=True), Subscription("subscribed", None, NOW, None)),
        (None, SubscriptionChange(None, "odd", has_reason=True), Subscription("pending", "odd", None, None)),
        # What is left out stays as it is.
        (SUBSCRIBED, SubscriptionChange(), SUBSCRIBED),
        (UNSUBSCRIBED, SubscriptionChange(), UNSUBSCRIBED),
        # A status that moves takes its reason along: the one given, or none.
        (SUBSCRIBED, SubscriptionChange("unsubscribed"), Subscription("unsubscribed", None, EARLIER, NOW)),
        (SUBSCRIBED, SubscriptionChange("unsubscribed", "spam"), Subscription("unsubscribed", "spam", EARLIER, NOW)),
        (UNSUBSCRIBED, SubscriptionChange("subscribed"), Subscription("subscribed", None, EARLIER, None)),
        (UNSUBSCRIBED, SubscriptionChange("pending"), Subscription("pending", None, EARLIER, None)),
        (PENDING, SubscriptionChange("subscribed", "asked"), Subscription("subscribed", "asked", None, None)),
        # Unsubscribing again moves neither the time nor the reason of the first.
        (UNSUBSCRIBED, SubscriptionChange("unsubscribed"), UNSUBSCRIBED),
        (UNSUBSCRIBED, SubscriptionChange("unsubscribed", "spam"), UNSUBSCRIBED),
        # Unless it is said that there is another reason, which may be none.
        (
            UNSUBSCRIBED,
            SubscriptionChange("unsubscribed", "spam", has_reason=True),
            replace(UNSUBSCRIBED, reason="spam"),
        ),
        (UNSUBSCRIBED, SubscriptionChange("unsubscribed", has_reason=True), replace(UNSUBSCRIBED, reason=None)),
        (UNSUBSCRIBED, SubscriptionChange(None, "spam", has_reason=True), replace(UNSUBSCRIBED, reason="spam")),
        (UNSUBSCRIBED, SubscriptionChange(None, "spam"), UNSUBSCRIBED),
        (
            UNSUBSCRIBED,
            SubscriptionChange("subscribed", "asked", has_reason=True),
            Subscription("subscribed", "asked", EARLIER, None),
        ),
        # Confirming keeps the time at which it was first so; taking that back forgets it.
        (PENDING, SubscriptionChange(verified=True), Subscription("pending", None, NOW, None)),
        (SUBSCRIBED, SubscriptionChange(verified=True), SUBSCRIBED),
        (SUBSCRIBED, SubscriptionChange(verified=False), replace(SUBSCRIBED, verified_at=None)),
        (SUBSCRIBED, SubscriptionChange("subscribed", verified=False), replace(SUBSCRIBED, verified_at=None)),
        (PENDING, SubscriptionChange(verified=False), PENDING),
    ],
)
def test_an_agreement_after_a_change(
    before: Subscription | None, change: SubscriptionChange, expected: Subscription
) -> None:
    after = change.applied(before, NOW)
    assert after == expected
    # Once it is so, the same change changes nothing.
    assert change.applied(after, datetime(2027, 1, 1, tzinfo=UTC)) == after


@dataclass
class Member:
    """One member of the newsletter, and the agreements that it has there, by client."""

    workspace: Workspace
    contact_id: UUID
    audience_id: UUID

    @property
    def client_id(self) -> UUID:
        return self.workspace.principal.client_id

    async def change(self, client_id: UUID | None, change: SubscriptionChange) -> None:
        async def work(connection: Connection) -> None:
            await self.workspace.repository(SubscriptionRepository).change_within(
                connection,
                audience_id=self.audience_id,
                contact_id=self.contact_id,
                client_id=client_id,
                change=change,
            )

        await self.workspace.database.transaction(work)

    async def agreements(self) -> dict[UUID | None, Subscription]:
        rows = await run(
            self.workspace.database,
            """
            select client_id, status, reason, verified_at, unsubscribed_at from subscriptions
            where workspace_id = :workspace_id and contact_id = :contact_id and audience_id = :audience_id
            """,
            workspace_id=self.workspace.principal.workspace_id,
            contact_id=self.contact_id,
            audience_id=self.audience_id,
        )
        found = {
            row["client_id"]: Subscription(row["status"], row["reason"], row["verified_at"], row["unsubscribed_at"])
            for row in rows
        }
        assert len(found) == len(rows)
        return found

    async def events(self) -> list[tuple[UUID | None, dict[str, Any]]]:
        """Every change of the contact that was recorded, with its audience and what it tells."""
        rows = await run(
            self.workspace.database,
            """
            select audience_id, contact_id, payload from events
            where workspace_id = :workspace_id and type = 'contact.updated' order by sequence
            """,
            workspace_id=self.workspace.principal.workspace_id,
        )
        assert {row["contact_id"] for row in rows} <= {self.contact_id}
        return [(row["audience_id"], row["payload"]) for row in rows]


@pytest.fixture
async def member(workspace: Workspace) -> Member:
    """Subscribed with the key's client. Another contact, which is like it, must never be touched."""
    contact_id, _ = await workspace.make_contacts(2)
    [audience] = await run(
        workspace.database,
        "select id from audiences where workspace_id = :workspace_id",
        workspace_id=workspace.principal.workspace_id,
    )
    return Member(workspace, contact_id, audience["id"])


async def test_changes_of_an_agreement(member: Member) -> None:
    own = member.client_id
    for change, expected, fields in (
        (SubscriptionChange("unsubscribed", "bored"), ("unsubscribed", "bored"), ["status", "reason"]),
        (SubscriptionChange(verified=True), ("unsubscribed", "bored"), ["verified_at"]),
        (SubscriptionChange(None, "spam", has_reason=True), ("unsubscribed", "spam"), ["reason"]),
        (SubscriptionChange("subscribed", verified=False), ("subscribed", None), ["status", "reason", "verified_at"]),
        (SubscriptionChange("pending"), ("pending", None), ["status"]),
    ):
        before = len(await member.events())
        await member.change(own, change)
        [found] = (await member.agreements()).values()
        assert (found.status, found.reason) == expected
        assert (found.unsubscribed_at is not None) is (found.status == "unsubscribed")
        assert (await member.events())[before:] == [(member.audience_id, {"fields": fields})]


async def test_a_change_that_changes_nothing_writes_nothing(member: Member) -> None:
    await member.change(member.client_id, SubscriptionChange("unsubscribed", "bored", verified=True))
    before = await state_of(member.workspace)
    for change in (
        SubscriptionChange(),
        SubscriptionChange("unsubscribed"),
        SubscriptionChange("unsubscribed", "spam"),
        SubscriptionChange("unsubscribed", "bored", has_reason=True, verified=True),
    ):
        await member.change(member.client_id, change)
    assert await state_of(member.workspace) == before


async def test_the_agreement_with_the_audience_is_another_one(member: Member) -> None:
    """It has no client, and there is one of it, however often it is changed."""
    own = await member.agreements()
    await member.change(None, SubscriptionChange(verified=True))
    [(_, wide)] = [item for item in (await member.agreements()).items() if item[0] is None]
    assert wide.status == "pending"
    assert wide.verified_at
    # Of a new one its status is what is told.
    assert await member.events() == [(member.audience_id, {"fields": ["status"]})]
    await member.change(None, SubscriptionChange("unsubscribed"))
    await member.change(None, SubscriptionChange("subscribed"))
    agreements = await member.agreements()
    assert agreements == {**own, None: Subscription("subscribed", None, wide.verified_at, None)}


async def test_changing_one_members_agreement_leaves_the_others_alone(member: Member) -> None:
    rows = """
        select cast(to_jsonb(s) as text) as line from subscriptions s
        where workspace_id = :workspace_id and contact_id <> :contact_id
    """
    values = {"workspace_id": member.workspace.principal.workspace_id, "contact_id": member.contact_id}
    before = [row["line"] for row in await run(member.workspace.database, rows, **values)]
    assert len(before) == 1
    await member.change(member.client_id, SubscriptionChange("unsubscribed", verified=True))
    await member.change(None, SubscriptionChange("unsubscribed"))
    assert [row["line"] for row in await run(member.workspace.database, rows, **values)] == before
