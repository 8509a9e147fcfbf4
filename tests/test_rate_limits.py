"""What one key may take: requests in a span of time, counted here or in Redis, and places at work."""

import asyncio
import importlib.util
import json
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
import structlog
from fakeredis import TcpFakeServer
from pydantic import SecretStr
from starlette.types import ASGIApp

import app.main
from app import rate_limits
from app.config import Settings
from app.database import Database, statement_log
from app.errors import RateLimited
from app.rate_limits import Bodies, RateLimits, SharedCounts, Shares
from tests.conftest import MakeDatabase, Workspace, client_of, make_workspace, started
from tests.routers.calls import make_contacts, make_tag, problem, state_of
from tests.series import here, value
from tests.test_metrics import needs_proc, only, workers_of
from tests.test_server import Service, eventually

# Windows of ten seconds begin and end at whole tens.
NOW = 1_800_000_003.25
KEY, OTHER = uuid4(), uuid4()


class Clock:
    """Unix time that passes when told to."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@asynccontextmanager
async def serving(
    monkeypatch: pytest.MonkeyPatch, database_url: str, clock: Clock, **settings: Any
) -> AsyncIterator[ASGIApp]:
    """The application with this clock."""
    monkeypatch.setattr(app.main, "RateLimits", partial(RateLimits, clock=clock))
    async with started(Settings(database_url=SecretStr(database_url), **settings)) as running:
        yield running


# Counting.


async def hits(limits: RateLimits, count: int, key_id: UUID = KEY) -> list[tuple[int, bool]]:
    """What is left after each of some requests, and whether it was one too many."""
    quotas = [await limits.hit(key_id) for _ in range(count)]
    return [(quota.remaining, quota.is_exceeded) for quota in quotas]


async def test_each_key_is_counted_for_itself(clock: Clock) -> None:
    limits = RateLimits(2, 10, clock=clock)
    assert await hits(limits, 4) == [(1, False), (0, False), (0, True), (0, True)]
    assert await hits(limits, 1, OTHER) == [(1, False)]


@pytest.mark.parametrize(
    ("passed", "expected", "resets_at", "resets_in"),
    [
        (0, (0, True), 1_800_000_010, 7),
        (6.7, (0, True), 1_800_000_010, 1),
        # The next window.
        (6.75, (1, False), 1_800_000_020, 10),
        (7.75, (1, False), 1_800_000_020, 9),
        (1e6, (1, False), 1_801_000_010, 7),
        # A clock that was put back.
        (-1e6, (1, False), 1_799_000_010, 7),
    ],
)
async def test_a_window_passes(
    clock: Clock, passed: float, expected: tuple[int, bool], resets_at: int, resets_in: int
) -> None:
    limits = RateLimits(2, 10, clock=clock)
    await hits(limits, 2)
    clock.now += passed
    quota = await limits.hit(KEY)
    assert (quota.remaining, quota.is_exceeded) == expected
    assert (quota.resets_at, quota.resets_in) == (resets_at, resets_in)


async def test_keys_of_windows_that_have_passed_are_forgotten(clock: Clock) -> None:
    limits = RateLimits(2, 10, clock=clock)
    for _ in range(1_000):
        await limits.hit(uuid4())
    clock.now += 10
    await limits.hit(KEY)
    assert list(limits._counts) == [KEY]


@pytest.mark.parametrize(
    ("requests", "seconds", "retry_after", "detail"),
    [
        (
            1,
            3_600,
            3_597,
            (
                "The API key may make no more than 1 request in 3,600 seconds. Nothing was done. Try again in 3,597 "
                "seconds."
            ),
        ),
        (2, 1, 1, "The API key may make no more than 2 requests in 1 second. Nothing was done. Try again in 1 second."),
    ],
)
async def test_what_a_refusal_says(clock: Clock, requests: int, seconds: int, retry_after: int, detail: str) -> None:
    limits = RateLimits(requests, seconds, clock=clock)
    for _ in range(requests):
        (await limits.hit(KEY)).check()
    with pytest.raises(RateLimited) as refused:
        (await limits.hit(KEY)).check()
    assert (refused.value.detail, refused.value.retry_after) == (detail, retry_after)


# In requests.


async def test_one_keys_burst_leaves_anothers_calls_served(
    monkeypatch: pytest.MonkeyPatch, database_url: str, workspace: Workspace, database: Database, clock: Clock
) -> None:
    other = await make_workspace(database)
    async with (
        serving(monkeypatch, database_url, clock, rate_limit="5/10s") as running,
        client_of(running, workspace) as client,
        client_of(running, other) as other_client,
    ):
        answers = await asyncio.gather(*(client.get("/tags") for _ in range(20)))
        assert sorted(answer.status_code for answer in answers) == [200] * 5 + [429] * 15
        others = await asyncio.gather(*(other_client.get("/tags") for _ in range(5)))
        assert {answer.status_code for answer in others} == {200}
        # No call of another front end is another limit.
        assert (await client.get("/topmail/api/v1/tags")).status_code == 429
        clock.now += 7
        assert (await client.get("/tags")).status_code == 200


async def test_a_request_too_many_is_not_looked_at(
    monkeypatch: pytest.MonkeyPatch, database_url: str, workspace: Workspace, clock: Clock
) -> None:
    async with (
        serving(monkeypatch, database_url, clock, rate_limit="1/10s") as running,
        client_of(running, workspace) as client,
    ):
        assert (await client.get("/tags")).status_code == 200
        before = await state_of(workspace)
        labels = {"front_end": "native", "method": "POST", "route": "/tags", "status": "429"}
        counted = value(here(), "http_requests_total", **labels)
        read: list[bytes] = []

        async def body() -> AsyncIterator[bytes]:
            read.append(b"{")
            yield b"{"

        statements: list[str] = []
        token = statement_log.set(statements)
        try:
            with structlog.testing.capture_logs() as lines:
                # All else about it is wrong, too.
                answer = await client.post("/tags?x=%FF", content=body())
        finally:
            statement_log.reset(token)
        document = problem(answer, 429, "rate_limited")
        assert document["detail"].startswith("The API key may make no more than 1 request in 10 seconds")
        assert answer.headers["retry-after"] == "7"
        assert (read, statements) == ([], [])
        assert await state_of(workspace) == before
        assert value(here(), "http_requests_total", **labels) - counted == 1
        [line] = [line for line in lines if line["event"] == "request"]
        assert (line["status"], line["error"], line["workspace"]) == (429, "RateLimited", workspace.principal.workspace)


async def test_a_dialects_context_is_not_looked_up_beyond_the_limit(
    monkeypatch: pytest.MonkeyPatch, database_url: str, workspace: Workspace, clock: Clock
) -> None:
    async with (
        serving(monkeypatch, database_url, clock, rate_limit="1/10s") as running,
        client_of(running, workspace) as client,
    ):
        headers = {
            "Authorization": f"Token {workspace.provisioned.key}",
            # An audience's, in the vendor's form; one that is not there is looked up as well.
            "Buttondown-Context": "newsletter_01a214c33bbc761e9a422eb70a",
        }
        assert (await client.get("/buttondown/v1/tags", headers=headers)).status_code != 429
        statements: list[str] = []
        token = statement_log.set(statements)
        try:
            assert (await client.get("/buttondown/v1/tags", headers=headers)).status_code == 429
        finally:
            statement_log.reset(token)
        assert statements == []


async def test_off(monkeypatch: pytest.MonkeyPatch, database_url: str, workspace: Workspace, clock: Clock) -> None:
    async with (
        serving(monkeypatch, database_url, clock, rate_limit="off") as running,
        client_of(running, workspace) as client,
    ):
        for path in ("/tags", "/topmail/api/v1/tags"):
            answer = await client.get(path)
            assert answer.status_code == 200
            assert not [name for name in answer.headers if "ratelimit" in name]


async def test_calls_without_a_key_are_not_counted(
    monkeypatch: pytest.MonkeyPatch, database_url: str, clock: Clock
) -> None:
    async with (
        serving(monkeypatch, database_url, clock, rate_limit="1/10s") as running,
        httpx.AsyncClient(transport=httpx.ASGITransport(running), base_url="http://polytag.test") as client,
    ):
        for path, status in (("/healthz", 200), ("/tags", 401), ("/nothing", 404)):
            for _ in range(3):
                answer = await client.get(path)
                assert answer.status_code == status
                assert "ratelimit" not in answer.headers


# In Redis.


@contextmanager
def fake_redis(port: int = 0) -> Iterator[int]:
    """A Redis on a port of this machine."""
    server = TcpFakeServer(("127.0.0.1", port), server_type="redis")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def url_of(port: int) -> SecretStr:
    return SecretStr(f"redis://127.0.0.1:{port}/0")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


async def test_two_processes_over_one_redis_count_together(
    monkeypatch: pytest.MonkeyPatch, database_url: str, workspace: Workspace, clock: Clock
) -> None:
    with fake_redis() as port:
        settings: dict[str, Any] = {
            "rate_limit": "3/10s",
            "rate_limit_storage": url_of(port),
        }
        async with (
            serving(monkeypatch, database_url, clock, **settings) as one,
            serving(monkeypatch, database_url, clock, **settings) as two,
            client_of(one, workspace) as first,
            client_of(two, workspace) as second,
        ):
            told = [(await client.get("/tags")).headers["ratelimit"] for client in (first, second, first)]
            assert told == [f'"default";r={left};t=7' for left in (2, 1, 0)]
            assert [(await client.get("/tags")).status_code for client in (first, second)] == [429, 429]
            # Another key is not counted with it.
            other = await make_workspace(workspace.database)
            async with client_of(two, other) as another:
                assert (await another.get("/tags")).headers["ratelimit"] == '"default";r=2;t=7'
            # The windows are those of the clock, not of the first request.
            clock.now += 7
            assert (await second.get("/tags")).headers["ratelimit"] == '"default";r=2;t=10'


def status_of_a_call(service: Service) -> int:
    headers = {"Authorization": f"Bearer {service.key}"}
    return httpx.get(f"{service.address}/tags", headers=headers).status_code


@needs_proc
async def test_workers_are_told_where_to_count(new_database: MakeDatabase) -> None:
    url = await new_database()
    with (
        fake_redis() as port,
        Service(
            "--workers",
            "2",
            POLYTAG_DATABASE_URL=url,
            # Windows so long that none ends meanwhile.
            POLYTAG_RATE_LIMIT="5/99999s",
            POLYTAG_RATE_LIMIT_STORAGE=url_of(port).get_secret_value(),
        ) as service,
    ):
        assert eventually(lambda: len(workers_of(service)) == 2)
        statuses = []
        for worker in workers_of(service):
            with only(worker, service):
                statuses += [status_of_a_call(service) for _ in range(3)]
        assert statuses == [200] * 5 + [429]


async def test_a_burst_in_redis_is_counted_to_the_last(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    # The fake takes its time.
    monkeypatch.setattr(rate_limits, "_SHARED_WITHIN_SECONDS", 60)
    with fake_redis() as port:
        limits = RateLimits(50, 10, shared=SharedCounts(f"redis://127.0.0.1:{port}"), clock=clock)
        try:
            # More at a time than there are connections.
            quotas = await asyncio.gather(*(limits.hit(KEY) for _ in range(60)))
        finally:
            await limits.close()
    assert sorted(quota.used for quota in quotas) == list(range(1, 61))


async def test_redis_is_away_when_the_service_starts_and_comes_later(
    monkeypatch: pytest.MonkeyPatch, database_url: str, workspace: Workspace, clock: Clock
) -> None:
    port = free_port()

    def failures() -> float:
        return value(here(), "polytag_rate_limit_storage_failures_total")

    before = failures()
    async with (
        serving(monkeypatch, database_url, clock, rate_limit="3/3600s", rate_limit_storage=url_of(port)) as running,
        client_of(running, workspace) as client,
    ):
        with structlog.testing.capture_logs() as lines:
            # Each process counts for itself meanwhile.
            told = [(await client.get("/tags")).headers["ratelimit"].split(";")[1] for _ in range(2)]
            assert told == ["r=2", "r=1"]
        [warning] = [line for line in lines if line["log_level"] == "warning"]
        assert "POLYTAG_RATE_LIMIT_STORAGE" in warning["event"]
        assert "s3cretpw" not in str(lines)
        # The second request did not ask again.
        assert failures() - before == 1
        clock.now += 5
        with structlog.testing.capture_logs() as lines:
            assert (await client.get("/tags")).headers["ratelimit"].split(";")[1] == "r=0"
        # It did, and found the same, which was said already.
        assert failures() - before == 2
        assert [line for line in lines if line["log_level"] == "warning"] == []
        with fake_redis(port):
            clock.now += 5
            assert (await client.get("/tags")).headers["ratelimit"].split(";")[1] == "r=2"
        assert failures() - before == 2


@contextmanager
def fake_redis_with_password(port: int) -> Iterator[int]:
    # The fake takes any password, as long as one user is named.
    with fake_redis(port) as listening:
        yield listening


async def test_a_password_that_redis_does_not_take_is_not_logged(clock: Clock) -> None:
    with fake_redis() as port:
        limits = RateLimits(3, 10, shared=SharedCounts(f"redis://:s3cretpw@127.0.0.1:{port}"), clock=clock)
        try:
            with structlog.testing.capture_logs() as lines:
                assert await hits(limits, 1) == [(2, False)]
        finally:
            await limits.close()
    [warning] = lines
    assert "AuthenticationError" in warning["cause"]
    assert "s3cretpw" not in str(lines)


async def test_a_redis_that_is_silent_holds_no_request_up(clock: Clock) -> None:
    asked = 0
    ended: list[asyncio.StreamWriter] = []

    async def never_answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        ended.append(writer)

    server = await asyncio.start_server(never_answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    limits = RateLimits(3, 10, shared=SharedCounts(f"redis://127.0.0.1:{port}"), clock=clock)
    try:
        async with asyncio.timeout(5 * rate_limits._SHARED_WITHIN_SECONDS):
            assert await hits(limits, 2) == [(2, False), (1, False)]
        assert asked == 1
        # It is asked again by one request, which no other waits for.
        clock.now += 5
        first = asyncio.create_task(limits.hit(KEY))
        await settle()
        await hits(limits, 3)
        assert not first.done()
        await first
        assert asked == 2
        # A clock that was put back makes no longer pause of that.
        clock.now -= 3
        await hits(limits, 1)
        assert asked == 3
    finally:
        await limits.close()
        for writer in ended:
            writer.close()
        server.close()
        await server.wait_closed()


def test_without_the_packages_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "redis" else find_spec(name))
    settings = Settings(database_url=SecretStr("postgresql://nobody@127.0.0.1:1/nowhere"), rate_limit_storage=url_of(1))
    with pytest.raises(ValueError, match=r"POLYTAG_RATE_LIMIT_STORAGE needs .+ pip install 'polytag\[redis\]'"):
        app.main.create_app(settings)
    app.main.create_app(settings.model_copy(update={"rate_limit_storage": None}))


# Requests of one key at work.


@pytest.mark.parametrize(
    ("pool_size", "most"), [(1, 1), (2, 1), (3, 1), (4, 2), (8, 6), (12, 9), (16, 12), (20, 15), (64, 48)]
)
async def test_how_many_of_one_key_are_at_work(pool_size: int, most: int) -> None:
    shares = Shares(pool_size, wait=60)
    places = Crowd(shares)
    await places.send(pool_size + 3, KEY)
    assert len(places.at_work) == most
    await places.send(1, OTHER)
    assert len(places.at_work) == most + 1
    await places.end()


class Crowd:
    """Requests that work until they are told to end."""

    def __init__(self, shares: Shares) -> None:
        self.shares = shares
        self.at_work: dict[int, asyncio.Event] = {}
        self.tasks: list[asyncio.Task[None]] = []

    async def send(self, count: int, key_id: UUID) -> None:
        for _ in range(count):
            self.tasks.append(asyncio.create_task(self._work(len(self.tasks), key_id)))
        await settle()

    async def finish(self, number: int) -> None:
        self.at_work[number].set()
        await settle()

    async def end(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def _work(self, number: int, key_id: UUID) -> None:
        async with self.shares.of(key_id):
            self.at_work[number] = asyncio.Event()
            try:
                await self.at_work[number].wait()
            finally:
                del self.at_work[number]


async def settle() -> None:
    """Let all that can go on do so."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_places_are_taken_in_order() -> None:
    crowd = Crowd(Shares(4, wait=60))
    await crowd.send(5, KEY)
    assert [*crowd.at_work] == [0, 1]
    await crowd.finish(1)
    # Who comes now does not overtake.
    await crowd.send(1, KEY)
    assert [*crowd.at_work] == [0, 2]
    await crowd.finish(0)
    await crowd.finish(2)
    assert [*crowd.at_work] == [3, 4]
    await crowd.finish(3)
    assert [*crowd.at_work] == [4, 5]
    await crowd.end()


async def test_requests_that_are_cancelled_leave_their_places() -> None:
    crowd = Crowd(Shares(4, wait=60))
    await crowd.send(6, KEY)
    # One that waits, one at work, and one in the moment in which it was given a place.
    crowd.tasks[2].cancel()
    crowd.at_work[0].set()
    await asyncio.sleep(0)
    crowd.tasks[3].cancel()
    await settle()
    assert [*crowd.at_work] == [1, 4]
    crowd.tasks[1].cancel()
    await settle()
    assert [*crowd.at_work] == [4, 5]
    await crowd.end()
    # All places are there again.
    after = Crowd(crowd.shares)
    await after.send(3, KEY)
    assert [*after.at_work] == [0, 1]
    await after.end()


async def test_an_error_leaves_its_place() -> None:
    shares = Shares(1, wait=60)
    for _ in range(3):
        with pytest.raises(KeyError):
            async with asyncio.timeout(1), shares.of(KEY):
                raise KeyError


async def test_waiting_in_vain() -> None:
    shares = Shares(1, wait=0.01)
    async with shares.of(KEY):
        with pytest.raises(RateLimited) as refused:
            async with shares.of(KEY):
                pass
        async with shares.of(OTHER):
            pass
    assert refused.value.detail == (
        "1 requests of this API key are at work already, and none ended within 0.01 seconds. Nothing was written. Send "
        "fewer at the same time."
    )
    assert refused.value.retry_after == 1
    async with shares.of(KEY):
        pass


def test_bodies_of_one_key_together() -> None:
    bodies = Bodies(100)
    with bodies.of(KEY) as one, bodies.of(KEY) as two, bodies.of(OTHER) as other:
        one(60)
        two(40)
        # It is the others who wait.
        other(100)
        with pytest.raises(RateLimited) as refused:
            two(1)
        assert refused.value.detail == (
            "Requests of this API key that are under way have bodies of more than 100 bytes together. Nothing was "
            "written. Send fewer at the same time."
        )
    # One alone may be larger, and all of it is given back.
    with bodies.of(KEY) as one:
        one(1_000)
    assert bodies._bytes == {}


async def test_bodies_that_wait_are_bounded(
    monkeypatch: pytest.MonkeyPatch, database_url: str, workspace: Workspace, clock: Clock
) -> None:
    """Nine of the largest, of which none can end: one is refused at once, and the others are not touched."""
    locker = await asyncpg.connect(database_url)
    settings: dict[str, Any] = {"max_bulk_body_bytes": 20_000, "max_body_bytes": 20_000, "pool_timeout": 60}
    try:
        async with (
            serving(monkeypatch, database_url, clock, rate_limit="off", **settings) as running,
            client_of(running, workspace) as client,
        ):
            tag = await make_tag(client, "VIP")
            async with locker.transaction():
                await locker.execute("select 1 from tags where id = $1 for update", UUID(tag["id"]))
                body = json.dumps({"external_ids": ["x"]}).ljust(19_000)
                path, headers = f"/tags/{tag['id']}/contacts?on_missing=skip", {"Content-Type": "application/json"}
                calls = [asyncio.create_task(client.put(path, content=body, headers=headers)) for _ in range(9)]
                done, waiting = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
                assert [call.result().status_code for call in done] == [429]
            assert {call.result().status_code for call in (await asyncio.wait(waiting))[0]} == {200}
    finally:
        await locker.close()


async def test_keys_without_a_request_are_forgotten() -> None:
    shares = Shares(4, wait=60)
    crowd = Crowd(shares)
    for _ in range(50):
        await crowd.send(3, uuid4())
    assert len(shares._of) == 50
    await crowd.end()
    assert shares._of == {}


async def test_one_key_does_not_hold_all_connections(
    monkeypatch: pytest.MonkeyPatch, database_url: str, workspace: Workspace, database: Database, clock: Clock
) -> None:
    """Its writes wait for a row that somebody else has; another key's calls are answered meanwhile."""
    other = await make_workspace(database)
    locker = await asyncpg.connect(database_url)
    try:
        async with (
            serving(
                monkeypatch, database_url, clock, pool_size=4, pool_timeout=0.5, lock_timeout=60, rate_limit="1000/10s"
            ) as running,
            client_of(running, workspace) as client,
            client_of(running, other) as other_client,
        ):
            tag = await make_tag(client, "VIP")
            await make_contacts(client, 1)
            async with locker.transaction():
                await locker.execute("select 1 from tags where id = $1 for update", UUID(tag["id"]))
                path = f"/tags/{tag['id']}/contacts"
                bodies = {"emails": ["c0@example.com"]}
                heavy = [asyncio.create_task(client.put(path, json=bodies)) for _ in range(12)]
                # Ten wait in vain.
                done: set[asyncio.Task[httpx.Response]] = set()
                while len(done) < 10:
                    done, _ = await asyncio.wait(heavy, timeout=0.05)
                    assert (await other_client.get("/tags")).status_code == 200
                for task in done:
                    answer = task.result()
                    document = problem(answer, 429, "rate_limited")
                    assert document["detail"].startswith("2 requests of this API key are at work already")
                    assert answer.headers["retry-after"] == "1"
                    assert "ratelimit" in answer.headers
            answers = await asyncio.gather(*heavy)
            assert sorted(answer.status_code for answer in answers) == [200] * 2 + [429] * 10
            assert (await client.get("/tags")).status_code == 200
    finally:
        await locker.close()


async def test_the_bound_does_not_go_with_the_limit(
    monkeypatch: pytest.MonkeyPatch, database_url: str, workspace: Workspace, clock: Clock
) -> None:
    """And a request that is stopped tells of the quota as well."""
    locker = await asyncpg.connect(database_url)
    try:
        for rate, pool_timeout, status in (("off", 0.2, 429), ("9/10s", 60, 503)):
            async with (
                serving(
                    monkeypatch,
                    database_url,
                    clock,
                    pool_size=1,
                    pool_timeout=pool_timeout,
                    lock_timeout=60,
                    request_timeout=1,
                    rate_limit=rate,
                ) as running,
                client_of(running, workspace) as client,
            ):
                tag = await make_tag(client, f"VIP {rate}")
                async with locker.transaction():
                    await locker.execute("select 1 from tags where id = $1 for update", UUID(tag["id"]))
                    path = f"/tags/{tag['id']}"
                    first = asyncio.create_task(client.patch(path, json={"name": "One"}))
                    await settle()
                    second = await client.patch(path, json={"name": "Two"})
                    assert second.status_code == status
                    assert ("ratelimit" in second.headers) is (rate != "off")
                    assert (await first).status_code == 503
    finally:
        await locker.close()
