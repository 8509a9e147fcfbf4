"""Contacts over HTTP: made or updated alone and by the thousand, listed, changed, deleted, and in audiences."""

import json
import re
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
    forget_default_audience,
    ids_of,
    make_audience,
    make_contacts,
    make_outsider,
    make_tag,
    pointers,
    problem,
    run,
    slugs_of,
    state_of,
    walk,
)

EMAIL_OF_320 = "x" * 308 + "@example.com"


async def upsert(api: Api, body: Json, status: int, **params: Any) -> Json:
    contact: Json = await call(api, "POST", "/contacts", body, status=status, **params)
    return contact


async def batch(api: Api, *contacts: Json, **params: Any) -> list[Json]:
    done: Json = await call(api, "POST", "/contacts/batch", {"contacts": list(contacts)}, **params)
    data: list[Json] = done["data"]
    return data


async def memberships(api: Api, contact: str) -> dict[str, Json]:
    listed = await call(api, "GET", f"/contacts/{contact}/audiences")
    return {one["audience"]: one for one in listed["data"]}


def attributes_of(size: int) -> Json:
    """A JSON object that takes so many bytes, written without blanks."""
    return {"a": "x" * (size - len('{"a":""}'))}


def plain(attributes: Json) -> str:
    """As text, since to Python true is 1; but 1.0 is 1 in JSON too."""
    return re.sub(r"\.0\b", "", json.dumps(attributes, sort_keys=True))


def post(api: Api, body: object) -> Any:
    """Half surrogate pairs are beyond what the client encodes."""
    return api.post("/contacts", content=json.dumps(body), headers={"Content-Type": "application/json"})


# Making one.


async def test_a_new_contact_with_an_email_alone(api: Api) -> None:
    response = await api.post("/contacts", json={"email": " Ada@Example.com "})
    contact = answered(response, 201)
    assert response.headers["location"] == f"/contacts/{contact['id']}"
    assert contact == {
        "id": contact["id"],
        "number": contact["number"],
        "email": "Ada@Example.com",
        "external_id": None,
        "first_name": None,
        "last_name": None,
        "attributes": {},
        "created_at": contact["created_at"],
        "updated_at": contact["created_at"],
    }
    assert contact["id"][14] == "7"
    assert isinstance(contact["number"], int)
    assert await call(api, "GET", response.headers["location"]) == contact
    assert list(await memberships(api, contact["id"])) == ["newsletter"]


async def test_a_new_contact_with_everything(api: Api) -> None:
    await make_audience(api, "courses")
    attributes = {"größe": 3, "🎉": [1, 2.5, None, {"a": None}], "nested": {"yes": True, "no": False}, "": "\\u0000"}
    fields = {
        "email": "ada@example.com",
        "external_id": "Kunde 7",
        "first_name": "Ada",
        "last_name": "Łovelace 🎉",
        "attributes": attributes,
    }
    body = {**fields, "audiences": ["courses", "newsletter", "courses"], "tags": ["VIP", "Beta Tester", "vip"]}
    contact = await upsert(api, body, 201)
    assert fields.items() <= contact.items()
    assert await call(api, "GET", f"/contacts/{contact['id']}") == contact
    assert list(await memberships(api, contact["id"])) == ["courses", "newsletter"]
    assert await slugs_of(api, contact["id"]) == ["beta-tester", "vip"]
    assert await slugs_of(api, contact["id"], "courses") == []
    before = await state_of(api.workspace)
    assert await upsert(api, body, 200) == contact
    assert await state_of(api.workspace) == before
    await assert_sound(api.workspace.database, api.workspace.principal.workspace_id)


async def test_a_new_contact_in_no_audience(api: Api) -> None:
    outsider = await make_outsider(api)
    assert await memberships(api, outsider) == {}


async def test_a_key_without_an_audience_makes_contacts_in_none(api: Api) -> None:
    await forget_default_audience(api.workspace)
    contact = await upsert(api, {"email": "a@example.com"}, 201)
    assert await memberships(api, contact["id"]) == {}
    field_problem(
        await api.post("/contacts", json={"email": "b@example.com", "tags": ["x"]}), "?audience", "audience_required"
    )
    contact = await upsert(api, {"email": "c@example.com", "tags": ["x"]}, 201, audience="newsletter")
    assert await slugs_of(api, contact["id"]) == ["x"]


async def test_tags_go_to_the_audience_in_force(api: Api) -> None:
    await make_audience(api, "courses")
    contact = await upsert(api, {"email": "a@example.com", "tags": ["x"]}, 201, audience="courses")
    assert list(await memberships(api, contact["id"])) == ["courses"]
    assert await slugs_of(api, contact["id"], "courses") == ["x"]
    # It joins the audience in force for them, beside the audiences named.
    contact = await upsert(api, {"email": "b@example.com", "tags": ["x"], "audiences": ["courses"]}, 201)
    assert list(await memberships(api, contact["id"])) == ["courses", "newsletter"]
    assert await slugs_of(api, contact["id"]) == ["x"]


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("email", None, "invalid_type"),
        ("email", "", "invalid_value"),
        ("email", "nobody", "invalid_value"),
        ("email", "a@b@example.com", "invalid_value"),
        ("email", "a b@example.com", "invalid_value"),
        ("email", "@example.com", "invalid_value"),
        ("email", "x" + EMAIL_OF_320, "too_long"),
        ("email", "a\x00@example.com", "invalid_characters"),
        ("email", "a\ud800@example.com", "invalid_characters"),
        ("external_id", "", "too_short"),
        ("external_id", "x" * 256, "too_long"),
        ("external_id", 7, "invalid_type"),
        ("external_id", "a\x00", "invalid_characters"),
        ("first_name", "x" * 256, "too_long"),
        ("first_name", "a\ud800", "invalid_characters"),
        ("last_name", "x" * 256, "too_long"),
        ("last_name", 7, "invalid_type"),
        ("attributes", attributes_of(16_385), "too_large"),
        ("attributes", [], "invalid_type"),
        ("attributes", "{}", "invalid_type"),
        ("attributes", {"a": "\x00"}, "invalid_characters"),
        ("attributes", {"a\x00": 1}, "invalid_characters"),
        ("attributes", {"a": ["\ud800"]}, "invalid_characters"),
        ("id", RANDOM_ID, "unknown_field"),
        ("status", "subscribed", "unknown_field"),
    ],
)
async def test_fields_that_are_refused(api: Api, field: str, value: object, code: str) -> None:
    contact = await upsert(api, {"email": "there@example.com"}, 201)
    before = await state_of(api.workspace)
    body = {"email": "a@example.com", field: value}
    response = await post(api, body)
    assert [error["code"] for error in answered(response, 422)["errors"]] in (
        [code],
        ["too_short"] if value == "" else [],
    )
    assert pointers(response.json()) == [f"#/{field}"]
    response = await api.post(
        "/contacts/batch",
        content=json.dumps({"contacts": [{"email": "b@example.com"}, body]}),
        headers={"Content-Type": "application/json"},
    )
    assert pointers(answered(response, 422)) == [f"#/contacts/1/{field}"]
    response = await api.patch(
        f"/contacts/{contact['id']}", content=json.dumps({field: value}), headers={"Content-Type": "application/json"}
    )
    assert pointers(answered(response, 422)) == [f"#/{field}"]
    assert await state_of(api.workspace) == before


async def test_an_email_is_required(api: Api) -> None:
    field_problem(await api.post("/contacts", json={"external_id": "7"}), "#/email", "missing")


@pytest.mark.parametrize(
    "fields",
    [
        {"email": EMAIL_OF_320},
        {"external_id": "é" * 255},
        {"first_name": "🎉" * 255, "last_name": ""},
        {"attributes": attributes_of(16_384)},
        # As many bytes, in many members: how they are written out must not count.
        {"attributes": {f"{n:04}": n for n in range(1_000, 2_000)} | {f"{n}": 1 for n in range(2_000, 2_350)}},
        {"attributes": {"é" * 8_000: 1}},
    ],
)
async def test_the_longest_fields(api: Api, fields: Json) -> None:
    assert len(json.dumps(fields.get("attributes"), ensure_ascii=False, separators=(",", ":")).encode()) <= 16_384
    contact = await upsert(api, {"email": "a@example.com", **fields}, 201)
    assert fields.items() <= contact.items()
    assert await call(api, "PATCH", f"/contacts/{contact['id']}", fields) == contact


async def test_many_small_attributes_up_to_the_limit(api: Api) -> None:
    """16,384 bytes without blanks; with a blank behind each comma and colon they would be more."""
    attributes = {f"k{n:04}": n % 10 for n in range(1_489)}
    size = len(json.dumps(attributes, separators=(",", ":")))
    attributes["k0000"] = int("1" * (16_384 - size + 1))
    assert len(json.dumps(attributes, separators=(",", ":"))) == 16_384
    contact = await upsert(api, {"email": "a@example.com", "attributes": attributes}, 201)
    assert contact["attributes"] == attributes


async def test_attributes_that_grow_beyond_the_limit_by_merging(api: Api) -> None:
    contact = await upsert(api, {"email": "a@example.com", "attributes": attributes_of(10_000)}, 201)
    before = await state_of(api.workspace)
    more = {"attributes": {"b": "x" * 7_000}}
    for response in (
        await api.patch(f"/contacts/{contact['id']}", json=more),
        await api.post("/contacts", json={"email": "a@example.com", **more}),
    ):
        field_problem(response, "#/attributes", "too_large")
    [failed, fine] = await batch(api, {"email": "a@example.com", **more}, {"email": "b@example.com"})
    assert (failed["outcome"], failed["error"]["code"], fine["outcome"]) == ("failed", "too_large", "created")
    await call(api, "DELETE", f"/contacts/{fine['contact']['id']}", status=204)
    assert [line for line in await state_of(api.workspace) if line[0] != "events"] == [
        line for line in before if line[0] != "events"
    ]


async def test_how_many_audiences_and_tags_one_takes(api: Api) -> None:
    slugs = [f"a{n}" for n in range(50)]
    for slug in slugs:
        await make_audience(api, slug)
    tags = [f"t{n}" for n in range(100)]
    contact = await upsert(api, {"email": "a@example.com", "audiences": slugs, "tags": tags}, 201)
    assert len(await memberships(api, contact["id"])) == 51
    assert len(await slugs_of(api, contact["id"])) == 100
    for field, values in (("audiences", [*slugs, "newsletter"]), ("tags", [*tags, "one more"])):
        field_problem(
            await api.post("/contacts", json={"email": "b@example.com", field: values}), f"#/{field}", "too_long"
        )


@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        ({"audiences": ["newsletter", "nowhere"]}, "#/audiences/1", "unknown_audience"),
        ({"audiences": ["No Slug"]}, "#/audiences/0", "invalid_value"),
        ({"audiences": None}, "#/audiences", "invalid_type"),
        ({"tags": ["fine", " "]}, "#/tags/1", "too_short"),
        ({"tags": None}, "#/tags", "invalid_type"),
        ({"tags": "VIP"}, "#/tags", "invalid_type"),
    ],
)
async def test_audiences_and_tags_that_are_refused(api: Api, body: Json, pointer: str, code: str) -> None:
    before = await state_of(api.workspace)
    field_problem(await api.post("/contacts", json={"email": "a@example.com", **body}), pointer, code)
    assert await state_of(api.workspace) == before


@pytest.mark.parametrize("body", [{}, {"tags": ["x"]}, {"audiences": ["newsletter"]}, {"audiences": [], "tags": []}])
@pytest.mark.parametrize("path", ["/contacts", "/contacts/batch"])
async def test_an_audience_in_force_that_does_not_exist(api: Api, path: str, body: Json) -> None:
    contact = {"email": "a@example.com", **body}
    before = await state_of(api.workspace)
    response = await api.post(
        path, json=contact if path == "/contacts" else {"contacts": [contact]}, params={"audience": "nowhere"}
    )
    field_problem(response, "?audience", "unknown_audience")
    assert await state_of(api.workspace) == before


# Meeting one that is there.


async def test_an_upsert_matches_the_email_in_any_case(api: Api) -> None:
    contact = await upsert(api, {"email": "Ada@Example.com", "first_name": "Ada", "last_name": "L"}, 201)
    response = await api.post("/contacts", json={"email": "ada@EXAMPLE.com", "first_name": "Augusta"})
    updated = answered(response, 200)
    assert response.headers["location"] == f"/contacts/{contact['id']}"
    assert updated == {
        **contact,
        "email": "ada@EXAMPLE.com",
        "first_name": "Augusta",
        "updated_at": updated["updated_at"],
    }
    assert updated["updated_at"] > contact["updated_at"]


async def test_an_upsert_matches_unicode_in_both_normal_forms(api: Api) -> None:
    contact = await upsert(api, {"email": "Jose\u0301@exämple.com"}, 201)
    assert contact["email"] == "José@exämple.com"
    assert (await upsert(api, {"email": "josé@EXÄMPLE.com"}, 200))["id"] == contact["id"]


async def test_an_upsert_matches_the_external_id_where_the_email_is_new(api: Api) -> None:
    contact = await upsert(api, {"email": "old@example.com", "external_id": "7"}, 201)
    updated = await upsert(api, {"email": "new@example.com", "external_id": "7"}, 200)
    assert (updated["id"], updated["email"]) == (contact["id"], "new@example.com")
    assert (await upsert(api, {"email": "old@example.com"}, 201))["id"] != contact["id"]


async def test_an_upsert_gives_an_external_id_to_the_one_with_the_email(api: Api) -> None:
    contact = await upsert(api, {"email": "a@example.com"}, 201)
    assert (await upsert(api, {"email": "a@example.com", "external_id": "7"}, 200))["external_id"] == "7"
    assert (await upsert(api, {"email": "a@example.com", "external_id": None}, 200))["external_id"] is None
    again = await upsert(api, {"email": "a@example.com"}, 200)
    assert (again["id"], again["external_id"]) == (contact["id"], None)


@pytest.mark.parametrize("on_conflict", ["update", "error"])
async def test_an_email_and_an_external_id_of_two_contacts(api: Api, on_conflict: str) -> None:
    first = await upsert(api, {"email": "a@example.com", "external_id": "1"}, 201)
    second = await upsert(api, {"email": "b@example.com", "external_id": "2"}, 201)
    before = await state_of(api.workspace)
    body = {"email": "a@example.com", "external_id": "2", "tags": ["x"]}
    document = problem(await api.post(f"/contacts?on_conflict={on_conflict}", json=body), 409, "contact_mismatch")
    assert document["email_contact_id"] == first["id"]
    assert document["external_id_contact_id"] == second["id"]
    assert await state_of(api.workspace) == before


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"email": "A@example.com"}, "email_taken"),
        ({"email": "A@example.com", "external_id": "7"}, "email_taken"),
        ({"email": "new@example.com", "external_id": "7"}, "external_id_taken"),
    ],
)
async def test_a_contact_that_must_be_new(api: Api, body: Json, code: str) -> None:
    contact = await upsert(api, {"email": "a@example.com", "external_id": "7"}, 201)
    before = await state_of(api.workspace)
    body |= {"first_name": "X", "tags": ["x"]}
    document = problem(await api.post("/contacts?on_conflict=error", json=body), 409, code)
    assert document["existing_id"] == contact["id"]
    assert await state_of(api.workspace) == before
    assert await upsert(api, {"email": "c@example.com"}, 201, on_conflict="error")


async def test_an_upsert_changes_only_what_it_carries(api: Api) -> None:
    body = {
        "email": "a@example.com",
        "external_id": "7",
        "first_name": "A",
        "last_name": "B",
        "attributes": {"a": 1},
        "tags": ["x"],
    }
    contact = await upsert(api, body, 201)
    assert await upsert(api, {"email": "a@example.com"}, 200) == contact
    assert await slugs_of(api, contact["id"]) == ["x"]
    cleared = await upsert(api, {"email": "a@example.com", "first_name": None, "last_name": None}, 200)
    assert cleared == {**contact, "first_name": None, "last_name": None, "updated_at": cleared["updated_at"]}


async def test_an_upsert_leaves_the_subscription_alone(api: Api) -> None:
    contact = await upsert(api, {"email": "a@example.com"}, 201)
    await call(api, "PUT", f"/contacts/{contact['id']}/audiences/newsletter", {"status": "unsubscribed"})
    await upsert(api, {"email": "a@example.com", "audiences": ["newsletter"], "tags": ["x"]}, 200)
    assert (await memberships(api, contact["id"]))["newsletter"]["status"] == "unsubscribed"


async def test_an_upsert_joins_audiences_and_leaves_none(api: Api) -> None:
    await make_audience(api, "courses")
    contact = await upsert(api, {"email": "a@example.com"}, 201)
    await upsert(api, {"email": "a@example.com", "audiences": ["courses"]}, 200)
    await upsert(api, {"email": "a@example.com", "audiences": []}, 200)
    joined = await memberships(api, contact["id"])
    assert {slug: (one["status"], one["subscribed"]) for slug, one in joined.items()} == {
        "courses": ("subscribed", True),
        "newsletter": ("subscribed", True),
    }


async def test_tags_are_added_or_replaced(api: Api) -> None:
    await make_audience(api, "courses")
    contact = await upsert(api, {"email": "a@example.com", "tags": ["a", "b"]}, 201)
    await upsert(api, {"email": "a@example.com", "tags": ["x"]}, 200, audience="courses")
    await upsert(api, {"email": "a@example.com", "tags": ["c"]}, 200)
    assert await slugs_of(api, contact["id"]) == ["a", "b", "c"]
    await upsert(api, {"email": "a@example.com", "tags": []}, 200)
    assert await slugs_of(api, contact["id"]) == ["a", "b", "c"]
    await upsert(api, {"email": "a@example.com", "tags": ["C", "d"]}, 200, tags_mode="replace")
    assert await slugs_of(api, contact["id"]) == ["c", "d"]
    # Without tags, there is nothing to replace them by.
    await upsert(api, {"email": "a@example.com"}, 200, tags_mode="replace")
    assert await slugs_of(api, contact["id"]) == ["c", "d"]
    await upsert(api, {"email": "a@example.com", "tags": []}, 200, tags_mode="replace")
    assert await slugs_of(api, contact["id"]) == []
    assert await slugs_of(api, contact["id"], "courses") == ["x"]
    await assert_sound(api.workspace.database, api.workspace.principal.workspace_id)


@pytest.mark.parametrize("query", ["on_conflict=ignore", "tags_mode=remove", "on_conflict=return", "upsert=1"])
async def test_conditions_that_do_not_exist(api: Api, query: str) -> None:
    response = await api.post(f"/contacts?{query}", json={"email": "a@example.com"})
    assert pointers(answered(response, 422)) == [f"?{query.partition('=')[0]}"]


MERGES: list[tuple[Json, Json | None, Json]] = [
    ({"a": 1}, {}, {"a": 1}),
    ({"a": 1}, {"b": 2}, {"a": 1, "b": 2}),
    ({"a": 1, "b": 2}, {"a": None}, {"b": 2}),
    ({"a": 1}, {"absent": None}, {"a": 1}),
    ({"a": 1}, None, {}),
    ({"a": {"b": 1, "c": 2}}, {"a": {"b": None, "d": 3}}, {"a": {"c": 2, "d": 3}}),
    ({"a": {"b": 1}}, {"a": 5}, {"a": 5}),
    ({"a": 5}, {"a": {"b": {"c": None, "d": 1}}}, {"a": {"b": {"d": 1}}}),
    ({"a": [1, 2]}, {"a": [None, 3]}, {"a": [None, 3]}),
    ({"a": 1}, {"a": True}, {"a": True}),
    ({"a": False}, {"a": 0}, {"a": 0}),
    ({"a": [0, {"b": 1}]}, {"a": [False, {"b": True}]}, {"a": [False, {"b": True}]}),
    ({"a": ""}, {"a": False}, {"a": False}),
    ({"a": 1.5}, {"a": 10**400}, {"a": 10**400}),
    ({"a": 2**53 + 1}, {"a": 2**53 + 2.0}, {"a": 2**53 + 2}),
]


@pytest.mark.parametrize(("there", "patch", "after"), MERGES)
async def test_attributes_are_a_merge_patch(api: Api, there: Json, patch: Json | None, after: Json) -> None:
    for name in ("by-patch", "by-upsert", "by-batch"):
        contact = await upsert(api, {"email": f"{name}@example.com", "attributes": there}, 201)
        for _ in range(2):
            match name:
                case "by-patch":
                    changed = await call(api, "PATCH", f"/contacts/{contact['id']}", {"attributes": patch})
                case "by-upsert":
                    changed = await upsert(api, {"email": f"{name}@example.com", "attributes": patch}, 200)
                case _:
                    [one] = await batch(api, {"email": f"{name}@example.com", "attributes": patch})
                    changed = one["contact"]
            stored = await call(api, "GET", f"/contacts/{contact['id']}")
            for shown in (changed, stored):
                assert plain(shown["attributes"]) == plain(after)


async def test_the_attributes_of_a_new_contact_are_a_patch_of_none(api: Api) -> None:
    body = {"email": "a@example.com", "attributes": {"a": None, "b": {"c": None, "d": 1}}}
    assert (await upsert(api, body, 201))["attributes"] == {"b": {"d": 1}}


@pytest.mark.parametrize("number", [0, -1, 1.5, 0.1, 2**53, 10**40, 1e22, 1e23, 1.7976931348623157e308, 5e-324, -0.0])
async def test_numbers_come_back_and_are_no_change(api: Api, number: float) -> None:
    body = {"email": "a@example.com", "attributes": {"n": number}}
    contact = await upsert(api, body, 201)
    assert float(contact["attributes"]["n"]) == float(number)
    before = await state_of(api.workspace)
    assert await upsert(api, body, 200) == contact
    assert await state_of(api.workspace) == before


# Batches.


async def test_a_batch(api: Api) -> None:
    [there] = await make_contacts(api, 1)
    done = await batch(
        api,
        {"email": "c0@example.com"},
        {"email": "new@example.com", "first_name": "New", "tags": ["x"]},
        {"email": "C0@example.com", "first_name": "Changed", "external_id": "c0"},
    )
    # Each says what it did itself; the contact is shown as it is after all of them.
    assert [one["outcome"] for one in done] == ["unchanged", "created", "updated"]
    assert [one["error"] for one in done] == [None] * 3
    assert done[0]["contact"]["id"] == done[2]["contact"]["id"] == there
    for one in done[1:]:
        assert await call(api, "GET", f"/contacts/{one['contact']['id']}") == one["contact"]
    assert await slugs_of(api, done[1]["contact"]["id"]) == ["x"]


async def test_a_batch_that_changes_nothing(api: Api) -> None:
    bodies = [
        {"email": f"a{n}@example.com", "external_id": f"{n}", "tags": ["x"], "attributes": {"n": n}} for n in range(3)
    ]
    made = await batch(api, *bodies)
    assert [one["outcome"] for one in made] == ["created"] * 3
    before = await state_of(api.workspace)
    again = await batch(api, *bodies[::-1])
    assert [one["outcome"] for one in again] == ["unchanged"] * 3
    assert [one["contact"] for one in again] == [one["contact"] for one in made[::-1]]
    assert await state_of(api.workspace) == before


async def test_a_batch_tells_what_changed_beside_the_fields(api: Api) -> None:
    await make_audience(api, "courses")
    await make_contacts(api, 3)
    done = await batch(
        api,
        {"email": "c0@example.com", "tags": ["x"]},
        {"email": "c1@example.com", "audiences": ["courses"]},
        {"email": "c2@example.com", "audiences": ["newsletter"], "tags": []},
    )
    assert [one["outcome"] for one in done] == ["updated", "updated", "unchanged"]


@pytest.mark.parametrize("on_conflict", ["update", "error"])
async def test_one_that_fails_leaves_nothing_and_stops_no_other(api: Api, on_conflict: str) -> None:
    first, _ = await make_contacts(api, 2)
    done = await batch(
        api,
        {"email": "before@example.com"},
        {"email": "c0@example.com", "external_id": "c1", "first_name": "X", "tags": ["never"]},
        {"email": "after@example.com", "tags": ["x"]},
        on_conflict=on_conflict,
    )
    assert [one["outcome"] for one in done] == ["created", "failed", "created"]
    assert done[1]["contact"] is None
    assert done[1]["error"]["code"] == "contact_mismatch"
    assert (await call(api, "GET", f"/contacts/{first}"))["first_name"] is None
    assert await slugs_of(api, first) == []
    assert [tag["name"] for tag in (await call(api, "GET", "/tags"))["data"]] == ["x"]


async def test_a_batch_of_contacts_that_must_be_new(api: Api) -> None:
    first, second = await make_contacts(api, 2)
    done = await batch(
        api,
        {"email": "C0@example.com"},
        {"email": "x@example.com", "external_id": "c1"},
        {"email": "y@example.com"},
        {"email": "Y@example.com"},
        on_conflict="error",
    )
    assert [one["outcome"] for one in done] == ["failed", "failed", "created", "failed"]
    errors = [one["error"] and (one["error"]["code"], one["error"]["existing_id"]) for one in done]
    assert errors[:3] == [("email_taken", first), ("external_id_taken", second), None]
    # The one that the batch has just made is as much in the way as any other.
    assert errors[3] == ("email_taken", done[2]["contact"]["id"])


async def test_two_items_for_one_new_contact(api: Api) -> None:
    done = await batch(
        api,
        {"email": "a@example.com", "external_id": "7", "first_name": "A", "attributes": {"a": 1}, "tags": ["x"]},
        {"email": "A@example.com", "last_name": "B", "attributes": {"b": 2}, "tags": ["y"]},
        {"email": "c@example.com", "external_id": "7", "attributes": {"a": None}},
    )
    assert [one["outcome"] for one in done] == ["created", "updated", "updated"]
    [contact] = {one["contact"]["id"] for one in done}
    assert done[0]["contact"] == done[2]["contact"] == await call(api, "GET", f"/contacts/{contact}")
    assert {
        "email": "c@example.com",
        "external_id": "7",
        "first_name": "A",
        "last_name": "B",
        "attributes": {"b": 2},
    }.items() <= done[0]["contact"].items()
    assert await slugs_of(api, contact) == ["x", "y"]
    await assert_sound(api.workspace.database, api.workspace.principal.workspace_id)


async def test_two_items_for_one_contact_of_which_the_last_replaces(api: Api) -> None:
    [contact] = await make_contacts(api, 1)
    await batch(
        api,
        {"email": "c0@example.com", "tags": ["x", "y"]},
        {"email": "c0@example.com", "tags": ["y", "z"]},
        tags_mode="replace",
    )
    assert await slugs_of(api, contact) == ["y", "z"]


async def test_three_contacts_that_swap_their_emails(api: Api) -> None:
    """Keys change hands within one batch, in a circle."""
    first, second, third = await make_contacts(api, 3)
    done = await batch(
        api,
        {"email": "spare@example.com", "external_id": "c0"},
        {"email": "c0@example.com", "external_id": "c1"},
        {"email": "c1@example.com", "external_id": "c2"},
        {"email": "c2@example.com", "external_id": "c0"},
    )
    assert [one["outcome"] for one in done] == ["updated"] * 4
    emails = [(await call(api, "GET", f"/contacts/{contact}"))["email"] for contact in (first, second, third)]
    assert emails == ["c2@example.com", "c0@example.com", "c1@example.com"]


async def test_a_key_that_one_item_gives_up_and_the_next_takes(api: Api) -> None:
    first, second = await make_contacts(api, 2)
    done = await batch(
        api,
        {"email": "moved@example.com", "external_id": "c0"},
        {"email": "c0@example.com", "external_id": "new"},
        {"email": "c1@example.com", "external_id": None},
        {"email": "newer@example.com", "external_id": "c1"},
    )
    assert [one["outcome"] for one in done] == ["updated", "created", "updated", "created"]
    assert [one["contact"]["id"] for one in done[::2]] == [first, second]
    for one in done:
        assert await call(api, "GET", f"/contacts/{one['contact']['id']}") == one["contact"]
    assert len({one["contact"]["id"] for one in done}) == 4
    await assert_sound(api.workspace.database, api.workspace.principal.workspace_id)


async def test_a_key_that_a_later_item_would_give_up_is_still_taken(api: Api) -> None:
    await make_contacts(api, 2)
    done = await batch(
        api,
        {"email": "c0@example.com", "external_id": "c1"},
        {"email": "c1@example.com", "external_id": "other"},
        {"email": "c0@example.com", "external_id": "c1"},
    )
    assert [one["outcome"] for one in done] == ["failed", "updated", "updated"]


async def test_how_many_a_batch_takes(api: Api) -> None:
    thousand = [{"email": f"a{n}@example.com", "external_id": f"{n}", "tags": [f"t{n % 7}"]} for n in range(1_000)]
    done = await batch(api, *thousand)
    assert [one["outcome"] for one in done] == ["created"] * 1_000
    assert [one["contact"]["email"] for one in done] == [one["email"] for one in thousand]
    counts = [tag["contact_count"] for tag in (await call(api, "GET", "/tags"))["data"]]
    assert (len(counts), sum(counts)) == (7, 1_000)
    response = await api.post("/contacts/batch", json={"contacts": [*thousand, {"email": "x@example.com"}]})
    field_problem(response, "#/contacts", "too_long")
    field_problem(await api.post("/contacts/batch", json={"contacts": []}), "#/contacts", "too_short")
    field_problem(await api.post("/contacts/batch", json={}), "#/contacts", "missing")
    await assert_sound(api.workspace.database, api.workspace.principal.workspace_id)


async def test_an_audience_that_does_not_exist_fails_the_whole_batch(api: Api) -> None:
    before = await state_of(api.workspace)
    contacts = [{"email": "a@example.com"}, {"email": "b@example.com", "audiences": ["newsletter", "nowhere"]}]
    response = await api.post("/contacts/batch", json={"contacts": contacts})
    field_problem(response, "#/contacts/1/audiences/1", "unknown_audience")
    assert await state_of(api.workspace) == before


# One contact.


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
@pytest.mark.parametrize("contact_id", [RANDOM_ID, "nonsense", "1", "a@example.com"])
async def test_ids_of_no_contact(api: Api, method: str, contact_id: str) -> None:
    body = {"first_name": "x"} if method == "PATCH" else None
    document = problem(await api.request(method, f"/contacts/{contact_id}", json=body), 404, "not_found")
    assert document["detail"] == f"There is no contact {contact_id}."


async def test_a_contact_by_an_id_in_any_case(api: Api) -> None:
    [contact] = await make_contacts(api, 1)
    assert (await call(api, "GET", f"/contacts/{contact.upper()}"))["id"] == contact


@pytest.mark.parametrize(
    ("field", "value", "stored"),
    [
        ("email", "Other@example.com", "Other@example.com"),
        ("email", "A@EXAMPLE.com", "A@EXAMPLE.com"),
        ("external_id", "8", "8"),
        ("external_id", None, None),
        ("first_name", "X", "X"),
        ("first_name", None, None),
        ("last_name", "", ""),
        ("last_name", None, None),
        ("attributes", {"b": 2}, {"a": 1, "b": 2}),
        ("attributes", None, {}),
    ],
)
async def test_a_change_of_one_field_leaves_the_others(api: Api, field: str, value: object, stored: object) -> None:
    contact = await upsert(
        api,
        {
            "email": "a@example.com",
            "external_id": "7",
            "first_name": "A",
            "last_name": "B",
            "attributes": {"a": 1},
            "tags": ["x"],
        },
        201,
    )
    changed = await call(api, "PATCH", f"/contacts/{contact['id']}", {field: value})
    assert changed == {**contact, field: stored, "updated_at": changed["updated_at"]}
    assert changed["updated_at"] > contact["updated_at"]
    before = await state_of(api.workspace)
    assert await call(api, "PATCH", f"/contacts/{contact['id']}", {field: value}) == changed
    assert await call(api, "PATCH", f"/contacts/{contact['id']}", {}) == changed
    assert await call(api, "GET", f"/contacts/{contact['id']}") == changed
    assert await state_of(api.workspace) == before
    assert await slugs_of(api, contact["id"]) == ["x"]


async def test_a_change_to_a_key_that_is_taken(api: Api) -> None:
    first, second = await make_contacts(api, 2)
    before = await state_of(api.workspace)
    for body, code in [
        ({"email": "C0@example.com", "first_name": "X"}, "email_taken"),
        ({"external_id": "c0", "first_name": "X"}, "external_id_taken"),
        ({"email": "C0@example.com", "external_id": "c0"}, None),
    ]:
        document: Json = answered(await api.patch(f"/contacts/{second}", json=body), 409)
        assert document["code"] == code or code is None
        assert document["existing_id"] == first
    assert await state_of(api.workspace) == before


@pytest.mark.parametrize("field", ["audiences", "tags", "id", "number", "created_at"])
async def test_what_cannot_be_changed(api: Api, field: str) -> None:
    [contact] = await make_contacts(api, 1)
    field_problem(await api.patch(f"/contacts/{contact}", json={field: []}), f"#/{field}", "unknown_field")


async def test_deleting_a_contact(api: Api) -> None:
    one, two = await make_contacts(api, 2)
    await make_audience(api, "courses", one)
    tag = await make_tag(api, "VIP", contact_ids=[one, two])
    other = await make_tag(api, "VIP", audience="courses", contact_ids=[one])
    assert (await api.delete(f"/contacts/{one}")).status_code == 204
    for method, path in [
        ("GET", ""),
        ("DELETE", ""),
        ("GET", "/tags"),
        ("GET", "/audiences"),
        ("PUT", "/tags/vip"),
        ("DELETE", "/audiences/newsletter"),
    ]:
        problem(await api.request(method, f"/contacts/{one}{path}"), 404, "not_found")
    assert await carriers(api, tag["id"]) == [two]
    assert await carriers(api, other["id"]) == []
    assert ids_of((await call(api, "GET", "/contacts", audience="*"))["data"]) == [two]
    # Both of its keys are free again.
    again = await upsert(api, {"email": "c0@example.com", "external_id": "c0"}, 201)
    assert again["id"] != one
    assert await slugs_of(api, again["id"]) == []
    await assert_sound(api.workspace.database, api.workspace.principal.workspace_id)


# The list.


async def test_the_list_is_of_the_audience_in_force(api: Api) -> None:
    here, both = await make_contacts(api, 2)
    await make_audience(api, "courses", both)
    outsider = await make_outsider(api)
    there = (await upsert(api, {"email": "there@example.com", "audiences": ["courses"]}, 201))["id"]

    async def listed(**params: Any) -> list[str]:
        return ids_of((await call(api, "GET", "/contacts", **params))["data"])

    assert await listed() == await listed(audience="newsletter") == [here, both]
    assert await listed(audience="courses") == [both, there]
    assert await listed(audience="*") == [here, both, outsider, there]
    field_problem(await api.get("/contacts?audience=nowhere"), "?audience", "unknown_audience")


async def test_the_list_shows_contacts_as_they_are(api: Api) -> None:
    contact = await upsert(api, {"email": "a@example.com", "attributes": {"a": [1]}, "first_name": "A"}, 201)
    listed = await call(api, "GET", "/contacts")
    assert listed == {
        "data": [contact],
        "pagination": {"total": None, "limit": 100, "offset": 0, "has_more": False, "next_cursor": None},
    }


async def test_a_key_without_an_audience_lists_all(api: Api) -> None:
    await forget_default_audience(api.workspace)
    [member] = await make_contacts(api, 1)
    outsider = await make_outsider(api)
    assert ids_of((await call(api, "GET", "/contacts"))["data"]) == [member, outsider]


@pytest.mark.parametrize("audience", ["newsletter", "*"])
@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("ada", ["Ada@example.com", "adam@example.com"]),
        ("ADA@", ["Ada@example.com"]),
        ("da", []),
        ("a", ["Ada@example.com", "adam@example.com"]),
        ("%", ["%@example.com"]),
        ("_", ["_@example.com"]),
        ("A%", []),
        ("jose\u0301", ["José@example.com"]),
        ("🎉", ["🎉@example.com"]),
        ("\U0010fffd", []),
        ("'", []),
        (
            "",
            [
                "%@example.com",
                "Ada@example.com",
                "José@example.com",
                "_@example.com",
                "adam@example.com",
                "🎉@example.com",
            ],
        ),
    ],
)
async def test_searching_by_the_start_of_the_email(api: Api, audience: str, search: str, found: list[str]) -> None:
    addresses = ["Ada", "adam", "%", "_", "José", "🎉"]
    await batch(api, *({"email": f"{name}@example.com", "first_name": "ada"} for name in addresses))
    listed = await call(api, "GET", "/contacts", search=search, audience=audience, include_total="true")
    assert sorted(contact["email"] for contact in listed["data"]) == found
    assert listed["pagination"]["total"] == len(found)
    pages = await walk(api, "/contacts", search=search, audience=audience, limit=1)
    assert sorted(contact["email"] for page in pages for contact in page) == found


@pytest.mark.parametrize("audience", ["newsletter", "*"])
async def test_one_contact_by_a_key(api: Api, audience: str) -> None:
    first, second = await make_contacts(api, 2)

    async def listed(**params: Any) -> list[str]:
        return ids_of((await call(api, "GET", "/contacts", audience=audience, **params))["data"])

    assert await listed(email=" C1@EXAMPLE.com") == [second]
    assert await listed(external_id="c0") == [first]
    assert await listed(email="c0@example.com", external_id="c1") == []
    assert await listed(email="nobody@example.com") == []
    assert await listed(external_id="C0") == []
    assert await listed(email="c0@example.com", search="c") == [first]


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("email=nobody", "?email"),
        ("external_id=", "?external_id"),
        ("search=" + "x" * 321, "?search"),
        ("search=%00", "?search"),
        ("include_total=perhaps", "?include_total"),
        ("tag=vip", "?tag"),
        ("audience=No%20Slug", "?audience"),
    ],
)
async def test_filters_that_are_refused(api: Api, query: str, pointer: str) -> None:
    document: Json = answered(await api.get(f"/contacts?{query}"), 422)
    assert {error["pointer"].partition(".")[0] for error in document["errors"]} == {pointer}


@pytest.mark.parametrize("audience", ["newsletter", "*"])
@pytest.mark.parametrize("limit", [1, 3, 7, 100])
async def test_paging(api: Api, audience: str, limit: int) -> None:
    contacts = await make_contacts(api, 7)
    pages = await walk(api, "/contacts", audience=audience, limit=limit)
    assert [contact["id"] for page in pages for contact in page] == contacts
    assert len(pages) == -(-7 // limit)
    for offset in range(8):
        page = await call(api, "GET", "/contacts", audience=audience, limit=limit, offset=offset, include_total="true")
        assert ids_of(page["data"]) == contacts[offset : offset + limit]
        assert (page["pagination"]["total"], page["pagination"]["offset"]) == (7, offset)


async def test_a_walk_during_which_contacts_come_and_go(api: Api) -> None:
    contacts = await make_contacts(api, 12)
    seen: list[str] = []
    gone: set[str] = set()
    cursor: dict[str, Any] = {}
    while True:
        page = await call(api, "GET", "/contacts", limit=3, **cursor)
        seen += ids_of(page["data"])
        if page["pagination"]["next_cursor"] is None or len(seen) > 40:
            break
        cursor = {"cursor": page["pagination"]["next_cursor"]}
        if len(seen) < 12:
            await make_contacts(api, 2, prefix=f"new{len(seen)}-")
            # The one that the cursor stands on goes, and one that is still to come.
            coming = [contact for contact in contacts if contact not in seen and contact not in gone][1:2]
            gone |= {seen[-1], *coming}
            await call(api, "DELETE", f"/contacts/{seen[-1]}", status=204)
            for contact in coming:
                await call(api, "DELETE", f"/contacts/{contact}/audiences/newsletter", status=204)
    assert len(seen) == len(set(seen))
    assert set(contacts) - gone <= set(seen)


@pytest.mark.parametrize(
    "changed",
    [{"search": "c"}, {"email": "c1@example.com"}, {"external_id": "c1"}, {"audience": "*"}, {"audience": "courses"}],
)
async def test_a_cursor_belongs_to_its_filters(api: Api, changed: dict[str, str]) -> None:
    await make_contacts(api, 2)
    await make_audience(api, "courses")
    cursor = (await call(api, "GET", "/contacts", limit=1))["pagination"]["next_cursor"]
    problem(await api.get("/contacts", params={"cursor": cursor, **changed}), 400, "invalid_cursor")
    assert (await call(api, "GET", "/contacts", cursor=cursor, include_total="true"))["pagination"]["total"] == 2


# Memberships.


async def test_joining_and_leaving(api: Api) -> None:
    [contact] = await make_contacts(api, 1)
    await make_audience(api, "courses")
    path = f"/contacts/{contact}/audiences/courses"
    joined = await call(api, "PUT", path, {}, status=201)
    assert joined == {
        "audience": "courses",
        "audience_name": "Courses",
        "joined_at": joined["joined_at"],
        "status": "subscribed",
        "reason": None,
        "unsubscribed_at": None,
        "subscribed": True,
    }
    assert abs(datetime.fromisoformat(joined["joined_at"]) - datetime.now(UTC)) < timedelta(seconds=30)
    before = await state_of(api.workspace)
    assert await call(api, "PUT", path, {}) == joined
    assert await state_of(api.workspace) == before
    listed = (await call(api, "GET", f"/contacts/{contact}/audiences"))["data"]
    assert [one["audience"] for one in listed] == ["courses", "newsletter"]
    assert listed[0] == joined
    assert (await api.delete(path)).status_code == 204
    before = await state_of(api.workspace)
    assert (await api.delete(path)).status_code == 204
    assert await state_of(api.workspace) == before
    assert list(await memberships(api, contact)) == ["newsletter"]


async def test_leaving_the_last_audience_leaves_the_contact(api: Api) -> None:
    [contact] = await make_contacts(api, 1)
    await call(api, "DELETE", f"/contacts/{contact}/audiences/newsletter", status=204)
    assert (await call(api, "GET", f"/contacts/{contact}"))["id"] == contact
    assert await memberships(api, contact) == {}
    problem(await api.put(f"/contacts/{contact}/tags/x"), 404, "not_found")


@pytest.mark.parametrize("status", ["pending", "subscribed", "unsubscribed"])
async def test_joining_with_a_status(api: Api, status: str) -> None:
    [contact] = await make_contacts(api, 1)
    await make_audience(api, "courses")
    path = f"/contacts/{contact}/audiences/courses"
    joined = await call(api, "PUT", path, {"status": status, "reason": "because"}, status=201)
    assert (joined["status"], joined["reason"], joined["subscribed"]) == (status, "because", status == "subscribed")
    assert (joined["unsubscribed_at"] is not None) is (status == "unsubscribed")
    before = await state_of(api.workspace)
    assert await call(api, "PUT", path, {"status": status, "reason": "because"}) == joined
    assert await state_of(api.workspace) == before


async def test_changing_a_status(api: Api) -> None:
    [contact] = await make_contacts(api, 1)
    path = f"/contacts/{contact}/audiences/newsletter"
    gone = await call(api, "PUT", path, {"status": "unsubscribed", "reason": "too many"})
    assert (gone["status"], gone["reason"], gone["subscribed"]) == ("unsubscribed", "too many", False)
    assert gone["unsubscribed_at"] is not None
    # Without a status it stays what it is.
    assert await call(api, "PUT", path, {}) == gone
    moved = await call(api, "PUT", path, {"status": "unsubscribed", "reason": "other"})
    assert (moved["reason"], moved["unsubscribed_at"]) == ("other", gone["unsubscribed_at"])
    back = await call(api, "PUT", path, {"status": "subscribed"})
    assert (back["status"], back["unsubscribed_at"], back["subscribed"]) == ("subscribed", None, True)
    assert back["joined_at"] == gone["joined_at"]


async def test_a_status_belongs_to_the_keys_client(api: Api) -> None:
    [contact] = await make_contacts(api, 1)
    await run(
        api.workspace.database,
        "update subscriptions set client_id = null where workspace_id = :workspace_id",
        workspace_id=api.workspace.principal.workspace_id,
    )
    [one] = (await memberships(api, contact)).values()
    assert (one["status"], one["subscribed"], one["reason"]) == (None, False, None)
    changed = await call(api, "PUT", f"/contacts/{contact}/audiences/newsletter", {"status": "subscribed"})
    assert changed["subscribed"] is True


async def test_who_unsubscribed_from_everything_is_not_subscribed(api: Api) -> None:
    [contact] = await make_contacts(api, 1)
    await run(
        api.workspace.database,
        "update contacts set global_unsubscribed_at = now() where workspace_id = :workspace_id",
        workspace_id=api.workspace.principal.workspace_id,
    )
    [one] = (await memberships(api, contact)).values()
    assert (one["status"], one["subscribed"]) == ("subscribed", False)


@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        ({"status": "gone"}, "#/status", "invalid_value"),
        ({"status": None}, "#/status", "invalid_value"),
        ({"status": "subscribed", "reason": "x" * 256}, "#/reason", "too_long"),
        ({"status": "subscribed", "reason": "\x00"}, "#/reason", "invalid_characters"),
        ({"state": "subscribed"}, "#/state", "unknown_field"),
        ([], "#", "invalid_type"),
    ],
)
async def test_memberships_that_are_refused(api: Api, body: object, pointer: str, code: str) -> None:
    [contact] = await make_contacts(api, 1)
    await make_audience(api, "courses")
    before = await state_of(api.workspace)
    field_problem(await api.put(f"/contacts/{contact}/audiences/courses", json=body), pointer, code)
    assert await state_of(api.workspace) == before


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_memberships_of_what_does_not_exist(api: Api, method: str) -> None:
    [contact] = await make_contacts(api, 1)
    body: Json | None = {} if method == "PUT" else None
    for path, detail in [
        (f"/contacts/{contact}/audiences/nowhere", "There is no audience nowhere."),
        (f"/contacts/{contact}/audiences/NEWSLETTER", "There is no audience NEWSLETTER."),
        (f"/contacts/{RANDOM_ID}/audiences/newsletter", f"There is no contact {RANDOM_ID}."),
        ("/contacts/x/audiences/newsletter", "There is no contact x."),
    ]:
        assert problem(await api.request(method, path, json=body), 404, "not_found")["detail"] == detail
    problem(await api.get(f"/contacts/{RANDOM_ID}/audiences"), 404, "not_found")


async def test_numbers_are_measured_as_they_are_stored(api: Api) -> None:
    """1e308 comes back as 309 digits, and what could not be sent back must not get in."""
    response = await api.post("/contacts", json={"email": "a@example.com", "attributes": {"n": [1e308] * 100}})
    field_problem(response, "#/attributes", "too_large")
    contact = await upsert(api, {"email": "a@example.com", "attributes": {"n": [1e308] * 10}}, 201)
    await call(api, "PATCH", f"/contacts/{contact['id']}", {"attributes": {"b": 1}})


async def test_items_of_a_batch_that_undo_one_another_are_no_event(api: Api) -> None:
    await make_contacts(api, 1)
    before = await state_of(api.workspace)
    await batch(api, {"email": "c0@example.com", "first_name": "A"}, {"email": "c0@example.com", "first_name": None})
    assert await state_of(api.workspace) == before
