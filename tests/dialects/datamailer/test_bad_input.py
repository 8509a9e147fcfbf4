"""Input of every bad kind: the vendor's error form and status, always JSON, nothing written, never a fault of ours."""

import gzip
import json
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.types import ASGIApp

from app.config import Settings
from app.database import Database
from tests.conftest import Api, client_of, make_workspace
from tests.dialects.datamailer.calls import BASE, SCOPE, all_routes, error, put_tags, refuse, refused, tags_of, upsert
from tests.routers.calls import Json, answered, state_of

ADDRESSED = {**SCOPE, "email": "new@example.com"}
# Every call that takes a body, with one that it accepts.
GOOD: dict[tuple[str, str], Json] = {
    ("PUT", "/api/contacts/{contact_id}/tags"): {**SCOPE, "tags": ["new"]},
    ("POST", "/api/contacts/{contact_id}/tags/{tag_slug}"): SCOPE,
    ("DELETE", "/api/contacts/{contact_id}/tags/{tag_slug}"): SCOPE,
    ("POST", "/api/contacts"): ADDRESSED,
    ("POST", "/api/subscriptions/subscribe"): ADDRESSED,
    ("POST", "/api/subscriptions/unsubscribe"): {**ADDRESSED, "scope": "client"},
}


def test_every_call_with_a_body_is_looked_at() -> None:
    assert set(GOOD) == {route for route in all_routes() if route[0] != "GET"}


def filled(path: str, contact: Json, slug: str = "kept") -> str:
    return BASE + path.format(contact_id=contact["contact_id"], tag_slug=slug)


def bad_bodies(good: Json) -> Iterator[tuple[bytes, str]]:
    """Bodies that are none, each with its code."""
    text = json.dumps(good)
    yield b"{", "invalid_json"
    yield b" ", "invalid_json"
    yield b"\n\t", "invalid_json"
    yield b"\x00", "invalid_json"
    yield b"audience=newsletter&client=web", "invalid_json"
    yield text.encode() + b"x", "invalid_json"
    yield text.replace('"', "'").encode(), "invalid_json"
    yield b"\xef\xbb\xbf" + text.encode(), "invalid_json"
    yield text.encode("utf-16"), "invalid_json"
    yield text.replace("web", "wéb").encode("latin-1"), "invalid_json"
    yield b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "invalid_json"
    yield b'{"a": ' * 100_000 + b"1" + b"}" * 100_000, "invalid_json"
    yield text.replace("{", '{"a": ' + "9" * 5_000 + ", ", 1).encode(), "invalid_json"
    yield b"[]", "must_be_object"
    yield b"[" + text.encode() + b"]", "must_be_object"
    yield json.dumps(text).encode(), "must_be_object"
    yield b"null", "must_be_object"
    yield b"1", "must_be_object"
    yield b"NaN", "must_be_object"
    yield b"false", "must_be_object"
    # More members than any object here has; each could cost as much as a field of ours.
    yield json.dumps({**good, **{f"x{n}": 1 for n in range(100)}}).encode(), "too_many_fields"
    yield json.dumps({**good, "x": "x" * Settings.model_fields["max_body_bytes"].default}).encode(), "too_large"


@pytest.mark.parametrize(("method", "path"), GOOD)
async def test_a_body_that_is_none(api: Api, method: str, path: str) -> None:
    contact = await upsert(api, tags=["kept"])
    before = await state_of(api.workspace)
    for content, code in bad_bodies(GOOD[method, path]):
        response = await api.request(method, filled(path, contact), content=content)
        assert refused(response) == {"body": code}, content[:80]
    assert await state_of(api.workspace) == before


@pytest.mark.parametrize(("method", "path"), GOOD)
async def test_a_packed_body_is_not_read(api: Api, method: str, path: str) -> None:
    contact = await upsert(api, tags=["kept"])
    before = await state_of(api.workspace)
    packed = gzip.compress(json.dumps(GOOD[method, path]).encode())
    for headers in ({"Content-Encoding": "gzip"}, {}):
        response = await api.request(method, filled(path, contact), content=packed, headers=headers)
        assert refused(response) == {"body": "invalid_json"}
    assert await state_of(api.workspace) == before


@pytest.mark.parametrize(("method", "path"), GOOD)
async def test_a_body_counts_whatever_it_is_declared_as(api: Api, method: str, path: str) -> None:
    """As there: in pieces too, with numbers that JSON does not know. Of a field that is there twice the last counts."""
    contact = await upsert(api, tags=["kept"])
    text = json.dumps({**GOOD[method, path], "x": 1}).replace("{", '{"client": "mobile", ', 1)
    text = text.replace('"x": 1', '"x": [NaN, -Infinity, 1e999]')

    async def pieces() -> AsyncIterator[bytes]:
        for character in text:
            yield character.encode()

    for media_type in ("text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin-1", ""):
        for content in (text.encode(), pieces()):
            response = await api.request(
                method, filled(path, contact), content=content, headers={"Content-Type": media_type}
            )
            answered(response)


NOT_TEXT: list[Any] = [None, 1, 1.5, True, [], ["newsletter"], {}, {"slug": "newsletter"}]


@pytest.mark.parametrize(("method", "path"), GOOD)
async def test_a_scope_of_another_type(api: Api, method: str, path: str) -> None:
    contact = await upsert(api, tags=["kept"])
    before = await state_of(api.workspace)
    for value in [*NOT_TEXT, "", " \u00a0"]:
        for name in ("audience", "client"):
            body = {**GOOD[method, path], name: value}
            response = await api.request(method, filled(path, contact), json=body)
            assert refused(response) == {name: "required"}, body
    assert await state_of(api.workspace) == before


@pytest.mark.parametrize(("method", "path"), GOOD)
async def test_a_scope_with_characters_that_no_slug_has(api: Api, method: str, path: str) -> None:
    contact = await upsert(api, tags=["kept"])
    before = await state_of(api.workspace)
    for text in (r"a\u0000b", r"\ud800", r"newsletter\u0007", "a" * 100_000):
        for name, status, code in (("audience", 400, "not_found"), ("client", 403, "forbidden")):
            body = json.dumps({**GOOD[method, path], name: "PLACE"}).replace("PLACE", text)
            response = await api.request(method, filled(path, contact), content=body.encode())
            assert refused(response, status) == {name: code}
    assert await state_of(api.workspace) == before


# Fields with values that are refused, and the code of each. Half a surrogate pair is sent as its escape.
LONG = "x" * 121
Values = list[tuple[Any, str]]


def each(code: str, *values: Any) -> Values:
    return [(value, code) for value in values]


NAMES_OF_NOTHING: list[Any] = [None, 1, True, [], {}, "", " ", "\t\n", "\u00a0", "\x07"]
BAD_TAGS: Values = [
    *each("must_be_list", "vip", " ", 0, 1, 1.5, True, False, {}, {"vip": "vip"}),
    *each("must_be_non_empty_strings", *([name] for name in NAMES_OF_NOTHING), ["vip", "", LONG]),
    *each("too_long", [LONG], ["\u0301" * 150_000]),
    *each("too_many", ["vip"] * 1_001),
    *each("invalid", ["vip", "a\x00b"], ["vip", "\ud800"], ["\udfff" * 121]),
]
BAD_EMAILS: Values = [
    *each("required", *NOT_TEXT, "", "  "),
    *each("invalid", "ada", "@", "ada@", "@b.c", "a b@c.d", "a@b@c", "a\x00@b.c", "\ud800@b.c", "a@b\u0085.c"),
    *each("invalid", f"{'a' * 320}@b.c", "a@b" + "\u0315\u0300" * 80_000),
]
BAD_REASONS: Values = [
    *each("must_be_string", 0, 1, True, False, [], {}, ["why"]),
    *each("too_long", "x" * 256),
    *each("invalid", "a\x00b", "\ud800"),
]
BAD_TIMES: list[Any] = [0, 1767322800, True, [], {}, "soon", "2026-13-01T00:00:00Z", "\ud800", "0001-01-01T00:00+14"]
UPSERT, SUBSCRIBE, UNSUBSCRIBE = "/api/contacts", "/api/subscriptions/subscribe", "/api/subscriptions/unsubscribe"
BAD_FIELDS: list[tuple[str, str, Values]] = [
    (UPSERT, "email", BAD_EMAILS),
    (SUBSCRIBE, "email", BAD_EMAILS),
    (UNSUBSCRIBE, "email", BAD_EMAILS),
    (UPSERT, "tags", BAD_TAGS),
    (SUBSCRIBE, "tags", BAD_TAGS),
    (UPSERT, "status", each("invalid", 0, 1, True, [], {}, "gone", " pending", "\ud800")),
    (UPSERT, "verified", each("must_be_boolean", None, 0, 1, "", "true", [], {})),
    (UPSERT, "email_validation", each("must_be_object", 0, 1, True, False, "valid", [], ["valid"])),
    (UPSERT, "email_validation.status", each("invalid", 0, 1, False, [], {}, "good")),
    (UPSERT, "email_validation.reason", BAD_REASONS),
    (UPSERT, "email_validation.validated_at", each("must_be_iso_datetime", *BAD_TIMES)),
    (UPSERT, "suppression", each("must_be_object", 0, 1, True, "complained", [], ["complained"])),
    (UPSERT, "suppression.global_unsubscribed", each("must_be_boolean", 0, 1, "", "true", [], {})),
    (UPSERT, "suppression.hard_bounced", each("must_be_boolean", 0, 1, "", "true", [], {})),
    (UPSERT, "suppression.complained", each("must_be_boolean", 0, 1, "", "true", [], {})),
    (UPSERT, "suppression.complained", each("required", None)),
    (UNSUBSCRIBE, "scope", each("invalid", *NOT_TEXT, "", "all", "CLIENT", " client", "\ud800")),
    (UNSUBSCRIBE, "reason", BAD_REASONS),
]


@pytest.mark.parametrize(
    ("path", "name", "values"), BAD_FIELDS, ids=lambda value: value if isinstance(value, str) else ""
)
async def test_a_field_that_is_refused(api: Api, path: str, name: str, values: Values) -> None:
    await upsert(api, ADDRESSED["email"], tags=["kept"])
    before = await state_of(api.workspace)
    for value, code in values:
        body: Json = dict(GOOD["POST", path])
        outer, _, inner = name.partition(".")
        body[outer] = {inner: value} if inner else value
        started = time.process_time()
        response = await api.post(BASE + path, content=json.dumps(body).encode())
        assert refused(response) == {name: code}, repr(value)[:80]
        # A long text is not looked at character by character.
        assert time.process_time() - started < 2
    assert await state_of(api.workspace) == before


async def test_tags_that_a_put_refuses(api: Api) -> None:
    """The same as elsewhere; and what leaves them out clears nothing."""
    contact = await upsert(api, tags=["kept"])
    before = await state_of(api.workspace)
    path = f"{BASE}/api/contacts/{contact['contact_id']}/tags"
    for value, code in [*BAD_TAGS, (None, "must_be_list"), ("", "must_be_list")]:
        response = await api.put(path, content=json.dumps({**SCOPE, "tags": value}).encode())
        assert refused(response) == {"tags": code}, repr(value)[:80]
    assert refused(await api.put(path, json=SCOPE)) == {"tags": "must_be_list"}
    assert await state_of(api.workspace) == before


@pytest.mark.parametrize("tags", [None, "", []])
async def test_no_tags_to_add_are_no_error(api: Api, tags: object) -> None:
    assert (await upsert(api, tags=["kept"]))["tags"] == ["kept"]
    assert (await upsert(api, tags=tags))["tags"] == ["kept"]


async def test_names_at_their_limits(api: Api) -> None:
    """120 characters as stored, 1,000 of them; also where the slug would be longer, or blanks stand around."""
    contact = await upsert(api)
    ligatures = "\ufb03" * 120
    names = [" " * 300 + "x" * 120, ligatures, "e\u0301" * 60]
    assert await put_tags(api, contact, *names) == sorted(["x" * 120, "ffi" * 40, "e" * 60])
    assert await tags_of(api.workspace) == {"x" * 120: "x" * 120, "ffi" * 40: ligatures, "e" * 60: "\u00e9" * 60}
    many = [f"t{n}" for n in range(1_000)]
    assert await put_tags(api, contact, *many) == sorted(many)


@pytest.mark.parametrize("method", ["POST", "DELETE"])
async def test_slugs_in_paths(api: Api, method: str) -> None:
    contact = await upsert(api, tags=["kept"])
    before = await state_of(api.workspace)
    path = f"{BASE}/api/contacts/{contact['contact_id']}/tags/"
    for slug, code in (("-", "invalid"), ("___", "invalid"), ("-_" * 2_000, "invalid"), ("x" * 121, "too_long")):
        assert refused(await api.request(method, path + slug, json=SCOPE)) == {"tag": code}
    for slug in ("a.b", "a%20b", "a%2Fb", "caf%C3%A9", "a%00b", "%ED%A0%80", "a%0A", "%0A", "a/", "a%2F", "a;b", "~"):
        assert error(await api.request(method, path + slug, json=SCOPE), 404)["code"] == "not_found", slug
    assert await state_of(api.workspace) == before
    answered(await api.request(method, path + "x" * 120, json=SCOPE))


@pytest.mark.parametrize(("method", "end"), [("PUT", ""), ("POST", "/vip"), ("DELETE", "/vip")])
async def test_ids_in_paths(api: Api, method: str, end: str) -> None:
    contact = await upsert(api, tags=["kept"])
    number = contact["contact_id"]
    before = await state_of(api.workspace)
    body = {**SCOPE, "tags": []}
    for digits in ("0", "000", str(2**63 - 1), str(2**63), str(2**64 + number), "9" * 3_900, "9" * 60_000):
        response = await api.request(method, f"{BASE}/api/contacts/{digits}/tags{end}", json=body)
        assert refused(response, 404) == {"contact_id": "not_found"}, digits[:30]
    for text in (f"-{number}", f"+{number}", f"{number}.0", f"%20{number}", "1e1", "%D9%A1", "", "x"):
        response = await api.request(method, f"{BASE}/api/contacts/{text}/tags{end}", json=body)
        assert error(response, 404)["code"] == "not_found", text
    assert await state_of(api.workspace) == before
    answered(await api.request(method, f"{BASE}/api/contacts/{'0' * 3_000}{number}/tags{end}", json=body))


@pytest.mark.parametrize(("method", "path"), all_routes())
async def test_paths_that_end_otherwise(api: Api, method: str, path: str) -> None:
    contact = await upsert(api, tags=["kept"])
    before = await state_of(api.workspace)
    body = GOOD.get((method, path))
    for end in ("/", "//", "%0A", "%0D%0A", "%2F", "%00", "%20", "%3F", ";x=1", "."):
        response = await api.request(method, filled(path, contact) + end, json=body, params=SCOPE)
        assert error(response, 404)["code"] == "not_found", end
    for other in ("/api", "/", "/api/contacts/1", "/api/v1/contacts", "/API/contacts", "//api/contacts"):
        assert error(await api.request(method, BASE + other, json=body), 404)["code"] == "not_found", other
    assert await state_of(api.workspace) == before


@pytest.mark.parametrize(("method", "path"), all_routes())
async def test_methods_that_are_not_allowed(api: Api, method: str, path: str) -> None:
    """In the vendor's form and order, before the key is looked at; only HEAD is GET, as everywhere here."""
    there = [one for one, other in all_routes() if other == path]
    allowed = [one for one in ("GET", "POST", "PUT", "DELETE") if one in there]
    for other in {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "FOO"} - set(there):
        response = await api.request(other, filled(path, {"contact_id": 1}), headers={"Authorization": ""})
        assert error(response, 405) == {"code": "method_not_allowed", "allowed_methods": allowed}
        assert set(allowed) <= set(response.headers["allow"].split(", ")) <= {*allowed, "HEAD"}
    head = await api.head(filled(path, {"contact_id": 1}), headers={"Authorization": ""})
    assert (head.status_code, head.content) == (401 if "GET" in there else 405, b"")


async def test_a_query_that_is_refused(api: Api) -> None:
    await upsert(api, tags=["kept"])
    for path in ("/api/contacts", "/api/contacts/status"):
        for name in ("audience", "client"):
            wanted = {"audience": (400, "not_found"), "client": (403, "forbidden")}[name]
            for text in ("%00", "a%00b", "newsletter%07", "a" * 40_000):
                rest = f"email=ada@example.com&audience=newsletter&client=web&{name}={text}"
                assert refused(await api.get(f"{BASE}{path}?{rest}"), wanted[0]) == {name: wanted[1]}
        scope = "email=ada@example.com&audience=newsletter&client=web"
        for text in ("%ff", "%ED%A0%80", "%C3"):
            assert refused(await api.get(f"{BASE}{path}?{scope}&x={text}")) == {"query": "invalid_characters"}
    for text in ("", "%20", "ada", "a%00@b.c", "%40", "a" * 400 + "@b.c", "a@b" + "%CC%95%CC%80" * 2_500):
        response = await api.get(f"{BASE}/api/contacts/status?email={text}&audience=newsletter&client=web")
        assert refused(response) == {"email": "invalid" if text.replace("%20", "") else "required"}


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        *(("limit", value, "must_be_integer") for value in ("x", "1.5", "1e1", "--5", "+-5", "1_0", "٣", "9" * 5_000)),
        *(("limit", value, "must_be_between_1_and_500") for value in ("0", "-1", "-0", "501", "999999999")),
        *(("cursor", value, "invalid") for value in ("1", "x", "\x00", "é", "A" * 5_000)),
        *(("subscription_status", value, "invalid") for value in ("gone", "Pending", "\x00", "pending,subscribed")),
        ("tags", "a," * 101, "too_many"),
        ("tags", "\u0315\u0300" * 2_500, "too_long"),
        ("verified", "true", "not_supported"),
        ("email_validation_status", "valid", "not_supported"),
        ("suppression", "none", "not_supported"),
        ("updated_since", "2026-01-01", "not_supported"),
    ],
)
async def test_a_filter_that_is_refused(api: Api, name: str, value: str, code: str) -> None:
    assert await refuse(api, "GET", "/api/contacts", **{**SCOPE, name: value}) == {name: code}  # type: ignore[arg-type]


async def test_values_of_filters_that_are_left_blank_mean_none(api: Api) -> None:
    await upsert(api)
    blank = dict.fromkeys(("tags", "subscription_status", "cursor", "offset", "limit", "verified", "suppression"), "")
    page = answered(await api.get(f"{BASE}/api/contacts", params={**SCOPE, **blank}))
    assert page["count"] == 1


# Arbitrary input, at every route. Words of ours stand in it, so that it gets beyond the first check.

words = st.sampled_from(
    ["newsletter", "web", "ada@example.com", "new@example.com", "kept", "pending", "subscribed", "client", "global", ""]
)
names = st.sampled_from(
    ["audience", "client", "email", "tags", "status", "verified", "scope", "reason", "email_validation", "suppression"]
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | words,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names | st.text(max_size=5), inner, max_size=6),
    max_leaves=12,
)
scoped = st.fixed_dictionaries(
    {
        "audience": st.just("newsletter") | anything,
        "client": st.just("web") | anything,
        "email": words | anything,
        "scope": words | anything,
    },
    optional={
        "tags": st.lists(st.text(max_size=8) | words, max_size=4) | anything,
        "status": words | anything,
        "verified": st.booleans() | anything,
        "reason": words | anything,
        "email_validation": st.dictionaries(st.sampled_from(["status", "reason", "validated_at"]), anything) | anything,
        "suppression": st.dictionaries(st.sampled_from(["complained", "hard_bounced"]), st.booleans()) | anything,
    },
)
contents = st.binary(max_size=40) | (scoped | anything).map(lambda value: json.dumps(value).encode())
queries = st.dictionaries(
    names | st.sampled_from(["limit", "cursor", "offset", "subscription_status"]) | st.text(max_size=5),
    words | st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    max_size=6,
)
slugs = st.from_regex(r"[-a-zA-Z0-9_]+", fullmatch=True) | st.sampled_from(["kept", "subscribed"])

_attacked: tuple[Api, Json] | None = None


async def attacked(app: ASGIApp, database: Database) -> tuple[Api, Json]:
    """A client and a contact, made once for all examples."""
    global _attacked  # noqa: PLW0603
    if _attacked is None:
        api = client_of(app, await make_workspace(database))
        _attacked = api, await upsert(api, tags=["kept"])
    return _attacked


@given(st.sampled_from(all_routes()), contents, queries, slugs, st.sampled_from([0, 1, 2**70]))
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
async def test_whatever_comes_is_answered_in_json(
    app: ASGIApp,
    database: Database,
    route: tuple[str, str],
    content: bytes,
    query: dict[str, str],
    slug: str,
    beside: int,
) -> None:
    api, contact = await attacked(app, database)
    method, path = route
    before = await state_of(api.workspace)
    path = filled(path, {"contact_id": contact["contact_id"] + beside}, slug)
    response = await api.request(method, path, content=content if method != "GET" else None, params=query)
    assert response.status_code in {200, 400, 403, 404}, response.text
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    if response.status_code == 200:
        assert ("contacts" if path.endswith("/contacts") and method == "GET" else "contact_id") in body
    else:
        assert refused(response, response.status_code)
        assert await state_of(api.workspace) == before
