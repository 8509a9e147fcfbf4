"""Running the service: its database, its socket, its workers, and what it prints when it is up."""

import asyncio
import ctypes
import json
import logging
import multiprocessing
import os
import shlex
import signal
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import NoReturn, TypeVar
from urllib.parse import urlsplit
from uuid import UUID

import uvicorn
from fastapi import FastAPI
from uvicorn.supervisors import Multiprocess

import app
from app import embedded, metrics, migrate
from app.config import Settings, default_data_dir
from app.database import Database, create_engine
from app.errors import NotFound, Unavailable
from app.logs import mask_keys
from app.main import chosen_dialects, create_app
from app.protocol import Protocol
from app.rate_limits import demand_redis
from app.repositories.doctor import DoctorRepository, Finding, HeldCount, MendedCount
from app.repositories.system import Provisioned, RevokedKey, SystemRepository, WorkspaceKey
from app.values import SCOPES

T = TypeVar("T")

# Connections of the bundled server beyond the workers' own: for provisioning, doctor and a person with psql.
SPARE_CONNECTIONS = 20
GRACE_SECONDS = 10
READY_WITHIN_SECONDS = 60
# Longer than common proxies keep idle connections to a service, so that none is closed just as it is used again.
KEEP_ALIVE_SECONDS = 75
# On a busy machine a worker may take longer than uvicorn's five seconds to start, and would be killed for it.
WORKER_ANSWERS_WITHIN_SECONDS = 30
# A check goes over whole tables, however long that takes.
DOCTOR_STATEMENT_SECONDS = 3600


class CannotRun(Exception):
    """What keeps a command from being done, in words for the person who called it."""


def serve(settings: Settings, *, as_json: bool = False) -> None:
    """Start what is needed, migrate, and serve until told to stop.

    As JSON, what is printed is one object, which is whole once the service answers.
    """
    try:
        chosen_dialects(settings.dialects)
        if settings.rate_limit_storage is not None:
            demand_redis()
    except ValueError as error:
        raise CannotRun(f"The settings cannot be taken. {error}") from None
    # Uvicorn ends the process by the signal that stopped it; this lets what is open be put away first. The first
    # process of a container would not end by it at all.
    signal.signal(signal.SIGTERM, _stop)
    # The database first: who starts a second service by mistake is told so, not just that the port is taken.
    with _database(settings) as url, _listen(settings) as listener:
        _migrate(url)
        first = _ask(url, _provision_first)
        if first:
            # At once: what comes after may fail, and the next start will find a workspace whose key nobody knows.
            print(_first_key(first, as_json=as_json), end="", flush=True)  # noqa: T201
        # Workers are processes of their own; the environment is what they are born with.
        os.environ["POLYTAG_DATABASE_URL"] = url
        if settings.rate_limit_storage is not None:
            os.environ["POLYTAG_RATE_LIMIT_STORAGE"] = settings.rate_limit_storage.get_secret_value()
        plain = settings.model_dump(mode="json", exclude_none=True, exclude={"database_url", "rate_limit_storage"})
        for name, value in plain.items():
            os.environ[f"POLYTAG_{name.upper()}"] = value if isinstance(value, str) else json.dumps(value)
        host, port = listener.getsockname()[:2]
        shown_host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
        address = f"http://{shown_host}:{port}"
        threading.Thread(target=_greet, args=(address, settings, first, as_json), daemon=True).start()
        config = uvicorn.Config(
            "app.server:create_worker",
            factory=True,
            workers=settings.workers,
            loop="auto" if sys.platform == "win32" else "uvloop",
            http=Protocol,
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            forwarded_allow_ips=settings.forwarded_allow_ips,
            timeout_graceful_shutdown=GRACE_SECONDS,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_worker_healthcheck=WORKER_ANSWERS_WITHIN_SECONDS,
        )
        if settings.workers == 1:
            server = uvicorn.Server(config)
            server.run(sockets=[listener])
            if not server.started:
                raise CannotRun("The service could not start; the log above says why.")
        else:
            with metrics.shared_by_workers():
                Multiprocess(config, sockets=[listener]).run()


def create_worker() -> FastAPI:
    """The application in a process that serves it. It ends with the supervisor that started it, however that ends."""
    # Uvicorn's workers would go on listening after their supervisor was killed, and nobody could stop them.
    _end_with_parent()
    return create_app()


def provision(
    settings: Settings, *, workspace: str, client: str, audience: str, scopes: tuple[str, ...]
) -> Provisioned:
    """Make what is missing, and a key, in the database of these settings; beside a running server or without one."""
    with _database(settings, beside_running=True) as url:
        _migrate(url)
        return _ask(
            url, lambda system: system.provision(workspace=workspace, client=client, audience=audience, scopes=scopes)
        )


def list_keys(settings: Settings, workspace: str | None) -> Sequence[WorkspaceKey]:
    """The keys of all workspaces in the database of these settings, or of the one named."""
    with _existing_database(settings) as url:
        keys = _ask(url, lambda system: system.list_keys(workspace))
    if workspace is not None and not keys:
        # Each is made with a key, and keys stay.
        raise CannotRun(f"There is no workspace {workspace}. `polytag keys list` shows the keys of all of them.")
    return keys


def revoke_key(settings: Settings, key_id: str) -> RevokedKey:
    """End a key in the database of these settings, whosever it is."""
    unknown = CannotRun(f"There is no API key with the id {mask_keys(key_id)}. `polytag keys list` shows the ids.")
    try:
        parsed = UUID(key_id)
    except ValueError:
        raise unknown from None
    with _existing_database(settings) as url:
        try:
            return _ask(url, lambda system: system.revoke_key(parsed))
        except NotFound:
            raise unknown from None


def upgrade(settings: Settings) -> str:
    """Bring the database of these settings to the newest revision, and say which that is."""
    with _database(settings, beside_running=True) as url:
        _migrate(url)
    return migrate.newest_revision()


def doctor(settings: Settings, *, repair: bool, tell: Callable[[Finding | MendedCount | HeldCount], None]) -> None:
    """Check every invariant in the database of these settings, beside a running server or without one.

    `repair` mends the counts first. What is mended and what is found is told at once. Nothing is migrated.
    """

    async def work(database: Database) -> None:
        repository = DoctorRepository(database)
        if repair:
            async for repaired in repository.repair():
                tell(repaired)
        async for finding in repository.examine():
            tell(finding)

    with _existing_database(settings) as url:
        asyncio.run(_use(url, work, statement_timeout=DOCTOR_STATEMENT_SECONDS))


async def _use(url: str, work: Callable[[Database], Awaitable[T]], **timeouts: float) -> T:
    """Do something on a database, with a connection of its own."""
    database = Database(create_engine(url, pool_size=1, **timeouts))
    try:
        return await work(database)
    finally:
        await database.dispose()


def _ask(url: str, verb: Callable[[SystemRepository], Awaitable[T]]) -> T:
    """What a verb answers on this database."""
    return asyncio.run(_use(url, lambda database: verb(SystemRepository(database))))


@contextmanager
def _existing_database(settings: Settings) -> Iterator[str]:
    """The URL of a database that is there, at this version's schema. Nothing is made, and nothing migrated.

    What the database says against being used, now or within the block, is CannotRun.
    """
    if settings.database_url is None and not embedded.has_data(settings.data_dir):
        raise CannotRun(f"There is no database in {settings.data_dir}. Name another place with --data-dir.")
    with _database(settings, beside_running=True) as url, _refusals_in_words(url):
        if not asyncio.run(_use(url, lambda one: migrate.is_current(one, migrate.newest_revision()))):
            raise CannotRun(f"The database at {_place(url)} is not at this version's schema: polytag db upgrade")
        yield url


@contextmanager
def _refusals_in_words(url: str) -> Iterator[None]:
    """What the database says against being used. Everything else is a fault of this program, and stays one."""
    try:
        yield
    except Exception as error:
        # A damaged table is something to find as well, and the server says which it is. What the server says has an
        # SQLSTATE, which the driver's errors carry.
        if not isinstance(error, Unavailable) and not hasattr(error, "sqlstate"):
            raise
        said = error.__cause__ if isinstance(error, Unavailable) else error
        raise CannotRun(f"The database at {_place(url)} cannot be used: {said}.") from error


@contextmanager
def _database(settings: Settings, *, beside_running: bool = False) -> Iterator[str]:
    """The URL of the database: the user's own, or the bundled one, started for as long as it is needed."""
    if settings.database_url is not None:
        yield settings.database_url.get_secret_value()
        return
    url = embedded.find_running(settings.data_dir) if beside_running else None
    if url is not None:
        yield url
        return
    connections = settings.workers * settings.pool_size + SPARE_CONNECTIONS
    with embedded.start(settings.data_dir, max_connections=connections) as server:
        if beside_running:
            yield server.url
            return
        ended, stopping = threading.Event(), threading.Event()
        threading.Thread(target=_watch, args=(server, ended, stopping), daemon=True).start()
        try:
            yield server.url
        finally:
            stopping.set()
            if ended.is_set():
                raise CannotRun(f"The bundled PostgreSQL has ended; {settings.data_dir / 'postgres.log'} says why.")


def _watch(server: embedded.EmbeddedPostgres, ended: threading.Event, stopping: threading.Event) -> None:
    """End the process when its database server ends unasked: alone it would answer 503 for ever."""
    server.wait()
    if not stopping.is_set():
        ended.set()
        os.kill(os.getpid(), signal.SIGTERM)


def _migrate(url: str) -> None:
    # It has more to say about itself than about the database.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    try:
        migrate.upgrade(url)
    except migrate.CannotMigrate as error:
        raise CannotRun(
            f"The database at {_place(url)} cannot be used: {error}.\n"
            "POLYTAG_DATABASE_URL has to name a PostgreSQL 15 or newer that can be reached from here, and a user who "
            "may create tables there."
        ) from error


def _place(url: str) -> str:
    """Where a database is. Not its URL, which holds the password."""
    parts = urlsplit(url)
    return f"{parts.netloc.rpartition('@')[2] or 'the default host'}{parts.path}"


async def _provision_first(system: SystemRepository) -> Provisioned | None:
    """A first workspace and its key, where there is none yet."""
    if await system.has_workspaces():
        return None
    return await system.provision(workspace="default", client="default", audience="newsletter", scopes=SCOPES)


@contextmanager
def _listen(settings: Settings) -> Iterator[socket.socket]:
    """The socket that all workers accept from."""
    with ExitStack() as closing:
        try:
            family, _, _, _, address = socket.getaddrinfo(
                settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            listener = closing.enter_context(socket.socket(family=family))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except OSError as error:
            raise CannotRun(
                f"Cannot listen on {settings.host}, port {settings.port}: {error.strerror}. "
                "Choose another address or port with --host and --port, or POLYTAG_HOST and POLYTAG_PORT."
            ) from error
        listener.set_inheritable(True)
        yield listener


def _stop(*_: object) -> NoReturn:
    raise SystemExit(0)


def _end_with_parent() -> None:
    supervisor = multiprocessing.parent_process()
    if supervisor is None or not sys.platform.startswith("linux"):
        return
    PR_SET_PDEATHSIG = 1  # noqa: N806 - the kernel's name
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != supervisor.pid:
        raise SystemExit("The supervisor ended before this worker had begun.")


def _greet(address: str, settings: Settings, first: Provisioned | None, as_json: bool) -> None:
    """Print where the service is, once it answers, and lines to try it with."""
    if _wait_until_it_answers(address):
        greeting = _json_greeting if as_json else _greeting
        print(greeting(address, settings, first), flush=True)  # noqa: T201


def _wait_until_it_answers(address: str) -> bool:
    # Whatever proxy the environment names, this is not for it.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + READY_WITHIN_SECONDS
    while time.monotonic() < deadline:
        try:
            with opener.open(f"{address}/healthz", timeout=1) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    return False


def _first_key(first: Provisioned, *, as_json: bool) -> str:
    if as_json:
        # The beginning of the object that _json_greeting ends.
        return f'{{"key": "{first.key}"'
    return f"The first API key, shown this once:\n\n  export POLYTAG_KEY={first.key}\n\n"


def _json_greeting(address: str, settings: Settings, first: Provisioned | None) -> str:
    begun = "" if first else '{"key": null'
    facts = {
        "address": address,
        "docs": f"{settings.public_url or address}/docs",
        "database": describe_database(settings),
    }
    return f"{begun}, {json.dumps(facts).removeprefix('{')}"


def _greeting(address: str, settings: Settings, first: Provisioned | None) -> str:
    lines = [
        f"Polytag {app.__version__} answers at {address}",
        *([f"  its public URL      {settings.public_url}"] if settings.public_url else []),
        f"  its documentation   {settings.public_url or address}/docs",
        f"  its data            {describe_database(settings)}",
        *(
            f"  {dialect.title.removeprefix('Polytag '):<20}{settings.public_url or address}{dialect.mount}/docs"
            for dialect in chosen_dialects(settings.dialects)
        ),
        "",
    ]
    if first:
        lines += ["Try it:", ""]
    else:
        beside = ", where POLYTAG_DATABASE_URL is what it is here" if settings.database_url else ""
        lines += [f"Try it with an API key in $POLYTAG_KEY. This makes a new one{beside}:", ""]
        lines += [f"  {_provision(settings)}", ""]
    return "\n".join([*lines, *(f"  {line}" for line in tour(address)), ""])


def describe_database(settings: Settings) -> str:
    """Where the data is, in words, and without a password."""
    if settings.database_url is None:
        return f"the bundled PostgreSQL, in {settings.data_dir}"
    parts = urlsplit(settings.database_url.get_secret_value())
    return f"your own PostgreSQL, {parts.hostname or 'at its socket'}{parts.path}"


def _provision(settings: Settings) -> str:
    words = [sys.argv[0], "provision", "--workspace", "default", "--client", "default", "--audience", "newsletter"]
    if settings.database_url is None and settings.data_dir != default_data_dir():
        words += ["--data-dir", str(settings.data_dir)]
    return shlex.join(words)


def tour(address: str) -> list[str]:
    """Shell lines that show the main verbs, to be run one after the other with $POLYTAG_KEY set."""
    curl = r'curl -s -w "\n" -H "Authorization: Bearer $POLYTAG_KEY" -H "Content-Type: application/json"'
    emails = r"""$(seq 500 | sed 's/.*/"reader&@example.com"/' | paste -sd, -)"""
    contacts = r"""$(seq 500 | sed 's/.*/{"email":"reader&@example.com"}/' | paste -sd, -)"""
    first_id = r"""sed 's/.*"id":"\([^"]*\)".*/\1/'"""
    return [
        f"""TAG=$({curl} "{address}/tags?on_conflict=return" -d '{json.dumps({"name": "VIP"})}' | {first_id})""",
        f"""{curl} {address}/contacts/batch -d "{{\\"contacts\\":[{contacts}]}}" > /dev/null""",
        f"""{curl} {address}/tags/$TAG/contacts -d "{{\\"emails\\":[{emails}]}}\"""",
        f"""READER=$({curl} "{address}/contacts?email=reader1@example.com" | {first_id})""",
        f"""{curl} {address}/contacts/$READER/tags -X PUT -d '{json.dumps({"tags": ["VIP", "Beta Tester"]})}'""",
        f"{curl} {address}/contacts/$READER/tags",
        f"{curl} {address}/tags",
    ]
