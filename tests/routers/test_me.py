"""What a key finds out about itself, and what happens without a good one."""

from datetime import UTC, datetime, timedelta

import pytest
from starlette.types import ASGIApp

from app.database import Database
from app.values import SCOPES, new_key
from tests.conftest import Api, client_of, make_workspace
from tests.routers.calls import answered, call, forget_default_audience, problem, run


async def test_me(api: Api) -> None:
    principal = api.workspace.principal
    assert await call(api, "GET", "/me") == {
        "key_id": str(principal.key_id),
        "workspace": principal.workspace,
        "client": "web",
        "scopes": sorted(SCOPES),
        "audience": "newsletter",
        "expires_at": None,
    }


@pytest.mark.parametrize("scopes", [(), ("events:read",), ("contacts:read", "admin")])
async def test_any_key_may_ask(app: ASGIApp, database: Database, scopes: tuple[str, ...]) -> None:
    async with client_of(app, await make_workspace(database, scopes=scopes)) as api:
        assert (await call(api, "GET", "/me"))["scopes"] == sorted(scopes)


async def test_a_key_without_an_audience_that_expires(api: Api) -> None:
    await forget_default_audience(api.workspace)
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    await run(
        api.workspace.database,
        "update api_keys set expires_at = :expires_at where workspace_id = :workspace_id",
        workspace_id=api.workspace.principal.workspace_id,
        expires_at=tomorrow,
    )
    me = await call(api, "GET", "/me")
    assert me["audience"] is None
    assert datetime.fromisoformat(me["expires_at"]) == tomorrow


@pytest.mark.parametrize("assignment", ["revoked_at = now()", "expires_at = now()"])
async def test_a_key_that_is_dead_before_it_is_used(api: Api, assignment: str) -> None:
    await run(
        api.workspace.database,
        f"update api_keys set {assignment} where workspace_id = :workspace_id",
        workspace_id=api.workspace.principal.workspace_id,
    )
    dead = problem(await api.get("/me"), 401, "unauthenticated")
    unknown = problem(await api.get("/me", headers={"Authorization": f"Bearer {new_key()}"}), 401, "unauthenticated")
    assert dead | {"request_id": None} == unknown | {"request_id": None}


async def test_a_key_of_a_client_that_is_not_active(api: Api) -> None:
    await run(
        api.workspace.database,
        "update clients set active = false where workspace_id = :workspace_id",
        workspace_id=api.workspace.principal.workspace_id,
    )
    problem(await api.get("/me"), 401, "unauthenticated")


@pytest.mark.parametrize("header", ["", "Bearer", "Basic abc", "Bearer ptag_x", f"Bearer {'x' * 43}"])
async def test_what_is_no_key(api: Api, header: str) -> None:
    for path in ("/me", "/tags", "/audiences"):
        response = await api.get(path, headers={"Authorization": header})
        problem(response, 401, "unauthenticated")
        assert response.headers["www-authenticate"].startswith("Bearer")


async def test_no_key_at_all(api: Api) -> None:
    del api.headers["Authorization"]
    response = await api.get("/me")
    problem(response, 401, "unauthenticated")
    assert response.headers["www-authenticate"] == "Bearer"


async def test_the_key_is_never_shown(api: Api) -> None:
    key = api.workspace.provisioned.key
    assert key not in answered(await api.get("/me")).values()
    assert key not in (await api.get(f"/tags/{key}")).text
