"""What a name and a slug mean, and that tags are those of the other front ends."""

import pytest

from tests.conftest import Api
from tests.dialects.datamailer.calls import (
    BASE,
    SCOPE,
    call,
    colleague,
    emails,
    put_tags,
    status_of,
    subscribe,
    tags_of,
    tags_path,
    unsubscribe,
    upsert,
)
from tests.repositories.invariants import assert_sound
from tests.routers import calls as native
from tests.routers.calls import Json, answered, make_tag, slugs_of, state_of


async def add(api: Api, contact: Json, slug: str) -> list[str]:
    tags: list[str] = (await call(api, "POST", tags_path(contact, slug), SCOPE))["tags"]
    return tags


async def remove(api: Api, contact: Json, slug: str) -> list[str]:
    tags: list[str] = (await call(api, "DELETE", tags_path(contact, slug), SCOPE))["tags"]
    return tags


@pytest.mark.parametrize(
    ("name", "slug", "stored"),
    [
        ("ML Zoomcamp", "ml-zoomcamp", "ML Zoomcamp"),
        ("Café Größe", "cafe-groe", "Café Größe"),
        ("foo.bar", "foobar", "foo.bar"),
        ("a/b", "ab", "a/b"),
        ("\uff36\uff29\uff30", "vip", "\uff36\uff29\uff30"),
        ("a--b", "a-b", "a--b"),
        ("a__b", "a__b", "a__b"),
        ("🚀 launch", "launch", "🚀 launch"),
        ("C++", "c", "C++"),
        ("  Spaced   Name\n", "spaced-name", "Spaced   Name"),
        ("a\tb\u2028c", "a-b-c", "a b c"),
        ("a\x07b\x7f\u0085c", "ab-c", "ab c"),
        ("日本語", "ri-ben-yu", "日本語"),
        ("Привет", "privet", "Привет"),
        ("<script>alert(1)</script>", "scriptalert1script", "<script>alert(1)</script>"),
    ],
)
async def test_a_name_becomes_a_slug(api: Api, name: str, slug: str, stored: str) -> None:
    """By the vendor's rule, except that it is never empty; control characters are left out of the name."""
    contact = await upsert(api)
    for _ in range(2):
        assert await put_tags(api, contact, name) == [slug]
        assert await tags_of(api.workspace) == {slug: stored}
    assert await add(api, contact, slug) == [slug]
    assert await remove(api, contact, slug) == []


async def test_names_without_a_slug_of_their_own_are_tags_of_their_own(api: Api) -> None:
    """They have a slug that the other calls can name; at the vendor all of them share an empty one."""
    contact = await upsert(api)
    slugs = await put_tags(api, contact, "!!!", "???", "\u200b")
    assert len(set(slugs)) == 3
    assert all(slug.startswith("tag-") and len(slug) == 12 for slug in slugs)
    assert await put_tags(api, contact, "!!!", "???", "\u200b") == slugs
    assert await remove(api, contact, slugs[0]) == slugs[1:]
    assert len(await tags_of(api.workspace)) == 3


async def test_names_with_one_slug_are_one_tag_and_the_first_names_it(api: Api) -> None:
    contact = await upsert(api)
    names = ["ML Zoomcamp", "ml-zoomcamp", "ML  zoomcamp!", "ML ZOOMCAMP", "ml_zoomcamp"]
    assert await put_tags(api, contact, *names) == ["ml-zoomcamp", "ml_zoomcamp"]
    assert await tags_of(api.workspace) == {"ml-zoomcamp": "ML Zoomcamp", "ml_zoomcamp": "ml_zoomcamp"}
    assert await put_tags(api, contact, *reversed(names)) == ["ml-zoomcamp", "ml_zoomcamp"]
    assert await tags_of(api.workspace) == {"ml-zoomcamp": "ML Zoomcamp", "ml_zoomcamp": "ml_zoomcamp"}


async def test_names_that_differ_in_control_characters_are_one(api: Api) -> None:
    contact = await upsert(api)
    assert await put_tags(api, contact, "a\x07", "a", "\x01A") == ["a"]
    assert await tags_of(api.workspace) == {"a": "a"}


async def test_a_name_means_a_name_first_and_then_a_slug(api: Api) -> None:
    """Natively "C" and "C++" are two tags, though the vendor's slug of both is the same."""
    await make_tag(api, "C")
    await make_tag(api, "C++")
    contact = await upsert(api)
    assert await put_tags(api, contact, "C++") == ["c-2"]
    assert await put_tags(api, contact, "c") == ["c"]
    assert await put_tags(api, contact, "C#", "c-2") == ["c", "c-2"]
    assert await remove(api, contact, "c") == ["c-2"]
    assert await add(api, contact, "C") == ["c", "c-2"]
    # So it is in a filter.
    assert await emails(api, tags="c-2") == ["ada@example.com"]
    assert await put_tags(api, contact, "C++") == ["c-2"]
    assert await emails(api, tags="C++") == ["ada@example.com"]
    assert await emails(api, tags="C") == []


async def test_a_slug_in_a_path_means_a_slug_first_and_then_a_name(api: Api) -> None:
    tag = await make_tag(api, "Old Name")
    await native.call(api, "PATCH", f"/tags/{tag['id']}", {"name": "renamed"})
    contact = await upsert(api)
    assert await add(api, contact, "Old-Name") == ["old-name"]
    assert await remove(api, contact, "renamed") == []
    assert await add(api, contact, "RENAMED") == ["old-name"]
    assert await put_tags(api, contact, "Renamed") == ["old-name"]
    assert list((await tags_of(api.workspace)).items()) == [("old-name", "renamed")]


async def test_a_tag_made_by_a_path_is_named_after_its_slug(api: Api) -> None:
    contact = await upsert(api)
    assert await add(api, contact, "-Data--Engineering_") == ["data-engineering"]
    assert await tags_of(api.workspace) == {"data-engineering": "data-engineering"}


async def test_tags_stand_in_the_order_of_code_points(api: Api) -> None:
    contact = await upsert(api)
    names = ["b", "a_b", "a-b", "a0", "ab", "Z", "0", "a"]
    assert await put_tags(api, contact, *names) == sorted(["b", "a_b", "a-b", "a0", "ab", "z", "0", "a"])


async def test_what_changes_nothing_writes_nothing(api: Api) -> None:
    contact = await upsert(api, tags=["a", "b"])
    before = await state_of(api.workspace)
    assert await put_tags(api, contact, "B", "a") == ["a", "b"]
    assert await add(api, contact, "a") == ["a", "b"]
    assert await remove(api, contact, "unheard-of") == ["a", "b"]
    assert await state_of(api.workspace) == before


class TestScopeOfACallWithoutABody:
    """It stands in the query string then, for POST and DELETE; for PUT it never does."""

    async def test_the_query_counts(self, api: Api) -> None:
        contact = await upsert(api)
        path = BASE + tags_path(contact, "vip")
        assert answered(await api.post(path, params=SCOPE))["tags"] == ["vip"]
        assert answered(await api.delete(path, params=SCOPE))["tags"] == []
        padded = {"audience": " newsletter ", "client": "web\t"}
        assert answered(await api.post(path, params=padded, content=b""))["tags"] == ["vip"]

    @pytest.mark.parametrize("method", ["POST", "DELETE"])
    async def test_beside_a_body_it_does_not(self, api: Api, method: str) -> None:
        contact = await upsert(api)
        response = await api.request(method, BASE + tags_path(contact, "vip"), params=SCOPE, content=b"{}")
        assert answered(response, 400)["error"]["fields"] == {"audience": "required", "client": "required"}

    async def test_the_body_goes_before_the_query(self, api: Api) -> None:
        contact = await upsert(api)
        other = {"audience": "unheard-of", "client": "mobile"}
        response = await api.post(BASE + tags_path(contact, "vip"), params=other, json=SCOPE)
        assert answered(response)["tags"] == ["vip"]

    async def test_put_never_looks_at_it(self, api: Api) -> None:
        contact = await upsert(api)
        response = await api.put(BASE + tags_path(contact), params={**SCOPE, "tags": "vip"})
        assert answered(response, 400)["error"]["fields"] == {"audience": "required", "client": "required"}


async def test_unknown_fields_are_passed_over(api: Api) -> None:
    contact = await upsert(api)
    body = {**SCOPE, "tags": ["y"], "tag": "z", "name": "Pretty", "email": "not an email", "scope": "all"}
    assert (await call(api, "POST", tags_path(contact, "x"), body))["tags"] == ["x"]
    assert (await call(api, "PUT", tags_path(contact), {**body, "\x00": 1}))["tags"] == ["y"]


class TestOneCore:
    """What is written here is there in the other front ends, and the other way round."""

    async def test_native_tags_are_these(self, api: Api) -> None:
        contact = await subscribe(api, tags=["Made Here"])
        [found] = (await native.call(api, "GET", "/contacts", email="ada@example.com"))["data"]
        assert found["number"] == contact["contact_id"]
        assert await slugs_of(api, found["id"]) == ["made-here"]
        await native.call(api, "POST", f"/contacts/{found['id']}/tags", {"tags": ["Made There"]})
        assert await add(api, contact, "both") == ["both", "made-here", "made-there"]
        assert {tag["slug"]: tag["contact_count"] for tag in (await native.call(api, "GET", "/tags"))["data"]} == {
            "both": 1,
            "made-here": 1,
            "made-there": 1,
        }

    async def test_native_contacts_are_these(self, api: Api) -> None:
        """One made natively is subscribed with the key's client, and not confirmed."""
        made = await native.call(api, "POST", "/contacts", {"email": "Ada@example.com", "tags": ["vip"]}, status=201)
        found = await status_of(api)
        assert found["contact_id"] == made["number"]
        assert (found["client"]["status"], found["client"]["verified"]) == ("subscribed", False)
        assert await put_tags(api, found, "vip", "lead") == ["lead", "vip"]

    async def test_memberships_are_these(self, api: Api) -> None:
        await subscribe(api)
        await unsubscribe(api, reason="moved")
        [found] = (await native.call(api, "GET", "/contacts", email="ada@example.com"))["data"]
        [membership] = (await native.call(api, "GET", f"/contacts/{found['id']}/audiences"))["data"]
        assert (membership["status"], membership["reason"]) == ("unsubscribed", "moved")
        body = {"status": "subscribed"}
        await native.call(api, "PUT", f"/contacts/{found['id']}/audiences/newsletter", body)
        again = (await status_of(api))["client"]
        assert (again["status"], again["unsubscribe_reason"]) == ("subscribed", "")

    async def test_a_vendor_without_clients_sees_it(self, api: Api) -> None:
        contact = await subscribe(api, tags=["Beta"])
        tags = (await native.call(api, "GET", "/topmail/api/v1/tags"))["data"]
        assert [(tag["name"], tag["contact_count"]) for tag in tags] == [("Beta", 1)]
        await api.request("DELETE", f"/topmail/api/v1/tags/{tags[0]['id']}")
        assert await add(api, contact, "x") == ["x"]

    async def test_who_is_deleted_is_not_found(self, api: Api) -> None:
        contact = await subscribe(api, tags=["vip"])
        [found] = (await native.call(api, "GET", "/contacts", email="ada@example.com"))["data"]
        await native.call(api, "DELETE", f"/contacts/{found['id']}", status=204)
        refusal = await call(api, "POST", tags_path(contact, "vip"), SCOPE, 404)
        assert refusal["error"]["fields"] == {"contact_id": "not_found"}
        again = await subscribe(api)
        assert again["contact_id"] > contact["contact_id"]
        assert again["tags"] == []

    async def test_events_tell_the_front_end(self, api: Api) -> None:
        await colleague(api.workspace, audience="courses")
        before = (await native.call(api, "GET", "/events"))["pagination"]["next_cursor"]
        contact = await subscribe(api, tags=["a"])
        await put_tags(api, contact, "a", "b")
        await put_tags(api, contact, "b")
        await add(api, contact, "c")
        await remove(api, contact, "c")
        await unsubscribe(api, reason="gone fishing")
        await unsubscribe(api, ends="global")
        await upsert(api, email_validation={"status": "valid"})
        events = (await native.call(api, "GET", "/events", after=before, limit=1000))["data"]
        assert {event["front_end"] for event in events} == {"datamailer"}
        assert {event["client_id"] for event in events} == {str(api.workspace.principal.client_id)}
        assert [event["type"] for event in events].count("contact.tags_changed") == 5
        fields = [event["payload"]["fields"] for event in events if event["type"] == "contact.updated"]
        assert fields[1:3] == [["status", "reason"], ["global_unsubscribed_at"]]
        assert {"email_validation_status", "email_validated_at"} <= set(fields[3])
        # Ids and names of fields, and nothing of the person.
        assert "ada@" not in str(events)
        assert "fishing" not in str(events)
        await assert_sound(api.workspace.database, api.workspace.principal.workspace_id)
