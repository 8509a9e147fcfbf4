"""The order of checks: a request that breaks two rules is answered by the earlier one."""

from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

import httpx
import pytest
from starlette.types import ASGIApp

from tests.conftest import Api
from tests.dialects.datamailer.calls import (
    BASE,
    SCOPE,
    UNKNOWN_CONTACT,
    colleague,
    colleagues,
    error,
    refuse,
    refused,
    upsert,
)
from tests.routers.calls import Json, state_of


@dataclass(frozen=True)
class Request:
    """A tag call. Each way to break it is a method, which gives the broken one."""

    method: str
    contact_id: int
    slug: str | None
    body: Json
    end: str = ""
    key: str = "own"
    content: bytes | None = None
    codes: dict[str, str] = field(default_factory=dict)

    @property
    def path(self) -> str:
        return f"{BASE}/api/contacts/{self.contact_id}/tags" + (f"/{self.slug}" if self.slug else "") + self.end

    def by_route(self) -> "Request":
        return replace(self, end="/")

    def by_method(self) -> "Request":
        return replace(self, method="PATCH")

    def by_authorization(self) -> "Request":
        return replace(self, key="none")

    def by_scopes_of_the_key(self) -> "Request":
        return replace(self, key="reader") if self.key == "own" else self

    def by_body(self) -> "Request":
        return replace(self, content=b"{")

    def by_scope(self) -> "Request":
        return replace(self, body={**self.body, "audience": "unheard-of", "client": "mobile"})

    def by_contact(self) -> "Request":
        return replace(self, contact_id=UNKNOWN_CONTACT)

    def by_tags(self) -> "Request":
        return replace(self, slug=self.slug and "---", body={**self.body, "tags": [""]})


# In the documented order. That a key lacks a scope is ours, and comes with the key.
RULES = (
    "route",
    "method",
    "authorization",
    "scopes_of_the_key",
    "body",
    "scope",
    "contact",
    "tags",
)
REQUESTS = {
    "PUT": Request("PUT", 0, None, {**SCOPE, "tags": ["vip"]}),
    "POST": Request("POST", 0, "vip", SCOPE),
    "DELETE": Request("DELETE", 0, "vip", SCOPE),
}


def assert_broken(response: httpx.Response, rule: str, method: str) -> None:
    """The answer to a request that breaks this rule."""
    match rule:
        case "route":
            assert error(response, 404)["code"] == "not_found"
        case "method":
            allowed = ["PUT"] if method == "PUT" else ["POST", "DELETE"]
            assert error(response, 405) == {"code": "method_not_allowed", "allowed_methods": allowed}
            assert response.headers["allow"] == ", ".join(sorted(allowed))
        case "authorization":
            assert error(response, 401) == {
                "code": "missing_authorization",
                "message": "Authentication credentials were not accepted.",
            }
            assert response.headers["www-authenticate"] == "Bearer"
        case "scopes_of_the_key":
            assert error(response, 403)["code"] == "insufficient_scope"
            assert 'error="insufficient_scope"' in response.headers["www-authenticate"]
        case "body":
            assert refused(response) == {"body": "invalid_json"}
        case "scope":
            assert refused(response, 403) == {"audience": "not_found", "client": "forbidden"}
        case "contact":
            assert refused(response, 404) == {"contact_id": "not_found"}
        case "tags":
            wanted = {"tags": "must_be_non_empty_strings"} if method == "PUT" else {"tag": "invalid"}
            assert refused(response) == wanted
        case _:
            raise AssertionError(rule)


@pytest.mark.parametrize("method", REQUESTS)
async def test_the_earlier_of_two_broken_rules_is_told(api: Api, method: str) -> None:
    contact = await upsert(api, tags=["kept"])
    reader = await colleague(api.workspace, scopes=["tags:read", "contacts:read"])
    before = await state_of(api.workspace)
    headers = {
        "own": {},
        "reader": {"Authorization": f"Bearer {reader.provisioned.key}"},
        "none": {"Authorization": ""},
    }
    whole = replace(REQUESTS[method], contact_id=contact["contact_id"])
    pairs = [*((rule, rule) for rule in RULES), *combinations(RULES, 2)]
    assert len(pairs) == 36
    for earlier, later in pairs:
        request = getattr(getattr(whole, f"by_{earlier}")(), f"by_{later}")()
        response = await api.request(
            request.method,
            request.path,
            json=None if request.content else request.body,
            content=request.content,
            headers=headers[request.key],
        )
        assert_broken(response, earlier, method)
    assert await state_of(api.workspace) == before


# What an upsert is checked for, in its order; each of these may stand beside all the others.
BROKEN_FIELDS: list[tuple[str, Any, str]] = [
    ("tags", "vip", "must_be_list"),
    ("status", "gone", "invalid"),
    ("verified", "yes", "must_be_boolean"),
    ("email_validation", [], "must_be_object"),
    ("suppression", [], "must_be_object"),
]


@pytest.mark.parametrize(("earlier", "later"), [*combinations(range(len(BROKEN_FIELDS)), 2)])
async def test_the_fields_of_an_upsert_are_looked_at_in_order(api: Api, earlier: int, later: int) -> None:
    (name, value, code), (other, other_value, _) = BROKEN_FIELDS[earlier], BROKEN_FIELDS[later]
    body = {**SCOPE, "email": "ada@example.com", name: value, other: other_value}
    assert await refuse(api, "POST", "/api/contacts", body) == {name: code}


@pytest.mark.parametrize("path", ["/api/contacts", "/api/subscriptions/subscribe"])
async def test_all_that_is_wrong_with_the_scope_is_told_at_once_and_before_the_rest(api: Api, path: str) -> None:
    rest = {"tags": "vip", "status": "gone"}
    assert await refuse(api, "POST", path, rest) == {
        "email": "required",
        "audience": "required",
        "client": "required",
    }
    body = {**rest, "email": "ada", "audience": "unheard-of", "client": "mobile"}
    assert await refuse(api, "POST", path, body, 403) == {
        "email": "invalid",
        "audience": "not_found",
        "client": "forbidden",
    }


async def test_what_an_unsubscription_ends_is_looked_at_first_and_its_reason_last(api: Api) -> None:
    path = "/api/subscriptions/unsubscribe"
    assert await refuse(api, "POST", path, {"scope": "all"}) == {"scope": "invalid"}
    body = {"scope": "client", "reason": 1, "audience": "newsletter", "email": "ada@example.com"}
    assert await refuse(api, "POST", path, body) == {"client": "required"}
    assert await refuse(api, "POST", path, {**body, "client": "web"}) == {"reason": "must_be_string"}


async def test_a_list_looks_at_its_scope_before_its_filters(api: Api) -> None:
    async def codes(**params: Any) -> dict[str, str]:
        return await refuse(api, "GET", "/api/contacts", **params)

    params = {"subscription_status": "gone", "limit": "many"}
    assert await codes(**params, verified="true") == {"audience": "required", "client": "required"}
    assert await codes(**SCOPE, **params, verified="true") == {"verified": "not_supported"}
    assert await codes(**SCOPE, **params) == {"subscription_status": "invalid"}


@pytest.mark.parametrize(
    ("header", "code"),
    [
        (None, "missing_authorization"),
        ("", "missing_authorization"),
        ("Bearer", "invalid_authorization"),
        ("Bearer  ", "invalid_authorization"),
        ("Bearer\tKEY", "invalid_authorization"),
        ("Basic KEY", "invalid_authorization"),
        ("KEY", "invalid_authorization"),
        ("Bearer ptag_unheard_of", "invalid_api_key"),
        ("Bearer dm_clientakey01_lab", "invalid_api_key"),
        ("bEARER   KEY ", None),
    ],
)
async def test_codes_of_authorization(app: ASGIApp, api: Api, header: str | None, code: str | None) -> None:
    contact = await upsert(api)
    key = api.workspace.provisioned.key
    headers = {} if header is None else {"Authorization": header.replace("KEY", key)}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://polytag.test") as client:
        response = await client.post(
            f"{BASE}/api/contacts/{contact['contact_id']}/tags/vip", json=SCOPE, headers=headers
        )
    if code is None:
        assert response.json()["tags"] == ["vip"]
    else:
        assert error(response, 401)["code"] == code


async def test_each_call_names_the_scopes_that_a_key_lacks(app: ASGIApp, api: Api) -> None:
    contact = await upsert(api)
    path = f"/api/contacts/{contact['contact_id']}/tags"
    nobody = await colleague(api.workspace, scopes=["events:read"])
    async with colleagues(app, nobody) as [client]:
        for method, route, scopes in [
            ("PUT", path, "tags:write contacts:read"),
            ("POST", f"{path}/vip", "tags:write contacts:read"),
            ("DELETE", f"{path}/vip", "tags:write contacts:read"),
            ("GET", "/api/contacts", "contacts:read tags:read"),
            ("POST", "/api/contacts", "contacts:write tags:write"),
            ("GET", "/api/contacts/status", "contacts:read"),
            ("POST", "/api/subscriptions/subscribe", "contacts:write tags:write"),
            ("POST", "/api/subscriptions/unsubscribe", "contacts:write"),
        ]:
            response = await client.request(method, BASE + route)
            assert error(response, 403)["code"] == "insufficient_scope"
            sent = response.headers["www-authenticate"].partition('scope="')[2].rstrip('"').split()
            assert sorted(sent) == sorted(scopes.split()), route
