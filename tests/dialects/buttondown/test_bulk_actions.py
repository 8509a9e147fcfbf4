"""Bulk actions: what each type does, exactly; what is refused, with nothing written; and that it is kept."""

from collections.abc import Iterator
from typing import Any

import pytest

from app.repositories import bulk_actions
from app.repositories.events import IDS_PER_EVENT
from tests.conftest import Api
from tests.dialects.buttondown.calls import (
    UNKNOWN,
    UNKNOWN_SUBSCRIBER,
    UNKNOWN_TAG,
    bulk,
    call,
    coded,
    listed,
    make_subscriber,
    make_tag,
    send,
    statements_of,
    tags_of,
)
from tests.repositories.invariants import assert_sound
from tests.routers import calls as native
from tests.routers.calls import Json, run, state_of


class World:
    """Three tags and three subscribers, of whom ada carries the first tag."""

    def __init__(self, api: Api, tags: list[Json], subscribers: list[Json]) -> None:
        self.api, self.tags, self.subscribers = api, tags, subscribers
        self.tag_ids = [tag["id"] for tag in tags]
        self.ids = [one["id"] for one in subscribers]

    @classmethod
    async def of(cls, api: Api) -> "World":
        tags = [await make_tag(api, name) for name in ("x", "y", "z")]
        emails = [f"{name}@example.com" for name in ("ada", "bob", "cem")]
        return cls(api, tags, [await make_subscriber(api, email, tags=["x"] * (email[0] == "a")) for email in emails])

    async def carried(self) -> list[list[str]]:
        """What each subscriber carries. The tables must be sound."""
        await assert_sound(self.api.workspace.database, self.api.workspace.principal.workspace_id)
        return [await tags_of(self.api, one) for one in self.ids]


@pytest.fixture
async def world(api: Api) -> World:
    return await World.of(api)


async def test_the_answer(api: Api, world: World) -> None:
    metadata = {"ids": world.ids[:2], "tag_ids": world.tag_ids[:1]}
    done = await bulk(api, "apply_tags", **metadata)
    assert done == {
        "id": done["id"],
        "creation_date": done["creation_date"],
        "completion_date": done["completion_date"],
        "type": "apply_tags",
        "status": "processed",
        "metadata": metadata,
        # Ada carried it already.
        "result": {"changed": 1, "subscribers": 1},
    }
    assert done["id"].startswith("bulk_action_")
    assert done["creation_date"] <= done["completion_date"]
    assert await call(api, "GET", f"/bulk_actions/{done['id']}") == done
    old = await call(api, "GET", f"/bulk_actions/{done['id']}", headers={"X-API-Version": "2025-01-01"})
    assert await call(api, "GET", f"/bulk_actions/{old['id']}") == done
    for nobody in ("x", UNKNOWN, world.ids[0], world.tag_ids[0]):
        coded(await send(api, "GET", f"/bulk_actions/{nobody}"), 404, "not_found")


async def test_giving_tags(api: Api, world: World) -> None:
    ada, bob, cem = world.ids
    x, y, z = world.tag_ids
    done = await bulk(api, "apply_tags", tag_ids=[x, y], ids=[ada, bob])
    assert done["result"] == {"changed": 3, "subscribers": 2}
    assert await world.carried() == [["x", "y"], ["x", "y"], []]
    done = await bulk(api, "apply_tags", tag_id=z, ids=["all"], action="add")
    assert done["result"] == {"changed": 3, "subscribers": 3}
    done = await bulk(api, "apply_tags", tag_ids=[y], tag_id=z, ids=[f"-{ada}", f"-{bob}"])
    assert done["result"] == {"changed": 1, "subscribers": 1}
    assert await world.carried() == [["x", "y", "z"], ["x", "y", "z"], ["y", "z"]]
    # Repeats count once, and what changes nothing is done all the same.
    done = await bulk(api, "apply_tags", tag_ids=[x, x], tag_id=x, ids=[cem, cem])
    assert done["result"] == {"changed": 1, "subscribers": 1}
    events = len((await native.call(api, "GET", "/events", limit=1000))["data"])
    done = await bulk(api, "apply_tags", tag_ids=[x], ids=["all"])
    assert done["result"] == {"changed": 0, "subscribers": 0}
    assert len((await native.call(api, "GET", "/events", limit=1000))["data"]) == events


async def test_taking_tags_away(api: Api, world: World) -> None:
    ada, bob, _ = world.ids
    x, y, _ = world.tag_ids
    await bulk(api, "apply_tags", tag_ids=[x, y], ids=["all"])
    done = await bulk(api, "apply_tags", tag_ids=[x, y], ids=[bob], action="remove")
    assert done["result"] == {"changed": 2, "subscribers": 1}
    done = await bulk(api, "apply_tags", tag_id=x, ids=[f"-{ada}"], action="remove")
    assert done["result"] == {"changed": 1, "subscribers": 1}
    assert await world.carried() == [["x", "y"], [], ["y"]]
    done = await bulk(api, "apply_tags", tag_ids=[x, y], ids=["all"], action="remove")
    assert done["result"] == {"changed": 3, "subscribers": 2}
    assert await world.carried() == [[], [], []]


async def test_only_this_newsletter_is_meant(api: Api, world: World) -> None:
    """Members of other audiences, and their tags, are not among "all"."""
    other = await native.call(api, "POST", "/contacts", {"email": "other@example.com", "audiences": []}, status=201)
    await native.make_audience(api, "club", other["id"])
    club_tag = await native.make_tag(api, "club tag", audience="club")
    await bulk(api, "apply_tags", tag_id=world.tag_ids[0], ids=["all"])
    assert (await call(api, "GET", "/subscribers?tag=x"))["count"] == 3
    assert (await bulk(api, "change_tags_colors", ids=["all"], color="#123456"))["result"]["changed"] == 3
    assert (await bulk(api, "delete_tags", ids=["all"]))["result"]["tags"] == 3
    assert (await native.call(api, "GET", f"/tags/{club_tag['id']}"))["color"] == club_tag["color"]
    refused = await send(api, "POST", "/bulk_actions", {"type": "delete_tags", "metadata": {"ids": [club_tag["id"]]}})
    coded(refused, 400, "bulk_action_invalid_ids")


async def test_coloring(api: Api, world: World) -> None:
    x, y, z = world.tag_ids

    async def colors() -> list[str]:
        return [tag["color"] for tag in (await call(api, "GET", "/tags"))["results"]]

    default = world.tags[0]["color"]
    done = await bulk(api, "change_tags_colors", ids=[x, y], color="#abc")
    assert (done["result"], done["metadata"]["color"]) == ({"changed": 2, "tags": 2}, "#aabbcc")
    assert await colors() == ["#aabbcc", "#aabbcc", default]
    assert (await bulk(api, "change_tags_colors", ids=[f"-{x}"], color="#aabbcc"))["result"]["changed"] == 1
    assert await colors() == ["#aabbcc"] * 3
    assert (await bulk(api, "change_tags_colors", ids=["all"], color="#aabbcc"))["result"]["changed"] == 0
    assert (await bulk(api, "change_tags_colors", ids=["all"], color="#000000"))["result"]["changed"] == 3
    changed = (await native.call(api, "GET", "/events", limit=1000, types="tag.updated"))["data"]
    assert len(changed) == 6
    assert {event["payload"]["version"] for event in changed} == {2, 3}
    assert z


async def test_deleting_tags(api: Api, world: World) -> None:
    x, y, z = world.tag_ids
    await bulk(api, "apply_tags", tag_ids=[x, y], ids=["all"])
    done = await bulk(api, "delete_tags", ids=[x, z])
    # Two tags, and three assignments.
    assert done["result"] == {"changed": 5, "tags": 2}
    assert await world.carried() == [["y"], ["y"], ["y"]]
    assert [tag["id"] for tag in (await call(api, "GET", "/tags"))["results"]] == [y]
    kept = await make_tag(api, "kept")
    assert (await bulk(api, "delete_tags", ids=[f"-{kept['id']}"]))["result"] == {"changed": 4, "tags": 1}
    assert (await bulk(api, "delete_tags", ids=["all"]))["result"] == {"changed": 1, "tags": 1}
    assert (await bulk(api, "delete_tags", ids=["all"]))["result"] == {"changed": 0, "tags": 0}
    assert await world.carried() == [[], [], []]


GOOD: dict[str, Json] = {
    "apply_tags": {"tag_id": "{tag}", "ids": ["{subscriber}"]},
    "change_tags_colors": {"color": "#000000", "ids": ["{tag}"]},
    "delete_tags": {"ids": ["{tag}"]},
}
BAD_IDS: list[Any] = [
    ...,
    None,
    [],
    ["x"],
    [""],
    ["-"],
    ["ALL"],
    ["all", "all"],
    ["all", "{own}"],
    ["{own}", "all"],
    ["-all"],
    ["{own}", "-{other}"],
    ["-{own}", "{other}"],
    ["--{own}"],
    ["{own}", UNKNOWN],
    ["{own}", UNKNOWN_SUBSCRIBER, UNKNOWN_TAG],
    [f"-{UNKNOWN}"],
    ["-{own}", f"-{UNKNOWN}"],
    # Of the other kind, in a form that says so.
    ["{wrong}"],
]


@pytest.mark.parametrize("kind", GOOD)
@pytest.mark.parametrize("ids", BAD_IDS, ids=str)
async def test_no_ids_never_mean_everything(api: Api, world: World, kind: str, ids: Any) -> None:
    of_subscribers = kind == "apply_tags"
    own, wrong = (world.ids, world.tag_ids) if of_subscribers else (world.tag_ids, world.ids)

    def fill(value: Any) -> Any:
        if isinstance(value, list):
            return [fill(one) for one in value]
        if isinstance(value, str):
            value = value.replace("{own}", own[0]).replace("{other}", own[1]).replace("{wrong}", wrong[0])
            return value.replace("{tag}", world.tag_ids[1]).replace("{subscriber}", world.ids[0])
        return value

    metadata = {name: fill(value) for name, value in GOOD[kind].items() if name != "ids"}
    if ids is not ...:
        metadata["ids"] = fill(ids)
    before = await state_of(api.workspace)
    refused = await send(api, "POST", "/bulk_actions", {"type": kind, "metadata": metadata})
    coded(refused, 400, "bulk_action_invalid_ids")
    assert await state_of(api.workspace) == before
    # With ids that are there it would have been done.
    done = await bulk(api, kind, **{**metadata, "ids": fill(["{own}"])})
    assert done["result"]["changed"] >= 1


@pytest.mark.parametrize(
    "named",
    [
        {},
        {"tag_ids": []},
        {"tag_ids": None},
        {"tag_id": None},
        {"tag_id": ""},
        {"tag_ids": ["all"]},
        {"tag_id": UNKNOWN},
        {"tag_ids": ["{tag}", UNKNOWN_TAG]},
        {"tag_ids": ["-{tag}"]},
        {"tag_ids": ["x"]},
        {"tag_id": "{subscriber}"},
    ],
    ids=str,
)
async def test_tags_that_are_not_there(api: Api, world: World, named: Json) -> None:
    def fill(value: Any) -> Any:
        if isinstance(value, list):
            return [fill(one) for one in value]
        return value and value.replace("{tag}", world.tag_ids[0]).replace("{subscriber}", world.ids[0])

    before = await state_of(api.workspace)
    metadata = {"ids": ["all"], **{name: fill(value) for name, value in named.items()}}
    refused = await send(api, "POST", "/bulk_actions", {"type": "apply_tags", "metadata": metadata})
    coded(refused, 400, "bulk_action_invalid_ids")
    assert await state_of(api.workspace) == before


async def test_a_color_is_needed(api: Api, world: World) -> None:
    for color in ({}, {"color": None}):
        body = {"type": "change_tags_colors", "metadata": {"ids": ["all"], **color}}
        coded(await send(api, "POST", "/bulk_actions", body), 400, "bulk_action_invalid_ids")


@pytest.mark.parametrize("field", ["ids", "tag_ids"])
async def test_two_hundred_ids_at_most(api: Api, world: World, field: str) -> None:
    metadata = {"ids": world.ids[:1], "tag_ids": world.tag_ids[:1]}
    metadata[field] *= 200
    await bulk(api, "apply_tags", **metadata)
    # How many there are comes first: a long list of what is no id is not told item by item.
    for more in (metadata[field][:1], [1] * 100_000):
        body = {"type": "apply_tags", "metadata": metadata | {field: metadata[field] + more}}
        refused = await send(api, "POST", "/bulk_actions", body)
        coded(refused, 400, "max_bulk_actions_exceeded")
        assert "200" in refused.json()["detail"]


async def test_only_what_the_type_reads_is_kept(api: Api, world: World) -> None:
    asked = {"ids": world.tag_ids[:1], "color": "#aabbcc", "tag_id": "x", "tag_ids": ["x"], "action": "remove"}
    done = await bulk(api, "change_tags_colors", **asked)
    assert done["metadata"] == {"ids": world.tag_ids[:1], "color": "#aabbcc"}
    assert await call(api, "GET", f"/bulk_actions/{done['id']}") == done


SHAPES: list[tuple[Any, list[tuple[str, list[str | int]]]]] = [
    ({"metadata": {}}, [("missing", ["body", "payload", "type"])]),
    ({"type": "delete_tags"}, [("missing", ["body", "payload", "metadata"])]),
    ({"type": "delete_subscribers", "metadata": {"ids": ["all"]}}, [("literal_error", ["body", "payload", "type"])]),
    ({"type": "delete_tags", "metadata": []}, [("model_attributes_type", ["body", "payload", "metadata"])]),
    ({"type": "delete_tags", "metadata": {"ids": "all"}}, [("list_type", ["body", "payload", "metadata", "ids"])]),
    ({"type": "delete_tags", "metadata": {"ids": [1]}}, [("string_type", ["body", "payload", "metadata", "ids", 0])]),
    # Passed over, it would make "all" wider than it was meant.
    (
        {"type": "delete_tags", "metadata": {"ids": ["all"], "parameters": {"tag": "x"}}},
        [("extra_forbidden", ["body", "payload", "metadata", "parameters"])],
    ),
    (
        {"type": "apply_tags", "metadata": {"ids": ["all"], "action": "replace"}},
        [("literal_error", ["body", "payload", "metadata", "action"])],
    ),
    (
        {"type": "change_tags_colors", "metadata": {"ids": ["all"], "color": "red"}},
        [("string_pattern_mismatch", ["body", "payload", "metadata", "color"])],
    ),
]


@pytest.mark.parametrize(("body", "expected"), SHAPES)
async def test_shapes_that_are_wrong(api: Api, world: World, body: Any, expected: object) -> None:
    before = await state_of(api.workspace)
    assert listed(await send(api, "POST", "/bulk_actions", body)) == expected
    assert await state_of(api.workspace) == before


@pytest.fixture
def few_changes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Three changes at most, where there are 10,000 in truth: the statements have the number in them."""
    assert bulk_actions.CHANGES_MAX == 10_000
    builders = (bulk_actions._add_tags, bulk_actions._remove_tags, bulk_actions._recolor, bulk_actions._lock_doomed)
    monkeypatch.setattr(bulk_actions, "CHANGES_MAX", 3)
    for builder in builders:
        builder.cache_clear()
    yield
    for builder in builders:
        builder.cache_clear()


async def test_so_many_changes_at_most(api: Api, world: World, few_changes: None) -> None:
    """Counted are those that would be made, not those that are named."""
    x, y, z = world.tag_ids
    await make_subscriber(api, "dan@example.com")

    async def exceeds(kind: str, **metadata: Any) -> None:
        before = await state_of(api.workspace)
        refused = await send(api, "POST", "/bulk_actions", {"type": kind, "metadata": metadata})
        coded(refused, 400, "max_bulk_actions_exceeded")
        assert await state_of(api.workspace) == before

    await exceeds("apply_tags", tag_id=y, ids=["all"])
    await exceeds("apply_tags", tag_ids=[y, z], ids=world.ids[:2])
    # Ada has x already.
    assert (await bulk(api, "apply_tags", tag_id=x, ids=["all"]))["result"]["changed"] == 3
    await exceeds("apply_tags", tag_id=x, ids=["all"], action="remove")
    # The tag, and its four assignments.
    await exceeds("delete_tags", ids=[x])
    await exceeds("delete_tags", ids=["all"])
    done = await bulk(api, "apply_tags", tag_id=x, ids=world.ids, action="remove")
    assert done["result"]["changed"] == 3
    assert (await bulk(api, "change_tags_colors", ids=["all"], color="#000000"))["result"]["changed"] == 3
    await make_tag(api, "fourth", color="#000000")
    await exceeds("change_tags_colors", ids=["all"], color="#111111")
    await exceeds("delete_tags", ids=[y, z, x])
    assert (await bulk(api, "delete_tags", ids=[y, z]))["result"]["changed"] == 2
    assert await world.carried() == [[], [], []]


@pytest.mark.parametrize("action", ["add", "remove"])
async def test_a_large_change_is_several_events(api: Api, world: World, action: str) -> None:
    x, y, _ = world.tag_ids
    await api.workspace.make_contacts(IDS_PER_EVENT, prefix="m")
    if action == "remove":
        await bulk(api, "apply_tags", tag_ids=[x, y], ids=["all"])
    [before] = await run(api.workspace.database, _TOLD, workspace_id=api.workspace.principal.workspace_id)
    done = await bulk(api, "apply_tags", tag_ids=[x, y], ids=["all"], action=action)
    assert done["result"]["subscribers"] == IDS_PER_EVENT + 3
    [after] = await run(api.workspace.database, _TOLD, workspace_id=api.workspace.principal.workspace_id)
    assert after["n"] - before["n"] == 4
    await assert_sound(api.workspace.database, api.workspace.principal.workspace_id)


_TOLD = "select count(*) as n from events where workspace_id = :workspace_id and type = 'tag.contacts_changed'"


async def test_statements_do_not_grow_with_what_is_asked(api: Api, world: World) -> None:
    async def count(kind: str, **metadata: Any) -> int:
        return len(await statements_of(api, "POST", "/bulk_actions", {"type": kind, "metadata": metadata}))

    x, y, z = world.tag_ids
    await bulk(api, "apply_tags", tag_id=x, ids=["all"])
    assert await count("apply_tags", tag_id=x, ids=world.ids[:1]) == 4
    assert await count("apply_tags", tag_ids=[x, y, z], ids=["all"]) == 4
    assert await count("change_tags_colors", ids=[x], color="#000000") == 4
    assert await count("change_tags_colors", ids=[x, y, z], color="#111111") == 4
    assert await count("delete_tags", ids=[x]) == await count("delete_tags", ids=[y, z]) == 7
