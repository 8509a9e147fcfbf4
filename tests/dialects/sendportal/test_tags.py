"""Tags: made, named, listed and deleted; and pages of them."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from tests.conftest import Api
from tests.dialects.sendportal.calls import (
    BASE,
    NOBODY,
    call,
    ids_of,
    make_subscriber,
    make_subscribers,
    make_tag,
    make_tags,
    missing,
    refused,
    subscribers_of,
    tags_of,
)
from tests.routers.calls import Json, answered, run, state_of

TAKEN = "The tag name must be unique."
PLACEHOLDER = "The validation error message."
TOO_LONG = "The name field must not be greater than 120 characters."
SHAPE = ["id", "name", "created_at", "update_at", "updated_at"]


async def test_a_tag_is_made_shown_renamed_and_deleted(api: Api) -> None:
    response = await api.post(f"{BASE}/tags", json={"name": "  Größe  "})
    made = answered(response, 201)["data"]
    assert "location" not in response.headers
    assert list(made) == ["id", "name", "subscribers", "created_at", "update_at", "updated_at"]
    assert (made["name"], made["subscribers"]) == ("Größe", [])
    del made["subscribers"]
    path = f"/tags/{made['id']}"
    assert await call(api, "GET", path) == made
    assert list(made) == SHAPE
    await run(
        api.workspace.database, "update tags set updated_at = '2020-01-02 03:04:05.9Z' where number = :n", n=made["id"]
    )
    for method in ("PUT", "PATCH"):
        assert (await call(api, method, path, {"name": "Größe"}))["update_at"] == "2020-01-02 03:04:05"
    for method, name in (("PUT", "Other"), ("PATCH", "other")):
        renamed = await call(api, method, path, {"name": name, "subscribers": [1, "x"], "unknown": 1})
        assert (renamed["name"], renamed["created_at"]) == (name, made["created_at"])
        assert renamed["update_at"] == renamed["updated_at"] > "2020-01-02 03:04:05"
    response = await api.delete(BASE + path)
    assert (response.status_code, response.content) == (204, b"")
    for method in ("GET", "PUT", "PATCH", "DELETE"):
        missing(await api.request(method, BASE + path, json={"name": "x"}), "tag", made["id"])


async def test_a_tag_is_given_to_subscribers_as_it_is_made(api: Api) -> None:
    ann, bob = await make_subscribers(api, 2)
    made = await call(api, "POST", "/tags", {"name": "VIP", "subscribers": [bob, ann, bob]}, status=201)
    assert made["subscribers"] == [await shown(api, bob), await shown(api, ann)]
    assert await tags_of(api, ann) == [made["id"]]
    assert sorted(await subscribers_of(api, made["id"])) == [ann, bob]
    events = answered(await api.get("/events", params={"limit": 1000}))["data"]
    assert [event["type"] for event in events][-2:] == ["tag.created", "tag.contacts_changed"]


async def shown(api: Api, subscriber: int) -> Json:
    """A subscriber as lists show it."""
    found: Json = await call(api, "GET", f"/subscribers/{subscriber}")
    del found["tags"]
    return found


async def test_deleting_a_tag_takes_it_from_subscribers(api: Api) -> None:
    tag = await make_tag(api, "VIP")
    subscriber = await make_subscriber(api, "ann@example.com", tags=[tag])
    await call(api, "DELETE", f"/tags/{tag}", status=204)
    assert await tags_of(api, subscriber) == []


@pytest.mark.parametrize(
    ("sent", "errors"),
    [
        ("", {"name": ["The name field is required."]}),
        ('{"name": null}', {"name": ["The name field is required."]}),
        ('{"name": " \\t "}', {"name": ["The name field is required."]}),
        ('{"name": []}', {"name": ["The name field must be a string."]}),
        ('{"name": {"a": 1}}', {"name": ["The name field must be a string."]}),
        ('{"name": true}', {"name": ["The name field must be a string."]}),
        (json.dumps({"name": "x" * 121}), {"name": [TOO_LONG]}),
        (json.dumps({"name": "x" * 100_000}), {"name": [TOO_LONG]}),
        (json.dumps({"name": "a\u0301" * 1_000}), {"name": [TOO_LONG]}),
        ('{"name": "a\\u0000b"}', {"name": ["The name field format is invalid."]}),
        ('{"name": "a\\nb"}', {"name": ["The name field format is invalid."]}),
        ('{"name": "\\ud800"}', {"name": ["The name field format is invalid."]}),
        ('{"name": "vip"}', {"name": [TAKEN]}),
        ('{"name": " VIP "}', {"name": [TAKEN]}),
        ('{"name": "x", "subscribers": "1"}', {"subscribers": ["The subscribers field must be an array."]}),
        (
            '{"name": "vip", "subscribers": 1}',
            {"name": [TAKEN], "subscribers": ["The subscribers field must be an array."]},
        ),
    ],
)
async def test_what_is_refused(api: Api, sent: str, errors: dict[str, list[str]]) -> None:
    _, other = await make_tags(api, "VIP", "Other")
    before = await state_of(api.workspace)
    headers = {"Content-Type": "application/json"}
    for method, path in [("POST", "/tags"), ("PUT", f"/tags/{other}"), ("PATCH", f"/tags/{other}")]:
        refused(await api.request(method, BASE + path, content=sent, headers=headers), **errors)
    # What is sent is looked at before whether there is such a tag.
    for number in (NOBODY, "abc", 0):
        refused(await api.put(f"{BASE}/tags/{number}", content=sent, headers=headers), **errors)
    assert await state_of(api.workspace) == before


async def test_subscribers_of_a_new_tag_that_are_not_there(api: Api) -> None:
    """All that is wrong is told, and no tag stays behind."""
    [subscriber] = await make_subscribers(api, 1)
    await make_tag(api, "VIP")
    before = await state_of(api.workspace)
    response = await api.post(f"{BASE}/tags", json={"name": "vip", "subscribers": [subscriber, NOBODY, "x"]})
    refused(
        response,
        name=[TAKEN],
        subscribers__1=[PLACEHOLDER],
        subscribers__2=["The subscribers.2 field must be an integer.", PLACEHOLDER],
    )
    many = {"name": "x", "subscribers": [subscriber] * 10_001}
    refused(
        await api.post(f"{BASE}/tags", json=many),
        subscribers=["The subscribers field must not have more than 10000 items."],
    )
    assert await state_of(api.workspace) == before


@pytest.mark.parametrize(("sent", "stored"), [(2024, "2024"), (2.5, "2.5"), ("C#", "C#"), ("x" * 120, "x" * 120)])
async def test_names_that_are_taken_as_they_are(api: Api, sent: object, stored: str) -> None:
    made = await call(api, "POST", "/tags", {"name": sent, "subscribers": None}, status=201)
    assert made["name"] == stored


async def test_the_name_of_a_tag_is_its_own(api: Api) -> None:
    tag = await make_tag(api, "VIP")
    assert (await call(api, "PUT", f"/tags/{tag}", {"name": "vip"}))["name"] == "vip"


async def test_of_two_that_take_a_name_one_gets_it(api: Api) -> None:
    for round_ in range(10):
        answers = await asyncio.gather(*(api.post(f"{BASE}/tags", json={"name": f"t{round_}"}) for _ in range(4)))
        assert sorted(answer.status_code for answer in answers) == [201, 422, 422, 422]
        for answer in answers:
            if answer.status_code == 422:
                refused(answer, name=[TAKEN])


# Pages.


async def page(api: Api, **params: Any) -> Json:
    return dict(answered(await api.get(f"{BASE}/tags", params=params)))


async def test_a_page_whole(api: Api) -> None:
    tags = dict(zip("cba", await make_tags(api, "c", "b", "a"), strict=True))
    found = await page(api, page=2, per_page=2)
    url = f"http://polytag.test{BASE}/tags"
    assert found == {
        "data": [await call(api, "GET", f"/tags/{tags['c']}")],
        "links": {
            "first": f"{url}?per_page=2&page=1",
            "last": f"{url}?per_page=2&page=2",
            "prev": f"{url}?per_page=2&page=1",
            "next": None,
        },
        "meta": {
            "current_page": 2,
            "from": 3,
            "last_page": 2,
            "links": [
                {"url": f"{url}?per_page=2&page=1", "label": "&laquo; Previous", "active": False},
                {"url": f"{url}?per_page=2&page=1", "label": "1", "active": False},
                {"url": f"{url}?per_page=2&page=2", "label": "2", "active": True},
                {"url": None, "label": "Next &raquo;", "active": False},
            ],
            "path": url,
            "per_page": 2,
            "to": 3,
            "total": 3,
        },
    }
    assert list(found["meta"]) == ["current_page", "from", "last_page", "links", "path", "per_page", "to", "total"]


async def test_a_list_of_nothing(api: Api) -> None:
    found = await page(api)
    assert found["data"] == []
    assert {name: found["meta"][name] for name in ("from", "to", "total", "last_page")} == {
        "from": None,
        "to": None,
        "total": 0,
        "last_page": 1,
    }
    assert found["links"]["first"] == found["links"]["last"] == f"http://polytag.test{BASE}/tags?page=1"


@pytest.mark.parametrize(
    ("sent", "length"),
    [
        (None, 25), ("", 15), ("0", 15), (" ", 15), ("-0", 15), ("7", 7), (" 7 ", 7), ("+7", 7), ("1000", 1000),
        ("1001", 1000), ("100000", 1000), ("9" * 18, 1000), ("9" * 30, 25), ("-1", 25), ("abc", 25), ("2.5", 25),
        ("\u0667", 25), ("\0", 25),
    ],
)  # fmt: skip
async def test_how_long_a_page_is(api: Api, sent: str | None, length: int) -> None:
    found = await page(api, **({} if sent is None else {"per_page": sent}))
    assert found["meta"]["per_page"] == length
    assert found["links"]["first"].endswith("/tags?page=1" if sent is None else f"/tags?per_page={length}&page=1")


@pytest.mark.parametrize("query", ["per_page[]=3", "per_page[a]=3", "per_page%5B%5D=", "page[]=2"])
async def test_a_list_as_a_number_is_none(api: Api, query: str) -> None:
    found = answered(await api.get(f"{BASE}/tags?{query}"))
    assert (found["meta"]["per_page"], found["meta"]["current_page"]) == (25, 1)


@pytest.mark.parametrize(
    ("sent", "number"),
    [
        ("1", 1),
        ("3", 3),
        ("0", 1),
        ("-3", 1),
        ("abc", 1),
        ("", 1),
        ("1.5", 1),
        (str(2**63 - 1), 2**63 - 1),
        (str(2**63), 1),
    ],
)
async def test_which_page_it_is(api: Api, sent: str, number: int) -> None:
    await make_tag(api, "VIP")
    found = await page(api, page=sent)
    assert found["meta"]["current_page"] == number
    assert len(found["data"]) == (number == 1)
    assert (found["links"]["prev"] is None) == (number == 1)
    assert found["links"]["next"] is None


async def test_pages_are_walked_by_their_links(api: Api) -> None:
    made = await make_tags(api, *(f"t{number:02}" for number in range(31)))
    for length in (None, 4, 31):
        url: str | None = f"http://polytag.test{BASE}/tags" + ("" if length is None else f"?per_page={length}")
        walked: list[int] = []
        pages = 0
        while url:
            found = answered(await api.get(httpx.URL(url)))
            walked += ids_of(found["data"])
            pages += 1
            assert found["meta"]["current_page"] == pages
            url = found["links"]["next"]
        assert walked == made
        assert pages == -(-31 // (length or 25))


@pytest.mark.parametrize(
    ("current", "labels"),
    [
        (1, "1 2 3 4 5 6 7 8 9 10 ... 19 20"),
        (7, "1 2 3 4 5 6 7 8 9 10 ... 19 20"),
        (8, "1 2 ... 5 6 7 8 9 10 11 ... 19 20"),
        (13, "1 2 ... 10 11 12 13 14 15 16 ... 19 20"),
        (14, "1 2 ... 11 12 13 14 15 16 17 18 19 20"),
        (20, "1 2 ... 11 12 13 14 15 16 17 18 19 20"),
    ],
)
async def test_the_row_of_page_numbers(api: Api, current: int, labels: str) -> None:
    await make_tags(api, *(f"t{number:02}" for number in range(20)))
    first, *numbers, last = (await page(api, per_page=1, page=current))["meta"]["links"]
    assert " ".join(link["label"] for link in numbers) == labels
    assert [link["label"] for link in numbers if link["active"]] == [str(current)]
    assert [link["url"] for link in numbers if link["label"] == "..."] == [None] * labels.count("...")
    assert (first["url"] is None) == (current == 1)
    assert (last["url"] is None) == (current == 20)


async def test_up_to_13_pages_are_all_numbered(api: Api) -> None:
    await make_tags(api, *(f"t{number:02}" for number in range(13)))
    links = (await page(api, per_page=1, page=7))["meta"]["links"]
    assert [link["label"] for link in links[1:-1]] == [str(number) for number in range(1, 14)]
