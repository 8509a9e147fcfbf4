"""The contacts of a tag over HTTP: list, assign, replace, remove."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.conftest import Api
from tests.repositories.invariants import assert_sound
from tests.routers.calls import (
    RANDOM_ID,
    Json,
    answered,
    call,
    carriers,
    field_problem,
    ids_of,
    make_audience,
    make_contacts,
    make_outsider,
    make_tag,
    pointers,
    problem,
    slugs_of,
    state_of,
    walk,
)

# The four ways to change who carries a tag: method, and what follows /tags/{tag_id}/contacts.
ASSIGN = ("POST", "")
REPLACE = ("PUT", "")
REMOVE = ("DELETE", "")
REMOVE_BY_POST = ("POST", "/remove")
VERBS = [ASSIGN, REPLACE, REMOVE, REMOVE_BY_POST]
REMOVALS = [REMOVE, REMOVE_BY_POST]
Verb = tuple[str, str]


async def change(api: Api, verb: Verb, tag: Json, body: Json, status: int = 200, **params: Any) -> Json:
    method, suffix = verb
    changed: Json = await call(api, method, f"/tags/{tag['id']}/contacts{suffix}", body, status=status, **params)
    return changed


async def refused(api: Api, verb: Verb, tag: Json, body: object, **params: Any) -> Json:
    method, suffix = verb
    response = await api.request(method, f"/tags/{tag['id']}/contacts{suffix}", json=body, params=params)
    document: Json = answered(response, 422)
    return document


async def since_when(api: Api, tag: Json) -> dict[str, str]:
    listed = await call(api, "GET", f"/tags/{tag['id']}/contacts", limit=1000)
    return {contact["id"]: contact["assigned_at"] for contact in listed["data"]}


# Assigning.


async def test_assigning(api: Api) -> None:
    contacts = await make_contacts(api, 5)
    tag = await make_tag(api, "VIP", contact_ids=contacts[:2])
    done = await change(api, ASSIGN, tag, {"contact_ids": contacts})
    assert done == {
        "requested": 5,
        "added": 3,
        "already_assigned": 2,
        "not_found": [],
        "not_members": [],
        "contact_count": 5,
    }
    assert await carriers(api, tag["id"]) == contacts
    assert [await slugs_of(api, contact) for contact in contacts] == [["vip"]] * 5


async def test_assigning_twice_counts_once_and_keeps_the_first_time(api: Api) -> None:
    contacts = await make_contacts(api, 3)
    tag = await make_tag(api, "VIP")
    await change(api, ASSIGN, tag, {"contact_ids": contacts[:2]})
    first = await since_when(api, tag)
    before = await state_of(api.workspace)
    done = await change(api, ASSIGN, tag, {"contact_ids": contacts[:2]})
    assert (done["added"], done["already_assigned"], done["contact_count"]) == (0, 2, 2)
    assert await state_of(api.workspace) == before
    await change(api, ASSIGN, tag, {"contact_ids": contacts})
    await change(api, REPLACE, tag, {"contact_ids": contacts})
    await call(api, "POST", f"/contacts/{contacts[0]}/tags", {"tags": ["VIP"]})
    await call(api, "PUT", f"/contacts/{contacts[1]}/tags", {"tags": ["VIP"]})
    await call(api, "PUT", f"/contacts/{contacts[1]}/tags/vip")
    last = await since_when(api, tag)
    assert {contact: last[contact] for contact in first} == first
    assert last[contacts[2]] > first[contacts[0]]


@pytest.mark.parametrize("verb", VERBS)
async def test_repeats_collapse(api: Api, verb: Verb) -> None:
    a, b = await make_contacts(api, 2)
    tag = await make_tag(api, "VIP", contact_ids=[a])
    bodies = [
        {"contact_ids": [a, a.upper(), b, a]},
        {"emails": ["c0@example.com", "C0@Example.COM", " c1@example.com ", "c0@example.com"]},
        {"external_ids": ["c0", "c0", "c1", "c0"]},
    ]
    # Once more in each way: the answers differ by what the ones before have done.
    for body in bodies:
        assert (await change(api, verb, tag, body))["requested"] == 2
    assert await carriers(api, tag["id"]) == ([] if verb in REMOVALS else [a, b])
    await assert_sound(api.workspace.database, api.workspace.principal.workspace_id)


@pytest.mark.parametrize("by", ["contact_ids", "emails", "external_ids"])
async def test_contacts_named_in_three_ways(api: Api, by: str) -> None:
    contacts = await make_contacts(api, 4)
    names = {
        "contact_ids": contacts,
        "emails": [f"C{n}@EXAMPLE.com" for n in range(4)],
        "external_ids": [f"c{n}" for n in range(4)],
    }[by]
    tag = await make_tag(api, "VIP")
    assert (await change(api, ASSIGN, tag, {by: names[:3]}))["added"] == 3
    assert await carriers(api, tag["id"]) == contacts[:3]
    done = await change(api, REPLACE, tag, {by: names[2:]})
    assert (done["added"], done["removed"], done["kept"]) == (1, 2, 1)
    assert await carriers(api, tag["id"]) == contacts[2:]
    assert (await change(api, REMOVE, tag, {by: names[:3]}))["removed"] == 1
    assert await carriers(api, tag["id"]) == contacts[3:]
    assert (await change(api, REMOVE_BY_POST, tag, {by: names}))["removed"] == 1
    assert await carriers(api, tag["id"]) == []
    await assert_sound(api.workspace.database, api.workspace.principal.workspace_id)


async def test_external_ids_are_compared_as_they_are(api: Api) -> None:
    await make_contacts(api, 1)
    tag = await make_tag(api, "VIP")
    assert (await change(api, ASSIGN, tag, {"external_ids": ["C0", " c0"]}, on_missing="skip"))["not_found"] == [
        "C0",
        " c0",
    ]


# What is missing.


async def make_missing(api: Api) -> dict[str, list[str]]:
    """Contacts named in each way: a member that has the tag, one that has not, one unknown, and one outsider."""
    a, b = await make_contacts(api, 2)
    outsider = await make_outsider(api, "outsider@example.com", external_id="out")
    return {
        "contact_ids": [a, b, RANDOM_ID, outsider],
        "emails": ["c0@example.com", "c1@example.com", "Nobody@example.com", "OUTSIDER@example.com"],
        "external_ids": ["c0", "c1", "nobody", "out"],
    }


@pytest.mark.parametrize("by", ["contact_ids", "emails", "external_ids"])
@pytest.mark.parametrize("verb", [ASSIGN, REPLACE])
@pytest.mark.parametrize("params", [{}, {"on_missing": "error"}])
async def test_what_is_missing_stops_all_of_it(api: Api, verb: Verb, by: str, params: dict[str, Any]) -> None:
    named = (await make_missing(api))[by]
    known, fresh, unknown, outsider = named
    tag = await make_tag(api, "VIP")
    await change(api, ASSIGN, tag, {by: [known]})
    before = await state_of(api.workspace)
    document = await refused(api, verb, tag, {by: [known, unknown, outsider, unknown, fresh]}, **params)
    assert document["code"] == "invalid_input"
    assert [(error["pointer"], error["code"]) for error in document["errors"]] == [
        (f"#/{by}/1", "unknown_ids"),
        (f"#/{by}/2", "not_members"),
        (f"#/{by}/3", "unknown_ids"),
    ]
    for code, ref in (("unknown_ids", unknown), ("not_members", outsider)):
        document = await refused(api, verb, tag, {by: [fresh, ref]}, **params)
        assert (document["code"], pointers(document)) == (code, [f"#/{by}/1"])
    assert await state_of(api.workspace) == before


@pytest.mark.parametrize("by", ["contact_ids", "emails", "external_ids"])
@pytest.mark.parametrize("verb", [ASSIGN, REPLACE])
async def test_what_is_missing_can_be_skipped(api: Api, verb: Verb, by: str) -> None:
    named = (await make_missing(api))[by]
    known, fresh, unknown, outsider = named
    tag = await make_tag(api, "VIP")
    await change(api, ASSIGN, tag, {by: [known]})
    done = await change(api, verb, tag, {by: [unknown, known, outsider, fresh, unknown, outsider]}, on_missing="skip")
    expected = {"requested": 4, "added": 1, "not_found": [unknown], "not_members": [outsider], "contact_count": 2}
    expected |= {"already_assigned": 1} if verb == ASSIGN else {"kept": 1, "removed": 0}
    assert done == expected
    done = await change(api, verb, tag, {by: [unknown, outsider]}, on_missing="skip")
    assert (done["added"], done["contact_count"]) == ((0, 2) if verb == ASSIGN else (0, 0))
    await assert_sound(api.workspace.database, api.workspace.principal.workspace_id)


@pytest.mark.parametrize("by", ["contact_ids", "emails", "external_ids"])
@pytest.mark.parametrize("verb", REMOVALS)
async def test_removing_reports_what_is_missing_and_goes_on(api: Api, verb: Verb, by: str) -> None:
    known, fresh, unknown, outsider = (await make_missing(api))[by]
    tag = await make_tag(api, "VIP")
    await change(api, ASSIGN, tag, {by: [known]})
    done = await change(api, verb, tag, {by: [unknown, fresh, outsider, known, unknown]})
    assert done == {"requested": 4, "removed": 1, "not_assigned": 2, "not_found": [unknown], "contact_count": 0}


async def test_only_the_first_hundred_errors_are_listed(api: Api) -> None:
    tag = await make_tag(api, "VIP")
    document = await refused(api, ASSIGN, tag, {"external_ids": [f"nobody{n}" for n in range(150)]})
    assert (document["code"], len(document["errors"])) == ("unknown_ids", 100)
    assert "150" in document["detail"]


@pytest.mark.parametrize("verb", [ASSIGN, REPLACE])
async def test_on_missing_has_two_choices(api: Api, verb: Verb) -> None:
    tag = await make_tag(api, "VIP")
    document = await refused(api, verb, tag, {"contact_ids": [RANDOM_ID]}, on_missing="ignore")
    assert pointers(document) == ["?on_missing"]


@pytest.mark.parametrize("verb", REMOVALS)
async def test_removing_takes_no_condition(api: Api, verb: Verb) -> None:
    [contact] = await make_contacts(api, 1)
    tag = await make_tag(api, "VIP", contact_ids=[contact])
    assert pointers(await refused(api, verb, tag, {"contact_ids": [contact]}, on_missing="skip")) == ["?on_missing"]
    assert await carriers(api, tag["id"]) == [contact]


# Replacing.


async def test_replacing(api: Api) -> None:
    contacts = await make_contacts(api, 5)
    tag = await make_tag(api, "VIP", contact_ids=contacts[:3])
    other = await make_tag(api, "Other", contact_ids=contacts)
    first = await since_when(api, tag)
    done = await change(api, REPLACE, tag, {"contact_ids": contacts[2:]})
    assert done == {
        "requested": 3,
        "added": 2,
        "removed": 2,
        "kept": 1,
        "not_found": [],
        "not_members": [],
        "contact_count": 3,
    }
    assert await carriers(api, tag["id"]) == contacts[2:]
    assert (await since_when(api, tag))[contacts[2]] == first[contacts[2]]
    assert await carriers(api, other["id"]) == contacts
    before = await state_of(api.workspace)
    again = await change(api, REPLACE, tag, {"contact_ids": contacts[2:]})
    assert (again["added"], again["removed"], again["kept"]) == (0, 0, 3)
    assert await state_of(api.workspace) == before
    await assert_sound(api.workspace.database, api.workspace.principal.workspace_id)


@pytest.mark.parametrize("by", ["contact_ids", "emails", "external_ids"])
async def test_replacing_by_nobody_clears(api: Api, by: str) -> None:
    contacts = await make_contacts(api, 3)
    tag = await make_tag(api, "VIP", contact_ids=contacts)
    done = await change(api, REPLACE, tag, {by: []})
    assert (done["requested"], done["removed"], done["contact_count"]) == (0, 3, 0)
    assert await carriers(api, tag["id"]) == []


# Removing.


@pytest.mark.parametrize("verb", REMOVALS)
async def test_removing(api: Api, verb: Verb) -> None:
    contacts = await make_contacts(api, 4)
    tag = await make_tag(api, "VIP", contact_ids=contacts[:3])
    other = await make_tag(api, "Other", contact_ids=contacts)
    done = await change(api, verb, tag, {"contact_ids": contacts[1:]})
    assert done == {"requested": 3, "removed": 2, "not_assigned": 1, "not_found": [], "contact_count": 1}
    assert await carriers(api, tag["id"]) == contacts[:1]
    assert await carriers(api, other["id"]) == contacts
    before = await state_of(api.workspace)
    again = await change(api, verb, tag, {"contact_ids": contacts[1:]})
    assert (again["removed"], again["not_assigned"], again["contact_count"]) == (0, 3, 1)
    assert await state_of(api.workspace) == before
    await assert_sound(api.workspace.database, api.workspace.principal.workspace_id)


@pytest.mark.parametrize("verb", VERBS)
async def test_a_body_that_names_nobody_never_means_all(api: Api, verb: Verb) -> None:
    tag = await make_tag(api, "VIP", contact_ids=await make_contacts(api, 2))
    before = await state_of(api.workspace)
    method, suffix = verb
    path = f"/tags/{tag['id']}/contacts{suffix}"
    problem(await api.request(method, path), 422, "missing")
    problem(await api.request(method, path, headers={"Content-Type": "application/json"}), 422, "missing")
    bodies: list[object] = [None, {}, [], "all", {"contact_ids": None}, {"contact_ids": "*"}, {"contact_ids": {}}]
    for body in bodies:
        answered(
            await api.request(method, path, json=body)
            if body is not None
            else await api.request(method, path, content="null", headers={"Content-Type": "application/json"}),
            422,
        )
    if verb != REPLACE:
        for by in ("contact_ids", "emails", "external_ids"):
            field_problem(await api.request(method, path, json={by: []}), f"#/{by}", "too_short")
    assert await state_of(api.workspace) == before


# Bodies.


@pytest.mark.parametrize("verb", VERBS)
async def test_contacts_are_named_in_one_way_only(api: Api, verb: Verb) -> None:
    contacts = await make_contacts(api, 1)
    tag = await make_tag(api, "VIP")
    body = {"contact_ids": contacts, "emails": ["c0@example.com"]}
    assert (await refused(api, verb, tag, body))["code"] == "not_together"
    assert (await refused(api, verb, tag, {"contacts": contacts}))["errors"][0]["code"] == "unknown_field"


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        ({"contact_ids": [RANDOM_ID, "c0"]}, "#/contact_ids/1", "invalid_id"),
        ({"contact_ids": [5]}, "#/contact_ids/0", "invalid_type"),
        ({"emails": ["c0@example.com", "nobody"]}, "#/emails/1", "invalid_value"),
        ({"emails": ["a\x00@example.com"]}, "#/emails/0", "invalid_characters"),
        ({"external_ids": ["c0", ""]}, "#/external_ids/1", "too_short"),
        ({"external_ids": ["x" * 256]}, "#/external_ids/0", "too_long"),
        ({"external_ids": ["a\x00"]}, "#/external_ids/0", "invalid_characters"),
        ({"external_ids": [7]}, "#/external_ids/0", "invalid_type"),
    ],
)
async def test_names_of_contacts_that_cannot_be(api: Api, verb: Verb, body: Json, pointer: str, code: str) -> None:
    document = await refused(api, verb, await make_tag(api, "VIP"), body)
    assert [(error["pointer"], error["code"]) for error in document["errors"]] == [(pointer, code)]


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("by", ["contact_ids", "emails", "external_ids"])
async def test_how_many_contacts_are_taken(api: Api, verb: Verb, by: str) -> None:
    names = {"contact_ids": RANDOM_ID, "emails": "nobody@example.com", "external_ids": "nobody"}
    tag = await make_tag(api, "VIP")
    params: dict[str, Any] = {} if verb in REMOVALS else {"on_missing": "skip"}
    assert (await change(api, verb, tag, {by: [names[by]] * 10_000}, **params))["not_found"] == [names[by]]
    document = await refused(api, verb, tag, {by: [names[by]] * 10_001}, **params)
    assert [(error["pointer"], error["code"]) for error in document["errors"]] == [(f"#/{by}", "too_long")]


async def test_ten_thousand_contacts_in_one_call(api: Api) -> None:
    """Also where all of them change, and where the planner knows nothing of the tables yet: 100 million comparisons,
    one for each pair, would take longer than a statement may."""
    contacts = await make_contacts(api, 20_000)
    tag = await make_tag(api, "VIP")
    assert (await change(api, ASSIGN, tag, {"contact_ids": contacts[:10_000]}))["added"] == 10_000
    for these in (contacts[10_000:], contacts[:10_000], contacts[4_000:14_000]):
        done = await change(api, REPLACE, tag, {"contact_ids": these})
        assert (done["added"], done["contact_count"]) == (done["removed"], 10_000)
    done = await change(api, REMOVE, tag, {"contact_ids": contacts[:10_000]})
    assert (done["removed"], done["not_assigned"], done["contact_count"]) == (6_000, 4_000, 4_000)
    await assert_sound(api.workspace.database, api.workspace.principal.workspace_id)


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("tag_id", [RANDOM_ID, "vip", "1"])
async def test_ids_of_no_tag(api: Api, verb: Verb, tag_id: str) -> None:
    contacts = await make_contacts(api, 1)
    await make_tag(api, "VIP")
    method, suffix = verb
    for by, names in (("contact_ids", [*contacts, RANDOM_ID]), ("emails", ["c0@example.com"])):
        response = await api.request(method, f"/tags/{tag_id}/contacts{suffix}", json={by: names})
        assert problem(response, 404, "not_found")["detail"] == f"There is no tag {tag_id}."


# Members only.


@pytest.mark.parametrize("verb", [ASSIGN, REPLACE])
async def test_only_members_of_the_tags_audience_carry_it(api: Api, verb: Verb) -> None:
    here, both = await make_contacts(api, 2)
    await make_audience(api, "courses", both)
    tag = await make_tag(api, "VIP", audience="courses")
    document = await refused(api, verb, tag, {"contact_ids": [both, here]})
    assert (document["code"], pointers(document)) == ("not_members", ["#/contact_ids/1"])
    done = await change(api, verb, tag, {"contact_ids": [both, here]}, on_missing="skip")
    assert (done["added"], done["not_members"]) == (1, [here])
    assert await slugs_of(api, both, "courses") == ["vip"]
    assert await slugs_of(api, both) == []


async def test_leaving_the_audience_drops_its_tags_and_no_others(api: Api) -> None:
    one, two = await make_contacts(api, 2)
    await make_audience(api, "courses", one, two)
    tag = await make_tag(api, "VIP", contact_ids=[one, two])
    other = await make_tag(api, "VIP", audience="courses", contact_ids=[one, two])
    await call(api, "DELETE", f"/contacts/{one}/audiences/newsletter", status=204)
    assert await carriers(api, tag["id"]) == [two]
    assert await carriers(api, other["id"]) == [one, two]
    # Coming back does not bring the tags back.
    await call(api, "PUT", f"/contacts/{one}/audiences/newsletter", {}, status=201)
    assert await slugs_of(api, one) == []
    await assert_sound(api.workspace.database, api.workspace.principal.workspace_id)


async def test_deleting_a_contact_drops_its_tags(api: Api) -> None:
    one, two = await make_contacts(api, 2)
    tags = [await make_tag(api, name, contact_ids=[one, two]) for name in "ab"]
    await call(api, "DELETE", f"/contacts/{one}", status=204)
    for tag in tags:
        assert await carriers(api, tag["id"]) == [two]
        assert (await change(api, REMOVE, tag, {"contact_ids": [one]}))["not_found"] == [one]
    await assert_sound(api.workspace.database, api.workspace.principal.workspace_id)


# The list.


async def test_the_list_shows_contacts_and_since_when(api: Api) -> None:
    [contact] = await make_contacts(api, 1)
    tag = await make_tag(api, "VIP", contact_ids=[contact])
    listed = await call(api, "GET", f"/tags/{tag['id']}/contacts")
    shown = await call(api, "GET", f"/contacts/{contact}")
    [item] = listed["data"]
    assert item == {**shown, "assigned_at": item["assigned_at"]}
    assert abs(datetime.fromisoformat(item["assigned_at"]) - datetime.now(UTC)) < timedelta(seconds=30)
    assert listed["pagination"] == {"total": 1, "limit": 100, "offset": 0, "has_more": False, "next_cursor": None}


async def test_the_list_of_nobody(api: Api) -> None:
    tag = await make_tag(api, "VIP")
    listed = await call(api, "GET", f"/tags/{tag['id']}/contacts")
    assert (listed["data"], listed["pagination"]["total"]) == ([], 0)


@pytest.mark.parametrize("tag_id", [RANDOM_ID, "nonsense"])
async def test_the_list_of_no_tag(api: Api, tag_id: str) -> None:
    problem(await api.get(f"/tags/{tag_id}/contacts"), 404, "not_found")


@pytest.mark.parametrize("limit", [1, 3, 7, 100])
async def test_paging(api: Api, limit: int) -> None:
    contacts = await make_contacts(api, 7)
    await make_contacts(api, 2, prefix="without")
    tag = await make_tag(api, "VIP", contact_ids=contacts)
    pages = await walk(api, f"/tags/{tag['id']}/contacts", limit=limit)
    assert [contact["id"] for page in pages for contact in page] == contacts
    assert len(pages) == -(-7 // limit)
    for offset in range(8):
        page = await call(api, "GET", f"/tags/{tag['id']}/contacts", limit=limit, offset=offset)
        assert ids_of(page["data"]) == contacts[offset : offset + limit]
        assert (page["pagination"]["total"], page["pagination"]["offset"]) == (7, offset)


async def test_a_walk_during_which_contacts_come_and_go(api: Api) -> None:
    contacts = await make_contacts(api, 20)
    tag = await make_tag(api, "VIP", contact_ids=contacts[::2])
    path = f"/tags/{tag['id']}/contacts"
    seen: list[str] = []
    cursor: dict[str, Any] = {}
    gone = set()
    while True:
        page = await call(api, "GET", path, limit=2, **cursor)
        seen += ids_of(page["data"])
        if page["pagination"]["next_cursor"] is None:
            break
        cursor = {"cursor": page["pagination"]["next_cursor"]}
        place = contacts.index(seen[-1])
        leaving = [contacts[place], contacts[min(place + 2, 19)]]
        gone.update(leaving)
        await change(api, REMOVE, tag, {"contact_ids": leaving})
        await change(api, ASSIGN, tag, {"contact_ids": [contacts[max(place - 1, 1)], contacts[min(place + 5, 19)]]})
    assert len(seen) == len(set(seen))
    assert set(contacts[::2]) - gone <= set(seen)
    assert seen == sorted(seen)


async def test_only_those_assigned_in_a_span_of_time(api: Api) -> None:
    contacts = await make_contacts(api, 4)
    tag = await make_tag(api, "VIP")
    for contact in contacts:
        await change(api, ASSIGN, tag, {"contact_ids": [contact]})
    times = await since_when(api, tag)
    moments = [times[contact] for contact in contacts]
    assert moments == sorted(set(moments))
    path = f"/tags/{tag['id']}/contacts"

    async def within(**span: Any) -> list[str]:
        whole = ids_of((await call(api, "GET", path, **span))["data"])
        assert [contact["id"] for page in await walk(api, path, limit=1, **span) for contact in page] == whole
        return whole

    assert await within(assigned_after=moments[1]) == contacts[2:]
    assert await within(assigned_before=moments[1]) == contacts[:1]
    assert await within(assigned_after=moments[0], assigned_before=moments[3]) == contacts[1:3]
    assert await within(assigned_after=moments[3]) == []
    later = datetime.fromisoformat(moments[1]) + timedelta(hours=5, minutes=30)
    in_delhi = later.replace(tzinfo=None).isoformat() + "+05:30"
    assert await within(assigned_after=in_delhi) == contacts[2:]


async def test_the_total_counts_the_unfiltered_list(api: Api) -> None:
    """Elsewhere a total is only given where it was asked for, since it must be counted."""
    tag = await make_tag(api, "VIP", contact_ids=await make_contacts(api, 3))
    path = f"/tags/{tag['id']}/contacts"
    assert (await call(api, "GET", path, limit=1))["pagination"]["total"] == 3
    moment = "2020-01-01T00:00:00Z"
    assert (await call(api, "GET", path, assigned_after=moment))["pagination"]["total"] is None
    asked = await call(api, "GET", path, assigned_before=moment, include_total="true")
    assert asked["pagination"]["total"] == 0


@pytest.mark.parametrize("name", ["assigned_after", "assigned_before"])
@pytest.mark.parametrize(
    "value", ["yesterday", "2026-01-01", "2026-01-01T00:00:00", "1767225600", "", "2026-13-01T00:00:00Z"]
)
async def test_times_that_are_none(api: Api, name: str, value: str) -> None:
    tag = await make_tag(api, "VIP")
    field_problem(await api.get(f"/tags/{tag['id']}/contacts", params={name: value}), f"?{name}", "invalid_value")


async def test_a_cursor_belongs_to_its_tag_and_its_span(api: Api) -> None:
    contacts = await make_contacts(api, 2)
    tag, other = [await make_tag(api, name, contact_ids=contacts) for name in "ab"]
    cursor = (await call(api, "GET", f"/tags/{tag['id']}/contacts", limit=1))["pagination"]["next_cursor"]
    for path in (
        f"/tags/{other['id']}/contacts?cursor={cursor}",
        f"/tags/{tag['id']}/contacts?cursor={cursor}&assigned_after=2020-01-01T00:00:00Z",
        f"/contacts?cursor={cursor}",
        f"/tags?cursor={cursor}",
    ):
        problem(await api.get(path), 400, "invalid_cursor")


# The audience in force.


@pytest.mark.parametrize("verb", VERBS)
async def test_the_tag_must_be_of_the_audience_that_is_named(api: Api, verb: Verb) -> None:
    contacts = await make_contacts(api, 1)
    await make_audience(api, "courses", *contacts)
    tag = await make_tag(api, "VIP", audience="courses")
    assert (await change(api, verb, tag, {"contact_ids": contacts}, audience="courses"))["requested"] == 1
    await refused(api, verb, tag, {"contact_ids": contacts}, audience="newsletter")


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
@pytest.mark.parametrize("parameter", ["assigned_after", "assigned_before"])
async def test_times_that_are_none_in_utc(api: Api, parameter: str, moment: str) -> None:
    tag = await make_tag(api, "VIP")
    response = await api.get(f"/tags/{tag['id']}/contacts", params={parameter: moment})
    assert problem(response, 422, "out_of_range")["errors"][0]["pointer"] == f"?{parameter}"
