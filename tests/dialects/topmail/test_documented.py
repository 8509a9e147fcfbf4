"""Every call that the vendor documents gives what it documents: the status, and the whole body."""

import re
from collections.abc import Sequence
from typing import Any

import pytest

from tests.conftest import Api
from tests.dialects.topmail.calls import assign, call, carriers, make_contact, make_tag
from tests.routers.calls import Json, ids_of

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")

BETA: Json = {"name": "Beta Tester", "color": "#10b981", "description": "Users in the beta program"}


def tag_of(shown: Json, **expected: Any) -> Json:
    """A tag as it must be shown, with the id and the times of the one that is."""
    assert UUID.fullmatch(shown["id"])
    assert TIME.fullmatch(shown["created_at"])
    assert TIME.fullmatch(shown["updated_at"])
    return {
        "id": shown["id"],
        "name": "Beta Tester",
        "color": "#10b981",
        "description": "Users in the beta program",
        "contact_count": 0,
        "created_at": shown["created_at"],
        "updated_at": shown["updated_at"],
    } | expected


def contact_of(shown: Json, **expected: Any) -> Json:
    """A contact as it must be shown, with the id and the time of the one that is."""
    assert UUID.fullmatch(shown["id"])
    assert TIME.fullmatch(shown["created_at"])
    return {
        "id": shown["id"],
        "email": "ada@example.com",
        "first_name": None,
        "last_name": None,
        "attributes": {},
        "subscribed": True,
        "created_at": shown["created_at"],
    } | expected


def page_of(data: Sequence[Json], **pagination: Any) -> Json:
    whole = {"total": len(data), "limit": 100, "offset": 0, "has_more": False}
    return {"data": data, "pagination": whole | pagination}


# The tags page.


async def test_list_tags(api: Api) -> None:
    vip = await make_tag(api, "VIP")
    churned = await make_tag(api, "churned", color="#abc")
    old_vip = await make_tag(api, "an old vip", description=None)
    shown = [
        tag_of(tag, name=name, color=color, description=None)
        for tag, name, color in [
            (old_vip, "an old vip", "#6366f1"),
            (churned, "churned", "#aabbcc"),
            (vip, "VIP", "#6366f1"),
        ]
    ]
    assert await call(api, "GET", "/tags") == page_of(shown)
    expected = page_of([shown[0], shown[2]], limit=20)
    assert await call(api, "GET", "/tags?search=vip&limit=20") == expected
    assert await call(api, "GET", "/tags?limit=1&offset=1") == page_of(
        [shown[1]], total=3, limit=1, offset=1, has_more=True
    )


async def test_retrieve_a_tag(api: Api) -> None:
    made = await make_tag(api, **BETA)
    assert await call(api, "GET", f"/tags/{made['id']}") == {"data": tag_of(made)}
    assert await call(api, "GET", f"/tags/{made['id'].upper()}") == {"data": tag_of(made)}


async def test_create_a_tag(api: Api) -> None:
    made = await call(api, "POST", "/tags", BETA, status=201)
    assert made == {"data": tag_of(made["data"])}
    made = await call(api, "POST", "/tags", {"name": "  VIP "}, status=201)
    assert made == {"data": tag_of(made["data"], name="VIP", color="#6366f1", description=None)}


async def test_update_a_tag(api: Api) -> None:
    made = await make_tag(api, **BETA)
    [contact] = ids_of([await make_contact(api)])
    await assign(api, made, [contact])
    changed = await call(api, "PATCH", f"/tags/{made['id']}", {"name": "Early Adopter", "color": "#f59e0b"})
    expected = tag_of(made, name="Early Adopter", color="#f59e0b", contact_count=1)
    assert changed["data"]["updated_at"] >= made["updated_at"]
    assert changed == {"data": expected | {"updated_at": changed["data"]["updated_at"]}}
    assert await call(api, "GET", f"/tags/{made['id']}") == changed


@pytest.mark.parametrize(
    ("body", "field", "value"),
    [
        ({"description": None}, "description", None),
        ({"description": ""}, "description", ""),
        ({"color": "#000000"}, "color", "#000000"),
        ({"color": "#AbCdEf"}, "color", "#AbCdEf"),
        # Its own name in another case is no duplicate.
        ({"name": "BETA tester"}, "name", "BETA tester"),
    ],
)
async def test_only_provided_fields_are_modified(api: Api, body: Json, field: str, value: object) -> None:
    made = await make_tag(api, **BETA)
    changed = (await call(api, "PATCH", f"/tags/{made['id']}", body))["data"]
    assert changed == made | {field: value, "updated_at": changed["updated_at"]}


async def test_an_empty_patch_changes_nothing(api: Api) -> None:
    made = await make_tag(api, **BETA)
    assert await call(api, "PATCH", f"/tags/{made['id']}", {}) == {"data": made}


async def test_delete_a_tag(api: Api) -> None:
    made, other = await make_tag(api), await make_tag(api, "other")
    contact = await make_contact(api)
    await assign(api, made, [contact["id"]])
    await assign(api, other, [contact["id"]])
    deleted = await call(api, "DELETE", f"/tags/{made['id']}")
    assert deleted == {"data": {"id": made["id"], "deleted": True}}
    await call(api, "GET", f"/tags/{made['id']}", status=404)
    await call(api, "DELETE", f"/tags/{made['id']}", status=404)
    # The contact stays, with its other tags; the name is free again.
    assert (await call(api, "GET", f"/contacts/{contact['id']}"))["data"]["id"] == contact["id"]
    assert await carriers(api, other) == [contact["id"]]
    again = await make_tag(api)
    assert again["contact_count"] == 0
    assert again["id"] != made["id"]


async def test_list_the_contacts_of_a_tag(api: Api) -> None:
    tag = await make_tag(api)
    ada = await make_contact(api, first_name="Ada", attributes={"plan": "pro"})
    bob = await make_contact(api, "bob@example.com", subscribed=False)
    await make_contact(api, "without@example.com")
    await assign(api, tag, [bob["id"], ada["id"]])
    shown = [
        contact_of(ada, first_name="Ada", attributes={"plan": "pro"}),
        contact_of(bob, email="bob@example.com", subscribed=False),
    ]
    path = f"/tags/{tag['id']}/contacts"
    assert await call(api, "GET", path) == page_of(shown)
    assert await call(api, "GET", f"{path}?limit=50") == page_of(shown, limit=50)
    assert await call(api, "GET", f"{path}?limit=1") == page_of(shown[:1], total=2, limit=1, has_more=True)


async def test_assign_a_tag(api: Api) -> None:
    tag = await make_tag(api)
    ada, bob = await make_contact(api), await make_contact(api, "bob@example.com")
    path = f"/tags/{tag['id']}/contacts"
    done = await call(api, "POST", path, {"contact_ids": [ada["id"], bob["id"]]})
    nobody_missing = {"tag_id": tag["id"], "requested": 2, "already_tagged": 0, "not_found": []}
    assert done == {"data": nobody_missing | {"added": 2}}
    assert await carriers(api, tag) == [ada["id"], bob["id"]]
    # Twice counts once, in one request and in two.
    done = await call(api, "POST", path, {"contact_ids": [bob["id"], ada["id"].upper(), bob["id"]]})
    assert done == {"data": nobody_missing | {"added": 0, "already_tagged": 2}}
    assert await carriers(api, tag) == [ada["id"], bob["id"]]


async def test_contacts_that_do_not_exist_are_skipped_and_listed(api: Api) -> None:
    tag, ada = await make_tag(api), await make_contact(api)
    # In the order of the request, each once.
    unknown = [f"0190a0a0-0000-7000-8000-0000000000{n:02}" for n in (7, 3, 5)]
    ids = [unknown[0], ada["id"], unknown[1], unknown[2], unknown[0].upper()]
    assert await assign(api, tag, ids) == {
        "tag_id": tag["id"],
        "requested": 4,
        "added": 1,
        "already_tagged": 0,
        "not_found": unknown,
    }
    assert await carriers(api, tag) == [ada["id"]]
    assert (await assign(api, tag, unknown))["added"] == 0


@pytest.mark.parametrize(("method", "suffix"), [("DELETE", ""), ("POST", "/remove")])
async def test_remove_a_tag(api: Api, method: str, suffix: str) -> None:
    tag = await make_tag(api)
    ada, bob = await make_contact(api), await make_contact(api, "bob@example.com")
    await assign(api, tag, [ada["id"], bob["id"]])
    path = f"/tags/{tag['id']}/contacts{suffix}"
    ids = [ada["id"], ada["id"], "0190a0a0-0000-7000-8000-000000000001"]
    done = await call(api, method, path, {"contact_ids": ids})
    assert done == {"data": {"tag_id": tag["id"], "requested": 2, "removed": 1}}
    assert await carriers(api, tag) == [bob["id"]]
    done = await call(api, method, path, {"contact_ids": [ada["id"]]})
    assert done == {"data": {"tag_id": tag["id"], "requested": 1, "removed": 0}}
    assert await carriers(api, tag) == [bob["id"]]


async def test_five_hundred_at_once(api: Api) -> None:
    tag = await make_tag(api)
    ids = [str(contact) for contact in await api.workspace.make_contacts(500)]
    assert (await assign(api, tag, ids))["added"] == 500
    assert (await call(api, "GET", "/tags"))["data"][0]["contact_count"] == 500
    removed = await call(api, "DELETE", f"/tags/{tag['id']}/contacts", {"contact_ids": ids})
    assert removed == {"data": {"tag_id": tag["id"], "requested": 500, "removed": 500}}


# Contacts, as its other pages show them.


async def test_create_a_contact(api: Api) -> None:
    body = {
        "email": "ada@example.com",
        "first_name": "Ada",
        "last_name": "Lovelace",
        "attributes": {"plan": "pro", "seats": 3},
        "subscribed": False,
        # There are no lists here, and nothing comes of it.
        "list_id": "0190a0a0-0000-7000-8000-000000000001",
    }
    made = await call(api, "POST", "/contacts", body, status=201)
    given = {name: value for name, value in body.items() if name != "list_id"}
    assert made == {"data": contact_of(made["data"], **given)}
    made = await call(api, "POST", "/contacts", {"email": " Bob@Example.com "}, status=201)
    assert made == {"data": contact_of(made["data"], email="Bob@Example.com")}


async def test_retrieve_a_contact(api: Api) -> None:
    made = await make_contact(api, last_name="Lovelace")
    shown = contact_of(made, last_name="Lovelace") | {"lists": []}
    assert await call(api, "GET", f"/contacts/{made['id']}") == {"data": shown}


async def test_list_contacts(api: Api) -> None:
    ada = await make_contact(api)
    bob = await make_contact(api, "bob@example.com", subscribed=False)
    shown = [contact_of(ada), contact_of(bob, email="bob@example.com", subscribed=False)]
    assert await call(api, "GET", "/contacts") == page_of(shown)
    assert await call(api, "GET", "/contacts?search=BO") == page_of(shown[1:])
    assert await call(api, "GET", "/contacts?subscribed=true&limit=7") == page_of(shown[:1], limit=7)
    assert await call(api, "GET", "/contacts?limit=1&offset=1") == page_of(shown[1:], total=2, limit=1, offset=1)


async def test_update_a_contact(api: Api) -> None:
    made = await make_contact(api, first_name="Ada", last_name="L.", attributes={"plan": "pro", "a": {"b": 1, "c": 2}})
    path = f"/contacts/{made['id']}"
    body = {"first_name": None, "attributes": {"plan": None, "a": {"b": 3}, "new": [1]}}
    changed = await call(api, "PATCH", path, body)
    expected = made | {"first_name": None, "attributes": {"a": {"b": 3, "c": 2}, "new": [1]}}
    assert changed == {"data": expected}
    changed = await call(api, "PATCH", path, {"email": "ADA@example.org", "subscribed": False})
    assert changed == {"data": expected | {"email": "ADA@example.org", "subscribed": False}}
    assert await call(api, "PATCH", path, {}) == changed
    assert await call(api, "GET", path) == {"data": changed["data"] | {"lists": []}}


async def test_delete_a_contact(api: Api) -> None:
    tag, made = await make_tag(api), await make_contact(api)
    await assign(api, tag, [made["id"]])
    deleted = await call(api, "DELETE", f"/contacts/{made['id']}")
    assert deleted == {"data": {"id": made["id"], "deleted": True}}
    for method in ("GET", "DELETE"):
        await call(api, method, f"/contacts/{made['id']}", status=404)
    assert await carriers(api, tag) == []
