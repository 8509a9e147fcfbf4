"""Filters of contacts by their tags, through HTTP."""

from typing import Any

import pytest

from app.repositories import contact_tags
from app.schemas.contact_search import FILTER_DEPTH_MAX, FILTER_TAGS_MAX
from tests.conftest import Api
from tests.routers.calls import (
    Json,
    call,
    forget_default_audience,
    ids_of,
    make_audience,
    make_contacts,
    make_tags,
    pointers,
    problem,
    walk,
)


async def make_people(api: Api, *carried: str) -> list[str]:
    """Contacts c0, c1, … who carry these tags, with blanks between; in the order of their ids."""
    contacts = await make_contacts(api, len(carried))
    await make_tags(api, *{tag for tags in carried for tag in tags.split()})
    for contact, tags in zip(contacts, carried, strict=True):
        await call(api, "PUT", f"/contacts/{contact}/tags", {"tags": tags.split()})
    return contacts


async def searched(api: Api, tags: Json, **params: Any) -> list[str]:
    return ids_of((await call(api, "POST", "/contacts/search", {"filter": tags}, **params))["data"])


async def test_segments(api: Api) -> None:
    a, ab, b, abc, _none = await make_people(api, "a", "a b", "b", "a b c", "")

    async def listed(**params: Any) -> list[str]:
        return ids_of((await call(api, "GET", "/contacts", **params))["data"])

    assert await listed(tags_all=["a", "b"]) == await searched(api, {"all": ["a", "b"]}) == [ab, abc]
    assert await listed(tags_any=["a", "c"]) == await searched(api, {"any": ["a", "c"]}) == [a, ab, abc]
    assert await listed(tags_none=["a"]) == await searched(api, {"none": ["a"]}) == [b, _none]
    assert await listed(tags_all="a", tags_none=["c"]) == [a, ab]
    assert await listed(tags_all="a", tags_any=["b", "c"], tags_none="c", email="c1@example.com") == [ab]
    assert await searched(api, {"all": ["a", {"any": ["c", {"none": ["b"]}]}]}) == [a, abc]
    assert await searched(api, {"none": ["a", {"none": ["b"]}]}) == [b]
    # The same tag twice is once.
    assert await listed(tags_all=["a", "a"]) == [a, ab, abc]


async def test_counting_only(api: Api) -> None:
    await make_people(api, "a", "a b", "b", "")
    for tags, count in (
        ({"all": ["a"]}, 2),
        ({"any": ["a", "b"]}, 3),
        ({"none": ["a"]}, 2),
        ({"all": ["a"], "none": ["b"]}, 1),
        ({"none": [{"none": ["a", "b"]}]}, 3),
    ):
        answer = await call(api, "POST", "/contacts/search", {"filter": tags, "count_only": True})
        assert answer == {"count": count}
        listed = await call(api, "POST", "/contacts/search", {"filter": tags}, include_total="true")
        assert listed["pagination"]["total"] == count == len(listed["data"])
        assert (await call(api, "POST", "/contacts/search", {"filter": tags}))["pagination"]["total"] is None


async def test_members_of_the_audience_alone(api: Api) -> None:
    both, only_here, only_there = await make_contacts(api, 3)
    await make_audience(api, "courses", both, only_there)
    await call(api, "DELETE", f"/contacts/{only_there}/audiences/newsletter", status=204)
    for audience, member in (("newsletter", only_here), ("courses", only_there)):
        await make_tags(api, "vip", "old", audience=audience)
        await call(api, "PUT", f"/contacts/{member}/tags", {"tags": ["vip"]}, audience=audience)
    await call(api, "PUT", f"/contacts/{both}/tags", {"tags": ["vip", "old"]}, audience="courses")
    assert await searched(api, {"all": ["vip"]}) == [only_here]
    assert await searched(api, {"none": ["vip"]}) == [both]
    assert sorted(await searched(api, {"all": ["vip"]}, audience="courses")) == sorted([both, only_there])
    assert await searched(api, {"none": ["old"]}, audience="courses") == [only_there]
    counted = await call(api, "POST", "/contacts/search", {"filter": {"none": ["old"]}, "count_only": True})
    assert counted == {"count": 2}


async def test_an_unknown_slug_is_an_error_with_its_place(api: Api) -> None:
    await make_people(api, "a")
    await make_audience(api, "courses")
    await make_tags(api, "elsewhere", audience="courses")
    for params, places in (
        ({"tags_none": ["a", "typo"]}, ["?tags_none"]),
        ({"tags_all": "typo", "tags_any": ["a", "elsewhere"]}, ["?tags_all", "?tags_any"]),
        ({"tags_all": "a", "audience": "courses"}, ["?tags_all"]),
    ):
        refused = problem(await api.get("/contacts", params=params), 422, "unknown_tag")
        assert pointers(refused) == places
    body = {"filter": {"all": ["a", {"any": ["a", {"none": ["typo"]}]}], "none": ["a", "elsewhere"]}}
    for count_only in (False, True):
        refused = problem(
            await api.post("/contacts/search", json={**body, "count_only": count_only}), 422, "unknown_tag"
        )
        assert pointers(refused) == ["#/filter/all/1/any/1/none/0", "#/filter/none/1"]
        assert refused["errors"][0]["detail"] == "There is no tag typo in the audience newsletter."


@pytest.mark.parametrize(
    ("body", "code", "pointer"),
    [
        ({}, "missing", "#/filter"),
        ({"filter": {}}, "missing", "#/filter"),
        ({"filter": None}, "invalid_type", "#/filter"),
        ({"filter": []}, "invalid_type", "#/filter"),
        ({"filter": "a"}, "invalid_type", "#/filter"),
        ({"filter": {"all": []}}, "too_short", "#/filter/all"),
        ({"filter": {"all": ["a"], "none": []}}, "too_short", "#/filter/none"),
        ({"filter": {"all": ["a", {}]}}, "missing", "#/filter/all/1"),
        ({"filter": {"all": ["a", {"any": []}]}}, "too_short", "#/filter/all/1/any"),
        ({"filter": {"all": None}}, "invalid_type", "#/filter/all"),
        ({"filter": {"all": "a"}}, "invalid_type", "#/filter/all"),
        ({"filter": {"all": [1]}}, "invalid_type", "#/filter/all/0"),
        ({"filter": {"all": [["a"]]}}, "invalid_type", "#/filter/all/0"),
        ({"filter": {"all": ["Not A Slug"]}}, "invalid_value", "#/filter/all/0"),
        ({"filter": {"all": ["a"], "some": ["a"]}}, "unknown_field", "#/filter/some"),
        ({"filter": {"all": ["a"]}, "limit": 5}, "unknown_field", "#/limit"),
        ({"filter": {"all": ["a"]}, "count_only": 1}, "invalid_type", "#/count_only"),
    ],
    ids=str,
)
async def test_a_filter_that_is_none(api: Api, body: Json, code: str, pointer: str) -> None:
    refused = problem(await api.post("/contacts/search", json=body), 422, code)
    assert pointers(refused) == [pointer]
    assert "<" not in str(refused)


def nested(depth: int) -> Json:
    return {"all": ["a"] if depth == 1 else [nested(depth - 1)]}


async def test_how_deep_and_how_long_a_filter_may_be(api: Api) -> None:
    [contact] = await make_people(api, "a")
    assert await searched(api, nested(FILTER_DEPTH_MAX)) == [contact]
    refused = problem(
        await api.post("/contacts/search", json={"filter": nested(FILTER_DEPTH_MAX + 1)}), 422, "too_deep"
    )
    assert pointers(refused) == ["#/filter"]
    problem(await api.post("/contacts/search", json={"filter": nested(30)}), 422, "too_deep")
    # What is empty is bounded as well: each would be an error of its own.
    empty = {"all": [{}] * 100, "any": [[]] * 100}
    problem(await api.post("/contacts/search", json={"filter": {"all": [empty] * 100}}), 422, "too_long")
    half = ["a"] * (FILTER_TAGS_MAX // 2)
    assert await searched(api, {"all": half, "any": [{"all": half}]}) == [contact]
    refused = problem(
        await api.post("/contacts/search", json={"filter": {"all": half, "any": [{"all": [*half, "a"]}]}}),
        422,
        "too_long",
    )
    assert pointers(refused) == ["#/filter"]
    for key in ("all", "any", "none"):
        params = {f"tags_{key}": ["a"] * (FILTER_TAGS_MAX + 1)}
        assert pointers(problem(await api.get("/contacts", params=params), 422, "too_long")) == [f"?tags_{key}"]
        refused = problem(await api.get("/contacts", params={f"tags_{key}": ["a", "B C"]}), 422, "invalid_value")
        assert refused["errors"][0]["pointer"].startswith(f"?tags_{key}")
        problem(await api.get(f"/contacts?tags_{key}="), 422, "too_short")


async def test_a_filter_by_tags_needs_an_audience(api: Api) -> None:
    await forget_default_audience(api.workspace)
    await make_contacts(api, 1)
    await make_tags(api, "a", audience="newsletter")
    for audience in ({}, {"audience": "*"}):
        refused = problem(await api.get("/contacts", params={"tags_all": "a", **audience}), 422, "audience_required")
        assert pointers(refused) == ["?audience"]
    problem(await api.post("/contacts/search", json={"filter": {"all": ["a"]}}), 422, "audience_required")
    # One star is no slug here.
    problem(await api.post("/contacts/search?audience=*", json={"filter": {"all": ["a"]}}), 422, "invalid_value")
    assert len(await searched(api, {"none": ["a"]}, audience="newsletter")) == 1
    refused = problem(await api.get("/contacts?tags_all=a&audience=nowhere"), 422, "unknown_audience")
    assert pointers(refused) == ["?audience"]


async def test_pages_of_a_segment(api: Api) -> None:
    people = await make_people(api, *["a b", "a", "b", "a c"] * 3)
    expected = [contact for n, contact in enumerate(people) if n % 4 in {0, 3}]
    params = {"tags_all": ["a"], "tags_any": ["b", "c"], "tags_none": [], "include_total": "true", "limit": 2}
    pages = await walk(api, "/contacts", **params)
    assert [ids_of(page) for page in pages] == [expected[:2], expected[2:4], expected[4:]]
    body = {"filter": {"all": ["a"], "any": ["b", "c"]}}
    seen, cursor = [], None
    while True:
        page = await call(api, "POST", "/contacts/search", body, limit=4, **({"cursor": cursor} if cursor else {}))
        seen += ids_of(page["data"])
        cursor = page["pagination"]["next_cursor"]
        if cursor is None:
            break
    assert seen == expected
    assert ids_of((await call(api, "POST", "/contacts/search", body, limit=2, offset=3))["data"]) == expected[3:5]


async def test_a_cursor_belongs_to_its_filter(api: Api) -> None:
    await make_people(api, *["a b"] * 3)
    cursor = (await call(api, "GET", "/contacts", tags_all="a", limit=1))["pagination"]["next_cursor"]
    for params in ({}, {"tags_all": "b"}, {"tags_any": "a"}, {"tags_all": ["a", "b"]}, {"search": "c"}):
        problem(await api.get("/contacts", params={**params, "cursor": cursor}), 400, "invalid_cursor")
    by_body = await call(api, "POST", "/contacts/search", {"filter": {"all": ["a"]}}, cursor=cursor)
    by_query = await call(api, "GET", "/contacts", tags_all="a", cursor=cursor)
    assert by_body == by_query
    by_email = (await call(api, "GET", "/contacts", search="c", limit=1))["pagination"]["next_cursor"]
    problem(await api.get("/contacts", params={"cursor": by_email}), 400, "invalid_cursor")


async def test_a_search_goes_by_email(api: Api) -> None:
    for email in ("b@example.com", "A2@example.com", "a10@example.com", "c@example.com", "a1@example.com"):
        await call(api, "POST", "/contacts", {"email": email, "tags": ["t"]}, status=201)
    expected = ["a10@example.com", "a1@example.com", "A2@example.com"]
    for tags in ({}, {"tags_all": "t"}):
        pages = await walk(api, "/contacts", search="A", limit=1, **tags)
        assert [contact["email"] for page in pages for contact in page] == expected


async def test_a_search_finds_what_has_the_last_character_there_is(api: Api) -> None:
    await call(api, "POST", "/contacts", {"email": "zz\U0010ffffq@example.com"}, status=201)
    for search in ("z", "zz", "zz\U0010ffff", "zz\U0010ffffq@"):
        assert len((await call(api, "GET", "/contacts", search=search))["data"]) == 1
    assert (await call(api, "GET", "/contacts", search="zz\U0010ffff\U0010ffff"))["data"] == []


async def test_a_page_with_too_many_tags_is_refused(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contact_tags, "TAGS_OF_MANY_MAX", 5)
    await make_people(api, "a b c", "a b", "a")
    refused = problem(await api.get("/contacts?expand=tags"), 422, "out_of_range")
    assert pointers(refused) == ["?limit"]
    for limit, offset in ((2, 0), (1, 2)):
        await call(api, "GET", "/contacts", expand="tags", limit=limit, offset=offset)
    problem(await api.post("/contacts/search?expand=tags", json={"filter": {"all": ["a"]}}), 422, "out_of_range")


async def test_contacts_with_their_tags(api: Api) -> None:
    people = await make_people(api, "b a", "", "a")
    await make_audience(api, "courses", people[1])
    await make_tags(api, "c", audience="courses")
    await call(api, "PUT", f"/contacts/{people[1]}/tags", {"tags": ["c"]}, audience="courses")
    for audience in ("newsletter", "*"):
        expected = {
            contact: (await call(api, "GET", f"/contacts/{contact}/tags", audience=audience))["data"]
            for contact in people
        }
        listed = await call(api, "GET", "/contacts", expand="tags", audience=audience)
        assert {one["id"]: one["tags"] for one in listed["data"]} == expected
    found = await call(api, "POST", "/contacts/search", {"filter": {"all": ["b"]}}, expand="tags")
    assert [tag["slug"] for tag in found["data"][0]["tags"]] == ["a", "b"]
    plain = await call(api, "GET", "/contacts")
    assert all("tags" not in one for one in plain["data"])
    assert [{**one, "tags": None} for one in plain["data"]] == [
        {**one, "tags": None} for one in (await call(api, "GET", "/contacts", expand="tags"))["data"]
    ]
    problem(await api.get("/contacts?expand=everything"), 422, "invalid_value")
