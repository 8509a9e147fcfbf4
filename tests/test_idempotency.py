"""Requests that are sent more than once, in every front end."""

import asyncio
import hashlib
import json
from collections import Counter
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest

from app.config import Settings
from app.database import Database, create_engine
from app.dialects.buttondown.typeids import encode
from app.frontend import FrontEnd, terms_of
from app.idempotency import KEY_MAX_LENGTH
from app.main import FRONT_ENDS
from app.openapi import routes_of
from app.repositories.idempotency import Answer, IdempotencyRepository
from app.repositories.system import SystemRepository
from app.repositories.tags import TagRepository
from app.values import new_key
from tests.conftest import Api, MakeDatabase, client_of, make_workspace, started
from tests.routers.calls import answered, field_problem, make_contacts, make_key, make_tag, problem, run, state_of

Json = dict[str, Any]

# A call of each front end that changes something whenever it is done, and its header for a key.
CALLS: dict[str, tuple[str, str, Json, str]] = {
    "native": ("POST", "/tags", {"name": "VIP"}, "Idempotency-Key"),
    "topmail": ("POST", "/topmail/api/v1/tags", {"name": "VIP"}, "Idempotency-Key"),
    "buttondown": ("POST", "/buttondown/v1/tags", {"name": "VIP"}, "X-Idempotency-Key"),
    "sendportal": ("POST", "/sendportal/api/v1/tags", {"name": "VIP"}, "Idempotency-Key"),
    "datamailer": (
        "POST",
        "/datamailer/api/contacts",
        {"email": "a@example.com", "audience": "newsletter", "client": "web", "tags": ["VIP"]},
        "Idempotency-Key",
    ),
}
front_ends = pytest.mark.parametrize("slug", CALLS)

# Connections to this database that wait for a row of another one.
WAITING = """
    select count(*) as n from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'
"""

KEPT = "select key, status, body from idempotency_keys where workspace_id = :workspace_id"


def headers_of(api: Api, slug: str, key: str) -> dict[str, str]:
    scheme = "Token" if slug == "buttondown" else "Bearer"
    return {"Authorization": f"{scheme} {api.workspace.provisioned.key}", CALLS[slug][3]: key}


async def send(api: Api, slug: str, key: str, body: Json | None = None) -> httpx.Response:
    method, path, usual, _ = CALLS[slug]
    return await api.request(method, path, json=body or usual, headers=headers_of(api, slug, key))


async def kept(api: Api) -> list[Any]:
    return await run(api.workspace.database, KEPT, workspace_id=api.workspace.principal.workspace_id)


def test_there_is_a_call_of_each_front_end() -> None:
    assert CALLS.keys() == FRONT_ENDS.keys()


@pytest.mark.parametrize("front_end", FRONT_ENDS.values(), ids=list(FRONT_ENDS))
def test_what_does_not_take_a_key(front_end: FrontEnd) -> None:
    """Whatever is no GET may change something, but for a search that has its filter in the body."""
    without = {
        route.name
        for route in routes_of(front_end)
        if "GET" not in (route.methods or ()) and not terms_of(route.endpoint).writes
    }
    assert without == ({"search_contacts"} if front_end.slug == "native" else set())


@front_ends
async def test_a_repeat_gets_the_first_answer(api: Api, slug: str) -> None:
    first = await send(api, slug, "k1")
    assert first.status_code in {200, 201}
    assert "idempotency-replayed" not in first.headers
    before = await state_of(api.workspace)
    again = await send(api, slug, "k1")
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert again.headers["idempotency-replayed"] == "true"
    for name in ("content-type", "location", "etag"):
        assert again.headers.get(name) == first.headers.get(name)
    assert again.headers["x-request-id"] != first.headers["x-request-id"]
    assert await state_of(api.workspace) == before


@front_ends
async def test_the_key_of_another_request(api: Api, slug: str) -> None:
    await send(api, slug, "k1")
    before = await state_of(api.workspace)
    other = {**CALLS[slug][2], "name": "Other", "email": "b@example.com"}
    if slug != "datamailer":
        del other["email"]
    refused = await send(api, slug, "k1", other)
    assert refused.status_code == (409 if slug in {"topmail", "buttondown"} else 422)
    assert "another request" in refused.text
    assert "retry-after" not in refused.headers
    assert await state_of(api.workspace) == before


@front_ends
async def test_forty_at_once(database_url: str, database: Database, slug: str) -> None:
    """Over two processes, so to speak, each with fewer connections than there are repeats."""
    workspace = await make_workspace(database)
    settings = Settings(database_url=database_url, pool_size=3)
    async with (
        started(settings) as one,
        started(settings) as two,
        client_of(one, workspace) as api,
        client_of(two, workspace) as beside,
    ):
        answers = await asyncio.gather(*(send(client, slug, "k1") for client in [api, beside] * 20))
    assert len({(answer.status_code, answer.content) for answer in answers}) == 1
    assert answers[0].status_code in {200, 201}
    assert Counter(answer.headers.get("idempotency-replayed") for answer in answers) == {None: 1, "true": 39}
    created = [line for source, line in await state_of(workspace) if source == "events" and "tag.created" in line]
    assert len(created) == 1


@pytest.mark.parametrize("is_beside", [False, True], ids=["same process", "another process"])
@front_ends
async def test_one_that_is_still_running(database_url: str, api: Api, slug: str, is_beside: bool) -> None:
    async with (
        started(Settings(database_url=database_url, lock_timeout=60)) as slow,
        client_of(slow, api.workspace) as first,
        started(Settings(database_url=database_url, lock_timeout=0.1)) as fast,
        client_of(fast, api.workspace) as second,
    ):
        holder = await asyncpg.connect(database_url)
        transaction = holder.transaction()
        await transaction.start()
        await holder.execute(
            "select from audiences where workspace_id = $1 for update", api.workspace.principal.workspace_id
        )
        running = asyncio.create_task(send(first, slug, "k1"))
        try:
            async with asyncio.timeout(20):
                # Within the holder's transaction the answer would stay what it first was.
                while not (await run(api.workspace.database, WAITING))[0]["n"]:
                    await asyncio.sleep(0.01)
            if is_beside:
                refused = await send(second, slug, "k1")
                assert refused.status_code == 409
                assert int(refused.headers["retry-after"]) >= 1
                assert "still running" in refused.text
            else:
                waiting = asyncio.create_task(send(first, slug, "k1"))
                await asyncio.sleep(0.1)
                assert not waiting.done()
        finally:
            await transaction.rollback()
            await holder.close()
        done = await running
        assert done.status_code in {200, 201}
        again = await (send(second, slug, "k1") if is_beside else waiting)
        assert (again.content, again.headers["idempotency-replayed"]) == (done.content, "true")


async def test_waiting_in_this_process_ends_as_well(
    database_url: str, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = asyncio.Event()
    create = TagRepository.create

    async def slowly(self: TagRepository, *arguments: Any, **options: Any) -> Any:
        await release.wait()
        return await create(self, *arguments, **options)

    monkeypatch.setattr(TagRepository, "create", slowly)
    async with (
        started(Settings(database_url=database_url, lock_timeout=0.1)) as app,
        client_of(app, api.workspace) as client,
    ):
        running = asyncio.create_task(send(client, "native", "k1"))
        await asyncio.sleep(0.05)
        problem(await send(client, "native", "k1"), 409, "still_running")
        release.set()
        answered(await running, 201)


async def test_repeats_that_wait_hold_nothing(database_url: str, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """One at work and twenty repeats waiting leave room for another call of the same key: two may be at work."""
    release, begun = asyncio.Event(), asyncio.Event()
    create = TagRepository.create

    async def slowly(self: TagRepository, *arguments: Any, **options: Any) -> Any:
        begun.set()
        await release.wait()
        return await create(self, *arguments, **options)

    monkeypatch.setattr(TagRepository, "create", slowly)
    async with (
        started(Settings(database_url=database_url, pool_size=4)) as app,
        client_of(app, api.workspace) as client,
    ):
        repeats = [asyncio.create_task(send(client, "native", "k1")) for _ in range(20)]
        await begun.wait()
        answered(await client.get("/tags"))
        release.set()
        answers = await asyncio.gather(*repeats)
        assert {answer.status_code for answer in answers} == {201}


# What belongs to a key.


async def test_keys_are_each_callers_own(api: Api, other_api: Api) -> None:
    """Another API key of the workspace, another front end and another workspace have keys of their own."""
    answered(await send(api, "native", "k1"), 201)
    assert "idempotency-replayed" not in answered_headers(await send(other_api, "native", "k1"), 201)
    problem(await _with_another_key(api, "k1"), 409, "name_taken")
    refused = await send(api, "topmail", "k1")
    assert refused.json()["error"]["code"] == "duplicate"


async def _with_another_key(api: Api, key: str) -> httpx.Response:
    made = await make_key(api, scopes=["tags:write"])
    headers = {"Authorization": f"Bearer {made['key']}", "Idempotency-Key": key}
    return await api.post("/tags", json=CALLS["native"][2], headers=headers)


def answered_headers(response: httpx.Response, status: int) -> httpx.Headers:
    answered(response, status)
    return response.headers


async def test_method_path_query_and_body_make_a_request(api: Api) -> None:
    tag, other = await make_tag(api, "a"), await make_tag(api, "b")
    [contact] = await make_contacts(api, 1)
    headers = {"Idempotency-Key": "k1"}
    body = {"contact_ids": [contact]}
    path = f"/tags/{tag['id']}/contacts"
    answered(await api.post(path, json=body, headers=headers))
    for method, url, sent in (
        ("PUT", path, body),
        ("POST", f"/tags/{other['id']}/contacts", body),
        ("POST", f"{path}?on_missing=skip", body),
        ("POST", path, {"contact_ids": [contact, contact]}),
    ):
        problem(await api.request(method, url, json=sent, headers=headers), 422, "idempotency_key_reused")
    # What the header says is the same text in quotes, as the draft of a standard has it.
    again = await api.post(path, json=body, headers={"Idempotency-Key": '"k1"'})
    assert answered_headers(again, 200)["idempotency-replayed"] == "true"


async def test_another_newsletter_is_another_request(api: Api) -> None:
    second = answered(await api.post("/audiences", json={"name": "Second", "slug": "second"}), 201)
    answered(await send(api, "buttondown", "k1"), 201)
    method, path, body, _ = CALLS["buttondown"]
    headers = {**headers_of(api, "buttondown", "k1"), "Buttondown-Context": encode("news", UUID(second["id"]))}
    assert (await api.request(method, path, json=body, headers=headers)).status_code == 409


async def test_headers_that_a_call_takes_are_part_of_the_request(api: Api) -> None:
    tag = await make_tag(api, "VIP")
    path, body = f"/tags/{tag['id']}", {"color": "#000000"}
    headers = {"Idempotency-Key": "k1", "If-Match": '"1"'}
    answered(await api.patch(path, json=body, headers=headers))
    assert (await api.patch(path, json=body, headers=headers)).headers["idempotency-replayed"] == "true"
    other = await api.patch(path, json=body, headers={**headers, "If-Match": '"7"'})
    problem(other, 422, "idempotency_key_reused")
    method, path, body, _ = CALLS["buttondown"]
    ours = headers_of(api, "buttondown", "k2")
    assert (await api.request(method, path, json={"name": "Gold"}, headers=ours)).status_code == 201
    for name, value in (("X-Buttondown-Collision-Behavior", "overwrite"), ("X-API-Version", "2025-01-01")):
        answer = await api.request(method, path, json={"name": "Gold"}, headers={**ours, name: value})
        assert answer.status_code == 409, name


async def test_who_may_not_call_is_not_answered(api: Api) -> None:
    """A key that is no longer good gets nothing, though the answer is kept."""
    made = await make_key(api, scopes=["tags:write"])
    headers = {"Authorization": f"Bearer {made['key']}", "Idempotency-Key": "k1"}
    answered(await api.post("/tags", json={"name": "VIP"}, headers=headers), 201)
    answered(await api.delete(f"/keys/{made['id']}"), 204)
    problem(await api.post("/tags", json={"name": "VIP"}, headers=headers), 401, "unauthenticated")


async def test_reads_take_no_notice(api: Api) -> None:
    answered(await api.get("/tags", headers={"Idempotency-Key": "x" * 10_000}))
    answered(await api.post("/contacts/search", json={"filter": {}}, headers={"Idempotency-Key": "k1"}), 422)
    assert await kept(api) == []


@pytest.mark.parametrize(
    ("key", "code"),
    [
        ("", "too_short"),
        ('""', "too_short"),
        ("   ", "too_short"),
        ("x" * (KEY_MAX_LENGTH + 1), "too_long"),
        ("\xe4", "invalid_characters"),
        ("a\tb", "invalid_characters"),
    ],
)
async def test_a_header_that_is_no_key(api: Api, key: str, code: str) -> None:
    before = await state_of(api.workspace)
    response = await api.post("/tags", json={"name": "VIP"}, headers=[(b"Idempotency-Key", key.encode("latin-1"))])
    field_problem(response, "header:Idempotency-Key", code)
    assert await state_of(api.workspace) == before


async def test_two_headers(api: Api) -> None:
    headers = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    response = await api.post("/tags", json={"name": "VIP"}, headers=headers)
    field_problem(response, "header:Idempotency-Key", "invalid_value")


@front_ends
async def test_the_header_of_another_front_end(api: Api, slug: str) -> None:
    """Whoever moves from one API to another is not without what the header is for."""
    method, path, body, own = CALLS[slug]
    [other] = {"Idempotency-Key", "X-Idempotency-Key"} - {own}
    headers = {"Authorization": headers_of(api, slug, "")["Authorization"], other: "k1"}
    assert (await api.request(method, path, json=body, headers=headers)).status_code in {200, 201}
    assert (await send(api, slug, "k1")).headers["idempotency-replayed"] == "true"
    differing = await api.request(method, path, json=body, headers={**headers, own: "k2"})
    assert 400 <= differing.status_code < 500
    assert own.lower() in differing.text.lower() or "one value" in differing.text


async def test_the_longest_key(api: Api) -> None:
    key = "x" * KEY_MAX_LENGTH
    answered(await send(api, "native", key), 201)
    assert answered_headers(await send(api, "native", key), 201)["idempotency-replayed"] == "true"


# What is kept, and for how long.


async def test_what_fails_leaves_the_key_free(api: Api) -> None:
    await make_tag(api, "VIP")
    problem(await send(api, "native", "k1"), 409, "name_taken")
    problem(await send(api, "native", "k1", {"name": ""}), 422, "too_short")
    assert await kept(api) == []
    answered(await send(api, "native", "k1", {"name": "Other"}), 201)


async def test_a_fault_leaves_the_key_free(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that comes when all is written."""

    def broken(_tag: object) -> None:
        raise RuntimeError

    before = await state_of(api.workspace)
    with monkeypatch.context() as patch:
        patch.setattr("app.routers.tags.TagRead.model_validate", broken)
        problem(await send(api, "native", "k1"), 500, "internal_error")
    assert await state_of(api.workspace) == before
    assert "idempotency-replayed" not in answered_headers(await send(api, "native", "k1"), 201)


async def test_a_deadlock_runs_the_request_again(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, and as a whole."""
    failing = 1
    create = TagRepository.create

    async def deadlocked(self: TagRepository, *arguments: Any, **options: Any) -> Any:
        nonlocal failing
        found = await create(self, *arguments, **options)
        failing -= 1
        if failing >= 0:
            raise asyncpg.DeadlockDetectedError
        return found

    monkeypatch.setattr(TagRepository, "create", deadlocked)
    made = answered(await send(api, "native", "k1"), 201)
    assert answered_headers(await send(api, "native", "k1"), 201)["idempotency-replayed"] == "true"
    assert [tag["id"] for tag in answered(await api.get("/tags"))["data"]] == [made["id"]]
    failing = 2
    problem(await send(api, "native", "k2", {"name": "Other"}), 503, "unavailable")
    assert len(answered(await api.get("/tags"))["data"]) == 1


async def test_a_request_that_is_cancelled_leaves_nothing(
    database_url: str, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = TagRepository.create

    async def endless(self: TagRepository, *arguments: Any, **options: Any) -> Any:
        await create(self, *arguments, **options)
        await asyncio.Event().wait()

    before = await state_of(api.workspace)
    monkeypatch.setattr(TagRepository, "create", endless)
    settings = Settings(database_url=database_url, request_timeout=0.2, pool_size=1)
    async with started(settings) as app, client_of(app, api.workspace) as client:
        problem(await send(client, "native", "k1"), 503, "unavailable")
        monkeypatch.undo()
        assert await state_of(api.workspace) == before
        # The connection is of use again, and the key is free.
        assert "idempotency-replayed" not in answered_headers(await send(client, "native", "k1"), 201)


async def test_an_answer_without_a_body(api: Api) -> None:
    tag = await make_tag(api, "VIP")
    headers = {"Idempotency-Key": "k1"}
    answered(await api.delete(f"/tags/{tag['id']}", headers=headers), 204)
    again = await api.delete(f"/tags/{tag['id']}", headers=headers)
    assert answered_headers(again, 204)["idempotency-replayed"] == "true"
    assert "content-type" not in again.headers
    problem(await api.delete(f"/tags/{tag['id']}"), 404, "not_found")


async def test_an_answer_is_given_for_a_day(database: Database, api: Api) -> None:
    first = answered(await send(api, "native", "k1"), 201)
    workspace_id = api.workspace.principal.workspace_id
    age = "update idempotency_keys set created_at = now() - cast(:age as interval) where workspace_id = :workspace_id"
    await run(database, age, age=timedelta(hours=23, minutes=59), workspace_id=workspace_id)
    assert answered(await send(api, "native", "k1"), 201) == first
    await run(database, age, age=timedelta(hours=24, seconds=1), workspace_id=workspace_id)
    # Then it is a new request, of another body, too.
    problem(await send(api, "native", "k1"), 409, "name_taken")
    answered(await send(api, "native", "k1", {"name": "Other"}), 201)
    assert answered(await send(api, "native", "k1", {"name": "Other"}), 201)["name"] == "Other"


async def test_old_answers_are_deleted(new_database: MakeDatabase) -> None:
    """The oldest first, some at a time, by each process of the service."""
    url = await new_database()
    database = Database(create_engine(url, pool_size=2))
    workspace = await make_workspace(database)
    fill = """
        insert into idempotency_keys (workspace_id, key_id, front_end, key, fingerprint, created_at)
        select :workspace_id, :key_id, 'native', cast(n as text), '', now() - n * interval '1 hour'
        from generate_series(20, 30) n
    """
    principal = workspace.principal
    await run(database, fill, workspace_id=principal.workspace_id, key_id=principal.key_id)
    system = SystemRepository(database)
    assert await system.forget_answers(4) == 4
    left = await run(database, "select key from idempotency_keys order by created_at desc")
    assert [row["key"] for row in left] == ["20", "21", "22", "23", "24", "25", "26"]
    assert [await system.forget_answers(4) for _ in range(2)] == [3, 0]
    assert len(await run(database, "select key from idempotency_keys")) == 4
    await run(database, "update idempotency_keys set created_at = now() - interval '25 hours'")
    async with started(Settings(database_url=url)), asyncio.timeout(20):
        while await run(database, "select key from idempotency_keys"):
            await asyncio.sleep(0.01)
    await database.dispose()


async def test_a_name_that_looks_like_a_key_is_a_name(api: Api) -> None:
    """Only what the call shows once is left out of the answer to a repeat."""
    body = {"name": new_key()}
    first = await send(api, "native", "k1", body)
    assert (await send(api, "native", "k1", body)).json() == first.json() == {**answered(first, 201), **body}


async def test_a_key_is_forgotten_once_its_revocation_is_committed(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looked up before that, it would be found alive and believed for seconds."""
    made = await make_key(api, scopes=["tags:read"])
    once = IdempotencyRepository.once

    async def slowly(self: IdempotencyRepository, key: str, fingerprint: bytes, verb: Any) -> Any:
        async def and_then(joined: Database) -> Answer:
            answer: Answer = await verb(joined)
            response = await api.get("/tags", headers={"Authorization": f"Bearer {made['key']}"})
            meanwhile.append(response.status_code)
            return answer

        return await once(self, key, fingerprint, and_then)

    meanwhile: list[int] = []
    monkeypatch.setattr(IdempotencyRepository, "once", slowly)
    answered(await api.delete(f"/keys/{made['id']}", headers={"Idempotency-Key": "k1"}), 204)
    assert meanwhile == [200]
    problem(await api.get("/tags", headers={"Authorization": f"Bearer {made['key']}"}), 401, "unauthenticated")


async def test_no_secret_is_kept(api: Api) -> None:
    """Neither a new key, which a repeat is not told again, nor what a caller took for an idempotency key."""
    secret = new_key()
    headers = {"Idempotency-Key": secret}
    first = answered(await api.post("/keys", json={"scopes": ["tags:read"]}, headers=headers), 201)
    repeated = await api.post("/keys", json={"scopes": ["tags:read"]}, headers=headers)
    assert answered_headers(repeated, 201)["idempotency-replayed"] == "true"
    assert repeated.json() == {**first, "key": None}
    [row] = await kept(api)
    assert row["key"] == hashlib.sha256(secret.encode()).hexdigest()
    assert first["key"].encode() not in row["body"]
    assert json.loads(row["body"])["prefix"] == first["prefix"]
    answered(await api.get("/me", headers={"Authorization": f"Bearer {first['key']}"}))
