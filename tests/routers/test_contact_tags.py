"""The tags of a contact over HTTP: list, add, replace, remove, both in one step, and one by its slug."""

from datetime import datetime
from typing import Any
from urllib.parse import quote

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
    make_tags,
    pointers,
    problem,
    slugs_of,
    state_of,
)

LIST_VERBS = ["POST", "PUT", "DELETE"]


async def change(api: Api, method: str, contact: str, body: Json, status: int = 200, **params: Any) -> Json:
    changed: Json = await call(api, method, f"/contacts/{contact}/tags", body, status=status, **params)
    return changed


async def refused(api: Api, method: str, contact: str, body: object, **params: Any) -> Json:
    response = await api.request(method, f"/contacts/{contact}/tags", json=body, params=params)
    document: Json = answered(response, 422)
    return document


def outcome(changed: Json) -> tuple[list[str], list[str], list[str]]:
    """Slugs: all after it, added, removed."""
    return [tag["slug"] for tag in changed["data"]], changed["added"], changed["removed"]


async def names_of(api: Api, audience: str = "newsletter") -> list[str]:
    """The names of all tags of the audience."""
    return [tag["name"] for tag in (await call(api, "GET", "/tags", audience=audience))["data"]]


async def tagged(api: Api, *names: str) -> str:
    """A new contact with these tags."""
    [contact] = await make_contacts(api, 1)
    if names:
        await change(api, "POST", contact, {"tags": list(names)})
    return contact


# Listing.


async def test_the_list(api: Api) -> None:
    [contact] = await make_contacts(api, 1)
    tags = await make_tags(api, "b", "a", "c")
    assert (await call(api, "GET", f"/contacts/{contact}/tags")) == {"data": []}
    await change(api, "POST", contact, {"tag_ids": ids_of(tags)})
    listed = (await call(api, "GET", f"/contacts/{contact}/tags"))["data"]
    assert [tag["slug"] for tag in listed] == ["a", "b", "c"]
    made = {tag["id"]: {key: value for key, value in tag.items() if key != "contact_count"} for tag in tags}
    for tag in listed:
        assert tag == {**made[tag["id"]], "assigned_at": tag["assigned_at"]}
        assert datetime.fromisoformat(tag["assigned_at"]).utcoffset() is not None


async def test_the_list_is_in_the_order_of_slugs_as_they_are(api: Api) -> None:
    """By code point, whatever the locale of the database."""
    contact = await tagged(api, "a_b", "a-b", "ab", "a1", "B", "Z9")
    assert await slugs_of(api, contact) == ["a-b", "a1", "a_b", "ab", "b", "z9"]


async def test_the_list_of_one_audience_and_of_all(api: Api) -> None:
    [contact] = await make_contacts(api, 1)
    await make_audience(api, "courses", contact)
    await make_audience(api, "elsewhere")
    await change(api, "POST", contact, {"tags": ["b", "x"]})
    await change(api, "POST", contact, {"tags": ["x", "a"]}, audience="courses")
    assert await slugs_of(api, contact) == ["b", "x"]
    assert await slugs_of(api, contact, "courses") == ["a", "x"]
    every = (await call(api, "GET", f"/contacts/{contact}/tags", audience="*"))["data"]
    assert [(tag["slug"], tag["audience"]) for tag in every] == [
        ("a", "courses"),
        ("b", "newsletter"),
        ("x", "courses"),
        ("x", "newsletter"),
    ]
    problem(await api.get(f"/contacts/{contact}/tags?audience=elsewhere"), 404, "not_found")
    field_problem(await api.get(f"/contacts/{contact}/tags?audience=nowhere"), "?audience", "unknown_audience")


async def test_the_list_of_a_contact_in_no_audience(api: Api) -> None:
    outsider = await make_outsider(api)
    problem(await api.get(f"/contacts/{outsider}/tags"), 404, "not_found")
    assert await call(api, "GET", f"/contacts/{outsider}/tags", audience="*") == {"data": []}


# Adding.


async def test_adding_by_name(api: Api) -> None:
    contact = await tagged(api, "old")
    await make_tag(api, "VIP")
    changed = await change(api, "POST", contact, {"tags": ["vip", "Brand New"]})
    assert outcome(changed) == (["brand-new", "old", "vip"], ["brand-new", "vip"], [])
    assert await slugs_of(api, contact) == ["brand-new", "old", "vip"]
    assert await names_of(api) == ["Brand New", "old", "VIP"]
    assert (await call(api, "GET", f"/contacts/{contact}/tags"))["data"] == changed["data"]
    before = await state_of(api.workspace)
    again = await change(api, "POST", contact, {"tags": ["vip", "Brand New"]})
    assert again == {**changed, "added": []}
    assert await state_of(api.workspace) == before


async def test_adding_by_id(api: Api) -> None:
    contact = await tagged(api, "old")
    tags = await make_tags(api, "b", "a")
    changed = await change(api, "POST", contact, {"tag_ids": [*ids_of(tags), tags[0]["id"].upper()]})
    assert outcome(changed) == (["a", "b", "old"], ["a", "b"], [])
    assert [await carriers(api, tag["id"]) for tag in tags] == [[contact], [contact]]


async def test_repeats_collapse(api: Api) -> None:
    contact = await tagged(api)
    changed = await change(api, "POST", contact, {"tags": ["Café", "cafe\u0301", "CAFÉ", " café ", "New", "new"]})
    assert outcome(changed) == (["cafe", "new"], ["cafe", "new"], [])
    assert await names_of(api) == ["Café", "New"]
    # "cafe" is the slug of one that is named already.
    assert outcome(await change(api, "PUT", contact, {"tags": ["cafe", "Café", "CAFÉ"]})) == (["cafe"], [], ["new"])
    assert outcome(await change(api, "DELETE", contact, {"tags": ["cafe", "Café"]})) == ([], [], ["cafe"])
    await assert_sound(api.workspace.database, api.workspace.principal.workspace_id)


async def test_a_string_means_a_name_before_a_slug(api: Api) -> None:
    """The slug of the one tag is the name of the other."""
    first = await make_tag(api, "vip")
    await call(api, "PATCH", f"/tags/{first['id']}", {"name": "Gold"})
    second = await make_tag(api, "vip")
    assert (first["slug"], second["slug"]) == ("vip", "vip-2")
    contact = await tagged(api, "VIP")
    assert await carriers(api, second["id"]) == [contact]
    await change(api, "POST", contact, {"tags": ["gold"]})
    assert await carriers(api, first["id"]) == [contact]
    assert outcome(await change(api, "DELETE", contact, {"tags": ["vip"]})) == (["vip"], [], ["vip-2"])


async def test_a_string_that_is_a_slug_means_its_tag(api: Api) -> None:
    tag = await make_tag(api, "Spring Sale!")
    contact = await tagged(api, "spring-sale")
    assert await carriers(api, tag["id"]) == [contact]
    # This one would have that slug, but is none.
    assert outcome(await change(api, "POST", contact, {"tags": ["Spring Sale"]}))[1] == ["spring-sale-2"]


async def test_names_that_differ_by_a_symbol_are_different_tags(api: Api) -> None:
    contact = await tagged(api, "C", "C++", "C#")
    assert await slugs_of(api, contact) == ["c", "c-2", "c-3"]
    await change(api, "DELETE", contact, {"tags": ["c++"]})
    assert [tag["name"] for tag in (await call(api, "GET", f"/contacts/{contact}/tags"))["data"]] == ["C", "C#"]


async def test_names_without_latin_letters(api: Api) -> None:
    contact = await tagged(api, "日本語", "🎉", "🚀", "!!!")
    carried = await slugs_of(api, contact)
    assert len(set(carried)) == 4
    # The slug is as good as the name from now on.
    assert outcome(await change(api, "POST", contact, {"tags": carried}))[1] == []
    assert len(await names_of(api)) == 4


async def test_new_names_that_mean_one_another_by_their_slugs(api: Api) -> None:
    """The second of two new strings is the slug that the first one's tag is given."""
    contact = await tagged(api, "Spring Sale", "spring-sale")
    assert await names_of(api) == ["Spring Sale"]
    assert await slugs_of(api, contact) == ["spring-sale"]


# Replacing.


@pytest.mark.parametrize("by", ["tags", "tag_ids"])
async def test_replacing(api: Api, by: str) -> None:
    contact = await tagged(api, "a", "b", "c")
    tags = {tag["name"]: tag["id"] for tag in await make_tags(api, "a", "b", "c", "d")}
    first = (await call(api, "GET", f"/contacts/{contact}/tags/b"))["assigned_at"]
    wanted = ["b", "d"] if by == "tags" else [tags["b"], tags["d"]]
    changed = await change(api, "PUT", contact, {by: wanted})
    assert outcome(changed) == (["b", "d"], ["d"], ["a", "c"])
    assert (await call(api, "GET", f"/contacts/{contact}/tags"))["data"] == changed["data"]
    assert changed["data"][0]["assigned_at"] == first
    before = await state_of(api.workspace)
    assert outcome(await change(api, "PUT", contact, {by: wanted})) == (["b", "d"], [], [])
    assert await state_of(api.workspace) == before
    # Replacing takes tags away; it deletes none.
    assert await names_of(api) == ["a", "b", "c", "d"]
    await assert_sound(api.workspace.database, api.workspace.principal.workspace_id)


async def test_replacing_with_new_names(api: Api) -> None:
    contact = await tagged(api, "a", "b")
    assert outcome(await change(api, "PUT", contact, {"tags": ["New", "a"]})) == (["a", "new"], ["new"], ["b"])


@pytest.mark.parametrize("by", ["tags", "tag_ids"])
async def test_replacing_by_none_clears(api: Api, by: str) -> None:
    contact = await tagged(api, "a", "b")
    assert outcome(await change(api, "PUT", contact, {by: []})) == ([], [], ["a", "b"])
    assert await slugs_of(api, contact) == []
    assert outcome(await change(api, "PUT", contact, {by: []})) == ([], [], [])


async def test_replacing_touches_one_audience_only(api: Api) -> None:
    contact = await tagged(api, "a", "b")
    await make_audience(api, "courses", contact)
    await change(api, "POST", contact, {"tags": ["a", "c"]}, audience="courses")
    assert outcome(await change(api, "PUT", contact, {"tags": ["d"]})) == (["d"], ["d"], ["a", "b"])
    assert await slugs_of(api, contact, "courses") == ["a", "c"]
    await change(api, "PUT", contact, {"tags": []}, audience="courses")
    assert await slugs_of(api, contact) == ["d"]


async def test_replacing_leaves_other_contacts_alone(api: Api) -> None:
    one, two = await make_contacts(api, 2)
    for contact in (one, two):
        await change(api, "POST", contact, {"tags": ["a", "b"]})
    await change(api, "PUT", one, {"tags": ["c"]})
    assert await slugs_of(api, two) == ["a", "b"]


# Removing.


@pytest.mark.parametrize("by", ["tags", "tag_ids"])
async def test_removing(api: Api, by: str) -> None:
    contact = await tagged(api, "a", "b", "c")
    tags = {tag["name"]: tag["id"] for tag in await make_tags(api, "a", "b", "c", "d")}
    unwanted = ["a", "c", "d"] if by == "tags" else [tags["a"], tags["c"], tags["d"]]
    assert outcome(await change(api, "DELETE", contact, {by: unwanted})) == (["b"], [], ["a", "c"])
    assert await slugs_of(api, contact) == ["b"]
    before = await state_of(api.workspace)
    assert outcome(await change(api, "DELETE", contact, {by: unwanted})) == (["b"], [], [])
    assert await state_of(api.workspace) == before


async def test_removing_names_of_no_tag_is_no_error_and_makes_none(api: Api) -> None:
    contact = await tagged(api, "a")
    before = await state_of(api.workspace)
    assert outcome(await change(api, "DELETE", contact, {"tags": ["nothing", "日本語"]})) == (["a"], [], [])
    assert await state_of(api.workspace) == before


async def test_removing_ids_of_no_tag_is_an_error_and_removes_nothing(api: Api) -> None:
    contact = await tagged(api, "a")
    [tag] = await make_tags(api, "a")
    before = await state_of(api.workspace)
    document = await refused(api, "DELETE", contact, {"tag_ids": [tag["id"], RANDOM_ID]})
    assert (document["code"], pointers(document)) == ("unknown_ids", ["#/tag_ids/1"])
    assert await state_of(api.workspace) == before


async def test_removing_what_no_body_names(api: Api) -> None:
    contact = await tagged(api, "a", "b")
    problem(await api.delete(f"/contacts/{contact}/tags"), 422, "missing")
    bodies: list[object] = [{}, {"tags": None}, [], "a", {"tags": "a"}]
    for body in bodies:
        await refused(api, "DELETE", contact, body)
    assert await slugs_of(api, contact) == ["a", "b"]


# In one step.


async def test_adding_and_removing_in_one_step(api: Api) -> None:
    contact = await tagged(api, "a", "b", "c")
    ids = {tag["name"]: tag["id"] for tag in await make_tags(api, "a", "b", "c", "d", "e")}
    changed = await change(api, "PATCH", contact, {"add": ["d", "New", "a"], "remove": ["b", "absent", "e"]})
    assert outcome(changed) == (["a", "c", "d", "new"], ["d", "new"], ["b"])
    changed = await change(api, "PATCH", contact, {"add_ids": [ids["e"]], "remove_ids": [ids["a"], ids["b"]]})
    assert outcome(changed) == (["c", "d", "e", "new"], ["e"], ["a"])
    changed = await change(
        api, "PATCH", contact, {"add": ["a"], "add_ids": [ids["b"]], "remove": ["new"], "remove_ids": [ids["e"]]}
    )
    assert outcome(changed) == (["a", "b", "c", "d"], ["a", "b"], ["e", "new"])
    assert (await call(api, "GET", f"/contacts/{contact}/tags"))["data"] == changed["data"]
    await assert_sound(api.workspace.database, api.workspace.principal.workspace_id)


@pytest.mark.parametrize("body", [{"add": ["x"]}, {"remove": ["a"]}, {"add": [], "remove": ["a"]}])
async def test_only_one_of_the_two(api: Api, body: Json) -> None:
    contact = await tagged(api, "a")
    first = await change(api, "PATCH", contact, body)
    assert first["added"] or first["removed"]
    before = await state_of(api.workspace)
    assert await change(api, "PATCH", contact, body) == {**first, "added": [], "removed": []}
    assert await state_of(api.workspace) == before


@pytest.mark.parametrize(
    ("add", "remove"),
    [
        ({"add": ["a"]}, {"remove": ["A"]}),
        ({"add": ["Café"]}, {"remove": ["cafe"]}),
        ({"add": ["Brand New"]}, {"remove": ["brand new"]}),
        ({"add": ["a"]}, {"remove_ids": ["{a}"]}),
        ({"add_ids": ["{a}"]}, {"remove": ["a"]}),
        ({"add_ids": ["{a}"]}, {"remove_ids": ["{A}"]}),
    ],
)
async def test_a_tag_cannot_be_added_and_removed_in_one_step(api: Api, add: Json, remove: Json) -> None:
    contact = await tagged(api, "b")
    a, _ = await make_tags(api, "a", "Café")
    filled = {
        name: [value.format(a=a["id"], A=a["id"].upper()) for value in values]
        for name, values in {**add, **remove}.items()
    }
    [field] = remove
    before = await state_of(api.workspace)
    document = await refused(api, "PATCH", contact, filled)
    assert [(error["pointer"], error["code"]) for error in document["errors"]] == [(f"#/{field}/0", "overlap")]
    assert await state_of(api.workspace) == before


@pytest.mark.parametrize("field", ["add_ids", "remove_ids"])
async def test_unknown_ids_in_one_step(api: Api, field: str) -> None:
    contact = await tagged(api, "a")
    before = await state_of(api.workspace)
    document = await refused(api, "PATCH", contact, {"add": ["New"], "remove": ["a"], field: [RANDOM_ID]})
    assert [(error["pointer"], error["code"]) for error in document["errors"]] == [(f"#/{field}/0", "unknown_ids")]
    assert await state_of(api.workspace) == before


# Names that must be there.


@pytest.mark.parametrize(
    ("method", "body", "pointer"),
    [
        ("POST", {"tags": ["a", "New"]}, "#/tags/1"),
        ("PUT", {"tags": ["New", "a"]}, "#/tags/0"),
        ("PATCH", {"add": ["b", "New"], "remove": ["a", "absent"]}, "#/add/1"),
    ],
)
async def test_unknown_names_if_none_may_be_made(api: Api, method: str, body: Json, pointer: str) -> None:
    contact = await tagged(api, "a")
    await make_tag(api, "b")
    before = await state_of(api.workspace)
    document = await refused(api, method, contact, body, create_missing="false")
    assert [(error["pointer"], error["code"]) for error in document["errors"]] == [(pointer, "unknown_tag")]
    assert await state_of(api.workspace) == before
    await make_tag(api, "New")
    await change(api, method, contact, body, create_missing="false")
    assert "new" in await slugs_of(api, contact)


async def test_unknown_names_are_all_listed(api: Api) -> None:
    contact = await tagged(api)
    document = await refused(api, "POST", contact, {"tags": ["x", "y", "X"]}, create_missing="false")
    assert pointers(document) == ["#/tags/0", "#/tags/1", "#/tags/2"]


async def test_removing_takes_no_such_condition(api: Api) -> None:
    contact = await tagged(api, "a")
    assert pointers(await refused(api, "DELETE", contact, {"tags": ["a"]}, create_missing="false")) == [
        "?create_missing"
    ]


# One tag by its slug.


async def test_one_tag(api: Api) -> None:
    contact = await tagged(api)
    tag = await make_tag(api, "Spring Sale")
    path = f"/contacts/{contact}/tags/spring-sale"
    problem(await api.get(path), 404, "not_found")
    added = await call(api, "PUT", path)
    assert outcome(added) == (["spring-sale"], ["spring-sale"], [])
    assert outcome(await call(api, "PUT", path)) == (["spring-sale"], [], [])
    shown = await call(api, "GET", path)
    assert shown == added["data"][0]
    assert shown["id"] == tag["id"]
    assert outcome(await call(api, "DELETE", path)) == ([], [], ["spring-sale"])
    assert outcome(await call(api, "DELETE", path)) == ([], [], [])
    problem(await api.get(path), 404, "not_found")
    assert await names_of(api) == ["Spring Sale"]


@pytest.mark.parametrize(
    "spelling", ["Spring Sale", "SPRING--SALE", "spring  sale!", "-spring-sale-", "\uff33pring sale"]
)
async def test_a_slug_in_a_path_is_brought_into_form(api: Api, spelling: str) -> None:
    contact = await tagged(api)
    tag = await make_tag(api, "Spring Sale")
    path = f"/contacts/{contact}/tags/{quote(spelling)}"
    assert (await call(api, "PUT", path))["added"] == ["spring-sale"]
    assert (await call(api, "GET", path))["id"] == tag["id"]
    assert (await call(api, "DELETE", path))["removed"] == ["spring-sale"]
    assert await names_of(api) == ["Spring Sale"]


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
@pytest.mark.parametrize("slug", ["---", "日本語", "🎉", "!!!", "%20", "_"])
async def test_a_slug_in_a_path_that_leaves_nothing(api: Api, method: str, slug: str) -> None:
    contact = await tagged(api, "a")
    before = await state_of(api.workspace)
    response = await api.request(method, f"/contacts/{contact}/tags/{slug}")
    problem(response, 422, "invalid_slug")
    assert await state_of(api.workspace) == before


async def test_a_slug_that_means_no_tag_makes_one_or_does_nothing(api: Api) -> None:
    contact = await tagged(api)
    before = await state_of(api.workspace)
    assert outcome(await call(api, "DELETE", f"/contacts/{contact}/tags/Brand%20New")) == ([], [], [])
    document = problem(await api.put(f"/contacts/{contact}/tags/Brand%20New?create_missing=false"), 422, "unknown_tag")
    assert pointers(document) == ["path:slug"]
    assert await state_of(api.workspace) == before
    [made] = (await call(api, "PUT", f"/contacts/{contact}/tags/Brand%20New"))["data"]
    assert (made["name"], made["slug"]) == ("brand-new", "brand-new")


async def test_a_slug_in_a_path_is_cut_like_any_other(api: Api) -> None:
    contact = await tagged(api)
    [made] = (await call(api, "PUT", f"/contacts/{contact}/tags/{'x' * 200}"))["data"]
    assert made["name"] == made["slug"] == "x" * 120


async def test_a_slug_in_a_path_goes_before_a_name(api: Api) -> None:
    """Here "vip" is the slug of the tag Gold, and the name of another one."""
    gold = await make_tag(api, "vip")
    await call(api, "PATCH", f"/tags/{gold['id']}", {"name": "Gold"})
    named = await make_tag(api, "vip")
    contact = await tagged(api)
    path = f"/contacts/{contact}/tags/vip"
    assert (await call(api, "PUT", path))["added"] == ["vip"]
    assert await carriers(api, gold["id"]) == [contact]
    assert (await call(api, "GET", path))["id"] == gold["id"]
    assert (await call(api, "DELETE", path))["removed"] == ["vip"]
    # Carrying the one of that name is not carrying the one that the path means.
    await change(api, "POST", contact, {"tag_ids": [named["id"]]})
    assert outcome(await call(api, "DELETE", path)) == (["vip-2"], [], [])
    problem(await api.get(path), 404, "not_found")


async def test_a_name_in_a_path_where_no_slug_is_like_it(api: Api) -> None:
    contact = await tagged(api)
    tag = await make_tag(api, "made as this")
    await call(api, "PATCH", f"/tags/{tag['id']}", {"name": "Gold"})
    path = f"/contacts/{contact}/tags/gold"
    assert (await call(api, "PUT", path))["added"] == ["made-as-this"]
    assert (await call(api, "GET", path))["id"] == tag["id"]
    assert (await call(api, "DELETE", path))["removed"] == ["made-as-this"]


async def test_one_tag_in_another_audience(api: Api) -> None:
    contact = await tagged(api, "vip")
    await make_audience(api, "courses", contact)
    path = f"/contacts/{contact}/tags/vip?audience=courses"
    problem(await api.get(path), 404, "not_found")
    await call(api, "PUT", path)
    assert (await call(api, "GET", path))["audience"] == "courses"
    await call(api, "DELETE", path)
    assert await slugs_of(api, contact) == ["vip"]


# Whom, and in which audience.


OPERATIONS: list[tuple[str, str, Json | None]] = [
    ("GET", "", None),
    ("POST", "", {"tags": ["New"]}),
    ("PUT", "", {"tags": ["New"]}),
    ("DELETE", "", {"tags": ["a"]}),
    ("PATCH", "", {"add": ["New"], "remove": ["a"]}),
    ("GET", "/a", None),
    ("PUT", "/new", None),
    ("DELETE", "/a", None),
]


@pytest.mark.parametrize(("method", "suffix", "body"), OPERATIONS)
async def test_a_contact_that_is_none_or_no_member(api: Api, method: str, suffix: str, body: Json | None) -> None:
    await make_tag(api, "a")
    outsider = await make_outsider(api)
    before = await state_of(api.workspace)
    for contact in (RANDOM_ID, "nonsense", outsider):
        document = problem(await api.request(method, f"/contacts/{contact}/tags{suffix}", json=body), 404, "not_found")
        # Of what is no id at all nothing more can be said.
        where = "" if contact == "nonsense" else " in the audience newsletter"
        assert document["detail"] == f"There is no contact {contact}{where}."
    # The tags that the call would have made were not made either.
    assert await state_of(api.workspace) == before


@pytest.mark.parametrize(("method", "suffix", "body"), OPERATIONS)
async def test_an_audience_that_does_not_exist(api: Api, method: str, suffix: str, body: Json | None) -> None:
    contact = await tagged(api, "a")
    before = await state_of(api.workspace)
    response = await api.request(method, f"/contacts/{contact}/tags{suffix}", json=body, params={"audience": "nowhere"})
    field_problem(response, "?audience", "unknown_audience")
    assert await state_of(api.workspace) == before


@pytest.mark.parametrize(("method", "suffix", "body"), OPERATIONS)
async def test_a_key_without_an_audience_must_name_one(api: Api, method: str, suffix: str, body: Json | None) -> None:
    await forget_default_audience(api.workspace)
    contact = await make_contacts(api, 1)
    await call(api, "POST", f"/contacts/{contact[0]}/tags", {"tags": ["a"]}, audience="newsletter")
    path = f"/contacts/{contact[0]}/tags{suffix}"
    field_problem(await api.request(method, path, json=body), "?audience", "audience_required")
    await call(api, method, path, body, audience="newsletter")


async def test_all_audiences_need_no_default(api: Api) -> None:
    await forget_default_audience(api.workspace)
    [contact] = await make_contacts(api, 1)
    assert await call(api, "GET", f"/contacts/{contact}/tags", audience="*") == {"data": []}


@pytest.mark.parametrize("method", LIST_VERBS)
async def test_a_tag_of_another_audience(api: Api, method: str) -> None:
    contact = await tagged(api, "here")
    await make_audience(api, "courses", contact)
    there = await make_tag(api, "there", audience="courses", contact_ids=[contact])
    before = await state_of(api.workspace)
    document = await refused(api, method, contact, {"tag_ids": [there["id"]]})
    assert (document["code"], pointers(document)) == ("unknown_ids", ["#/tag_ids/0"])
    assert await state_of(api.workspace) == before
    await change(api, method, contact, {"tag_ids": [there["id"]]}, audience="courses")


async def test_all_audiences_at_once_are_only_read(api: Api) -> None:
    contact = await tagged(api, "a")
    assert pointers(await refused(api, "PUT", contact, {"tags": []}, audience="*")) == ["?audience"]
    assert await slugs_of(api, contact) == ["a"]


# Bodies.


@pytest.mark.parametrize("method", LIST_VERBS)
@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        ({}, "#", "missing"),
        ({"tags": ["a"], "tag_ids": [RANDOM_ID]}, "#", "not_together"),
        ({"tags": ["a"], "names": ["b"]}, "#/names", "unknown_field"),
        ({"tags": "a"}, "#/tags", "invalid_type"),
        ({"tags": None}, "#/tags", "invalid_type"),
        ({"tags": ["a", ""]}, "#/tags/1", "too_short"),
        ({"tags": ["a", "  "]}, "#/tags/1", "too_short"),
        ({"tags": ["x" * 121]}, "#/tags/0", "too_long"),
        ({"tags": ["a\x00"]}, "#/tags/0", "invalid_characters"),
        ({"tags": [5]}, "#/tags/0", "invalid_type"),
        ({"tags": [None]}, "#/tags/0", "invalid_type"),
        ({"tag_ids": [RANDOM_ID, "vip"]}, "#/tag_ids/1", "invalid_id"),
    ],
)
async def test_bodies_that_are_refused(api: Api, method: str, body: Json, pointer: str, code: str) -> None:
    contact = await tagged(api, "a")
    document = await refused(api, method, contact, body)
    assert [(error["pointer"], error["code"]) for error in document["errors"]] == [(pointer, code)]
    assert await slugs_of(api, contact) == ["a"]


@pytest.mark.parametrize("method", ["POST", "DELETE"])
@pytest.mark.parametrize("by", ["tags", "tag_ids"])
async def test_adding_and_removing_want_at_least_one(api: Api, method: str, by: str) -> None:
    contact = await tagged(api)
    document = await refused(api, method, contact, {by: []})
    assert [(error["pointer"], error["code"]) for error in document["errors"]] == [(f"#/{by}", "too_short")]


async def test_how_many_tags_are_taken(api: Api) -> None:
    contact = await tagged(api)
    names = [f"t{n}" for n in range(1_000)]
    changed = await change(api, "PUT", contact, {"tags": names})
    assert changed["added"] == sorted(names)
    ids = ids_of(changed["data"])
    assert (await change(api, "DELETE", contact, {"tag_ids": ids[:999]}))["removed"] == sorted(names)[:999]
    assert len((await change(api, "POST", contact, {"tag_ids": ids}))["data"]) == 1_000
    both = {"add": names[:500], "add_ids": ids[:500], "remove": ["none"] * 1_000}
    assert (await change(api, "PATCH", contact, both))["added"] == []
    for method in LIST_VERBS:
        assert pointers(await refused(api, method, contact, {"tags": ["x"] * 1_001})) == ["#/tags"]
        assert pointers(await refused(api, method, contact, {"tag_ids": [RANDOM_ID] * 1_001})) == ["#/tag_ids"]
    for field in ("add", "remove"):
        assert pointers(await refused(api, "PATCH", contact, {field: ["x"] * 1_001})) == [f"#/{field}"]
        assert pointers(await refused(api, "PATCH", contact, {f"{field}_ids": [RANDOM_ID] * 1_001})) == [
            f"#/{field}_ids"
        ]
    await assert_sound(api.workspace.database, api.workspace.principal.workspace_id)
