"""The published cases: requests to the vendor's own code and what it answered, and how one is tried here.

Each starts from two new workspaces, with the ids that the cases name: numbers are a workspace's own.
"""

import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from starlette.types import ASGIApp

from app.database import Database
from app.repositories.subscribers import SubscriberRepository
from app.repositories.subscriptions import SubscriptionChange
from app.repositories.tag_contacts import ContactRefs, TagContactRepository
from app.repositories.tags import TagRepository
from tests.conftest import Workspace, client_of, make_workspace
from tests.dialects.sendportal.calls import MOUNT
from tests.routers.calls import run

Json = dict[str, Any]

PUBLISHED: Json = json.loads(Path(__file__).with_name("cases.json").read_text(encoding="utf-8"))
CASES: dict[str, Json] = {case["id"]: case for case in PUBLISHED["cases"]}
MADE_AT = datetime(2020, 3, 23, 12, 44, 14, tzinfo=UTC)


@dataclass(frozen=True)
class Installation:
    """A service with the workspaces of the fixture."""

    client: httpx.AsyncClient
    keys: Mapping[str, str]

    async def send(self, request: Json) -> httpx.Response:
        """The answer to a request of a case."""
        headers = {"Accept": "application/json"}
        if request["token"]:
            headers["Authorization"] = f"Bearer {self.keys[request['token']]}"
        content: str | None = request.get("raw_body")
        if "body" in request:
            content = json.dumps(request["body"])
        if content is not None:
            headers["Content-Type"] = "application/json"
        for name, value in request.get("headers", {}).items():
            headers.pop(name, None)
            if value is not None:
                headers[name] = self._filled(value)
        return await self.client.request(
            request["method"], MOUNT + self._filled(request["path"]), content=content, headers=headers
        )

    def _filled(self, text: str) -> str:
        for name, key in self.keys.items():
            text = text.replace(f"{{{name}}}", key)
        return text


@asynccontextmanager
async def installation(app: ASGIApp, database: Database, case: Json) -> AsyncIterator[Installation]:
    """The fixture, and what a case adds to it."""
    workspaces = {number: await make_workspace(database) for number in (1, 2)}
    await _fill(database, workspaces, case.get("given", {}))
    async with client_of(app, workspaces[1]) as client:
        keys = {"T1": workspaces[1].provisioned.key, "T2": workspaces[2].provisioned.key, "BAD": "x" * 32}
        del client.headers["Authorization"]
        yield Installation(client, keys)


async def _fill(database: Database, workspaces: Mapping[int, Workspace], given: Json) -> None:
    fixture = PUBLISHED["fixture"]
    tags, people = {}, {}
    for tag in fixture["tags"]:
        made = await workspaces[tag["workspace"]].repository(TagRepository).create({"name": tag["name"]})
        tags[tag["id"]] = made.tag
    for person in fixture["subscribers"]:
        subscribers = workspaces[person["workspace"]].repository(SubscriberRepository)
        fields: Any = {name: person[name] for name in ("email", "first_name", "last_name")}
        since = given.get("unsubscribed", {}).get(str(person["id"]))
        own = since and SubscriptionChange(
            "unsubscribed", unsubscribed_at=datetime.fromisoformat(since).replace(tzinfo=UTC)
        )
        people[person["id"]] = (await subscribers.put(fields, own)).subscriber.contact
    for pair in [*fixture["assignments"], *given.get("assignments_add", ())]:
        contacts = ContactRefs("contact_ids", [people[pair["subscriber"]].id])
        await workspaces[1].repository(TagContactRepository).assign(tags[pair["tag"]].id, contacts)
    for table, numbers in (
        ("tags", {number: tag.id for number, tag in tags.items()}),
        ("contacts", {number: one.id for number, one in people.items()}),
    ):
        for number, row_id in numbers.items():
            sql = f"update {table} set number = :number, created_at = :at, updated_at = :at where id = :id"
            await run(database, sql, number=number, at=MADE_AT, id=row_id)
        # New ones get numbers that no case names.
        sequence = f"{table}_number_seq"
        await run(database, f"select setval('{sequence}', greatest(nextval('{sequence}'), 100000))")


async def try_case(made: Installation, case: Json) -> None:
    """AssertionError where an answer is not the published one."""
    _check(await made.send(case), case["expect"])
    for request in case.get("followup", ()):
        _check(await made.send(request), request["expect"])


def _check(response: httpx.Response, expected: Json) -> None:
    assert response.status_code == expected["status"], response.text
    for name, value in expected.get("headers", {}).items():
        assert response.headers.get(name) == value, name
    if "body_text" in expected:
        assert response.text == expected["body_text"]
    for path, operator, *values in expected.get("json", ()):
        found = _at(_without_updated_at(response.json()), path)
        assert _OPERATORS[operator](found, *values), (path, operator, values, found)


_MISSING = object()


def _at(document: Any, path: str) -> Any:
    """The value at a path like `$.errors['tags.0'][0].id`."""
    for name, quoted, place in re.findall(r"\.(\w+)|\['([^']+)'\]|\[(\d+)\]", path.removeprefix("$")):
        document = document[int(place)] if place else document.get(name or quoted, _MISSING)
        if document is _MISSING:
            break
    return document


def _without_updated_at(value: Any) -> Any:
    """An answer without the field that tags have here beside the vendor's `update_at`."""
    if isinstance(value, list):
        return [_without_updated_at(one) for one in value]
    if isinstance(value, dict):
        more = {"updated_at"} if "update_at" in value else set()
        return {name: _without_updated_at(one) for name, one in value.items() if name not in more}
    return value


def _ids(found: Any) -> list[int]:
    return [one["id"] for one in found]


_OPERATORS: dict[str, Any] = {
    "eq": lambda found, value: type(found) is type(value) and found == value,
    "ne": lambda found, value: found is not _MISSING and found != value,
    "keys": lambda found, value: list(found) == value,
    "ids": lambda found, value: sorted(_ids(found)) == sorted(value),
    "ids_ordered": lambda found, value: _ids(found) == value,
    "absent": lambda found: found is _MISSING,
    "len": lambda found, value: len(found) == value,
    "regex": lambda found, value: re.search(value, found) is not None,
    "type": lambda found, value: value == "integer" and type(found) is int,
}
