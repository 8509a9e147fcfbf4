"""API keys over HTTP."""

import asyncio
import json
import logging
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
import structlog
from starlette.types import ASGIApp

from app.database import Database
from app.values import SCOPES
from tests.conftest import Api, client_of, make_workspace
from tests.routers.calls import (
    RANDOM_ID,
    Json,
    answered,
    call,
    field_problem,
    forget_default_audience,
    ids_of,
    make_audience,
    make_key,
    pointers,
    problem,
    run,
    state_of,
    walk,
)

SHOWN = ["id", "prefix", "client", "scopes", "audience", "created_at", "expires_at", "revoked_at", "last_used_at"]


async def keys(api: Api, **params: Any) -> list[Json]:
    listed: list[Json] = (await call(api, "GET", "/keys", **params))["data"]
    return listed


async def me(api: Api, made: Json) -> httpx.Response:
    return await api.get("/me", headers={"Authorization": f"Bearer {made['key']}"})


def in_hours(hours: float) -> str:
    return (datetime.now(UTC) + timedelta(hours=hours)).isoformat()


async def test_the_key_of_a_new_workspace(api: Api) -> None:
    [one] = await keys(api)
    assert list(one) == SHOWN
    assert one == {
        "id": str(api.workspace.principal.key_id),
        "prefix": api.workspace.provisioned.key[:9],
        "client": "web",
        "scopes": sorted(SCOPES),
        "audience": "newsletter",
        "created_at": one["created_at"],
        "expires_at": None,
        "revoked_at": None,
        "last_used_at": one["last_used_at"],
    }


async def test_a_new_key(api: Api) -> None:
    response = await api.post("/keys", json={"scopes": ["tags:read"]})
    made = answered(response, 201)
    assert response.headers["cache-control"] == "no-store"
    key = made.pop("key")
    assert made == {
        "id": made["id"],
        "prefix": key[:9],
        "client": "web",
        "scopes": ["tags:read"],
        "audience": "newsletter",
        "created_at": made["created_at"],
        "expires_at": None,
        "revoked_at": None,
        "last_used_at": None,
    }
    assert (await keys(api))[0] == made
    answer = answered(await me(api, {"key": key}))
    assert answer == {
        "key_id": made["id"],
        "workspace": api.workspace.principal.workspace,
        "client": "web",
        "scopes": ["tags:read"],
        "audience": "newsletter",
        "expires_at": None,
    }
    # It may do what it is for, and no more.
    allowed = {"Authorization": f"Bearer {key}"}
    assert (await api.get("/tags", headers=allowed)).status_code == 200
    problem(await api.get("/keys", headers=allowed), 403, "insufficient_scope")


async def test_all_that_can_be_said_of_a_key(api: Api) -> None:
    await make_audience(api, "courses")
    expires_at = in_hours(1)
    fields: Json = {"client": "app", "scopes": ["tags:write", "admin"], "audience": "courses", "expires_at": expires_at}
    made = await make_key(api, create_missing=True, **fields)
    assert (made["client"], made["scopes"], made["audience"]) == ("app", ["admin", "tags:write"], "courses")
    assert datetime.fromisoformat(made["expires_at"]) == datetime.fromisoformat(expires_at)
    assert made["expires_at"].endswith("Z")
    answer = answered(await me(api, made))
    assert (answer["client"], answer["audience"], answer["expires_at"]) == ("app", "courses", made["expires_at"])
    assert {key: value for key, value in made.items() if key != "key"} == (await keys(api))[0]


async def test_null_is_no_audience_and_no_end(api: Api) -> None:
    made = await make_key(api, audience=None, expires_at=None)
    assert (made["audience"], made["expires_at"]) == (None, None)
    assert answered(await me(api, made))["audience"] is None


async def test_a_key_without_an_audience_makes_another_one(api: Api) -> None:
    await forget_default_audience(api.workspace)
    assert (await make_key(api))["audience"] is None


async def test_repeated_scopes_count_once(api: Api) -> None:
    made = await make_key(api, scopes=["tags:write", "tags:read"] * 50)
    assert made["scopes"] == answered(await me(api, made))["scopes"] == ["tags:read", "tags:write"]


async def test_keys_are_not_alike(api: Api) -> None:
    made = [await make_key(api) for _ in range(5)]
    for field in ("id", "key"):
        assert len({one[field] for one in made}) == len(made)


@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        ({}, "#/scopes", "missing"),
        ({"scopes": []}, "#/scopes", "too_short"),
        ({"scopes": ["tags:read"] * 101}, "#/scopes", "too_long"),
        ({"scopes": None}, "#/scopes", "invalid_type"),
        ({"scopes": "admin"}, "#/scopes", "invalid_type"),
        ({"scopes": ["tags:read", "tags:delete"]}, "#/scopes/1", "invalid_value"),
        ({"scopes": ["ADMIN"]}, "#/scopes/0", "invalid_value"),
        ({"scopes": [1]}, "#/scopes/0", "invalid_value"),
        ({"client": "No Slug"}, "#/client", "invalid_value"),
        ({"client": ""}, "#/client", "too_short"),
        ({"client": None}, "#/client", "invalid_type"),
        ({"client": "nobody"}, "#/client", "unknown_client"),
        ({"audience": "nowhere"}, "#/audience", "unknown_audience"),
        ({"audience": "*"}, "#/audience", "invalid_value"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "#/expires_at", "invalid_value"),
        ({"expires_at": in_hours(-0.01)}, "#/expires_at", "invalid_value"),
        ({"expires_at": "2999-01-01"}, "#/expires_at", "invalid_value"),
        ({"expires_at": "2999-01-01T00:00:00"}, "#/expires_at", "invalid_value"),
        ({"expires_at": 32_503_680_000}, "#/expires_at", "invalid_value"),
        ({"expires_at": "9999-12-31T23:59:59-23:59"}, "#/expires_at", "out_of_range"),
        ({"prefix": "ptag_"}, "#/prefix", "unknown_field"),
    ],
)
async def test_keys_that_are_refused(api: Api, body: Json, pointer: str, code: str) -> None:
    before = await state_of(api.workspace)
    given = body if "scopes" in body or not body else {"scopes": ["admin"], **body}
    field_problem(await api.post("/keys", json=given), pointer, code)
    assert await state_of(api.workspace) == before


async def test_a_client_is_made_when_asked_for(api: Api) -> None:
    for _ in range(2):
        assert (await make_key(api, client="app", create_missing=True))["client"] == "app"
    assert (await make_key(api, client="app"))["client"] == "app"
    assert len(await clients(api)) == 2


async def test_no_client_is_made_for_a_key_that_is_not(api: Api) -> None:
    body = {"scopes": ["admin"], "client": "app", "audience": "nowhere"}
    field_problem(await api.post("/keys?create_missing=true", json=body), "#/audience", "unknown_audience")
    assert len(await clients(api)) == 1
    document = problem(await api.post("/keys", json=body), 422, "invalid_input")
    assert pointers(document) == ["#/client", "#/audience"]


async def test_one_new_client_asked_for_by_many_at_once(api: Api) -> None:
    made = await asyncio.gather(*(make_key(api, client="app", create_missing=True) for _ in range(8)))
    assert {one["client"] for one in made} == {"app"}
    assert len(await clients(api)) == 2


async def clients(api: Api) -> list[Any]:
    workspace_id = api.workspace.principal.workspace_id
    sql = "select slug from clients where workspace_id = :workspace_id"
    return await run(api.workspace.database, sql, workspace_id=workspace_id)


async def test_the_newest_come_first(api: Api) -> None:
    made = [(await make_key(api))["id"] for _ in range(5)]
    expected = [*reversed(made), str(api.workspace.principal.key_id)]
    assert ids_of(await keys(api)) == expected
    for limit in (1, 2, 3, 6, 7):
        assert [key["id"] for page in await walk(api, "/keys", limit=limit) for key in page] == expected
    page = await call(api, "GET", "/keys", limit=2, offset=3, include_total="true")
    assert ids_of(page["data"]) == expected[3:5]
    assert page["pagination"] | {"total": 6, "limit": 2, "offset": 3, "has_more": True} == page["pagination"]
    beyond = await call(api, "GET", "/keys", offset=6, include_total="true")
    assert (beyond["data"], beyond["pagination"]["total"]) == ([], 6)


async def test_a_cursor_survives_new_keys(api: Api) -> None:
    made = [(await make_key(api))["id"] for _ in range(3)]
    first = await call(api, "GET", "/keys", limit=2)
    cursor = first["pagination"]["next_cursor"]
    await make_key(api)
    second = await call(api, "GET", "/keys", limit=2, cursor=cursor)
    assert ids_of(first["data"] + second["data"]) == [*reversed(made), str(api.workspace.principal.key_id)]
    assert second["pagination"]["next_cursor"] is None
    problem(await api.get("/keys", params={"cursor": cursor[:-1]}), 400, "invalid_cursor")
    # That of another list.
    contacts = await api.workspace.make_contacts(2)
    listed = await call(api, "GET", "/contacts", limit=1)
    assert ids_of(listed["data"]) == [str(contacts[0])]
    problem(await api.get("/keys", params={"cursor": listed["pagination"]["next_cursor"]}), 400, "invalid_cursor")


async def test_a_revoked_key_is_refused_at_once(api: Api) -> None:
    made, kept = await make_key(api), await make_key(api)
    # Found, and believed for some seconds.
    for one in (made, kept):
        answered(await me(api, one))
    before = datetime.now(UTC)
    assert (await api.delete(f"/keys/{made['id']}")).status_code == 204
    problem(await me(api, made), 401, "unauthenticated")
    answered(await me(api, kept))
    [revoked] = [key for key in await keys(api) if key["id"] == made["id"]]
    assert abs(datetime.fromisoformat(revoked["revoked_at"]) - before) < timedelta(minutes=1)
    # Once more.
    state = await state_of(api.workspace)
    assert (await api.delete(f"/keys/{made['id'].upper()}")).status_code == 204
    assert await state_of(api.workspace) == state


async def test_a_key_may_revoke_itself(api: Api) -> None:
    made = await make_key(api, scopes=["admin"])
    own = {"Authorization": f"Bearer {made['key']}"}
    assert (await api.delete(f"/keys/{made['id']}", headers=own)).status_code == 204
    problem(await api.delete(f"/keys/{made['id']}", headers=own), 401, "unauthenticated")


@pytest.mark.parametrize("key_id", [RANDOM_ID, "x", "0", f"{RANDOM_ID}0"])
async def test_keys_that_do_not_exist(api: Api, key_id: str) -> None:
    document = problem(await api.delete(f"/keys/{key_id}"), 404, "not_found")
    assert document["detail"] == f"There is no key {key_id}."


async def test_another_workspaces_key_lives_on(api: Api, other_api: Api) -> None:
    made = await make_key(other_api)
    problem(await api.delete(f"/keys/{made['id']}"), 404, "not_found")
    answered(await me(other_api, made))
    # A client of the same name is the workspace's own.
    await make_key(other_api, client="app", create_missing=True)
    field_problem(await api.post("/keys", json={"scopes": ["admin"], "client": "app"}), "#/client", "unknown_client")
    mine = await make_key(api, client="app", create_missing=True)
    assert answered(await me(api, mine))["workspace"] == api.workspace.principal.workspace


async def test_dead_keys_stay_in_the_list(api: Api) -> None:
    revoked, expired = await make_key(api), await make_key(api, expires_at=in_hours(1))
    await call(api, "DELETE", f"/keys/{revoked['id']}", status=204)
    sql = "update api_keys set expires_at = now() where workspace_id = :workspace_id and id = :id"
    await run(api.workspace.database, sql, workspace_id=api.workspace.principal.workspace_id, id=UUID(expired["id"]))
    problem(await me(api, expired), 401, "unauthenticated")
    listed = await keys(api)
    assert ids_of(listed) == [expired["id"], revoked["id"], str(api.workspace.principal.key_id)]
    assert [key["revoked_at"] is None for key in listed] == [True, False, True]


async def test_the_audience_of_a_key_goes_when_the_key_is_dead(api: Api) -> None:
    await make_audience(api, "courses")
    made = await make_key(api, audience="courses")
    assert problem(await api.delete("/audiences/courses"), 409, "audience_in_use")["keys"] == 1
    await call(api, "DELETE", f"/keys/{made['id']}", status=204)
    await call(api, "DELETE", "/audiences/courses", status=204)
    assert (await keys(api))[0]["audience"] is None
    field_problem(
        await api.post("/keys", json={"scopes": ["admin"], "audience": "courses"}), "#/audience", "unknown_audience"
    )


async def test_a_key_makes_none_with_its_audience_gone(app: ASGIApp, database: Database) -> None:
    """It is dead, and believed for a moment longer."""
    workspace = await make_workspace(database)
    async with client_of(app, workspace) as api:
        await make_audience(api, "courses")
        await call(api, "PATCH", "/audiences/courses", {"is_default": True})
        sql = "update api_keys set revoked_at = now() where workspace_id = :workspace_id"
        await run(database, sql, workspace_id=workspace.principal.workspace_id)
        await call(api, "DELETE", "/audiences/newsletter", status=204)
        field_problem(await api.post("/keys", json={"scopes": ["admin"]}), "#/audience", "unknown_audience")


async def test_the_key_is_in_no_log_error_or_table(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    with structlog.testing.capture_logs() as lines, caplog.at_level(logging.DEBUG):
        made = await make_key(api)
        key = made["key"]
        own = {"Authorization": f"Bearer {key}"}
        answers = [
            await api.get("/keys"),
            await api.get("/keys", headers=own),
            await api.delete(f"/keys/{key}"),
            await api.post("/keys", json={"scopes": [key], "client": key, key: 1}),
            await api.get(f"/keys?cursor={key}"),
            await api.get(f"/keys?{key}=1"),
            await api.delete(f"/keys/{made['id']}"),
            await api.get("/me", headers=own),
        ]
    assert [answer.status_code for answer in answers] == [200, 403, 404, 422, 400, 422, 204, 401]
    rows = await run(
        api.workspace.database,
        "select cast(to_jsonb(k) as text) || encode(k.secret_hash, 'escape') as line from api_keys k "
        "where k.workspace_id = :workspace_id",
        workspace_id=api.workspace.principal.workspace_id,
    )
    assert len(lines) > len(answers)
    assert len(rows) == 2
    # The log of the client, which is none of ours, has whole URLs.
    logged = [record.getMessage() for record in caplog.records if not record.name.startswith("http")]
    told = [json.dumps(lines, default=str), *logged, *(answer.text + str(answer.headers) for answer in answers)]
    stored = [row["line"] for row in rows] + [line for _, line in await state_of(api.workspace)]
    # Without the part that is shown.
    for text in told + stored:
        assert key[9:] not in text
    assert key[:9] in "".join(stored)


async def test_a_key_that_would_end_at_the_end_of_time(api: Api) -> None:
    """The driver takes that moment for infinity, and gives it back without a zone."""
    for end in ("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.9999999Z", "9999-01-01T00:00:00Z"):
        refused = problem(await api.post("/keys", json={"scopes": ["admin"], "expires_at": end}), 422, "out_of_range")
        assert pointers(refused) == ["#/expires_at"]
    made = await call(api, "POST", "/keys", {"scopes": ["admin"], "expires_at": "9998-12-31T23:59:59Z"}, status=201)
    # Whoever wrote it there, the list can be read, and the key used.
    await run(
        api.workspace.database,
        "update api_keys set expires_at = 'infinity' where workspace_id = :workspace_id and id = :id",
        workspace_id=api.workspace.principal.workspace_id,
        id=UUID(made["id"]),
    )
    listed = await call(api, "GET", "/keys")
    assert [key["expires_at"] for key in listed["data"] if key["id"] == made["id"]] == [None]
    answered(await api.get("/me", headers={"Authorization": f"Bearer {made['key']}"}))
