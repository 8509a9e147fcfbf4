"""Whatever is wrong with a request is said in the vendor's form, with its status, and nothing is written."""

import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.types import ASGIApp

from app.config import Settings
from app.database import Database
from app.dialects.topmail import _TABLE
from app.values import SCOPES, new_key
from tests.conftest import Api, Workspace, client_of, make_workspace, started
from tests.dialects.topmail.calls import (
    BASE,
    UNKNOWN_CONTACT,
    UNKNOWN_TAG,
    all_routes,
    call,
    error_of,
    make_contact,
    make_tag,
    routes_of,
)
from tests.routers.calls import Json, forget_default_audience, make_key, state_of

INVALID = (400, "validation_error")

# Each call, as it works; in braces stands what `filled` makes.
CALLS: dict[tuple[str, str], Json | None] = {
    ("GET", "/tags"): None,
    ("GET", "/tags/{tag}"): None,
    ("POST", "/tags"): {"name": "New"},
    ("PATCH", "/tags/{tag}"): {"name": "New"},
    ("DELETE", "/tags/{tag}"): None,
    ("GET", "/tags/{tag}/contacts"): None,
    ("POST", "/tags/{tag}/contacts"): {"contact_ids": ["{contact}"]},
    ("DELETE", "/tags/{tag}/contacts"): {"contact_ids": ["{contact}"]},
    ("POST", "/tags/{tag}/contacts/remove"): {"contact_ids": ["{contact}"]},
    ("GET", "/contacts"): None,
    ("POST", "/contacts"): {"email": "new@example.com"},
    ("GET", "/contacts/{contact}"): None,
    ("PATCH", "/contacts/{contact}"): {"first_name": "New"},
    ("DELETE", "/contacts/{contact}"): None,
}
SCOPES_OF: dict[tuple[str, str], tuple[str, ...]] = {
    (method, path): (
        ("tags:read", "contacts:read")
        if (method, path) == ("GET", "/tags/{tag}/contacts")
        else (f"{path.split('/')[1]}:{'read' if method == 'GET' else 'write'}",)
    )
    for method, path in CALLS
}
WITH_BODY = [one for one, body in CALLS.items() if body is not None]
LISTS = ["/tags", "/tags/{tag}/contacts", "/contacts"]


@dataclass(frozen=True)
class Home:
    """A workspace with a tag and a contact that carries it, and a client of it."""

    api: Api
    names: dict[str, str]

    def filled(self, value: Any) -> Any:
        text = json.dumps(value)
        for name, one in self.names.items():
            text = text.replace(f"{{{name}}}", one)
        return json.loads(text)

    async def send(self, method: str, path: str, **options: Any) -> httpx.Response:
        return await self.api.request(method, BASE + self.filled(path), **options)

    async def refused(
        self, method: str, path: str, status: int, code: str, field: str | None = None, /, **options: Any
    ) -> str:
        """The message of a call that must be refused like this, and write nothing."""
        before = await state_of(self.api.workspace)
        message = error_of(await self.send(method, path, **options), status, code, field)
        assert await state_of(self.api.workspace) == before
        return message


async def home_of(api: Api) -> Home:
    tag, contact = await make_tag(api), await make_contact(api)
    await call(api, "POST", f"/tags/{tag['id']}/contacts", {"contact_ids": [contact["id"]]})
    return Home(api, {"tag": tag["id"], "contact": contact["id"]})


@pytest.fixture
async def home(api: Api) -> Home:
    return await home_of(api)


def test_every_call_is_in_the_table() -> None:
    assert set().union(*(routes_of(method, BASE + path) for method, path in CALLS)) == all_routes()


@pytest.mark.parametrize(("method", "path"), CALLS)
async def test_the_calls_of_the_table_work(home: Home, method: str, path: str) -> None:
    response = await home.send(method, path, json=home.filled(CALLS[method, path]))
    assert response.is_success, response.text


# Bodies that cannot be read.

NESTED_64 = b'{"name":' + b"[" * 63 + b"]" * 63 + b"}"
NESTED_65 = b'{"name":' + b"[" * 64 + b"]" * 64 + b"}"
UNREADABLE = [
    b"{",
    b'{"name":',
    b"name=VIP",
    b"{'name': 'VIP'}",
    b'{"name": "VIP"} {}',
    b'{"name": "VIP",}',
    b'\xef\xbb\xbf{"name": "VIP"}',
    b'{"name": "caf\xe9"}',
    '{"name": "VIP"}'.encode("utf-16"),
    b'{"name": NaN}',
    b'{"name": 1e999}',
    b'{"name": ' + b"9" * 5_000 + b"}",
    b"\x00",
    NESTED_65,
]


@pytest.mark.parametrize(("method", "path"), WITH_BODY)
async def test_a_body_that_cannot_be_read(home: Home, method: str, path: str) -> None:
    for content in UNREADABLE:
        await home.refused(method, path, *INVALID, content=content)


@pytest.mark.parametrize(("method", "path"), WITH_BODY)
async def test_a_body_that_is_no_object(home: Home, method: str, path: str) -> None:
    for content in (b"", b"null", b"[]", b"5", b'"name"', b"true", b'[{"name": "VIP"}]'):
        await home.refused(method, path, *INVALID, content=content)


async def test_the_limit_of_depth(home: Home) -> None:
    await home.refused("POST", "/tags", *INVALID, "name", content=NESTED_64)
    assert "64" in await home.refused("POST", "/tags", *INVALID, content=NESTED_65)


@pytest.mark.parametrize(("method", "path"), WITH_BODY)
async def test_a_body_that_is_too_large(home: Home, method: str, path: str) -> None:
    message = await home.refused(method, path, 413, "payload_too_large", content=b" " * 1_048_577)
    assert "1,048,576" in message


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/x-www-form-urlencoded", "nonsense"])
async def test_any_content_type_is_accepted(home: Home, content_type: str | None) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    made = await home.send("POST", "/tags", content=b'{"name": "New"}', headers=headers)
    assert made.status_code == 201
    assert made.json()["data"]["name"] == "New"


async def test_a_compressed_body(home: Home) -> None:
    message = await home.refused("POST", "/tags", *INVALID, content=b"\x1f\x8b", headers={"Content-Encoding": "gzip"})
    assert "gzip" in message


# Fields.

NO_STRINGS: list[Any] = [5, 1.5, True, [], ["x"], {}, {"a": "b"}]
NO_TEXTS: list[Any] = ["a\x00b", "\x00", "\ud800", "a\udfffb"]
NO_FLAGS: list[Any] = [None, 0, 1, "true", "yes", "", [], {}]
DEEP: Json = {}
for _ in range(33):
    DEEP = {"a": DEEP}
NO_ATTRIBUTES: list[Any] = [
    5,
    True,
    "x",
    [],
    [{"a": 1}],
    DEEP,
    {"a": "x" * 16_384},
    {"a": "\x00"},
    {"\x00": 1},
    {"a": ["\ud800"]},
]

TAG_FIELDS: dict[str, list[Any]] = {
    "name": [*NO_STRINGS, *NO_TEXTS, None, "", " ", "\t\n", "a\nb", "a\x7fb", "n" * 51, "e\u0301" * 51, "n" * 1_000],
    "color": [*NO_STRINGS, *NO_TEXTS, None, "", "indigo", "6366f1", "#6366f", "#6366f1f1", "#gggggg", "#6366f1 "],
    "description": [*NO_STRINGS, *NO_TEXTS, "d" * 201, "d" * 100_000],
}
CONTACT_FIELDS: dict[str, list[Any]] = {
    "email": [
        *NO_STRINGS,
        *NO_TEXTS,
        None,
        "",
        " ",
        "ada",
        "@",
        "a@",
        "@b",
        "a b@c",
        "a@b@c",
        "a" * 310 + "@example.org",
    ],
    "first_name": [*NO_STRINGS, *NO_TEXTS, "n" * 101],
    "last_name": [*NO_STRINGS, *NO_TEXTS, "n" * 101],
    "attributes": NO_ATTRIBUTES,
    "subscribed": NO_FLAGS,
}


@pytest.mark.parametrize(
    ("method", "path", "field", "others"),
    [
        *(("POST", "/tags", field, {"name": "New"}) for field in TAG_FIELDS),
        *(("PATCH", "/tags/{tag}", field, {}) for field in TAG_FIELDS),
        *(("POST", "/contacts", field, {"email": "new@example.com"}) for field in CONTACT_FIELDS),
        *(("PATCH", "/contacts/{contact}", field, {}) for field in CONTACT_FIELDS),
    ],
)
async def test_a_field_that_breaks_its_rule(home: Home, method: str, path: str, field: str, others: Json) -> None:
    for value in (TAG_FIELDS | CONTACT_FIELDS)[field]:
        # Not as UTF-8, in which half a surrogate pair cannot be written.
        content = json.dumps({**others, field: value}).encode()
        await home.refused(method, path, *INVALID, field, content=content)


@pytest.mark.parametrize(("path", "field"), [("/tags", "name"), ("/contacts", "email")])
async def test_what_is_required(home: Home, path: str, field: str) -> None:
    assert await home.refused("POST", path, *INVALID, field, json={}) == "This is required."
    await home.refused("POST", path, *INVALID, field, json={field.title(): "x@example.com"})


async def test_of_several_fields_the_first_is_named(home: Home) -> None:
    body = {"name": "New", "color": "red", "description": 5}
    assert "color" in await home.refused("POST", "/tags", *INVALID, "color", json=body)


ASSIGNING = [
    ("POST", "/tags/{tag}/contacts"),
    ("DELETE", "/tags/{tag}/contacts"),
    ("POST", "/tags/{tag}/contacts/remove"),
]


@pytest.mark.parametrize(("method", "path"), ASSIGNING)
async def test_contact_ids_that_break_their_rule(home: Home, method: str, path: str) -> None:
    contact = home.names["contact"]
    for value in (None, [], 5, True, contact, {}, {"0": contact}, [contact] * 501):
        await home.refused(method, path, *INVALID, "contact_ids", json={"contact_ids": value})
    await home.refused(method, path, *INVALID, "contact_ids", json={"ids": [contact]})
    for item in (None, 5, True, "", "x", "ada@example.com", [contact], {"id": contact}, contact[:-1], contact + "0"):
        await home.refused(method, path, *INVALID, "contact_ids.1", json={"contact_ids": [contact, item]})
    for text in NO_TEXTS:
        content = json.dumps({"contact_ids": [contact, text]}).encode()
        await home.refused(method, path, *INVALID, "contact_ids.1", content=content)


async def test_what_is_just_within_the_limits(home: Home) -> None:
    tag = {"name": "n" * 50, "color": "#abc", "description": "d" * 200}
    made = await call(home.api, "POST", "/tags", tag, status=201)
    assert made["data"] | tag | {"color": "#aabbcc"} == made["data"]
    # 50 characters once they are composed and trimmed.
    await call(home.api, "PATCH", f"/tags/{made['data']['id']}", {"name": " " + "e\u0301" * 50})
    contact = {
        "email": "e" * 308 + "@example.org",
        "first_name": "n" * 100,
        "last_name": "🎉" * 100,
        "attributes": {"a": "x" * 16_376},
    }
    made = await call(home.api, "POST", "/contacts", contact, status=201)
    assert made["data"] | contact == made["data"]
    for method, path in ASSIGNING:
        response = await home.send(method, path, json={"contact_ids": [home.names["contact"]] * 500})
        assert response.status_code == 200
        assert response.json()["data"]["requested"] == 1


@pytest.mark.parametrize(
    ("method", "path", "value"),
    [
        ("POST", "/tags", {"description": None}),
        ("PATCH", "/tags/{tag}", {"description": None}),
        ("POST", "/contacts", {"first_name": None, "last_name": None, "attributes": None}),
        ("PATCH", "/contacts/{contact}", {"first_name": None, "last_name": None, "attributes": None}),
    ],
)
async def test_what_may_be_null(home: Home, method: str, path: str, value: Json) -> None:
    response = await home.send(method, path, json=home.filled(CALLS[method, path] or {}) | value)
    assert response.is_success, response.text


@pytest.mark.parametrize(("method", "path"), WITH_BODY)
async def test_unknown_fields_are_ignored(home: Home, method: str, path: str) -> None:
    unknown = {"id": UNKNOWN_TAG, "slug": 5, "contact_count": 7, "lists": ["x"], "": None, "a.b": {"c": []}}
    response = await home.send(method, path, json=home.filled(CALLS[method, path]) | unknown)
    assert response.is_success, response.text
    assert UNKNOWN_TAG not in response.text
    await home.refused(method, path, *INVALID, json={f"f{n}": n for n in range(65)})


@pytest.mark.parametrize("path", LISTS)
async def test_unknown_parameters_are_ignored(home: Home, path: str) -> None:
    response = await home.send("GET", path, params={"page": "x", "audience": "elsewhere", "cursor": "y", "": ""})
    assert response.status_code == 200
    assert response.json()["pagination"] == {"total": 1, "limit": 100, "offset": 0, "has_more": False}


# Query strings.


@pytest.mark.parametrize("path", LISTS)
async def test_the_edges_of_limit_and_offset(home: Home, path: str) -> None:
    for limit in ("0", "-1", "1001", "9" * 5_000, "", "x", "1.5", "1e2", "null", "\x00"):
        await home.refused("GET", path, *INVALID, "limit", params={"limit": limit})
    for offset in ("-1", "1000000001", "9" * 5_000, "", "x", "0.5", "\x00"):
        await home.refused("GET", path, *INVALID, "offset", params={"offset": offset})
    for most, left_out in ((1, 0), (1_000, 0), (1, 999_999), (1_000, 1_000_000_000)):
        response = await home.send("GET", path, params={"limit": most, "offset": left_out})
        assert response.status_code == 200
        assert len(response.json()["data"]) == (not left_out)
        pagination = {"total": 1, "limit": most, "offset": left_out, "has_more": False}
        assert response.json()["pagination"] == pagination


@pytest.mark.parametrize(("path", "most"), [("/tags", 120), ("/contacts", 320)])
async def test_what_can_be_searched_for(home: Home, path: str, most: int) -> None:
    for search in ("a\x00b", "x" * (most + 1), "x" * 40_000):
        await home.refused("GET", path, *INVALID, "search", params={"search": search})
    for search in ("x" * most, "%", "_", "'", '"; drop table tags', "\\", "🎉", "\u0301"):
        response = await home.send("GET", path, params={"search": search})
        assert response.status_code == 200
        assert response.json() == {
            "data": [],
            "pagination": {"total": 0, "limit": 100, "offset": 0, "has_more": False},
        }
    # Nothing to look for finds all.
    for search in ("", " "):
        response = await home.send("GET", path, params={"search": search})
        assert response.json()["pagination"]["total"] == 1


@pytest.mark.parametrize("value", ["", "maybe", "2", "null", "\x00"])
async def test_a_filter_that_is_no_flag(home: Home, value: str) -> None:
    await home.refused("GET", "/contacts", *INVALID, "subscribed", params={"subscribed": value})


@pytest.mark.parametrize("path", LISTS)
async def test_a_query_that_is_not_in_utf8(home: Home, path: str) -> None:
    for query in ("search=%ff", "search=%ed%a0%80", "%ff=1", "limit=%c3"):
        await home.refused("GET", f"{path}?{query}", *INVALID)


# Paths and methods.

IDS = [
    "x",
    "1",
    "TAG_ID",
    "null",
    " ",
    "%00",
    "%ff",
    "ada@example.com",
    UNKNOWN_TAG[:-1],
    UNKNOWN_TAG + "0",
    "x" * 2_000,
]


@pytest.mark.parametrize(("method", "path"), [one for one in CALLS if "{" in one[1]])
async def test_an_id_that_is_malformed_or_unknown(home: Home, method: str, path: str) -> None:
    kind = "tag" if "{tag}" in path else "contact"
    code = "not_found" if kind == "tag" else "contact_not_found"
    body = home.filled(CALLS[method, path])
    for one in (*IDS, UNKNOWN_TAG, UNKNOWN_CONTACT, home.names["contact" if kind == "tag" else "tag"]):
        message = await home.refused(method, path.replace(f"{{{kind}}}", one), 404, code, json=body)
        assert message.startswith(f"There is no {kind} ")


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/tags/",
        "/tag",
        "/tags/{tag}/",
        "/tags/{tag}/contacts/",
        "/tags/{tag}/contacts/{contact}",
        "/contacts/{contact}/tags",
        "/lists",
        "/Tags",
        "/tags%0a",
        "/tags/../me",
        "/<script>",
        "/../v2/tags",
        "/../../me",
    ],
)
async def test_a_path_that_is_not_there(home: Home, path: str) -> None:
    for method in ("GET", "POST", "PATCH", "DELETE", "PUT"):
        await home.refused(method, path, 404, "not_found", json={"name": "New"})


METHODS = {
    "/tags": "GET, HEAD, POST",
    "/tags/{tag}": "DELETE, GET, HEAD, PATCH",
    "/tags/{tag}/contacts": "DELETE, GET, HEAD, POST",
    "/tags/{tag}/contacts/remove": "POST",
    "/contacts": "GET, HEAD, POST",
    "/contacts/{contact}": "DELETE, GET, HEAD, PATCH",
}


@pytest.mark.parametrize("path", METHODS)
async def test_a_method_that_a_path_does_not_have(home: Home, path: str) -> None:
    for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "NONSENSE"} - set(
        METHODS[path].split(", ")
    ):
        await home.refused(method, path, 405, "method_not_allowed")
        assert (await home.send(method, path)).headers["allow"] == METHODS[path]


async def test_head_is_get_without_a_body(home: Home) -> None:
    for path in ("/tags", "/tags/{tag}", "/tags/{tag}/contacts", "/contacts", "/contacts/{contact}"):
        head, get = await home.send("HEAD", path), await home.send("GET", path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == get.headers["content-length"]


# Duplicates.


async def test_a_name_in_use(home: Home) -> None:
    duplicate = (409, "duplicate", "name")
    for name in ("VIP", "vip", " viP "):
        await home.refused("POST", "/tags", *duplicate, json={"name": name})
    other = await make_tag(home.api, "other")
    await home.refused("PATCH", f"/tags/{other['id']}", *duplicate, json={"name": "vIP", "color": "#000000"})


async def test_an_email_in_use(home: Home) -> None:
    duplicate = (409, "duplicate", "email")
    for email in ("ada@example.com", "ADA@Example.com", " ada@example.com "):
        body = {"email": email, "first_name": "Stolen", "attributes": {"a": 1}, "subscribed": False}
        await home.refused("POST", "/contacts", *duplicate, json=body)
    other = await make_contact(home.api, "bob@example.com")
    body = {"email": "Ada@example.com", "first_name": "Stolen", "subscribed": False}
    await home.refused("PATCH", f"/contacts/{other['id']}", *duplicate, json=body)


# Keys.


@pytest.fixture
async def keyless(app: ASGIApp) -> AsyncIterator[httpx.AsyncClient]:
    """A client that sends no key by itself."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://polytag.test") as client:
        yield client


@pytest.mark.parametrize(("method", "path"), CALLS)
async def test_a_key_that_is_not_good(
    home: Home, keyless: httpx.AsyncClient, method: str, path: str, new_key_of_home: str
) -> None:
    before = await state_of(home.api.workspace)
    key = home.api.workspace.provisioned.key
    unauthorized = [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer "},
        {"Authorization": key},
        {"Authorization": f"Basic {key}"},
        {"Authorization": f"Token {key}"},
        {"Authorization": f"Bearer {key} {key}"},
        {"X-API-Key": ""},
        {"X-API-Key": " "},
        {"X-API-Key": f"Bearer {key}"},
        *(
            sent
            for bad in (new_key(), key[:-1], key + "x", "tm_live_abc123", "ptag_", new_key_of_home)
            for sent in ({"Authorization": f"Bearer {bad}"}, {"X-API-Key": bad})
        ),
        # What is sent as it should be is what counts.
        {"Authorization": f"Bearer {new_key()}", "X-API-Key": key},
    ]
    for headers in unauthorized:
        response = await keyless.request(method, BASE + home.filled(path), headers=headers, content=b"{")
        message = error_of(response, 401, "unauthorized")
        assert response.headers["www-authenticate"].startswith("Bearer")
        assert key not in message
    assert await state_of(home.api.workspace) == before


@pytest.fixture
async def new_key_of_home(home: Home) -> str:
    """A key that was good and is revoked."""
    made = await make_key(home.api, scopes=["admin"])
    response = await home.send("GET", "/tags", headers={"Authorization": f"Bearer {made['key']}"})
    assert response.status_code == 200
    assert (await home.api.delete(f"/keys/{made['id']}")).status_code == 204
    secret: str = made["key"]
    return secret


@pytest.mark.parametrize(
    "header", ["Authorization: Bearer {}", "authorization: bearer  {}", "X-API-Key: {}", "x-api-key:  {} "]
)
async def test_a_key_that_is_good(home: Home, keyless: httpx.AsyncClient, header: str) -> None:
    name, _, value = header.partition(": ")
    key = home.api.workspace.provisioned.key
    response = await keyless.get(f"{BASE}/tags", headers={name: value.format(key)})
    assert response.status_code == 200
    assert response.json()["pagination"]["total"] == 1


@pytest.mark.parametrize(("method", "path"), CALLS)
async def test_each_scope_of_a_call_is_needed_and_they_are_enough(home: Home, method: str, path: str) -> None:
    needed = SCOPES_OF[method, path]
    for missing in needed:
        # All the others, except the one that implies them.
        scopes = [scope for scope in SCOPES if scope not in {missing, "admin"}]
        made = await make_key(home.api, scopes=scopes)
        headers = {"Authorization": f"Bearer {made['key']}"}
        message = await home.refused(method, path, 403, "forbidden", headers=headers, content=b"{")
        assert missing in message
    made = await make_key(home.api, scopes=list(needed))
    headers = {"X-API-Key": made["key"]}
    del home.api.headers["Authorization"]
    response = await home.send(method, path, headers=headers, json=home.filled(CALLS[method, path]))
    assert response.is_success, response.text


@pytest.mark.parametrize(("method", "path"), CALLS)
async def test_a_key_without_an_audience(app: ASGIApp, database: Database, method: str, path: str) -> None:
    workspace = await make_workspace(database)
    await forget_default_audience(workspace)
    async with client_of(app, workspace) as api:
        home = Home(api, {"tag": UNKNOWN_TAG, "contact": UNKNOWN_CONTACT})
        message = await home.refused(method, path, *INVALID, json=home.filled(CALLS[method, path]))
        assert "no default audience" in message


def test_the_guide_lists_every_code() -> None:
    guide = (Path(__file__).parents[3] / "docs" / "dialects" / "topmail.md").read_text(encoding="utf-8")
    listed = {(int(status), code) for status, code in re.findall(r"^\| (\d+) \| `(\w+)` \|", guide, re.MULTILINE)}
    assert listed == {*_TABLE.values(), (404, "contact_not_found")}


# What nobody foresaw.


async def test_a_database_that_is_away(database_url: str, workspace: Workspace) -> None:
    settings_of_none = Settings(database_url="postgresql://nobody@127.0.0.1:1/nowhere")
    async with started(settings_of_none) as app, client_of(app, workspace) as api:
        response = await api.get(f"{BASE}/tags")
        error_of(response, 503, "unavailable")
        assert int(response.headers["retry-after"]) >= 1


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=60)
    | st.sampled_from(["VIP", "ada@example.com", "{tag}", "{contact}", "#abc", "\ud800", "\x00"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
fields = st.sampled_from(
    [*TAG_FIELDS, *CONTACT_FIELDS, "contact_ids", "list_id", "id", "audience", "audiences", "tags", "version"]
)
bodies = st.dictionaries(fields, json_values, max_size=6) | json_values
queries = st.dictionaries(
    st.sampled_from(["search", "limit", "offset", "subscribed", "audience", "cursor", "sort"]) | st.text(max_size=5),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.integers().map(str) | st.sampled_from(["true"]),
    max_size=4,
)

_home: Home | None = None


@given(st.sampled_from(sorted(CALLS)), bodies, queries)
@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
async def test_nothing_makes_it_fall_over(
    app: ASGIApp, database: Database, what: tuple[str, str], body: object, query: dict[str, str]
) -> None:
    """Arbitrary bodies and query strings at every call: an answer in the vendor's form, and all or nothing."""
    global _home  # noqa: PLW0603 - made once for all examples
    if _home is None:
        _home = await home_of(client_of(app, await make_workspace(database)))
    home, (method, path) = _home, what
    before = await state_of(home.api.workspace)
    response = await home.send(method, path, params=query, content=json.dumps(home.filled(body)).encode())
    if response.is_success:
        assert response.json().keys() <= {"data", "pagination"}
        if method == "DELETE":
            # There must be something to delete the next time.
            _home = None
        return
    assert response.status_code in {400, 404, 409}
    code = "duplicate" if response.status_code == 409 else response.json()["error"]["code"]
    assert code in {"duplicate", "validation_error", "not_found", "contact_not_found"}
    error_of(response, response.status_code, code, response.json()["error"].get("path"))
    assert await state_of(home.api.workspace) == before
