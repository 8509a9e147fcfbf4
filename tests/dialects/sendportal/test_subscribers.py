"""Subscribers: made or updated by email, with their tags, listed and deleted."""

import asyncio
import json
from typing import Any

import pytest

from app.repositories.contact_tags import ContactTagRepository
from app.repositories.subscribers import PutSubscriber, SubscriberRepository
from app.repositories.tags import TagRepository
from tests.conftest import Api
from tests.dialects.sendportal.calls import (
    BASE,
    NOBODY,
    call,
    end_of_feed,
    events_after,
    ids_of,
    make_subscriber,
    make_tag,
    make_tags,
    missing,
    refused,
    tags_of,
)
from tests.repositories.invariants import assert_sound
from tests.routers.calls import Json, answered, make_audience, make_outsider, state_of

EMAIL = "ann@example.com"


async def changes_after(api: Api, after: int) -> list[tuple[str, Any]]:
    """The types of events, and the fields that they name."""
    return [(event["type"], event["payload"].get("fields")) for event in await events_after(api, after)]


async def test_a_new_subscriber_whole(api: Api) -> None:
    tag = await make_tag(api, "VIP")
    after = await end_of_feed(api)
    sent = {"email": f" {EMAIL} ", "first_name": "Ann", "last_name": "", "tags": [tag, tag], "id": 7, "hash": "x"}
    response = await api.post(f"{BASE}/subscribers", json=sent)
    made = answered(response, 201)["data"]
    assert "location" not in response.headers
    assert made == {
        "id": made["id"],
        "first_name": "Ann",
        "last_name": None,
        "email": EMAIL,
        "tags": [await call(api, "GET", f"/tags/{tag}")],
        "unsubscribed_at": None,
        "created_at": made["created_at"],
        "updated_at": made["created_at"],
    }
    assert list(made)[4] == "tags"
    assert await call(api, "GET", f"/subscribers/{made['id']}") == made
    assert sorted(await changes_after(api, after)) == [
        ("contact.created", None),
        ("contact.joined", None),
        ("contact.tags_changed", None),
    ]
    [contact] = answered(await api.get("/contacts", params={"email": EMAIL}))["data"]
    [membership] = answered(await api.get(f"/contacts/{contact['id']}/audiences"))["data"]
    assert membership["status"] == "subscribed"


@pytest.mark.parametrize("without", [{}, {"tags": None}, {"tags": ""}])
async def test_an_email_that_is_known_is_updated(api: Api, without: Json) -> None:
    one, two = await make_tags(api, "Alpha", "Beta")
    number = await make_subscriber(api, EMAIL, first_name="Ann", last_name="Zed", tags=[one])
    kept = await call(api, "POST", "/subscribers", {**without, "email": EMAIL, "first_name": "X"})
    assert (kept["id"], kept["first_name"], kept["last_name"], ids_of(kept["tags"])) == (number, "X", "Zed", [one])
    replaced = await call(api, "POST", "/subscribers", {"email": "ANN@example.com", "tags": [two]})
    assert (replaced["id"], replaced["email"], ids_of(replaced["tags"])) == (number, EMAIL, [two])
    cleared = await call(api, "POST", "/subscribers", {"email": EMAIL, "last_name": None, "tags": []})
    assert (cleared["id"], cleared["last_name"], cleared["tags"]) == (number, None, [])
    assert await tags_of(api, number) == []
    after = await end_of_feed(api)
    again = {"email": EMAIL, "first_name": "X", "tags": []}
    assert await call(api, "POST", "/subscribers", again) == cleared
    assert await changes_after(api, after) == []


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_a_subscriber_is_updated_by_its_number(api: Api, method: str) -> None:
    one, two = await make_tags(api, "Alpha", "Beta")
    number = await make_subscriber(api, EMAIL, first_name="Ann", tags=[one])
    path = f"/subscribers/{number}"
    after = await end_of_feed(api)
    changed = await call(api, method, path, {"email": "new@example.com", "last_name": "Z", "tags": [two]})
    assert list(changed) == ["id", "first_name", "last_name", "email", "unsubscribed_at", "created_at", "updated_at"]
    assert (changed["first_name"], changed["last_name"], changed["email"]) == ("Ann", "Z", "new@example.com")
    assert await changes_after(api, after) == [
        ("contact.updated", ["email", "last_name"]),
        ("contact.tags_changed", None),
    ]
    leaves: list[tuple[Json, list[int]]] = [({}, [two]), ({"tags": None}, [two]), ({"tags": []}, [])]
    for given, carried in leaves:
        assert (await call(api, method, path, {"email": "new@example.com", **given}))["id"] == number
        assert await tags_of(api, number) == carried
    await make_subscriber(api, "taken@example.com")
    before = await state_of(api.workspace)
    response = await api.request(
        method, BASE + path, json={"email": "Taken@example.com", "first_name": "X", "tags": [one]}
    )
    refused(response, email=["The email has already been taken."])
    assert await state_of(api.workspace) == before


@pytest.mark.parametrize(
    ("sent", "errors"),
    [
        ("", {"email": ["The email field is required."]}),
        ('{"email": ""}', {"email": ["The email field is required."]}),
        ('{"email": []}', {"email": ["The email field must be a string."]}),
        ('{"email": 5}', {"email": ["The email field must be a valid email address."]}),
        ('{"email": "ann"}', {"email": ["The email field must be a valid email address."]}),
        ('{"email": "a b@example.com"}', {"email": ["The email field must be a valid email address."]}),
        ('{"email": "a\\u0000@example.com"}', {"email": ["The email field must be a valid email address."]}),
        ('{"email": "\\ud800@example.com"}', {"email": ["The email field must be a valid email address."]}),
        (
            json.dumps({"email": "x" * 320 + "@example.com"}),
            {"email": ["The email field must not be greater than 320 characters."]},
        ),
        (
            json.dumps({"email": "x" * 50_000}),
            {"email": ["The email field must not be greater than 320 characters."]},
        ),
        ('{"email": "a@b.c", "first_name": {}}', {"first_name": ["The first name field must be a string."]}),
        (
            json.dumps({"email": "a@b.c", "last_name": "x" * 256}),
            {"last_name": ["The last name field must not be greater than 255 characters."]},
        ),
        (
            '{"email": "a@b.c", "last_name": "a\\u0000", "first_name": "\\udfff"}',
            {
                "first_name": ["The first name field format is invalid."],
                "last_name": ["The last name field format is invalid."],
            },
        ),
        ('{"email": "a@b.c", "tags": "1"}', {"tags": ["The tags field must be an array."]}),
        ('{"email": "a@b.c", "tags": false}', {"tags": ["The tags field must be an array."]}),
        ('{"email": "a@b.c", "tags": [0]}', {"tags__0": ["Tag ID 0 does not exist."]}),
        (
            '{"email": "a@b.c", "tags": ["VIP"]}',
            {"tags__0": ["The tags.0 field must be an integer.", "Tag ID VIP does not exist."]},
        ),
        (
            '{"tags": [0], "first_name": []}',
            {
                "first_name": ["The first name field must be a string."],
                "email": ["The email field is required."],
                "tags__0": ["Tag ID 0 does not exist."],
            },
        ),
    ],
)
async def test_what_is_refused(api: Api, sent: str, errors: dict[str, list[str]]) -> None:
    tag = await make_tag(api, "VIP")
    number = await make_subscriber(api, EMAIL, tags=[tag])
    before = await state_of(api.workspace)
    headers = {"Content-Type": "application/json"}
    for method, path in [
        ("POST", "/subscribers"),
        ("PUT", f"/subscribers/{number}"),
        ("PATCH", f"/subscribers/{number}"),
        # What is sent is looked at before whether there is such a subscriber.
        ("PUT", f"/subscribers/{NOBODY}"),
        ("PATCH", "/subscribers/abc"),
    ]:
        refused(await api.request(method, BASE + path, content=sent, headers=headers), **errors)
    assert await state_of(api.workspace) == before


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("number", ["0", "-1", "abc", "1.0", NOBODY, 2**63])
async def test_a_subscriber_that_is_not_there(api: Api, method: str, number: object) -> None:
    missing(await api.request(method, f"{BASE}/subscribers/{number}", json={"email": EMAIL}), "subscriber", number)


async def test_deleting(api: Api) -> None:
    tag = await make_tag(api, "VIP")
    number = await make_subscriber(api, EMAIL, tags=[tag])
    response = await api.delete(f"{BASE}/subscribers/{number}")
    assert (response.status_code, response.content) == (204, b"")
    missing(await api.delete(f"{BASE}/subscribers/{number}"), "subscriber", number)
    assert await call(api, "GET", f"/tags/{tag}/subscribers") == []
    assert answered(await api.get("/contacts", params={"email": EMAIL, "audience": "*"}))["data"] == []


async def test_the_list_is_by_last_name(api: Api) -> None:
    people = [("Ann", "Zed"), ("Bob", "Young"), ("Eve", None), ("Ede", "Young"), ("Äda", "Öz")]
    numbers = {
        first: await make_subscriber(api, f"{place}@example.com", first_name=first, last_name=last)
        for place, (first, last) in enumerate(people)
    }
    found = answered(await api.get(f"{BASE}/subscribers?per_page=1&tags[]=1"))
    assert [one["first_name"] for one in found["data"]] == ["Eve", "Bob", "Ede", "Ann", "Äda"]
    assert ids_of(found["data"])[0] == numbers["Eve"]
    assert list(found["data"][0]) == [
        "id", "first_name", "last_name", "email", "unsubscribed_at", "created_at", "updated_at",
    ]  # fmt: skip
    assert {name: found["meta"][name] for name in ("per_page", "total", "from", "to")} == {
        "per_page": 25, "total": 5, "from": 1, "to": 5,
    }  # fmt: skip


async def test_the_list_is_walked_by_its_links(api: Api) -> None:
    await api.workspace.make_contacts(60)
    url: str | None = f"{BASE}/subscribers"
    walked: list[str] = []
    while url:
        found = answered(await api.get(url))
        walked += [one["email"] for one in found["data"]]
        url = found["links"]["next"]
        assert url is None or url.startswith(f"http://polytag.test{BASE}/subscribers?page=")
    assert sorted(walked) == sorted(f"c{number}@example.com" for number in range(60))


async def test_what_a_subscriber_agreed_to(api: Api) -> None:
    """An upsert changes it only where it says so."""

    async def post(**fields: Any) -> Any:
        answer = answered(await api.post(f"{BASE}/subscribers", json={"email": EMAIL, **fields}), fields.pop("is", 200))
        return answer["data"]["unsubscribed_at"]

    made = await call(
        api, "POST", "/subscribers", {"email": EMAIL, "unsubscribed_at": "2021-01-02 03:04:05"}, status=201
    )
    assert made["unsubscribed_at"] == "2021-01-02 03:04:05"
    assert await post() == "2021-01-02 03:04:05"
    assert await post(unsubscribed_at="2022-02-03") == "2022-02-03 00:00:00"
    assert await post(unsubscribed_at="2023-02-03T04:05:06+02:00") == "2023-02-03 02:05:06"
    assert await post(unsubscribed_at=None) is None
    assert await post(unsubscribed_at="2021-01-02 03:04:05") == "2021-01-02 03:04:05"
    number = made["id"]
    assert (await call(api, "PUT", f"/subscribers/{number}", {"email": EMAIL}))[
        "unsubscribed_at"
    ] == "2021-01-02 03:04:05"
    bad: object
    for bad in ("tomorrow", "2021-02-30", 5, [], "0001-01-01", "9999-12-31"):
        response = await api.post(f"{BASE}/subscribers", json={"email": EMAIL, "unsubscribed_at": bad})
        refused(response, unsubscribed_at=["The unsubscribed at field must be a valid date."])
    await assert_sound(api.workspace.database, api.workspace.principal.workspace_id)


async def test_when_it_ended_is_told_as_a_change(api: Api) -> None:
    await make_subscriber(api, EMAIL, unsubscribed_at="2021-01-02")
    after = await end_of_feed(api)
    for since in ("2021-01-02", "2021-01-03"):
        await call(api, "POST", "/subscribers", {"email": EMAIL, "unsubscribed_at": since})
    assert await changes_after(api, after) == [("contact.updated", ["unsubscribed_at"])]


async def test_unsubscribed_elsewhere_from_everything(api: Api) -> None:
    number = await make_subscriber(api, EMAIL)
    body = {"email": EMAIL, "audience": "newsletter", "client": "web", "scope": "global"}
    answered(await api.post("/datamailer/api/subscriptions/unsubscribe", json=body))
    assert (await call(api, "GET", f"/subscribers/{number}"))["unsubscribed_at"] is not None


async def test_who_is_known_elsewhere_joins(api: Api) -> None:
    outsider = await make_outsider(api, EMAIL, first_name="Ann")
    made = await call(api, "POST", "/subscribers", {"email": EMAIL, "last_name": "Z"}, status=201)
    assert (made["first_name"], made["last_name"]) == ("Ann", "Z")
    assert answered(await api.get(f"/contacts/{outsider}"))["number"] == made["id"]


async def test_who_is_deleted_stays_in_other_audiences(api: Api) -> None:
    number = await make_subscriber(api, EMAIL)
    [contact] = answered(await api.get("/contacts", params={"email": EMAIL}))["data"]
    await make_audience(api, "other", contact["id"])
    await call(api, "DELETE", f"/subscribers/{number}", status=204)
    missing(await api.get(f"{BASE}/subscribers/{number}"), "subscriber", number)
    assert ids_of(answered(await api.get("/contacts", params={"audience": "other"}))["data"]) == [contact["id"]]


async def test_side_by_side_they_are_one(api: Api) -> None:
    """Upserts of one email make one subscriber, whose tags are one caller's list."""
    tags = await make_tags(api, *(f"t{number}" for number in range(4)))
    lists = [tags[:3], tags[2:]]
    for round_ in range(15):
        email = f"r{round_}@example.com"
        answers = await asyncio.gather(
            *(api.post(f"{BASE}/subscribers", json={"email": email, "tags": given}) for given in lists * 2)
        )
        assert sorted(answer.status_code for answer in answers) == [200, 200, 200, 201]
        [number] = {answer.json()["data"]["id"] for answer in answers}
        assert await tags_of(api, number) in lists
    await assert_sound(api.workspace.database, api.workspace.principal.workspace_id)


@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_a_tag_that_goes_after_it_was_looked_up(api: Api, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    """Nothing is written, of the subscriber neither."""
    stays, goes = await make_tags(api, "Alpha", "Beta")
    number = await make_subscriber(api, EMAIL)
    real = ContactTagRepository.change_many_within

    async def late(self: ContactTagRepository, *given: Any, **more: Any) -> Any:
        tags = api.workspace.repository(TagRepository)
        for tag_id in (await tags.ids_by_number([goes])).values():
            await tags.delete(tag_id)
        return await real(self, *given, **more)

    monkeypatch.setattr(ContactTagRepository, "change_many_within", late)
    path = "/subscribers" if method == "POST" else f"/subscribers/{number}"
    body = {"email": EMAIL, "first_name": "Changed", "tags": [stays, goes]}
    refused(await api.request(method, BASE + path, json=body), tags__1=["The selected tags.1 is invalid."])
    monkeypatch.undo()
    found = await call(api, "GET", f"/subscribers/{number}")
    assert (found["first_name"], found["tags"]) == (None, [])


async def test_a_subscriber_who_goes_before_the_answer(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was made is not answered as if nothing had been: nobody carries nothing."""
    tag = await make_tag(api, "VIP")
    put = SubscriberRepository.put

    async def put_and_gone(self: SubscriberRepository, *words: Any, **options: Any) -> PutSubscriber:
        done = await put(self, *words, **options)
        await self.delete(done.subscriber.contact.id)
        return done

    monkeypatch.setattr(SubscriberRepository, "put", put_and_gone)
    answer = await call(api, "POST", "/subscribers", {"email": EMAIL, "tags": [tag]}, status=201)
    assert (answer["email"], answer["tags"]) == (EMAIL, [])
