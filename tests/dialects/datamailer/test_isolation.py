"""What belongs to another workspace is answered as what never existed, by the same bytes; so is another client's."""

import json
import re
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from starlette.types import ASGIApp

from tests.conftest import Api
from tests.dialects.datamailer.calls import (
    BASE,
    SCOPE,
    STATUS_KEYS,
    UNKNOWN_CONTACT,
    all_routes,
    call,
    colleague,
    colleagues,
    emails,
    put_tags,
    refuse,
    status_of,
    subscribe,
    tags_path,
    upsert,
)
from tests.routers.calls import Json, answered, run, state_of

# What a call may name of another workspace, and what is named instead where it should make no difference. Each pair
# has the same length, so that nothing but the name itself differs.
SECRET = {"email": "secret@example.com", "audience": "secret-club", "client": "secret-app", "tag": "secret-tag"}
RANDOM = {"email": "random@example.com", "audience": "random-club", "client": "random-app", "tag": "random-tag"}


@dataclass(frozen=True)
class Call:
    """A call with what may be another's in {braces}. OWN is the caller's contact."""

    method: str
    path: str
    body: Json | None = None

    def __str__(self) -> str:
        return f"{self.method} {self.path} {json.dumps(self.body) if self.body else ''}"


TAGS = "/api/contacts/{number}/tags"
OWN_TAGS = "/api/contacts/OWN/tags"
LIST = "/api/contacts?audience=newsletter&client=web"
ELSEWHERE = {"audience": "{audience}", "client": "web"}
OF_ANOTHER = {"audience": "newsletter", "client": "{client}"}
OWN_EMAIL = {"email": "own@example.com"}
SET = {"tags": ["own"]}

CALLS = [
    # A contact's number.
    Call("PUT", TAGS, {**SCOPE, "tags": []}),
    Call("PUT", TAGS, {**SCOPE, **SET}),
    Call("POST", TAGS + "/own", SCOPE),
    Call("POST", TAGS + "/{tag}?audience=newsletter&client=web"),
    Call("DELETE", TAGS + "/{tag}", SCOPE),
    # An audience, beside a contact of the caller's, or of nobody.
    *(Call("PUT", path, {**ELSEWHERE, **SET}) for path in (OWN_TAGS, TAGS)),
    *(Call("POST", path + "/own", ELSEWHERE) for path in (OWN_TAGS, TAGS)),
    *(Call("DELETE", path + "/own", ELSEWHERE) for path in (OWN_TAGS, TAGS)),
    Call("GET", "/api/contacts?audience={audience}&client=web"),
    Call("GET", "/api/contacts/status?audience={audience}&client=web&email=own@example.com"),
    *(
        Call("POST", f"/api/subscriptions/{verb}", {**ELSEWHERE, **OWN_EMAIL, "scope": "client"})
        for verb in ("subscribe", "unsubscribe")
    ),
    Call("POST", "/api/contacts", {**ELSEWHERE, **OWN_EMAIL}),
    # A client.
    Call("PUT", OWN_TAGS, {**OF_ANOTHER, **SET}),
    Call("POST", OWN_TAGS + "/own", OF_ANOTHER),
    Call("DELETE", OWN_TAGS + "/own", OF_ANOTHER),
    Call("GET", "/api/contacts?audience=newsletter&client={client}"),
    Call("GET", "/api/contacts/status?audience=newsletter&client={client}&email=own@example.com"),
    *(
        Call("POST", f"/api/subscriptions/{verb}", {**OF_ANOTHER, **OWN_EMAIL, "scope": "client"})
        for verb in ("subscribe", "unsubscribe")
    ),
    Call("POST", "/api/contacts", {**OF_ANOTHER, **OWN_EMAIL}),
    # A tag, and an address.
    Call("DELETE", OWN_TAGS + "/{tag}", SCOPE),
    Call("GET", LIST + "&tags={tag}"),
    Call("GET", LIST + "&tags=own,{tag}"),
    Call("GET", "/api/contacts/status?audience=newsletter&client=web&email={email}"),
]
# These write, for whom an address is a new one. They must do so in the same way, whoever has it elsewhere.
WRITES = [
    Call("POST", "/api/contacts", {**SCOPE, "email": "{email}", "tags": ["{tag}"]}),
    Call("POST", "/api/subscriptions/subscribe", {**SCOPE, "email": "{email}", "tags": ["{tag}"]}),
    Call("POST", "/api/subscriptions/unsubscribe", {**SCOPE, "email": "{email}", "scope": "client"}),
    Call("POST", "/api/subscriptions/unsubscribe", {**SCOPE, "email": "{email}", "scope": "audience"}),
    Call("POST", "/api/subscriptions/unsubscribe", {**SCOPE, "email": "{email}", "scope": "global"}),
    Call("PUT", OWN_TAGS, {**SCOPE, "tags": ["{tag}"]}),
    Call("POST", OWN_TAGS + "/{tag}", SCOPE),
]


async def make_secrets(app: ASGIApp, api: Api) -> Json:
    """One workspace's contact, by all that names it."""
    club = await colleague(api.workspace, client=SECRET["client"], audience=SECRET["audience"])
    contact = await subscribe(api, SECRET["email"], tags=[SECRET["tag"]])
    async with colleagues(app, club) as [other]:
        await subscribe(
            other, SECRET["email"], tags=[SECRET["tag"]], audience=SECRET["audience"], client=SECRET["client"]
        )
    return {**SECRET, "number": str(contact["contact_id"])}


async def send(api: Api, what: Call, own: Json, named: Json) -> httpx.Response:
    def fill(text: str) -> str:
        for name, value in named.items():
            text = text.replace(f"{{{name}}}", value)
        return text.replace("/OWN/", f"/{own['contact_id']}/")

    body = what.body and json.loads(fill(json.dumps(what.body)))
    return await api.request(what.method, BASE + fill(what.path), json=body)


def masked(response: httpx.Response, named: Json) -> tuple[int, dict[str, str], bytes]:
    """An answer without what is asked for, without new numbers and times."""
    content = response.text
    for name, value in named.items():
        content = content.replace(value, f"<{name}>")
    content = re.sub(r'"contact_id":\d+', '"contact_id":1', content)
    content = re.sub(r'"\d{4}-\d\d-\d\dT[^"]+"', '"now"', content)
    headers = {
        name: value for name, value in response.headers.items() if name not in ("x-request-id", "content-length")
    }
    return response.status_code, headers, content.encode()


@pytest.mark.parametrize("what", CALLS, ids=str)
async def test_another_workspaces_things_never_existed(app: ASGIApp, api: Api, other_api: Api, what: Call) -> None:
    secrets = await make_secrets(app, other_api)
    own = await subscribe(api, "own@example.com", tags=["own"])
    theirs, ours = await state_of(other_api.workspace), await state_of(api.workspace)
    secret = await send(api, what, own, secrets)
    random = await send(api, what, own, {**RANDOM, "number": str(UNKNOWN_CONTACT)})
    assert masked(secret, secrets) == masked(random, RANDOM)
    assert (await state_of(other_api.workspace), await state_of(api.workspace)) == (theirs, ours)


@pytest.mark.parametrize("what", WRITES, ids=str)
async def test_what_is_known_to_another_workspace_is_new_here(
    app: ASGIApp, api: Api, other_api: Api, what: Call
) -> None:
    secrets = await make_secrets(app, other_api)
    theirs = await state_of(other_api.workspace)
    alike = [await subscribe(api, f"own{n}@example.com") for n in range(2)]
    secret = await send(api, what, alike[0], secrets)
    random = await send(api, what, alike[1], RANDOM)
    answered(secret)
    assert masked(secret, {**secrets, "own": "own0@"}) == masked(random, {**RANDOM, "own": "own1@"})
    assert await state_of(other_api.workspace) == theirs


def test_every_call_is_looked_at() -> None:
    """By its method and path, the parameters aside."""
    looked_at = {
        (one.method, one.path.partition("?")[0].replace("OWN", "{number}").replace("/own", "/{tag}"))
        for one in (*CALLS, *WRITES)
    }
    there = {
        (method, path.replace("{contact_id}", "{number}").replace("{tag_slug}", "{tag}"))
        for method, path in all_routes()
    }
    assert looked_at == there


async def test_a_contact_of_another_client_is_not_there(app: ASGIApp, api: Api) -> None:
    """Without an agreement with this client it is `not_found`, has no status and is in no list; its tags stay."""
    shop = await colleague(api.workspace, client="shop")
    async with colleagues(app, shop) as [other]:
        theirs = await subscribe(other, "ada@example.com", client="shop", tags=["kept"])
        before = await state_of(api.workspace)
        body: dict[str, Any] = {**SCOPE, "tags": []}
        for method, slug in (("PUT", None), ("POST", "vip"), ("DELETE", "kept")):
            refusal = await refuse(api, method, tags_path(theirs, slug), body, 404)
            assert refusal == {"contact_id": "not_found"}
        hidden = await status_of(api)
        assert list(hidden) == STATUS_KEYS
        assert hidden == {**await status_of(api, "nobody@example.com"), "email": "ada@example.com"}
        assert hidden["exists"] is False
        assert await emails(api) == []
        assert await emails(api, tags="kept") == []
        assert await state_of(api.workspace) == before
        assert await emails(other, client="shop") == ["ada@example.com"]


async def test_tags_are_shared_by_the_clients_of_an_audience(app: ASGIApp, api: Api) -> None:
    """Each agreement is the client's own."""
    shop = await colleague(api.workspace, client="shop")
    async with colleagues(app, shop) as [other]:
        theirs = await subscribe(other, client="shop", tags=["theirs"])
        ours = await upsert(api, tags=["ours"])
        assert ours["contact_id"] == theirs["contact_id"]
        assert ours["tags"] == ["ours", "theirs"]
        assert (ours["client"]["slug"], ours["client"]["status"]) == ("web", "pending")
        assert await put_tags(other, theirs, "new", client="shop") == ["new"]
        assert (await call(api, "POST", tags_path(ours, "more"), SCOPE))["tags"] == ["more", "new"]
        assert (await status_of(other, client="shop"))["client"]["status"] == "subscribed"


async def test_a_member_without_any_agreement_is_not_there(api: Api) -> None:
    """One with which only the audience as a whole agreed, too."""
    contact = await upsert(api, tags=["kept"])
    await run(
        api.workspace.database,
        "update subscriptions set client_id = null where workspace_id = :workspace_id",
        workspace_id=api.workspace.principal.workspace_id,
    )
    body = {**SCOPE, "tags": []}
    assert await refuse(api, "PUT", tags_path(contact), body, 404) == {"contact_id": "not_found"}
    assert (await status_of(api))["exists"] is False
    assert await emails(api) == []
    assert (await upsert(api))["tags"] == ["kept"]


async def test_an_audience_and_a_client_are_told_apart_by_case(api: Api) -> None:
    contact = await upsert(api)
    body = {**SCOPE, "tags": []}
    path = tags_path(contact)
    assert await refuse(api, "PUT", path, {**body, "audience": "Newsletter"}) == {"audience": "not_found"}
    assert await refuse(api, "PUT", path, {**body, "client": "Web"}, 403) == {"client": "forbidden"}
    padded = {**body, "audience": "\n newsletter\u00a0", "client": "\tweb "}
    assert (await call(api, "PUT", path, padded))["audience"]["slug"] == "newsletter"


async def test_any_audience_of_the_workspace_can_be_named(api: Api) -> None:
    """The key's default audience does not matter."""
    await colleague(api.workspace, audience="courses")
    contact = await subscribe(api, audience="courses", tags=["Python"])
    assert contact["audience"]["slug"] == "courses"
    assert contact["tags"] == ["python"]
    assert await emails(api, audience="courses") == ["ada@example.com"]
    assert await emails(api) == []
