"""The feed through HTTP."""

from typing import Any

import pytest

from app.repositories.events import EVENT_TYPES
from tests.conftest import Api
from tests.routers.calls import Json, call, make_contacts, make_tags, pointers, problem


async def feed(api: Api, **params: Any) -> Json:
    answer: Json = await call(api, "GET", "/events", **params)
    return answer


async def test_changes_in_order_with_who_made_them(api: Api) -> None:
    [contact] = await make_contacts(api, 1)
    [tag] = await make_tags(api, "VIP")
    start = (await feed(api))["pagination"]["next_cursor"]
    made = await api.post(f"/contacts/{contact}/tags", json={"tags": ["VIP"]}, headers={"X-Request-Id": "mine"})
    await call(api, "DELETE", f"/tags/{tag['id']}", status=204)
    answer = await feed(api, after=start)
    added, deleted = answer["data"]
    assert added == {
        "position": start + 1,
        "id": added["id"],
        "type": "contact.tags_changed",
        "occurred_at": made.json()["data"][0]["assigned_at"],
        "audience_id": (await call(api, "GET", "/audiences/newsletter"))["id"],
        "tag_id": None,
        "contact_id": contact,
        "client_id": str(api.workspace.principal.client_id),
        "key_id": str(api.workspace.principal.key_id),
        "front_end": "native",
        "request_id": "mine",
        "payload": {"added": [tag["id"]], "removed": []},
    }
    assert (deleted["type"], deleted["tag_id"]) == ("tag.deleted", tag["id"])
    assert deleted["payload"] == {"removed_count": 1}
    assert answer["pagination"] == {"limit": 100, "has_more": False, "next_cursor": start + 2}


async def test_polling_goes_on_from_the_end(api: Api) -> None:
    end = (await feed(api))["pagination"]["next_cursor"]
    again = await feed(api, after=end)
    assert again == {"data": [], "pagination": {"limit": 100, "has_more": False, "next_cursor": end}}
    await make_tags(api, *(f"t{n}" for n in range(5)))
    positions, cursor = [], end
    while True:
        page = await feed(api, after=cursor, limit=2)
        positions += [event["position"] for event in page["data"]]
        cursor = page["pagination"]["next_cursor"]
        if not page["pagination"]["has_more"]:
            break
    assert positions == [end + n for n in range(1, 6)]
    assert cursor == positions[-1]


async def test_only_some_types(api: Api) -> None:
    await make_tags(api, "a")
    await make_contacts(api, 1)
    found = await feed(api, types=["tag.created", "contact.created"])
    assert [event["type"] for event in found["data"]] == ["tag.created", "contact.created"]
    assert (await feed(api, types=list(EVENT_TYPES)))["data"] == (await feed(api))["data"]


async def test_no_person_is_in_it(api: Api) -> None:
    body = {"email": "ruth@example.com", "external_id": "crm-7", "first_name": "Ruth", "attributes": {"city": "Ulm"}}
    made = await call(api, "POST", "/contacts", {**body, "tags": ["VIP"]}, status=201)
    await call(api, "PATCH", f"/contacts/{made['id']}", {"email": "lovelace@example.com", "last_name": "Lovelace"})
    text = (await api.get("/events")).text
    for word in ("ruth", "Ruth", "crm-7", "Ulm", "ovelace", "example.com"):
        assert word not in text


@pytest.mark.parametrize(
    ("query", "code", "pointer"),
    [
        ("after=-1", "out_of_range", "?after"),
        ("after=9007199254740992", "out_of_range", "?after"),
        ("after=99999999999999999999999", "out_of_range", "?after"),
        ("after=1.5", "invalid_type", "?after"),
        ("after=x", "invalid_type", "?after"),
        ("limit=0", "out_of_range", "?limit"),
        ("limit=1001", "out_of_range", "?limit"),
        ("types=tag.exploded", "invalid_value", "?types.0"),
        ("cursor=1", "unknown_parameter", "?cursor"),
        ("audience=newsletter", "unknown_parameter", "?audience"),
    ],
)
async def test_a_bad_query(api: Api, query: str, code: str, pointer: str) -> None:
    assert pointers(problem(await api.get(f"/events?{query}"), 422, code)) == [pointer]


async def test_a_cursor_beyond_the_end_is_refused(api: Api) -> None:
    end = (await feed(api))["pagination"]["next_cursor"]
    for after in (end + 1, 2**53 - 1):
        refused = problem(await api.get(f"/events?after={after}"), 400, "invalid_cursor")
        assert f"position {end}," in refused["detail"]


async def test_each_workspace_has_its_own(api: Api, other_api: Api) -> None:
    await make_tags(other_api, *(f"t{n}" for n in range(20)))
    assert (await feed(other_api))["pagination"]["next_cursor"] > 20
    own = await feed(api)
    assert [event["position"] for event in own["data"]] == list(range(1, own["pagination"]["next_cursor"] + 1))
    assert not {event["id"] for event in own["data"]} & {event["id"] for event in (await feed(other_api))["data"]}
