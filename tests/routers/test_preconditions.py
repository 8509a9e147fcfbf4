"""ETag, If-None-Match and If-Match: what a state is known by, copies that are never stale, and updates that are never
lost.
"""

import asyncio
import itertools
import random
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID

import httpx
import pytest

from app.database import statement_log
from app.frontend import Route, terms_of
from app.openapi import routes_of
from app.repositories.contact_tags import ContactTagRepository, etag_of
from app.routers import NATIVE
from app.routers.preconditions import CONDITION_MAX_LENGTH, EntityTags, parse_entity_tags
from tests.conftest import Api
from tests.routers.calls import (
    RANDOM_ID,
    Json,
    answered,
    call,
    field_problem,
    make_audience,
    make_contacts,
    make_outsider,
    make_tag,
    make_tags,
    problem,
    slugs_of,
    state_of,
)

REVALIDATED = "private, no-cache"


async def etag_at(api: Api, path: str, **params: str) -> str:
    response = await api.get(path, params=params)
    assert response.status_code == 200, response.text
    assert response.headers["cache-control"] == REVALIDATED
    return response.headers["etag"]


async def send(api: Api, method: str, path: str, body: object = None, **headers: str) -> httpx.Response:
    return await api.request(
        method, path, json=body, headers={name.replace("_", "-"): headers[name] for name in headers}
    )


# How entity tags are written.


@pytest.mark.parametrize(
    ("text", "strong", "weak"),
    [
        ('"3-12"', ["3-12"], []),
        ('""', [""], []),
        ('W/"3-12"', [], ["3-12"]),
        ('"a", W/"b" ,"c"', ["a", "c"], ["b"]),
        (' \t"a"\t', ["a"], []),
        # A comma in quotes is part of it; between others it may stand alone (RFC 9110, 5.6.1).
        ('"a,b"', ["a,b"], []),
        (', ,"a",,"b",', ["a", "b"], []),
        ('"*"', ["*"], []),
        ('"é"', ["é"], []),
        ('"W/"', ["W/"], []),
        # As clients write that take the quotes for JSON's.
        ("3-12", ["3-12"], []),
        ("W/3-12", [], ["3-12"]),
        ('3-12, "3-13"', ["3-12", "3-13"], []),
    ],
)
def test_entity_tags(text: str, strong: list[str], weak: list[str]) -> None:
    assert parse_entity_tags(text) == EntityTags(frozenset(strong), frozenset(weak))


def test_any_entity_tag() -> None:
    assert parse_entity_tags(" * ") == EntityTags(is_any=True)


MALFORMED = ["", " ", ",", '"', '"a', 'a"', '"a"b', '"a" "b"', "a b", '*, "a"', "**x, *", 'w/"a"', '"a b"', '"\x7f"']


@pytest.mark.parametrize("text", MALFORMED)
def test_what_names_no_entity_tags(text: str) -> None:
    with pytest.raises(ValueError, match="must"):
        parse_entity_tags(text)


@pytest.mark.parametrize("piece", [",", " ", '"a",', '"', "a", 'W/"', "W/", " ,\t", "*"])
def test_long_conditions_are_cheap(piece: str) -> None:
    """Reading one takes less than a look-up in the database does, by far, and what is too long is not read."""
    for text in (piece * (CONDITION_MAX_LENGTH // len(piece)), piece * 60_000):
        started = time.perf_counter()
        for _ in range(10):
            try:
                parse_entity_tags(text)
            except ValueError:
                continue
        # Some 1 ms each; looking back would take a hundred times as long.
        assert time.thread_time() - started < 0.5


# A tag.


async def test_a_tag_is_known_by_its_version_and_count(api: Api) -> None:
    contacts = await make_contacts(api, 3)
    made = await api.post("/tags", json={"name": "VIP", "contact_ids": contacts[:2]})
    assert (made.status_code, made.headers["etag"]) == (201, '"1-2"')
    assert made.headers["cache-control"] == "no-store"
    path = made.headers["location"]
    assert await etag_at(api, path) == '"1-2"'
    for on_conflict in ("return", "update"):
        found = await api.post("/tags", json={"name": "VIP"}, params={"on_conflict": on_conflict})
        assert (found.status_code, found.headers["etag"]) == (200, '"1-2"')
    changed = await send(api, "PATCH", path, {"color": "#000000"})
    assert (changed.status_code, changed.headers["etag"]) == (200, '"2-2"')
    await call(api, "POST", f"{path}/contacts", {"contact_ids": contacts})
    assert await etag_at(api, path) == '"2-3"'


async def test_a_copy_of_a_tag_that_is_still_true(api: Api) -> None:
    path = f"/tags/{(await make_tag(api, 'VIP'))['id']}"
    etag = await etag_at(api, path)
    for condition in (etag, f"W/{etag}", f'"x", {etag}', "*", etag.strip('"')):
        for method in ("GET", "HEAD"):
            response = await send(api, method, path, If_None_Match=condition)
            assert (response.status_code, response.content) == (304, b"")
            assert (response.headers["etag"], response.headers["cache-control"]) == (etag, REVALIDATED)
            assert "content-type" not in response.headers
            assert "content-length" not in response.headers
    # Two lines of a header are one list.
    lines = [("If-None-Match", '"x"'), ("If-None-Match", etag)]
    assert (await api.get(path, headers=lines)).status_code == 304


@pytest.mark.parametrize("condition", ['"x"', '"1"', '"1-1"', '"01-0"', *MALFORMED, '"1-0",' * 10_000])
async def test_a_condition_that_names_no_copy_is_answered_in_full(api: Api, condition: str) -> None:
    tag = await make_tag(api, "VIP")
    headers = [(b"If-None-Match", condition.encode("latin-1"))]
    assert answered(await api.get(f"/tags/{tag['id']}", headers=headers)) == tag


# What a call changes of a tag, of its number of contacts, or of what a contact carries. None undoes one before it.
Step = tuple[str, str, Any]

TAG_STEPS: list[Step] = [
    ("PATCH", "/tags/{tag}", {"name": "Very"}),
    ("PATCH", "/tags/{tag}", {"color": "#000000"}),
    ("PATCH", "/tags/{tag}", {"description": "One"}),
    ("PATCH", "/tags/{tag}", {"description": None}),
    ("PATCH", "/tags/{tag}", {"public_description": "Two"}),
    ("PATCH", "/tags/{tag}", {"subscriber_editable": True}),
    ("PATCH", "/tags/{tag}", {"secondary_id": 99}),
    ("POST", "/tags?on_conflict=update", {"name": "very", "color": "#111111"}),
    ("PATCH", "/topmail/api/v1/tags/{tag}", {"name": "Most"}),
]
COUNT_STEPS: list[Step] = [
    ("PUT", "/tags/{tag}/contacts", {"contact_ids": ["{contact}", "{second}", "{third}"]}),
    ("POST", "/tags/{tag}/contacts/remove", {"contact_ids": ["{second}"]}),
    ("PATCH", "/tags/{tag}", {"description": "Three"}),
    ("POST", "/tags/{tag}/contacts", {"contact_ids": ["{second}"]}),
    ("PATCH", "/tags/{tag}", {"description": "Four"}),
    ("DELETE", "/contacts/{second}/audiences/newsletter", None),
    ("DELETE", "/contacts/{third}", None),
]
SET_STEPS: list[Step] = [
    ("POST", "/tags/{other}/contacts", {"contact_ids": ["{contact}"]}),
    ("DELETE", "/tags/{tag}/contacts", {"contact_ids": ["{contact}"]}),
    ("PUT", "/tags/{tag}/contacts", {"contact_ids": ["{contact}"]}),
    # Away and back: the same tags, but not since the same time.
    ("PUT", "/contacts/{contact}/tags", {"tags": []}),
    ("PUT", "/contacts/{contact}/tags", {"tag_ids": ["{tag}", "{other}"]}),
    ("PATCH", "/contacts/{contact}/tags", {"add": ["New"], "remove_ids": ["{other}"]}),
    ("DELETE", "/contacts/{contact}/tags/new", None),
    ("PUT", "/contacts/{contact}/tags/new", None),
    ("DELETE", "/tags/{tag}", None),
]


def filled(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, str):
        return value.format(**names)
    if isinstance(value, list):
        return [filled(one, names) for one in value]
    return {key: filled(one, names) for key, one in value.items()} if isinstance(value, dict) else value


@pytest.mark.parametrize(
    ("path", "steps"),
    [
        ("/tags/{tag}", TAG_STEPS + COUNT_STEPS),
        ("/contacts/{contact}/tags", TAG_STEPS + SET_STEPS),
        ("/contacts/{contact}/tags?audience=*", TAG_STEPS + SET_STEPS),
    ],
)
async def test_a_copy_is_never_stale(api: Api, path: str, steps: list[Step]) -> None:
    """Whatever changes, what was read before any of it is not taken for the truth again; what is read now, is."""
    contacts = await make_contacts(api, 3)
    tags = await make_tags(api, "VIP", "Other")
    await call(api, "PUT", f"/contacts/{contacts[0]}/tags", {"tags": ["VIP"]})
    names = {
        "tag": tags[0]["id"],
        "other": tags[1]["id"],
        "contact": contacts[0],
        "second": contacts[1],
        "third": contacts[2],
    }
    path = filled(path, names)
    response = await api.get(path)
    seen: dict[str, Any] = {response.headers["etag"]: answered(response)}
    for step in steps:
        method, where, body = filled(step[0], names), filled(step[1], names), filled(step[2], names)
        assert (await api.request(method, where, json=body)).is_success, step
        response = await send(api, "GET", path, If_None_Match=", ".join(seen))
        shown = answered(response)
        assert shown not in seen.values(), step
        assert (await send(api, "GET", path, If_None_Match=response.headers["etag"])).status_code == 304
        seen[response.headers["etag"]] = shown
    assert len(seen) == len(steps) + 1


async def test_copies_are_never_stale_while_others_write(api: Api) -> None:
    """A reader who keeps copies never sees what was no longer true when it asked."""
    contacts = await make_contacts(api, 40)
    tag = await make_tag(api, "VIP")
    await call(api, "PUT", f"/contacts/{contacts[0]}/tags", {"tags": ["VIP"]})
    # Of each figure, what the last finished and the last begun change make it.
    finished, begun = {"description": 0, "contact_count": 1}, {"description": 0, "contact_count": 1}
    await call(api, "PATCH", f"/tags/{tag['id']}", {"description": "0"})
    not_modified = 0

    async def describe() -> None:
        for n in range(1, 40):
            begun["description"] = n
            await call(api, "PATCH", f"/tags/{tag['id']}", {"description": str(n)})
            finished["description"] = n

    async def assign() -> None:
        for n, contact in enumerate(contacts[1:], start=2):
            begun["contact_count"] = n
            await call(api, "POST", f"/tags/{tag['id']}/contacts", {"contact_ids": [contact]})
            finished["contact_count"] = n

    writers = [asyncio.create_task(describe()), asyncio.create_task(assign())]

    async def read(path: str, shown: Callable[[Any], Json]) -> None:
        nonlocal not_modified
        copies: dict[str, Any] = {}
        while not all(writer.done() for writer in writers):
            at_least = dict(finished)
            # More than one copy, so that an old one could be mistaken for the truth.
            response = await send(api, "GET", path, If_None_Match=", ".join(list(copies)[-20:]) or '"none"')
            if response.status_code == 304:
                not_modified += 1
            else:
                copies[response.headers["etag"]] = answered(response)
            item = shown(copies[response.headers["etag"]])
            assert at_least["description"] <= int(item["description"]) <= begun["description"]
            if "contact_count" in item:
                assert at_least["contact_count"] <= item["contact_count"] <= begun["contact_count"]

    await asyncio.gather(
        *(read(f"/tags/{tag['id']}", lambda shown: shown) for _ in range(2)),
        *(read(f"/contacts/{contacts[0]}/tags", lambda shown: shown["data"][0]) for _ in range(3)),
        *writers,
    )
    assert not_modified


async def test_changes_depend_on_the_version_of_a_tag(api: Api) -> None:
    """On nothing else: who counts contacts is not in the way of who renames."""
    contacts = await make_contacts(api, 2)
    made = await api.post("/tags", json={"name": "VIP"})
    path, etag = made.headers["location"], made.headers["etag"]
    await call(api, "POST", f"{path}/contacts", {"contact_ids": contacts})
    renamed = await send(api, "PATCH", path, {"name": "Very"}, If_Match=etag)
    assert (renamed.status_code, renamed.headers["etag"]) == (200, '"2-2"')
    before = await state_of(api.workspace)
    for method, body in (("PATCH", {"name": "Other"}), ("PATCH", {"name": "Very"}), ("DELETE", None)):
        for stale in (etag, '"1-2"', '"02-2"', 'W/"2-2", "1-2"', '"3-2", "x", "-", ""'):
            document = problem(await send(api, method, path, body, If_Match=stale), 412, "precondition_failed")
            assert "Nothing was written" in document["detail"]
        # As a proxy has it that compresses. To say 412 would send the caller in circles.
        document = problem(await send(api, method, path, body, If_Match='W/"2-2"'), 422, "invalid_value")
        assert "without W/" in document["detail"]
    assert await state_of(api.workspace) == before
    # From the answer's own field, where a client does not show headers; and as Apache writes it that has compressed.
    for condition in ('"2"', '"2-2-gzip"', "*", '"1-0", "2-0"', "2-2"):
        assert (await send(api, "PATCH", path, {}, If_Match=condition)).headers["etag"] == '"2-2"'
    lines = [("If-Match", '"1-0"'), ("If-Match", '"2-0"')]
    assert (await api.patch(path, json={}, headers=lines)).status_code == 200
    answered(await send(api, "DELETE", path, If_Match='"2-0"'), 204)


async def test_a_stale_delete_comes_before_a_use(api: Api) -> None:
    [contact] = await make_contacts(api, 1)
    tag = await make_tag(api, "VIP", contact_ids=[contact])
    path = f"/tags/{tag['id']}?if_unused=true"
    problem(await send(api, "DELETE", path, If_Match='"2-1"'), 412, "precondition_failed")
    problem(await send(api, "DELETE", path, If_Match='"1-1"'), 409, "tag_in_use")


async def test_what_is_not_there_is_404_by_any_condition(api: Api, other_api: Api) -> None:
    foreign = await make_tag(other_api, "VIP")
    [foreign_contact] = await make_contacts(other_api, 1)
    outsider = await make_outsider(api)
    for condition in ("*", '"1-0"', '"x"'):
        for tag_id in (RANDOM_ID, foreign["id"]):
            for method, body in (("PATCH", {"name": "x"}), ("DELETE", None)):
                problem(await send(api, method, f"/tags/{tag_id}", body, If_Match=condition), 404, "not_found")
            problem(await send(api, "GET", f"/tags/{tag_id}", If_None_Match=condition), 404, "not_found")
        for contact in (RANDOM_ID, foreign_contact, outsider):
            path = f"/contacts/{contact}/tags"
            problem(await send(api, "PUT", path, {"tags": ["a"]}, If_Match=condition), 404, "not_found")
            problem(await send(api, "DELETE", f"{path}/a", If_Match=condition), 404, "not_found")
            problem(await send(api, "GET", path, If_None_Match=condition), 404, "not_found")


# A contact's set of tags.

CHANGES: list[tuple[str, str, Json | None]] = [
    ("PUT", "", {"tags": ["c"]}),
    ("PUT", "", {"tags": ["a", "New in a list"]}),
    ("PUT", "", {"tags": []}),
    ("POST", "", {"tags": ["d"]}),
    ("POST", "", {"tags": ["New"]}),
    ("PATCH", "", {"add": ["e"], "remove": ["a"]}),
    ("PATCH", "", {"add": ["f"]}),
    ("PATCH", "", {"remove": ["b"]}),
    ("DELETE", "", {"tags": ["b"]}),
    ("PUT", "/g", None),
    ("PUT", "/new-by-slug", None),
    ("DELETE", "/a", None),
]
changes = pytest.mark.parametrize("change", CHANGES, ids=lambda change: f"{change[0]} {change[1]}{change[2] or ''}")


async def begin(api: Api) -> tuple[str, str]:
    """A contact that carries a and b, of tags up to g: the path of its tags, and their ETag."""
    [contact] = await make_contacts(api, 1)
    await make_tags(api, *"abcdefg")
    path = f"/contacts/{contact}/tags"
    await call(api, "PUT", path, {"tags": ["a", "b"]})
    return path, await etag_at(api, path)


@changes
async def test_changes_of_a_set_can_be_chained(api: Api, change: tuple[str, str, Json | None]) -> None:
    """Each answer has the ETag of the list it shows; with it the next one is done, and with an older one it is not."""
    path, etag = await begin(api)
    method, suffix, body = change
    done = await send(api, method, path + suffix, body, If_Match=etag)
    shown = answered(done)["data"]
    assert done.headers["etag"] == await etag_at(api, path) != etag
    assert (await call(api, "GET", path))["data"] == shown
    before = await state_of(api.workspace)
    for stale in (etag, f"W/{done.headers['etag']}, {etag}", '"x"'):
        for one in ("PUT", {"tags": ["z"]}), ("POST", {"tags": ["z"]}), ("PATCH", {"add": ["z"], "remove": ["b"]}):
            problem(await send(api, one[0], path, one[1], If_Match=stale), 412, "precondition_failed")
        problem(await send(api, "DELETE", path, {"tags": ["a", "c"]}, If_Match=stale), 412, "precondition_failed")
        problem(await send(api, "PUT", f"{path}/z", If_Match=stale), 412, "precondition_failed")
        problem(await send(api, "DELETE", f"{path}/a", If_Match=stale), 412, "precondition_failed")
    assert await state_of(api.workspace) == before
    for condition in (done.headers["etag"], "*", f'"x", {done.headers["etag"]}'):
        again = await send(api, "PUT", path, {"tag_ids": [tag["id"] for tag in shown]}, If_Match=condition)
        assert (answered(again)["data"], again.headers["etag"]) == (shown, done.headers["etag"])


@changes
async def test_a_stale_change_makes_no_tag(api: Api, change: tuple[str, str, Json | None]) -> None:
    path, etag = await begin(api)
    await call(api, "POST", path, {"tags": ["g"]})
    before = await state_of(api.workspace)
    method, suffix, body = change
    document = problem(await send(api, method, path + suffix, body, If_Match=etag), 412, "precondition_failed")
    assert "contact's set of tags" in document["detail"]
    assert await state_of(api.workspace) == before


async def test_a_set_is_known_by_its_tags(api: Api) -> None:
    """By which they are, not only by their versions and times, which those that came in one call share."""
    path, _ = await begin(api)
    a, b = await api.workspace.repository(ContactTagRepository).list(UUID(path.split("/")[2]))
    assert (a.version, a.assigned_at) == (b.version, b.assigned_at)
    sets = [[], [a], [b], [a, b], [replace(a, version=2), b], [a, replace(b, version=2)]]
    assert len({etag_of(tags) for tags in sets}) == len(sets)


async def test_sets_of_other_audiences_do_not_count(api: Api) -> None:
    path, etag = await begin(api)
    contact = path.split("/")[2]
    await make_audience(api, "courses", contact)
    empty = await etag_at(api, path, audience="courses")
    await call(api, "PUT", path, {"tags": ["x"]}, audience="courses")
    assert await etag_at(api, path) == etag
    problem(
        await send(api, "PUT", f"{path}?audience=courses", {"tags": ["y"]}, If_Match=empty), 412, "precondition_failed"
    )
    everywhere = await etag_at(api, path, audience="*")
    assert everywhere != etag
    problem(await send(api, "PUT", path, {"tags": ["a"]}, If_Match=everywhere), 412, "precondition_failed")
    changed = await send(api, "PUT", path, {"tags": ["a"]}, If_Match=etag)
    assert [tag["slug"] for tag in answered(changed)["data"]] == ["a"]
    assert await slugs_of(api, contact, "courses") == ["x"]


async def test_a_condition_comes_before_what_a_body_names(api: Api) -> None:
    """Who holds an old list is told so, rather than that a tag of it is gone. Who does not, is told that."""
    path, etag = await begin(api)
    unknown = {"tag_ids": [RANDOM_ID]}
    field_problem(await send(api, "PUT", path, unknown, If_Match=etag), "#/tag_ids/0", "unknown_ids")
    overlap = {"add": ["a"], "remove": ["a"]}
    field_problem(await send(api, "PATCH", path, overlap, If_Match=etag), "#/remove/0", "overlap")
    missing = await send(api, "POST", f"{path}?create_missing=false", {"tags": ["z"]}, If_Match=etag)
    field_problem(missing, "#/tags/0", "unknown_tag")
    for body in (unknown, {"tags": ["z"]}):
        response = await send(api, "PUT", f"{path}?create_missing=false", body, If_Match='"x"')
        problem(response, 412, "precondition_failed")


async def test_one_tag_of_a_contact_has_no_etag(api: Api) -> None:
    """What a change below depends on is the set, so an ETag of the one would be of no use."""
    path, etag = await begin(api)
    response = await send(api, "GET", f"{path}/a", If_None_Match="*")
    assert response.status_code == 200
    assert "etag" not in response.headers
    answered(await send(api, "DELETE", f"{path}/a", If_Match=etag))


# Two writers.


async def race(api: Api, etag: str, *calls: tuple[str, str, Any]) -> list[httpx.Response]:
    """Calls at once that depend on one state. One is done, and the others are told that they came too late."""
    answers = await asyncio.gather(*(send(api, method, path, body, If_Match=etag) for method, path, body in calls))
    won = [answer for answer in answers if answer.is_success]
    assert len(won) == 1, [answer.text for answer in answers]
    for answer in answers:
        if not answer.is_success:
            problem(answer, 412, "precondition_failed")
    return won


async def test_two_writers_of_a_tag(api: Api) -> None:
    path = f"/tags/{(await make_tag(api, 'VIP'))['id']}"
    for n in range(20):
        before = await api.get(path)
        bodies: list[Json] = [{"color": f"#{n:03}aaa"}, {"description": f"Round {n}"}, {"name": f"VIP {n}"}]
        [won] = await race(api, before.headers["etag"], *(("PATCH", path, body) for body in bodies))
        after = await api.get(path)
        assert (after.headers["etag"], answered(after)) == (won.headers["etag"], won.json())
        changed = {field for field in ("color", "description", "name") if answered(before)[field] != won.json()[field]}
        assert len(changed) == 1


async def test_one_deletes_a_tag_while_another_changes_it(api: Api) -> None:
    """Whoever comes second is told: that it was changed, or that it is gone."""
    for _ in range(10):
        path = f"/tags/{(await make_tag(api, 'VIP'))['id']}"
        deleted, changed = await asyncio.gather(
            send(api, "DELETE", path, If_Match='"1-0"'), send(api, "PATCH", path, {"name": "Very"}, If_Match='"1-0"')
        )
        assert (deleted.status_code, changed.status_code) in {(204, 404), (412, 200)}
        if not deleted.is_success:
            answered(await send(api, "DELETE", path, If_Match=changed.headers["etag"]), 204)


async def test_two_writers_of_a_set(api: Api) -> None:
    """By whichever calls: the state afterwards is the winner's, and it was told that."""
    path, _ = await begin(api)
    pairs = list(itertools.combinations_with_replacement(CHANGES, 2))
    random.shuffle(pairs)
    for pair in pairs * 2:
        etag = answered_etag(await api.put(path, json={"tags": ["a", "b"]}))
        [won] = await race(api, etag, *((method, path + suffix, body) for method, suffix, body in pair))
        after = await api.get(path)
        assert answered(after)["data"] == won.json()["data"]
        assert after.headers["etag"] == won.headers["etag"]


def answered_etag(response: httpx.Response) -> str:
    answered(response)
    return response.headers["etag"]


async def test_many_writers_lose_no_update(api: Api) -> None:
    """Each reads, adds its own, writes the whole list, and begins again where it came too late: all are there."""
    [contact] = await make_contacts(api, 1)
    path = f"/contacts/{contact}/tags"

    async def add(name: str) -> int:
        for attempt in itertools.count():
            read = await api.get(path)
            names = [tag["name"] for tag in answered(read)["data"]]
            written = await send(api, "PUT", path, {"tags": [*names, name]}, If_Match=read.headers["etag"])
            if written.is_success:
                return attempt
            problem(written, 412, "precondition_failed")
        raise AssertionError

    attempts = await asyncio.gather(*(add(f"t{n:02}") for n in range(12)))
    assert await slugs_of(api, contact) == [f"t{n:02}" for n in range(12)]
    assert any(attempts)


# What is refused.


@pytest.mark.parametrize("condition", [*MALFORMED, '"1-0", \xff"'])
async def test_a_malformed_if_match_is_refused(api: Api, condition: str) -> None:
    """412 would send its caller round in circles."""
    path, _ = await begin(api)
    tag = await make_tag(api, "VIP")
    before = await state_of(api.workspace)
    headers = [(b"If-Match", condition.encode("latin-1"))]
    for method, where, body in (("PATCH", f"/tags/{tag['id']}", {"name": "x"}), ("PUT", path, {"tags": []})):
        response = await api.request(method, where, json=body, headers=headers)
        document = field_problem(response, "header:If-Match", "invalid_value")
        # To the end, and with nothing in front.
        assert document["detail"].startswith("If-Match must be what an ETag header said")
        assert document["detail"].endswith("Nothing was written.")
    assert await state_of(api.workspace) == before


async def test_a_long_if_match_is_refused(api: Api) -> None:
    path = f"/tags/{(await make_tag(api, 'VIP'))['id']}"
    longest = '"1-0"'.rjust(CONDITION_MAX_LENGTH)
    answered(await send(api, "PATCH", path, {}, If_Match=longest))
    field_problem(await send(api, "PATCH", path, {}, If_Match=f' {longest[:-1]}x"'), "header:If-Match", "invalid_value")
    lines = [("If-Match", longest), ("If-Match", '"2-0"')]
    field_problem(await api.patch(path, json={}, headers=lines), "header:If-Match", "invalid_value")


def native_routes() -> list[tuple[str, Route]]:
    return [(method, route) for route in routes_of(NATIVE) for method in route.methods or ()]


TAKE_IF_MATCH = {
    ("PATCH", "/tags/{tag_id}"),
    ("DELETE", "/tags/{tag_id}"),
    *((method, "/contacts/{contact_id}/tags") for method in ("POST", "PUT", "PATCH", "DELETE")),
    *((method, "/contacts/{contact_id}/tags/{slug}") for method in ("PUT", "DELETE")),
}
TAKE_IF_NONE_MATCH = {("GET", "/tags/{tag_id}"), ("GET", "/contacts/{contact_id}/tags")}


async def test_a_call_that_does_not_look_at_a_condition_says_so(api: Api) -> None:
    """Or its caller would believe to be safe. One that only reads harms nobody."""
    # Reading the feed numbers it.
    await call(api, "GET", "/events")
    before = await state_of(api.workspace)
    for method, route in native_routes():
        if terms_of(route.endpoint).scopes is None:
            continue
        path = route.path_format
        for name in route.param_convertors:
            path = path.replace(f"{{{name}}}", RANDOM_ID)
        for header, taken in (("If-Match", TAKE_IF_MATCH), ("If-None-Match", TAKE_IF_NONE_MATCH)):
            response = await api.request(method, path, headers={header: '"x"'})
            said = (response.json().get("errors") or [{}])[0] if response.content else {}
            is_refused = (said.get("pointer"), said.get("code")) == (f"header:{header}", "unsupported_header")
            assert is_refused is (method != "GET" and (method, route.path_format) not in taken), (method, path)
            assert not is_refused or response.status_code == 422
    both = {"If-Match": "*", "If-None-Match": "*"}
    document = problem(await api.post("/contacts", json={"email": "a@b"}, headers=both), 422, "unsupported_header")
    assert [error["pointer"] for error in document["errors"]] == ["header:If-Match", "header:If-None-Match"]
    assert await state_of(api.workspace) == before


async def test_times_are_no_conditions_here(api: Api) -> None:
    """No answer has Last-Modified, so these are ignored, as RFC 9110 (13.1.3, 13.1.4) says."""
    path = f"/tags/{(await make_tag(api, 'VIP'))['id']}"
    long_ago = "Mon, 01 Jan 2001 00:00:00 GMT"
    answered(await send(api, "PATCH", path, {"name": "x"}, If_Unmodified_Since=long_ago))
    response = await send(api, "GET", path, If_Modified_Since="Fri, 01 Jan 2100 00:00:00 GMT")
    assert answered(response)["name"] == "x"


async def test_the_document_names_the_conditions(api: Api) -> None:
    paths = (await api.get("/openapi.json")).json()["paths"]
    for header, taken in (("If-Match", TAKE_IF_MATCH), ("If-None-Match", TAKE_IF_NONE_MATCH)):
        named = {
            (method.upper(), path)
            for path, operations in paths.items()
            for method, operation in operations.items()
            for parameter in operation.get("parameters", ())
            if (parameter["in"], parameter["name"]) == ("header", header) and parameter["description"]
        }
        assert named == taken
    shown = paths["/tags/{tag_id}"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert shown == {"$ref": "#/components/schemas/TagRead"}


async def test_dialects_know_no_conditions(api: Api) -> None:
    """A change that asks for one is refused there, too: whoever learnt of it natively would think to be safe."""
    tag = await make_tag(api, "VIP")
    path = f"/topmail/api/v1/tags/{tag['id']}"
    before = await state_of(api.workspace)
    for header, value in (("If-Match", f'"{tag["version"]}"'), ("If-None-Match", "*")):
        response = await api.patch(path, json={"name": "x"}, headers={header: value})
        assert response.status_code == 400
        assert f"This call does not look at {header}, so" in response.text
    assert await state_of(api.workspace) == before
    response = await send(api, "GET", path, If_None_Match="*")
    assert response.status_code == 200
    assert "etag" not in response.headers


# What it costs.

CONDITIONAL: list[tuple[str, str, Json | None, list[str]]] = [
    ("GET", "/tags/{tag}", None, ["tags.get"]),
    ("GET", "/contacts/{contact}/tags", None, ["contact_tags.list"]),
    ("PATCH", "/tags/{tag}", {}, ["tags.lock_audience_of_tag", "tags.get"]),
    *(
        (method, "/contacts/{contact}/tags", body, ["contact_tags.lock_members", f"contact_tags.change.{kind}"])
        for method, body, kind in (
            ("POST", {"tags": ["VIP"]}, "add"),
            ("PUT", {"tags": ["VIP"]}, "addremove.check"),
            ("PATCH", {"add": ["VIP"], "remove": ["x"]}, "addremove.check"),
            ("DELETE", {"tags": ["x"]}, "remove.check"),
        )
    ),
]


@pytest.mark.parametrize(("method", "path", "body", "expected"), CONDITIONAL)
async def test_statements_of_a_condition(
    api: Api, method: str, path: str, body: Json | None, expected: list[str]
) -> None:
    """No more than a lock before the change; the comparison is of rows that the change reads anyhow."""
    [contact] = await make_contacts(api, 1)
    tag = await make_tag(api, "VIP", contact_ids=[contact])
    path = path.format(tag=tag["id"], contact=contact)
    condition = {"If-None-Match" if method == "GET" else "If-Match": await etag_at(api, path)}
    ran: list[str] = []
    token = statement_log.set(ran)
    try:
        response = await api.request(method, path, json=body, headers=condition)
    finally:
        statement_log.reset(token)
    assert response.status_code == (304 if method == "GET" else 200), response.text
    assert ran == expected
