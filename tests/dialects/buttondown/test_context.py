"""What the headers beside the key say: which newsletter is meant, and which version of the API is spoken."""

import re
from uuid import UUID

import pytest
from starlette.types import ASGIApp

from app.dialects.buttondown.typeids import encode
from tests.conftest import Api, Workspace, client_of
from tests.dialects.buttondown.calls import (
    UNKNOWN,
    call,
    coded,
    holder_of,
    key_of,
    make_subscriber,
    make_tag,
    send,
    statements_of,
    tags_of,
)
from tests.routers import calls as native
from tests.routers.calls import Json, forget_default_audience, state_of

TYPEID = re.compile(r"sub_tag_[0-7][0-9abcdefghjkmnpqrstvwxyz]{25}")
PLAIN = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")


async def newsletter(api: Api, slug: str) -> str:
    """The id of an audience of this slug, which is made if need be."""
    found = [one for one in (await native.call(api, "GET", "/audiences"))["data"] if one["slug"] == slug]
    if not found:
        return str((await native.call(api, "POST", "/audiences", {"name": slug, "slug": slug}, status=201))["id"])
    return str(found[0]["id"])


@pytest.mark.parametrize("form", ["{}", "news_{}", "typeid", " {} "])
async def test_another_newsletter(api: Api, form: str) -> None:
    club = await newsletter(api, "club")
    context = encode("news", UUID(club)) if form == "typeid" else form.format(club)
    there = {"Buttondown-Context": context}
    here = await make_tag(api, "VIP")
    made = await call(api, "POST", "/tags", {"name": "VIP"}, status=201, headers=there)
    assert [made] == (await call(api, "GET", "/tags", headers=there))["results"]
    assert [here] == (await call(api, "GET", "/tags"))["results"]
    coded(await send(api, "GET", f"/tags/{here['id']}", headers=there), 404, "not_found")
    coded(await send(api, "GET", f"/tags/{made['id']}"), 404, "not_found")
    body: Json = {"email_address": "ada@example.com", "tags": ["VIP", "new"]}
    await call(api, "POST", "/subscribers", body, status=201, headers=there)
    coded(await send(api, "GET", "/subscribers/ada@example.com"), 404, "not_found")
    ours = await make_subscriber(api)
    assert ours["tags"] == []
    found = await call(api, "PATCH", "/subscribers/ada@example.com", {"tags": ["VIP"]}, headers=there)
    assert found["tags"] == ["VIP"]
    metadata = {"tag_id": made["id"], "ids": ["all"], "action": "remove"}
    body = {"type": "apply_tags", "metadata": metadata}
    done = await call(api, "POST", "/bulk_actions", body, status=201, headers=there)
    assert done["result"]["changed"] == 1
    coded(await send(api, "GET", f"/bulk_actions/{done['id']}"), 404, "not_found")
    await call(api, "GET", f"/bulk_actions/{done['id']}", headers=there)
    assert await tags_of(api, "ada@example.com") == []


async def test_the_own_newsletter_may_be_named(api: Api) -> None:
    made = await make_tag(api)
    there = {"Buttondown-Context": await newsletter(api, "newsletter")}
    assert (await call(api, "GET", f"/tags/{made['id']}", headers=there)) == made


@pytest.mark.parametrize("context", ["", "x", "newsletter", UNKNOWN, "{own} x", "{tag}", "{theirs}"])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_contexts_that_are_not_there(api: Api, other_api: Api, context: str, method: str) -> None:
    tag = await make_tag(api)
    names = {"own": await newsletter(api, "newsletter"), "theirs": await newsletter(other_api, "newsletter")}
    headers = {"Buttondown-Context": context.format(**names, tag=tag["id"])}
    before = await state_of(api.workspace), await state_of(other_api.workspace)
    refused = await send(api, method, "/tags", {"name": "x"} if method == "POST" else None, headers)
    coded(refused, 401, "authentication_invalid")
    assert (await state_of(api.workspace), await state_of(other_api.workspace)) == before
    unknown = await send(api, method, "/tags", None, {"Buttondown-Context": UNKNOWN})
    assert unknown.content == refused.content


async def test_a_context_needs_a_key_first(api: Api) -> None:
    headers = {"Buttondown-Context": "x", "Authorization": "Token ptag_nothing"}
    theirs = await send(api, "GET", "/tags", None, headers)
    coded(theirs, 401, "authentication_invalid")


async def test_a_key_without_an_audience_names_one(app: ASGIApp, workspace: Workspace) -> None:
    await forget_default_audience(workspace)
    async with client_of(app, workspace) as api:
        refused = await send(api, "GET", "/tags")
        assert refused.status_code == 422
        assert refused.json()["detail"][0]["loc"] == ["header", "Authorization"]
        there = {"Buttondown-Context": await newsletter(api, "newsletter")}
        await call(api, "POST", "/tags", {"name": "VIP"}, status=201, headers=there)
        await call(api, "GET", "/subscribers?tag=VIP", headers=there)


async def test_a_context_gives_no_scope(app: ASGIApp, api: Api) -> None:
    async with holder_of(app, api.workspace, await key_of(api, scopes=["tags:read"])) as reader:
        there = {"Buttondown-Context": await newsletter(api, "newsletter")}
        await call(reader, "GET", "/tags", headers=there)
        coded(await send(reader, "POST", "/tags", {"name": "x"}, there), 403, "forbidden")


async def test_a_context_costs_one_statement(api: Api) -> None:
    assert await statements_of(api, "GET", "/tags") == ["tags.list.created_at"]
    api.headers["Buttondown-Context"] = await newsletter(api, "newsletter")
    assert await statements_of(api, "GET", "/tags") == ["audiences.find_by_id", "tags.list.created_at"]


# Versions.


@pytest.mark.parametrize(
    ("version", "form"),
    [
        (None, TYPEID),
        ("2026-01-01", TYPEID),
        ("2026-04-01", TYPEID),
        ("9999-12-31", TYPEID),
        ("2025-12-31", PLAIN),
        ("2024-06-13", PLAIN),
        ("0001-01-01", PLAIN),
    ],
)
async def test_the_form_of_ids(api: Api, version: str | None, form: re.Pattern[str]) -> None:
    headers: Json = {} if version is None else {"X-API-Version": version}
    made = await call(api, "POST", "/tags", {"name": "VIP"}, status=201, headers=headers)
    assert form.fullmatch(made["id"])
    for path in ("/tags", f"/tags?ids={made['id']}"):
        assert (await call(api, "GET", path, headers=headers))["results"] == [made]
    for one in (await call(api, "PATCH", f"/tags/{made['id']}", {}, headers=headers), made):
        assert form.fullmatch(one["id"])
    taken = coded(await send(api, "POST", "/tags", {"name": "VIP"}, headers), 400, "name_already_exists")
    assert taken["tag_id"] == made["id"]
    body = {"email_address": "ada@example.com", "tags": [made["id"]]}
    subscriber = await call(api, "POST", "/subscribers", body, status=201, headers=headers)
    assert subscriber["id"].startswith("sub_") is (form is TYPEID)
    taken = coded(await send(api, "POST", "/subscribers", body, headers), 400, "email_already_exists")
    assert taken["subscriber_id"] == subscriber["id"]
    metadata = {"tag_id": made["id"], "ids": [subscriber["id"]]}
    done = await call(
        api, "POST", "/bulk_actions", {"type": "apply_tags", "metadata": metadata}, status=201, headers=headers
    )
    assert done["id"].startswith("bulk_action_") is (form is TYPEID)
    assert done["metadata"] == metadata


@pytest.mark.parametrize(
    "version", ["", "latest", "2026", "2026-13-01", "2026-02-30", "20260101", "2026-W01-1", "x" * 99]
)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/tags"),
        ("POST", "/tags"),
        ("DELETE", "/tags/{tag}"),
        ("GET", "/tags/{tag}/analytics"),
        ("GET", "/subscribers"),
        ("DELETE", "/subscribers/ada@example.com"),
    ],
)
async def test_versions_that_are_none(api: Api, version: str, method: str, path: str) -> None:
    tag = await make_tag(api)
    await make_subscriber(api)
    before = await state_of(api.workspace)
    body = {"name": "x"} if method == "POST" else None
    refused = await send(api, method, path.format(tag=tag["id"]), body, {"X-API-Version": version})
    coded(refused, 400, "api_version_invalid")
    assert await state_of(api.workspace) == before
