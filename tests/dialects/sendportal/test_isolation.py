"""Another workspace's and another audience's tags and people do not exist, in no field and no answer."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from starlette.types import ASGIApp

from app.repositories.system import SystemRepository
from app.values import hash_key
from tests.conftest import Api, Workspace, client_of
from tests.dialects.sendportal.calls import (
    BASE,
    NOBODY,
    call,
    make_subscriber,
    make_tag,
    refused,
    subscribers_of,
    tags_of,
)
from tests.routers.calls import Json, answered, state_of


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


CALLS: list[tuple[str, str, Json | None]] = [
    ("GET", "/subscribers/{subscriber}/tags", None),
    ("POST", "/subscribers/{subscriber}/tags", {"tags": ["{own_tag}"]}),
    ("PUT", "/subscribers/{subscriber}/tags", {"tags": ["{own_tag}"]}),
    ("DELETE", "/subscribers/{subscriber}/tags", {"tags": ["{own_tag}"]}),
    ("POST", "/subscribers/{own_subscriber}/tags", {"tags": ["{own_tag}", "{tag}"]}),
    ("PUT", "/subscribers/{own_subscriber}/tags", {"tags": ["{tag}"]}),
    ("DELETE", "/subscribers/{own_subscriber}/tags", {"tags": ["{tag}"]}),
    ("GET", "/tags/{tag}", None),
    ("PUT", "/tags/{tag}", {"name": "x"}),
    ("PATCH", "/tags/{tag}", {"name": "x"}),
    ("DELETE", "/tags/{tag}", None),
    ("GET", "/tags/{tag}/subscribers", None),
    ("GET", "/tags/{tag}/subscribers?per_page=5", None),
    ("POST", "/tags/{tag}/subscribers", {"subscribers": ["{own_subscriber}"]}),
    ("PUT", "/tags/{tag}/subscribers", {"subscribers": ["{own_subscriber}"]}),
    ("DELETE", "/tags/{tag}/subscribers", {"subscribers": ["{own_subscriber}"]}),
    ("POST", "/tags/{own_tag}/subscribers", {"subscribers": ["{own_subscriber}", "{subscriber}"]}),
    ("PUT", "/tags/{own_tag}/subscribers", {"subscribers": ["{subscriber}"]}),
    ("DELETE", "/tags/{own_tag}/subscribers", {"subscribers": ["{subscriber}"]}),
    ("POST", "/tags", {"name": "x", "subscribers": ["{subscriber}"]}),
    ("GET", "/subscribers/{subscriber}", None),
    ("POST", "/subscribers", {"email": "new@example.com", "tags": ["{tag}"]}),
    ("POST", "/subscribers", {"email": "ann@example.com", "tags": ["{own_tag}", "{tag}"]}),
    ("PUT", "/subscribers/{subscriber}", {"email": "new@example.com"}),
    ("PATCH", "/subscribers/{subscriber}", {"email": "new@example.com", "tags": ["{own_tag}"]}),
    ("PUT", "/subscribers/{own_subscriber}", {"email": "ann@example.com", "tags": ["{tag}"]}),
    ("DELETE", "/subscribers/{subscriber}", None),
]


@pytest.mark.parametrize(("method", "path", "body"), CALLS)
async def test_what_is_foreign_is_as_if_it_never_was(
    api: Api, foreign: Foreign, method: str, path: str, body: Json | None
) -> None:
    own_tag = await make_tag(api, "VIP")
    own = {"own_tag": own_tag, "own_subscriber": await make_subscriber(api, "ann@example.com", tags=[own_tag])}
    before = [await state_of(one.workspace) for one in (api, foreign.api)]

    async def ask(tag: int, subscriber: int) -> tuple[int, str, dict[str, str]]:
        names: dict[str, int] = {**own, "tag": tag, "subscriber": subscriber}

        def fill(value: Any) -> Any:
            return [int(one.format(**names)) for one in value] if isinstance(value, list) else value

        sent = body and {field: fill(value) for field, value in body.items()}
        response = await api.request(method, BASE + path.format(**names), json=sent)
        headers = {
            name: value for name, value in response.headers.items() if name not in {"x-request-id", "content-length"}
        }
        masked = response.text.replace(f"ID {tag} ", "ID … ").replace(f"tag {tag}", "tag …")
        return response.status_code, masked.replace(f"subscriber {subscriber}", "subscriber …"), headers

    answer = await ask(foreign.tag, foreign.subscriber)
    assert answer[0] in {404, 422}
    assert answer == await ask(NOBODY, NOBODY)
    assert [await state_of(one.workspace) for one in (api, foreign.api)] == before


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
