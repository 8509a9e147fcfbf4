"""Every call of every front end with every key that is not good: what it is told, and that it does nothing.

The calls are those of the five OpenAPI documents, as in tests/test_isolation_matrix.py, with one's own names in their
places, so that but for the key they would succeed.
"""

import base64
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from starlette.types import ASGIApp

from app import dependencies
from app.database import Database, statement_log
from app.errors import AppError, Forbidden, Unauthenticated
from app.frontend import FrontEnd
from app.main import FRONT_ENDS
from app.repositories.system import SystemRepository
from app.values import SCOPES, is_key, new_key
from tests.documents import Operation, draft_of, operations, with_key
from tests.neighbours import World, filled, make_own
from tests.routers.calls import run, state_of

# Calls without a key, and why.
PUBLIC = {
    "native.get_health": "probes have no key",
    "native.get_readiness": "probes have no key",
    "native.get_metrics": "Prometheus has no key; it tells of no workspace",
    "sendportal.ping": "the vendor's is public too",
}

CLOSED = [operation for operation in operations() if str(operation) not in PUBLIC]

DEAD = ("unknown", "revoked", "expired")


def mistyped(key: str) -> str:
    """The key with its last character changed: the form of one, and a wrong checksum."""
    wrong = key[:-1] + ("0" if key[-1] != "0" else "1")
    assert not is_key(wrong)
    return wrong


@dataclass(frozen=True)
class Holder:
    """A workspace with all that calls name, and its keys that are not good, by what is wrong with them."""

    world: World
    keys: dict[str, str]


@pytest.fixture(scope="module")
async def holder(database: Database) -> Holder:
    """No test changes anything in it."""
    world = await make_own(database)
    return Holder(world, await make_keys(world))


async def make_keys(world: World) -> dict[str, str]:
    """Keys that were good once, each with all scopes, and one that never was."""
    database, names = world.workspace.database, world.workspace.provisioned
    keys = {"unknown": new_key()}
    system = SystemRepository(database)
    for fault in ("revoked", "expired", "inactive"):
        client = "idle" if fault == "inactive" else names.client
        made = await system.provision(workspace=names.workspace, client=client, audience=names.audience, scopes=SCOPES)
        keys[fault] = made.key
        if fault == "revoked":
            await system.revoke_key(made.key_id)
        if fault == "expired":
            at = datetime.now(UTC) - timedelta(seconds=1)
            await run(database, "update api_keys set expires_at = :at where id = :id", at=at, id=made.key_id)
        if fault == "inactive":
            # No verb does that yet.
            sql = "update clients set active = false where workspace_id = :workspace_id and slug = :slug"
            await run(database, sql, workspace_id=world.workspace.principal.workspace_id, slug=client)
    for scope in SCOPES:
        # All the others, except the one that implies them.
        others = tuple(other for other in SCOPES if other not in {scope, "admin"})
        made = await system.provision(
            workspace=names.workspace, client=names.client, audience=names.audience, scopes=others
        )
        keys[scope] = made.key
    return keys


class Body:
    """A body that is no JSON, and whether anybody has begun to read it."""

    def __init__(self) -> None:
        self.is_read = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self.is_read = True
        yield b'{"\xff'


async def send(
    app: ASGIApp, operation: Operation, world: World, headers: dict[str, str], body: Body | None
) -> httpx.Response:
    """The call with one's own names, and a body that cannot be read unless there is to be one in order."""
    draft = draft_of(operation)
    given = filled([draft.path, draft.query, draft.body], world.names, {})
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://polytag.test") as client:
        return await client.request(
            operation.method,
            operation.url(given[0]),
            params=given[1],
            headers=headers,
            **({"content": body} if body else {"json": given[2]}),
        )


def assert_says(response: httpx.Response, front_end: FrontEnd, error: AppError) -> None:
    """The answer is what the front end says of this error, byte for byte, and tells how to do better."""
    expected = front_end.render_error(error, response.headers["x-request-id"])
    assert (response.status_code, response.content) == (expected.status_code, bytes(expected.body))
    assert response.status_code == (403 if isinstance(error, Forbidden) else 401)
    assert dict(expected.headers).items() <= dict(response.headers).items()
    assert response.headers["www-authenticate"]


def headers_that(fault: str, front_end: FrontEnd, keys: dict[str, str]) -> dict[str, str]:
    """What is sent in place of a good key."""
    good = new_key()
    told = with_key(front_end, keys.get(fault, good))
    [(name, value)] = told.items()
    scheme = value.split()[0]
    match fault:
        case "missing":
            return {}
        case "no scheme":
            return {name: good}
        case "another scheme":
            return {name: "Basic " + base64.b64encode(f"{good}:".encode()).decode()}
        case "nothing after the scheme":
            return {name: f"{scheme} "}
        case "two keys":
            return {name: f"{scheme} {good} {good}"}
        case "no key at all":
            return {name: f"{scheme} nonsense"}
        case "mistyped":
            return {name: f"{scheme} {mistyped(good)}"}
    return told


FAULTS = {
    "missing": Unauthenticated("missing"),
    "no scheme": Unauthenticated("malformed"),
    "another scheme": Unauthenticated("malformed"),
    "nothing after the scheme": Unauthenticated("malformed"),
    "two keys": Unauthenticated("malformed"),
    "no key at all": Unauthenticated("invalid"),
    "mistyped": Unauthenticated("invalid"),
    **dict.fromkeys(DEAD, Unauthenticated("invalid")),
    "inactive": Unauthenticated("inactive_client"),
}


def cases() -> Iterator[tuple[Operation, str, AppError]]:
    for operation in CLOSED:
        for fault, error in FAULTS.items():
            yield operation, fault, error
        for scope in operation.terms.scopes or ():
            yield operation, scope, Forbidden([scope])


@pytest.mark.parametrize(
    ("operation", "fault", "error"), [pytest.param(*case, id=f"{case[0]} with {case[1]}") for case in cases()]
)
async def test_a_key_that_is_not_good(
    app: ASGIApp, holder: Holder, operation: Operation, fault: str, error: AppError
) -> None:
    before = await state_of(holder.world.workspace)
    headers = headers_that(fault, operation.front_end, holder.keys)
    response = await send(app, operation, holder.world, headers, body=None)
    assert_says(response, operation.front_end, error)
    # Nor is it looked at what is asked.
    body = Body()
    unread = await send(app, operation, holder.world, {"Content-Type": "application/json", **headers}, body)
    assert_says(unread, operation.front_end, error)
    assert not body.is_read
    assert await state_of(holder.world.workspace) == before


@pytest.mark.parametrize("operation", CLOSED, ids=str)
async def test_dead_keys_cannot_be_told_apart(app: ASGIApp, holder: Holder, operation: Operation) -> None:
    """Whoever tries keys does not learn which of them was good once."""
    told = set()
    for fault in DEAD:
        headers = with_key(operation.front_end, holder.keys[fault])
        response = await send(app, operation, holder.world, headers, body=None)
        request_id = response.headers.pop("x-request-id")
        told.add((response.status_code, str(response.headers.raw), response.text.replace(request_id, "")))
    assert len(told) == 1


@pytest.mark.parametrize("operation", CLOSED, ids=str)
async def test_its_scopes_are_enough(app: ASGIApp, database: Database, operation: Operation) -> None:
    """With a key of these and no others the same request succeeds, so the refusals are the keys' alone."""
    world = await make_own(database)
    names = world.workspace.provisioned
    made = await SystemRepository(database).provision(
        workspace=names.workspace, client=names.client, audience=names.audience, scopes=operation.terms.scopes or ()
    )
    response = await send(app, operation, world, with_key(operation.front_end, made.key), body=None)
    assert response.is_success, response.text


@pytest.mark.parametrize("name", PUBLIC)
async def test_what_is_served_without_a_key(app: ASGIApp, holder: Holder, name: str) -> None:
    """By whoever calls: a key that is not good does no harm there."""
    [operation] = [operation for operation in operations() if str(operation) == name]
    assert operation.terms.scopes is None
    for fault in FAULTS:
        headers = headers_that(fault, operation.front_end, holder.keys)
        assert (await send(app, operation, holder.world, headers, body=None)).is_success


def test_nothing_else_is_served_without_a_key() -> None:
    assert {str(operation) for operation in operations() if operation.terms.scopes is None} == PUBLIC.keys()


# What they cost.


class Clock:
    """A time that does not pass by itself."""

    def __init__(self) -> None:
        self.now = time.monotonic()

    def monotonic(self) -> float:
        return self.now


@pytest.mark.parametrize("front_end", FRONT_ENDS.values(), ids=list(FRONT_ENDS))
@pytest.mark.parametrize("fault", FAULTS)
async def test_what_a_bad_key_costs(
    app: ASGIApp, database: Database, monkeypatch: pytest.MonkeyPatch, front_end: FrontEnd, fault: str
) -> None:
    """One look-up for one that might be good, whatever became of it, and none for repeats; nothing else is asked."""
    clock = Clock()
    monkeypatch.setattr(dependencies, "time", clock)
    world = await make_own(database)
    headers = headers_that(fault, front_end, await make_keys(world))
    operation = next(one for one in CLOSED if one.front_end is front_end and one.method == "POST")
    costs = []
    for seconds in (0, 0, 0.9, 0.2, 0):
        clock.now += seconds
        ran: list[str] = []
        token = statement_log.set(ran)
        try:
            response = await send(app, operation, world, headers, body=None)
        finally:
            statement_log.reset(token)
        assert response.status_code == 401
        costs.append(ran)
    look_up = ["system.find_key"]
    if fault in DEAD:
        # Misses are believed for a second.
        assert costs == [look_up, [], [], look_up, []]
    elif fault == "inactive":
        assert costs == [look_up, [], [], [], []]
    else:
        assert costs == [[], [], [], [], []]
