"""The subscribers of a tag: what POST, PUT and DELETE do and refuse, and how long lists are answered."""

import asyncio
import json
from typing import Any
from uuid import UUID

import httpx
import pytest

from app.repositories.subscribers import SubscriberRepository
from app.repositories.tag_contacts import ContactRefs, TagContactRepository
from app.repositories.tags import TagRepository
from tests.conftest import Api
from tests.dialects.sendportal.calls import (
    BASE,
    NOBODY,
    call,
    ids_of,
    make_subscriber,
    make_subscribers,
    make_tag,
    missing,
    refused,
    subscribers_of,
)
from tests.repositories.invariants import assert_sound
from tests.routers.calls import answered, state_of

ARRAY, REQUIRED = "The subscribers field must be an array.", "The subscribers field is required."
UNKNOWN = "The validation error message."
WRITES = ["POST", "PUT", "DELETE"]


def integer(place: object) -> str:
    return f"The subscribers.{place} field must be an integer."


async def test_add_replace_and_remove(api: Api) -> None:
    tag = await make_tag(api, "VIP")
    one, two, three = await make_subscribers(api, 3)
    path = f"/tags/{tag}/subscribers"
    assert await call(api, "GET", path) == []
    for method, given, after in [
        ("POST", [two], [two]),
        ("POST", [one, two, one], [one, two]),
        ("PUT", [three, two, three], [two, three]),
        ("DELETE", [one], [two, three]),
        ("DELETE", [two, two], [three]),
        ("DELETE", [three], []),
    ]:
        answer = answered(await api.request(method, BASE + path, json={"subscribers": given}))
        assert list(answer) == ["data"]
        assert ids_of(answer["data"]) == after
        assert await subscribers_of(api, tag) == after


async def test_a_subscriber_of_a_tag_whole(api: Api) -> None:
    tag = await make_tag(api, "VIP")
    since = "2021-01-02 03:04:05"
    number = await make_subscriber(api, "ann@example.com", first_name="Ann", tags=[tag], unsubscribed_at=since)
    [found] = await call(api, "GET", f"/tags/{tag}/subscribers")
    assert list(found) == ["id", "first_name", "last_name", "email", "unsubscribed_at", "created_at", "updated_at"]
    assert (found["id"], found["first_name"], found["last_name"]) == (number, "Ann", None)
    assert (found["email"], found["unsubscribed_at"]) == ("ann@example.com", since)


@pytest.mark.parametrize("method", WRITES)
@pytest.mark.parametrize(
    ("sent", "errors"),
    [
        ("", {"subscribers": [REQUIRED]}),
        ('{"subscribers": []}', {"subscribers": [REQUIRED]}),
        ('{"subscribers": null}', {"subscribers": [ARRAY, REQUIRED]}),
        ('{"subscribers": "1"}', {"subscribers": [ARRAY]}),
        ('{"subscribers": [0]}', {"subscribers__0": [UNKNOWN]}),
        (f'{{"subscribers": [{NOBODY}]}}', {"subscribers__0": [UNKNOWN]}),
        ('{"subscribers": ["x"]}', {"subscribers__0": [integer(0), UNKNOWN]}),
        ('{"subscribers": [null]}', {"subscribers__0": [integer(0), UNKNOWN]}),
        ('{"subscribers": [[1]]}', {"subscribers__0": [integer(0)]}),
        ('{"subscribers": {"a": 2.5}}', {"subscribers__a": [integer("a"), UNKNOWN]}),
        (
            json.dumps({"subscribers": [1] * 10_001}),
            {"subscribers": ["The subscribers field must not have more than 10000 items."]},
        ),
    ],
)
async def test_what_is_refused(api: Api, method: str, sent: str, errors: dict[str, list[str]]) -> None:
    tag = await make_tag(api, "VIP")
    await make_subscriber(api, "ann@example.com", tags=[tag])
    before = await state_of(api.workspace)
    for number in (tag, NOBODY, "abc"):
        # What is sent is looked at before whether there is such a tag.
        headers = {"Content-Type": "application/json"}
        refused(await api.request(method, f"{BASE}/tags/{number}/subscribers", content=sent, headers=headers), **errors)
    assert await state_of(api.workspace) == before


@pytest.mark.parametrize("method", ["GET", *WRITES])
@pytest.mark.parametrize("tag", ["0", "abc", "1.0", "-1", NOBODY, 2**63])
async def test_a_tag_that_is_not_there(api: Api, method: str, tag: object) -> None:
    [subscriber] = await make_subscribers(api, 1)
    missing(await api.request(method, f"{BASE}/tags/{tag}/subscribers", json={"subscribers": [subscriber]}), "tag", tag)


async def test_of_two_that_replace_one_has_its_list(api: Api) -> None:
    tag = await make_tag(api, "VIP")
    people = await make_subscribers(api, 6)
    path = f"/tags/{tag}/subscribers"
    lists = [people[:4], people[3:]]
    for _ in range(40):
        await asyncio.gather(*(call(api, "PUT", path, {"subscribers": given}) for given in lists))
        assert await subscribers_of(api, tag) in lists
    await assert_sound(api.workspace.database, api.workspace.principal.workspace_id)


async def test_pages_where_they_are_asked_for(api: Api) -> None:
    tag = await make_tag(api, "VIP")
    people = await make_subscribers(api, 5)
    await call(api, "POST", f"/tags/{tag}/subscribers", {"subscribers": people})
    url: str | None = f"http://polytag.test{BASE}/tags/{tag}/subscribers?per_page=2"
    walked: list[list[int]] = []
    while url:
        found = answered(await api.get(httpx.URL(url)))
        walked.append(ids_of(found["data"]))
        assert (found["meta"]["total"], found["meta"]["last_page"]) == (5, 3)
        url = found["links"]["next"]
    assert walked == [people[:2], people[2:4], people[4:]]
    second = answered(await api.get(f"{BASE}/tags/{tag}/subscribers?page=1"))
    # As long as the list that is answered whole, which is where a client counts on from.
    assert (second["meta"]["per_page"], len(second["data"])) == (1_000, 5)
    after = answered(
        await api.put(f"{BASE}/tags/{tag}/subscribers?per_page=2&page=2", json={"subscribers": people[:3]})
    )
    assert (ids_of(after["data"]), after["meta"]["from"], after["links"]["next"]) == (people[2:3], 3, None)


async def test_more_than_a_thousand_come_in_pages(api: Api) -> None:
    """Up to there the list is whole, as the vendor has it; beyond it says where it goes on."""
    tag = await make_tag(api, "VIP")
    await api.workspace.make_contacts(1_001)
    numbers = sorted((await everybody(api)).values())
    path = f"/tags/{tag}/subscribers"
    whole = answered(await api.post(BASE + path, json={"subscribers": numbers[:1_000]}))
    assert list(whole) == ["data"]
    assert len(whole["data"]) == 1_000
    first = answered(await api.post(BASE + path, json={"subscribers": numbers}))
    assert (len(first["data"]), first["meta"]["total"], first["meta"]["per_page"]) == (1_000, 1_001, 1_000)
    assert answered(await api.get(BASE + path)) == first
    rest = answered(await api.get(httpx.URL(first["links"]["next"])))
    assert sorted(ids_of(first["data"]) + ids_of(rest["data"])) == numbers
    assert rest["links"]["next"] is None


async def everybody(api: Api) -> dict[str, int]:
    """The numbers of all contacts by their ids."""
    found: dict[str, int] = {}
    cursor = None
    while True:
        page = answered(await api.get("/contacts", params={"limit": 1000, **({"cursor": cursor} if cursor else {})}))
        found |= {one["id"]: one["number"] for one in page["data"]}
        cursor = page["pagination"]["next_cursor"]
        if cursor is None:
            return found


@pytest.mark.parametrize(("method", "verb"), [("POST", "assign"), ("PUT", "replace")])
async def test_a_subscriber_that_leaves_after_it_was_looked_up(
    api: Api, monkeypatch: pytest.MonkeyPatch, method: str, verb: str
) -> None:
    tag = await make_tag(api, "VIP")
    stays, goes = await make_subscribers(api, 2)
    real = getattr(TagContactRepository, verb)

    async def late(self: TagContactRepository, *given: Any, **more: Any) -> Any:
        subscribers = api.workspace.repository(SubscriberRepository)
        await subscribers.delete((await subscribers.ids_by_number([goes]))[goes])
        return await real(self, *given, **more)

    monkeypatch.setattr(TagContactRepository, verb, late)
    response = await api.request(method, f"{BASE}/tags/{tag}/subscribers", json={"subscribers": [stays, goes]})
    refused(response, subscribers__1=[UNKNOWN])
    assert await subscribers_of(api, tag) == []


async def test_a_tag_that_goes_after_it_was_looked_up(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    tag = await make_tag(api, "VIP")
    [subscriber] = await make_subscribers(api, 1)
    real = TagContactRepository.assign

    async def late(self: TagContactRepository, *given: Any, **more: Any) -> Any:
        tags = api.workspace.repository(TagRepository)
        await tags.delete((await tags.ids_by_number([tag]))[tag])
        return await real(self, *given, **more)

    monkeypatch.setattr(TagContactRepository, "assign", late)
    response = await api.post(f"{BASE}/tags/{tag}/subscribers", json={"subscribers": [subscriber]})
    assert answered(response, 404) == {"message": "No query results for tag"}


@pytest.mark.parametrize(("method", "verb"), [("POST", "assign"), ("PUT", "replace"), ("DELETE", "unassign")])
async def test_a_tag_that_goes_before_the_answer(
    api: Api, monkeypatch: pytest.MonkeyPatch, method: str, verb: str
) -> None:
    """What was changed is not answered as if nothing had been: the tag has nobody, now that it is gone."""
    tag, [subscriber] = await make_tag(api, "VIP"), await make_subscribers(api, 1)
    change = getattr(TagContactRepository, verb)

    async def changed_and_gone(self: TagContactRepository, tag_id: UUID, named: ContactRefs) -> object:
        done: object = await change(self, tag_id, named)
        await api.workspace.repository(TagRepository).delete(tag_id)
        return done

    monkeypatch.setattr(TagContactRepository, verb, changed_and_gone)
    assert await call(api, method, f"/tags/{tag}/subscribers", {"subscribers": [subscriber]}) == []
