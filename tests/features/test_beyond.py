"""Acceptance tests of what goes beyond the core: none of the four vendors has it.

A test a row of docs/features.md; its docstring is the criterion. What a call does beyond that is tested in
tests/routers.
"""

import asyncio
import itertools
import json
import random
import re
from datetime import datetime
from typing import Any
from unicodedata import normalize

import asyncpg
import pytest
from starlette.types import ASGIApp

from app.config import Settings
from app.database import Database, create_engine, statement_log
from app.routers import problems
from tests.conftest import Api, MakeDatabase, client_of, make_workspace, started
from tests.databases import query
from tests.features.refusals import REFUSALS, refuse
from tests.features.truth import assignments, carriers_of, fill, rows
from tests.repositories.invariants import replayed
from tests.routers.calls import (
    RANDOM_ID,
    Json,
    answered,
    call,
    field_problem,
    ids_of,
    make_audience,
    make_contacts,
    make_outsider,
    make_tag,
    make_tags,
    problem,
    slugs_of,
    state_of,
)
from tests.rows_read import rows_read


async def test_x1_outcomes_of_a_bulk(api: Api, other_api: Api) -> None:
    """A bulk says who got the tag, who had it and who is unknown; another workspace's contact is unknown."""
    contacts = await make_contacts(api, 5)
    [foreign] = await make_contacts(other_api, 1)
    tag = await make_tag(api, "VIP", contact_ids=contacts[:2])
    path = f"/tags/{tag['id']}/contacts"
    named = {"contact_ids": [*contacts, RANDOM_ID, foreign]}
    assert await call(api, "POST", path, named, on_missing="skip") == {
        "requested": 7,
        "added": 3,
        "already_assigned": 2,
        "not_found": [RANDOM_ID, foreign],
        "not_members": [],
        "contact_count": 5,
    }
    await call(api, "DELETE", path, {"contact_ids": contacts[:2]})
    assert await call(api, "DELETE", path, named) == {
        "requested": 7,
        "removed": 3,
        "not_assigned": 2,
        "not_found": [RANDOM_ID, foreign],
        "contact_count": 0,
    }
    unknown, others = [await api.post(path, json={"contact_ids": [one]}) for one in (RANDOM_ID, foreign)]
    expected = problem(unknown, 422, "unknown_ids") | {"request_id": others.headers["x-request-id"]}
    assert json.loads(json.dumps(expected).replace(RANDOM_ID, foreign)) == problem(others, 422, "unknown_ids")


async def test_x2_all_or_the_others(api: Api) -> None:
    """`on_missing=error` lists who is missing and writes nothing at all; `skip` does the others."""
    contacts = await make_contacts(api, 3)
    tag = await make_tag(api, "VIP")
    path = f"/tags/{tag['id']}/contacts"
    outsider = await make_outsider(api)
    named = {"contact_ids": [contacts[0], RANDOM_ID, contacts[1], outsider]}
    before = await state_of(api.workspace)
    for method in ("POST", "PUT"):
        for params in ({}, {"on_missing": "error"}):
            refused = answered(await api.request(method, path, json=named, params=params), 422)
            assert [(error["pointer"], error["code"]) for error in refused["errors"]] == [
                ("#/contact_ids/1", "unknown_ids"),
                ("#/contact_ids/3", "not_members"),
            ]
    assert await state_of(api.workspace) == before
    done = await call(api, "POST", path, named, on_missing="skip")
    assert (done["added"], done["not_found"], done["not_members"]) == (2, [RANDOM_ID], [outsider])
    assert await carriers_of(api, tag["id"]) == set(contacts[:2])


async def test_x3_repeats_collapse(api: Api) -> None:
    """Who is named twice counts once; the limit of 10,000 is on the names as they are sent."""
    contacts = await make_contacts(api, 2)
    tag = await make_tag(api, "VIP")
    path = f"/tags/{tag['id']}/contacts"
    done = await call(api, "POST", path, {"contact_ids": [contacts[0], contacts[0], contacts[1]]})
    assert (done["requested"], done["added"]) == (2, 2)
    assert await carriers_of(api, tag["id"]) == set(contacts)
    assert (await call(api, "POST", path, {"contact_ids": contacts * 5_000}))["requested"] == 2
    response = await api.post(path, json={"contact_ids": [*contacts * 5_000, contacts[0]]})
    field_problem(response, "#/contact_ids", "too_long")


async def test_x4_a_twin_of_delete_with_a_body(api: Api) -> None:
    """POST …/contacts/remove does what DELETE with a body does, and for neither does no body mean all."""
    contacts = await make_contacts(api, 4)
    tags = [await make_tag(api, name, contact_ids=contacts[:3]) for name in ("one", "two")]
    named = {"contact_ids": [*contacts[1:], RANDOM_ID]}
    by_delete = await call(api, "DELETE", f"/tags/{tags[0]['id']}/contacts", named)
    assert by_delete == await call(api, "POST", f"/tags/{tags[1]['id']}/contacts/remove", named)
    assert [await carriers_of(api, tag["id"]) for tag in tags] == [{contacts[0]}] * 2
    for method, suffix in [("DELETE", ""), ("POST", "/remove")]:
        path = f"/tags/{tags[0]['id']}/contacts{suffix}"
        answered(await api.request(method, path), 422)
        for content in ("{}", '{"contact_ids": []}', '{"contact_ids": null}', "[]"):
            headers = {"Content-Type": "application/json"}
            answered(await api.request(method, path, content=content, headers=headers), 422)
    assert [await carriers_of(api, tag["id"]) for tag in tags] == [{contacts[0]}] * 2


async def test_x5_add_and_remove_in_one_step(api: Api) -> None:
    """No reader ever sees neither or both while one tag is swapped for another; one tag in both lists is 422."""
    [contact] = await make_contacts(api, 1)
    path = f"/contacts/{contact}/tags"
    await call(api, "PUT", path, {"tags": ["a"]})
    await make_tag(api, "b")
    seen: list[list[str]] = []

    async def read() -> None:
        while len(seen) < 150:
            seen.append(await slugs_of(api, contact))

    async def swap() -> None:
        while len(seen) < 150:
            await call(api, "PATCH", path, {"add": ["b"], "remove": ["a"]})
            await call(api, "PATCH", path, {"add": ["a"], "remove": ["b"]})

    await asyncio.gather(read(), read(), swap())
    assert {tuple(slugs) for slugs in seen} == {("a",), ("b",)}
    before = await state_of(api.workspace)
    field_problem(await api.patch(path, json={"add": ["b", "c"], "remove": ["C"]}), "#/remove/0", "overlap")
    assert await state_of(api.workspace) == before


Filter = dict[str, Any]


def matches(condition: Filter | str, carried: set[str]) -> bool:
    """Whether who carries these slugs is meant by a filter: the model that X7 is compared with."""
    if isinstance(condition, str):
        return condition in carried
    return (
        all(matches(one, carried) for one in condition.get("all", []))
        and ("any" not in condition or any(matches(one, carried) for one in condition["any"]))
        and not any(matches(one, carried) for one in condition.get("none", []))
    )


def draw_filter(dice: random.Random, slugs: list[str], depth: int) -> Filter:
    def draw_item() -> Filter | str:
        return draw_filter(dice, slugs, depth - 1) if depth > 1 and dice.random() < 0.4 else dice.choice(slugs)

    keys = dice.sample(["all", "any", "none"], dice.randint(1, 3))
    return {key: [draw_item() for _ in range(dice.randint(1, 3))] for key in keys}


async def test_x7_nested_filters(api: Api, other_api: Api) -> None:
    """A filter of all, any and none, nested up to 3 deep, finds and counts exactly whom a brute-force model finds."""
    dice = random.Random(7)
    slugs = list("abcdef")
    contacts = await make_contacts(api, 60)
    carried = {contact: set(dice.sample(slugs, dice.randint(0, 6))) for contact in contacts}
    for slug in slugs:
        await make_tag(api, slug, contact_ids=[contact for contact in contacts if slug in carried[contact]])
    await make_tag(other_api, "a", contact_ids=await make_contacts(other_api, 3))
    for _ in range(150):
        condition = draw_filter(dice, slugs, depth=3)
        expected = sorted(contact for contact in contacts if matches(condition, carried[contact]))
        found = await call(api, "POST", "/contacts/search", {"filter": condition}, limit=1_000)
        assert ids_of(found["data"]) == expected, condition
        counted = await call(api, "POST", "/contacts/search", {"filter": condition, "count_only": True})
        assert counted == {"count": len(expected)}
    too_deep, too_many = {"all": [{"any": [{"none": [{"all": ["a"]}]}]}]}, {"any": ["a"] * 101}
    refused: list[Filter] = [{}, {"all": []}, {"any": [{}]}, too_deep, too_many]
    for condition in refused:
        answered(await api.post("/contacts/search", json={"filter": condition}), 422)
    response = await api.post("/contacts/search", json={"filter": {"none": ["a", "typo"]}})
    field_problem(response, "#/filter/none/1", "unknown_tag")


async def test_x9_contacts_by_email_or_external_id(api: Api) -> None:
    """Contacts are named by id, by email or by one's own id; two spellings of one person count once."""
    contacts = await make_contacts(api, 3)
    tag = await make_tag(api, "VIP")
    path = f"/tags/{tag['id']}/contacts"
    for named in (
        {"contact_ids": [contacts[0], contacts[0].upper(), contacts[2]]},
        {"emails": ["c0@example.com", " C0@Example.COM", "c2@example.com"]},
        {"external_ids": ["c0", "c0", "c2"]},
    ):
        assert (await call(api, "PUT", path, {"contact_ids": []}))["contact_count"] == 0
        for method, field in [("POST", "added"), ("PUT", "kept"), ("DELETE", "removed"), ("POST", "added")]:
            done = await call(api, method, path, named)
            assert (done["requested"], done[field]) == (2, 2)
        assert await carriers_of(api, tag["id"]) == {contacts[0], contacts[2]}
    field_problem(await api.post(path, json={"emails": ["a@b.c"], "external_ids": ["c0"]}), "#", "not_together")


async def test_x10_cursors(api: Api) -> None:
    """A walk by cursor shows all that stays once, whatever comes and goes; a cursor that is tampered with is 400."""
    contacts = await make_contacts(api, 30)
    tag = await make_tag(api, "VIP", contact_ids=contacts[::2])
    path = f"/tags/{tag['id']}/contacts"
    seen: list[str] = []
    touched: set[str] = set()
    cursor: dict[str, Any] = {}
    for turn in itertools.count():
        page = await call(api, "GET", path, limit=4, **cursor)
        seen += ids_of(page["data"])
        if page["pagination"]["next_cursor"] is None:
            break
        cursor = {"cursor": page["pagination"]["next_cursor"]}
        # One comes before the cursor and one behind it; one goes that is still to come, and every other time the one
        # that the cursor stands on.
        place = contacts.index(seen[-1])
        await call(api, "POST", path, {"contact_ids": [contacts[place - 1], contacts[min(place + 5, 29)]]})
        going = {contacts[min(place + 4, 29)]} | ({seen[-1]} if turn % 2 else set())
        await call(api, "DELETE", path, {"contact_ids": sorted(going)})
        touched |= going
    assert len(seen) == len(set(seen))
    assert set(contacts[::2]) - touched <= set(seen)
    for place in range(0, len(cursor["cursor"]), 5):
        text = cursor["cursor"]
        tampered = text[:place] + ("A" if text[place] != "A" else "B") + text[place + 1 :]
        problem(await api.get(path, params={"cursor": tampered}), 400, "invalid_cursor")


@pytest.mark.parametrize(
    "path",
    [
        "/contacts?limit=1",
        "/contacts?audience=*&limit=1",
        "/tags/{tag}/contacts?limit=1",
    ],
)
async def test_x10_page_10000_costs_what_page_1_costs(
    new_database: MakeDatabase, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """By cursor, page 10,000 has the database look at as few rows as page 1; by offset, at all that come before."""
    url = await new_database()
    database = Database(create_engine(url, pool_size=1))
    workspace = await make_workspace(database)
    async with started(Settings(database_url=url)) as app, client_of(app, workspace) as api:
        tag = await make_tag(api, "VIP", contact_ids=await fill(url, api, 10_000))
        # What the server does by itself sooner or later, and plans by.
        await query(url, "analyze")
        path = path.format(tag=tag["id"])
        cursor = (await call(api, "GET", f"{path}&offset=9998"))["pagination"]["next_cursor"]
        assert await rows_read(api, monkeypatch, f"{path}&offset=9999") > 9_999
        assert await rows_read(api, monkeypatch, path) < 20
        assert await rows_read(api, monkeypatch, f"{path}&cursor={cursor}") < 20
    await database.dispose()


async def test_x13_when_and_by_whom(api: Api) -> None:
    """Of an assignment is known when, by which client and through which API; adding again, even at once, keeps it."""
    contacts = await make_contacts(api, 6)
    tag = await make_tag(api, "VIP")
    path = f"/tags/{tag['id']}/contacts"
    # The callers meet on the same contacts: each is added once, by one of them.
    done = await asyncio.gather(*(call(api, "POST", path, {"contact_ids": contacts[:3]}) for _ in range(8)))
    assert sorted(one["added"] for one in done) == [0] * 7 + [3]
    sql = """
        select contact_id, assigned_at, client_id, front_end from contact_tags
        where workspace_id = :workspace_id order by contact_id
    """
    first = await rows(api, sql)
    by = {(row["client_id"], row["front_end"]) for row in first}
    assert by == {(api.workspace.principal.client_id, "native")}
    await asyncio.gather(
        *(call(api, "POST", path, {"contact_ids": contacts[:3]}) for _ in range(4)),
        *(call(api, "PUT", f"/contacts/{contact}/tags/vip") for contact in contacts[:3]),
    )
    assert await rows(api, sql) == first
    for contact in contacts[3:]:
        await call(api, "PUT", f"/contacts/{contact}/tags/vip")
    truth = await rows(api, sql)
    for moment in {row["assigned_at"] for row in truth}:
        listed = await call(api, "GET", path, assigned_after=moment.isoformat())
        assert {one["id"]: datetime.fromisoformat(one["assigned_at"]) for one in listed["data"]} == {
            str(row["contact_id"]): row["assigned_at"] for row in truth if row["assigned_at"] > moment
        }


async def test_x14_the_feed_rebuilds_the_assignments(api: Api, database_url: str) -> None:
    """The feed, read under concurrent writers and replayed from 0, leads to the table, also where one commits late."""
    dice = random.Random(14)
    contacts = await make_contacts(api, 8)
    late_contact, late_tag = contacts.pop(), await make_tag(api, "late")
    tags = [tag["id"] for tag in await make_tags(api, *"abcd")]
    feed: list[Json] = []
    cursor = 0

    async def poll() -> None:
        nonlocal cursor
        has_more = True
        while has_more:
            page = await call(api, "GET", "/events", after=cursor, limit=7)
            feed.extend(page["data"])
            cursor, has_more = page["pagination"]["next_cursor"], page["pagination"]["has_more"]

    async def write() -> None:
        for _ in range(25):
            contact, some = dice.choice(contacts), dice.sample("abcdef", 3)
            method, path, body = dice.choice(
                [
                    ("POST", f"/contacts/{contact}/tags", {"tags": some}),
                    ("PUT", f"/contacts/{contact}/tags", {"tags": some}),
                    ("PATCH", f"/contacts/{contact}/tags", {"add": some[:1], "remove": some[1:]}),
                    ("PUT", f"/tags/{dice.choice(tags)}/contacts?on_missing=skip", {"contact_ids": contacts[:4]}),
                    ("DELETE", f"/tags/{dice.choice(tags)}", None),
                    ("DELETE", f"/contacts/{contact}/audiences/newsletter", None),
                    ("PUT", f"/contacts/{contact}/audiences/newsletter", {}),
                ]
            )
            response = await api.request(method, path, json=body)
            # What one writer takes away is missing to another.
            assert response.status_code < 500, response.text

    late = await asyncpg.connect(database_url)
    committing = late.transaction()
    await committing.start()
    for statement in _LATE:
        await late.execute(statement, api.workspace.principal.workspace_id, late_tag["id"], late_contact)
    writers = [asyncio.create_task(write()) for _ in range(6)]
    while not all(writer.done() for writer in writers):
        await poll()
    await asyncio.gather(*writers)
    await poll()
    # It wrote its event before all of them, and the reader has gone past them when it commits.
    read_before = len(feed)
    await committing.commit()
    await late.close()
    await poll()
    [event] = feed[read_before:]
    assert (event["tag_id"], event["payload"]["added"]) == (late_tag["id"], [late_contact])
    assert [one["position"] for one in feed] == list(range(1, len(feed) + 1))
    assert replayed(feed) == await assignments(api)
    # Whoever reads later reads the same.
    assert (await call(api, "GET", "/events", after=0, limit=1_000))["data"] == feed[:1_000]
    types = ["tag.created", "contact.left"]
    some = await call(api, "GET", "/events", after=0, types=types, limit=1_000)
    assert some["data"] == [one for one in feed if one["type"] in types]


# An assignment and its event, as the service writes them.
_LATE = (
    """
    insert into contact_tags (workspace_id, tag_id, contact_id, client_id, front_end)
    values ($1, cast($2 as text)::uuid, cast($3 as text)::uuid, $1, 'test')
    """,
    """
    insert into events (workspace_id, type, tag_id, payload, front_end, request_id)
    values ($1, 'tag.contacts_changed', cast($2 as text)::uuid,
        jsonb_build_object('added', jsonb_build_array(cast($3 as text)), 'removed', '[]'::jsonb), 'test', 'test')
    """,
)


async def test_x20_safe_delete(api: Api) -> None:
    """`if_unused=true` refuses with 409 and the number of contacts as long as there are any, and else deletes."""
    contacts = await make_contacts(api, 3)
    tag = await make_tag(api, "VIP", contact_ids=contacts)
    before = await state_of(api.workspace)
    response = await api.delete(f"/tags/{tag['id']}", params={"if_unused": True})
    assert problem(response, 409, "tag_in_use")["contact_count"] == 3
    assert await state_of(api.workspace) == before
    await call(api, "PUT", f"/tags/{tag['id']}/contacts", {"contact_ids": []})
    await call(api, "DELETE", f"/tags/{tag['id']}", status=204, if_unused=True)
    problem(await api.get(f"/tags/{tag['id']}"), 404, "not_found")


async def test_x21_no_update_is_lost(api: Api) -> None:
    """Of two writers with one ETag, on a tag or a set, one is done; the other is told (412), and writes nothing."""
    [contact] = await make_contacts(api, 1)
    tag = await make_tag(api, "VIP")
    calls: list[tuple[str, str, list[Json]]] = [
        ("PATCH", f"/tags/{tag['id']}", [{"color": "#111111"}, {"color": "#222222"}, {"color": "#333333"}]),
        ("PUT", f"/contacts/{contact}/tags", [{"tags": ["VIP", "Ours"]}, {"tags": ["VIP", "Theirs"]}, {"tags": []}]),
    ]
    for method, path, [*bodies, first] in calls:
        for _ in range(10):
            await call(api, method, path, first)
            condition = {"If-Match": (await api.get(path)).headers["etag"]}
            answers = await asyncio.gather(
                *(api.request(method, path, json=body, headers=condition) for body in bodies)
            )
            assert sorted(answer.status_code for answer in answers) == [200, 412]
            [won] = [answer for answer in answers if answer.status_code == 200]
            after = await api.get(path)
            assert after.headers["etag"] == won.headers["etag"]
            assert answered(after).items() <= answered(won).items()
            before = await state_of(api.workspace)
            for body in bodies:
                late = await api.request(method, path, json=body, headers=condition)
                problem(late, 412, "precondition_failed")
            assert await state_of(api.workspace) == before


async def test_x21_no_copy_is_stale(api: Api) -> None:
    """304 is answered while the name and the count are as they were, and never after."""
    contacts = await make_contacts(api, 2)
    tag = await make_tag(api, "VIP", contact_ids=contacts[:1])
    paths = [f"/tags/{tag['id']}", f"/contacts/{contacts[0]}/tags"]

    async def read(path: str, etag: str = '"none"') -> tuple[str, str]:
        response = await api.get(path, headers={"If-None-Match": etag})
        assert response.status_code in {200, 304}
        return response.headers["etag"], response.text

    for path in paths:
        etag, text = await read(path)
        assert await read(path, etag) == (etag, "")
        await call(api, "PATCH", paths[0], {"name": f"Renamed {path.split('/')[1]}"})
        renamed, text_after = await read(path, etag)
        assert (renamed != etag, "Renamed" in text_after, text_after != text) == (True, True, True)
        for contact, method in ((contacts[1], "POST"), (contacts[0], "DELETE")):
            await call(api, method, f"{paths[0]}/contacts", {"contact_ids": [contact]})
            if path == paths[0] or contact == contacts[0]:
                etag, text = await read(path, renamed)
                assert text not in {"", text_after}
                renamed, text_after = etag, text
        await call(api, "PUT", f"{paths[0]}/contacts", {"contact_ids": contacts[:1]})


async def test_x22_names_and_slugs(api: Api, other_api: Api) -> None:
    """Names are one in any case and normal form, symbols tell them apart, and every name has a slug that stays."""
    tag = await make_tag(api, normalize("NFC", "Café"))
    for same in (normalize("NFD", "Café"), " CAFÉ ", normalize("NFD", "café")):
        assert problem(await api.post("/tags", json={"name": same}), 409, "name_taken")["existing_id"] == tag["id"]
    for names in (["C", "C++", "C#"], ["日本語", "🎉"]):
        slugs = [one["slug"] for one in await make_tags(api, *names)]
        assert all(slugs)
        assert len(set(slugs)) == len(names)
        assert [one["slug"] for one in await make_tags(other_api, *names)] == slugs
    renamed = await call(api, "PATCH", f"/tags/{tag['id']}", {"name": "🎈"})
    assert renamed["slug"] == tag["slug"] == "cafe"


# Members that a problem has beside those that all have.
MEMBERS = {"type", "title", "status", "detail", "code", "request_id"}
MORE_MEMBERS = {
    "name_taken": {"existing_id"},
    "slug_taken": {"existing_id"},
    "email_taken": {"existing_id"},
    "external_id_taken": {"existing_id"},
    "secondary_id_taken": {"existing_id"},
    "contact_mismatch": {"email_contact_id", "external_id_contact_id"},
    "tag_in_use": {"contact_count"},
    "audience_in_use": {"tags"},
    "insufficient_scope": {"missing_scopes"},
}
# Words of the database and of what is below the API.
INSIDES = re.compile(
    r"\bselect\b.+\bfrom\b|\binsert into\b|\bdelete from\b|\$\d|::|\b(pk|fk|uq|ix|ck)_|_key\b|constraint|relation"
    r"|contact_tags|tag_counts|audience_members|workspace_id|postgres|asyncpg|sqlalchemy|pydantic|traceback",
    re.IGNORECASE,
)


# What takes another service, or a slow caller. Each has tests of its own.
UNDER_OTHER_SETTINGS = {(408, "slow_body"), (409, "still_running"), (429, "rate_limited")}


async def test_x28_problem_documents(api: Api, other_api: Api) -> None:
    """Every 4xx is a problem document of one form: stable code, places, request id; no SQL, nothing of others."""
    answers = await refuse(api, other_api)
    for case in REFUSALS:
        answer = answers[case.name]
        document = problem(answer, case.status, case.code)
        more = {"errors"} if case.pointers else MORE_MEMBERS.get(case.code, set())
        assert set(document) == MEMBERS | more, case
        assert document["type"] == f"urn:polytag:problem:{case.code}"
        assert document["title"]
        assert document["detail"]
        for error in document.get("errors", []):
            assert set(error) == {"pointer", "code", "detail"}
            assert re.fullmatch(r"#(/[^/]+)*|\?[a-z_.0-9]*|path:slug|header:If-Match", error["pointer"])
        assert not INSIDES.search(answer.text), answer.text
        assert "ecret" not in answer.text.replace("secret@example.com", "")
        assert other_api.workspace.principal.workspace not in answer.text
    assert len({answer.headers["x-request-id"] for answer in answers.values()}) == len(REFUSALS)
    # None of the service's own errors is left out.
    refused = {(status, code) for status, code, _ in problems._TABLE.values() if 400 <= status < 500}
    met = {(case.status, case.code) for case in REFUSALS} | UNDER_OTHER_SETTINGS
    assert {one for one in refused if one[1]} <= met
    assert {status for status, _ in refused} == {status for status, _ in met}


async def test_x31_expanded_tags(api: Api, app: ASGIApp, database: Database) -> None:
    """`expand=tags` shows the tags that GET /contacts/{id}/tags does, by as many statements for 500 as for 1."""
    contacts = await make_contacts(api, 500)
    await make_audience(api, "courses", contacts[0])
    await make_tag(api, "elsewhere", audience="courses", contact_ids=contacts[:1])
    for size in (2, 3, 5):
        await make_tag(api, f"every {size}", contact_ids=contacts[::size])

    async def listed(limit: int) -> tuple[list[Json], list[str]]:
        ran: list[str] = []
        token = statement_log.set(ran)
        try:
            page = await call(api, "GET", "/contacts", expand="tags", limit=limit)
        finally:
            statement_log.reset(token)
        assert len(page["data"]) == limit
        return page["data"], ran

    found, many = await listed(500)
    assert (await listed(1))[1] == many
    assert many
    carried = await assignments(api)
    for place, contact in enumerate(found):
        assert len(contact["tags"]) == sum(contact["id"] == one for _, one in carried) - (place == 0)
    for contact in found[:20]:
        assert contact["tags"] == (await call(api, "GET", f"/contacts/{contact['id']}/tags"))["data"]
    plain = await call(api, "GET", "/contacts", limit=500)
    assert plain["data"] == [{name: contact[name] for name in contact if name != "tags"} for contact in found]
    async with client_of(app, await make_workspace(database, scopes=("contacts:read",))) as reader:
        document = problem(await reader.get("/contacts?expand=tags"), 403, "insufficient_scope")
        assert document["missing_scopes"] == ["tags:read"]


async def test_x32_find_or_create(api: Api) -> None:
    """Of 100 names, 50 of which are there, 20 callers at once make each once; all get the same ids; one made each."""
    dice = random.Random(32)
    names = [f"t{n}" for n in range(100)]
    there = {tag["name"]: tag["id"] for tag in await make_tags(api, *names[:50])}

    async def ask() -> dict[str, tuple[str, str]]:
        asked = dice.sample(names, 100)
        done = await call(api, "POST", "/tags/batch", {"tags": [{"name": name} for name in asked]})
        assert [one["tag"]["name"] for one in done["data"]] == asked
        return {one["tag"]["name"]: (one["tag"]["id"], one["outcome"]) for one in done["data"]}

    answers = await asyncio.gather(*(ask() for _ in range(20)))
    kept = await rows(api, "select name, id from tags where workspace_id = :workspace_id")
    ids = {row["name"]: str(row["id"]) for row in kept}
    assert len(kept) == len(ids) == 100
    assert there.items() <= ids.items()
    for answer in answers:
        assert {name: tag_id for name, (tag_id, _) in answer.items()} == ids
    makers = {name: sum(answer[name][1] == "created" for answer in answers) for name in names}
    assert makers == {name: 0 if name in there else 1 for name in names}


async def test_x37_the_vendors_apis(api: Api) -> None:
    """A client of each vendor changes its base URL and its key, and gets the documented shape; all see one tag."""
    contact = await call(api, "POST", "/contacts", {"email": "ada@example.com"}, status=201)
    token = {"Authorization": api.headers["Authorization"].replace("Bearer", "Token")}

    topmail = {"name": "Beta Tester", "color": "#10b981", "description": "Users in the beta program"}
    made = answered(await api.post("/topmail/api/v1/tags", json=topmail), 201)
    assert topmail.items() <= made["data"].items()

    listed = answered(await api.get("/buttondown/v1/tags", headers=token))
    assert (listed["count"], listed["results"][0]["name"]) == (1, "Beta Tester")

    tag = await call(api, "GET", f"/tags/{made['data']['id']}")
    sendportal = f"/sendportal/api/v1/subscribers/{contact['number']}/tags"
    [added] = answered(await api.post(sendportal, json={"tags": [tag["number"]]}))["data"]
    assert (added["id"], added["name"], "update_at" in added) == (tag["number"], "Beta Tester", True)

    datamailer = f"/datamailer/api/contacts/{contact['number']}/tags/data-engineering"
    scope = {"audience": "newsletter", "client": "web"}
    status = answered(await api.post(datamailer, json=scope))
    assert (status["email"], status["tags"]) == ("ada@example.com", ["beta-tester", "data-engineering"])

    assert await slugs_of(api, contact["id"]) == status["tags"]
