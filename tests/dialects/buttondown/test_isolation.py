"""Lists have one's own alone. Calls that name something of another workspace or newsletter are compared with others in
tests/test_isolation_matrix.py.
"""

import json

import pytest
from starlette.types import ASGIApp

from tests.conftest import Api
from tests.dialects.buttondown.calls import (
    bulk,
    call,
    holder_of,
    key_of,
    make_subscriber,
    make_tag,
)
from tests.routers import calls as native


@pytest.fixture(params=["workspace", "newsletter"])
def theirs(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


async def other_of(theirs: str, app: ASGIApp, api: Api, other_api: Api) -> Api:
    """Somebody else: in another workspace, or in another newsletter of the same one."""
    if theirs == "workspace":
        return other_api
    await native.make_audience(api, "club")
    return holder_of(app, api.workspace, await key_of(api, audience="club"))


async def make_secrets(other: Api) -> dict[str, str]:
    tag = await make_tag(other, "Secret Name")
    subscriber = await make_subscriber(other, "secret@example.com", tags=["Secret Name"], metadata={"is": "Secret"})
    done = await bulk(other, "apply_tags", tag_id=tag["id"], ids=[subscriber["id"]])
    return {
        "tag": tag["id"],
        "subscriber": subscriber["id"],
        "bulk": done["id"],
        "email": "secret@example.com",
        "name": "Secret Name",
    }


async def make_own(api: Api) -> dict[str, str]:
    subscriber = await make_subscriber(api, "own@example.com", tags=["own"])
    [tag] = (await call(api, "GET", "/tags"))["results"]
    return {"OWN_SUBSCRIBER": subscriber["id"], "OWN_TAG": tag["id"]}


async def test_lists_show_ones_own_alone(app: ASGIApp, api: Api, other_api: Api, theirs: str) -> None:
    other = await other_of(theirs, app, api, other_api)
    await make_secrets(other)
    await make_own(api)
    for path in ("/tags", "/subscribers"):
        found = await call(api, "GET", path)
        assert found["count"] == len(found["results"]) == 1
        assert "ecret" not in json.dumps(found)
    # Names and addresses are free here, whoever has them elsewhere.
    await make_tag(api, "Secret Name")
    if theirs == "workspace":
        await make_subscriber(api, "secret@example.com")
    await other.aclose()
