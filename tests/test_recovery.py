"""What happens while the database is away, busy or too slow, and that all is well when it is back."""

import asyncio
import os
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import asyncpg
import httpx
import pytest

from app import embedded, migrate
from app.config import Settings
from app.database import Database, create_engine
from tests.conftest import Api, MakeDatabase, client_of, make_workspace, started
from tests.routers.calls import make_key


@pytest.fixture(scope="module")
def fragile_url() -> Iterator[str]:
    """A server that the tests here may crash."""
    directory = Path(tempfile.mkdtemp(prefix="polytag-test-"))
    directory.chmod(0o755)
    try:
        # Durable, since a crash shall lose nothing.
        with embedded.start(directory / "data") as server:
            migrate.upgrade(server.url)
            yield server.url
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@asynccontextmanager
async def served(url: str, **settings: float) -> AsyncIterator[Api]:
    database = Database(create_engine(url, pool_size=2))
    workspace = await make_workspace(database)
    await database.dispose()
    async with started(Settings(database_url=url, **settings)) as app, client_of(app, workspace) as api:  # type: ignore[arg-type]
        yield api


def assert_try_again(answer: httpx.Response) -> None:
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) >= 1
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["code"] == "unavailable"


async def answers_again(api: Api) -> None:
    deadline = time.monotonic() + 20
    while (await api.get("/readyz")).status_code != 200:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)


async def test_the_pool_mends_itself_after_a_crash(fragile_url: str) -> None:
    async with served(fragile_url, pool_size=4) as api:
        # Every connection of the pool is open, and was used.
        assert {(await answer).status_code for answer in [api.get("/tags") for _ in range(12)]} == {200}
        pid = await _backend_pid(fragile_url)
        # A killed backend makes the server restart all of them, as after a crash.
        os.kill(pid, signal.SIGKILL)
        await asyncio.sleep(0.2)
        await answers_again(api)
        answers = await asyncio.gather(*(api.get("/tags") for _ in range(12)))
        assert [answer.status_code for answer in answers] == [200] * 12


async def test_a_server_that_no_longer_answers(fragile_url: str) -> None:
    async with served(fragile_url, request_timeout=1, pool_size=2) as api:
        assert (await api.get("/tags")).status_code == 200
        frozen = _processes_of_server(await _backend_pid(fragile_url))
        for pid in frozen:
            os.kill(pid, signal.SIGSTOP)
        try:
            begun = time.monotonic()
            answers = await asyncio.gather(*(api.get("/tags") for _ in range(6)))
            for answer in answers:
                assert_try_again(answer)
            assert time.monotonic() - begun < 5
            assert (await api.get("/healthz")).status_code == 200
            assert_try_again(await api.get("/readyz"))
        finally:
            for pid in frozen:
                # Once the postmaster runs on, it buries the backends whose clients have gone.
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
        await answers_again(api)
        # No connection was lost to those who gave up.
        answers = await asyncio.gather(*(api.get("/tags") for _ in range(12)))
        assert [answer.status_code for answer in answers] == [200] * 12


async def test_a_database_that_takes_no_connections(new_database: MakeDatabase, server_url: str) -> None:
    url = await new_database()
    name = url.split("?", maxsplit=1)[0].rsplit("/", 1)[1]
    async with served(url) as api:
        assert (await api.get("/tags")).status_code == 200
        admin = await asyncpg.connect(server_url)
        try:
            await admin.execute(f"alter database {name} allow_connections false")
            await admin.execute(f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'")
            await asyncio.sleep(0.2)
            assert_try_again(await api.get("/tags"))
            assert_try_again(await api.get("/readyz"))
            assert (await api.get("/healthz")).status_code == 200
            await admin.execute(f"alter database {name} allow_connections true")
        finally:
            await admin.close()
        await answers_again(api)
        assert (await api.get("/tags")).status_code == 200


async def test_a_lock_that_is_held_for_too_long(new_database: MakeDatabase) -> None:
    url = await new_database()
    async with served(url, lock_timeout=0.2) as api, _held_audience(url):
        begun = time.monotonic()
        assert_try_again(await api.post("/tags", json={"name": "VIP"}))
        assert time.monotonic() - begun < 3
    async with served(url) as api:
        assert (await api.get("/tags")).json()["data"] == []


async def test_a_statement_that_takes_too_long(new_database: MakeDatabase) -> None:
    url = await new_database()
    async with served(url, statement_timeout=0.2, lock_timeout=60) as api, _held_audience(url):
        assert_try_again(await api.post("/tags", json={"name": "VIP"}))


async def test_a_request_that_takes_too_long_leaves_its_connection_clean(new_database: MakeDatabase) -> None:
    """What it had begun is undone, and nobody after it runs inside its transaction."""
    url = await new_database()
    async with served(url, request_timeout=0.3, lock_timeout=60, statement_timeout=60, pool_size=2) as api:
        async with _held_audience(url):
            for _ in range(5):
                assert_try_again(await api.post("/tags", json={"name": "VIP"}))
        made = [(await api.post("/tags", json={"name": f"t{n}"})).status_code for n in range(4)]
        assert made == [201] * 4
        # Seen from elsewhere, hence committed.
        connection = await asyncpg.connect(url)
        try:
            assert await connection.fetchval("select count(*) from tags") == 4
            open_transactions = """
                select count(*) from pg_stat_activity
                where datname = current_database() and state like 'idle in transaction%'
            """
            assert await connection.fetchval(open_transactions) == 0
        finally:
            await connection.close()


async def test_what_a_cancelled_request_had_begun_ends_with_it(new_database: MakeDatabase) -> None:
    """Also where it is one statement, which would commit by itself once the lock that it waits for is gone."""
    url = await new_database()
    async with served(url, request_timeout=0.3, lock_timeout=60, statement_timeout=60, pool_size=2) as api:
        made = await api.post("/contacts", json={"email": "a@example.com", "tags": ["there"]})
        path = f"/contacts/{made.json()['id']}/tags"
        assert (await api.post("/tags", json={"name": "wanted"})).status_code == 201
        connection = await asyncpg.connect(url)
        try:
            async with connection.transaction():
                await connection.execute("select from audience_members for update")
                for _ in range(5):
                    assert_try_again(await api.post(path, json={"tags": ["wanted"]}))
            waiting = "select count(*) from pg_stat_activity where datname = current_database() and state = 'active'"
            assert await connection.fetchval(waiting) == 1
        finally:
            await connection.close()
        assert [tag["slug"] for tag in (await api.get(path)).json()["data"]] == ["there"]


async def test_more_requests_than_connections(new_database: MakeDatabase) -> None:
    """Who finds no free connection in time is told so, and those that wait their turn are served."""
    url = await new_database()
    async with served(url, pool_size=2, pool_timeout=0.3, lock_timeout=2) as api:
        # One key alone may not hold all connections.
        keys = [(await make_key(api, scopes=["tags:write"], audience="newsletter"))["key"] for _ in range(2)]
        async with _held_audience(url):
            waiting = [
                asyncio.create_task(
                    api.post("/tags", json={"name": f"t{n}"}, headers={"Authorization": f"Bearer {key}"})
                )
                for n, key in enumerate(keys)
            ]
            await asyncio.sleep(0.2)
            assert_try_again(await api.get("/tags"))
        assert {(await task).status_code for task in waiting} == {201}
        answers = await asyncio.gather(*(api.get("/tags") for _ in range(40)))
        assert {answer.status_code for answer in answers} == {200}


@asynccontextmanager
async def _held_audience(url: str) -> AsyncIterator[None]:
    """All audiences are locked by somebody else."""
    connection = await asyncpg.connect(url)
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute("select from audiences for update")
        yield
    finally:
        await transaction.rollback()
        await connection.close()


async def _backend_pid(url: str) -> int:
    connection = await asyncpg.connect(url)
    pid: int = await connection.fetchval(
        "select pid from pg_stat_activity where application_name = 'polytag' order by backend_start limit 1"
    )
    await connection.close()
    return pid


def _processes_of_server(backend: int) -> list[int]:
    """The postmaster of a backend, and all its children."""
    postmaster = int(Path(f"/proc/{backend}/stat").read_text().rsplit(")", 1)[1].split()[1])
    children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
    return [postmaster, *map(int, children)]
