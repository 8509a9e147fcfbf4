"""Every mistake that a caller can make, and what it is told: the table behind C20 and X28."""

from dataclasses import dataclass
from typing import Any, Literal

import httpx

from app.values import new_key
from tests.conftest import Api, make_workspace
from tests.routers.calls import (
    RANDOM_ID,
    Json,
    call,
    forget_default_audience,
    make_audience,
    make_contacts,
    make_outsider,
    make_tag,
    state_of,
)

# Whose key is sent: the caller's own, one with the scope tags:read alone, one without a default audience, or none.
Key = Literal["own", "reader", "homeless", "none", "unknown"]


@dataclass(frozen=True)
class Refusal:
    """A call that is refused. In braces stands what `refuse` makes; `secret_…` is another workspace's."""

    name: str
    method: str
    path: str
    status: int
    code: str
    pointers: tuple[str, ...] = ()
    json: Any = None
    content: bytes | None = None
    key: Key = "own"
    headers: tuple[tuple[str, str], ...] = ()


def field(name: str, method: str, path: str, body: object, pointer: str, code: str) -> Refusal:
    return Refusal(name, method, path, 422, code, (pointer,), json=body)


def query(name: str, path: str, pointer: str, code: str) -> Refusal:
    return Refusal(name, "GET", path, 422, code, (pointer,))


def new_tag(name: str, body: object, pointer: str, code: str) -> Refusal:
    return field(name, "POST", "/tags", body, pointer, code)


def new_contact(name: str, fields: Json, pointer: str, code: str) -> Refusal:
    return field(name, "POST", "/contacts", {"email": "new@example.com", **fields}, pointer, code)


TAGS, CONTACTS = "/contacts/{contact}/tags", "/tags/{tag}/contacts"
DEEP: Json = {}
for _ in range(40):
    DEEP = {"a": DEEP}

REFUSALS = [
    # Fields.
    new_tag("required", {}, "#/name", "missing"),
    Refusal("body required", "POST", "/tags", 422, "missing", ("#",)),
    new_tag("no object", [], "#", "invalid_type"),
    new_tag("unknown field", {"name": "x", "colour": "#fff"}, "#/colour", "unknown_field"),
    new_tag("too many fields", {f"f{n}": n for n in range(65)}, "#", "too_many_fields"),
    new_tag("name null", {"name": None}, "#/name", "invalid_type"),
    new_tag("name blank", {"name": " "}, "#/name", "too_short"),
    new_tag("name too long", {"name": "x" * 121}, "#/name", "too_long"),
    new_tag("NUL in a name", {"name": "a\x00b"}, "#/name", "invalid_characters"),
    new_tag("color", {"name": "x", "color": "red"}, "#/color", "invalid_value"),
    new_tag("flag", {"name": "x", "subscriber_editable": "yes"}, "#/subscriber_editable", "invalid_type"),
    field("secondary id", "PATCH", "/tags/{tag}", {"secondary_id": 0}, "#/secondary_id", "out_of_range"),
    field("must be a list", "PUT", TAGS, {"tags": "VIP"}, "#/tags", "invalid_type"),
    field("must be strings", "PUT", TAGS, {"tags": ["VIP", 5]}, "#/tags/1", "invalid_type"),
    field("must be non-empty strings", "PUT", TAGS, {"tags": ["VIP", ""]}, "#/tags/1", "too_short"),
    field("none to add", "POST", TAGS, {"tags": []}, "#/tags", "too_short"),
    field("too many", "POST", TAGS, {"tags": ["x"] * 1_001}, "#/tags", "too_long"),
    field("names and ids", "PUT", TAGS, {"tags": [], "tag_ids": []}, "#", "not_together"),
    field("added and removed", "PATCH", TAGS, {"add": ["a"], "remove": ["A"]}, "#/remove/0", "overlap"),
    field("unsluggable", "PUT", TAGS + "/!!!", None, "path:slug", "invalid_slug"),
    field("no such tag", "PUT", TAGS, {"tag_ids": [RANDOM_ID]}, "#/tag_ids/0", "unknown_ids"),
    field("another's tag", "PUT", TAGS, {"tag_ids": ["{secret_tag}"]}, "#/tag_ids/0", "unknown_ids"),
    field("no such name", "PUT", TAGS + "?create_missing=false", {"tags": ["x"]}, "#/tags/0", "unknown_tag"),
    field("no id", "POST", CONTACTS, {"contact_ids": ["7"]}, "#/contact_ids/0", "invalid_id"),
    field("no such contact", "POST", CONTACTS, {"emails": ["x@example.com"]}, "#/emails/0", "unknown_ids"),
    field(
        "another's contact", "POST", CONTACTS, {"contact_ids": ["{secret_contact}"]}, "#/contact_ids/0", "unknown_ids"
    ),
    field("another's email", "POST", CONTACTS, {"emails": ["{secret_email}"]}, "#/emails/0", "unknown_ids"),
    field("no member", "POST", CONTACTS, {"contact_ids": ["{outsider}"]}, "#/contact_ids/0", "not_members"),
    field("nobody named", "DELETE", CONTACTS, {}, "#", "missing"),
    new_contact("email", {"email": "nobody"}, "#/email", "invalid_value"),
    new_contact("attributes too large", {"attributes": {"a": "x" * 17_000}}, "#/attributes", "too_large"),
    new_contact("attributes too deep", {"attributes": DEEP}, "#/attributes", "too_deep"),
    new_contact("no such audience", {"audiences": ["nowhere"]}, "#/audiences/0", "unknown_audience"),
    Refusal(
        "two mistakes",
        "POST",
        "/tags",
        422,
        "invalid_input",
        ("#/name", "#/color"),
        json={"name": "", "color": "red"},
    ),
    # Queries.
    query("unknown parameter", "/tags?page=2", "?page", "unknown_parameter"),
    query("limit", "/tags?limit=1001", "?limit", "out_of_range"),
    query("offset beside cursor", "/tags?cursor=x&offset=0", "?offset", "not_together"),
    query("order", "/tags?sort=color", "?sort", "invalid_value"),
    query("id in a filter", "/tags?ids=7", "?ids.0", "invalid_id"),
    query("not UTF-8", "/tags?search=%ff", "?", "invalid_characters"),
    query("time", CONTACTS + "?assigned_after=yesterday", "?assigned_after", "invalid_value"),
    query("audience", "/tags?audience=nowhere", "?audience", "unknown_audience"),
    query("audience of another tag", "/tags/{tag}?audience=courses", "?audience", "other_audience"),
    Refusal("audience required", "GET", "/tags", 422, "audience_required", ("?audience",), key="homeless"),
    # The state of things.
    Refusal("name already exists", "POST", "/tags", 409, "name_taken", json={"name": "vip"}),
    Refusal("renamed to a taken name", "PATCH", "/tags/{gold}", 409, "name_taken", json={"name": "vip"}),
    Refusal("secondary id taken", "PATCH", "/tags/{gold}", 409, "secondary_id_taken", json={"secondary_id": 1}),
    Refusal("tag in use", "DELETE", "/tags/{tag}?if_unused=true", 409, "tag_in_use"),
    Refusal("email taken", "POST", "/contacts?on_conflict=error", 409, "email_taken", json={"email": "c0@example.com"}),
    Refusal("external id taken", "PATCH", "/contacts/{contact}", 409, "external_id_taken", json={"external_id": "c1"}),
    Refusal(
        "two contacts",
        "POST",
        "/contacts",
        409,
        "contact_mismatch",
        json={"email": "c0@example.com", "external_id": "c1"},
    ),
    Refusal("audience taken", "POST", "/audiences", 409, "slug_taken", json={"name": "Courses"}),
    Refusal("audience in use", "DELETE", "/audiences/courses", 409, "audience_in_use"),
    Refusal(
        "client of a key",
        "POST",
        "/keys",
        422,
        "unknown_client",
        ("#/client",),
        json={"scopes": ["admin"], "client": "x"},
    ),
    Refusal(
        "changed since", "PATCH", "/tags/{tag}", 412, "precondition_failed", json={}, headers=(("If-Match", '"7-0"'),)
    ),
    Refusal(
        "a condition that is not looked at",
        "POST",
        "/tags",
        422,
        "unsupported_header",
        ("header:If-Match",),
        json={"name": "x"},
        headers=(("If-Match", '"7"'),),
    ),
    Refusal(
        "key of another request",
        "POST",
        "/tags",
        422,
        "idempotency_key_reused",
        json={"name": "x"},
        headers=(("Idempotency-Key", "used"),),
    ),
    # Who asks, and for what.
    Refusal("no key", "GET", "/tags", 401, "unauthenticated", key="none"),
    Refusal("unknown key", "GET", "/tags", 401, "unauthenticated", key="unknown"),
    Refusal("forbidden", "POST", "/tags", 403, "insufficient_scope", json={"name": "x"}, key="reader"),
    Refusal("not found", "GET", "/tags/" + RANDOM_ID, 404, "not_found"),
    Refusal("another's", "DELETE", "/tags/{secret_tag}", 404, "not_found"),
    Refusal("another's contact in the path", "GET", "/contacts/{secret_contact}/tags", 404, "not_found"),
    Refusal("no such path", "GET", "/nothing", 404, "route_not_found"),
    Refusal("no such method", "PUT", "/tags", 405, "method_not_allowed", json={}),
    Refusal("no JSON", "POST", "/tags", 400, "unreadable_body", content=b"{"),
    Refusal("cursor", "GET", "/tags?cursor=x", 400, "invalid_cursor"),
    Refusal("body too large", "POST", "/contacts", 413, "body_too_large", content=b" " * 1_048_577),
    Refusal("not declared as JSON", "POST", "/tags", 415, "unsupported_media_type", content=b"<tag/>"),
]


async def refuse(api: Api, other_api: Api) -> dict[str, httpx.Response]:
    """The answers to all of these, by name. None of them changes anything."""
    names = {**await _make_own(api), **await _make_secrets(other_api)}
    reader = await make_workspace(api.workspace.database, scopes=("tags:read",))
    homeless = await make_workspace(api.workspace.database)
    await forget_default_audience(homeless)
    keys: dict[Key, dict[str, str]] = {
        "own": {},
        "reader": {"Authorization": f"Bearer {reader.provisioned.key}"},
        "homeless": {"Authorization": f"Bearer {homeless.provisioned.key}"},
        "none": {"Authorization": ""},
        "unknown": {"Authorization": f"Bearer {new_key()}"},
    }

    def fill(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: fill(inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [fill(inner) for inner in value]
        if isinstance(value, str):
            for name, replacement in names.items():
                value = value.replace(f"{{{name}}}", replacement)
        return value

    before = await state_of(api.workspace), await state_of(other_api.workspace)
    answers = {}
    for case in REFUSALS:
        headers = {**keys[case.key], **dict(case.headers)}
        if case.content is not None and case.code != "unsupported_media_type":
            headers["Content-Type"] = "application/json"
        answers[case.name] = await api.request(
            case.method, fill(case.path), json=fill(case.json), content=case.content, headers=headers
        )
    assert (await state_of(api.workspace), await state_of(other_api.workspace)) == before
    return answers


async def _make_own(api: Api) -> dict[str, str]:
    contact, _ = await make_contacts(api, 2)
    tag, gold = await make_tag(api, "VIP", contact_ids=[contact]), await make_tag(api, "Gold")
    await make_audience(api, "courses")
    await make_tag(api, "Course", audience="courses")
    made = await api.post("/tags", json={"name": "Once"}, headers={"Idempotency-Key": "used"})
    assert made.status_code == 201
    return {"contact": contact, "tag": tag["id"], "gold": gold["id"], "outsider": await make_outsider(api)}


async def _make_secrets(api: Api) -> dict[str, str]:
    email = "secret@example.com"
    contact = await call(api, "POST", "/contacts", {"email": email, "first_name": "Secret"}, status=201)
    tag = await make_tag(api, "Secret Name", description="Secret", contact_ids=[contact["id"]])
    return {"secret_tag": tag["id"], "secret_contact": contact["id"], "secret_email": email}
