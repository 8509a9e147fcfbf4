"""Calls at once: lists that replace one another never mix, nothing is counted twice, and nobody waits for ever."""

import asyncio
from collections.abc import Sequence
from typing import Any

import httpx
import pytest

from tests.conftest import Api
from tests.dialects.buttondown.calls import bulk, call, make_subscriber, make_tag, send, tags_of
from tests.repositories.invariants import assert_sound
from tests.routers.calls import Json

ADA = "ada@example.com"
ROUNDS = 12
# Disjoint, and of names that are new in each round, so that tags are made on the way, too.
LISTS = [[f"{letter}{number}" for number in range(5)] for letter in "abcd"]


async def at_once(*requests: Any) -> Sequence[httpx.Response]:
    answers: Sequence[httpx.Response] = await asyncio.gather(*requests)
    assert {one.status_code for one in answers} <= {200, 201, 204, 400, 404}, [one.text for one in answers]
    return answers


@pytest.mark.parametrize("way", ["PATCH", "POST", "both"])
async def test_replacing_leaves_one_callers_list(api: Api, way: str) -> None:
    await make_subscriber(api)
    overwrite = {"X-Buttondown-Collision-Behavior": "overwrite"}

    def replace(place: int, tags: list[str]) -> Any:
        if way == "PATCH" or (way == "both" and place % 2):
            return send(api, "PATCH", f"/subscribers/{ADA}", {"tags": tags})
        return send(api, "POST", "/subscribers", {"email_address": ADA, "tags": tags}, overwrite)

    for number in range(ROUNDS):
        lists = [[f"{tag} {number // 3}" for tag in tags] for tags in LISTS]
        answers = await at_once(*(replace(place, tags) for place, tags in enumerate(lists)))
        assert {one.status_code for one in answers} <= {200, 201}
        assert await tags_of(api, ADA) in lists
    await assert_sound(api.workspace.database, api.workspace.principal.workspace_id)


async def test_adding_loses_nothing(api: Api) -> None:
    await make_subscriber(api)
    add = {"X-Buttondown-Collision-Behavior": "add"}
    await at_once(
        *(send(api, "PATCH", f"/subscribers/{ADA}", {"tags": tags}, add) for tags in LISTS),
        *(send(api, "POST", "/subscribers", {"email_address": ADA, "tags": tags}, add) for tags in LISTS),
    )
    assert await tags_of(api, ADA) == sorted(tag for tags in LISTS for tag in tags)
    await assert_sound(api.workspace.database, api.workspace.principal.workspace_id)


@pytest.mark.parametrize("behaviour", ["no_op", "add", "overwrite"])
async def test_one_new_subscriber_and_one_new_tag(api: Api, behaviour: str) -> None:
    headers = {"X-Buttondown-Collision-Behavior": behaviour}
    body: Json = {"email_address": ADA, "tags": ["new"]}
    answers = await at_once(*(send(api, "POST", "/subscribers", body, headers) for _ in range(6)))
    made = [one for one in answers if one.status_code == 201]
    assert len(made) == (1 if behaviour == "no_op" else 6)
    assert len({one.json()["id"] for one in made}) == 1
    assert (await call(api, "GET", "/tags"))["count"] == 1
    await assert_sound(api.workspace.database, api.workspace.principal.workspace_id)


@pytest.mark.parametrize("behaviour", ["no_op", "overwrite"])
async def test_one_name(api: Api, behaviour: str) -> None:
    headers = {"X-Buttondown-Collision-Behavior": behaviour}
    answers = await at_once(*(send(api, "POST", "/tags", {"name": "VIP"}, headers) for _ in range(6)))
    expected = [201] + [400 if behaviour == "no_op" else 200] * 5
    assert sorted(one.status_code for one in answers) == sorted(expected)
    assert (await call(api, "GET", "/tags"))["count"] == 1


async def test_bulk_actions_among_themselves(api: Api) -> None:
    """Giving, taking and deleting the same tags at once, beside replaces of the same subscribers."""
    for number in range(ROUNDS // 2):
        tags = [await make_tag(api, f"t{number} {place}") for place in range(3)]
        ids = [tag["id"] for tag in tags]
        people = [await make_subscriber(api, f"p{number}-{place}@example.com") for place in range(8)]
        names = [tag["name"] for tag in tags]

        def act(kind: str, **metadata: Any) -> Any:
            return send(api, "POST", "/bulk_actions", {"type": kind, "metadata": metadata})

        await at_once(
            act("apply_tags", tag_ids=ids, ids=["all"]),
            act("apply_tags", tag_ids=list(reversed(ids)), ids=["all"]),
            act("apply_tags", tag_ids=ids, ids=["all"], action="remove"),
            act("change_tags_colors", ids=ids, color="#000000"),
            act("delete_tags", ids=ids[:2]),
            *(send(api, "PATCH", f"/subscribers/{one['id']}", {"tags": names}) for one in people[:3]),
            send(api, "DELETE", f"/subscribers/{people[3]['id']}"),
        )
        await assert_sound(api.workspace.database, api.workspace.principal.workspace_id)
    await bulk(api, "delete_tags", ids=["all"])
    await assert_sound(api.workspace.database, api.workspace.principal.workspace_id)


async def test_subscribers_who_go_while_all_are_tagged(api: Api) -> None:
    tag = await make_tag(api)
    for number in range(ROUNDS):
        people = [await make_subscriber(api, f"p{number}-{place}@example.com") for place in range(10)]
        body = {"type": "apply_tags", "metadata": {"tag_id": tag["id"], "ids": ["all"]}}
        deletes = [send(api, "DELETE", f"/subscribers/{one['id']}") for one in people]
        await at_once(*deletes[:5], send(api, "POST", "/bulk_actions", body), *deletes[5:])
        await assert_sound(api.workspace.database, api.workspace.principal.workspace_id)
