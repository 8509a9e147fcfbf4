"""The requests of the vendor's page about the tags of a subscriber, as they stand there, with the answers shown there.

Answers have one field more than the samples: `updated_at`, which the page's list of fields has.
"""

from datetime import UTC, datetime

from tests.conftest import Api
from tests.dialects.sendportal.calls import BASE, make_subscriber, make_tags, tags_of
from tests.routers.calls import Json, answered, run

TAG: Json = {
    "id": 1,
    "name": "Test Tag",
    "created_at": "2020-03-23 12:44:14",
    "update_at": "2020-03-23 12:44:14",
    "updated_at": "2020-03-23 12:44:14",
}
TAG_TWO: Json = {
    "id": 2,
    "name": "Test Tag Two",
    "created_at": "2020-03-24 08:45:55",
    "update_at": "2020-03-24 08:57:21",
    "updated_at": "2020-03-24 08:57:21",
}


async def make_samples(api: Api, *carried: int) -> None:
    """The page's two tags and its subscriber, with its ids, who carries some of them."""
    subscriber = await make_subscriber(api, "ann@example.com")
    tags = dict(zip((1, 2), await make_tags(api, TAG["name"], TAG_TWO["name"]), strict=True))
    workspace = api.workspace
    scope = {"workspace_id": workspace.principal.workspace_id}
    for sample in (TAG, TAG_TWO):
        await run(
            workspace.database,
            "update tags set number = :number, created_at = :created_at, updated_at = :updated_at "
            "where workspace_id = :workspace_id and number = :made",
            **scope,
            number=sample["id"],
            made=tags[sample["id"]],
            created_at=datetime.fromisoformat(sample["created_at"]).replace(tzinfo=UTC),
            updated_at=datetime.fromisoformat(sample["update_at"]).replace(tzinfo=UTC),
        )
    sql = "update contacts set number = 1 where workspace_id = :workspace_id and number = :made"
    await run(workspace.database, sql, **scope, made=subscriber)
    if carried:
        answered(await api.post(f"{BASE}/subscribers/1/tags", json={"tags": list(carried)}))


async def test_index(api: Api) -> None:
    await make_samples(api, 1)
    answer = answered(await api.get(f"{BASE}/subscribers/1/tags", headers={"Accept": "application/json"}))
    assert answer == {"data": [TAG]}
    assert list(answer["data"][0]) == ["id", "name", "created_at", "update_at", "updated_at"]


async def test_store(api: Api) -> None:
    await make_samples(api, 1)
    for _ in range(2):
        # "tags already assigned to the subscriber will not be continuously added on repeated requests"
        assert answered(
            await api.post(f"{BASE}/subscribers/1/tags", content=b'{\n\t"tags": [1, 2]\n}', headers=JSON)
        ) == {"data": [TAG, TAG_TWO]}
    assert await tags_of(api, 1) == [1, 2]


async def test_update(api: Api) -> None:
    await make_samples(api, 1)
    answer = answered(await api.put(f"{BASE}/subscribers/1/tags", content=b'{\n\t"tags": [1, 2]\n}', headers=JSON))
    assert answer == {"data": [TAG, TAG_TWO]}
    # "Replaces the list of tags assigned to the given subscriber"
    assert answered(await api.put(f"{BASE}/subscribers/1/tags", json={"tags": [2]})) == {"data": [TAG_TWO]}
    assert await tags_of(api, 1) == [2]


async def test_delete(api: Api) -> None:
    await make_samples(api, 1, 2)
    response = await api.request("DELETE", f"{BASE}/subscribers/1/tags", content=b'{\n\t"tags": [2]\n}', headers=JSON)
    assert answered(response) == {"data": [TAG]}
    assert await tags_of(api, 1) == [1]


JSON = {"Content-Type": "application/json", "Accept": "application/json"}
