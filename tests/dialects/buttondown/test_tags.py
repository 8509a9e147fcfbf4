"""Tags: rules of names and colors, collisions, what null means, lists and their links, analytics."""

from itertools import pairwise
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from app.config import Settings
from app.values import DEFAULT_COLOR
from tests.conftest import Api, Workspace, client_of, started
from tests.dialects.buttondown.calls import (
    UNKNOWN,
    UNKNOWN_TAG,
    bulk,
    call,
    coded,
    listed,
    make_subscriber,
    make_tag,
    send,
    tags_of,
)
from tests.repositories.invariants import assert_sound
from tests.routers import calls as native
from tests.routers.calls import Json, answered, state_of

OVERWRITE = {"X-Buttondown-Collision-Behavior": "overwrite"}

BAD_NAMES = [
    ("", "name_blank"),
    ("  \u00a0 ", "name_blank"),
    ("x" * 101, "name_too_long"),
    ("x" * 100_000, "name_too_long"),
    ("\u0301" * 10_000 + "a", "name_too_long"),
    ("🎉", "name_invalid"),
    ("___", "name_invalid"),
    ("-", "name_invalid"),
    ("a\x00b", "name_invalid"),
    ("a\x85b", "name_invalid"),
    ("a\n", "name_invalid"),
    (UNKNOWN_TAG, "name_invalid"),
    (f" {UNKNOWN} ", "name_invalid"),
]


@pytest.mark.parametrize("name", ["C++", "🎉 VIP", "alert KEN tech.ai", "lang:zh", "東京", "x" * 100, "²", "a"])
async def test_names_that_are_good(api: Api, name: str) -> None:
    made = await make_tag(api, name)
    assert made["name"] == name
    renamed = await make_tag(api, "other")
    await call(api, "DELETE", f"/tags/{made['id']}", status=204)
    assert (await call(api, "PATCH", f"/tags/{renamed['id']}", {"name": name}))["name"] == name


@pytest.mark.parametrize(("name", "code"), BAD_NAMES)
async def test_names_that_are_not(api: Api, name: str, code: str) -> None:
    tag = await make_tag(api)
    before = await state_of(api.workspace)
    coded(await send(api, "POST", "/tags", {"name": name}), 400, code)
    coded(await send(api, "PATCH", f"/tags/{tag['id']}", {"name": name}), 400, code)
    # A shape that is wrong comes first, since it says of no rule whether it is kept.
    assert listed(await send(api, "POST", "/tags", {"name": name, "color": 1})) == [
        ("string_type", ["body", "payload", "color"])
    ]
    assert await state_of(api.workspace) == before


async def test_a_name_is_trimmed_and_compared_without_case(api: Api) -> None:
    made = await make_tag(api, "  VIP ")
    assert made["name"] == "VIP"
    assert coded(await send(api, "POST", "/tags", {"name": "vip"}), 400, "name_already_exists") == {
        "tag_id": made["id"],
        "remedy_header": "X-Buttondown-Collision-Behavior: overwrite",
    }
    # A slug, which this API does not show, is no name.
    await make_tag(api, "Beta Tester")
    await make_tag(api, "beta-tester")


async def test_defaults(api: Api) -> None:
    made = await make_tag(api)
    assert (made["color"], made["description"], made["public_description"]) == (DEFAULT_COLOR, None, None)
    assert (made["subscriber_editable"], made["secondary_id"]) == (False, 1)
    assert (await make_tag(api, "second"))["secondary_id"] == 2


@pytest.mark.parametrize("color", ["red", "#ab", "#abcd", "#11223344", "#12345g", "", "#fff\n", "#FFF "])
async def test_colors_that_are_none(api: Api, color: str) -> None:
    tag = await make_tag(api)
    expected = [("string_pattern_mismatch", ["body", "payload", "color"])]
    assert listed(await send(api, "POST", "/tags", {"name": "x", "color": color})) == expected
    assert listed(await send(api, "PATCH", f"/tags/{tag['id']}", {"color": color})) == expected


async def test_a_short_color_is_written_out(api: Api) -> None:
    assert (await make_tag(api, color="#Abc"))["color"] == "#AAbbcc"


SHAPES: list[tuple[Any, list[tuple[str, list[str | int]]]]] = [
    ({}, [("missing", ["body", "payload", "name"])]),
    ({"name": 1}, [("string_type", ["body", "payload", "name"])]),
    ({"name": "a", "secondary_id": 5}, [("extra_forbidden", ["body", "payload", "secondary_id"])]),
    ({"name": "a", "id": "x"}, [("extra_forbidden", ["body", "payload", "id"])]),
    ({"name": "a", "color": None}, [("string_type", ["body", "payload", "color"])]),
    ({"name": "a", "description": 1}, [("string_type", ["body", "payload", "description"])]),
    ({"name": "a", "description": "x" * 1_001}, [("string_too_long", ["body", "payload", "description"])]),
    ({"name": "a", "description": "\x00"}, [("string_pattern_mismatch", ["body", "payload", "description"])]),
    ({"name": "a", "subscriber_editable": "yes"}, [("bool_type", ["body", "payload", "subscriber_editable"])]),
    ({"name": "a", "subscriber_editable": None}, [("bool_type", ["body", "payload", "subscriber_editable"])]),
    ([1], [("model_attributes_type", ["body", "payload"])]),
    ("a", [("model_attributes_type", ["body", "payload"])]),
    (None, [("missing", ["body", "payload"])]),
]


@pytest.mark.parametrize(("body", "expected"), SHAPES)
async def test_shapes_that_are_wrong(api: Api, body: Any, expected: object) -> None:
    before = await state_of(api.workspace)
    assert listed(await send(api, "POST", "/tags", body)) == expected
    assert await state_of(api.workspace) == before


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"secondary_id": 0}, "greater_than_equal"),
        ({"secondary_id": 10**9 + 1}, "less_than_equal"),
        ({"secondary_id": "1"}, "int_type"),
        ({"secondary_id": 1.5}, "int_type"),
        ({"creation_date": "2020-01-01T00:00:00Z"}, "extra_forbidden"),
    ],
)
async def test_patches_that_are_wrong(api: Api, body: Json, kind: str) -> None:
    tag = await make_tag(api)
    assert listed(await send(api, "PATCH", f"/tags/{tag['id']}", body)) == [(kind, ["body", "payload", *body])]


async def test_overwrite_takes_what_is_sent(api: Api) -> None:
    made = await make_tag(api, "VIP", description="kept", public_description="kept")
    body = {"name": "vip", "color": "#000000", "public_description": None}
    changed = await call(api, "POST", "/tags", body, headers=OVERWRITE)
    assert changed == {**made, "name": "vip", "color": "#000000", "public_description": None}
    assert (await call(api, "GET", "/tags"))["results"] == [changed]
    # A free name is made all the same, and what changes nothing writes nothing.
    await call(api, "POST", "/tags", {"name": "free"}, status=201, headers=OVERWRITE)
    before = await state_of(api.workspace)
    assert await call(api, "POST", "/tags", body, headers=OVERWRITE) == changed
    assert await state_of(api.workspace) == before


@pytest.mark.parametrize("value", ["add", "fail", "Overwrite", "", "no_op,overwrite"])
async def test_other_ways_to_collide(api: Api, value: str) -> None:
    await make_tag(api)
    headers = {"X-Buttondown-Collision-Behavior": value}
    before = await state_of(api.workspace)
    for name in ("VIP", "free"):
        faults = listed(await send(api, "POST", "/tags", {"name": name}, headers=headers))
        assert faults == [("literal_error", ["header", "X-Buttondown-Collision-Behavior"])]
    assert await state_of(api.workspace) == before
    coded(
        await send(api, "POST", "/tags", {"name": "VIP"}, headers={"X-Buttondown-Collision-Behavior": "no_op"}),
        400,
        "name_already_exists",
    )


async def test_null_leaves_or_clears(api: Api) -> None:
    made = await make_tag(api, description="a", public_description="b", subscriber_editable=True, color="#123456")
    nulls = dict.fromkeys(("name", "color", "subscriber_editable", "secondary_id"))
    before = await state_of(api.workspace)
    assert await call(api, "PATCH", f"/tags/{made['id']}", nulls) == made
    assert await call(api, "PATCH", f"/tags/{made['id']}", {}) == made
    assert await call(api, "PATCH", f"/tags/{made['id']}", {"name": made["name"]}) == made
    assert await state_of(api.workspace) == before
    cleared = await call(api, "PATCH", f"/tags/{made['id']}", {"description": None})
    assert cleared == {**made, "description": None}
    cleared = await call(api, "PATCH", f"/tags/{made['id']}", {"public_description": None})
    assert cleared == {**made, "description": None, "public_description": None}


async def test_what_is_taken_by_another_tag(api: Api) -> None:
    first, second = await make_tag(api, "first"), await make_tag(api, "second")
    path = f"/tags/{second['id']}"
    before = await state_of(api.workspace)
    assert coded(await send(api, "PATCH", path, {"name": "FIRST"}), 400, "name_already_exists") == {
        "tag_id": first["id"]
    }
    refused = await send(api, "PATCH", path, {"secondary_id": 1, "color": "#000"})
    assert coded(refused, 400, "secondary_id_already_exists") == {"tag_id": first["id"]}
    # By an old version, the id is told in its form.
    refused = await send(api, "PATCH", path, {"name": "first"}, {"X-API-Version": "2025-01-01"})
    old = await call(api, "GET", f"/tags/{first['id']}", headers={"X-API-Version": "2025-01-01"})
    assert coded(refused, 400, "name_already_exists") == {"tag_id": old["id"]}
    assert "-" in old["id"]
    assert await state_of(api.workspace) == before


async def test_deleting_takes_the_tag_from_subscribers(api: Api) -> None:
    tag = await make_tag(api)
    await make_subscriber(api, tags=["VIP", "other"])
    await call(api, "DELETE", f"/tags/{tag['id']}?name=", status=204)
    assert await tags_of(api, "ada@example.com") == ["other"]
    await call(api, "GET", f"/tags/{tag['id']}", status=404)
    await assert_sound(api.workspace.database, api.workspace.principal.workspace_id)


async def test_put_is_not_possible(api: Api) -> None:
    tag = await make_tag(api)
    response = await send(api, "PUT", f"/tags/{tag['id']}", {"name": "x"})
    coded(response, 405, "method_not_allowed")
    assert response.headers["allow"] == "DELETE, GET, HEAD, PATCH"


# Lists.


async def walk(api: Api, path: str) -> list[Json]:
    """Every page of a list, from `next` to `next`, and back by `previous`."""
    pages: list[Json] = []
    url: str | None = f"http://polytag.test/buttondown/v1{path}"
    headers = {"Authorization": f"Token {api.workspace.provisioned.key}"}
    while url:
        response = await api.get(url, headers=headers)
        page = answered(response)
        links = {rel: one["url"] for rel, one in response.links.items()}
        assert links == {
            rel: page[name] for rel, name in (("next", "next"), ("prev", "previous")) if page[name] is not None
        }
        assert ("link" in response.headers) is bool(links)
        pages.append(page)
        url = page["next"]
    for before, after in pairwise(pages):
        assert answered(await api.get(after["previous"], headers=headers)) == before
    assert pages[0]["previous"] is None
    return pages


async def test_pages(api: Api) -> None:
    made = [await make_tag(api, name) for name in ("e", "d", "c", "b", "a")]
    pages = await walk(api, "/tags?page_size=2")
    # In the order in which they were made.
    assert [page["results"] for page in pages] == [made[:2], made[2:4], made[4:]]
    assert {page["count"] for page in pages} == {5}
    assert (await walk(api, "/tags"))[0]["results"] == made
    assert len(await walk(api, "/tags?page_size=5")) == 1


async def test_links_repeat_the_filters(api: Api) -> None:
    made = [await make_tag(api, name) for name in ("a", "b", "c", "d")]
    wanted = "&".join(f"ids={tag['id']}" for tag in reversed(made[1:]))
    pages = await walk(api, f"/tags?{wanted}&page_size=1&unknown=1")
    assert [page["results"] for page in pages] == [[tag] for tag in made[1:]]
    assert pages[0]["next"] == f"http://polytag.test/buttondown/v1/tags?{wanted}&page=2&page_size=1"
    assert {page["count"] for page in pages} == {3}


@pytest.mark.parametrize("page", ["0", "-1", "-99999999999999999999", "1"])
async def test_before_the_first_page_is_the_first(api: Api, page: str) -> None:
    made = [await make_tag(api, name) for name in ("a", "b")]
    found = await call(api, "GET", f"/tags?page={page}&page_size=1")
    assert (found["results"], found["previous"]) == (made[:1], None)
    assert found["next"].endswith("page=2&page_size=1")


@pytest.mark.parametrize("page", ["3", "4", "99999", "9" * 300])
async def test_behind_the_last_page_there_is_nothing(api: Api, page: str) -> None:
    for name in ("a", "b"):
        await make_tag(api, name)
    found = await call(api, "GET", f"/tags?page={page}&page_size=1")
    assert (found["results"], found["count"], found["next"]) == ([], 2, None)
    # The last one that there is.
    assert found["previous"].endswith("page=2&page_size=1")
    found = await call(api, "GET", f"/subscribers?page={page}")
    assert (found["results"], found["count"], found["next"]) == ([], 0, None)


@pytest.mark.parametrize(
    ("query", "kind", "name"),
    [
        ("page_size=0", "greater_than_equal", "page_size"),
        ("page_size=1001", "less_than_equal", "page_size"),
        ("page_size=x", "int_parsing", "page_size"),
        ("page_size=", "int_parsing", "page_size"),
        ("page=x", "int_parsing", "page"),
        ("page=1.5", "int_parsing", "page"),
        ("page=" + "9" * 5_000, "int_parsing_size", "page"),
    ],
)
@pytest.mark.parametrize("path", ["/tags", "/subscribers"])
async def test_pages_that_are_none(api: Api, path: str, query: str, kind: str, name: str) -> None:
    assert listed(await send(api, "GET", f"{path}?{query}")) == [(kind, ["query", name])]


async def test_only_the_ids_that_are_named(api: Api) -> None:
    first, second, _ = [await make_tag(api, name) for name in ("a", "b", "c")]
    plain = await call(api, "GET", f"/tags/{second['id']}", headers={"X-API-Version": "2020-01-01"})
    found = await call(api, "GET", f"/tags?ids={plain['id']}&ids={first['id']}&ids={UNKNOWN_TAG}&ids=x&ids=")
    assert (found["results"], found["count"]) == ([first, second], 2)
    # What can be nobody's id matches nothing, rather than everything.
    for nobody in ("x", "", "%00", UNKNOWN):
        assert (await call(api, "GET", f"/tags?ids={nobody}"))["count"] == 0
    many = "&".join(["ids=x"] * 201)
    assert listed(await send(api, "GET", f"/tags?{many}")) == [("too_long", ["query", "ids"])]


@pytest.mark.parametrize("public_url", ["https://tags.example.com", "https://example.com/polytag"])
async def test_links_lead_back_through_a_proxy(database_url: str, workspace: Workspace, public_url: str) -> None:
    prefix = urlsplit(public_url).path
    async with (
        started(Settings(database_url=database_url, public_url=public_url)) as app,
        client_of(app, workspace) as api,
    ):
        for name in ("a", "b"):
            await make_tag(api, name)
        hostile = {"Host": "evil.example", "X-Forwarded-Host": "evil.example", "X-Forwarded-Prefix": "/evil"}
        found = await call(api, "GET", "/tags?page_size=1", headers=hostile)
        assert found["next"] == f"{public_url}/buttondown/v1/tags?page=2&page_size=1"
        path = urlsplit(found["next"]).path.removeprefix(prefix).removeprefix("/buttondown/v1")
        second = await call(api, "GET", f"{path}?{urlsplit(found['next']).query}")
        assert second["previous"] == f"{public_url}/buttondown/v1/tags?page=1&page_size=1"


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("tags.example.com", "http://tags.example.com"),
        ("localhost:8000", "http://localhost:8000"),
        ("[::1]:8000", "http://[::1]:8000"),
        # What is no host is not put into a link.
        ("[::1", "http://polytag.test"),
        ('"><script>', "http://polytag.test"),
        ("a/b", "http://polytag.test"),
        ("", "http://polytag.test"),
    ],
)
async def test_links_are_absolute_without_a_public_url(api: Api, host: str, origin: str) -> None:
    for name in ("a", "b"):
        await make_tag(api, name)
    response = await send(api, "GET", "/tags?page_size=1", None, {"Host": host})
    assert answered(response)["next"] == f"{origin}/buttondown/v1/tags?page=2&page_size=1"
    assert httpx.URL(response.links["next"]["url"]).path == "/buttondown/v1/tags"


async def test_a_header_that_clients_would_not_take_is_left_out(api: Api) -> None:
    for name in "ab":
        await make_tag(api, name)
    query = "&".join(f"tag={'a' * 100}" for _ in range(10))
    await make_subscriber(api, "a@x.io", tags=["a" * 100])
    await make_subscriber(api, "b@x.io", tags=["a" * 100])
    for times, has_header in ((1, True), (5, False)):
        response = await send(api, "GET", f"/subscribers?page_size=1&{'&'.join([query] * times)}")
        assert ("Link" in response.headers) == has_header
        assert answered(response)["next"].count("tag=") == 10 * times


# Analytics.


async def test_analytics_count_who_was_created_with_the_tag(api: Api) -> None:
    tag = await make_tag(api)
    path = f"/tags/{tag['id']}/analytics"
    assert await call(api, "GET", path) == {"created_subscribers": 0, "open_rate": 0, "click_rate": 0}
    with_it = await make_subscriber(api, "ada@example.com", tags=["VIP"])
    await make_subscriber(api, "bob@example.com", tags=["other"])
    await call(api, "PATCH", "/subscribers/bob@example.com", {"tags": ["VIP"]})
    third = await make_subscriber(api, "cem@example.com")
    await bulk(api, "apply_tags", tag_id=tag["id"], ids=[third["id"]])
    native_tag = await native.call(api, "GET", "/tags", slug="vip")
    assert native_tag["data"][0]["contact_count"] == 3
    assert (await call(api, "GET", path))["created_subscribers"] == 1
    # Taken and given again, it is no longer what she was created with.
    await call(api, "PATCH", f"/subscribers/{with_it['id']}", {"tags": []})
    await call(api, "PATCH", f"/subscribers/{with_it['id']}", {"tags": ["VIP"]})
    assert (await call(api, "GET", path))["created_subscribers"] == 0
    for nobody in (UNKNOWN_TAG, UNKNOWN, "x", third["id"]):
        coded(await send(api, "GET", f"/tags/{nobody}/analytics"), 404, "not_found")


async def test_analytics_count_who_was_known_elsewhere_before(api: Api) -> None:
    await native.call(api, "POST", "/audiences", {"name": "Club", "slug": "club"}, status=201)
    await native.call(api, "POST", "/contacts", {"email": "ada@example.com"}, status=201, audience="club")
    tag = await make_tag(api)
    await make_subscriber(api, "ada@example.com", tags=["VIP"])
    assert (await call(api, "GET", f"/tags/{tag['id']}/analytics"))["created_subscribers"] == 1
