"""What a call sends: JSON, forms and query strings, and whatever else comes along."""

import json
import re
from time import thread_time
from typing import Any
from urllib.parse import quote, unquote_to_bytes, urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.types import ASGIApp, Receive, Scope, Send

from app.dialects.sendportal import SENDPORTAL
from app.dialects.sendportal.bodies import FIELDS_MAX, parse_body, read_pairs
from app.errors import InvalidInput, Unreadable
from app.frontend import Route
from tests.conftest import Api, client_of
from tests.dialects.sendportal.calls import (
    BASE,
    FORM,
    MOUNT,
    call,
    ids_of,
    is_refusal,
    make_subscriber,
    make_subscribers,
    make_tag,
    make_tags,
    refused,
    tags_of,
)
from tests.routers.calls import answered, state_of

REQUIRED = "The tags field is required."


# What a body is.


@pytest.mark.parametrize(
    "media_type",
    [
        "application/json",
        "APPLICATION/JSON; charset=utf-8",
        "application/vnd.api+json",
        "text/json",
        "application/jsonp+json",
    ],
)
async def test_json_by_its_type(api: Api, media_type: str) -> None:
    tag, subscriber = await make_tag(api, "VIP"), await make_subscriber(api, "ann@example.com")
    content = json.dumps({"tags": [tag]})
    path = f"{BASE}/subscribers/{subscriber}/tags"
    assert ids_of(answered(await api.put(path, content=content, headers={"Content-Type": media_type}))["data"]) == [tag]


@pytest.mark.parametrize(
    ("media_type", "body"),
    [
        ("text/plain", b'{"tags": [1]}'),
        (None, b'{"tags": [1]}'),
        ("", b'{"tags": [1]}'),
        ("application/xml", b"<tags/>"),
        ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="tags[]"\r\n\r\n1\r\n--x--'),
        ("application/json", b'{"tags": [1]'),
        ("application/json", b"tags[]=1"),
        ("application/json", b"[1]"),
        ("application/json", b'"tags"'),
        ("application/json", b"1"),
        ("application/json", b"true"),
        ("application/json", b"null"),
        ("application/json", b" "),
        ("application/json", b"\xef\xbb\xbf{}"),
        ("application/json", b'{"tags": ["\xff"]}'),
        ("application/json", b'{"tags": [NaN]}'),
        ("application/json", b'{"tags": [1e999]}'),
        ("application/json", b'{"tags": [' + b"1" * 5_000 + b"]}"),
        ("application/json", b'{"tags": ' + b"[" * 10_000 + b"]" * 10_000 + b"}"),
        (FORM["Content-Type"], b"\xff=1&tags[]=1"),
        (FORM["Content-Type"], b"tags[]=%FF"),
        (FORM["Content-Type"], b'{"tags": [1]}'),
    ],
)
async def test_what_cannot_be_read_is_no_input(api: Api, media_type: str | None, body: bytes) -> None:
    subscriber = await make_subscriber(api, "ann@example.com")
    before = await state_of(api.workspace)
    headers = {} if media_type is None else {"Content-Type": media_type}
    for method in ("POST", "PUT", "DELETE"):
        path = f"{BASE}/subscribers/{subscriber}/tags"
        refused(await api.request(method, path, content=body, headers=headers), tags=[REQUIRED])
    response = await api.post(f"{BASE}/tags", content=body, headers=headers)
    refused(response, name=["The name field is required."])
    assert await state_of(api.workspace) == before


async def test_unknown_fields_are_passed_over(api: Api) -> None:
    body = {"name": "VIP", **{f"field{number}": number for number in range(200)}}
    assert (await call(api, "POST", "/tags", body, status=201))["name"] == "VIP"


# Forms and query strings.


@pytest.mark.parametrize(
    ("pairs", "fields"),
    [
        ("tags[]=1&tags[]=2", {"tags": ["1", "2"]}),
        ("tags%5B%5D=1&tags%5b%5d=2", {"tags": ["1", "2"]}),
        ("tags[0]=1&tags[1]=2", {"tags": ["1", "2"]}),
        ("tags[1]=1&tags[0]=2", {"tags": {"1": "1", "0": "2"}}),
        ("tags[a]=1&tags[]=2", {"tags": {"a": "1", "0": "2"}}),
        ("tags[7]=1&tags[]=2", {"tags": {"7": "1", "8": "2"}}),
        ("tags[07]=1&tags[-1]=2&tags[]=3", {"tags": {"07": "1", "-1": "2", "0": "3"}}),
        ("tags[1]=1&tags[]=2&tags[]=3", {"tags": {"1": "1", "2": "2", "3": "3"}}),
        ("tags[0][x]=1&tags[1][]=2", {"tags": [{}, {}]}),
        ("tags=1", {"tags": "1"}),
        ("tags=1&tags=2", {"tags": "2"}),
        ("tags=1&tags[]=2", {"tags": ["2"]}),
        ("tags[]=1&tags=2", {"tags": "2"}),
        ("tags[]=1&tags=2&tags[]=3", {"tags": ["3"]}),
        ("tags[]", {"tags": [""]}),
        ("tags", {"tags": ""}),
        ("[]=1&[a]=2&tags[=3&tags]=4", {"[]": "1", "[a]": "2", "tags[": "3", "tags]": "4"}),
        ("first_name=A+%26+B&name=%E2%9C%93&&", {"first_name": "A & B", "name": "✓"}),
        ("", {}),
    ],
)
def test_pairs(pairs: str, fields: dict[str, object]) -> None:
    assert read_pairs(pairs.encode(), "body") == fields


def test_pairs_that_are_too_many() -> None:
    assert len(read_pairs(b"&".join([b"tags[]=1"] * FIELDS_MAX), "body")["tags"]) == FIELDS_MAX  # type: ignore[arg-type]
    with pytest.raises(InvalidInput):
        read_pairs(b"&" * FIELDS_MAX, "body")


@given(st.binary(max_size=200))
def test_any_bytes_are_a_form_or_none(body: bytes) -> None:
    assert isinstance(parse_body(FORM["Content-Type"], body), dict)
    assert isinstance(parse_body("application/json", body), dict)
    try:
        read_pairs(body, "query")
    except Unreadable:
        with pytest.raises(UnicodeDecodeError):
            # The bytes themselves, or what some of them mean that are written with %.
            [unquote_to_bytes(part).decode() for part in re.split(rb"[&=]", body)]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
@pytest.mark.parametrize("where", ["form", "query", "indexed"])
async def test_tags_of_a_subscriber_by_form_and_query(api: Api, method: str, where: str) -> None:
    one, two, three = await make_tags(api, "Alpha", "Beta", "Gamma")
    subscriber = await make_subscriber(api, "ann@example.com", tags=[one])
    path = f"{BASE}/subscribers/{subscriber}/tags"
    pairs = f"tags[0]={one}&tags[1]={two}" if where == "indexed" else f"tags[]={one}&tags[]={two}"
    if where == "query":
        response = await api.request(method, f"{path}?{pairs}")
    else:
        response = await api.request(method, path, content=pairs, headers=FORM)
    after = [] if method == "DELETE" else [one, two]
    assert ids_of(answered(response)["data"]) == after
    assert await tags_of(api, subscriber) == after
    assert three not in after


async def test_a_field_of_the_body_comes_before_one_of_the_query(api: Api) -> None:
    one, two = await make_tags(api, "Alpha", "Beta")
    subscriber = await make_subscriber(api, "ann@example.com")
    path = f"/subscribers/{subscriber}/tags?tags[]={two}&x=1"
    assert ids_of(await call(api, "PUT", path, {"tags": [one]})) == [one]
    assert ids_of(await call(api, "PUT", path, {"other": [one]})) == [two]
    refused(await api.put(BASE + path, json={"tags": []}), tags=[REQUIRED])
    refused(await api.put(BASE + path, json={"tags": None}), tags=["The tags field must be an array.", REQUIRED])


async def test_everything_by_form(api: Api) -> None:
    def form(**fields: Any) -> dict[str, Any]:
        return {"content": urlencode(fields), "headers": FORM}

    response = await api.post(f"{BASE}/subscribers", **form(email="ann@example.com", first_name="Ann", last_name=""))
    subscriber = answered(response, 201)["data"]
    assert (subscriber["first_name"], subscriber["last_name"]) == ("Ann", None)
    response = await api.post(f"{BASE}/tags", **form(**{"name": "A & B", "subscribers[]": subscriber["id"]}))
    tag = answered(response, 201)["data"]
    assert (tag["name"], ids_of(tag["subscribers"])) == ("A & B", [subscriber["id"]])
    response = await api.put(f"{BASE}/tags/{tag['id']}", **form(name="B"))
    assert answered(response)["data"]["name"] == "B"
    response = await api.patch(f"{BASE}/subscribers/{subscriber['id']}", **form(email="bob@example.com", tags=""))
    assert answered(response)["data"]["email"] == "bob@example.com"
    assert await tags_of(api, subscriber["id"]) == [tag["id"]]
    path = f"{BASE}/tags/{tag['id']}/subscribers?subscribers[]={subscriber['id']}"
    assert answered(await api.delete(path)) == {"data": []}


async def test_a_form_of_ten_thousand(api: Api) -> None:
    tag, [subscriber] = await make_tag(api, "VIP"), await make_subscribers(api, 1)
    body = "&".join([f"subscribers[]={subscriber}"] * 10_000)
    response = await api.post(f"{BASE}/tags/{tag}/subscribers", content=body, headers=FORM)
    assert ids_of(answered(response)["data"]) == [subscriber]
    response = await api.post(f"{BASE}/tags/{tag}/subscribers", content="&" * FIELDS_MAX, headers=FORM)
    refused(response, body=["The body has more than 20,000 fields."])


def test_numbers_that_are_named_are_not_walked_over() -> None:
    """A form of them and of as many without took 15 s; it takes some hundredths, and five times that is allowed."""
    half = FIELDS_MAX // 2
    pairs = [f"tags[{half + n}]=1" for n in range(half)] + ["tags[]=2"] * (half - 1)
    # Of this thread, however busy the machine is.
    started = thread_time()
    fields = read_pairs("&".join(pairs).encode(), "body")
    assert thread_time() - started < 0.5
    tags = fields["tags"]
    assert isinstance(tags, dict)
    assert (len(tags), list(tags)[-1]) == (FIELDS_MAX - 1, str(half * 3 - 2))


@pytest.mark.parametrize("query", [b"tags[]=\xff", b"tags[]=%FF", b"%ff"])
async def test_a_query_that_is_not_text(app: ASGIApp, api: Api, query: bytes) -> None:
    subscriber = await make_subscriber(api, "ann@example.com")

    async def ask(scope: Scope, receive: Receive, send: Send) -> None:
        # As a server hands it on; the client of these tests would write it with %.
        await app({**scope, "query_string": query}, receive, send)

    async with client_of(ask, api.workspace) as client:
        response = await client.delete(f"{BASE}/subscribers/{subscriber}/tags")
    refused(response, query=["The query is not in UTF-8."])


# A POST that asks to be another call.


@pytest.mark.parametrize("path", ["/tags", "/subscribers", "/tags/{tag}/subscribers", "/subscribers/{subscriber}/tags"])
@pytest.mark.parametrize("where", ["header", "query", "body", "form"])
async def test_a_post_that_asks_to_be_another_call(api: Api, path: str, where: str) -> None:
    tag, subscriber = await make_tag(api, "VIP"), await make_subscriber(api, "ann@example.com")
    url = BASE + path.format(tag=tag, subscriber=subscriber)
    body: dict[str, Any] = {"tags": [tag], "subscribers": [subscriber], "name": "x", "email": "x@example.com"}
    before = await state_of(api.workspace)
    text = "This request is sent as POST and asks to be taken for DELETE. Send it as DELETE."
    if where == "header":
        response = await api.post(url, json=body, headers={"X-HTTP-Method-Override": "delete"})
    elif where == "query":
        response = await api.post(f"{url}?_method=DELETE", json=body)
    elif where == "body":
        response = await api.post(url, json={**body, "_method": "DELETE"})
    else:
        response = await api.post(url, content=f"_method=delete&name=x&tags[]={tag}", headers=FORM)
    refused(response, **{"X-HTTP-Method-Override" if where == "header" else "_method": [text]})
    assert await state_of(api.workspace) == before


async def test_a_post_that_asks_to_be_what_it_is(api: Api) -> None:
    headers = {"X-HTTP-Method-Override": "POST"}
    body = {"name": "VIP", "_method": "post"}
    assert answered(await api.post(f"{BASE}/tags", json=body, headers=headers), 201)["data"]["name"] == "VIP"
    tag = await make_tag(api, "x")
    assert (await call(api, "PUT", f"/tags/{tag}", {"name": "y", "_method": "PUT"}))["name"] == "y"


# Anything at all, at every route.

ROUTES = [
    (method, route.path_format)
    for router in SENDPORTAL.routers
    for route in router.routes
    if isinstance(route, Route)
    for method in route.methods or ()
]
FIELDS = ["tags", "subscribers", "name", "email", "first_name", "last_name", "unsubscribed_at", "_method"]
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=-(2**70), max_value=2**70),
    st.floats(),
    st.text(max_size=10),
    st.sampled_from(["1", "0", " 2 ", "ann@example.com", "x@y", "2021-01-01", "\ud800", "\0", "PUT", "a" * 400]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=4), inner, max_size=4)),
    max_leaves=8,
)
DOCUMENTS = st.one_of(VALUES, st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=8))
NAMES = st.sampled_from(
    [name + key for name in [*FIELDS, "page", "per_page", "api_token"] for key in ("", "[]", "[0]", "[a][b]")]
)
PAIRS = st.lists(st.tuples(NAMES, st.text(max_size=6)), max_size=6)
IDS = st.one_of(
    st.sampled_from(["1", "0", "abc", "9" * 25, "%00", "1.5", "%20"]),
    st.text(min_size=1, max_size=5).map(lambda text: quote(text, safe="", errors="replace")),
)
BODIES = st.one_of(
    st.tuples(st.just("application/json"), DOCUMENTS.map(lambda value: json.dumps(value).encode())),
    st.tuples(st.just(FORM["Content-Type"]), PAIRS.map(lambda pairs: urlencode(pairs, errors="replace").encode())),
    st.tuples(st.sampled_from(["application/json", FORM["Content-Type"], "text/plain", ""]), st.binary(max_size=60)),
)


@pytest.mark.parametrize(("method", "route"), ROUTES)
async def test_anything_is_answered(api: Api, method: str, route: str) -> None:
    """Whatever is sent, the answer is a success or a refusal of the vendor's form; what refuses writes nothing."""
    tag, subscriber = await make_tag(api, "VIP"), await make_subscriber(api, "ann@example.com")
    requests: list[tuple[str, tuple[str, bytes], list[tuple[str, str]]]] = []

    @settings(max_examples=50, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.one_of(st.just("own"), IDS), BODIES, PAIRS)
    def draw(sent: str, body: tuple[str, bytes], query: list[tuple[str, str]]) -> None:
        requests.append((sent, body, query))

    draw()
    assert len(requests) > 20
    for sent, (media_type, content), query in requests:
        names = {"tag": tag, "subscriber": subscriber} if sent == "own" else {"tag": sent, "subscriber": sent}
        url = f"{MOUNT}{route.format(**names)}?{urlencode(query, errors='replace')}"
        before = await state_of(api.workspace)
        response = await api.request(method, url, content=content, headers={"Content-Type": media_type})
        assert response.status_code in {200, 201, 204, 404, 405, 422}, (url, content, response.text)
        if not response.is_success:
            assert is_refusal(response), response.text
            assert await state_of(api.workspace) == before
