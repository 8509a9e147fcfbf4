"""Every request of the vendor's page on tags, with the status and the body that the page documents for it."""

import re
from typing import Any

import pytest

from tests.conftest import Api
from tests.dialects.buttondown.calls import UNKNOWN_TAG, call, coded, make_tag, send
from tests.routers.calls import Json, answered

# Names of the fields as the page's table has them, and the JSON type of each.
FIELDS: dict[str, type] = {
    "id": str,
    "name": str,
    "color": str,
    "description": str,
    "secondary_id": int,
    "creation_date": str,
}
# What the vendor has added since.
LATER = {"public_description": type(None), "subscriber_editable": bool}
SENT = {"name": "My tag", "color": "#10b981", "description": "made by a test"}


def is_tag(found: Json, **expected: Any) -> None:
    assert {name: type(value) for name, value in found.items()} == FIELDS | LATER
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", found["creation_date"])
    assert {name: found[name] for name in expected} == expected


async def test_create_tag(api: Api) -> None:
    is_tag(await call(api, "POST", "/tags", SENT, status=201), **SENT, secondary_id=1)


async def test_create_tag_bad_request(api: Api) -> None:
    await call(api, "POST", "/tags", SENT, status=201)
    coded(await send(api, "POST", "/tags", SENT), 400, "name_already_exists")


async def test_list_tags(api: Api) -> None:
    made = await make_tag(api, **SENT)
    found = await call(api, "GET", "/tags")
    assert found == {"results": [made], "count": 1, "next": None, "previous": None}
    is_tag(found["results"][0], **SENT)


async def test_retrieve_tag(api: Api) -> None:
    made = await make_tag(api, **SENT)
    found = await call(api, "GET", f"/tags/{made['id']}")
    assert found == made
    is_tag(found)


async def test_update_tag(api: Api) -> None:
    made = await make_tag(api, **SENT)
    changes = {"name": "Other", "color": "#000000", "description": "changed", "secondary_id": 77}
    changed = await call(api, "PATCH", f"/tags/{made['id']}", changes)
    is_tag(changed, **changes, id=made["id"], creation_date=made["creation_date"])
    assert await call(api, "GET", f"/tags/{made['id']}") == changed


async def test_update_tag_bad_request(api: Api) -> None:
    """The error code that the page lists."""
    await make_tag(api, "Taken")
    made = await make_tag(api, "Mine")
    coded(await send(api, "PATCH", f"/tags/{made['id']}", {"name": "Taken"}), 400, "name_already_exists")


async def test_delete_tag(api: Api) -> None:
    made = await make_tag(api)
    response = await send(api, "DELETE", f"/tags/{made['id']}")
    assert (response.status_code, response.content) == (204, b"")
    coded(await send(api, "DELETE", f"/tags/{made['id']}"), 404, "not_found")


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/tags"), ("GET", "/tags"), ("GET", f"/tags/{UNKNOWN_TAG}"), ("DELETE", "/tags/x")]
)
async def test_forbidden(api: Api, method: str, path: str) -> None:
    """The page's 403 for whoever has no key is 401 with the vendor today; 403 is for a key that may too little."""
    refused = await api.request(method, f"/buttondown/v1{path}", headers={"Authorization": ""})
    assert refused.status_code == 401
    assert isinstance(answered(refused, 401)["detail"], str)
