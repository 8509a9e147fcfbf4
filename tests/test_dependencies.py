"""Keys become principals with few look-ups; routes get their page and their repositories."""

import asyncio
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from uuid import UUID, uuid4

import httpx
import pytest
import structlog
from fastapi import Depends
from starlette.types import Receive, Scope, Send

from app import dependencies
from app.dependencies import Authenticator, PageDep, demand, repository
from app.errors import Forbidden, Unauthenticated, Unavailable
from app.frontend import BodyLimits, FrontEnd, build, new_router, public, requires
from app.rate_limits import Shares
from app.repositories.base import Principal, Repository
from app.repositories.system import FoundKey
from app.routers.problems import read_token, render_error
from app.turns import Turns
from app.values import hash_key, new_key


def principal_with(scopes: set[str] | None = None, *, expires_at: datetime | None = None) -> Principal:
    return Principal(
        workspace_id=uuid4(),
        workspace="acme",
        client_id=uuid4(),
        client="web",
        key_id=uuid4(),
        scopes=frozenset(scopes or set()),
        audience=None,
        expires_at=expires_at,
    )


class Keys:
    """What the database would know, and how often it was asked."""

    def __init__(self) -> None:
        self.known: dict[bytes, FoundKey] = {}
        self.look_ups = 0
        self.recorded: list[set[UUID]] = []
        self.fault: Exception | None = None

    def add(self, *, active: bool = True, expires_at: datetime | None = None) -> tuple[str, Principal]:
        key, principal = new_key(), principal_with(expires_at=expires_at)
        self.known[hash_key(key)] = FoundKey(principal, client_is_active=active)
        return key, principal

    async def find(self, secret_hash: bytes) -> FoundKey | None:
        self.look_ups += 1
        if self.fault:
            raise self.fault
        return self.known.get(secret_hash)

    async def record(self, key_ids: Collection[UUID]) -> None:
        if self.fault:
            raise self.fault
        self.recorded.append(set(key_ids))


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def keys() -> Keys:
    return Keys()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(dependencies, "time", clock)
    return clock


async def refused(authenticate: Authenticator, key: str) -> str:
    with pytest.raises(Unauthenticated) as caught:
        await authenticate(key)
    return caught.value.reason


async def test_a_key_is_looked_up_once_in_five_seconds(keys: Keys, clock: Clock) -> None:
    authenticate = Authenticator(keys.find, keys.record)
    key, principal = keys.add()
    assert await authenticate(key) is principal
    clock.now += 4.9
    assert await authenticate(key) is principal
    assert keys.look_ups == 1
    # Revoked: seen within the five seconds.
    keys.known.clear()
    clock.now += 0.2
    assert await refused(authenticate, key) == "invalid"
    assert keys.look_ups == 2


async def test_a_forgotten_key_is_looked_up_at_once(keys: Keys, clock: Clock) -> None:
    authenticate = Authenticator(keys.find, keys.record)
    (key, principal), (other, _) = keys.add(), keys.add()
    unknown = new_key()
    for one in (key, other):
        await authenticate(one)
    assert await refused(authenticate, unknown) == "invalid"
    del keys.known[hash_key(key)]
    authenticate.forget(principal.key_id)
    keys.look_ups = 0
    assert await refused(authenticate, key) == "invalid"
    assert keys.look_ups == 1
    # The others are believed as before.
    await authenticate(other)
    assert await refused(authenticate, unknown) == "invalid"
    assert keys.look_ups == 1
    authenticate.forget(uuid4())


async def test_what_was_found_before_a_key_was_forgotten_is_not_kept(keys: Keys, clock: Clock) -> None:
    """A look-up under way may have seen the key alive, and come back after it was revoked."""
    seen, revoked = asyncio.Event(), asyncio.Event()

    async def find_slowly(secret_hash: bytes) -> FoundKey | None:
        found = await keys.find(secret_hash)
        seen.set()
        await revoked.wait()
        return found

    authenticate = Authenticator(find_slowly, keys.record)
    key, principal = keys.add()
    under_way = asyncio.create_task(authenticate(key))
    await seen.wait()
    keys.known.clear()
    authenticate.forget(principal.key_id)
    revoked.set()
    assert await under_way is principal
    assert await refused(authenticate, key) == "invalid"


class SlowKeys(Keys):
    """Look-ups that come back when they are let to, with what they saw when they began."""

    def __init__(self) -> None:
        super().__init__()
        self.answer = asyncio.Event()

    async def find(self, secret_hash: bytes) -> FoundKey | None:
        found = self.known.get(secret_hash)
        self.look_ups += 1
        await self.answer.wait()
        if self.fault:
            raise self.fault
        return found


async def waiting(authenticate: Authenticator, key: str, count: int) -> list[asyncio.Task[Principal]]:
    """So many callers who wait for the key to be looked up."""
    callers = [asyncio.create_task(authenticate(key)) for _ in range(count)]
    for _ in range(3):
        await asyncio.sleep(0)
    return callers


async def test_many_at_once_share_one_look_up(clock: Clock) -> None:
    keys = SlowKeys()
    authenticate = Authenticator(keys.find, keys.record)
    (key, principal), (other, other_principal) = keys.add(), keys.add()
    callers, others = await waiting(authenticate, key, 100), await waiting(authenticate, other, 100)
    assert keys.look_ups == 2
    # Who made the look-up goes away, and so do others. Those that stay have their answer.
    for caller in (callers[0], *callers[10:20]):
        caller.cancel()
    keys.answer.set()
    answers = await asyncio.gather(*callers, return_exceptions=True)
    assert answers.count(principal) == 89
    assert set(await asyncio.gather(*others)) == {other_principal}
    assert await authenticate(key) is principal
    assert keys.look_ups == 2
    assert authenticate._under_way == {}


async def test_a_look_up_that_nobody_waits_for_any_more(clock: Clock) -> None:
    keys = SlowKeys()
    authenticate = Authenticator(keys.find, keys.record)
    key, principal = keys.add()
    keys.fault = Unavailable("away")
    [caller] = await waiting(authenticate, key, 1)
    caller.cancel()
    keys.answer.set()
    await asyncio.sleep(0.01)
    assert authenticate._under_way == {}
    keys.fault = None
    assert await authenticate(key) is principal


async def test_a_look_up_that_fails_fails_for_all_who_wait(clock: Clock) -> None:
    keys = SlowKeys()
    authenticate = Authenticator(keys.find, keys.record)
    key, principal = keys.add()
    callers = await waiting(authenticate, key, 10)
    keys.fault = Unavailable("away")
    keys.answer.set()
    assert all(isinstance(one, Unavailable) for one in await asyncio.gather(*callers, return_exceptions=True))
    assert keys.look_ups == 1
    keys.fault = None
    assert await authenticate(key) is principal


async def test_who_comes_after_a_key_was_forgotten_shares_no_look_up_from_before(clock: Clock) -> None:
    keys = SlowKeys()
    authenticate = Authenticator(keys.find, keys.record)
    key, principal = keys.add()
    [before] = await waiting(authenticate, key, 1)
    keys.known.clear()
    authenticate.forget(principal.key_id)
    after = await waiting(authenticate, key, 10)
    assert keys.look_ups == 2
    keys.answer.set()
    assert await before is principal
    assert all(isinstance(one, Unauthenticated) for one in await asyncio.gather(*after, return_exceptions=True))
    assert await refused(authenticate, key) == "invalid"
    assert keys.look_ups == 2


async def test_an_unknown_key_is_looked_up_once_in_a_second(keys: Keys, clock: Clock) -> None:
    authenticate = Authenticator(keys.find, keys.record)
    key = new_key()
    for _ in range(3):
        assert await refused(authenticate, key) == "invalid"
    assert keys.look_ups == 1
    principal = principal_with()
    keys.known[hash_key(key)] = FoundKey(principal, client_is_active=True)
    clock.now += 1.1
    assert await authenticate(key) is principal


async def test_a_mistyped_key_costs_no_look_up(keys: Keys) -> None:
    authenticate = Authenticator(keys.find, keys.record)
    key = new_key()
    for mistyped in ("", "x", "ptag_", key[:-1], key[:-1] + "!", key + "\n", key.upper(), "é" * 50, "x" * 60_000):
        assert await refused(authenticate, mistyped) == "invalid"
    assert keys.look_ups == 0


async def test_an_inactive_client(keys: Keys) -> None:
    authenticate = Authenticator(keys.find, keys.record)
    key, _ = keys.add(active=False)
    assert await refused(authenticate, key) == "inactive_client"
    assert await refused(authenticate, key) == "inactive_client"
    assert keys.look_ups == 1
    await authenticate.record()
    assert keys.recorded == []


async def test_a_key_is_not_believed_beyond_its_expiry(keys: Keys, clock: Clock) -> None:
    authenticate = Authenticator(keys.find, keys.record)
    key, _ = keys.add(expires_at=datetime.now(UTC) + timedelta(seconds=2))
    await authenticate(key)
    keys.known.clear()
    clock.now += 2.1
    assert await refused(authenticate, key) == "invalid"


async def test_a_look_up_that_fails_is_not_remembered(keys: Keys) -> None:
    authenticate = Authenticator(keys.find, keys.record)
    key, principal = keys.add()
    keys.fault = Unavailable("away")
    with pytest.raises(Unavailable):
        await authenticate(key)
    keys.fault = None
    assert await authenticate(key) is principal


async def test_the_cache_is_bounded(keys: Keys) -> None:
    authenticate = Authenticator(keys.find, keys.record, cached_max=10)
    added = [keys.add()[0] for _ in range(30)]
    for key in added:
        await authenticate(key)
    assert len(authenticate._cache) == 10
    keys.look_ups = 0
    for key in added[-10:]:
        await authenticate(key)
    assert keys.look_ups == 0


async def test_uses_are_recorded_together_and_later(keys: Keys) -> None:
    authenticate = Authenticator(keys.find, keys.record)
    (first, one), (second, two) = keys.add(), keys.add()
    for key in (first, second, first, first):
        await authenticate(key)
    assert keys.recorded == []
    await authenticate.record()
    await authenticate.record()
    assert keys.recorded == [{one.key_id, two.key_id}]


async def test_uses_are_kept_while_the_database_is_away(keys: Keys) -> None:
    authenticate = Authenticator(keys.find, keys.record)
    key, principal = keys.add()
    await authenticate(key)
    keys.fault = Unavailable("away")
    recorder = asyncio.create_task(authenticate.record_every(0.001))
    with structlog.testing.capture_logs() as lines:
        await asyncio.sleep(0.02)
        assert not recorder.done()
        keys.fault = None
        await asyncio.sleep(0.02)
    recorder.cancel()
    assert keys.recorded == [{principal.key_id}]
    assert {line["event"] for line in lines} == {"last use of keys not recorded yet"}


async def test_uses_are_kept_when_recording_is_cancelled(keys: Keys) -> None:
    async def hang(_key_ids: Collection[UUID]) -> None:
        await asyncio.sleep(10)

    authenticate = Authenticator(keys.find, hang)
    key, principal = keys.add()
    await authenticate(key)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await authenticate.record()
    assert authenticate._used == {principal.key_id}


def test_scopes_that_only_some_bodies_need() -> None:
    demand(principal_with({"tags:write"}), "tags:write")
    demand(principal_with({"admin"}), "tags:write", "contacts:write")
    with pytest.raises(Forbidden) as caught:
        demand(principal_with({"tags:read"}), "tags:read", "tags:write")
    assert caught.value.missing_scopes == ("tags:write",)


class Things(Repository):
    def caller(self) -> dict[str, object]:
        return {"database": self._database, **self._caller}


ThingsDep = Annotated[Things, Depends(repository(Things))]


async def get(path: str) -> httpx.Response:
    router = new_router("things")

    @router.get("/page")
    @public
    async def list_things(page: PageDep) -> dict[str, object]:
        return {"limit": page.limit, "offset": page.offset, "cursor": page.cursor}

    @router.get("/caller")
    @requires()
    async def get_caller(things: ThingsDep) -> dict[str, Any]:
        return {name: str(value) for name, value in things.caller().items()}

    front_end = FrontEnd("native", "Test", "", (router,), read_token, render_error, strict_query=True)
    app = build(front_end, version="1", body_limits=BodyLimits(1_000, 1_000))

    async def authenticate(_key: str) -> Principal:
        return PRINCIPAL

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        state = {"authenticate": authenticate, "database": "the database", "request_id": "r1"}
        limits = {"rate_limits": None, "shares": Shares(1, wait=1), "turns": Turns()}
        await app({**scope, "state": {**state, **limits}}, receive, send)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(serve), base_url="http://test") as client:
        return await client.get(path, headers={"Authorization": "Bearer x"})


PRINCIPAL = principal_with()


async def test_a_repository_is_born_for_its_caller() -> None:
    assert (await get("/caller")).json() == {
        "database": "the database",
        "workspace_id": str(PRINCIPAL.workspace_id),
        "client_id": str(PRINCIPAL.client_id),
        "key_id": str(PRINCIPAL.key_id),
        "front_end": "native",
        "request_id": "r1",
        "only_audience": "None",
    }


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", (100, 0, None)),
        ("limit=1&offset=100000", (1, 100_000, None)),
        ("limit=1000&cursor=abc", (1_000, 0, "abc")),
        ("cursor=", (100, 0, "")),
    ],
)
async def test_pages(query: str, expected: tuple[int, int, str | None]) -> None:
    limit, offset, cursor = expected
    assert (await get(f"/page?{query}")).json() == {"limit": limit, "offset": offset, "cursor": cursor}


@pytest.mark.parametrize(
    ("query", "pointer", "code"),
    [
        ("limit=0", "?limit", "out_of_range"),
        ("limit=1001", "?limit", "out_of_range"),
        ("limit=-1", "?limit", "out_of_range"),
        ("limit=1.5", "?limit", "invalid_type"),
        ("limit=", "?limit", "invalid_type"),
        ("limit=" + "9" * 5_000, "?limit", "out_of_range"),
        ("offset=100001", "?offset", "out_of_range"),
        ("cursor=a&offset=0", "?offset", "not_together"),
        ("cursor=%00", "?cursor", "invalid_characters"),
        ("cursor=" + "a" * 2_001, "?cursor", "too_long"),
    ],
)
async def test_pages_that_cannot_be(query: str, pointer: str, code: str) -> None:
    response = await get(f"/page?{query}")
    assert response.status_code == 422
    assert [(error["pointer"], error["code"]) for error in response.json()["errors"]] == [(pointer, code)]
