"""The tags of a subscriber: what POST, PUT and DELETE do, and what they refuse in which words."""

import asyncio
import json
from typing import Any

import pytest

from app.repositories.contact_tags import ContactTagRepository
from app.repositories.tags import TagRepository
from tests.conftest import Api
from tests.dialects.sendportal.calls import (
    BASE,
    NOBODY,
    call,
    end_of_feed,
    events_after,
    ids_of,
    make_subscriber,
    make_tag,
    make_tags,
    missing,
    refused,
    tags_of,
)
from tests.repositories.invariants import assert_sound
from tests.routers.calls import answered, state_of

ARRAY, REQUIRED = "The tags field must be an array.", "The tags field is required."
WRITES = ["POST", "PUT", "DELETE"]


def integer(place: object) -> str:
    return f"The tags.{place} field must be an integer."


def unknown(said: object) -> str:
    return f"Tag ID {said} does not exist."


async def test_add_replace_and_remove(api: Api) -> None:
    one, two, three = await make_tags(api, "Alpha", "Beta", "Gamma")
    subscriber = await make_subscriber(api, "ann@example.com")
    path = f"/subscribers/{subscriber}/tags"
    assert await call(api, "GET", path) == []
    for method, given, after in [
        ("POST", [two], [two]),
        ("POST", [one, two, one], [one, two]),
        ("PUT", [three, two, three], [two, three]),
        ("PUT", [two, three], [two, three]),
        ("DELETE", [one], [two, three]),
        ("DELETE", [two, two], [three]),
        ("DELETE", [three], []),
        ("DELETE", [three], []),
    ]:
        assert ids_of(await call(api, method, path, {"tags": given})) == after
        assert await tags_of(api, subscriber) == after


async def test_times_of_tag_and_subscriber_stay(api: Api) -> None:
    tag = await make_tag(api, "Alpha")
    subscriber = await make_subscriber(api, "ann@example.com")
    before = [await call(api, "GET", path) for path in (f"/tags/{tag}", f"/subscribers/{subscriber}")]
    await call(api, "POST", f"/subscribers/{subscriber}/tags", {"tags": [tag]})
    after = [await call(api, "GET", path) for path in (f"/tags/{tag}", f"/subscribers/{subscriber}")]
    assert after[0] == before[0]
    assert after[1] == {**before[1], "tags": [before[0]]}


async def test_events_tell_what_changed_and_nothing_else(api: Api) -> None:
    one, two = await make_tags(api, "Alpha", "Beta")
    subscriber = await make_subscriber(api, "ann@example.com")
    path = f"/subscribers/{subscriber}/tags"
    after = await end_of_feed(api)
    await call(api, "PUT", path, {"tags": [one]})
    for method, given in [("PUT", [one]), ("POST", [one]), ("DELETE", [two])]:
        await call(api, method, path, {"tags": given})
    await call(api, "PUT", path, {"tags": [two]})
    events = await events_after(api, after)
    assert [event["type"] for event in events] == ["contact.tags_changed"] * 2
    assert [(len(event["payload"]["added"]), len(event["payload"]["removed"])) for event in events] == [(1, 0), (1, 1)]
    assert {event["front_end"] for event in events} == {"sendportal"}


@pytest.mark.parametrize("method", WRITES)
@pytest.mark.parametrize(
    ("sent", "errors"),
    [
        ("", {"tags": [REQUIRED]}),
        ("{}", {"tags": [REQUIRED]}),
        ('{"tags": []}', {"tags": [REQUIRED]}),
        ('{"tags": {}}', {"tags": [REQUIRED]}),
        ('{"tags": null}', {"tags": [ARRAY, REQUIRED]}),
        ('{"tags": "  "}', {"tags": [ARRAY, REQUIRED]}),
        ('{"tags": "1,2"}', {"tags": [ARRAY]}),
        ('{"tags": 2}', {"tags": [ARRAY]}),
        ('{"tags": 0}', {"tags": [ARRAY]}),
        ('{"tags": false}', {"tags": [ARRAY]}),
        ('{"tags": [0]}', {"tags__0": [unknown(0)]}),
        ('{"tags": [-1]}', {"tags__0": [unknown(-1)]}),
        (f'{{"tags": [{NOBODY}]}}', {"tags__0": [unknown(NOBODY)]}),
        ('{"tags": [2147483648]}', {"tags__0": [unknown(2147483648)]}),
        ('{"tags": [9223372036854775807]}', {"tags__0": [unknown(9223372036854775807)]}),
        ('{"tags": [9223372036854775808]}', {"tags__0": [integer(0), unknown(9223372036854775808)]}),
        ('{"tags": ["99999999999999999999"]}', {"tags__0": [integer(0), unknown("99999999999999999999")]}),
        ('{"tags": [2.5]}', {"tags__0": [integer(0), unknown("2.5")]}),
        ('{"tags": [1e300]}', {"tags__0": [integer(0), unknown("1e+300")]}),
        ('{"tags": ["abc"]}', {"tags__0": [integer(0), unknown("abc")]}),
        ('{"tags": ["2abc"]}', {"tags__0": [integer(0), unknown("2abc")]}),
        ('{"tags": ["01"]}', {"tags__0": [integer(0), unknown("01")]}),
        ('{"tags": ["٣"]}', {"tags__0": [integer(0), unknown("٣")]}),
        ('{"tags": ["\\u0000"]}', {"tags__0": [integer(0), unknown("\0")]}),
        ('{"tags": ["\\ud800"]}', {"tags__0": [integer(0), unknown("?")]}),
        ('{"tags": [null]}', {"tags__0": [integer(0), unknown("empty")]}),
        ('{"tags": [" "]}', {"tags__0": [integer(0), unknown("empty")]}),
        ('{"tags": [false]}', {"tags__0": [integer(0), unknown("false")]}),
        ('{"tags": [[1]]}', {"tags__0": [integer(0)]}),
        ('{"tags": [{"id": 1}]}', {"tags__0": [integer(0)]}),
        ('{"tags": {"a": 0, "b": "x"}}', {"tags__a": [unknown(0)], "tags__b": [integer("b"), unknown("x")]}),
        (
            '{"tags": [0, [], "x"]}',
            {"tags__0": [unknown(0)], "tags__1": [integer(1)], "tags__2": [integer(2), unknown("x")]},
        ),
        (json.dumps({"tags": [1] * 1001}), {"tags": ["The tags field must not have more than 1000 items."]}),
    ],
)
async def test_what_is_refused(api: Api, method: str, sent: str, errors: dict[str, list[str]]) -> None:
    """With good tags beside it nothing is written either."""
    good, carried = await make_tags(api, "Alpha", "Beta")
    subscriber = await make_subscriber(api, "ann@example.com", tags=[carried])
    before = await state_of(api.workspace)
    headers = {"Content-Type": "application/json"}
    response = await api.request(method, f"{BASE}/subscribers/{subscriber}/tags", content=sent, headers=headers)
    refused(response, **errors)
    if "tags__0" in errors and '"tags": [' in sent:
        # The same one place further on.
        beside = sent.replace('"tags": [', f'"tags": [{good}, ', 1)
        response = await api.request(method, f"{BASE}/subscribers/{subscriber}/tags", content=beside, headers=headers)
        assert answered(response, 422)["errors"]["tags.1"]
    assert await state_of(api.workspace) == before


@pytest.mark.parametrize("form", ["{}", '"{}"', '" {} "', '"+{}"', "{}.0"])
async def test_what_counts_as_a_number(api: Api, form: str) -> None:
    tag = await make_tag(api, "Alpha")
    subscriber = await make_subscriber(api, "ann@example.com")
    content = f'{{"tags": {{"any": {form.format(tag)}}}, "unknown": [1]}}'
    headers = {"Content-Type": "application/json"}
    response = await api.post(f"{BASE}/subscribers/{subscriber}/tags", content=content, headers=headers)
    assert ids_of(answered(response)["data"]) == [tag]


@pytest.mark.parametrize("method", ["GET", *WRITES])
@pytest.mark.parametrize(
    "subscriber",
    ["0", "00", "-1", "1.0", "+1", "%201", "1%20", "abc", "1abc", "٣", str(NOBODY), str(2**63), "9" * 5_000, "%00"],
)
async def test_a_subscriber_that_is_not_there(api: Api, method: str, subscriber: str) -> None:
    tag = await make_tag(api, "Alpha")
    before = await state_of(api.workspace)
    response = await api.request(method, f"{BASE}/subscribers/{subscriber}/tags", json={"tags": [tag]})
    assert answered(response, 404)["message"].startswith("No query results for subscriber ")
    if method != "GET":
        # What is sent is looked at first.
        refused(await api.request(method, f"{BASE}/subscribers/{subscriber}/tags"), tags=[REQUIRED])
    assert await state_of(api.workspace) == before


async def test_leading_zeros_are_digits(api: Api) -> None:
    subscriber = await make_subscriber(api, "ann@example.com")
    assert (await call(api, "GET", f"/subscribers/000{subscriber}"))["id"] == subscriber


async def test_a_deleted_subscriber_is_not_there(api: Api) -> None:
    subscriber = await make_subscriber(api, "ann@example.com")
    await call(api, "DELETE", f"/subscribers/{subscriber}", status=204)
    missing(await api.get(f"{BASE}/subscribers/{subscriber}/tags"), "subscriber", subscriber)


async def test_of_two_that_replace_one_has_its_list(api: Api) -> None:
    tags = await make_tags(api, *(f"t{number}" for number in range(6)))
    subscriber = await make_subscriber(api, "ann@example.com")
    path = f"/subscribers/{subscriber}/tags"
    lists = [tags[:4], tags[3:]]
    for _ in range(40):
        answers = await asyncio.gather(*(call(api, "PUT", path, {"tags": given}) for given in lists))
        assert [ids_of(answer) for answer in answers] == lists
        assert await tags_of(api, subscriber) in lists
    await assert_sound(api.workspace.database, api.workspace.principal.workspace_id)


async def test_the_same_added_side_by_side_is_there_once(api: Api) -> None:
    tags = await make_tags(api, "Alpha", "Beta")
    subscriber = await make_subscriber(api, "ann@example.com")
    path = f"/subscribers/{subscriber}/tags"
    answers = await asyncio.gather(*(call(api, "POST", path, {"tags": tags}) for _ in range(10)))
    assert [ids_of(answer) for answer in answers] == [tags] * 10
    await assert_sound(api.workspace.database, api.workspace.principal.workspace_id)


@pytest.mark.parametrize("method", WRITES)
async def test_a_tag_that_goes_after_it_was_looked_up(api: Api, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    """The verb looks again: nothing is written, and no id of ours is told."""
    stays, goes = await make_tags(api, "Alpha", "Beta")
    subscriber = await make_subscriber(api, "ann@example.com")
    change = ContactTagRepository.change

    async def change_late(self: ContactTagRepository, *given: Any, **more: Any) -> Any:
        ids = await api.workspace.repository(TagRepository).ids_by_number([goes])
        await api.workspace.repository(TagRepository).delete(ids[goes])
        return await change(self, *given, **more)

    monkeypatch.setattr(ContactTagRepository, "change", change_late)
    response = await api.request(method, f"{BASE}/subscribers/{subscriber}/tags", json={"tags": [stays, goes]})
    refused(response, tags__1=["The selected tags.1 is invalid."])
    monkeypatch.undo()
    assert await tags_of(api, subscriber) == []
