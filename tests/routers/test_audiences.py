"""Audiences over HTTP."""

import pytest

from tests.conftest import Api
from tests.repositories.invariants import assert_sound
from tests.routers.calls import (
    Json,
    call,
    carriers,
    field_problem,
    forget_default_audience,
    make_audience,
    make_contacts,
    make_tag,
    problem,
    run,
    state_of,
)


async def audiences(api: Api) -> list[Json]:
    listed: list[Json] = (await call(api, "GET", "/audiences"))["data"]
    return listed


async def test_the_first_audience_is_the_default(api: Api) -> None:
    [one] = await audiences(api)
    assert one == {
        "id": one["id"],
        "slug": "newsletter",
        "name": "newsletter",
        "is_default": True,
        "created_at": one["created_at"],
        "updated_at": one["updated_at"],
    }
    assert await call(api, "GET", "/audiences/newsletter") == one


async def test_a_new_audience(api: Api) -> None:
    response = await api.post("/audiences", json={"name": "  Online Courses ", "slug": "courses"})
    assert response.status_code == 201
    assert response.headers["location"] == "/audiences/courses"
    made = response.json()
    assert (made["name"], made["slug"], made["is_default"]) == ("Online Courses", "courses", False)
    assert await call(api, "GET", "/audiences/courses") == made
    assert [one["slug"] for one in await audiences(api)] == ["courses", "newsletter"]


@pytest.mark.parametrize(("name", "slug"), [("Online Courses", "online-courses"), ("Über uns", "uber-uns")])
async def test_a_slug_is_made_from_the_name(api: Api, name: str, slug: str) -> None:
    assert (await call(api, "POST", "/audiences", {"name": name}, status=201))["slug"] == slug


async def test_names_without_latin_letters_get_distinct_slugs(api: Api) -> None:
    slugs = [
        (await call(api, "POST", "/audiences", {"name": name}, status=201))["slug"] for name in ("日本語", "🎉", "🚀")
    ]
    assert len(set(slugs)) == 3
    for slug in slugs:
        await call(api, "GET", f"/audiences/{slug}")


@pytest.mark.parametrize("body", [{"name": "x", "slug": "courses"}, {"name": "Courses"}])
async def test_a_taken_slug(api: Api, body: Json) -> None:
    await make_audience(api, "courses")
    before = await state_of(api.workspace)
    document = problem(await api.post("/audiences", json=body), 409, "slug_taken")
    assert document["existing_id"] == (await call(api, "GET", "/audiences/courses"))["id"]
    assert await state_of(api.workspace) == before


@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        ({}, "#/name", "missing"),
        ({"name": ""}, "#/name", "too_short"),
        ({"name": "x" * 121}, "#/name", "too_long"),
        ({"name": None}, "#/name", "invalid_type"),
        ({"name": "x", "slug": "No Slug"}, "#/slug", "invalid_value"),
        ({"name": "x", "slug": "x" * 121}, "#/slug", "too_long"),
        ({"name": "x", "slug": ""}, "#/slug", "too_short"),
        ({"name": "x", "slug": None}, "#/slug", "invalid_type"),
        ({"name": "x", "is_default": True}, "#/is_default", "unknown_field"),
    ],
)
async def test_audiences_that_are_refused(api: Api, body: Json, pointer: str, code: str) -> None:
    field_problem(await api.post("/audiences", json=body), pointer, code)
    assert len(await audiences(api)) == 1


async def test_the_longest_name_and_slug(api: Api) -> None:
    made = await call(api, "POST", "/audiences", {"name": "é" * 120, "slug": "x" * 120}, status=201)
    assert (made["name"], made["slug"]) == ("é" * 120, "x" * 120)
    assert (await call(api, "GET", "/tags", audience="x" * 120))["data"] == []


async def test_renaming_keeps_the_slug(api: Api) -> None:
    await make_audience(api, "courses")
    before = await call(api, "GET", "/audiences/courses")
    renamed = await call(api, "PATCH", "/audiences/courses", {"name": "Lessons"})
    assert renamed == {**before, "name": "Lessons", "updated_at": renamed["updated_at"]}
    assert renamed["updated_at"] > before["updated_at"]
    state = await state_of(api.workspace)
    for body in ({}, {"name": "Lessons"}):
        assert await call(api, "PATCH", "/audiences/courses", body) == renamed
    assert await state_of(api.workspace) == state


async def test_there_is_one_default(api: Api) -> None:
    await make_audience(api, "courses")
    assert (await call(api, "PATCH", "/audiences/courses", {"is_default": True}))["is_default"] is True
    assert {one["slug"]: one["is_default"] for one in await audiences(api)} == {"courses": True, "newsletter": False}
    before = await state_of(api.workspace)
    await call(api, "PATCH", "/audiences/courses", {"is_default": True})
    assert await state_of(api.workspace) == before
    # What the key has for its own default is another matter.
    assert (await call(api, "GET", "/me"))["audience"] == "newsletter"


async def test_the_default_that_was_is_changed_too(api: Api) -> None:
    await make_audience(api, "courses")
    before = await call(api, "GET", "/audiences/newsletter")
    await call(api, "PATCH", "/audiences/courses", {"is_default": True})
    assert (await call(api, "GET", "/audiences/newsletter"))["updated_at"] > before["updated_at"]


@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        ({"name": None}, "#/name", "invalid_type"),
        ({"is_default": False}, "#/is_default", "invalid_value"),
        ({"is_default": None}, "#/is_default", "invalid_value"),
        ({"slug": "other"}, "#/slug", "unknown_field"),
    ],
)
async def test_changes_that_are_refused(api: Api, body: Json, pointer: str, code: str) -> None:
    field_problem(await api.patch("/audiences/newsletter", json=body), pointer, code)


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
@pytest.mark.parametrize("slug", ["nowhere", "NEWSLETTER", "%C3%A9", "%00", "x" * 500])
async def test_audiences_that_do_not_exist(api: Api, method: str, slug: str) -> None:
    body = {"name": "x"} if method == "PATCH" else None
    problem(await api.request(method, f"/audiences/{slug}", json=body), 404, "not_found")


async def test_deleting_an_audience_ends_its_memberships(api: Api) -> None:
    contacts = await make_contacts(api, 2)
    await make_audience(api, "courses", *contacts)
    tag = await make_tag(api, "VIP", contact_ids=contacts)
    assert (await api.delete("/audiences/courses")).status_code == 204
    problem(await api.get("/audiences/courses"), 404, "not_found")
    problem(await api.delete("/audiences/courses"), 404, "not_found")
    for contact in contacts:
        listed = await call(api, "GET", f"/contacts/{contact}/audiences")
        assert [one["audience"] for one in listed["data"]] == ["newsletter"]
    assert await carriers(api, tag["id"]) == contacts
    # The slug is free again, and a namespace of its own.
    await make_audience(api, "courses")
    assert (await make_tag(api, "VIP", audience="courses"))["secondary_id"] == 1
    await assert_sound(api.workspace.database, api.workspace.principal.workspace_id)


async def test_an_audience_with_tags_stays(api: Api) -> None:
    await make_audience(api, "courses")
    tags = [await make_tag(api, name, audience="courses") for name in "ab"]
    before = await state_of(api.workspace)
    document = problem(await api.delete("/audiences/courses"), 409, "audience_in_use")
    assert document["tags"] == 2
    assert await state_of(api.workspace) == before
    for tag in tags:
        await call(api, "DELETE", f"/tags/{tag['id']}", status=204)
    await call(api, "DELETE", "/audiences/courses", status=204)


async def test_the_default_audience_stays(api: Api) -> None:
    before = await state_of(api.workspace)
    problem(await api.delete("/audiences/newsletter"), 409, "audience_in_use")
    assert await state_of(api.workspace) == before


async def set_key(api: Api, assignment: str) -> None:
    await run(
        api.workspace.database,
        f"update api_keys set {assignment} where workspace_id = :workspace_id",
        workspace_id=api.workspace.principal.workspace_id,
    )


async def test_the_audience_of_a_live_key_stays(api: Api) -> None:
    await make_audience(api, "courses")
    await call(api, "PATCH", "/audiences/courses", {"is_default": True})
    before = await state_of(api.workspace)
    document = problem(await api.delete("/audiences/newsletter"), 409, "audience_in_use")
    assert document["keys"] == 1
    assert await state_of(api.workspace) == before


@pytest.mark.parametrize("assignment", ["revoked_at = now()", "expires_at = now()"])
async def test_the_audience_of_a_dead_key_may_go(api: Api, assignment: str) -> None:
    await make_audience(api, "courses")
    await call(api, "PATCH", "/audiences/courses", {"is_default": True})
    # The key is believed for a moment longer, which is long enough here.
    await set_key(api, assignment)
    await call(api, "DELETE", "/audiences/newsletter", status=204)


async def test_audiences_need_no_audience_in_force(api: Api) -> None:
    await forget_default_audience(api.workspace)
    await make_audience(api, "courses")
    assert len(await audiences(api)) == 2
    await call(api, "PATCH", "/audiences/courses", {"name": "x"})
    await call(api, "DELETE", "/audiences/courses", status=204)
