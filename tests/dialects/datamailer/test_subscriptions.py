"""Subscribing and unsubscribing: from a client, from an audience, from everything."""

import pytest
from starlette.types import ASGIApp

from tests.conftest import Api
from tests.dialects.datamailer.calls import (
    SCOPE,
    STATUS_KEYS,
    call,
    colleague,
    colleagues,
    emails,
    put_tags,
    refuse,
    status_of,
    subscribe,
    tags_path,
    unsubscribe,
    upsert,
)
from tests.dialects.datamailer.worlds import is_recent
from tests.routers.calls import state_of


async def test_subscribing_makes_a_contact_confirmed_and_with_tags(api: Api) -> None:
    done = await subscribe(api, " ADA@example.com ", tags=["Events"])
    assert list(done) == [*STATUS_KEYS, "tags"]
    assert done["email"] == "ada@example.com"
    assert done["tags"] == ["events"]
    assert is_recent(done["client"]["verified_at"])
    assert done["client"] == {
        "slug": "web",
        "subscribed": True,
        "status": "subscribed",
        "verified": True,
        "verified_at": done["client"]["verified_at"],
        "unsubscribed_at": None,
        "unsubscribe_reason": "",
    }
    assert done["audience"]["status"] is None
    assert done["can_send_marketing"] is True


async def test_subscribing_again_changes_nothing(api: Api) -> None:
    """The time of the first confirmation stays; the vendor moves it."""
    first = await subscribe(api, tags=["vip"])
    before = await state_of(api.workspace)
    assert await subscribe(api) == first
    assert await state_of(api.workspace) == before


async def test_subscribing_adds_tags(api: Api) -> None:
    await subscribe(api, tags=["a"])
    assert (await subscribe(api, tags=["b"]))["tags"] == ["a", "b"]


async def test_one_that_was_pending_is_confirmed(api: Api) -> None:
    await upsert(api)
    own = (await subscribe(api))["client"]
    assert own["status"] == "subscribed"
    assert is_recent(own["verified_at"])


async def test_unsubscribing_from_a_client(api: Api) -> None:
    """The tags and the confirmation stay, and the audience as a whole is not touched."""
    first = await subscribe(api, tags=["vip"])
    done = await unsubscribe(api, reason="  too many mails ")
    assert list(done) == [*STATUS_KEYS, "scope"]
    assert done["scope"] == "client"
    own = done["client"]
    assert is_recent(own["unsubscribed_at"])
    assert own == {
        "slug": "web",
        "subscribed": False,
        "status": "unsubscribed",
        "verified": True,
        "verified_at": first["client"]["verified_at"],
        "unsubscribed_at": own["unsubscribed_at"],
        "unsubscribe_reason": "too many mails",
    }
    assert done["audience"] == first["audience"]
    assert (done["global_unsubscribed"], done["can_send_marketing"]) == (False, False)
    assert done["can_send_transactional"] is True
    assert (await call(api, "POST", tags_path(done, "more"), SCOPE))["tags"] == ["more", "vip"]


async def test_unsubscribing_from_an_audience(api: Api) -> None:
    """What was agreed with this client stays as it was, as at the vendor."""
    first = await subscribe(api)
    done = await unsubscribe(api, ends="audience", reason="moved")
    assert done["scope"] == "audience"
    assert is_recent(done["audience"]["unsubscribed_at"])
    assert done["audience"] == {
        "slug": "newsletter",
        "subscribed": False,
        "status": "unsubscribed",
        "verified": False,
        "verified_at": None,
        "unsubscribed_at": done["audience"]["unsubscribed_at"],
        "unsubscribe_reason": "moved",
    }
    assert done["client"] == first["client"]
    assert done["global_unsubscribed"] is False


async def test_unsubscribing_from_everything(api: Api) -> None:
    """Every audience of the workspace sees it; the agreements stay as they were."""
    await colleague(api.workspace, audience="courses")
    first = await subscribe(api)
    await subscribe(api, audience="courses")
    done = await unsubscribe(api, ends="global", reason="enough")
    assert done["scope"] == "global"
    assert (done["client"], done["audience"]) == (first["client"], first["audience"])
    assert (done["global_unsubscribed"], done["can_send_marketing"]) == (True, False)
    elsewhere = await status_of(api, audience="courses")
    assert (elsewhere["global_unsubscribed"], elsewhere["can_send_marketing"]) == (True, False)


async def test_subscribing_does_not_take_a_global_unsubscription_back(api: Api) -> None:
    """As at the vendor; an upsert with the flag does."""
    await unsubscribe(api, ends="global")
    done = await subscribe(api)
    assert (done["client"]["subscribed"], done["global_unsubscribed"]) == (True, True)
    assert done["can_send_marketing"] is False
    assert (await upsert(api, suppression={"global_unsubscribed": False}))["can_send_marketing"] is True


@pytest.mark.parametrize("ends", ["client", "audience", "global"])
async def test_unsubscribing_again_keeps_the_first_time(api: Api, ends: str) -> None:
    await subscribe(api)
    first = await unsubscribe(api, ends=ends, reason="moved")
    before = await state_of(api.workspace)
    for left_out in ({}, {"reason": None}, {"reason": ""}, {"reason": " "}, {"reason": "moved"}):
        assert await unsubscribe(api, ends=ends, **left_out) == first
    assert await state_of(api.workspace) == before


async def test_another_reason_takes_the_place_of_the_first(api: Api) -> None:
    await subscribe(api)
    first = (await unsubscribe(api, reason="moved"))["client"]
    second = (await unsubscribe(api, reason="x" * 255))["client"]
    assert second == {**first, "unsubscribe_reason": "x" * 255}


async def test_subscribing_forgets_when_and_why_it_ended(api: Api) -> None:
    first = await subscribe(api, tags=["vip"])
    await unsubscribe(api, reason="moved")
    assert await subscribe(api) == first


async def test_an_upsert_with_a_status_forgets_it_too(api: Api) -> None:
    await subscribe(api)
    ended = (await unsubscribe(api, reason="moved"))["client"]
    assert (await upsert(api, status="unsubscribed"))["client"] == ended
    again = (await upsert(api, status="pending"))["client"]
    assert (again["status"], again["unsubscribed_at"], again["unsubscribe_reason"]) == ("pending", None, "")


async def test_an_address_that_is_not_known_can_unsubscribe(api: Api) -> None:
    """It is made, so that nobody writes to it later."""
    done = await unsubscribe(api, "new@example.com", reason="never asked")
    assert (done["exists"], done["client"]["status"]) == (True, "unsubscribed")
    assert done["client"]["unsubscribe_reason"] == "never asked"


async def test_an_address_without_an_agreement_is_not_shown_after_it(api: Api) -> None:
    """Whatever ends for it, no agreement with this client begins: as at the vendor, it does not exist here."""
    for ends in ("audience", "global"):
        email = f"{ends}@example.com"
        done = await unsubscribe(api, email, ends=ends)
        assert (done["exists"], done["contact_id"], done["scope"]) == (False, None, ends)
        assert done == {**await status_of(api, email), "scope": ends}
        assert await emails(api) == []
    # What was said holds once there is one.
    assert (await subscribe(api, "audience@example.com"))["audience"]["status"] == "unsubscribed"
    assert (await subscribe(api, "global@example.com"))["global_unsubscribed"] is True


async def test_who_unsubscribes_from_everything_becomes_no_member(app: ASGIApp, api: Api) -> None:
    shop = await colleague(api.workspace, client="shop", audience="courses")
    async with colleagues(app, shop) as [other]:
        await subscribe(other, client="shop", audience="courses")
        await unsubscribe(api, ends="global")
        [contact] = (await api.get("/contacts", params={"audience": "*"})).json()["data"]
        memberships = (await api.get(f"/contacts/{contact['id']}/audiences")).json()["data"]
        assert [one["audience"] for one in memberships] == ["courses"]
        assert (await status_of(other, client="shop", audience="courses"))["global_unsubscribed"] is True


async def test_agreements_with_two_clients_are_two(app: ASGIApp, api: Api) -> None:
    shop = await colleague(api.workspace, client="shop")
    async with colleagues(app, shop) as [other]:
        await subscribe(api)
        await subscribe(other, client="shop")
        await unsubscribe(api)
        assert (await status_of(other, client="shop"))["client"]["subscribed"] is True
        # What was agreed with the audience is one thing for both.
        await unsubscribe(api, ends="audience", reason="moved")
        assert (await status_of(other, client="shop"))["audience"]["unsubscribe_reason"] == "moved"


async def test_who_unsubscribed_still_has_its_tags_changed(api: Api) -> None:
    contact = await subscribe(api)
    for ends in ("client", "audience", "global"):
        await unsubscribe(api, ends=ends)
        assert await put_tags(api, contact, ends) == [ends]


async def test_unsubscribing_looks_at_no_tags(api: Api) -> None:
    await subscribe(api, tags=["vip"])
    done = await unsubscribe(api, tags="not a list")
    assert "tags" not in done
    assert await refuse(api, "POST", "/api/subscriptions/unsubscribe", {**SCOPE, "email": "ada@example.com"}) == {
        "scope": "invalid"
    }
