"""What is another's, in another workspace or another newsletter of one's own, is answered as what never existed."""

import json
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from starlette.types import ASGIApp

from app.dialects.buttondown.typeids import Prefix, decode, encode
from tests.conftest import Api
from tests.dialects.buttondown.calls import (
    all_routes,
    bulk,
    call,
    holder_of,
    key_of,
    make_subscriber,
    make_tag,
    routes_of,
    send,
)
from tests.routers import calls as native
from tests.routers.calls import Json, state_of

NEVER_THERE = {
    "tag": "0190a0a0-0000-7000-8000-00000000beef",
    "subscriber": "0190a0a0-0000-7000-8000-00000000cafe",
    "bulk": "0190a0a0-0000-7000-8000-00000000f00d",
    "email": "random@example.com",
    "name": "Random Name",
}
KINDS: dict[str, Prefix] = {"tag": "sub_tag", "subscriber": "sub", "bulk": "bulk_action"}


@dataclass(frozen=True)
class Call:
    """A call that names something of the caller's, and in {braces} what may be another's."""

    method: str
    path: str
    body: Json | None = None

    def __str__(self) -> str:
        return f"{self.method} {self.path} {json.dumps(self.body) if self.body else ''}"


def bulk_call(kind: str, **metadata: Any) -> Call:
    return Call("POST", "/bulk_actions", {"type": kind, "metadata": metadata})


CALLS = [
    Call("GET", "/tags/{tag}"),
    Call("PATCH", "/tags/{tag}", {"name": "Stolen"}),
    Call("PATCH", "/tags/{tag}", {"secondary_id": 9}),
    Call("PATCH", "/tags/{tag}", {}),
    Call("DELETE", "/tags/{tag}"),
    Call("GET", "/tags/{tag}/analytics"),
    Call("GET", "/tags?ids={tag}"),
    Call("GET", "/tags?ids=OWN_TAG&ids={tag}"),
    *(Call("GET", f"/subscribers/{{{name}}}") for name in ("subscriber", "email")),
    *(Call("PATCH", f"/subscribers/{{{name}}}", {"tags": ["New"]}) for name in ("subscriber", "email")),
    *(Call("PATCH", f"/subscribers/{{{name}}}", {"type": "unsubscribed"}) for name in ("subscriber", "email")),
    *(Call("DELETE", f"/subscribers/{{{name}}}") for name in ("subscriber", "email")),
    Call("POST", "/subscribers", {"email_address": "new@example.com", "tags": ["{tag}"]}),
    Call("POST", "/subscribers", {"email_address": "own@example.com", "tags": ["New", "{tag}"]}),
    Call("PATCH", "/subscribers/OWN_SUBSCRIBER", {"tags": ["{tag}"]}),
    Call("PATCH", "/subscribers/OWN_SUBSCRIBER", {"tags": ["OWN_TAG", "New", "{tag}"]}),
    *(Call("GET", f"/subscribers?{key}={{{name}}}") for key in ("tag", "-tag") for name in ("tag", "name")),
    Call("GET", "/subscribers?tag=OWN_TAG&tag={tag}"),
    bulk_call("apply_tags", tag_id="{tag}", ids=["OWN_SUBSCRIBER"]),
    bulk_call("apply_tags", tag_ids=["OWN_TAG", "{tag}"], ids=["all"], action="remove"),
    bulk_call("apply_tags", tag_id="OWN_TAG", ids=["{subscriber}"]),
    bulk_call("apply_tags", tag_id="OWN_TAG", ids=["OWN_SUBSCRIBER", "{subscriber}"], action="remove"),
    bulk_call("apply_tags", tag_id="OWN_TAG", ids=["-{subscriber}"]),
    *(
        bulk_call("change_tags_colors", color="#000000", ids=ids)
        for ids in (["{tag}"], ["OWN_TAG", "{tag}"], ["-{tag}"])
    ),
    *(bulk_call("delete_tags", ids=ids) for ids in (["{tag}"], ["OWN_TAG", "{tag}"], ["-{tag}"])),
    Call("GET", "/bulk_actions/{bulk}"),
]


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


def filled(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: filled(inner, names) for key, inner in value.items()}
    if isinstance(value, list):
        return [filled(inner, names) for inner in value]
    if isinstance(value, str):
        for name, replacement in names.items():
            value = value.replace(name, replacement)
    return value


def masked(response: httpx.Response, named: dict[str, str]) -> tuple[int, dict[str, str], str]:
    """Status, headers and body without the request's id and without what the caller itself named, in either form."""
    text = response.text.replace(response.headers["x-request-id"], "REQUEST_ID")
    for name, value in named.items():
        text = text.replace(value, name.upper())
        if (prefix := KINDS.get(name)) and (plain := decode(prefix, value)):
            text = text.replace(str(plain), name.upper())
    headers = {
        name: value for name, value in response.headers.items() if name not in {"x-request-id", "content-length"}
    }
    return response.status_code, headers, text


@pytest.mark.parametrize("form", ["TypeIDs", "UUIDs"])
@pytest.mark.parametrize("what", CALLS, ids=str)
async def test_anothers_is_as_one_that_never_was(
    app: ASGIApp, api: Api, other_api: Api, theirs: str, what: Call, form: str
) -> None:
    other = await other_of(theirs, app, api, other_api)
    secrets, own = await make_secrets(other), await make_own(api)
    never = dict(NEVER_THERE)
    for name, prefix in KINDS.items():
        plain = decode(prefix, secrets[name]), decode(prefix, never[name])
        assert all(plain)
        secrets[name], never[name] = (
            (encode(prefix, one) if form == "TypeIDs" else str(one)) for one in plain if one is not None
        )
    before = await state_of(other.workspace)
    answer, expected = [
        await send(
            api,
            what.method,
            filled(what.path, own | {f"{{{name}}}": value for name, value in named.items()}),
            filled(what.body, own | {f"{{{name}}}": value for name, value in named.items()}),
        )
        for named in (secrets, never)
    ]
    assert masked(answer, secrets) == masked(expected, never)
    assert answer.status_code < 500
    # What is refused writes nothing anywhere, and a list shows nothing.
    assert await state_of(other.workspace) == before
    assert answer.status_code in {400, 404} or what.method == "GET"
    assert "ecret" not in answer.text.replace("Secret Name", "") or "{email}" in what.path
    await other.aclose()


def test_every_call_that_names_something_is_in_the_table() -> None:
    named = set().union(*(routes_of(what.method, what.path) for what in CALLS))
    assert all_routes() - named == {("POST", "/v1/tags")}


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
