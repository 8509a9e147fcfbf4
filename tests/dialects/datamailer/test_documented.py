"""What the vendor's page documents: three calls, their answer, and every row of its table of error codes."""

from typing import Any

import pytest

from tests.conftest import Api
from tests.dialects.datamailer.calls import (
    BASE,
    SCOPE,
    STATUS_KEYS,
    SUBSCRIPTION_KEYS,
    UNKNOWN_CONTACT,
    call,
    colleague,
    error,
    put_tags,
    refuse,
    subscribe,
    tags_of,
    tags_path,
    upsert,
)
from tests.dialects.datamailer.worlds import is_recent
from tests.routers.calls import Json


def assert_status(answer: Json, contact: Json, tags: list[str]) -> None:
    """The full status payload of a subscribed contact, and its tags."""
    assert list(answer) == [*STATUS_KEYS, "tags"]
    assert list(answer["audience"]) == list(answer["client"]) == SUBSCRIPTION_KEYS
    assert answer["tags"] == tags
    assert is_recent(answer["client"]["verified_at"])
    assert answer == {
        "contact_id": contact["contact_id"],
        "email": "ada@example.com",
        "exists": True,
        "verified": False,
        "verified_at": None,
        "email_validation": {"status": "unknown", "reason": "", "validated_at": None},
        "global_unsubscribed": False,
        "hard_bounced": False,
        "complained": False,
        "audience": {
            "slug": "newsletter",
            "subscribed": False,
            "status": None,
            "verified": False,
            "verified_at": None,
            "unsubscribed_at": None,
            "unsubscribe_reason": "",
        },
        "client": {
            "slug": "web",
            "subscribed": True,
            "status": "subscribed",
            "verified": True,
            "verified_at": answer["client"]["verified_at"],
            "unsubscribed_at": None,
            "unsubscribe_reason": "",
        },
        "can_send_marketing": True,
        "can_send_transactional": True,
        "tags": tags,
    }


async def test_put_replaces_the_entire_set(api: Api) -> None:
    """Those in the set but not in `tags` are removed; those that do not exist are made."""
    contact = await subscribe(api, tags=["Old", "Kept"])
    answer = await call(api, "PUT", tags_path(contact), {**SCOPE, "tags": ["Kept", "Brand New"]})
    assert_status(answer, contact, ["brand-new", "kept"])
    assert await tags_of(api.workspace) == {"old": "Old", "kept": "Kept", "brand-new": "Brand New"}


async def test_put_with_an_empty_list_clears(api: Api) -> None:
    contact = await subscribe(api, tags=["Old", "Kept"])
    assert_status(await call(api, "PUT", tags_path(contact), {**SCOPE, "tags": []}), contact, [])


async def test_put_leaves_the_tags_of_other_audiences(api: Api) -> None:
    await colleague(api.workspace, audience="courses")
    contact = await subscribe(api, tags=["News"])
    await subscribe(api, audience="courses", tags=["Python"])
    assert await put_tags(api, contact, audience="courses") == []
    assert await put_tags(api, contact, "News", "More") == ["more", "news"]


async def test_post_adds_a_single_tag(api: Api) -> None:
    """The others are not affected; a tag that does not exist is made, and named after its slug."""
    contact = await subscribe(api, tags=["Kept"])
    assert_status(await call(api, "POST", tags_path(contact, "Data-Science"), SCOPE), contact, ["data-science", "kept"])
    assert (await tags_of(api.workspace))["data-science"] == "data-science"


async def test_delete_removes_a_single_tag(api: Api) -> None:
    contact = await subscribe(api, tags=["Kept", "Old"])
    assert_status(await call(api, "DELETE", tags_path(contact, "old"), SCOPE), contact, ["kept"])


@pytest.mark.parametrize("slug", ["other", "unheard-of"])
async def test_delete_of_what_the_contact_lacks_succeeds(api: Api, slug: str) -> None:
    contact = await subscribe(api, tags=["Kept"])
    await subscribe(api, "bob@example.com", tags=["Other"])
    assert_status(await call(api, "DELETE", tags_path(contact, slug), SCOPE), contact, ["kept"])
    assert await tags_of(api.workspace) == {"kept": "Kept", "other": "Other"}


CALLS = [("PUT", None), ("POST", "vip"), ("DELETE", "vip")]
SET = {**SCOPE, "tags": ["vip"]}

# Each row of the table but the one below, with the calls that it is about.
ERRORS: list[tuple[str, str, int, Any, list[str]]] = [
    ("audience", "required", 400, {**SET, "audience": ""}, ["PUT", "POST", "DELETE"]),
    ("audience", "required", 400, {"client": "web", "tags": []}, ["PUT", "POST", "DELETE"]),
    ("audience", "not_found", 400, {**SET, "audience": "unheard-of"}, ["PUT", "POST", "DELETE"]),
    ("client", "required", 400, {**SET, "client": " "}, ["PUT", "POST", "DELETE"]),
    ("client", "required", 400, {"audience": "newsletter", "tags": []}, ["PUT", "POST", "DELETE"]),
    ("client", "forbidden", 403, {**SET, "client": "mobile"}, ["PUT", "POST", "DELETE"]),
    ("tags", "must_be_list", 400, {**SCOPE, "tags": "vip"}, ["PUT"]),
    ("tags", "must_be_non_empty_strings", 400, {**SCOPE, "tags": ["vip", ""]}, ["PUT"]),
    ("tags", "must_be_non_empty_strings", 400, {**SCOPE, "tags": ["vip", 1]}, ["PUT"]),
]


@pytest.mark.parametrize(("field", "code", "status", "body", "methods"), ERRORS)
async def test_a_documented_error(api: Api, field: str, code: str, status: int, body: Json, methods: list[str]) -> None:
    contact = await upsert(api, tags=["kept"])
    for method, slug in CALLS:
        if method in methods:
            assert await refuse(api, method, tags_path(contact, slug), body, status) == {field: code}
    assert await put_tags(api, contact, "kept") == ["kept"]


@pytest.mark.parametrize(("method", "slug"), CALLS)
async def test_contact_id_not_found_is_404(api: Api, method: str, slug: str | None) -> None:
    """No contact has that id, or it has no agreement with this client in this audience."""
    await colleague(api.workspace, audience="courses")
    elsewhere = await upsert(api, audience="courses")
    for contact in ({"contact_id": UNKNOWN_CONTACT}, elsewhere):
        assert await refuse(api, method, tags_path(contact, slug), SET, 404) == {"contact_id": "not_found"}


@pytest.mark.parametrize("method", ["POST", "DELETE"])
async def test_tag_invalid_is_a_slug_of_nothing(api: Api, method: str) -> None:
    contact = await upsert(api)
    assert await refuse(api, method, tags_path(contact, "-_-"), SCOPE) == {"tag": "invalid"}


@pytest.mark.parametrize("method", ["POST", "DELETE"])
async def test_tag_required_cannot_be_reached(api: Api, method: str) -> None:
    """The page lists it, and no request leads there: a path without a slug is no path, as at the vendor."""
    contact = await upsert(api)
    response = await api.request(method, f"{BASE}{tags_path(contact)}/", json=SCOPE)
    assert error(response, 404)["code"] == "not_found"
