"""Another workspace's and another audience's tags and people do not exist: in lists, and where the vendor has a hole.

Calls that name something of theirs are compared with others in tests/test_isolation_matrix.py.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx
import pytest
from starlette.types import ASGIApp

from app.repositories.system import SystemRepository
from app.values import hash_key
from tests.conftest import Api, Workspace, client_of
from tests.dialects.sendportal.calls import (
    BASE,
    call,
    make_subscriber,
    make_tag,
    refused,
    subscribers_of,
    tags_of,
)
from tests.routers.calls import answered


@dataclass(frozen=True)
class Foreign:
    """A client of what the first one must not see, with a tag and somebody who carries it."""

    api: Api
    tag: int
    subscriber: int


@pytest.fixture(params=["workspace", "audience"])
async def foreign(request: pytest.FixtureRequest, app: ASGIApp, api: Api, other_api: Api) -> AsyncIterator[Foreign]:
    if request.param == "workspace":
        yield await fill(other_api)
        return
    workspace = api.workspace
    system = SystemRepository(workspace.database)
    provisioned = await system.provision(
        workspace=workspace.principal.workspace,
        client="web",
        audience="other",
        scopes=tuple(workspace.principal.scopes),
    )
    found = await system.find_key(hash_key(provisioned.key))
    assert found is not None
    async with client_of(app, Workspace(workspace.database, provisioned, found.principal)) as client:
        yield await fill(client)


async def fill(api: Api) -> Foreign:
    tag = await make_tag(api, "Secret")
    return Foreign(api, tag, await make_subscriber(api, "secret@example.com", first_name="Secret", tags=[tag]))


async def test_lists_have_nothing_foreign(api: Api, foreign: Foreign) -> None:
    tag, subscriber = await make_tag(api, "VIP"), await make_subscriber(api, "ann@example.com")
    for path, number in (("/tags", tag), ("/subscribers", subscriber)):
        page = answered(await api.get(BASE + path))
        assert ([one["id"] for one in page["data"]], page["meta"]["total"]) == ([number], 1)


# The vendor's three holes: writes that skip the question whose a thing is.


async def test_a_new_tag_is_not_given_to_foreign_people(api: Api, foreign: Foreign) -> None:
    """There it was, and their names and addresses came back."""
    own = await make_subscriber(api, "ann@example.com")
    response = await api.post(f"{BASE}/tags", json={"name": "VIP", "subscribers": [own, foreign.subscriber]})
    refused(response, subscribers__1=["The validation error message."])
    assert answered(await api.get(f"{BASE}/tags"))["data"] == []
    assert await tags_of(foreign.api, foreign.subscriber) == [foreign.tag]


@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_a_subscriber_is_not_given_foreign_tags(api: Api, foreign: Foreign, method: str) -> None:
    own = await make_subscriber(api, "ann@example.com")
    path = "/subscribers" if method == "POST" else f"/subscribers/{own}"
    body = {"email": "ann@example.com", "first_name": "Changed", "tags": [foreign.tag]}
    refused(await api.request(method, BASE + path, json=body), tags__0=[f"Tag ID {foreign.tag} does not exist."])
    found = await call(api, "GET", f"/subscribers/{own}")
    assert (found["tags"], found["first_name"]) == ([], None)
    assert await subscribers_of(foreign.api, foreign.tag) == [foreign.subscriber]


@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_a_map_of_tags_writes_on_nobody_else(api: Api, foreign: Foreign, method: str) -> None:
    """There its values were columns of the assignment, the subscriber's id among them."""
    tag = await make_tag(api, "VIP")
    own = await make_subscriber(api, "ann@example.com")
    path = "/subscribers" if method == "POST" else f"/subscribers/{own}"
    body = {"email": "ann@example.com", "tags": {str(tag): {"subscriber_id": foreign.subscriber}}}
    response: httpx.Response = await api.request(method, BASE + path, json=body)
    refused(response, **{f"tags__{tag}": [f"The tags.{tag} field must be an integer."]})
    assert await tags_of(api, own) == []
    assert await tags_of(foreign.api, foreign.subscriber) == [foreign.tag]
