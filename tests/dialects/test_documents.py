"""What the OpenAPI documents of dialects alone have, and that what can be pasted works. tests/test_openapi.py has what
holds for all documents.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import httpx
import pytest
from starlette.types import ASGIApp

from app.database import Database
from app.dialects.buttondown.typeids import BULK_ACTION_ID, NEWSLETTER_ID, SUBSCRIBER_ID, TAG_ID, Prefix, decode
from app.main import DIALECTS
from app.repositories.system import SystemRepository
from app.values import SCOPES, hash_key
from tests.conftest import Workspace, client_of
from tests.documents import document_of, operations_of, resolved
from tests.routers.calls import Json, call

SLUGS = [dialect.slug for dialect in DIALECTS]
JSON = "application/json"
FORM = "application/x-www-form-urlencoded"


@pytest.mark.parametrize(
    ("slug", "method", "path", "name"),
    [
        ("datamailer", "GET", "/api/contacts", "audience"),
        ("datamailer", "GET", "/api/contacts", "client"),
        ("datamailer", "GET", "/api/contacts/status", "email"),
    ],
)
def test_what_handlers_ask_for_is_required(slug: str, method: str, path: str, name: str) -> None:
    parameters = document_of(slug)["paths"][path][method.lower()]["parameters"]
    assert [one["required"] for one in parameters if one["name"] == name] == [True]


def test_every_call_of_buttondown_tells_of_the_headers_that_all_take() -> None:
    for operation in operations_of("buttondown"):
        headers = {one["name"] for one in operation.parameters if one["in"] == "header"}
        assert {"Buttondown-Context", "X-API-Version"} <= headers, str(operation)


def test_the_ids_in_examples_of_buttondown_are_ids() -> None:
    kinds: dict[Prefix, str] = {
        "sub_tag": TAG_ID,
        "sub": SUBSCRIBER_ID,
        "bulk_action": BULK_ACTION_ID,
        "news": NEWSLETTER_ID,
    }
    for prefix, example in kinds.items():
        assert decode(prefix, example), example


# Pasting what stands there.

# What a body's example has in place of ids that nobody can know, by the names of fields, and what paths have. Each is
# replaced by what `samples` has under the name on the right.
IDS: dict[str, dict[str, str]] = {
    "topmail": {"contact_ids": "contact", "tag_id": "tag", "contact_id": "contact"},
    "buttondown": {"tag_ids": "tag", "id": "tag", "id_or_email": "contact"},
    "sendportal": {"tags": "tag number", "subscribers": "number", "tag": "tag number", "subscriber": "number"},
    "datamailer": {"contact_id": "number", "tag_slug": "slug"},
}


def bodies(slug: str) -> Iterator[tuple[str, str, str, Json]]:
    """Every call with a body: its method, path, media type, and each example of it."""
    for operation in operations_of(slug):
        for media_type, schema in operation.bodies.items():
            for example in resolved(slug, schema).get("examples", ()):
                yield operation.method, operation.path, media_type, example


def with_ids(body: Any, ids: Mapping[str, str | int]) -> Any:
    """A body with ids that there are, where it has lists of those that nobody can know."""
    if not isinstance(body, dict):
        return body
    return {
        name: [ids[bare]] * len(value)
        if (bare := name.removesuffix("[]")) in ids and isinstance(value, list)
        else with_ids(value, ids)
        for name, value in body.items()
    }


async def fresh_workspace(database: Database) -> Workspace:
    """A workspace as the guides set it up, with the audience and the client that examples name."""
    system = SystemRepository(database)
    provisioned = await system.provision(
        workspace=f"w-{uuid4().hex[:12]}", client="default", audience="newsletter", scopes=SCOPES
    )
    found = await system.find_key(hash_key(provisioned.key))
    assert found is not None
    return Workspace(database, provisioned, found.principal)


Paste = tuple[str, str, str, str, Json]
PASTES: list[Paste] = [(slug, *body) for slug in SLUGS for body in bodies(slug)]


@asynccontextmanager
async def pasting(
    app: ASGIApp, database: Database, slug: str
) -> AsyncIterator[Callable[..., Awaitable[httpx.Response]]]:
    """What sends a call to a workspace of its own, which has one tag and one contact, by their ids."""
    workspace = await fresh_workspace(database)
    async with client_of(app, workspace) as api:
        tag = await call(api, "POST", "/tags", {"name": "Sample"}, status=201)
        contact = await call(api, "POST", "/contacts", {"email": "sample@example.com"}, status=201)
        samples = {
            "tag": tag["id"],
            "tag number": tag["number"],
            "slug": tag["slug"],
            "contact": contact["id"],
            "number": contact["number"],
        }
        ids = {name: samples[what] for name, what in IDS[slug].items()}
        word = "Token" if slug == "buttondown" else "Bearer"

        async def send(method: str, path: str, media_type: str, body: Json, **changed: Any) -> httpx.Response:
            sent = with_ids({**body, **changed}, ids)
            content: dict[str, Any] = {"data": sent} if media_type == FORM else {"json": sent}
            headers = {"Authorization": f"{word} {workspace.provisioned.key}"}
            return await api.request(method, f"/{slug}{path.format(**ids)}", headers=headers, **content)

        yield send


@pytest.mark.parametrize("paste", PASTES, ids=lambda paste: " ".join(paste[:4]))
async def test_a_pasted_example_is_accepted(app: ASGIApp, database: Database, paste: Paste) -> None:
    slug, method, path, media_type, example = paste
    async with pasting(app, database, slug) as send:
        response = await send(method, path, media_type, example)
        assert response.is_success, response.text


def schema_of(slug: str, method: str, path: str) -> Json:
    """The schema of the JSON that a call takes."""
    content = document_of(slug)["paths"][path][method.lower()]["requestBody"]["content"]
    schema: Json = resolved(slug, content[JSON]["schema"])
    return schema


def at_limits(schema: Json, *, beyond: int = 0) -> Iterator[tuple[str, Any]]:
    """The fields of a body that have a limit, with values that are as long, or so much longer."""
    for name, field in schema["properties"].items():
        for branch in field.get("anyOf", [field]):
            if "maxLength" in branch:
                yield name, "@example.com".rjust(branch["maxLength"] + beyond, "a")
            if "maxItems" in branch:
                yield name, ["a"] * (branch["maxItems"] + beyond)


@pytest.mark.parametrize(
    "paste", [paste for paste in PASTES if paste[3] == JSON], ids=lambda paste: " ".join(paste[:3])
)
async def test_the_limits_of_a_schema_are_those_in_force(app: ASGIApp, database: Database, paste: Paste) -> None:
    slug, method, path, media_type, example = paste
    schema = schema_of(slug, method, path)
    for name, value in at_limits(schema):
        # In a workspace of its own, since names and addresses are unique.
        async with pasting(app, database, slug) as send:
            response = await send(method, path, media_type, example, **{name: value})
            assert response.is_success, f"{name}: {response.text}"
    async with pasting(app, database, slug) as send:
        for name, value in at_limits(schema, beyond=1):
            response = await send(method, path, media_type, example, **{name: value})
            assert response.status_code in {400, 422}, f"{name}: {response.text}"
        for name in schema.get("required", ()):
            less = {other: value for other, value in example.items() if other != name}
            response = await send(method, path, media_type, less)
            assert response.status_code in {400, 422}, f"{name}: {response.text}"
