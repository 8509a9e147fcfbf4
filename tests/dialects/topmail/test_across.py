"""What one front end writes the others show, and what a contact is that several audiences know."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from starlette.types import ASGIApp

from app.repositories.subscribers import SubscriberChange, SubscriberRepository
from app.repositories.subscriptions import SubscriptionChange
from tests.conftest import Api
from tests.dialects.topmail.calls import (
    BASE,
    assign,
    call,
    carriers,
    error_of,
    holder_of,
    make_api_key,
    make_contact,
    make_tag,
    walk,
)
from tests.repositories.invariants import assert_sound
from tests.repositories.test_statements import statements_of_call
from tests.routers import calls as native
from tests.routers.calls import Json, ids_of


@pytest.fixture
async def courses(app: ASGIApp, api: Api) -> AsyncIterator[Api]:
    """A client of the same workspace whose key is for another audience."""
    await native.make_audience(api, "courses")
    async with holder_of(app, api.workspace, await make_api_key(api, audience="courses")) as client:
        yield client


@pytest.fixture
async def app_client(app: ASGIApp, api: Api) -> AsyncIterator[Api]:
    """A client of the same audience whose key belongs to another application."""
    secret = await make_api_key(api, client="app", create_missing=True)
    async with holder_of(app, api.workspace, secret) as client:
        yield client


async def audiences_of(api: Api, contact_id: str) -> list[str]:
    listed = await native.call(api, "GET", f"/contacts/{contact_id}/audiences")
    return [one["audience"] for one in listed["data"]]


async def unsubscribe_from_everything(api: Api, email: str, *, on: bool = True) -> None:
    change = SubscriberChange(suppressions={"global_unsubscribed": on})
    assert await api.workspace.repository(SubscriberRepository).upsert({"email": email}, change)


# Tags.


async def test_a_tag_beyond_the_vendors_limits_is_shown_as_it_is(api: Api) -> None:
    name, description = "n" * 119 + "🎉", "d" * 1_000
    fields: Json = {"description": description, "public_description": "p", "subscriber_editable": True}
    made = await native.make_tag(api, name, **fields)
    shown = (await call(api, "GET", f"/tags/{made['id']}"))["data"]
    assert (shown["name"], shown["description"]) == (name, description)
    assert shown.keys() == {"id", "name", "color", "description", "contact_count", "created_at", "updated_at"}
    assert (await call(api, "GET", f"/tags?search={quote(name)}"))["data"] == [shown]
    # What is not given is not looked at, either.
    changed = (await call(api, "PATCH", f"/tags/{made['id']}", {"color": "#000000"}))["data"]
    assert changed == shown | {"color": "#000000", "updated_at": changed["updated_at"]}
    error_of(await api.patch(f"{BASE}/tags/{made['id']}", json={"name": name}), 400, "validation_error", "name")
    after = await native.call(api, "GET", f"/tags/{made['id']}")
    assert (after["public_description"], after["subscriber_editable"], after["version"]) == ("p", True, 2)


async def test_a_tag_is_the_same_natively(api: Api) -> None:
    made = await make_tag(api, "Beta Tester", color="#10b981", description="beta")
    shown = await native.call(api, "GET", f"/tags/{made['id']}")
    expected = {"name": "Beta Tester", "slug": "beta-tester", "color": "#10b981", "description": "beta"}
    assert shown | expected | {"audience": "newsletter", "secondary_id": 1, "contact_count": 0} == shown
    await call(api, "PATCH", f"/tags/{made['id']}", {"name": "Early Adopter"})
    renamed = await native.call(api, "GET", f"/tags/{made['id']}")
    assert (renamed["name"], renamed["slug"]) == ("Early Adopter", "beta-tester")
    assert native.problem(await api.post("/tags", json={"name": "early adopter"}), 409, "name_taken")
    await call(api, "DELETE", f"/tags/{made['id']}")
    await native.call(api, "GET", f"/tags/{made['id']}", status=404)


async def test_counts_are_exact_whoever_changes_them(api: Api) -> None:
    tag = await make_tag(api)
    contacts = await native.make_contacts(api, 9)

    async def count(after: int) -> None:
        assert (await call(api, "GET", f"/tags/{tag['id']}"))["data"]["contact_count"] == after
        assert (await call(api, "GET", "/tags"))["data"][0]["contact_count"] == after
        assert (await call(api, "PATCH", f"/tags/{tag['id']}", {}))["data"]["contact_count"] == after
        assert len(await carriers(api, tag)) == after

    await assign(api, tag, contacts[:5])
    await count(5)
    await native.call(api, "PUT", f"/tags/{tag['id']}/contacts", {"contact_ids": contacts[3:8]})
    await count(5)
    await native.call(api, "POST", f"/contacts/{contacts[8]}/tags", {"tags": ["vip"]})
    await count(6)
    await call(api, "DELETE", f"/tags/{tag['id']}/contacts", {"contact_ids": contacts[:4]})
    await count(5)
    await call(api, "DELETE", f"/contacts/{contacts[8]}")
    await count(4)
    await native.call(api, "DELETE", f"/contacts/{contacts[7]}", status=204)
    await count(3)
    await assert_sound(api.workspace.database, api.workspace.principal.workspace_id)


async def test_every_event_tells_that_it_came_through_here(api: Api) -> None:
    end = (await native.call(api, "GET", "/events"))["pagination"]["next_cursor"]
    tag = await make_tag(api)
    ada, bob = await make_contact(api), await make_contact(api, "bob@example.com")
    await call(api, "PATCH", f"/tags/{tag['id']}", {"color": "#000000"})
    await assign(api, tag, [ada["id"], bob["id"]])
    await call(api, "DELETE", f"/tags/{tag['id']}/contacts", {"contact_ids": [bob["id"]]})
    await call(api, "PATCH", f"/contacts/{bob['id']}", {"first_name": "Bob"})
    await call(api, "PATCH", f"/contacts/{bob['id']}", {"subscribed": False})
    await call(api, "DELETE", f"/contacts/{bob['id']}")
    await call(api, "DELETE", f"/tags/{tag['id']}")
    events = (await native.call(api, "GET", "/events", after=end))["data"]
    assert [(event["type"], event["payload"]) for event in events] == [
        ("tag.created", {}),
        *[("contact.created", {}), ("contact.joined", {})] * 2,
        ("tag.updated", {"version": 2, "fields": ["color"]}),
        ("tag.contacts_changed", {"added": sorted([ada["id"], bob["id"]]), "removed": []}),
        ("tag.contacts_changed", {"added": [], "removed": [bob["id"]]}),
        ("contact.updated", {"fields": ["first_name"]}),
        ("contact.updated", {"fields": ["status"]}),
        ("contact.deleted", {"removed_count": 0}),
        ("tag.deleted", {"removed_count": 1}),
    ]
    assert {event["front_end"] for event in events} == {"topmail"}


async def test_what_changes_nothing_tells_of_nothing(api: Api) -> None:
    tag, ada = await make_tag(api, color="#10b981"), await make_contact(api, first_name="Ada", attributes={"a": 1})
    await assign(api, tag, [ada["id"]])
    before = await native.state_of(api.workspace)
    await call(api, "PATCH", f"/tags/{tag['id']}", {"name": "VIP", "color": "#10b981", "description": None})
    await assign(api, tag, [ada["id"]])
    body = {"email": "ada@example.com", "first_name": "Ada", "attributes": {"a": 1}, "subscribed": True}
    await call(api, "PATCH", f"/contacts/{ada['id']}", body)
    assert await native.state_of(api.workspace) == before


# Contacts.


async def test_a_contact_is_the_same_natively(api: Api) -> None:
    body: Json = {"email": "Ada@Example.com", "first_name": "Ada", "last_name": "L", "attributes": {"plan": "pro"}}
    made = await make_contact(api, **body)
    shown = await native.call(api, "GET", f"/contacts/{made['id']}")
    assert shown | body | {"external_id": None} == shown
    assert await audiences_of(api, made["id"]) == ["newsletter"]


async def test_a_contact_beyond_the_vendors_limits_is_shown_as_it_is(api: Api) -> None:
    body = {"email": "ada@example.com", "external_id": "7", "first_name": "n" * 255, "last_name": "m" * 255}
    made = await native.call(api, "POST", "/contacts", body, status=201)
    shown = (await call(api, "GET", f"/contacts/{made['id']}"))["data"]
    assert (shown["first_name"], shown["last_name"]) == (body["first_name"], body["last_name"])
    assert shown.keys() == {
        *("id", "email", "first_name", "last_name", "attributes", "subscribed", "created_at", "lists")
    }
    changed = await call(api, "PATCH", f"/contacts/{made['id']}", {"attributes": {"a": 1}})
    assert changed["data"]["first_name"] == body["first_name"]
    assert (await native.call(api, "GET", f"/contacts/{made['id']}"))["external_id"] == "7"


async def test_deleting_means_leaving_the_audience(api: Api, courses: Api) -> None:
    here, there = await make_tag(api), await make_tag(courses)
    ada = await make_contact(api, first_name="Ada")
    await make_contact(courses)
    await assign(api, here, [ada["id"]])
    await assign(courses, there, [ada["id"]])

    await call(api, "DELETE", f"/contacts/{ada['id']}")
    error_of(await api.get(f"{BASE}/contacts/{ada['id']}"), 404, "contact_not_found")
    assert await carriers(api, here) == []
    # The other audience knows it as before, and so does the native API.
    assert (await call(courses, "GET", f"/contacts/{ada['id']}"))["data"]["first_name"] == "Ada"
    assert await carriers(courses, there) == [ada["id"]]
    assert await audiences_of(api, ada["id"]) == ["courses"]

    # With its last audience it goes altogether.
    await call(courses, "DELETE", f"/contacts/{ada['id']}")
    assert await carriers(courses, there) == []
    await native.call(api, "GET", f"/contacts/{ada['id']}", status=404)
    assert (await native.call(api, "GET", "/contacts?audience=*&include_total=true"))["pagination"]["total"] == 0
    await assert_sound(api.workspace.database, api.workspace.principal.workspace_id)


async def test_an_email_known_elsewhere_makes_a_member_here(api: Api, courses: Api) -> None:
    ada = await make_contact(courses, first_name="Ada", last_name="L", attributes={"plan": "pro", "seats": 3})
    body = {"email": "ADA@example.com", "first_name": None, "attributes": {"plan": "free"}, "subscribed": False}
    joined = (await call(api, "POST", "/contacts", body, status=201))["data"]
    # The person that there is, with what was given; the rest stays.
    person = {"first_name": None, "last_name": "L", "attributes": {"plan": "free", "seats": 3}}
    assert joined == ada | person | {"email": "ADA@example.com", "subscribed": False}
    # What was agreed to elsewhere stays as it was.
    elsewhere = (await call(courses, "GET", f"/contacts/{ada['id']}"))["data"]
    assert elsewhere == joined | {"subscribed": True, "lists": []}
    again = {"email": "ada@example.com", "first_name": "Stolen"}
    error_of(await api.post(f"{BASE}/contacts", json=again), 409, "duplicate", "email")
    assert (await call(api, "GET", f"/contacts/{ada['id']}"))["data"] == joined | {"lists": []}


async def test_one_of_no_audience_joins_too(api: Api) -> None:
    outsider = await native.make_outsider(api, "ada@example.com", first_name="Ada")
    made = await make_contact(api)
    assert (made["id"], made["first_name"], made["subscribed"]) == (outsider, "Ada", True)


async def test_an_email_that_one_of_another_audience_has_cannot_be_taken(api: Api, courses: Api) -> None:
    await make_contact(courses)
    bob = await make_contact(api, "bob@example.com")
    response = await api.patch(f"{BASE}/contacts/{bob['id']}", json={"email": "ada@example.com", "first_name": "x"})
    error_of(response, 409, "duplicate", "email")
    assert (await call(api, "GET", f"/contacts/{bob['id']}"))["data"] == bob | {"lists": []}


# Subscriptions.


async def members(api: Api, **params: Any) -> list[str]:
    page = await call(api, "GET", "/contacts", **params)
    assert page["pagination"]["total"] == len(page["data"])
    return [contact["email"].partition("@")[0] for contact in page["data"]]


async def test_subscribed_is_what_was_agreed_with_the_keys_client(api: Api, app_client: Api) -> None:
    await make_contact(api)
    await make_contact(api, "bob@example.com", subscribed=False)
    await make_contact(app_client, "cleo@example.com")
    # Cleo agreed to something with the other application only, and the first two with this one.
    assert await members(api, subscribed="true") == ["ada"]
    assert await members(api, subscribed="false") == ["bob", "cleo"]
    assert await members(app_client, subscribed="true") == ["cleo"]
    assert await members(app_client, subscribed="false") == ["ada", "bob"]
    assert await members(api) == await members(app_client) == ["ada", "bob", "cleo"]


async def test_the_field_and_the_filter_agree(api: Api) -> None:
    ada = await make_contact(api)
    path = f"/contacts/{ada['id']}"
    for subscribed in (False, False, True, True, False):
        assert (await call(api, "PATCH", path, {"subscribed": subscribed}))["data"]["subscribed"] is subscribed
        # What says nothing of it leaves it as it is.
        assert (await call(api, "PATCH", path, {"first_name": "Ada"}))["data"]["subscribed"] is subscribed
        assert (await call(api, "GET", path))["data"]["subscribed"] is subscribed
        assert await members(api, subscribed=str(subscribed).lower()) == ["ada"]
        assert await members(api, subscribed=str(not subscribed).lower()) == []
    row = await native.call(api, "GET", f"{path}/audiences")
    assert [one["status"] for one in row["data"]] == ["unsubscribed"]


@pytest.mark.parametrize("status", ["pending", "subscribed", "unsubscribed"])
async def test_a_status_of_elsewhere_is_shown(api: Api, status: str) -> None:
    ada = await make_contact(api)
    await native.call(api, "PUT", f"/contacts/{ada['id']}/audiences/newsletter", {"status": status})
    is_subscribed = status == "subscribed"
    assert (await call(api, "GET", f"/contacts/{ada['id']}"))["data"]["subscribed"] is is_subscribed
    assert await members(api, subscribed=str(is_subscribed).lower()) == ["ada"]


async def test_who_unsubscribed_from_everything_is_not_subscribed(api: Api) -> None:
    tag, ada = await make_tag(api), await make_contact(api)
    await assign(api, tag, [ada["id"]])
    await unsubscribe_from_everything(api, "ada@example.com")
    for shown in (
        (await call(api, "GET", f"/contacts/{ada['id']}"))["data"],
        (await call(api, "GET", "/contacts"))["data"][0],
        (await call(api, "GET", f"/tags/{tag['id']}/contacts"))["data"][0],
        # Nor can it be subscribed here against its will.
        (await call(api, "PATCH", f"/contacts/{ada['id']}", {"subscribed": True}))["data"],
    ):
        assert shown["subscribed"] is False
    assert await members(api, subscribed="true") == []
    assert await members(api, subscribed="false") == ["ada"]
    await unsubscribe_from_everything(api, "ada@example.com", on=False)
    assert await members(api, subscribed="true") == ["ada"]


async def test_who_agreed_with_the_whole_audience_only(api: Api) -> None:
    change = SubscriberChange(audience_wide=SubscriptionChange("subscribed"))
    assert await api.workspace.repository(SubscriberRepository).upsert({"email": "ada@example.com"}, change)
    assert await members(api, subscribed="true") == []
    assert await members(api, subscribed="false") == ["ada"]


# Pages.


async def make_many(api: Api, count: int) -> tuple[Json, Sequence[str]]:
    tag = await make_tag(api, "tag 00")
    for n in range(1, 7):
        await make_tag(api, f"tag {n:02}")
    contacts = await native.make_contacts(api, count)
    await assign(api, tag, contacts)
    return tag, contacts


@pytest.mark.parametrize("limit", [1, 3, 7, 11, 1_000])
async def test_a_walk_meets_each_exactly_once(api: Api, limit: int) -> None:
    tag, contacts = await make_many(api, 21)
    assert ids_of(await walk(api, "/contacts", limit)) == contacts
    assert ids_of(await walk(api, f"/tags/{tag['id']}/contacts", limit)) == contacts
    tags = await walk(api, "/tags", limit)
    assert [one["name"] for one in tags] == [f"tag {n:02}" for n in range(7)]
    assert [one["contact_count"] for one in tags] == [21, *[0] * 6]
    # c1, and c10 to c19.
    found = await walk(api, "/contacts", limit, search="c1")
    assert [one["email"] for one in found] == [f"c{n}@example.com" for n in (1, *range(10, 20))]
    assert ids_of(await walk(api, "/tags", limit, search="G 0")) == ids_of(tags)
    for contact in contacts[::2]:
        await call(api, "PATCH", f"/contacts/{contact}", {"subscribed": False})
    assert ids_of(await walk(api, "/contacts", limit, subscribed="false")) == contacts[::2]
    assert ids_of(await walk(api, "/contacts", limit, subscribed="true")) == contacts[1::2]


@pytest.mark.parametrize("path", ["/tags", "/contacts", "/tags/{tag}/contacts"])
async def test_an_offset_past_the_end(api: Api, path: str) -> None:
    tag, _ = await make_many(api, 7)
    path = path.replace("{tag}", tag["id"])
    for offset in (7, 8, 100_001, 1_000_000_000):
        assert await call(api, "GET", path, offset=offset) == {
            "data": [],
            "pagination": {"total": 7, "limit": 100, "offset": offset, "has_more": False},
        }


async def test_a_search_by_name_takes_wildcards_as_they_are(api: Api) -> None:
    for name in ("100% sure", "100 sure", "under_score", "underXscore", "Straße"):
        await make_tag(api, name)

    async def found(search: str) -> list[str]:
        return [tag["name"] for tag in (await call(api, "GET", "/tags", search=search))["data"]]

    assert await found("%") == ["100% sure"]
    assert await found("r_s") == ["under_score"]
    assert await found("SURE") == ["100 sure", "100% sure"]
    assert await found("STRASSE") == ["Straße"]


async def test_a_search_for_contacts_looks_at_emails_and_names(api: Api, courses: Api) -> None:
    await make_contact(api, "ada@example.com", first_name="Ada", last_name="Lovelace")
    await make_contact(api, "Grace@example.com", first_name="Grace", last_name="Hopper")
    await make_contact(api, "nada@example.com")
    await make_contact(api, "a_a@example.com", first_name="Élodie", last_name="O'Brien")
    await make_contact(courses, "elsewhere@example.com", first_name="Ada")
    assert await members(api, search="ADA") == ["ada", "nada"]
    assert await members(api, search="lovelace") == ["ada"]
    # Each word is part of the email or of a name, in any order.
    assert await members(api, search="HOPPER gra") == ["Grace"]
    assert await members(api, search="ada hopper") == []
    assert await members(api, search="o'brien ÉLODIE") == ["a_a"]
    # What is stored of a name is not folded beyond ASCII.
    assert await members(api, search="élodie") == []
    # They are no patterns.
    assert await members(api, search="a_a") == ["a_a"]
    assert await members(api, search="%") == []
    # Nothing to look for finds all.
    for blank in ("", " ", "\t\u00a0"):
        assert await members(api, search=blank) == ["ada", "Grace", "nada", "a_a"]
    found = await call(api, "GET", "/contacts", search="example.com", limit=1, subscribed="true")
    assert (found["pagination"]["total"], found["pagination"]["has_more"]) == (4, True)


async def test_a_search_for_contacts_takes_a_few_words(api: Api) -> None:
    assert await members(api, search=" ".join(["x"] * 10)) == []
    assert refused(await api.get(f"{BASE}/contacts", params={"search": " ".join(["x"] * 11)})) == "search"


def refused(response: httpx.Response) -> str:
    """The field that a refusal names."""
    assert response.status_code == 400, response.text
    return str(response.json()["error"]["path"])


# Callers at once.


async def statuses(*calls: Awaitable[httpx.Response]) -> list[int]:
    return sorted(response.status_code for response in await asyncio.gather(*calls))


async def test_one_of_those_who_create_the_same_at_once_does(api: Api, courses: Api) -> None:
    ada = await make_contact(courses)
    bodies = [{"email": "ada@example.com"}, {"email": "bob@example.com", "attributes": {"a": 1}}]
    for body in bodies:
        made = await statuses(*(api.post(f"{BASE}/contacts", json=body) for _ in range(8)))
        assert made == [201, *[409] * 7]
    made = await statuses(*(api.post(f"{BASE}/tags", json={"name": name}) for name in ["VIP", "vip"] * 4))
    assert made == [201, *[409] * 7]
    assert ids_of((await call(api, "GET", "/contacts"))["data"])[0] == ada["id"]
    await assert_sound(api.workspace.database, api.workspace.principal.workspace_id)


async def test_one_of_those_who_delete_the_same_at_once_does(api: Api, courses: Api) -> None:
    tag, ada = await make_tag(api), await make_contact(api)
    await make_contact(courses)
    await assign(api, tag, [ada["id"]])
    path = f"{BASE}/contacts/{ada['id']}"
    gone = await statuses(*(client.delete(path) for client in (api, courses) for _ in range(4)))
    assert gone == [200, 200, *[404] * 6]
    await native.call(api, "GET", f"/contacts/{ada['id']}", status=404)
    gone = await statuses(*(api.delete(f"{BASE}/tags/{tag['id']}") for _ in range(4)))
    assert gone == [200, *[404] * 3]
    await assert_sound(api.workspace.database, api.workspace.principal.workspace_id)


# Statements. What looks up the key is not among them: it is known for some seconds.

BY_ONE, WITH_SUBSCRIPTIONS = 1, 2


@pytest.mark.parametrize(
    ("method", "path", "body", "expected"),
    [
        ("GET", "/tags", None, BY_ONE),
        ("GET", "/tags?search=v&limit=1", None, BY_ONE),
        ("GET", "/tags/{tag}", None, BY_ONE),
        ("GET", "/tags/{tag}/contacts", None, WITH_SUBSCRIPTIONS),
        ("POST", "/tags/{tag}/contacts", {"contact_ids": "{contacts}"}, BY_ONE),
        ("DELETE", "/tags/{tag}/contacts", {"contact_ids": "{contacts}"}, BY_ONE),
        ("GET", "/contacts", None, WITH_SUBSCRIPTIONS),
        ("GET", "/contacts?subscribed=true", None, WITH_SUBSCRIPTIONS),
        ("GET", "/contacts?search=c", None, WITH_SUBSCRIPTIONS),
        ("GET", "/contacts/{contact}", None, BY_ONE),
    ],
)
async def test_statements_of_a_call(api: Api, method: str, path: str, body: Json | None, expected: int) -> None:
    """As many for many contacts as for one."""
    tag, contacts = await make_many(api, 30)
    path = path.replace("{tag}", tag["id"]).replace("{contact}", contacts[0])
    for named in (contacts, contacts[:1]):
        ran = await statements_of_call(api, method, BASE + path, body and {"contact_ids": named})
        assert len(ran) == expected, ran
