"""What belongs to another workspace is answered as what never existed: by the same bytes, and nothing happens to it."""

import json
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.conftest import Api
from tests.routers.calls import (
    Json,
    all_routes,
    answered,
    call,
    make_audience,
    make_key,
    make_tag,
    make_tags,
    routes_of,
    slugs_of,
    state_of,
)

# What a call may name of another workspace, and what is named instead where it should not make a difference.
NEVER_THERE = {
    "tag": "0190a0a0-0000-7000-8000-00000000beef",
    "contact": "0190a0a0-0000-7000-8000-00000000cafe",
    "key": "0190a0a0-0000-7000-8000-00000000f00d",
    "email": "random@example.com",
    "external_id": "random",
    "client": "random-client",
    "audience": "random-club",
    "slug": "random-slug",
    "name": "Random Name",
}
KEPT_SECRET = {
    "email": "secret@example.com",
    "external_id": "secret",
    "client": "secret-client",
    "audience": "secret-club",
    "slug": "secret-slug",
    "name": "Secret Name",
}


@dataclass(frozen=True)
class Call:
    """A call that names something of the caller's, and in {braces} what may be another's."""

    method: str
    path: str
    body: Json | None = None

    def __str__(self) -> str:
        return f"{self.method} {self.path} {json.dumps(self.body) if self.body else ''}"


def over(method: str, path: str, *bodies: Json) -> list[Call]:
    return [Call(method, path, body) for body in bodies]


BY_CONTACT = [{"contact_ids": ["{contact}"]}, {"emails": ["{email}"]}, {"external_ids": ["{external_id}"]}]
BESIDE_OWN = [{"contact_ids": ["OWN_CONTACT", "{contact}"]}, {"emails": ["{email}", "own@example.com"]}]

CALLS = [
    # An id in the path.
    Call("GET", "/tags/{tag}"),
    Call("PATCH", "/tags/{tag}", {"name": "Stolen"}),
    Call("PATCH", "/tags/{tag}", {}),
    Call("DELETE", "/tags/{tag}"),
    Call("DELETE", "/tags/{tag}?if_unused=true"),
    Call("GET", "/tags/{tag}/contacts"),
    *over("POST", "/tags/{tag}/contacts", {"contact_ids": ["OWN_CONTACT"]}, *BY_CONTACT),
    *over("POST", "/tags/{tag}/contacts?on_missing=skip", {"contact_ids": ["OWN_CONTACT"]}, *BY_CONTACT),
    *over("PUT", "/tags/{tag}/contacts", {"contact_ids": []}, {"contact_ids": ["OWN_CONTACT"]}, *BY_CONTACT),
    *over("DELETE", "/tags/{tag}/contacts", {"contact_ids": ["OWN_CONTACT"]}, *BY_CONTACT),
    *over("POST", "/tags/{tag}/contacts/remove", {"contact_ids": ["OWN_CONTACT"]}, *BY_CONTACT),
    Call("GET", "/contacts/{contact}"),
    Call("PATCH", "/contacts/{contact}", {"first_name": "Stolen"}),
    Call("PATCH", "/contacts/{contact}", {"email": "own@example.com"}),
    Call("DELETE", "/contacts/{contact}"),
    Call("GET", "/contacts/{contact}/tags"),
    Call("GET", "/contacts/{contact}/tags?audience=*"),
    *over("POST", "/contacts/{contact}/tags", {"tags": ["own"]}, {"tags": ["New"]}, {"tag_ids": ["{tag}"]}),
    *over("PUT", "/contacts/{contact}/tags", {"tags": []}, {"tags": ["New"]}, {"tag_ids": ["{tag}"]}),
    *over("PATCH", "/contacts/{contact}/tags", {"add": ["New"], "remove": ["own"]}, {"add_ids": ["{tag}"]}),
    *over("DELETE", "/contacts/{contact}/tags", {"tags": ["own"]}, {"tag_ids": ["{tag}"]}),
    Call("GET", "/contacts/{contact}/tags/{slug}"),
    Call("PUT", "/contacts/{contact}/tags/{slug}"),
    Call("DELETE", "/contacts/{contact}/tags/{slug}"),
    Call("GET", "/contacts/{contact}/audiences"),
    Call("PUT", "/contacts/{contact}/audiences/newsletter", {"status": "unsubscribed"}),
    Call("DELETE", "/contacts/{contact}/audiences/newsletter"),
    # An id, a key or a name in the body.
    Call("POST", "/tags", {"name": "New", "contact_ids": ["OWN_CONTACT", "{contact}"]}),
    Call("POST", "/tags?on_conflict=return", {"name": "own", "contact_ids": ["{contact}"]}),
    *over("POST", "/tags/OWN_TAG/contacts", *BY_CONTACT, *BESIDE_OWN),
    *over("POST", "/tags/OWN_TAG/contacts?on_missing=skip", *BY_CONTACT),
    *over("PUT", "/tags/OWN_TAG/contacts", *BY_CONTACT, *BESIDE_OWN),
    *over("PUT", "/tags/OWN_TAG/contacts?on_missing=skip", *BY_CONTACT),
    *over("DELETE", "/tags/OWN_TAG/contacts", *BY_CONTACT),
    *over("POST", "/tags/OWN_TAG/contacts/remove", *BY_CONTACT),
    Call("POST", "/contacts/OWN_CONTACT/tags", {"tag_ids": ["OWN_TAG", "{tag}"]}),
    Call("PUT", "/contacts/OWN_CONTACT/tags", {"tag_ids": ["{tag}"]}),
    Call("DELETE", "/contacts/OWN_CONTACT/tags", {"tag_ids": ["OWN_TAG", "{tag}"]}),
    Call("PATCH", "/contacts/OWN_CONTACT/tags", {"add_ids": ["OWN_TAG"], "remove_ids": ["{tag}"]}),
    Call("PATCH", "/contacts/OWN_CONTACT/tags", {"add_ids": ["{tag}"], "remove_ids": ["OWN_TAG"]}),
    Call("POST", "/contacts/OWN_CONTACT/tags?create_missing=false", {"tags": ["{name}", "{slug}"]}),
    Call("PUT", "/contacts/OWN_CONTACT/tags?create_missing=false", {"tags": ["{slug}"]}),
    Call("PATCH", "/contacts/OWN_CONTACT/tags?create_missing=false", {"add": ["{name}"]}),
    Call("DELETE", "/contacts/OWN_CONTACT/tags", {"tags": ["{name}", "{slug}"]}),
    Call("GET", "/contacts/OWN_CONTACT/tags/{slug}"),
    Call("PUT", "/contacts/OWN_CONTACT/tags/{slug}?create_missing=false"),
    Call("DELETE", "/contacts/OWN_CONTACT/tags/{slug}"),
    # A filter.
    Call("GET", "/tags?ids={tag}"),
    Call("GET", "/tags?slug={slug}"),
    Call("GET", "/tags?search={name}"),
    *(Call("GET", f"/contacts?audience={audience}&email={{email}}") for audience in ("newsletter", "*")),
    *(Call("GET", f"/contacts?audience={audience}&external_id={{external_id}}") for audience in ("newsletter", "*")),
    *(Call("GET", f"/contacts?audience={audience}&search={{email}}") for audience in ("newsletter", "*")),
    *(Call("GET", f"/contacts?tags_{key}=own&tags_{key}={{slug}}") for key in ("all", "any", "none")),
    Call("POST", "/contacts/search", {"filter": {"any": ["own", {"none": ["{slug}"]}]}}),
    Call("POST", "/contacts/search", {"filter": {"all": ["{slug}"]}, "count_only": True}),
    # An audience.
    Call("GET", "/audiences/{audience}"),
    Call("PATCH", "/audiences/{audience}", {"name": "Stolen", "is_default": True}),
    Call("DELETE", "/audiences/{audience}"),
    Call("PUT", "/contacts/OWN_CONTACT/audiences/{audience}", {}),
    Call("DELETE", "/contacts/OWN_CONTACT/audiences/{audience}"),
    Call("GET", "/tags?audience={audience}"),
    Call("POST", "/tags?audience={audience}", {"name": "New"}),
    Call("POST", "/tags/batch?audience={audience}", {"tags": [{"name": "New"}]}),
    Call("GET", "/contacts?audience={audience}"),
    Call("GET", "/contacts?audience={audience}&expand=tags"),
    Call("GET", "/contacts?audience={audience}&tags_all=own"),
    Call("POST", "/contacts/search?audience={audience}", {"filter": {"none": ["own"]}}),
    Call("GET", "/contacts/OWN_CONTACT/tags?audience={audience}"),
    Call("POST", "/contacts/OWN_CONTACT/tags?audience={audience}", {"tags": ["New"]}),
    Call("PUT", "/contacts/OWN_CONTACT/tags?audience={audience}", {"tags": ["New"]}),
    Call("PATCH", "/contacts/OWN_CONTACT/tags?audience={audience}", {"add": ["New"], "remove": ["own"]}),
    Call("DELETE", "/contacts/OWN_CONTACT/tags?audience={audience}", {"tags": ["own"]}),
    Call("GET", "/contacts/OWN_CONTACT/tags/{slug}?audience={audience}"),
    Call("PUT", "/contacts/OWN_CONTACT/tags/{slug}?audience={audience}"),
    Call("DELETE", "/contacts/OWN_CONTACT/tags/{slug}?audience={audience}"),
    Call("POST", "/contacts", {"email": "new@example.com", "audiences": ["newsletter", "{audience}"]}),
    Call("POST", "/contacts?audience={audience}", {"email": "new@example.com", "tags": ["New"]}),
    Call("POST", "/contacts/batch", {"contacts": [{"email": "new@example.com", "audiences": ["{audience}"]}]}),
    # A key, and who is to hold one.
    Call("DELETE", "/keys/{key}"),
    Call("POST", "/keys", {"scopes": ["admin"], "client": "{client}"}),
    *over(
        "POST",
        "/keys",
        *({"scopes": ["admin"], "audience": "{audience}", "client": one} for one in ("web", "{client}")),
    ),
    Call("POST", "/keys?create_missing=true", {"scopes": ["admin"], "audience": "{audience}", "client": "{client}"}),
]

# They change what is the caller's own, and must do so in the same way whichever of the two is named.
OWN_IS_CHANGED = ("on_missing=skip",)


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


async def send(api: Api, what: Call, own: dict[str, str], named: dict[str, str]) -> httpx.Response:
    def fill(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: fill(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [fill(inner) for inner in value]
        if isinstance(value, str):
            for name, replacement in own.items():
                value = value.replace(name, replacement)
            for name, replacement in named.items():
                value = value.replace(f"{{{name}}}", replacement)
        return value

    return await api.request(what.method, fill(what.path), json=fill(what.body))


def masked(response: httpx.Response, named: dict[str, str]) -> tuple[int, dict[str, str], str]:
    """Status, headers and body without the request's id and without what the caller itself named."""
    text = response.text.replace(response.headers["x-request-id"], "REQUEST_ID")
    for name, value in named.items():
        text = text.replace(value, name.upper())
    headers = {
        name: value for name, value in response.headers.items() if name not in {"x-request-id", "content-length"}
    }
    return response.status_code, headers, text


@pytest.mark.parametrize("what", CALLS, ids=str)
async def test_anothers_is_as_one_that_never_was(api: Api, other_api: Api, what: Call) -> None:
    secrets, own = await make_secrets(other_api), await make_own(api)
    theirs, mine = await state_of(other_api.workspace), await state_of(api.workspace)
    answer = await send(api, what, own, secrets)
    assert await state_of(other_api.workspace) == theirs
    if not answer.is_success:
        assert await state_of(api.workspace) == mine
    elif any(condition in what.path for condition in OWN_IS_CHANGED):
        # As it was, for the other name to meet the same.
        await call(api, "PUT", f"/tags/{own['OWN_TAG']}/contacts", {"contact_ids": [own["OWN_CONTACT"]]})
    expected = await send(api, what, own, NEVER_THERE)
    assert masked(answer, secrets) == masked(expected, NEVER_THERE)
    assert answer.status_code < 500
    assert "Secret" not in answer.text.replace(KEPT_SECRET["name"], "")


def test_every_call_that_names_something_is_in_the_table() -> None:
    named = set().union(*(routes_of(what.method, what.path) for what in CALLS))
    # These name nothing that is there already.
    assert all_routes() - named == {
        ("GET", "/audiences"),
        ("POST", "/audiences"),
        ("GET", "/events"),
        ("GET", "/keys"),
        ("GET", "/me"),
        ("GET", "/healthz"),
        ("GET", "/readyz"),
        ("GET", "/metrics"),
    }


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


async def test_a_cursor_of_another_workspace_shows_nothing_of_it(api: Api, other_api: Api) -> None:
    await make_tags(other_api, "a", "b", "c")
    await make_tags(api, "d")
    cursor = (await call(other_api, "GET", "/tags", limit=1))["pagination"]["next_cursor"]
    response = await api.get("/tags", params={"cursor": cursor})
    assert response.status_code == 400 or [tag["name"] for tag in response.json()["data"]] == ["d"]
