"""Which events each call writes: those of the contract, once, with ids and counts only, and none for a no-op."""

import json
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import pytest

from app.database import Statement
from tests.conftest import Api
from tests.repositories.invariants import assert_sound
from tests.routers.calls import (
    RANDOM_ID,
    Json,
    answered,
    call,
    ids_of,
    make_audience,
    make_contacts,
    make_outsider,
    make_tag,
    make_tags,
    run,
)

_EVENTS = Statement(
    "test.events",
    """
    select e.*, a.slug as audience
    from events e
    left join audiences a on a.workspace_id = e.workspace_id and a.id = e.audience_id
    where e.workspace_id = :workspace_id order by e.sequence
    """,
)

Event = dict[str, Any]


async def all_events(api: Api) -> list[Any]:
    rows: list[Any] = await api.workspace.database.fetch(_EVENTS, workspace_id=api.workspace.principal.workspace_id)
    return rows


async def written(api: Api, method: str, path: str, body: object = None, /, *, refused: bool = False) -> list[Event]:
    """What one call wrote: type, the ids that are not null, and the payload. Who did it is checked on the way."""
    before = len(await all_events(api))
    response = await api.request(method, path, json=body)
    assert response.is_success is not refused, response.text
    events = (await all_events(api))[before:]
    principal = api.workspace.principal
    for event in events:
        assert event["position"] is None
        assert event["occurred_at"].utcoffset() is not None
        assert (event["front_end"], event["request_id"]) == ("native", response.headers["x-request-id"])
        assert (event["client_id"], event["key_id"]) == (principal.client_id, principal.key_id)
    return [
        {
            "type": event["type"],
            **{name: str(event[f"{name}_id"]) for name in ("tag", "contact") if event[f"{name}_id"] is not None},
            **({"audience": event["audience"]} if event["audience"] is not None else {}),
            **({"payload": event["payload"]} if event["payload"] else {}),
        }
        for event in events
    ]


def tag_event(kind: str, tag: str, audience: str = "newsletter", **payload: Any) -> Event:
    return {"type": kind, "tag": tag, "audience": audience, **({"payload": payload} if payload else {})}


def contact_event(kind: str, contact: str, audience: str | None = None, **payload: Any) -> Event:
    return {
        "type": kind,
        "contact": contact,
        **({"audience": audience} if audience else {}),
        **({"payload": payload} if payload else {}),
    }


def assigned(tag: str, added: Sequence[str] = (), removed: Sequence[str] = (), audience: str = "newsletter") -> Event:
    return tag_event("tag.contacts_changed", tag, audience, added=sorted(added), removed=sorted(removed))


def tagged(contact: str, added: Sequence[str] = (), removed: Sequence[str] = (), audience: str = "newsletter") -> Event:
    return contact_event("contact.tags_changed", contact, audience, added=sorted(added), removed=sorted(removed))


async def tag_ids(api: Api, audience: str = "newsletter") -> dict[str, str]:
    """Ids of the audience's tags by their slugs."""
    listed = await call(api, "GET", "/tags", limit=1000, audience=audience)
    return {tag["slug"]: tag["id"] for tag in listed["data"]}


def by_content(events: Sequence[Event]) -> list[Event]:
    return sorted(events, key=json.dumps)


# Tags.


async def test_making_tags(api: Api) -> None:
    assert await written(api, "POST", "/tags", {"name": "a"}) == [
        tag_event("tag.created", (await tag_ids(api))["a"]),
    ]
    contacts = await make_contacts(api, 2)
    events = await written(api, "POST", "/tags", {"name": "b", "contact_ids": contacts})
    made = (await tag_ids(api))["b"]
    assert events == [tag_event("tag.created", made), assigned(made, contacts)]
    events = await written(api, "POST", "/tags/batch", {"tags": [{"name": name} for name in ("b", "c", "C", "d")]})
    tags = await tag_ids(api)
    assert by_content(events) == by_content([tag_event("tag.created", tags[name]) for name in "cd"])
    assert await written(api, "POST", "/tags", {"name": "a"}, refused=True) == []
    assert await written(api, "POST", "/tags?on_conflict=return", {"name": "a", "color": "#000"}) == []
    assert await written(api, "POST", "/tags?on_conflict=return", {"name": "a", "contact_ids": contacts}) == [
        assigned(tags["a"], contacts)
    ]
    assert await written(api, "POST", "/tags/batch", {"tags": [{"name": "a"}, {"name": "b"}]}) == []
    body = {"name": "new", "contact_ids": [*contacts, RANDOM_ID]}
    assert await written(api, "POST", "/tags", body, refused=True) == []


async def test_changing_a_tag(api: Api) -> None:
    tag = (await make_tag(api, "VIP"))["id"]
    path = f"/tags/{tag}"
    assert await written(api, "PATCH", path, {"name": "Gold", "color": "#000", "description": None}) == [
        tag_event("tag.updated", tag, version=2, fields=["color", "name"])
    ]
    assert await written(api, "PATCH", path, {"name": "Gold", "color": "#000000"}) == []
    assert await written(api, "PATCH", path, {}) == []
    assert await written(api, "PATCH", path, {"color": "red"}, refused=True) == []
    assert await written(api, "POST", "/tags?on_conflict=update", {"name": "Gold", "description": "d"}) == [
        tag_event("tag.updated", tag, version=3, fields=["description"])
    ]
    assert await written(api, "POST", "/tags?on_conflict=update", {"name": "Gold", "description": "d"}) == []


async def test_deleting_a_tag_implies_the_removals(api: Api) -> None:
    contacts = await make_contacts(api, 3)
    used = (await make_tag(api, "used", contact_ids=contacts))["id"]
    unused = (await make_tag(api, "unused"))["id"]
    assert await written(api, "DELETE", f"/tags/{used}?if_unused=true", refused=True) == []
    assert await written(api, "DELETE", f"/tags/{used}") == [tag_event("tag.deleted", used, removed_count=3)]
    assert await written(api, "DELETE", f"/tags/{unused}") == [tag_event("tag.deleted", unused, removed_count=0)]
    assert await written(api, "DELETE", f"/tags/{unused}", refused=True) == []


# Assignments from the tag's side.


async def test_assigning_and_removing(api: Api) -> None:
    contacts = await make_contacts(api, 4)
    tag = (await make_tag(api, "VIP"))["id"]
    path = f"/tags/{tag}/contacts"
    assert await written(api, "POST", path, {"contact_ids": contacts[:2]}) == [assigned(tag, contacts[:2])]
    assert await written(api, "POST", path, {"contact_ids": contacts[:3]}) == [assigned(tag, contacts[2:3])]
    assert await written(api, "POST", path, {"emails": ["c0@example.com"]}) == []
    assert await written(api, "POST", path, {"contact_ids": [contacts[3], RANDOM_ID]}, refused=True) == []
    assert await written(api, "POST", f"{path}?on_missing=skip", {"contact_ids": [RANDOM_ID]}) == []
    assert await written(api, "DELETE", path, {"contact_ids": [*contacts[1:], RANDOM_ID]}) == [
        assigned(tag, removed=contacts[1:3])
    ]
    assert await written(api, "DELETE", path, {"contact_ids": contacts[1:]}) == []
    assert await written(api, "POST", f"{path}/remove", {"external_ids": ["c0", "c1"]}) == [
        assigned(tag, removed=contacts[:1])
    ]
    assert await written(api, "POST", f"{path}/remove", {"external_ids": ["c0", "c1"]}) == []


async def test_replacing_a_tags_contacts(api: Api) -> None:
    contacts = await make_contacts(api, 4)
    tag = (await make_tag(api, "VIP"))["id"]
    path = f"/tags/{tag}/contacts"
    assert await written(api, "PUT", path, {"contact_ids": contacts[:2]}) == [assigned(tag, contacts[:2])]
    assert await written(api, "PUT", path, {"contact_ids": contacts[1:]}) == [assigned(tag, contacts[2:], contacts[:1])]
    assert await written(api, "PUT", path, {"contact_ids": contacts[1:]}) == []
    assert await written(api, "PUT", path, {"contact_ids": [RANDOM_ID]}, refused=True) == []
    assert await written(api, "PUT", path, {"contact_ids": []}) == [assigned(tag, removed=contacts[1:])]
    assert await written(api, "PUT", path, {"contact_ids": []}) == []


async def test_five_hundred_ids_at_most_in_one_event(api: Api) -> None:
    contacts = await make_contacts(api, 1_501)
    tag = (await make_tag(api, "VIP"))["id"]
    path = f"/tags/{tag}/contacts"

    async def change(method: str, ids: Sequence[str]) -> tuple[list[int], list[int]]:
        """The sizes of what the events add and remove. Together they must tell the whole of it, each id once."""
        before = set(await carried(api, tag))
        events = await written(api, method, path, {"contact_ids": list(ids)})
        after = set(await carried(api, tag))
        assert {(event["type"], event["tag"]) for event in events} == {("tag.contacts_changed", tag)}
        added = [event["payload"]["added"] for event in events]
        removed = [event["payload"]["removed"] for event in events]
        assert sorted(one for chunk in added for one in chunk) == sorted(after - before)
        assert sorted(one for chunk in removed for one in chunk) == sorted(before - after)
        return [len(chunk) for chunk in added], [len(chunk) for chunk in removed]

    assert await change("POST", contacts[:500]) == ([500], [0])
    assert await change("POST", contacts[:1_001]) == ([500, 1], [0, 0])
    assert await change("PUT", contacts[600:]) == ([500, 0], [500, 100])
    assert await change("PUT", contacts[:501]) == ([500, 1], [500, 401])
    assert await change("DELETE", contacts) == ([0, 0], [500, 1])
    await assert_sound(api.workspace.database, api.workspace.principal.workspace_id)


async def carried(api: Api, tag: str) -> list[str]:
    rows = await run(
        api.workspace.database,
        "select contact_id from contact_tags where workspace_id = :workspace_id and tag_id = :tag_id",
        workspace_id=api.workspace.principal.workspace_id,
        tag_id=UUID(tag),
    )
    return [str(row["contact_id"]) for row in rows]


# Assignments from the contact's side.


async def test_changing_a_contacts_tags(api: Api) -> None:
    [contact] = await make_contacts(api, 1)
    a, b, c, d = ids_of(await make_tags(api, *"abcd"))
    path = f"/contacts/{contact}/tags"
    assert await written(api, "POST", path, {"tags": ["a", "b"]}) == [tagged(contact, [a, b])]
    assert await written(api, "POST", path, {"tags": ["a", "c"]}) == [tagged(contact, [c])]
    assert await written(api, "POST", path, {"tag_ids": [a]}) == []
    assert await written(api, "PUT", path, {"tags": ["c", "d"]}) == [tagged(contact, [d], [a, b])]
    assert await written(api, "PUT", path, {"tag_ids": [d, c]}) == []
    assert await written(api, "PATCH", path, {"add": ["a", "c"], "remove": ["b", "d"]}) == [tagged(contact, [a], [d])]
    assert await written(api, "PATCH", path, {"add": ["a", "c"], "remove": ["b", "d"]}) == []
    assert await written(api, "PATCH", path, {"add": ["a"], "remove": ["a"]}, refused=True) == []
    assert await written(api, "DELETE", path, {"tags": ["a", "b", "none"]}) == [tagged(contact, [], [a])]
    assert await written(api, "DELETE", path, {"tags": ["a", "b", "none"]}) == []
    assert await written(api, "PUT", f"{path}/a") == [tagged(contact, [a])]
    assert await written(api, "PUT", f"{path}/a") == []
    assert await written(api, "DELETE", f"{path}/a") == [tagged(contact, [], [a])]
    assert await written(api, "DELETE", f"{path}/a") == []
    assert await written(api, "DELETE", f"{path}/none") == []
    assert await written(api, "PUT", path, {"tags": []}) == [tagged(contact, [], [c])]
    assert await written(api, "POST", f"{path}?create_missing=false", {"tags": ["new"]}, refused=True) == []


@pytest.mark.parametrize(
    ("method", "suffix", "body"),
    [
        ("POST", "", {"tags": ["New", "old"]}),
        ("PUT", "", {"tags": ["old", "New"]}),
        ("PATCH", "", {"add": ["new", "NEW", "old"]}),
        ("PUT", "/new", None),
    ],
)
async def test_tags_made_on_the_fly(api: Api, method: str, suffix: str, body: Json | None) -> None:
    [contact] = await make_contacts(api, 1)
    await call(api, "POST", f"/contacts/{contact}/tags", {"tags": ["old"]})
    events = await written(api, method, f"/contacts/{contact}/tags{suffix}", body)
    new = (await tag_ids(api))["new"]
    assert events == [tag_event("tag.created", new), tagged(contact, [new])]


async def test_many_tags_of_one_contact(api: Api) -> None:
    [contact] = await make_contacts(api, 1)
    names = [f"t{n}" for n in range(700)]
    await make_tags(api, *names)
    events = await written(api, "PUT", f"/contacts/{contact}/tags", {"tags": names})
    ids = sorted((await tag_ids(api)).values())
    assert events == [tagged(contact, ids[:500]), tagged(contact, ids[500:])]
    events = await written(api, "PUT", f"/contacts/{contact}/tags", {"tags": []})
    assert events == [tagged(contact, [], ids[:500]), tagged(contact, [], ids[500:])]
    await assert_sound(api.workspace.database, api.workspace.principal.workspace_id)


async def test_the_audience_of_an_assignment(api: Api) -> None:
    [contact] = await make_contacts(api, 1)
    await make_audience(api, "courses", contact)
    events = await written(api, "POST", f"/contacts/{contact}/tags?audience=courses", {"tags": ["a"]})
    a = (await tag_ids(api, "courses"))["a"]
    assert events == [tag_event("tag.created", a, "courses"), tagged(contact, [a], [], "courses")]
    assert await written(api, "DELETE", f"/tags/{a}/contacts", {"contact_ids": [contact]}) == [
        assigned(a, [], [contact], "courses")
    ]


# Contacts.


async def test_making_and_changing_contacts(api: Api) -> None:
    body: Json = {"email": "a@example.com", "external_id": "7", "first_name": "A", "attributes": {"a": 1}}
    events = await written(api, "POST", "/contacts", body)
    [contact] = ids_of((await call(api, "GET", "/contacts"))["data"])
    assert events == [contact_event("contact.created", contact), contact_event("contact.joined", contact, "newsletter")]
    assert await written(api, "POST", "/contacts", body) == []
    assert await written(api, "POST", "/contacts?on_conflict=error", body, refused=True) == []
    events = await written(api, "POST", "/contacts", {**body, "last_name": "B", "attributes": {"b": 2}})
    assert events == [contact_event("contact.updated", contact, fields=["attributes", "last_name"])]
    assert await written(api, "PATCH", f"/contacts/{contact}", {"email": "b@example.com", "first_name": "A"}) == [
        contact_event("contact.updated", contact, fields=["email"])
    ]
    assert await written(api, "PATCH", f"/contacts/{contact}", {"email": "b@example.com"}) == []
    assert await written(api, "PATCH", f"/contacts/{contact}", {"attributes": {"absent": None}}) == []
    assert await written(api, "PATCH", f"/contacts/{contact}", {}) == []


async def test_a_contact_with_audiences_and_tags(api: Api) -> None:
    await make_audience(api, "courses")
    old = (await make_tag(api, "old"))["id"]
    body = {"email": "a@example.com", "audiences": ["courses", "newsletter"], "tags": ["old", "new"]}
    events = await written(api, "POST", "/contacts", body)
    [contact] = ids_of((await call(api, "GET", "/contacts"))["data"])
    new = (await tag_ids(api))["new"]
    assert by_content(events) == by_content(
        [
            contact_event("contact.created", contact),
            contact_event("contact.joined", contact, "courses"),
            contact_event("contact.joined", contact, "newsletter"),
            tag_event("tag.created", new),
            tagged(contact, [old, new]),
        ]
    )
    kinds = [event["type"] for event in events]
    assert kinds.index("contact.created") < kinds.index("contact.joined")
    assert kinds[-1] == "contact.tags_changed"
    assert await written(api, "POST", "/contacts", body) == []
    assert await written(api, "POST", "/contacts?tags_mode=replace", {**body, "tags": ["old"]}) == [
        tagged(contact, [], [new])
    ]


async def test_a_contact_in_no_audience(api: Api) -> None:
    events = await written(api, "POST", "/contacts", {"email": "a@example.com", "audiences": []})
    assert [event["type"] for event in events] == ["contact.created"]


async def test_a_batch_of_contacts(api: Api) -> None:
    first, second = await make_contacts(api, 2)
    tag = (await make_tag(api, "x"))["id"]
    batch = [
        {"email": "c0@example.com"},
        {"email": "c1@example.com", "first_name": "B", "tags": ["x"]},
        {"email": "new@example.com", "tags": ["x"]},
        {"email": "c0@example.com", "external_id": "c1", "first_name": "never"},
    ]
    events = await written(api, "POST", "/contacts/batch", {"contacts": batch})
    [new] = ids_of((await call(api, "GET", "/contacts?email=new@example.com"))["data"])
    assert by_content(events) == by_content(
        [
            contact_event("contact.updated", second, fields=["first_name"]),
            contact_event("contact.created", new),
            contact_event("contact.joined", new, "newsletter"),
            tagged(second, [tag]),
            tagged(new, [tag]),
        ]
    )
    assert first not in json.dumps(events)
    assert await written(api, "POST", "/contacts/batch", {"contacts": batch[:3]}) == []


async def test_deleting_a_contact_implies_the_removals(api: Api) -> None:
    one, two = await make_contacts(api, 2)
    await make_audience(api, "courses", one)
    for audience in ("newsletter", "courses"):
        await call(api, "POST", f"/contacts/{one}/tags", {"tags": ["a", "b"]}, audience=audience)
    assert await written(api, "DELETE", f"/contacts/{one}") == [contact_event("contact.deleted", one, removed_count=4)]
    assert await written(api, "DELETE", f"/contacts/{two}") == [contact_event("contact.deleted", two, removed_count=0)]
    assert await written(api, "DELETE", f"/contacts/{two}", refused=True) == []


async def test_joining_and_leaving(api: Api) -> None:
    contact = await make_outsider(api)
    path = f"/contacts/{contact}/audiences/newsletter"
    assert await written(api, "DELETE", path) == []
    assert await written(api, "PUT", path, {}) == [contact_event("contact.joined", contact, "newsletter")]
    assert await written(api, "PUT", path, {}) == []
    assert await written(api, "PUT", path, {"status": "subscribed"}) == []
    [changed] = await written(api, "PUT", path, {"status": "unsubscribed", "reason": "zz-too-many"})
    assert (changed["type"], changed["contact"], changed["audience"]) == ("contact.updated", contact, "newsletter")
    assert await written(api, "PUT", path, {"status": "unsubscribed", "reason": "zz-too-many"}) == []
    await call(api, "POST", f"/contacts/{contact}/tags", {"tags": ["a", "b"]})
    assert await written(api, "DELETE", path) == [contact_event("contact.left", contact, "newsletter", removed_count=2)]
    assert await written(api, "DELETE", path) == []
    # Joining with a status is one change, not two.
    assert await written(api, "PUT", path, {"status": "pending", "reason": "zz-asked"}) == [
        contact_event("contact.joined", contact, "newsletter")
    ]


# Audiences.


async def test_audiences(api: Api) -> None:
    async def audience_ids() -> list[tuple[str, str]]:
        return [(event["type"], str(event["audience_id"])) for event in await all_events(api)]

    first = (await call(api, "GET", "/audiences/newsletter"))["id"]
    before = len(await audience_ids())
    made = (await call(api, "POST", "/audiences", {"name": "courses"}, status=201))["id"]
    assert await written(api, "POST", "/audiences", {"name": "courses"}, refused=True) == []
    await call(api, "PATCH", "/audiences/courses", {"name": "Courses"})
    assert await written(api, "PATCH", "/audiences/courses", {"name": "Courses"}) == []
    await call(api, "PATCH", "/audiences/courses", {"is_default": True})
    await call(api, "PATCH", "/audiences/newsletter", {"is_default": True})
    assert await written(api, "DELETE", "/audiences/newsletter", refused=True) == []
    await call(api, "DELETE", "/audiences/courses", status=204)
    created, renamed, *moved, deleted = (await audience_ids())[before:]
    assert [created, renamed, deleted] == [
        ("audience.created", made),
        ("audience.updated", made),
        ("audience.deleted", made),
    ]
    # Both audiences are changed when the default moves from one to the other.
    assert sorted(moved) == sorted([("audience.updated", first), ("audience.updated", made)] * 2)


# All of them.


async def test_events_carry_nothing_of_a_person(api: Api) -> None:
    person = {
        "email": "zz-email@example.com",
        "external_id": "zz-external",
        "first_name": "zz-first",
        "last_name": "zz-last",
        "attributes": {"zz-key": "zz-value", "nested": {"zz-inner": ["zz-item"]}},
        "tags": ["zz-tag"],
    }
    contact = (await call(api, "POST", "/contacts", person, status=201))["id"]
    changed = {"email": "zz-other@example.com", "first_name": "zz-f", "last_name": None, "external_id": "zz-e"}
    await call(api, "PATCH", f"/contacts/{contact}", {**changed, "attributes": {"zz-key": "zz-new", "nested": None}})
    await call(api, "POST", "/contacts/batch", {"contacts": [{"email": "zz-other@example.com", "last_name": "zz-l"}]})
    tag = await make_tag(api, "zz-name", description="zz-description", public_description="zz-public")
    await call(api, "PATCH", f"/tags/{tag['id']}", {"name": "zz-renamed", "description": "zz-d", "color": "#000"})
    await call(api, "POST", f"/tags/{tag['id']}/contacts", {"emails": ["zz-other@example.com"]})
    await call(api, "PUT", f"/contacts/{contact}/tags", {"tags": ["zz-made"]})
    membership = {"status": "unsubscribed", "reason": "zz-reason"}
    await call(api, "PUT", f"/contacts/{contact}/audiences/newsletter", membership)
    await call(api, "POST", "/audiences", {"name": "zz-audience", "slug": "zz-slug"}, status=201)
    await call(api, "PATCH", "/audiences/zz-slug", {"name": "zz-audience-2"})
    await call(api, "DELETE", f"/tags/{tag['id']}", status=204)
    await call(api, "DELETE", f"/contacts/{contact}/audiences/newsletter", status=204)
    await call(api, "DELETE", f"/contacts/{contact}", status=204)
    rows = await run(
        api.workspace.database,
        "select cast(to_jsonb(e) as text) as line from events e where e.workspace_id = :workspace_id",
        workspace_id=api.workspace.principal.workspace_id,
    )
    assert len(rows) >= 15
    for row in rows:
        assert "zz" not in row["line"]
        assert "example.com" not in row["line"]
    payloads = [event["payload"] for event in await all_events(api)]
    assert {key for payload in payloads for key in payload} <= {
        "added",
        "removed",
        "removed_count",
        "version",
        "fields",
    }
    for payload in payloads:
        ids = [*payload.get("added", ()), *payload.get("removed", ())]
        assert all(str(UUID(one)) == one for one in ids)
        assert all(isinstance(payload[key], int) for key in ("removed_count", "version") if key in payload)


async def test_the_types_are_those_of_the_contract(api: Api) -> None:
    contacts = await make_contacts(api, 1)
    await make_audience(api, "courses", *contacts)
    await call(api, "PATCH", "/audiences/courses", {"name": "x"})
    tag = await make_tag(api, "a", contact_ids=contacts)
    await call(api, "PATCH", f"/tags/{tag['id']}", {"name": "b"})
    await call(api, "PUT", f"/contacts/{contacts[0]}/tags", {"tags": []})
    await call(api, "PATCH", f"/contacts/{contacts[0]}", {"first_name": "x"})
    await call(api, "DELETE", f"/contacts/{contacts[0]}/audiences/courses", status=204)
    await call(api, "DELETE", f"/contacts/{contacts[0]}", status=204)
    await call(api, "DELETE", f"/tags/{tag['id']}", status=204)
    await call(api, "DELETE", "/audiences/courses", status=204)
    assert {event["type"] for event in await all_events(api)} == {
        "tag.created",
        "tag.updated",
        "tag.deleted",
        "contact.created",
        "contact.updated",
        "contact.deleted",
        "contact.joined",
        "contact.left",
        "audience.created",
        "audience.updated",
        "audience.deleted",
        "tag.contacts_changed",
        "contact.tags_changed",
    }


async def test_the_request_id_is_the_callers_if_it_sends_one(api: Api) -> None:
    answered(await api.post("/tags", json={"name": "a"}, headers={"X-Request-Id": "mine-1"}), 201)
    assert (await all_events(api))[-1]["request_id"] == "mine-1"
