"""Callers at once: a replace is one caller's whole list, nothing deadlocks, nothing is left without its owner."""

import asyncio
from typing import Any

import httpx

from tests.conftest import Api
from tests.dialects.datamailer.calls import BASE, SCOPE, subscribe, tags_of, tags_path, upsert
from tests.repositories.invariants import assert_sound
from tests.routers.calls import Json, answered, run

ROUNDS = 40


async def put(api: Api, contact: Json, names: list[str]) -> httpx.Response:
    return await api.put(BASE + tags_path(contact), json={**SCOPE, "tags": names})


async def carried(api: Api, contact: Json) -> list[str]:
    """What the tables say that a contact carries."""
    rows = await run(
        api.workspace.database,
        """
        select t.slug from contact_tags ct
        join tags t on t.workspace_id = ct.workspace_id and t.id = ct.tag_id
        join contacts c on c.workspace_id = ct.workspace_id and c.id = ct.contact_id
        where ct.workspace_id = :workspace_id and c.number = :number
        order by t.slug
        """,
        workspace_id=api.workspace.principal.workspace_id,
        number=contact["contact_id"],
    )
    return [row["slug"] for row in rows]


async def is_sound(api: Api) -> None:
    await assert_sound(api.workspace.database, api.workspace.principal.workspace_id)


async def test_of_two_replaces_one_stands_whole(api: Api) -> None:
    """Disjoint lists of tags that are there, in every round; the vendor ends with both in nine of ten."""
    lists = [["a", "b", "c"], ["d", "e", "f"], ["g", "h", "i"]]
    contact = await upsert(api, tags=[name for names in lists for name in names])
    for _ in range(ROUNDS):
        answers = await asyncio.gather(*(put(api, contact, names) for names in lists))
        for names, answer in zip(lists, answers, strict=True):
            assert answered(answer)["tags"] == names
        assert await carried(api, contact) in lists
    await is_sound(api)


async def test_of_two_replaces_that_make_their_tags_one_stands_whole(api: Api) -> None:
    contact = await upsert(api)
    for turn in range(ROUNDS // 2):
        lists = [[f"{name}{turn}" for name in names] for names in ("abc", "def")]
        for answer in await asyncio.gather(*(put(api, contact, names) for names in lists)):
            answered(answer)
        assert await carried(api, contact) in lists
    await is_sound(api)


async def test_the_same_new_tags_in_opposite_orders_are_made_once(api: Api) -> None:
    """Of 60 such rounds the vendor's database ends 59 by a deadlock."""
    contacts = [await upsert(api, f"c{n}@example.com") for n in range(4)]
    for turn in range(ROUNDS // 2):
        names = [f"new {turn} {n}" for n in range(12)]
        slugs = sorted(name.replace(" ", "-") for name in names)
        answers = await asyncio.gather(
            *(put(api, contact, names[:: 1 if n % 2 else -1]) for n, contact in enumerate(contacts))
        )
        assert [answered(answer)["tags"] for answer in answers] == [slugs] * len(contacts)
    assert len(await tags_of(api.workspace)) == ROUNDS // 2 * 12
    await is_sound(api)


async def test_the_same_new_tag_from_all_calls_at_once_is_made_once(api: Api) -> None:
    contact = await upsert(api)
    for turn in range(ROUNDS // 2):
        slug = f"new-{turn}"
        answers = await asyncio.gather(
            put(api, contact, [slug]),
            api.post(BASE + tags_path(contact, slug), json=SCOPE),
            api.post(BASE + "/api/contacts", json={**SCOPE, "email": "ada@example.com", "tags": [slug]}),
            api.post(BASE + "/api/subscriptions/subscribe", json={**SCOPE, "email": "ada@example.com", "tags": [slug]}),
            api.post(BASE + "/api/contacts", json={**SCOPE, "email": f"new{turn}@example.com", "tags": [slug]}),
        )
        for answer in answers:
            answered(answer)
        assert slug in await carried(api, contact)
    assert len(await tags_of(api.workspace)) == ROUNDS // 2
    await is_sound(api)


async def test_the_same_new_address_at_once_is_one_contact(api: Api) -> None:
    for turn in range(ROUNDS // 2):
        email = f"new{turn}@example.com"
        made = await asyncio.gather(
            upsert(api, email, tags=["a"]), subscribe(api, email.upper(), tags=["b"]), upsert(api, f" {email}")
        )
        assert len({one["contact_id"] for one in made}) == 1
        assert await carried(api, made[0]) == ["a", "b"]
    await is_sound(api)


async def test_tags_beside_the_end_of_a_contact_leave_no_orphan(api: Api) -> None:
    """At the vendor an erased contact keeps a tag."""
    for turn in range(ROUNDS):
        email = f"c{turn}@example.com"
        contact = await upsert(api, email, tags=["old"])
        [row] = (await api.get("/contacts", params={"email": email})).json()["data"]
        end: Any = (
            api.delete(f"/contacts/{row['id']}")
            if turn % 2
            else api.delete(f"/contacts/{row['id']}/audiences/newsletter")
        )
        ended, *answers = await asyncio.gather(
            end,
            put(api, contact, ["kept", f"new {turn}"]),
            api.post(BASE + tags_path(contact, "vip"), json=SCOPE),
            api.request("DELETE", BASE + tags_path(contact, "old"), json=SCOPE),
        )
        assert ended.status_code in {200, 204}, ended.text
        for answer in answers:
            assert answer.status_code in {200, 404}, answer.text
            if answer.status_code == 404:
                assert answer.json()["error"]["fields"] == {"contact_id": "not_found"}
        assert await carried(api, contact) == []
    await is_sound(api)
