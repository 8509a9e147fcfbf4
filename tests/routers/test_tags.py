"""Tags over HTTP: making, listing, changing and deleting them, and the rules of their names and slugs."""

import base64
import hashlib
import json
import re
from datetime import datetime
from typing import Any
from unicodedata import normalize

import pytest

from app.values import slugify
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
    make_tags,
    pointers,
    problem,
    slugs_of,
    state_of,
    walk,
)

SORTS = ("name", "-name", "created_at", "-created_at", "contact_count", "-contact_count")


# Making a tag.


async def test_a_new_tag_with_a_name_alone(api: Api) -> None:
    response = await api.post("/tags", json={"name": "VIP"})
    tag = answered(response, 201)
    assert response.headers["location"] == f"/tags/{tag['id']}"
    assert tag == {
        "id": tag["id"],
        "number": tag["number"],
        "audience": "newsletter",
        "name": "VIP",
        "slug": "vip",
        "secondary_id": 1,
        "color": "#6366f1",
        "description": None,
        "public_description": None,
        "subscriber_editable": False,
        "version": 1,
        "contact_count": 0,
        "created_at": tag["created_at"],
        "updated_at": tag["created_at"],
    }
    assert tag["id"][14] == "7"
    assert isinstance(tag["number"], int)
    assert datetime.fromisoformat(tag["created_at"]).utcoffset() is not None
    assert await call(api, "GET", response.headers["location"]) == tag


async def test_a_new_tag_with_everything(api: Api) -> None:
    fields = {
        "name": "VIP",
        "color": "#A1b2C3",
        "description": "For the team",
        "public_description": "Für alle 🎉",
        "subscriber_editable": True,
    }
    tag = await call(api, "POST", "/tags", fields, status=201)
    assert fields.items() <= tag.items()
    assert await call(api, "GET", f"/tags/{tag['id']}") == tag


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        ("  VIP\t", "VIP"),
        ("\u00a0VIP\u3000", "VIP"),
        ("Cafe\u0301", "Café"),
        ("x" * 120, "x" * 120),
        (" " + "x" * 120 + " ", "x" * 120),
        ("e\u0301" * 120, "é" * 120),
        ("🎉" * 120, "🎉" * 120),
        ("日本語", "日本語"),
        ("a  b", "a  b"),
        ('100% _off_ \\ "now" <b>&amp;\'', '100% _off_ \\ "now" <b>&amp;\''),
    ],
)
async def test_names_that_are_taken(api: Api, sent: str, stored: str) -> None:
    tag = await make_tag(api, sent)
    assert tag["name"] == stored
    assert (await call(api, "GET", f"/tags/{tag['id']}"))["name"] == stored
    assert (await call(api, "PATCH", f"/tags/{tag['id']}", {"name": sent})) == tag


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("", "too_short"),
        ("  \t ", "too_short"),
        ("x" * 121, "too_long"),
        ("🎉" * 121, "too_long"),
        ("a\x00b", "invalid_characters"),
        ("a\nb", "invalid_characters"),
        ("a\x7fb", "invalid_characters"),
        ("a\x85b", "invalid_characters"),
        ("a\ud800b", "invalid_characters"),
        (None, "invalid_type"),
        (5, "invalid_type"),
        (["VIP"], "invalid_type"),
        ({"a": 1}, "invalid_type"),
    ],
)
async def test_names_that_are_refused(api: Api, name: object, code: str) -> None:
    tag = await make_tag(api, "there")
    before = await state_of(api.workspace)
    sent = {"content": json.dumps({"name": name}), "headers": {"Content-Type": "application/json"}}
    field_problem(await api.post("/tags", **sent), "#/name", code)  # type: ignore[arg-type]
    field_problem(await api.patch(f"/tags/{tag['id']}", **sent), "#/name", code)  # type: ignore[arg-type]
    batch = {"tags": [{"name": "fine"}, {"name": name}]}
    response = await api.post("/tags/batch", content=json.dumps(batch), headers={"Content-Type": "application/json"})
    field_problem(response, "#/tags/1/name", code)
    assert await state_of(api.workspace) == before


async def test_a_name_is_required(api: Api) -> None:
    field_problem(await api.post("/tags", json={}), "#/name", "missing")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("VIP", "vip"),
        ("VIP", "  vIp "),
        ("Café", "Cafe\u0301"),
        ("CAFE\u0301", "café"),
        ("Straße", "STRASSE"),
        ("ΣΊΣΥΦΟΣ", "σίσυφος"),
        ("🎉", " 🎉"),
    ],
)
async def test_names_that_are_one_tag(api: Api, first: str, second: str) -> None:
    tag = await make_tag(api, first)
    document = problem(await api.post("/tags", json={"name": second}), 409, "name_taken")
    assert document["existing_id"] == tag["id"]
    batch = await call(api, "POST", "/tags/batch", {"tags": [{"name": second}]})
    assert batch == {"data": [{"outcome": "found", "tag": tag}]}


async def test_names_that_differ_by_a_symbol_are_different_tags(api: Api) -> None:
    tags = [await make_tag(api, name) for name in ("C", "C++", "C#")]
    assert [tag["slug"] for tag in tags] == ["c", "c-2", "c-3"]
    assert [tag["secondary_id"] for tag in tags] == [1, 2, 3]
    problem(await api.post("/tags", json={"name": "c++"}), 409, "name_taken")


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("Spring Sale", "spring-sale"),
        ("Café Größe", "cafe-groe"),
        ("foo.bar", "foobar"),
        ("a/b", "ab"),
        ("\uff36\uff29\uff30", "vip"),
        ("oﬃce", "office"),
        ("a--b", "a-b"),
        ("a__b", "a__b"),
        ("_-a-_", "a"),
        ("🚀 launch", "launch"),
        ("x" * 120, "x" * 120),
        # Composed ligatures grow threefold; the slug is cut.
        ("ﬃ" * 120, "ffi" * 40),
        # Where it is cut, no hyphen stays behind.
        ("x" * 118 + "ﬁ", "x" * 118 + "fi"),
        ("ﬁ" * 50 + "y" * 19 + " z", "fi" * 50 + "y" * 19),
    ],
)
async def test_slugs(api: Api, name: str, slug: str) -> None:
    assert (await make_tag(api, name))["slug"] == slug


async def test_names_without_latin_letters_get_distinct_slugs_that_are_always_the_same(
    api: Api, other_api: Api
) -> None:
    names = ["日本語", "中文", "🎉", "🚀", "!!!", "???", "Привет", "\u200b", "+", "𝄞"]
    slugs = [(await make_tag(api, name))["slug"] for name in names]
    assert len(set(slugs)) == len(names)
    assert all(slug and slugify(slug) == slug for slug in slugs)
    # In another order, elsewhere.
    again = [(await make_tag(other_api, name))["slug"] for name in reversed(names)]
    assert again == slugs[::-1]
    by_hash = [slug for slug in slugs if slug.startswith("tag-")]
    assert by_hash
    assert all(len(slug) == 12 and int(slug.removeprefix("tag-"), 16) >= 0 for slug in by_hash)


async def test_a_taken_slug_is_numbered(api: Api) -> None:
    names = ["x-3", "X", "X!", "X?", "X.", "x 2"]
    assert [(await make_tag(api, name))["slug"] for name in names] == ["x-3", "x", "x-2", "x-4", "x-5", "x-2-2"]


async def test_taken_slugs_within_one_batch(api: Api) -> None:
    tags = await make_tags(api, "X!", "X?", *(f"X{'+' * n}" for n in range(1, 60)))
    assert [tag["slug"] for tag in tags] == ["x", *(f"x-{n}" for n in range(2, 62))]


async def test_a_numbered_slug_keeps_to_the_limit(api: Api) -> None:
    await make_tag(api, "x" * 120)
    assert (await make_tag(api, "x" * 119 + "\uff58"))["slug"] == "x" * 118 + "-2"
    await make_tag(api, "y" * 117 + "-yy")
    assert (await make_tag(api, "y" * 117 + " yy"))["slug"] == "y" * 117 + "-2"


async def test_a_slug_stays_with_its_tag_whatever_it_is_renamed_to(api: Api) -> None:
    tag = await make_tag(api, "VIP")
    renamed = await call(api, "PATCH", f"/tags/{tag['id']}", {"name": "Gold"})
    assert (renamed["name"], renamed["slug"]) == ("Gold", "vip")
    assert (await make_tag(api, "VIP"))["slug"] == "vip-2"
    assert (await make_tag(api, "gold!"))["slug"] == "gold"


@pytest.mark.parametrize(
    ("sent", "stored"), [("#fff", "#ffffff"), ("#1aF", "#11aaFF"), ("#A1b2C3", "#A1b2C3"), ("#000000", "#000000")]
)
async def test_colors(api: Api, sent: str, stored: str) -> None:
    tag = await make_tag(api, "made", color=sent)
    assert tag["color"] == stored
    other = await make_tag(api, "changed")
    assert (await call(api, "PATCH", f"/tags/{other['id']}", {"color": sent}))["color"] == stored


@pytest.mark.parametrize("color", ["red", "#12345", "#ggg", "fff", "#ffff", "#fffffff", "", "#fff\n", " #fff", "#١٢٣"])
async def test_colors_that_are_refused(api: Api, color: str) -> None:
    tag = await make_tag(api, "there")
    for response in (
        await api.post("/tags", json={"name": "VIP", "color": color}),
        await api.patch(f"/tags/{tag['id']}", json={"color": color}),
    ):
        assert pointers(answered(response, 422)) == ["#/color"]
    assert await call(api, "GET", f"/tags/{tag['id']}") == tag


@pytest.mark.parametrize("field", ["description", "public_description"])
async def test_descriptions(api: Api, field: str) -> None:
    long = "é" * 1000
    tag = await make_tag(api, "VIP", **{field: long})
    assert tag[field] == long
    other = await make_tag(api, "other")
    assert (await call(api, "PATCH", f"/tags/{other['id']}", {field: long}))[field] == long
    assert (await call(api, "PATCH", f"/tags/{other['id']}", {field: None}))[field] is None
    assert (await call(api, "POST", "/tags", {"name": "null", field: None}, status=201))[field] is None
    for value, code in [("é" * 1001, "too_long"), ("a\x00b", "invalid_characters"), (5, "invalid_type")]:
        field_problem(await api.post("/tags", json={"name": "new", field: value}), f"#/{field}", code)
        field_problem(await api.patch(f"/tags/{tag['id']}", json={field: value}), f"#/{field}", code)


@pytest.mark.parametrize("value", ["true", 1, None, "yes", []])
async def test_flags_are_true_or_false(api: Api, value: object) -> None:
    response = await api.post("/tags", json={"name": "VIP", "subscriber_editable": value})
    field_problem(response, "#/subscriber_editable", "invalid_type")


@pytest.mark.parametrize("field", ["slug", "id", "secondary_id", "colour", "contact_count", "audience"])
async def test_fields_that_a_new_tag_does_not_take(api: Api, field: str) -> None:
    field_problem(await api.post("/tags", json={"name": "VIP", field: 1}), f"#/{field}", "unknown_field")


# When the name is taken.


async def test_a_taken_name_is_refused_and_changes_nothing(api: Api) -> None:
    [contact] = await make_contacts(api, 1)
    tag = await make_tag(api, "VIP")
    before = await state_of(api.workspace)
    for params in ({}, {"on_conflict": "error"}):
        body = {"name": "vip", "color": "#000000", "contact_ids": [contact]}
        document = problem(await api.post("/tags", json=body, params=params), 409, "name_taken")
        assert document["existing_id"] == tag["id"]
    assert await state_of(api.workspace) == before


async def test_a_taken_name_returns_its_tag_as_it_is(api: Api) -> None:
    contacts = await make_contacts(api, 2)
    tag = await make_tag(api, "VIP", description="old")
    response = await api.post(
        "/tags?on_conflict=return", json={"name": "vip", "description": "new", "contact_ids": contacts}
    )
    assert answered(response) == {**tag, "contact_count": 2}
    assert response.headers["location"] == f"/tags/{tag['id']}"
    assert sorted(await carriers(api, tag["id"])) == sorted(contacts)


async def test_a_taken_name_updates_its_tag(api: Api) -> None:
    contacts = await make_contacts(api, 2)
    tag = await make_tag(api, "VIP", description="old", public_description="stays", contact_ids=contacts[:1])
    body = {"name": "vip", "description": "new", "color": "#abc", "contact_ids": contacts}
    updated = await call(api, "POST", "/tags", body, on_conflict="update")
    assert updated == {
        **tag,
        "name": "vip",
        "description": "new",
        "color": "#aabbcc",
        "version": 2,
        "contact_count": 2,
        "updated_at": updated["updated_at"],
    }
    again = await call(api, "POST", "/tags", body, on_conflict="update")
    assert again == updated == await call(api, "GET", f"/tags/{tag['id']}")


@pytest.mark.parametrize("on_conflict", ["return", "update"])
async def test_a_free_name_makes_a_tag_whatever_is_said_of_conflicts(api: Api, on_conflict: str) -> None:
    assert (await call(api, "POST", "/tags", {"name": "New"}, status=201, on_conflict=on_conflict))["name"] == "New"


async def test_on_conflict_has_three_choices(api: Api) -> None:
    response = await api.post("/tags?on_conflict=overwrite", json={"name": "VIP"})
    field_problem(response, "?on_conflict", "invalid_value")


# A new tag with contacts.


async def test_a_new_tag_with_contacts(api: Api) -> None:
    contacts = await make_contacts(api, 3)
    tag = await make_tag(api, "VIP", contact_ids=[*contacts, contacts[0], contacts[1].upper()])
    assert tag["contact_count"] == 3
    assert await carriers(api, tag["id"]) == sorted(contacts)
    assert (await make_tag(api, "none", contact_ids=[]))["contact_count"] == 0


async def test_a_new_tag_and_its_contacts_are_made_together_or_not_at_all(api: Api) -> None:
    contacts = await make_contacts(api, 1)
    outsider = await make_outsider(api)
    before = await state_of(api.workspace)
    document = problem(
        await api.post("/tags", json={"name": "VIP", "contact_ids": [*contacts, RANDOM_ID, outsider]}),
        422,
        "invalid_input",
    )
    assert [(error["pointer"], error["code"]) for error in document["errors"]] == [
        ("#/contact_ids/1", "unknown_ids"),
        ("#/contact_ids/2", "not_members"),
    ]
    assert await state_of(api.workspace) == before


@pytest.mark.parametrize("on_conflict", ["return", "update"])
async def test_contacts_that_are_missing_leave_the_tag_that_was_there_alone(api: Api, on_conflict: str) -> None:
    contacts = await make_contacts(api, 1)
    await make_tag(api, "VIP")
    before = await state_of(api.workspace)
    response = await api.post(
        "/tags",
        params={"on_conflict": on_conflict},
        json={"name": "VIP", "color": "#000000", "contact_ids": [*contacts, RANDOM_ID]},
    )
    field_problem(response, "#/contact_ids/1", "unknown_ids")
    assert await state_of(api.workspace) == before


async def test_how_many_contacts_a_new_tag_takes(api: Api) -> None:
    contacts = await make_contacts(api, 2)
    tag = await make_tag(api, "VIP", contact_ids=(contacts * 5_000))
    assert tag["contact_count"] == 2
    response = await api.post("/tags", json={"name": "more", "contact_ids": contacts * 5_000 + contacts[:1]})
    field_problem(response, "#/contact_ids", "too_long")


@pytest.mark.parametrize(
    ("contact_ids", "pointer", "code"),
    [
        (["x"], "#/contact_ids/0", "invalid_id"),
        ([RANDOM_ID, 5], "#/contact_ids/1", "invalid_type"),
        ([None], "#/contact_ids/0", "invalid_type"),
        (RANDOM_ID, "#/contact_ids", "invalid_type"),
        (None, "#/contact_ids", "invalid_type"),
    ],
)
async def test_contact_ids_that_are_none(api: Api, contact_ids: object, pointer: str, code: str) -> None:
    field_problem(await api.post("/tags", json={"name": "VIP", "contact_ids": contact_ids}), pointer, code)


# Several at once.


async def test_a_batch_finds_or_makes(api: Api) -> None:
    old = await make_tag(api, "Old", color="#111111")
    specs = [
        {"name": "New", "color": "#222", "description": "d", "subscriber_editable": True},
        {"name": "OLD", "color": "#333"},
        {"name": "new", "color": "#444"},
        {"name": "Third"},
    ]
    done = (await call(api, "POST", "/tags/batch", {"tags": specs}))["data"]
    assert [one["outcome"] for one in done] == ["created", "found", "found", "created"]
    assert done[1]["tag"] == old
    assert done[2]["tag"] == done[0]["tag"]
    assert {
        "name": "New",
        "color": "#222222",
        "description": "d",
        "subscriber_editable": True,
        "slug": "new",
    }.items() <= (done[0]["tag"].items())
    again = (await call(api, "POST", "/tags/batch", {"tags": specs}))["data"]
    assert again == [{**one, "outcome": "found"} for one in done]
    assert (await call(api, "GET", "/tags"))["pagination"]["total"] == 3


async def test_a_batch_shows_the_counts_of_what_was_there(api: Api) -> None:
    contacts = await make_contacts(api, 2)
    tag = await make_tag(api, "VIP", contact_ids=contacts)
    assert await make_tags(api, "vip") == [tag]


async def test_how_many_a_batch_takes(api: Api) -> None:
    hundred = [{"name": f"t{n}"} for n in range(100)]
    done = (await call(api, "POST", "/tags/batch", {"tags": hundred}))["data"]
    assert [one["tag"]["name"] for one in done] == [spec["name"] for spec in hundred]
    assert sorted(one["tag"]["secondary_id"] for one in done) == list(range(1, 101))
    field_problem(await api.post("/tags/batch", json={"tags": [*hundred, {"name": "x"}]}), "#/tags", "too_long")
    field_problem(await api.post("/tags/batch", json={"tags": []}), "#/tags", "too_short")
    field_problem(await api.post("/tags/batch", json={}), "#/tags", "missing")


async def test_a_batch_with_one_bad_item_makes_none(api: Api) -> None:
    before = await state_of(api.workspace)
    response = await api.post("/tags/batch", json={"tags": [{"name": "a"}, {"name": "b", "contact_ids": []}]})
    field_problem(response, "#/tags/1/contact_ids", "unknown_field")
    assert await state_of(api.workspace) == before


# One tag.


async def test_a_tag_by_an_id_in_any_case(api: Api) -> None:
    tag = await make_tag(api, "VIP")
    assert await call(api, "GET", f"/tags/{tag['id'].upper()}") == tag


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
@pytest.mark.parametrize("tag_id", [RANDOM_ID, "nonsense", "1", "vip"])
async def test_ids_of_no_tag(api: Api, method: str, tag_id: str) -> None:
    body = {"name": "x"} if method == "PATCH" else None
    document = problem(await api.request(method, f"/tags/{tag_id}", json=body), 404, "not_found")
    assert document["detail"] == f"There is no tag {tag_id}."


@pytest.mark.parametrize(
    ("field", "value", "stored"),
    [
        ("name", "Other", "Other"),
        ("name", "vip", "vip"),
        ("color", "#fff", "#ffffff"),
        ("description", "other", "other"),
        ("description", None, None),
        ("description", "", ""),
        ("public_description", "other", "other"),
        ("public_description", None, None),
        ("subscriber_editable", False, False),
        ("secondary_id", 1_000_000_000, 1_000_000_000),
    ],
)
async def test_a_change_of_one_field_leaves_the_others(api: Api, field: str, value: object, stored: object) -> None:
    [contact] = await make_contacts(api, 1)
    tag = await make_tag(
        api,
        "VIP",
        color="#123456",
        description="d",
        public_description="p",
        subscriber_editable=True,
        contact_ids=[contact],
    )
    changed = await call(api, "PATCH", f"/tags/{tag['id']}", {field: value})
    assert changed == {**tag, field: stored, "version": 2, "updated_at": changed["updated_at"]}
    assert changed["updated_at"] > tag["updated_at"]
    assert await call(api, "PATCH", f"/tags/{tag['id']}", {field: value}) == changed
    assert await call(api, "GET", f"/tags/{tag['id']}") == changed


async def test_a_change_of_nothing(api: Api) -> None:
    tag = await make_tag(api, "VIP", description="d")
    before = await state_of(api.workspace)
    assert await call(api, "PATCH", f"/tags/{tag['id']}", {}) == tag
    same = {field: tag[field] for field in ("name", "color", "description", "public_description", "secondary_id")}
    assert await call(api, "PATCH", f"/tags/{tag['id']}", same) == tag
    assert await state_of(api.workspace) == before


@pytest.mark.parametrize("field", ["name", "color", "subscriber_editable", "secondary_id"])
async def test_what_cannot_be_null(api: Api, field: str) -> None:
    tag = await make_tag(api, "VIP")
    field_problem(await api.patch(f"/tags/{tag['id']}", json={field: None}), f"#/{field}", "invalid_type")


@pytest.mark.parametrize("field", ["slug", "audience", "contact_ids", "version", "contact_count"])
async def test_what_cannot_be_changed(api: Api, field: str) -> None:
    tag = await make_tag(api, "VIP")
    field_problem(await api.patch(f"/tags/{tag['id']}", json={field: "x"}), f"#/{field}", "unknown_field")


async def test_a_rename_to_a_taken_name(api: Api) -> None:
    first, second = await make_tags(api, "First", "Second")
    before = await state_of(api.workspace)
    response = await api.patch(f"/tags/{second['id']}", json={"name": "FIRST", "color": "#000"})
    assert problem(response, 409, "name_taken")["existing_id"] == first["id"]
    assert await state_of(api.workspace) == before


async def test_secondary_ids(api: Api) -> None:
    first, second = await make_tags(api, "first", "second")
    assert (first["secondary_id"], second["secondary_id"]) == (1, 2)
    taken = await api.patch(f"/tags/{second['id']}", json={"secondary_id": 1})
    assert problem(taken, 409, "secondary_id_taken")["existing_id"] == first["id"]
    await call(api, "PATCH", f"/tags/{second['id']}", {"secondary_id": 4})
    assert [tag["secondary_id"] for tag in await make_tags(api, "third", "fourth", "fifth")] == [3, 5, 6]
    assert (await call(api, "PATCH", f"/tags/{first['id']}", {"secondary_id": 2}))["secondary_id"] == 2
    await make_audience(api, "courses")
    assert (await make_tag(api, "first", audience="courses"))["secondary_id"] == 1


async def test_the_secondary_id_of_a_deleted_tag_is_not_given_again(api: Api) -> None:
    tag = await make_tag(api, "VIP")
    await call(api, "DELETE", f"/tags/{tag['id']}", status=204)
    assert (await make_tag(api, "VIP"))["secondary_id"] == 2


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (0, "out_of_range"),
        (-1, "out_of_range"),
        (1_000_000_001, "out_of_range"),
        (10**30, "out_of_range"),
        ("7", "invalid_type"),
        (7.5, "invalid_type"),
        (True, "invalid_type"),
    ],
)
async def test_secondary_ids_that_are_refused(api: Api, value: object, code: str) -> None:
    tag = await make_tag(api, "VIP")
    field_problem(await api.patch(f"/tags/{tag['id']}", json={"secondary_id": value}), "#/secondary_id", code)


async def test_deleting_a_tag_takes_it_from_its_contacts(api: Api) -> None:
    contacts = await make_contacts(api, 3)
    tag = await make_tag(api, "VIP", contact_ids=contacts)
    kept = await make_tag(api, "Kept", contact_ids=contacts)
    assert (await api.delete(f"/tags/{tag['id']}")).content == b""
    problem(await api.get(f"/tags/{tag['id']}"), 404, "not_found")
    problem(await api.delete(f"/tags/{tag['id']}"), 404, "not_found")
    problem(await api.get(f"/tags/{tag['id']}/contacts"), 404, "not_found")
    assert [await slugs_of(api, contact) for contact in contacts] == [["kept"]] * 3
    assert await carriers(api, kept["id"]) == contacts
    assert [(await api.get(f"/contacts/{contact}")).status_code for contact in contacts] == [200] * 3
    assert ids_of((await call(api, "GET", "/tags"))["data"]) == [kept["id"]]
    again = await make_tag(api, "VIP")
    assert (again["slug"], again["contact_count"]) == ("vip", 0)
    assert again["id"] != tag["id"]
    await assert_sound(api.workspace.database, api.workspace.principal.workspace_id)


async def test_deleting_a_tag_only_if_it_is_unused(api: Api) -> None:
    contacts = await make_contacts(api, 3)
    tag = await make_tag(api, "VIP", contact_ids=contacts)
    before = await state_of(api.workspace)
    document = problem(await api.delete(f"/tags/{tag['id']}?if_unused=true"), 409, "tag_in_use")
    assert document["contact_count"] == 3
    assert await state_of(api.workspace) == before
    await call(api, "PUT", f"/tags/{tag['id']}/contacts", {"contact_ids": []})
    await call(api, "DELETE", f"/tags/{tag['id']}", status=204, if_unused="true")


async def test_deleting_a_used_tag_if_that_is_allowed(api: Api) -> None:
    tag = await make_tag(api, "VIP", contact_ids=await make_contacts(api, 1))
    await call(api, "DELETE", f"/tags/{tag['id']}", status=204, if_unused="false")


async def test_a_misspelt_condition_deletes_nothing(api: Api) -> None:
    tag = await make_tag(api, "VIP")
    field_problem(await api.delete(f"/tags/{tag['id']}?if_unsed=true"), "?if_unsed", "unknown_parameter")
    field_problem(await api.delete(f"/tags/{tag['id']}?if_unused=perhaps"), "?if_unused", "invalid_type")
    assert await call(api, "GET", f"/tags/{tag['id']}") == tag


# Audiences.


async def test_the_same_name_in_two_audiences_is_two_tags(api: Api) -> None:
    await make_audience(api, "courses")
    here, there = await make_tag(api, "VIP"), await make_tag(api, "VIP", audience="courses")
    assert (here["audience"], there["audience"]) == ("newsletter", "courses")
    assert here["slug"] == there["slug"] == "vip"
    assert here["id"] != there["id"]
    assert ids_of((await call(api, "GET", "/tags"))["data"]) == [here["id"]]
    assert ids_of((await call(api, "GET", "/tags", audience="courses"))["data"]) == [there["id"]]
    # By id, whichever audience is in force.
    assert await call(api, "GET", f"/tags/{there['id']}") == there
    assert (await call(api, "PATCH", f"/tags/{there['id']}", {"name": "Gold"}))["name"] == "Gold"
    assert (await call(api, "GET", f"/tags/{here['id']}"))["name"] == "VIP"


LISTS_OF_TAGS: list[tuple[str, str, Json | None]] = [
    ("GET", "/tags", None),
    ("POST", "/tags", {"name": "x"}),
    ("POST", "/tags/batch", {"tags": [{"name": "x"}]}),
]


@pytest.mark.parametrize(("method", "path", "body"), LISTS_OF_TAGS)
async def test_an_audience_that_does_not_exist(api: Api, method: str, path: str, body: Json | None) -> None:
    response = await api.request(method, path, params={"audience": "nowhere"}, json=body)
    field_problem(response, "?audience", "unknown_audience")
    response = await api.request(method, path, params={"audience": "No Where"}, json=body)
    field_problem(response, "?audience", "invalid_value")


@pytest.mark.parametrize(("method", "path", "body"), LISTS_OF_TAGS)
async def test_a_key_without_an_audience_must_name_one(api: Api, method: str, path: str, body: Json | None) -> None:
    await forget_default_audience(api.workspace)
    field_problem(await api.request(method, path, json=body), "?audience", "audience_required")
    assert (await api.request(method, path, params={"audience": "newsletter"}, json=body)).is_success


# Lists.


async def make_counted_tags(api: Api) -> list[Json]:
    """Tags whose orders by name, by age and by count all differ; two have the same count."""
    contacts = await make_contacts(api, 3)
    for name, count in [("mango", 2), ("Apple", 1), ("banana", 3), ("Zebra", 0), ("cherry", 1)]:
        await make_tag(api, name, contact_ids=contacts[:count])
    tags: list[Json] = (await call(api, "GET", "/tags", sort="created_at"))["data"]
    return tags


@pytest.mark.parametrize("sort", SORTS)
async def test_orders(api: Api, sort: str) -> None:
    tags = await make_counted_tags(api)
    field = sort.removeprefix("-")
    expected = sorted(
        tags,
        key=lambda tag: (tag[field].casefold() if field == "name" else tag[field], tag["id"]),
        reverse=sort.startswith("-"),
    )
    assert (await call(api, "GET", "/tags", sort=sort))["data"] == expected
    for limit in (1, 2, 3):
        pages = await walk(api, "/tags", sort=sort, limit=limit)
        assert [tag for page in pages for tag in page] == expected
    skipped = await call(api, "GET", "/tags", sort=sort, offset=2, limit=2)
    assert skipped["data"] == expected[2:4]


async def test_the_order_by_name_is_the_default(api: Api) -> None:
    await make_counted_tags(api)
    names = [tag["name"] for tag in (await call(api, "GET", "/tags"))["data"]]
    assert names == ["Apple", "banana", "cherry", "mango", "Zebra"]


async def test_orders_that_do_not_exist(api: Api) -> None:
    field_problem(await api.get("/tags?sort=color"), "?sort", "invalid_value")


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("vip", ["VIP", "Very vip"]),
        ("VI", ["VIP", "Very vip"]),
        ("%", ["50%_off"]),
        ("_", ["50%_off", "under_score"]),
        ("%_", ["50%_off"]),
        ("\\", ["back\\slash"]),
        ("cafe\u0301", ["CAFÉ"]),
        ("é", ["CAFÉ"]),
        ("STRASSE", ["Straße"]),
        ("日本", ["日本語"]),
        ("🎉", ["🎉"]),
        ("'", ["o'clock"]),
        ("y v", ["Very vip"]),
        ("nothing", []),
        ("", ["50%_off", "CAFÉ", "Straße", "VIP", "Very vip", "back\\slash", "o'clock", "under_score", "日本語", "🎉"]),
    ],
)
async def test_searching(api: Api, search: str, found: list[str]) -> None:
    await make_tags(
        api, "VIP", "Very vip", "50%_off", "under_score", "back\\slash", "CAFÉ", "Straße", "日本語", "🎉", "o'clock"
    )
    listed = await call(api, "GET", "/tags", search=search)
    assert sorted(tag["name"] for tag in listed["data"]) == found
    assert listed["pagination"]["total"] == len(found)
    pages = await walk(api, "/tags", search=search, limit=1)
    assert sorted(tag["name"] for page in pages for tag in page) == found


async def test_searching_only_looks_at_names(api: Api) -> None:
    await make_tag(api, "a", description="vip", color="#abcdef")
    assert (await call(api, "GET", "/tags", search="vip"))["data"] == []


async def test_only_tags_with_these_ids(api: Api) -> None:
    a, b, _ = await make_tags(api, "a", "b", "c")
    await make_audience(api, "courses")
    elsewhere = await make_tag(api, "d", audience="courses")
    listed = await call(api, "GET", "/tags", ids=[b["id"].upper(), a["id"], a["id"], RANDOM_ID, elsewhere["id"]])
    assert listed["data"] == [a, b]
    assert listed["pagination"]["total"] == 2
    assert (await call(api, "GET", "/tags", ids=[a["id"], b["id"]], search="B"))["data"] == [b]
    field_problem(await api.get(f"/tags?ids={a['id']}&ids=x"), "?ids.1", "invalid_id")
    pages = await walk(api, "/tags", ids=[a["id"], b["id"]], limit=1)
    assert [tag for page in pages for tag in page] == [a, b]


async def test_only_the_tag_with_this_slug(api: Api) -> None:
    c, plus, _ = await make_tags(api, "C", "C++", "D")
    assert (await call(api, "GET", "/tags", slug="c"))["data"] == [c]
    assert (await call(api, "GET", "/tags", slug="c-2"))["data"] == [plus]
    assert (await call(api, "GET", "/tags", slug="e"))["data"] == []
    field_problem(await api.get("/tags", params={"slug": "C++"}), "?slug", "invalid_value")


async def test_counts_in_lists(api: Api) -> None:
    contacts = await make_contacts(api, 3)
    tags = await make_tags(api, "a", "b")
    await call(api, "POST", f"/tags/{tags[0]['id']}/contacts", {"contact_ids": contacts})
    await call(api, "POST", f"/contacts/{contacts[0]}/tags", {"tags": ["b"]})
    await call(api, "DELETE", f"/tags/{tags[0]['id']}/contacts", {"contact_ids": contacts[:1]})
    counts = {tag["name"]: tag["contact_count"] for tag in (await call(api, "GET", "/tags"))["data"]}
    assert counts == {"a": 2, "b": 1}


@pytest.mark.parametrize("limit", [1, 4, 7, 1000])
async def test_paging_by_offset(api: Api, limit: int) -> None:
    tags = sorted(await make_tags(api, *(f"t{n}" for n in range(7))), key=lambda tag: str(tag["name"]))
    walked: list[Json] = []
    while True:
        page = await call(api, "GET", "/tags", limit=limit, offset=len(walked))
        walked += page["data"]
        more = len(walked) < 7
        assert page["pagination"] == {
            "total": 7,
            "limit": limit,
            "offset": len(walked) - len(page["data"]),
            "has_more": more,
            "next_cursor": page["pagination"]["next_cursor"],
        }
        if not more:
            break
    assert walked == tags
    assert page["pagination"]["next_cursor"] is None


async def test_pages_beyond_the_end_and_the_widest_bounds(api: Api) -> None:
    await make_tags(api, "a", "b")
    page = await call(api, "GET", "/tags", offset=100_000, limit=1000)
    assert page == {
        "data": [],
        "pagination": {"total": 2, "limit": 1000, "offset": 100_000, "has_more": False, "next_cursor": None},
    }
    page = await call(api, "GET", "/tags")
    assert page["pagination"] == {"total": 2, "limit": 100, "offset": 0, "has_more": False, "next_cursor": None}


async def test_a_list_of_none(api: Api) -> None:
    response = await api.get("/tags")
    assert answered(response) == {
        "data": [],
        "pagination": {"total": 0, "limit": 100, "offset": 0, "has_more": False, "next_cursor": None},
    }
    assert "link" not in response.headers


PAGED_LISTS = ["/tags", "/contacts", "/tags/{tag}/contacts"]


@pytest.mark.parametrize("path", PAGED_LISTS)
@pytest.mark.parametrize(
    ("query", "pointer", "code"),
    [
        ("limit=0", "?limit", "out_of_range"),
        ("limit=1001", "?limit", "out_of_range"),
        ("limit=-1", "?limit", "out_of_range"),
        ("limit=x", "?limit", "invalid_type"),
        ("limit=", "?limit", "invalid_type"),
        ("limit=1.5", "?limit", "invalid_type"),
        ("limit=99999999999999999999", "?limit", "out_of_range"),
        ("offset=-1", "?offset", "out_of_range"),
        ("offset=100001", "?offset", "out_of_range"),
        ("page=2", "?page", "unknown_parameter"),
        ("cursor=x&offset=0", "?offset", "not_together"),
    ],
)
async def test_bounds_of_every_list(api: Api, path: str, query: str, pointer: str, code: str) -> None:
    tag = await make_tag(api, "VIP")
    field_problem(await api.get(f"{path.format(tag=tag['id'])}?{query}"), pointer, code)


@pytest.mark.parametrize("path", PAGED_LISTS)
async def test_cursors_of_every_list(api: Api, path: str) -> None:
    contacts = await make_contacts(api, 3)
    tag = await make_tag(api, "VIP", contact_ids=contacts)
    await make_tags(api, "b", "c")
    path = path.format(tag=tag["id"])
    cursor = (await call(api, "GET", path, limit=1))["pagination"]["next_cursor"]
    page = await call(api, "GET", path, cursor=cursor, limit=1)
    assert page["pagination"]["offset"] is None
    # The limit may change on the way; nothing else may.
    assert len((await call(api, "GET", path, cursor=cursor))["data"]) == 2
    for damaged in ("", "x", cursor[:-2], cursor + "AAAA", cursor[:5] + "A" + cursor[6:], cursor + "é", "%%%", "===="):
        if damaged != cursor:
            problem(await api.get(path, params={"cursor": damaged}), 400, "invalid_cursor")
    field_problem(await api.get(path, params={"cursor": "x" * 10_000}), "?cursor", "too_long")


@pytest.mark.parametrize(
    "changed", [{"search": "t"}, {"sort": "-name"}, {"audience": "courses"}, {"slug": "t1"}, {"ids": RANDOM_ID}]
)
async def test_a_cursor_belongs_to_its_filters(api: Api, changed: dict[str, str]) -> None:
    await make_tags(api, "t1", "t2", "t3")
    await make_audience(api, "courses")
    cursor = (await call(api, "GET", "/tags", limit=1))["pagination"]["next_cursor"]
    problem(await api.get("/tags", params={"cursor": cursor, **changed}), 400, "invalid_cursor")
    assert (await call(api, "GET", "/tags", cursor=cursor, audience="newsletter"))["data"]


@pytest.mark.parametrize(
    ("sort", "key"),
    [
        ("name", ["a", "no id"]),
        ("name", ["a\x00", RANDOM_ID]),
        ("name", ["a\ud800", RANDOM_ID]),
        ("created_at", ["yesterday", RANDOM_ID]),
        ("contact_count", [10**30, RANDOM_ID]),
        ("contact_count", ["1", RANDOM_ID]),
        ("name", []),
    ],
)
async def test_a_cursor_with_a_checksum_but_no_sense(api: Api, sort: str, key: list[Any]) -> None:
    """The checksum is no secret: what stands in a cursor is still somebody else's word."""
    await make_tags(api, "a", "b")
    cursor = (await call(api, "GET", "/tags", limit=1, sort=sort))["pagination"]["next_cursor"]
    raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    [fingerprint] = re.findall(rb'"([0-9a-f]{12})"', raw)
    payload = json.dumps([1, fingerprint.decode(), *key], separators=(",", ":")).encode()
    checked = hashlib.sha256(payload).digest()[:6] + payload
    forged = base64.urlsafe_b64encode(checked).rstrip(b"=").decode()
    problem(await api.get("/tags", params={"cursor": forged, "sort": sort}), 400, "invalid_cursor")


@pytest.mark.parametrize("letter", ["x", "é", "日", "🎉", "ß", "ΐ", "ﬃ"])
async def test_a_walk_over_the_longest_names(api: Api, letter: str) -> None:
    names = [letter * 119 + end for end in "abc"]
    await make_tags(api, *names)
    for sort in ("name", "-name"):
        assert [len(page) for page in await walk(api, "/tags", limit=1, sort=sort)] == [1, 1, 1]


@pytest.mark.parametrize("sort", ["name", "-created_at"])
async def test_a_walk_during_which_tags_come_and_go(api: Api, sort: str) -> None:
    """Each tag that stays throughout is seen once, whatever happens before, at and behind the cursor."""
    tags = await make_tags(api, *(f"t{n:02}" for n in range(12)))
    ordered = (await call(api, "GET", "/tags", sort=sort))["data"]
    seen: list[str] = []
    gone: set[str] = set()
    cursor: dict[str, Any] = {}
    while True:
        page = await call(api, "GET", "/tags", sort=sort, limit=3, **cursor)
        seen += ids_of(page["data"])
        if page["pagination"]["next_cursor"] is None:
            break
        cursor = {"cursor": page["pagination"]["next_cursor"]}
        await make_tags(api, f"a new first {len(seen)}", f"t{len(seen):02}+ just there", f"z new last {len(seen)}")
        # The one that the cursor stands on, one that was seen, and one that was not.
        for tag in (page["data"][-1], page["data"][0], ordered[min(len(seen) + 1, 11)]):
            if tag["id"] not in gone:
                gone.add(tag["id"])
                await call(api, "DELETE", f"/tags/{tag['id']}", status=204)
    assert len(seen) == len(set(seen))
    assert set(ids_of(tags)) - gone <= set(seen)


async def test_links_keep_the_filters(api: Api) -> None:
    await make_tags(api, *(f"a&b=c é {n}" for n in range(5)), "other")
    pages = await walk(api, "/tags", search="&b=c É", sort="-name", limit=2, offset=1, audience="newsletter")
    assert [[tag["name"][-1] for tag in page] for page in pages] == [["3", "2"], ["1", "0"]]


@pytest.mark.parametrize("query", ["search=%ff", "search=%00", "search=" + "x" * 121])
async def test_searches_that_are_refused(api: Api, query: str) -> None:
    assert pointers(answered(await api.get(f"/tags?{query}"), 422))[0].startswith("?")


async def test_head_says_what_get_would(api: Api) -> None:
    tags = await make_tags(api, "a", "b")
    for path in ("/tags?limit=1", f"/tags/{tags[0]['id']}", f"/tags/{RANDOM_ID}"):
        head, get = await api.head(path), await api.get(path)
        assert head.content == b""
        assert head.status_code == get.status_code
        varying = {"x-request-id", "ratelimit"}
        assert {k: v for k, v in head.headers.items() if k not in varying} == {
            k: v for k, v in get.headers.items() if k not in varying
        }


async def test_a_name_in_both_normal_forms_is_one_tag_everywhere(api: Api) -> None:
    [contact] = await make_contacts(api, 1)
    composed, decomposed = normalize("NFC", "Café ñ"), normalize("NFD", "Café ñ")
    tag = await make_tag(api, decomposed)
    assert tag["name"] == composed
    assert (await call(api, "POST", f"/contacts/{contact}/tags", {"tags": [composed, decomposed]}))["added"] == [
        "cafe-n"
    ]
    assert ids_of((await call(api, "GET", "/tags", search=decomposed.upper()))["data"]) == [tag["id"]]


@pytest.mark.parametrize("mark", ["\u0301", "\u0327\u0301"])
async def test_a_name_of_many_marks_is_refused_before_it_is_normalised(api: Api, mark: str) -> None:
    """Normalising takes time by the square of the marks in a row."""
    problem(await api.post("/tags", json={"name": "a" + mark * 100_000}), 422, "too_long")


async def test_many_names_of_one_slug(api: Api) -> None:
    symbols = "!$%&=?@^|~"
    names = [f"a{first}{second}" for first in symbols for second in symbols]
    made = await call(api, "POST", "/tags/batch", {"tags": [{"name": name} for name in names]})
    assert [one["tag"]["slug"] for one in made["data"]] == ["a", *(f"a-{n}" for n in range(2, 101))]
