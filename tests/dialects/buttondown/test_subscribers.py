"""Subscribers: how their tags are named, added and replaced, what a collision does, and who is in a list."""

from typing import Any
from urllib.parse import quote

import pytest

from app.repositories.subscribers import Subscriber, SubscriberChange, SubscriberRepository
from app.repositories.subscriptions import SubscriptionChange
from tests.conftest import Api
from tests.dialects.buttondown.calls import (
    BASE,
    UNKNOWN,
    UNKNOWN_SUBSCRIBER,
    UNKNOWN_TAG,
    call,
    coded,
    listed,
    make_subscriber,
    make_tag,
    send,
    statements_of,
    tags_of,
)
from tests.dialects.buttondown.test_tags import BAD_NAMES, walk
from tests.repositories.invariants import assert_sound
from tests.routers import calls as native
from tests.routers.calls import Json, state_of

ADA = "ada@example.com"
ADD = {"X-Buttondown-Collision-Behavior": "add"}
OVERWRITE = {"X-Buttondown-Collision-Behavior": "overwrite"}


async def emails(api: Api, query: str = "") -> list[str]:
    """Who is in a list, in its order; `count` must be their number."""
    found = await call(api, "GET", f"/subscribers?{query}")
    assert found["count"] == len(found["results"])
    return [one["email_address"].partition("@")[0] for one in found["results"]]


async def test_a_subscriber(api: Api) -> None:
    made = await make_subscriber(api, "Ada@Example.com", tags=["VIP"], metadata={"name": "Ada"}, notes="not kept")
    contact = (await native.call(api, "GET", "/contacts", email=ADA))["data"][0]
    assert made == {
        "id": made["id"],
        "creation_date": contact["created_at"],
        "email_address": "Ada@Example.com",
        "metadata": {"name": "Ada"},
        "notes": "",
        "secondary_id": contact["number"],
        "tags": ["VIP"],
        "type": "regular",
        "unsubscription_date": None,
        "unsubscription_reason": "",
    }
    assert made["id"].startswith("sub_")
    for name in (made["id"], contact["id"], f"sub_{contact['id']}", "ada@example.com", "%20ADA@EXAMPLE.COM"):
        assert await call(api, "GET", f"/subscribers/{name}") == made
    old = await call(api, "GET", f"/subscribers/{ADA}", headers={"X-API-Version": "2025-06-01"})
    assert old == {**made, "id": contact["id"]}


async def test_the_older_name_of_the_address(api: Api) -> None:
    made = await call(api, "POST", "/subscribers", {"email": ADA}, status=201)
    assert made["email_address"] == ADA
    changed = await call(api, "PATCH", f"/subscribers/{ADA}", {"email": "bob@example.com"})
    assert changed == {**made, "email_address": "bob@example.com"}


@pytest.mark.parametrize(
    "name", ["", "x", UNKNOWN, UNKNOWN_SUBSCRIBER, UNKNOWN_TAG, "a@b", "%00@b", "@", "a" * 5_000 + "@b"]
)
@pytest.mark.parametrize(("method", "body"), [("GET", None), ("PATCH", {"tags": ["new"]}), ("DELETE", None)])
async def test_who_is_nobody(api: Api, method: str, body: object, name: str) -> None:
    if not name:
        name = "%20"
    await make_subscriber(api)
    before = await state_of(api.workspace)
    coded(await send(api, method, f"/subscribers/{name}", body), 404, "not_found")
    assert await state_of(api.workspace) == before


@pytest.mark.parametrize("name", ["★", "x" * 120, "sub_tag_x", "🏳️‍🌈"])
async def test_tags_that_other_front_ends_named(api: Api, name: str) -> None:
    """No tag is made of such a name, but one that there is stays with whoever carries it, and is found."""
    tag = await native.call(api, "POST", "/tags", {"name": name}, status=201)
    await make_subscriber(api)
    await native.call(api, "POST", f"/tags/{tag['id']}/contacts", {"emails": [ADA]})
    for headers in ({}, ADD):
        body = {"tags": [*await tags_of(api, ADA), "new"]}
        assert name in body["tags"]
        changed = await call(api, "PATCH", f"/subscribers/{ADA}", body, headers=headers)
        assert set(changed["tags"]) == {name, "new"}
    found = await call(api, "GET", f"/subscribers?tag={quote(name)}")
    assert [one["email_address"] for one in found["results"]] == [ADA]
    again = await call(api, "POST", "/subscribers", {"email_address": "b@x.io", "tags": [name.upper()]}, status=201)
    assert again["tags"] == [name]


@pytest.mark.parametrize("damaged", [UNKNOWN_TAG[:-1], UNKNOWN_TAG + "0", "sub_tag_", "sub_tag_8" + UNKNOWN_TAG[9:]])
async def test_a_damaged_id_makes_no_tag_of_that_name(api: Api, damaged: str) -> None:
    await make_subscriber(api)
    before = await state_of(api.workspace)
    refused = await send(api, "PATCH", f"/subscribers/{ADA}", {"tags": ["new", damaged]})
    coded(refused, 400, "tag_invalid")
    assert damaged in refused.json()["detail"]
    assert await state_of(api.workspace) == before


@pytest.mark.parametrize("form", ["name", "id", "uuid", "other case"])
async def test_ways_to_name_a_tag(api: Api, form: str) -> None:
    tag = await make_tag(api, "VIP")
    plain = (await call(api, "GET", f"/tags/{tag['id']}", headers={"X-API-Version": "2020-01-01"}))["id"]
    named = {"name": "VIP", "id": tag["id"], "uuid": plain, "other case": " vip "}[form]
    await make_subscriber(api, tags=[named, "new"])
    assert await tags_of(api, ADA) == ["VIP", "new"]
    await call(api, "PATCH", f"/subscribers/{ADA}", {"tags": []})
    changed = await call(api, "PATCH", f"/subscribers/{ADA}", {"tags": [named, "newer"]})
    assert sorted(changed["tags"]) == ["VIP", "newer"]
    assert await emails(api, f"tag={named}") == ["ada"]
    assert await emails(api, f"-tag={named}") == []
    assert (await call(api, "GET", "/tags"))["count"] == 3


async def test_a_name_is_no_slug(api: Api) -> None:
    await make_subscriber(api, tags=["Beta Tester", "beta-tester"])
    assert await tags_of(api, ADA) == ["Beta Tester", "beta-tester"]
    coded(await send(api, "GET", "/subscribers?tag=beta-tester-2"), 400, "invalid_tag")


@pytest.mark.parametrize("tag", [name for name, _ in BAD_NAMES if UNKNOWN_TAG not in name] + [UNKNOWN_TAG, UNKNOWN])
async def test_tags_that_cannot_be(api: Api, tag: str) -> None:
    await make_subscriber(api)
    before = await state_of(api.workspace)
    for tags in ([tag], ["new", tag], [tag, "new"]):
        for headers in ({}, ADD, OVERWRITE):
            body = {"email_address": "new@example.com", "tags": tags}
            coded(await send(api, "POST", "/subscribers", body, headers), 400, "tag_invalid")
            coded(
                await send(api, "POST", "/subscribers", {**body, "email_address": ADA}, headers or ADD),
                400,
                "tag_invalid",
            )
            coded(await send(api, "PATCH", f"/subscribers/{ADA}", {"tags": tags}, headers), 400, "tag_invalid")
    assert await state_of(api.workspace) == before


async def test_patch_replaces_adds_leaves_or_clears(api: Api) -> None:
    await make_subscriber(api, tags=["a", "b"])
    path = f"/subscribers/{ADA}"
    await call(api, "PATCH", path, {"tags": ["b", "c"]})
    assert await tags_of(api, ADA) == ["b", "c"]
    await call(api, "PATCH", path, {"tags": ["d", "b"]}, headers=ADD)
    assert await tags_of(api, ADA) == ["b", "c", "d"]
    before = await state_of(api.workspace)
    for body in ({}, {"tags": None}, {"tags": ["c", "b", "d"]}, dict.fromkeys(("email_address", "metadata", "type"))):
        await call(api, "PATCH", path, body)
    await call(api, "PATCH", path, {"tags": []}, headers=ADD)
    assert await state_of(api.workspace) == before
    assert (await call(api, "PATCH", path, {"tags": []}))["tags"] == []
    await assert_sound(api.workspace.database, api.workspace.principal.workspace_id)


async def test_patch_of_everything_else(api: Api) -> None:
    made = await make_subscriber(api, metadata={"name": "Ada", "age": 36})
    path = f"/subscribers/{made['id']}"
    body = {"email_address": "Lady@example.com", "metadata": {"age": None, "city": "London"}, "type": "unsubscribed"}
    changed = await call(api, "PATCH", path, body)
    assert changed["unsubscription_date"] is not None
    assert changed == {
        **made,
        "email_address": "Lady@example.com",
        "metadata": {"name": "Ada", "city": "London"},
        "type": "unsubscribed",
        "unsubscription_date": changed["unsubscription_date"],
    }
    back = await call(api, "PATCH", path, {"type": "regular"})
    assert (back["type"], back["unsubscription_date"]) == ("regular", None)
    assert (await call(api, "PATCH", path, {"type": "unactivated"}))["type"] == "unactivated"


async def test_an_address_that_is_taken(api: Api) -> None:
    ada, bob = await make_subscriber(api), await make_subscriber(api, "bob@example.com")
    before = await state_of(api.workspace)
    for headers in ({}, {"X-Buttondown-Collision-Behavior": "no_op"}, {"X-Buttondown-Collision-Behavior": "fail"}):
        body = {"email_address": "ADA@example.com", "tags": ["new"]}
        assert coded(await send(api, "POST", "/subscribers", body, headers), 400, "email_already_exists") == {
            "subscriber_id": ada["id"],
            "remedy_header": "X-Buttondown-Collision-Behavior: add",
        }
    refused = await send(api, "PATCH", f"/subscribers/{bob['id']}", {"email_address": ADA, "tags": ["new"]})
    coded(refused, 400, "email_already_exists")
    assert await state_of(api.workspace) == before


@pytest.mark.parametrize("headers", [ADD, OVERWRITE], ids=["add", "overwrite"])
async def test_a_collision_that_is_wanted(api: Api, headers: Json) -> None:
    made = await make_subscriber(api, tags=["a", "b"], metadata={"x": 1})
    body = {"email_address": "ADA@example.com", "tags": ["b", "c"], "metadata": {"y": 2}}
    done = await call(api, "POST", "/subscribers", body, status=201, headers=headers)
    expected = ["a", "b", "c"] if headers is ADD else ["b", "c"]
    assert {**done, "tags": sorted(done["tags"])} == {
        **made,
        "tags": expected,
        "metadata": {"x": 1, "y": 2},
    }
    # Without tags there is nothing to add, or to replace by.
    nothing: list[Json] = [{}, {"tags": None}, {"tags": []} if headers is ADD else {}]
    for more in nothing:
        await call(api, "POST", "/subscribers", {"email_address": ADA, **more}, status=201, headers=headers)
    assert await tags_of(api, ADA) == expected
    # Nobody there: as without the header.
    new = {"email_address": "new@example.com", "tags": ["a"]}
    assert (await call(api, "POST", "/subscribers", new, status=201, headers=headers))["tags"] == ["a"]
    await assert_sound(api.workspace.database, api.workspace.principal.workspace_id)


async def test_overwrite_with_no_tags(api: Api) -> None:
    await make_subscriber(api, tags=["a"])
    body = {"email_address": ADA, "tags": []}
    assert (await call(api, "POST", "/subscribers", body, status=201, headers=OVERWRITE))["tags"] == []


async def test_add_brings_back_who_left(api: Api) -> None:
    await make_subscriber(api, type="unsubscribed", tags=["a"])
    done = await call(api, "POST", "/subscribers", {"email_address": ADA}, status=201, headers=ADD)
    assert (done["type"], done["tags"], done["unsubscription_date"]) == ("regular", ["a"], None)


SUPPRESSED = [
    (SubscriberChange(own=SubscriptionChange("unsubscribed", "Too many")), "unsubscribed"),
    (SubscriberChange(suppressions={"global_unsubscribed": True}), "unsubscribed"),
    (SubscriberChange(suppressions={"hard_bounced": True}), "undeliverable"),
    (SubscriberChange(suppressions={"complained": True}), "complained"),
]


@pytest.mark.parametrize(("change", "kind"), SUPPRESSED)
async def test_overwrite_leaves_alone_who_wants_no_mail(api: Api, change: SubscriberChange, kind: str) -> None:
    await make_subscriber(api, tags=["a"])
    await api.workspace.repository(SubscriberRepository).upsert({"email": ADA}, change)
    found = await call(api, "GET", f"/subscribers/{ADA}")
    assert found["type"] == kind
    assert found["unsubscription_reason"] == ("Too many" if change.own else "")
    before = await state_of(api.workspace)
    body = {"email_address": ADA, "tags": ["new"], "metadata": {"x": 1}, "type": "regular"}
    coded(await send(api, "POST", "/subscribers", body, OVERWRITE), 400, "subscriber_suppressed")
    assert await state_of(api.workspace) == before


@pytest.mark.parametrize("headers", [{}, ADD, OVERWRITE], ids=["no header", "add", "overwrite"])
@pytest.mark.parametrize("kind", ["regular", "unactivated", "unsubscribed"])
async def test_types(api: Api, kind: str, headers: Json) -> None:
    """Also of one who is new, whatever the header; nobody is overwritten then."""
    body = {"email_address": ADA, "type": kind}
    assert (await call(api, "POST", "/subscribers", body, status=201, headers=headers))["type"] == kind
    if kind != "unsubscribed":
        other = {"regular": "unactivated", "unactivated": "regular"}[kind]
        changed = await call(
            api, "POST", "/subscribers", {"email_address": ADA, "type": other}, status=201, headers=headers or ADD
        )
        assert changed["type"] == other


async def test_deleting(api: Api) -> None:
    made = await make_subscriber(api, tags=["a"])
    await make_subscriber(api, "bob@example.com", tags=["a"])
    response = await send(api, "DELETE", f"/subscribers/{made['id']}")
    assert (response.status_code, response.content) == (204, b"")
    coded(await send(api, "DELETE", f"/subscribers/{ADA}"), 404, "not_found")
    assert await emails(api, "tag=a") == ["bob"]
    await assert_sound(api.workspace.database, api.workspace.principal.workspace_id)


SHAPES: list[tuple[Json, str, str]] = [
    ({"tags": ["a"]}, "missing", "email_address"),
    ({"email_address": "x"}, "value_error", "email_address"),
    ({"email_address": None}, "string_type", "email_address"),
    ({"email_address": ADA, "tags": "a"}, "list_type", "tags"),
    ({"email_address": ADA, "tags": ["a"] * 1_001}, "too_long", "tags"),
    ({"email_address": ADA, "metadata": []}, "dict_type", "metadata"),
    ({"email_address": ADA, "metadata": {"a": "x" * 17_000}}, "too_large", "metadata"),
    ({"email_address": ADA, "type": "premium"}, "literal_error", "type"),
    ({"email_address": ADA, "nope": 1}, "extra_forbidden", "nope"),
]


@pytest.mark.parametrize(("body", "kind", "field"), SHAPES)
async def test_shapes_that_are_wrong(api: Api, body: Json, kind: str, field: str) -> None:
    before = await state_of(api.workspace)
    assert listed(await send(api, "POST", "/subscribers", body)) == [(kind, ["body", "payload", field])]
    assert await state_of(api.workspace) == before


async def test_a_tag_of_another_type(api: Api) -> None:
    body = {"email_address": ADA, "tags": ["a", 7]}
    assert listed(await send(api, "POST", "/subscribers", body)) == [("string_type", ["body", "payload", "tags", 1])]


@pytest.mark.parametrize("value", ["", "merge", "ADD"])
async def test_other_ways_to_collide(api: Api, value: str) -> None:
    headers = {"X-Buttondown-Collision-Behavior": value}
    expected = [("literal_error", ["header", "X-Buttondown-Collision-Behavior"])]
    await make_subscriber(api)
    assert listed(await send(api, "POST", "/subscribers", {"email_address": ADA}, headers)) == expected
    assert listed(await send(api, "PATCH", f"/subscribers/{ADA}", {"tags": []}, headers)) == expected


# Lists.


async def test_filters(api: Api) -> None:
    for name, tags in (("a", ["x"]), ("b", ["x", "y"]), ("c", ["y"]), ("d", []), ("e", ["z"])):
        await make_subscriber(api, f"{name}@example.com", tags=tags)
    # The newest first.
    assert await emails(api) == ["e", "d", "c", "b", "a"]
    assert await emails(api, "tag=x") == ["b", "a"]
    assert await emails(api, "tag=x&tag=z") == ["e", "b", "a"]
    assert await emails(api, "tag=X&tag=x") == ["b", "a"]
    assert await emails(api, "-tag=x") == ["e", "d", "c"]
    assert await emails(api, "-tag=x&-tag=z") == ["d", "c"]
    assert await emails(api, "tag=x&-tag=y") == ["a"]
    assert await emails(api, "tag=x&-tag=x") == []
    assert await emails(api, "unknown=1&ordering=email") == ["e", "d", "c", "b", "a"]


@pytest.mark.parametrize("query", ["tag=x&tag=z", "-tag=y", "tag=x", ""])
async def test_pages(api: Api, query: str) -> None:
    for name, tags in (("a", ["x"]), ("b", ["x"]), ("c", ["y", "z"]), ("d", ["x"]), ("e", ["z"]), ("f", ["x", "z"])):
        await make_subscriber(api, f"{name}@example.com", tags=tags)
    whole = (await call(api, "GET", f"/subscribers?{query}"))["results"]
    pages = await walk(api, f"/subscribers?{query}&page_size=2")
    assert [len(page["results"]) for page in pages] == [2] * (len(whole) // 2) + [1] * (len(whole) % 2)
    assert [one for page in pages for one in page["results"]] == whole
    assert {page["count"] for page in pages} == {len(whole)}
    if query:
        assert pages[0]["next"] == f"http://polytag.test{BASE}/subscribers?{query}&page=2&page_size=2"


@pytest.mark.parametrize("tag", ["nope", "", "%00", "x" * 5_000, UNKNOWN, UNKNOWN_TAG, UNKNOWN_SUBSCRIBER])
async def test_a_filter_by_a_tag_that_is_not_there(api: Api, tag: str) -> None:
    await make_subscriber(api, tags=["x"])
    for query in (f"tag={tag}", f"-tag={tag}", f"tag=x&tag={tag}", f"-tag=x&-tag={tag}"):
        coded(await send(api, "GET", f"/subscribers?{query}"), 400, "invalid_tag")


async def test_too_many_tags_in_a_filter(api: Api) -> None:
    many = "&".join(["tag=x"] * 201)
    assert listed(await send(api, "GET", f"/subscribers?{many}")) == [("too_long", ["query", "tag"])]


async def test_a_page_with_too_many_tags(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.repositories.contact_tags.TAGS_OF_MANY_MAX", 3)
    for name in "ab":
        await make_subscriber(api, f"{name}@example.com", tags=["x", "y"])
    assert listed(await send(api, "GET", "/subscribers")) == [("value_error", ["query", "page_size"])]
    await call(api, "GET", "/subscribers?page_size=1")


async def test_statements_do_not_grow_with_the_list(api: Api) -> None:
    async def count() -> int:
        return len(await statements_of(api, "GET", "/subscribers?tag=a"))

    await make_subscriber(api, tags=["a"])
    one = await count()
    for number in range(10):
        await make_subscriber(api, f"p{number}@example.com", tags=["a", f"t{number}"])
    assert one == await count() == 5


async def test_somebody_known_elsewhere_is_new_here(api: Api) -> None:
    """And goes from here alone."""
    elsewhere: Any = await native.call(api, "POST", "/contacts", {"email": ADA, "audiences": []}, status=201)
    coded(await send(api, "GET", f"/subscribers/{ADA}"), 404, "not_found")
    bob = await make_subscriber(api, "bob@example.com")
    refused = await send(api, "PATCH", f"/subscribers/{bob['id']}", {"email_address": ADA})
    # Whose it is, is not told.
    assert coded(refused, 400, "email_already_exists") == {}
    made = await make_subscriber(api, tags=["a"])
    await call(api, "GET", f"/subscribers/{elsewhere['id']}")
    await native.make_audience(api, "club", elsewhere["id"])
    await call(api, "DELETE", f"/subscribers/{made['id']}", status=204)
    assert (await native.call(api, "GET", f"/contacts/{elsewhere['id']}"))["email"] == ADA


@pytest.mark.parametrize(("method", "verb"), [("POST", "create"), ("PATCH", "update")])
async def test_a_subscriber_who_goes_before_the_answer(
    api: Api, monkeypatch: pytest.MonkeyPatch, method: str, verb: str
) -> None:
    """What was changed is not answered as if nothing had been: nobody carries nothing."""
    if method == "PATCH":
        await make_subscriber(api)
    change = getattr(SubscriberRepository, verb)

    async def changed_and_gone(self: SubscriberRepository, *words: Any, **options: Any) -> Subscriber:
        done: Subscriber = await change(self, *words, **options)
        await self.delete(done.contact.id)
        return done

    monkeypatch.setattr(SubscriberRepository, verb, changed_and_gone)
    path, status = f"/subscribers/{ADA}", 200
    body: Json = {"tags": ["VIP"]}
    if method == "POST":
        path, body, status = "/subscribers", {"email_address": ADA, **body}, 201
    answer = await call(api, method, path, body, status=status)
    assert (answer["email_address"], answer["tags"]) == (ADA, [])
