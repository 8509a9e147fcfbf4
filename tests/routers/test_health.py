"""Whether the service serves, and whether it can: with every state that its database may be in."""

import socket
import uuid
from collections.abc import AsyncIterator

import asyncpg
import httpx
import pytest
from starlette.types import ASGIApp

from app.config import Settings
from tests.conftest import Api, MakeDatabase, started, with_database
from tests.routers.calls import answered, call, problem


def visitor(app: ASGIApp) -> httpx.AsyncClient:
    """A client without a key."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://polytag.test")


@pytest.fixture
async def empty_database(server_url: str) -> AsyncIterator[str]:
    """The URL of a database that was never migrated."""
    name = f"polytag_test_empty_{uuid.uuid4().hex[:12]}"
    connection = await asyncpg.connect(server_url)
    await connection.execute(f"create database {name} template template0")
    yield with_database(server_url, name)
    await connection.execute(f"drop database {name} with (force)")
    await connection.close()


async def assert_unready(url: str, part_of_the_reason: str) -> None:
    """The process serves, says that it cannot work, and answers calls with no fault of its own."""
    async with started(Settings(database_url=url)) as app, visitor(app) as client:
        assert answered(await client.get("/healthz")) == {"status": "ok"}
        response = await client.get("/readyz")
        document = problem(response, 503, "unavailable")
        assert part_of_the_reason in document["detail"]
        assert int(response.headers["retry-after"]) >= 1
        assert url not in response.text


async def test_ready(app: ASGIApp) -> None:
    async with visitor(app) as client:
        assert answered(await client.get("/healthz")) == {"status": "ok"}
        assert answered(await client.get("/readyz")) == {"status": "ready"}
        assert (await client.head("/readyz")).status_code == 200
        for path in ("/healthz", "/readyz"):
            problem(await client.post(path), 405, "method_not_allowed")


async def test_unready_on_a_database_that_was_never_migrated(empty_database: str) -> None:
    await assert_unready(empty_database, "polytag db upgrade")


@pytest.mark.parametrize("revision", ["0000", "9999_of_the_future"])
async def test_unready_on_another_revision(new_database: MakeDatabase, revision: str) -> None:
    url = await new_database()
    connection = await asyncpg.connect(url)
    await connection.execute("update alembic_version set version_num = $1", revision)
    await connection.close()
    await assert_unready(url, "not at the schema of this version")


async def test_unready_while_no_server_is_there() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        await assert_unready(f"postgresql://nobody@127.0.0.1:{port}/nowhere", "")


async def test_unready_while_the_server_says_nothing() -> None:
    """It takes the connection and never answers."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]
        await assert_unready(f"postgresql://nobody@127.0.0.1:{port}/nowhere?sslmode=disable", "")


async def test_unready_on_a_database_that_does_not_exist(server_url: str) -> None:
    await assert_unready(with_database(server_url, "polytag_test_no_such_database"), "")


async def test_ready_again_after_the_migration(new_database: MakeDatabase) -> None:
    url = await new_database()
    connection = await asyncpg.connect(url)
    [revision] = [row[0] for row in await connection.fetch("select version_num from alembic_version")]
    async with started(Settings(database_url=url)) as app, visitor(app) as client:
        await connection.execute("update alembic_version set version_num = 'older'")
        assert (await client.get("/readyz")).status_code == 503
        await connection.execute("update alembic_version set version_num = $1", revision)
        assert (await client.get("/readyz")).status_code == 200
    await connection.close()


async def test_ready_again_after_connections_were_cut(new_database: MakeDatabase) -> None:
    url = await new_database()
    connection = await asyncpg.connect(url)
    async with started(Settings(database_url=url)) as app, visitor(app) as client:
        assert (await client.get("/readyz")).status_code == 200
        cut = await connection.fetchval(
            "select count(pg_terminate_backend(pid)) from pg_stat_activity "
            "where datname = current_database() and pid <> pg_backend_pid()"
        )
        assert cut >= 1
        statuses = [(await client.get("/readyz")).status_code for _ in range(3)]
        assert statuses[-1] == 200
        assert set(statuses) <= {200, 503}
    await connection.close()


async def test_probes_need_no_key_and_know_no_parameters(api: Api) -> None:
    api.headers["Authorization"] = "Bearer nonsense"
    assert await call(api, "GET", "/readyz") == {"status": "ready"}
    problem(await api.get("/readyz?verbose=1"), 422, "unknown_parameter")
