"""Two workspaces have what is theirs, and see nothing of the other's. Calls that name something of it are compared with
others in tests/test_isolation_matrix.py.
"""

import json

from tests.conftest import Api
from tests.routers.calls import (
    answered,
    call,
    make_audience,
    make_key,
    make_tag,
    make_tags,
    slugs_of,
)

KEPT_SECRET = {
    "email": "secret@example.com",
    "external_id": "secret",
    "client": "secret-client",
    "audience": "secret-club",
    "slug": "secret-slug",
    "name": "Secret Name",
}


async def make_secrets(api: Api) -> dict[str, str]:
    """One workspace's tag, contact and audience, by everything that names them."""
    made = await call(
        api,
        "POST",
        "/contacts",
        {"email": KEPT_SECRET["email"], "external_id": KEPT_SECRET["external_id"], "first_name": "Secret"},
        status=201,
    )
    [tag] = await make_tags(api, "secret slug")
    await call(api, "PATCH", f"/tags/{tag['id']}", {"name": KEPT_SECRET["name"]})
    assert tag["slug"] == KEPT_SECRET["slug"]
    await call(api, "POST", f"/tags/{tag['id']}/contacts", {"contact_ids": [made["id"]]})
    await make_audience(api, KEPT_SECRET["audience"], made["id"])
    key = await make_key(api, client=KEPT_SECRET["client"], create_missing=True)
    return {**KEPT_SECRET, "tag": tag["id"], "contact": made["id"], "key": key["id"]}


async def make_own(api: Api) -> dict[str, str]:
    made = await call(api, "POST", "/contacts", {"email": "own@example.com", "tags": ["own"]}, status=201)
    [tag] = await make_tags(api, "own")
    return {"OWN_CONTACT": made["id"], "OWN_TAG": tag["id"]}


async def test_the_same_keys_and_names_in_two_workspaces(api: Api, other_api: Api) -> None:
    """What is unique is so within one workspace."""
    body = {"email": "a@example.com", "external_id": "7", "tags": ["VIP"]}
    made = [await call(one, "POST", "/contacts?on_conflict=error", body, status=201) for one in (api, other_api)]
    assert made[0]["id"] != made[1]["id"]
    for one in (api, other_api):
        await make_audience(one, "courses")
        assert (await make_tag(one, "VIP", audience="courses"))["secondary_id"] == 1
    await call(api, "PUT", f"/contacts/{made[0]['id']}/tags", {"tags": []})
    assert await slugs_of(other_api, made[1]["id"]) == ["vip"]
    await call(api, "DELETE", f"/contacts/{made[0]['id']}", status=204)
    await call(other_api, "GET", f"/contacts/{made[1]['id']}")


async def test_lists_show_ones_own_alone(api: Api, other_api: Api) -> None:
    await make_secrets(other_api)
    await make_own(api)
    for path in (
        "/tags",
        "/contacts",
        "/contacts?audience=*&include_total=true",
        "/audiences",
        "/events",
        "/keys",
        "/me",
    ):
        text = json.dumps(answered(await api.get(path)))
        assert "ecret" not in text
        assert other_api.workspace.principal.workspace not in text
    assert (await call(api, "GET", "/tags"))["pagination"]["total"] == 1
    assert (await call(api, "GET", "/contacts?audience=*&include_total=true"))["pagination"]["total"] == 1
    assert (await call(api, "GET", "/keys?include_total=true"))["pagination"]["total"] == 1
