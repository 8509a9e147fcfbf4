"""Two audiences of a workspace have what is theirs. Calls that name something of the other are compared with others in
tests/test_isolation_matrix.py.
"""

from collections.abc import AsyncIterator

import pytest
from starlette.types import ASGIApp

from tests.conftest import Api
from tests.dialects.topmail.calls import (
    BASE,
    assign,
    call,
    carriers,
    error_of,
    holder_of,
    make_api_key,
    make_contact,
    make_tag,
)
from tests.routers.calls import ids_of, make_audience, make_outsider


@pytest.fixture
async def courses(app: ASGIApp, api: Api) -> AsyncIterator[Api]:
    """A client of the same workspace whose key is for another audience."""
    await make_audience(api, "courses")
    async with holder_of(app, api.workspace, await make_api_key(api, audience="courses")) as client:
        yield client


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
