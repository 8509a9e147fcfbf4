"""Upsert and status: what a call without a field leaves alone, and what is known of an address."""

from datetime import UTC, datetime
from typing import Any

import pytest
from starlette.types import ASGIApp

from tests.conftest import Api
from tests.dialects.datamailer.calls import (
    SCOPE,
    STATUS_KEYS,
    call,
    colleague,
    colleagues,
    status_of,
    subscribe,
    unsubscribe,
    upsert,
)
from tests.dialects.datamailer.worlds import is_recent
from tests.routers.calls import Json, answered, run, state_of


def agreement(answer: Json) -> Json:
    own: Json = answer["client"]
    return own


async def test_a_new_contact_is_pending_and_not_verified(api: Api) -> None:
    made = await upsert(api, " Ada@Example.COM ")
    assert made == {
        "contact_id": made["contact_id"],
        "email": "ada@example.com",
        "exists": True,
        "verified": False,
        "verified_at": None,
        "email_validation": {"status": "unknown", "reason": "", "validated_at": None},
        "global_unsubscribed": False,
        "hard_bounced": False,
        "complained": False,
        "audience": {"slug": "newsletter", **NOTHING},
        "client": {"slug": "web", **NOTHING, "status": "pending"},
        "can_send_marketing": False,
        "can_send_transactional": True,
        "tags": [],
    }
    assert list(made) == [*STATUS_KEYS, "tags"]


NOTHING = {
    "subscribed": False,
    "status": None,
    "verified": False,
    "verified_at": None,
    "unsubscribed_at": None,
    "unsubscribe_reason": "",
}


@pytest.mark.parametrize("status", ["pending", "subscribed", "unsubscribed"])
async def test_a_status_is_taken(api: Api, status: str) -> None:
    own = agreement(await upsert(api, status=status))
    assert (own["status"], own["subscribed"]) == (status, status == "subscribed")
    assert is_recent(own["unsubscribed_at"]) is (status == "unsubscribed")


@pytest.mark.parametrize("status", ["pending", "subscribed", "unsubscribed"])
@pytest.mark.parametrize("left_out", [{}, {"status": None}, {"status": ""}], ids=str)
async def test_an_upsert_without_a_status_or_verified_leaves_them(api: Api, status: str, left_out: Json) -> None:
    """The vendor takes a subscription back to pending, and a confirmation back."""
    first = await upsert(api, status=status, verified=True)
    again = await upsert(api, tags=["vip"], **left_out)
    assert again == {**first, "tags": ["vip"]}


async def test_verified_is_given_and_taken(api: Api) -> None:
    """It is the agreement's, not the contact's; the time is that of the first."""
    first = await upsert(api, verified=True)
    assert is_recent(agreement(first)["verified_at"])
    assert (first["verified"], first["verified_at"]) == (False, None)
    assert await upsert(api, verified=True) == first
    taken = agreement(await upsert(api, verified=False))
    assert (taken["verified"], taken["verified_at"]) == (False, None)
    given = agreement(await upsert(api, verified=True))
    assert given["verified_at"] > agreement(first)["verified_at"]


async def test_tags_are_added_and_never_removed(api: Api) -> None:
    assert (await upsert(api, tags=["ML Zoomcamp", "lead"]))["tags"] == ["lead", "ml-zoomcamp"]
    assert (await upsert(api, tags=["events", "LEAD"]))["tags"] == ["events", "lead", "ml-zoomcamp"]
    assert (await upsert(api))["tags"] == ["events", "lead", "ml-zoomcamp"]


async def test_what_changes_nothing_writes_nothing(api: Api) -> None:
    everything: Json = {
        "status": "subscribed",
        "verified": True,
        "tags": ["vip"],
        "email_validation": {"status": "valid", "reason": "smtp"},
        "suppression": {"complained": True, "hard_bounced": False},
    }
    first = await upsert(api, **everything)
    before = await state_of(api.workspace)
    assert await upsert(api, **everything) == first
    assert await state_of(api.workspace) == before


async def test_a_refused_field_leaves_the_whole_call_undone(api: Api) -> None:
    before = await state_of(api.workspace)
    body = {**SCOPE, "email": "ada@example.com", "status": "subscribed", "tags": ["vip"]}
    await call(api, "POST", "/api/contacts", {**body, "suppression": {"complained": "no"}}, 400)
    assert await state_of(api.workspace) == before


class TestEmailValidation:
    """When something was found out of an address is the time of the first time that it was found."""

    async def test_it_is_kept_with_its_time(self, api: Api) -> None:
        first = (await upsert(api, email_validation={"status": "valid", "reason": " smtp "}))["email_validation"]
        assert (first["status"], first["reason"]) == ("valid", "smtp")
        assert is_recent(first["validated_at"])
        again = await upsert(api, email_validation={"status": "valid", "reason": "smtp"})
        assert again["email_validation"] == first
        assert (await upsert(api))["email_validation"] == first

    @pytest.mark.parametrize("other", [{"status": "risky", "reason": "smtp"}, {"status": "valid", "reason": "api"}])
    async def test_another_finding_has_another_time(self, api: Api, other: Json) -> None:
        first = (await upsert(api, email_validation={"status": "valid", "reason": "smtp"}))["email_validation"]
        second = (await upsert(api, email_validation=other))["email_validation"]
        assert second == {**other, "validated_at": second["validated_at"]}
        assert second["validated_at"] > first["validated_at"]

    @pytest.mark.parametrize(
        ("given", "kept"),
        [
            ("2026-01-02T03:04:05.678901Z", "2026-01-02T03:04:05.678901Z"),
            ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z"),
            ("2026-01-02T03:04:05+02:00", "2026-01-02T01:04:05Z"),
            ("2026-01-02 03:04", "2026-01-02T03:04:00Z"),
            (None, None),
            ("", None),
        ],
    )
    async def test_a_time_of_its_own(self, api: Api, given: str | None, kept: str | None) -> None:
        made = await upsert(api, email_validation={"status": "valid", "validated_at": given})
        assert made["email_validation"] == {"status": "valid", "reason": "", "validated_at": kept}
        assert (await status_of(api))["email_validation"] == made["email_validation"]

    @pytest.mark.parametrize("forgotten", [{}, {"status": "unknown"}, {"status": None}, {"status": "", "reason": None}])
    async def test_unknown_forgets(self, api: Api, forgotten: Json) -> None:
        await upsert(api, email_validation={"status": "no_mx", "reason": "dns"})
        made = await upsert(api, email_validation=forgotten)
        assert made["email_validation"] == {"status": "unknown", "reason": "", "validated_at": None}

    @pytest.mark.parametrize("left_out", [None, ""])
    async def test_left_out_it_stays(self, api: Api, left_out: object) -> None:
        first = await upsert(api, email_validation={"status": "no_mx", "reason": "dns"})
        assert await upsert(api, email_validation=left_out) == first

    async def test_it_is_the_address_own_in_every_audience(self, app: ASGIApp, api: Api) -> None:
        shop = await colleague(api.workspace, client="shop", audience="courses")
        first = await upsert(api, email_validation={"status": "disposable"})
        async with colleagues(app, shop) as [other]:
            found = await upsert(other, client="shop", audience="courses")
        assert found["email_validation"] == first["email_validation"]


class TestSuppression:
    """Flags that keep the time at which they were first set."""

    @pytest.mark.parametrize("name", ["global_unsubscribed", "hard_bounced", "complained"])
    async def test_a_flag_is_set_kept_and_taken(self, api: Api, name: str) -> None:
        flags = dict.fromkeys(("global_unsubscribed", "hard_bounced", "complained"), False)
        made = await upsert(api, suppression={name: True})
        assert {key: made[key] for key in flags} == {**flags, name: True}
        first = await self.time_of(api, name)
        assert first is not None
        for body in ({}, {name: True}, {"other": 1}):
            assert (await upsert(api, suppression=body))[name] is True
            assert await self.time_of(api, name) == first
        for left_out in (None, ""):
            assert (await upsert(api, suppression=left_out))[name] is True
        assert (await upsert(api, suppression={name: False}))[name] is False
        assert await self.time_of(api, name) is None
        await upsert(api, suppression={name: True})
        second = await self.time_of(api, name)
        assert second is not None
        assert second > first

    async def time_of(self, api: Api, name: str) -> datetime | None:
        [row] = await run(
            api.workspace.database,
            f"select {name}_at as at from contacts where workspace_id = :workspace_id",
            workspace_id=api.workspace.principal.workspace_id,
        )
        at: datetime | None = row["at"]
        return at


class TestWhetherItMayBeWrittenTo:
    """`can_send_marketing` wants a confirmed subscription and nothing against it; `can_send_transactional` less."""

    @pytest.mark.parametrize(
        ("fields", "marketing", "transactional"),
        [
            ({}, True, True),
            ({"verified": False}, False, True),
            ({"status": "pending"}, False, True),
            ({"status": "unsubscribed"}, False, True),
            ({"suppression": {"global_unsubscribed": True}}, False, True),
            ({"suppression": {"hard_bounced": True}}, False, False),
            ({"suppression": {"complained": True}}, False, False),
            *(
                ({"email_validation": {"status": status}}, status in {"unknown", "valid", "externally_validated"}, True)
                for status in (
                    "unknown",
                    "valid",
                    "invalid_syntax",
                    "no_mx",
                    "disposable",
                    "risky",
                    "manually_invalid",
                    "externally_validated",
                )
            ),
        ],
    )
    async def test_by_one_thing(self, api: Api, fields: Json, marketing: bool, transactional: bool) -> None:
        made = await upsert(api, **{"status": "subscribed", "verified": True, **fields})
        assert made["can_send_marketing"] is marketing
        assert made["can_send_transactional"] is transactional
        assert (await status_of(api))["can_send_marketing"] is marketing

    @pytest.mark.parametrize("confirmed", ["contact", "audience"])
    async def test_another_confirmation_will_do(self, api: Api, confirmed: str) -> None:
        """That of the contact, or of what it agreed to with the audience; no verb sets these here."""
        await upsert(api, status="subscribed")
        await unsubscribe(api, ends="audience")
        assert (await status_of(api))["can_send_marketing"] is False
        statement = {
            "contact": "update contacts set verified_at = :at where workspace_id = :workspace_id",
            "audience": "update subscriptions set verified_at = :at "
            "where workspace_id = :workspace_id and client_id is null",
        }[confirmed]
        at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
        await run(api.workspace.database, statement, at=at, workspace_id=api.workspace.principal.workspace_id)
        found = await status_of(api)
        part = found if confirmed == "contact" else found["audience"]
        assert (part["verified"], part["verified_at"]) == (True, "2026-01-02T03:04:05Z")
        # Who unsubscribed from the audience stays subscribed with this client.
        assert found["can_send_marketing"] is True


class TestStatus:
    """How things stand with an address, without its tags."""

    async def test_it_is_what_an_upsert_answers_without_tags(self, api: Api) -> None:
        made = await upsert(api, status="subscribed", verified=True, tags=["vip"])
        found = await status_of(api, " ADA@example.com\t")
        assert list(found) == STATUS_KEYS
        assert {**found, "tags": ["vip"]} == made

    @pytest.mark.parametrize("email", ["Nobody@Example.com", "straße@example.com"])
    async def test_an_unknown_address_is_no_error(self, api: Api, email: str) -> None:
        before = await state_of(api.workspace)
        found = await status_of(api, email)
        assert found == {
            "contact_id": None,
            "email": email.casefold(),
            "exists": False,
            "verified": False,
            "verified_at": None,
            "email_validation": {"status": "unknown", "reason": "", "validated_at": None},
            "global_unsubscribed": False,
            "hard_bounced": False,
            "complained": False,
            "audience": {"slug": "newsletter", **NOTHING},
            "client": {"slug": "web", **NOTHING},
            "can_send_marketing": False,
            "can_send_transactional": False,
        }
        assert list(found) == STATUS_KEYS
        assert await state_of(api.workspace) == before

    async def test_what_is_known_to_another_audience_is_not_told(self, api: Api) -> None:
        await colleague(api.workspace, audience="courses")
        await upsert(api, suppression={"complained": True}, audience="courses")
        assert (await status_of(api))["complained"] is False
        assert (await status_of(api, audience="courses"))["complained"] is True


async def test_an_address_known_elsewhere_joins_the_audience(api: Api) -> None:
    """One contact of the workspace, whichever audience it is in."""
    await colleague(api.workspace, audience="courses")
    there = await subscribe(api, audience="courses", tags=["python"])
    here = await upsert(api)
    assert (here["contact_id"], here["tags"], agreement(here)["status"]) == (there["contact_id"], [], "pending")
    assert agreement(await status_of(api, audience="courses"))["status"] == "subscribed"


async def test_an_address_counts_whatever_its_case_and_form(api: Api) -> None:
    made = await upsert(api, "Jose\u0301@Example.com")
    again = await upsert(api, "JOS\u00c9@EXAMPLE.COM")
    assert again == made
    assert made["email"] == "jos\u00e9@example.com"


async def test_the_last_of_a_query_that_is_there_twice_counts(api: Api) -> None:
    made = await upsert(api)
    query: list[tuple[str, Any]] = [
        ("email", "bob@example.com"),
        ("audience", "unheard-of"),
        ("client", "mobile"),
        *{**SCOPE, "email": "ada@example.com"}.items(),
    ]
    response = await api.get("/datamailer/api/contacts/status", params=query)
    assert answered(response)["contact_id"] == made["contact_id"]
