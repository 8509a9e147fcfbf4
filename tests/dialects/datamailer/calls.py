"""What tests of the Datamailer dialect have in common: its calls, and what its answers must be like."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
from starlette.types import ASGIApp

from app.dialects.datamailer import DATAMAILER
from app.frontend import Route
from app.repositories.system import SystemRepository
from app.values import SCOPES, hash_key
from tests.conftest import Api, Workspace, client_of
from tests.routers.calls import Json, answered, run

BASE = "/datamailer"
# What the key of a test's workspace speaks for.
SCOPE = {"audience": "newsletter", "client": "web"}
# Its number is beyond all that the sequence gives out.
UNKNOWN_CONTACT = 9_000_000_000_000_000_000

SUBSCRIPTION_KEYS = [
    "slug",
    "subscribed",
    "status",
    "verified",
    "verified_at",
    "unsubscribed_at",
    "unsubscribe_reason",
]
STATUS_KEYS = [
    "contact_id",
    "email",
    "exists",
    "verified",
    "verified_at",
    "email_validation",
    "global_unsubscribed",
    "hard_bounced",
    "complained",
    "audience",
    "client",
    "can_send_marketing",
    "can_send_transactional",
]


async def call(api: Api, method: str, path: str, body: object = None, /, status: int = 200, **params: Any) -> Any:
    """Send a body if there is one, and give the JSON of the answer."""
    return answered(await api.request(method, BASE + path, json=body, params=params or None), status)


def refused(response: httpx.Response, status: int = 400) -> dict[str, str]:
    """The fields of a refusal in the vendor's form, each with its code."""
    body = answered(response, status)
    assert response.headers["content-type"] == "application/json"
    assert list(body) == ["error"]
    assert body["error"]["code"] == "validation_error", body
    assert list(body["error"]) == ["code", "fields"]
    fields: dict[str, str] = body["error"]["fields"]
    assert fields
    return fields


async def refuse(
    api: Api, method: str, path: str, body: object = None, /, status: int = 400, **params: Any
) -> dict[str, str]:
    """Send what is to be refused; its fields, each with its code."""
    return refused(await api.request(method, BASE + path, json=body, params=params or None), status)


def error(response: httpx.Response, status: int) -> Json:
    """The error of a refusal that is about no field."""
    body = answered(response, status)
    assert response.headers["content-type"] == "application/json"
    assert list(body) == ["error"]
    told: Json = body["error"]
    assert told["code"] != "validation_error", body
    return told


async def upsert(api: Api, email: str = "ada@example.com", **fields: Any) -> Json:
    """A contact that has an agreement with this client; `audience` and `client` may be given."""
    made: Json = await call(api, "POST", "/api/contacts", {**SCOPE, "email": email, **fields})
    return made


async def subscribe(api: Api, email: str = "ada@example.com", **fields: Any) -> Json:
    done: Json = await call(api, "POST", "/api/subscriptions/subscribe", {**SCOPE, "email": email, **fields})
    return done


async def unsubscribe(api: Api, email: str = "ada@example.com", *, ends: str = "client", **fields: Any) -> Json:
    body = {**SCOPE, "email": email, "scope": ends, **fields}
    done: Json = await call(api, "POST", "/api/subscriptions/unsubscribe", body)
    return done


async def status_of(api: Api, email: str = "ada@example.com", **scope: str) -> Json:
    params: Json = {**SCOPE, "email": email, **scope}
    found: Json = await call(api, "GET", "/api/contacts/status", **params)
    return found


async def put_tags(api: Api, contact: Json, *names: str, **scope: str) -> list[str]:
    """Replace a contact's tags; those that it carries then."""
    body = {**SCOPE, **scope, "tags": names}
    tags: list[str] = (await call(api, "PUT", tags_path(contact), body))["tags"]
    return tags


def tags_path(contact: Json, slug: str | None = None) -> str:
    """The path of a contact's tags, or of one of them."""
    return f"/api/contacts/{contact['contact_id']}/tags" + (f"/{slug}" if slug else "")


async def listed(api: Api, **params: Any) -> Json:
    page: Json = await call(api, "GET", "/api/contacts", **{**SCOPE, **params})
    assert page["count"] == len(page["contacts"])
    return page


async def emails(api: Api, **params: Any) -> list[str]:
    """The addresses on a list's first page."""
    return [contact["email"] for contact in (await listed(api, **params))["contacts"]]


async def tags_of(workspace: Workspace, audience: str = "newsletter") -> dict[str, str]:
    """The tags of an audience: slugs and names."""
    rows = await run(
        workspace.database,
        """
        select t.slug, t.name from tags t
        join audiences a on a.workspace_id = t.workspace_id and a.id = t.audience_id
        where t.workspace_id = :workspace_id and a.slug = :audience
        """,
        workspace_id=workspace.principal.workspace_id,
        audience=audience,
    )
    return {row["slug"]: row["name"] for row in rows}


async def colleague(
    workspace: Workspace,
    *,
    client: str = "web",
    audience: str = "newsletter",
    scopes: Sequence[str] = SCOPES,
) -> Workspace:
    """Another key to a workspace, of another client or audience, or with other scopes. Makes what is missing."""
    system = SystemRepository(workspace.database)
    provisioned = await system.provision(
        workspace=workspace.provisioned.workspace, client=client, audience=audience, scopes=scopes
    )
    found = await system.find_key(hash_key(provisioned.key))
    assert found is not None
    return Workspace(workspace.database, provisioned, found.principal)


@asynccontextmanager
async def colleagues(app: ASGIApp, *workspaces: Workspace) -> AsyncIterator[list[Api]]:
    """A client of the application for each of these keys."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(client_of(app, workspace)) for workspace in workspaces]


def all_routes() -> list[tuple[str, str]]:
    """Every method and path of the dialect, the path below BASE, with its parameters in braces."""
    routes = [route for router in DATAMAILER.routers for route in router.routes]
    return sorted(
        (method, route.path_format) for route in routes if isinstance(route, Route) for method in route.methods or ()
    )
