"""What belongs to another workspace, or to another audience of the same one, is answered as what never existed."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from starlette.types import ASGIApp

from tests.conftest import Api
from tests.dialects.topmail.calls import (
    BASE,
    UNKNOWN_CONTACT,
    UNKNOWN_TAG,
    all_routes,
    assign,
    call,
    carriers,
    error_of,
    holder_of,
    make_api_key,
    make_contact,
    make_tag,
    routes_of,
)
from tests.routers.calls import Json, ids_of, make_audience, make_outsider, state_of

# Calls that name, in braces, what may be another's. OWN_… is the caller's.
CALLS: list[tuple[str, str, Json | None]] = [
    ("GET", "/tags/{tag}", None),
    ("PATCH", "/tags/{tag}", {"name": "Stolen"}),
    ("PATCH", "/tags/{tag}", {"name": "own"}),
    ("PATCH", "/tags/{tag}", {"name": 5}),
    ("PATCH", "/tags/{tag}", {}),
    ("DELETE", "/tags/{tag}", None),
    ("GET", "/tags/{tag}/contacts", None),
    ("GET", "/tags/{tag}/contacts?limit=1&offset=1", None),
    ("POST", "/tags/{tag}/contacts", {"contact_ids": ["OWN_CONTACT"]}),
    ("POST", "/tags/{tag}/contacts", {"contact_ids": ["{contact}"]}),
    ("DELETE", "/tags/{tag}/contacts", {"contact_ids": ["OWN_CONTACT"]}),
    ("DELETE", "/tags/{tag}/contacts", {"contact_ids": ["{contact}"]}),
    ("POST", "/tags/{tag}/contacts/remove", {"contact_ids": ["OWN_CONTACT", "{contact}"]}),
    ("POST", "/tags/OWN_TAG/contacts", {"contact_ids": ["{contact}"]}),
    ("POST", "/tags/OWN_TAG/contacts", {"contact_ids": ["OWN_CONTACT", "{contact}", "{contact}"]}),
    ("DELETE", "/tags/OWN_TAG/contacts", {"contact_ids": ["{contact}"]}),
    ("POST", "/tags/OWN_TAG/contacts/remove", {"contact_ids": ["{contact}"]}),
    ("GET", "/contacts/{contact}", None),
    ("PATCH", "/contacts/{contact}", {"first_name": "Stolen"}),
    ("PATCH", "/contacts/{contact}", {"email": "own@example.com"}),
    ("PATCH", "/contacts/{contact}", {"subscribed": False}),
    ("PATCH", "/contacts/{contact}", {}),
    ("DELETE", "/contacts/{contact}", None),
    # Lists, by what is found with the other's name.
    ("GET", "/tags?search=secret", None),
    ("GET", "/tags", None),
    ("GET", "/contacts?search=secret", None),
    ("GET", "/contacts", None),
    ("GET", "/contacts?subscribed=false", None),
    ("GET", "/tags/OWN_TAG/contacts", None),
]
NEVER_THERE = {"{tag}": UNKNOWN_TAG, "{contact}": UNKNOWN_CONTACT}


@dataclass(frozen=True)
class Neighbours:
    """A caller with a tag and a contact of its own, and what it must not see."""

    api: Api
    own: dict[str, str]
    secrets: dict[str, str]
    # The workspace that has the secrets, and its keeper.
    keeper: Api

    async def send(self, method: str, path: str, body: object, named: dict[str, str]) -> httpx.Response:
        def fill(value: Any) -> Any:
            if isinstance(value, dict):
                return {key: fill(inner) for key, inner in value.items()}
            if isinstance(value, list):
                return [fill(inner) for inner in value]
            if isinstance(value, str):
                for name, one in (self.own | named).items():
                    value = value.replace(name, one)
            return value

        return await self.api.request(method, BASE + fill(path), json=fill(body))


async def make_secrets(keeper: Api) -> dict[str, str]:
    """A tag and a contact that carries it, of whoever the client is."""
    tag, contact = await make_tag(keeper, "Secret"), await make_contact(keeper, "secret@example.com")
    await assign(keeper, tag, [contact["id"]])
    return {"{tag}": tag["id"], "{contact}": contact["id"]}


async def make_own(api: Api) -> dict[str, str]:
    tag, contact = await make_tag(api, "own"), await make_contact(api, "own@example.com")
    await assign(api, tag, [contact["id"]])
    return {"OWN_TAG": tag["id"], "OWN_CONTACT": contact["id"]}


@pytest.fixture
async def another_workspace(api: Api, other_api: Api) -> Neighbours:
    return Neighbours(api, await make_own(api), await make_secrets(other_api), other_api)


@pytest.fixture
async def courses(app: ASGIApp, api: Api) -> AsyncIterator[Api]:
    """A client of the same workspace whose key is for another audience."""
    await make_audience(api, "courses")
    async with holder_of(app, api.workspace, await make_api_key(api, audience="courses")) as client:
        yield client


@pytest.fixture
async def another_audience(api: Api, courses: Api) -> Neighbours:
    return Neighbours(api, await make_own(api), await make_secrets(courses), courses)


# What no two answers have in common.
COUNTED = {"x-request-id", "x-ratelimit-remaining", "x-ratelimit-reset"}


def masked(response: httpx.Response, named: dict[str, str]) -> tuple[int, dict[str, str], str]:
    """Status, headers and body without the request's id and without what the caller itself named."""
    text = response.text
    for name, value in named.items():
        text = text.replace(value, name)
    headers = {name: value for name, value in response.headers.items() if name not in COUNTED}
    return response.status_code, headers, text


async def assert_nothing_is_shown(neighbours: Neighbours, method: str, path: str, body: Json | None) -> None:
    theirs = await state_of(neighbours.keeper.workspace)
    mine = await state_of(neighbours.api.workspace)
    answer = await neighbours.send(method, path, body, neighbours.secrets)
    # A call of its own that meets nothing new to do changes nothing of its own, either.
    assert await state_of(neighbours.keeper.workspace) == theirs
    assert await state_of(neighbours.api.workspace) == mine
    expected = await neighbours.send(method, path, body, NEVER_THERE)
    assert masked(answer, neighbours.secrets) == masked(expected, NEVER_THERE)
    assert "ecret" not in answer.text
    assert answer.status_code < 500
    if "/tags/{tag}" in path and body != {"name": 5}:
        error_of(answer, 404, "not_found")
    elif "/contacts/{contact}" in path:
        error_of(answer, 404, "contact_not_found")


@pytest.mark.parametrize(("method", "path", "body"), CALLS)
async def test_another_workspaces(another_workspace: Neighbours, method: str, path: str, body: Json | None) -> None:
    await assert_nothing_is_shown(another_workspace, method, path, body)


@pytest.mark.parametrize(("method", "path", "body"), CALLS)
async def test_another_audiences(another_audience: Neighbours, method: str, path: str, body: Json | None) -> None:
    await assert_nothing_is_shown(another_audience, method, path, body)


def test_every_call_that_names_something_is_in_the_table() -> None:
    named = set().union(*(routes_of(method, BASE + path) for method, path, _ in CALLS))
    assert all_routes() - named == {("POST", "/api/v1/tags"), ("POST", "/api/v1/contacts")}


async def test_who_is_in_no_audience_does_not_exist(api: Api) -> None:
    tag, outsider = await make_tag(api), await make_outsider(api)
    error_of(await api.get(f"{BASE}/contacts/{outsider}"), 404, "contact_not_found")
    assert (await assign(api, tag, [outsider]))["not_found"] == [outsider]
    assert (await call(api, "GET", "/contacts"))["pagination"]["total"] == 0


async def test_two_audiences_have_their_own_of_everything(api: Api, courses: Api) -> None:
    """The same name and the same email twice, and what is done in one audience is not seen in the other."""
    here, there = await make_tag(api, "VIP"), await make_tag(courses, "vip")
    ada_here, ada_there = await make_contact(api, first_name="Ada"), await make_contact(courses)
    # One person, known to the workspace once.
    assert ada_here["id"] == ada_there["id"]
    await assign(api, here, [ada_here["id"]])
    assert await carriers(courses, there) == []
    await assign(courses, there, [ada_there["id"]])
    for client, tag in ((api, here), (courses, there)):
        assert ids_of((await call(client, "GET", "/tags"))["data"]) == [tag["id"]]
        assert await carriers(client, tag) == [ada_here["id"]]
    await call(courses, "DELETE", f"/tags/{there['id']}/contacts", {"contact_ids": [ada_there["id"]]})
    assert await carriers(api, here) == [ada_here["id"]]


async def test_one_who_joins_another_audience_stays_unseen_there(api: Api, courses: Api) -> None:
    """Beside others in the same request, too."""
    tag = await make_tag(courses)
    ada, bob = await make_contact(api), await make_contact(courses, "bob@example.com")
    done = await assign(courses, tag, [ada["id"], bob["id"]])
    assert (done["added"], done["not_found"]) == (1, [ada["id"]])
    await make_contact(courses, "ada@example.com")
    done = await assign(courses, tag, [ada["id"], bob["id"]])
    assert (done["added"], done["already_tagged"], done["not_found"]) == (1, 1, [])
