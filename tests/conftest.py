"""A real, migrated PostgreSQL for every worker, and a workspace of its own for every test.

Statements that commit by themselves and real races leave no room for rolling back, so tests are kept apart by
workspace. Those that need a database for themselves ask for `new_database`.
"""

import asyncio
import os
import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import httpx
import pytest
from hypothesis import settings
from starlette.types import ASGIApp, Receive, Scope, Send

from app import embedded, migrate
from app.config import Settings
from app.database import Database, create_engine
from app.main import create_app
from app.repositories.base import AnyRepository, Principal
from app.repositories.contact_upserts import ContactUpsertRepository, NewContact
from app.repositories.system import Provisioned, SystemRepository
from app.values import SCOPES, hash_key
from tests.described import check

# How long an example takes says how busy the machine is.
settings.register_profile("polytag", deadline=None)
settings.load_profile("polytag")

MakeDatabase = Callable[[], Awaitable[str]]


@dataclass(frozen=True)
class Workspace:
    """A tenant of one test, with all that is needed to act as it."""

    database: Database
    provisioned: Provisioned
    principal: Principal

    def repository(self, kind: type[AnyRepository]) -> AnyRepository:
        return kind(self.database, self.principal, front_end="test", request_id="test")

    async def make_contacts(self, count: int, *, prefix: str = "c") -> list[uuid.UUID]:
        """Members of the default audience, by id."""
        made = await self.repository(ContactUpsertRepository).upsert(
            [
                NewContact({"email": f"{prefix}{n}@example.com", "external_id": f"{prefix}{n}"}, ["newsletter"])
                for n in range(count)
            ]
        )
        return [one.contact.id for one in made if one.contact]


class Api(httpx.AsyncClient):
    """A client of the application that sends a workspace's key, and has the names of what it belongs to.

    Whatever it is answered must be in the OpenAPI document.
    """

    workspace: Workspace

    async def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        response = await super().send(request, **options)
        check(response)
        return response


@pytest.fixture(scope="session")
def server_url() -> Iterator[str]:
    """A server to make databases on: the one that POLYTAG_TEST_DATABASE_URL names, else a bundled one."""
    given = os.environ.get("POLYTAG_TEST_DATABASE_URL")
    if given:
        yield given
        return
    # Not below pytest's own directory, which only root can enter, and root's server is another user.
    directory = Path(tempfile.mkdtemp(prefix="polytag-test-"))
    directory.chmod(0o755)
    try:
        with embedded.start(directory / "data", durable=False, max_connections=200) as server:
            yield server.url
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
async def template(server_url: str) -> AsyncIterator[str]:
    """The name of a migrated database to copy."""
    name = f"polytag_test_{uuid.uuid4().hex[:12]}"
    await _execute(server_url, f"create database {name} encoding 'UTF8' template template0")
    # The migrations run an event loop of their own.
    await asyncio.to_thread(migrate.upgrade, with_database(server_url, name))
    yield name
    await _execute(server_url, f"drop database {name} with (force)")


@pytest.fixture(scope="session")
async def database_url(server_url: str, template: str) -> AsyncIterator[str]:
    """The database that the tests of this worker share."""
    name = f"{template}_shared"
    await _execute(server_url, f"create database {name} template {template}")
    yield with_database(server_url, name)
    await _execute(server_url, f"drop database {name} with (force)")


@pytest.fixture
async def new_database(server_url: str, template: str) -> AsyncIterator[MakeDatabase]:
    """Makes migrated databases that only this test sees."""
    made: list[str] = []

    async def make() -> str:
        name = f"{template}_{len(made)}"
        await _execute(server_url, f"create database {name} template {template}")
        made.append(name)
        return with_database(server_url, name)

    yield make
    for name in made:
        await _execute(server_url, f"drop database {name} with (force)")


@pytest.fixture(scope="session")
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(create_engine(database_url, pool_size=8))
    yield database
    await database.dispose()


@pytest.fixture
async def workspace(database: Database) -> Workspace:
    return await make_workspace(database)


@pytest.fixture(scope="session")
async def app(database_url: str) -> AsyncIterator[ASGIApp]:
    """The application as it is served, started up."""
    async with started(Settings(database_url=database_url)) as running:
        yield running


@pytest.fixture
async def api(app: ASGIApp, workspace: Workspace) -> AsyncIterator[Api]:
    """A client with a key of a workspace that is new."""
    async with client_of(app, workspace) as client:
        yield client


@pytest.fixture
async def other_api(app: ASGIApp, database: Database) -> AsyncIterator[Api]:
    """A client of another workspace."""
    async with client_of(app, await make_workspace(database)) as client:
        yield client


def client_of(app: ASGIApp, workspace: Workspace) -> Api:
    client = Api(
        transport=httpx.ASGITransport(app=app),
        base_url="http://polytag.test",
        headers={"Authorization": f"Bearer {workspace.provisioned.key}"},
    )
    client.workspace = workspace
    return client


class started:  # noqa: N801 - used like a function
    """Runs an application's start and end around a block, and hands its state to each request, as a server does."""

    def __init__(self, settings: Settings) -> None:
        self._app = create_app(settings)
        self._lifespan = self._app.router.lifespan_context(self._app)

    async def __aenter__(self) -> ASGIApp:
        state: Any = await self._lifespan.__aenter__()

        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            scope["state"] = dict(state)
            await self._app(scope, receive, send)

        return serve

    async def __aexit__(self, *error: Any) -> None:
        await self._lifespan.__aexit__(*error)


async def make_workspace(database: Database, *, scopes: tuple[str, ...] = SCOPES) -> Workspace:
    system = SystemRepository(database)
    provisioned = await system.provision(
        workspace=f"w-{uuid.uuid4().hex[:12]}", client="web", audience="newsletter", scopes=scopes
    )
    found = await system.find_key(hash_key(provisioned.key))
    assert found is not None
    return Workspace(database, provisioned, found.principal)


def with_database(url: str, name: str) -> str:
    """The URL of another database on the same server."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
