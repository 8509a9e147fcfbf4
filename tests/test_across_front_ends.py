"""One core: the same changes, made through any front end, are the same to see through every other.

A program of changes is run in as many workspaces as there are front ends, each through another one; what a front end
cannot say (Datamailer has no call that deletes a tag) is said natively. Then each workspace is looked at through all of
them, and must look as a model in memory does.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from starlette.types import ASGIApp

from app.database import Database
from app.main import FRONT_ENDS
from app.values import fold
from tests.conftest import Api, client_of, make_workspace
from tests.routers.calls import Json, run

# More of them: `ACROSS_EXAMPLES=2000 make test ARGS=tests/test_across_front_ends.py`, each run with another seed.
EXAMPLES = int(os.environ.get("ACROSS_EXAMPLES", "10"))

EMAILS = [f"{name}@example.com" for name in ("ada", "bob", "cem")]
# Each has a slug of its own, since Datamailer takes names of one slug for one tag; the last ones are others' spellings.
NAMES = ["VIP", "Beta Tester", "Café", "a_b", "2026", "東京 trip", "x" * 50]
SPELLINGS = [*NAMES, "vip", "BETA TESTER", "Cafe\u0301"]


@dataclass(frozen=True)
class Change:
    """One step of a program. Names are spellings of tags."""

    verb: str
    emails: tuple[str, ...] = ()
    names: tuple[str, ...] = ()


def steps(verb: str, *, emails: int = 0, names: int = 0) -> st.SearchStrategy[Change]:
    return st.builds(
        Change,
        st.just(verb),
        st.lists(st.sampled_from(EMAILS), min_size=min(emails, 1), max_size=emails, unique=True).map(tuple),
        st.lists(st.sampled_from(SPELLINGS), min_size=min(names, 1), max_size=names).map(tuple),
    )


PROGRAMS = st.lists(
    st.one_of(
        steps("make_tag", names=1),
        steps("respell_tag", names=1),
        steps("delete_tag", names=1),
        steps("make_contact", emails=1),
        steps("drop_contact", emails=1),
        steps("add", emails=1, names=4),
        steps("replace", emails=1, names=4),
        steps("remove", emails=1, names=4),
        steps("assign", emails=3, names=1),
        steps("unassign", emails=3, names=1),
    ),
    min_size=2,
    max_size=14,
    # Most changes need somebody to be there.
).map(lambda program: [*(Change("make_contact", (email,)) for email in EMAILS), *program])


@dataclass
class Model:
    """What there should be: tags by their folded name with the name as it is spelled, and who carries which."""

    tags: dict[str, str] = field(default_factory=dict)
    contacts: dict[str, set[str]] = field(default_factory=dict)

    def apply(self, change: Change) -> None:
        keys = [fold(name) for name in change.names]
        known = [email for email in change.emails if email in self.contacts]
        match change.verb:
            case "make_tag":
                self._make(change.names)
            case "respell_tag" if keys[0] in self.tags:
                self.tags[keys[0]] = respelled(self.tags[keys[0]])
            case "delete_tag":
                self.tags.pop(keys[0], None)
                for carried in self.contacts.values():
                    carried.discard(keys[0])
            case "make_contact":
                self.contacts.setdefault(change.emails[0], set())
            case "drop_contact":
                self.contacts.pop(change.emails[0], None)
            case "add" | "replace" if known:
                self._make(change.names)
                carried = self.contacts[known[0]]
                self.contacts[known[0]] = set(keys) | (carried if change.verb == "add" else set())
            case "remove" | "unassign":
                for email in known:
                    self.contacts[email] -= set(keys)
            case "assign" if keys[0] in self.tags:
                for email in known:
                    self.contacts[email].add(keys[0])

    def _make(self, names: Sequence[str]) -> None:
        for name in names:
            self.tags.setdefault(fold(name), name_as_stored(name))

    def counts(self) -> dict[str, int]:
        return {name: sum(key in carried for carried in self.contacts.values()) for key, name in self.tags.items()}

    def carried(self) -> dict[str, list[str]]:
        return {email: sorted(self.tags[key] for key in keys) for email, keys in self.contacts.items()}


def name_as_stored(name: str) -> str:
    return "Café" if fold(name) == fold("Café") else name


def respelled(name: str) -> str:
    """Another spelling of the same name."""
    return name.swapcase() if fold(name.swapcase()) == fold(name) else name


class Native:
    """A caller that says everything natively; the others inherit what their API cannot say."""

    def __init__(self, api: Api) -> None:
        self.api = api

    async def call(self, method: str, path: str, body: object = None, *statuses: int, **headers: str) -> Any:
        response = await self.api.request(method, path, json=body, headers=headers)
        assert response.status_code in (statuses or (200,)), f"{method} {path} {body}: {response.text}"
        return response.json() if response.content else None

    async def tag(self, name: str) -> Json | None:
        listed = await Native.call(self, "GET", "/tags?limit=1000")
        return next((tag for tag in listed["data"] if fold(tag["name"]) == fold(name)), None)

    async def tags(self, names: Sequence[str]) -> list[Json]:
        return [tag for name in names if (tag := await self.tag(name))]

    async def contacts(self, emails: Sequence[str]) -> list[Json]:
        listed = await Native.call(self, "GET", "/contacts?limit=1000")
        return [contact for contact in listed["data"] if contact["email"] in emails]

    async def apply(self, change: Change) -> None:
        contacts = await self.contacts(change.emails)
        match change.verb:
            case "make_tag":
                await self.make_tag(change.names[0])
            case "respell_tag":
                for tag in await self.tags(change.names):
                    await self.rename_tag(tag, respelled(tag["name"]))
            case "delete_tag":
                for tag in await self.tags(change.names):
                    await self.delete_tag(tag)
            case "make_contact":
                if not contacts:
                    await self.make_contact(change.emails[0])
            case "drop_contact":
                for contact in contacts:
                    await self.drop_contact(contact)
            case "add" | "replace" | "remove":
                for contact in contacts:
                    await getattr(self, change.verb)(contact, list(change.names))
            case "assign" | "unassign":
                for tag in await self.tags(change.names):
                    if contacts:
                        await getattr(self, change.verb)(tag, contacts)

    async def make_tag(self, name: str) -> None:
        await Native.call(self, "POST", "/tags?on_conflict=return", {"name": name}, 200, 201)

    async def rename_tag(self, tag: Json, name: str) -> None:
        await Native.call(self, "PATCH", f"/tags/{tag['id']}", {"name": name})

    async def delete_tag(self, tag: Json) -> None:
        await Native.call(self, "DELETE", f"/tags/{tag['id']}", None, 204)

    async def make_contact(self, email: str) -> None:
        await Native.call(self, "POST", "/contacts", {"email": email}, 201)

    async def drop_contact(self, contact: Json) -> None:
        await Native.call(self, "DELETE", f"/contacts/{contact['id']}", None, 204)

    async def add(self, contact: Json, names: list[str]) -> None:
        await Native.call(self, "POST", f"/contacts/{contact['id']}/tags", {"tags": names})

    async def replace(self, contact: Json, names: list[str]) -> None:
        await Native.call(self, "PUT", f"/contacts/{contact['id']}/tags", {"tags": names})

    async def remove(self, contact: Json, names: list[str]) -> None:
        await Native.call(self, "DELETE", f"/contacts/{contact['id']}/tags", {"tags": names})

    async def assign(self, tag: Json, contacts: list[Json]) -> None:
        await Native.call(self, "POST", f"/tags/{tag['id']}/contacts", {"contact_ids": [one["id"] for one in contacts]})

    async def unassign(self, tag: Json, contacts: list[Json]) -> None:
        body = {"contact_ids": [one["id"] for one in contacts]}
        await Native.call(self, "DELETE", f"/tags/{tag['id']}/contacts", body)

    async def counts(self) -> dict[str, int] | None:
        """Each tag's name with its count; None where the API shows no counts."""
        listed = await self.call("GET", "/tags?limit=1000")
        return {tag["name"]: tag["contact_count"] for tag in listed["data"]}

    async def carried(self) -> dict[str, list[str]]:
        """Each contact's email with the names of its tags."""
        listed = await self.call("GET", "/contacts?limit=1000&expand=tags")
        return {one["email"]: sorted(tag["name"] for tag in one["tags"]) for one in listed["data"]}


class TopMail(Native):
    async def call(self, method: str, path: str, body: object = None, *statuses: int, **headers: str) -> Any:
        return await super().call(method, f"/topmail/api/v1{path}", body, *statuses, **headers)

    async def make_tag(self, name: str) -> None:
        await self.call("POST", "/tags", {"name": name}, 201, 409)

    async def rename_tag(self, tag: Json, name: str) -> None:
        await self.call("PATCH", f"/tags/{tag['id']}", {"name": name})

    async def delete_tag(self, tag: Json) -> None:
        await self.call("DELETE", f"/tags/{tag['id']}")

    async def make_contact(self, email: str) -> None:
        await self.call("POST", "/contacts", {"email": email}, 201)

    async def drop_contact(self, contact: Json) -> None:
        await self.call("DELETE", f"/contacts/{contact['id']}")

    async def assign(self, tag: Json, contacts: list[Json]) -> None:
        await self.call("POST", f"/tags/{tag['id']}/contacts", {"contact_ids": [one["id"] for one in contacts]})

    async def unassign(self, tag: Json, contacts: list[Json]) -> None:
        await self.call("DELETE", f"/tags/{tag['id']}/contacts", {"contact_ids": [one["id"] for one in contacts]})

    async def carried(self) -> dict[str, list[str]]:
        carried: dict[str, list[str]] = {
            one["email"]: [] for one in (await self.call("GET", "/contacts?limit=1000"))["data"]
        }
        for tag in (await self.call("GET", "/tags?limit=1000"))["data"]:
            for contact in (await self.call("GET", f"/tags/{tag['id']}/contacts?limit=1000"))["data"]:
                carried[contact["email"]].append(tag["name"])
        return {email: sorted(names) for email, names in carried.items()}


class Datamailer(Native):
    SCOPE: Json = {"audience": "newsletter", "client": "web"}  # noqa: RUF012

    async def call(self, method: str, path: str, body: object = None, *statuses: int, **headers: str) -> Any:
        return await super().call(method, f"/datamailer/api{path}", body, *statuses, **headers)

    async def make_contact(self, email: str) -> None:
        await self.call("POST", "/subscriptions/subscribe", {**self.SCOPE, "email": email})

    async def add(self, contact: Json, names: list[str]) -> None:
        await self.call("POST", "/contacts", {**self.SCOPE, "email": contact["email"], "tags": names})

    async def replace(self, contact: Json, names: list[str]) -> None:
        await self.call("PUT", f"/contacts/{contact['number']}/tags", {**self.SCOPE, "tags": names})

    async def remove(self, contact: Json, names: list[str]) -> None:
        for tag in await self.tags(names):
            await self.call("DELETE", f"/contacts/{contact['number']}/tags/{tag['slug']}", self.SCOPE)

    async def assign(self, tag: Json, contacts: list[Json]) -> None:
        for contact in contacts:
            await self.call("POST", f"/contacts/{contact['number']}/tags/{tag['slug']}", self.SCOPE)

    async def unassign(self, tag: Json, contacts: list[Json]) -> None:
        for contact in contacts:
            await self.call(
                "DELETE", f"/contacts/{contact['number']}/tags/{tag['slug']}?audience=newsletter&client=web"
            )

    async def counts(self) -> dict[str, int] | None:
        return None

    async def carried(self) -> dict[str, list[str]]:
        names = {tag["slug"]: tag["name"] for tag in (await Native.call(self, "GET", "/tags?limit=1000"))["data"]}
        listed = await self.call("GET", "/contacts?audience=newsletter&client=web&limit=500")
        return {one["email"]: sorted(names[slug] for slug in one["tags"]) for one in listed["contacts"]}


class SendPortal(Native):
    async def call(self, method: str, path: str, body: object = None, *statuses: int, **headers: str) -> Any:
        return await super().call(method, f"/sendportal/api/v1{path}", body, *statuses, **headers)

    async def make_tag(self, name: str) -> None:
        await self.call("POST", "/tags", {"name": name}, 201, 422)

    async def rename_tag(self, tag: Json, name: str) -> None:
        await self.call("PUT", f"/tags/{tag['number']}", {"name": name})

    async def delete_tag(self, tag: Json) -> None:
        await self.call("DELETE", f"/tags/{tag['number']}", None, 204)

    async def make_contact(self, email: str) -> None:
        await self.call("POST", "/subscribers", {"email": email}, 201)

    async def drop_contact(self, contact: Json) -> None:
        await self.call("DELETE", f"/subscribers/{contact['number']}", None, 204)

    async def numbers(self, names: list[str]) -> list[int]:
        for name in names:
            await self.make_tag(name)
        return [tag["number"] for tag in await self.tags(names)]

    async def add(self, contact: Json, names: list[str]) -> None:
        body = {"tags": await self.numbers(names)}
        await self.call("POST", f"/subscribers/{contact['number']}/tags", body)

    async def replace(self, contact: Json, names: list[str]) -> None:
        body = {"tags": await self.numbers(names)}
        await self.call("PUT", f"/subscribers/{contact['number']}/tags", body)

    async def remove(self, contact: Json, names: list[str]) -> None:
        if numbers := [tag["number"] for tag in await self.tags(names)]:
            await self.call("DELETE", f"/subscribers/{contact['number']}/tags", {"tags": numbers})

    async def assign(self, tag: Json, contacts: list[Json]) -> None:
        body = {"subscribers": [one["number"] for one in contacts]}
        await self.call("POST", f"/tags/{tag['number']}/subscribers", body)

    async def unassign(self, tag: Json, contacts: list[Json]) -> None:
        body = {"subscribers": [one["number"] for one in contacts]}
        await self.call("DELETE", f"/tags/{tag['number']}/subscribers", body)

    async def counts(self) -> dict[str, int] | None:
        counts = {}
        for tag in (await self.call("GET", "/tags?per_page=1000"))["data"]:
            counts[tag["name"]] = len((await self.call("GET", f"/tags/{tag['id']}/subscribers"))["data"])
        return counts

    async def carried(self) -> dict[str, list[str]]:
        carried = {}
        for one in (await self.call("GET", "/subscribers?per_page=1000"))["data"]:
            tags = (await self.call("GET", f"/subscribers/{one['id']}/tags"))["data"]
            carried[one["email"]] = sorted(tag["name"] for tag in tags)
        return carried


class Buttondown(Native):
    async def call(self, method: str, path: str, body: object = None, *statuses: int, **headers: str) -> Any:
        headers["Authorization"] = self.api.headers["Authorization"].replace("Bearer", "Token")
        return await super().call(method, f"/buttondown/v1{path}", body, *statuses, **headers)

    async def make_tag(self, name: str) -> None:
        await self.call("POST", "/tags", {"name": name}, 201, 400)

    async def rename_tag(self, tag: Json, name: str) -> None:
        await self.call("PATCH", f"/tags/{tag['id']}", {"name": name})

    async def delete_tag(self, tag: Json) -> None:
        await self.call("DELETE", f"/tags/{tag['id']}", None, 204)

    async def make_contact(self, email: str) -> None:
        await self.call("POST", "/subscribers", {"email_address": email}, 201)

    async def drop_contact(self, contact: Json) -> None:
        await self.call("DELETE", f"/subscribers/{contact['id']}", None, 204)

    async def add(self, contact: Json, names: list[str]) -> None:
        await self.call(
            "PATCH",
            f"/subscribers/{quote(contact['email'])}",
            {"tags": names},
            **{"X-Buttondown-Collision-Behavior": "add"},
        )

    async def replace(self, contact: Json, names: list[str]) -> None:
        await self.call("PATCH", f"/subscribers/{contact['id']}", {"tags": names})

    async def remove(self, contact: Json, names: list[str]) -> None:
        for tag in await self.tags(names):
            await self.unassign(tag, [contact])

    async def assign(self, tag: Json, contacts: list[Json]) -> None:
        metadata = {"tag_id": tag["id"], "ids": [one["id"] for one in contacts]}
        await self.call("POST", "/bulk_actions", {"type": "apply_tags", "metadata": metadata}, 201)

    async def unassign(self, tag: Json, contacts: list[Json]) -> None:
        metadata = {"tag_ids": [tag["id"]], "action": "remove", "ids": [one["id"] for one in contacts]}
        await self.call("POST", "/bulk_actions", {"type": "apply_tags", "metadata": metadata}, 201)

    async def counts(self) -> dict[str, int] | None:
        counts = {}
        for tag in (await self.call("GET", "/tags?page_size=1000"))["results"]:
            counts[tag["name"]] = (await self.call("GET", f"/subscribers?tag={tag['id']}"))["count"]
        return counts

    async def carried(self) -> dict[str, list[str]]:
        listed = await self.call("GET", "/subscribers?page_size=1000")
        return {one["email_address"]: sorted(one["tags"]) for one in listed["results"]}


CALLERS: dict[str, type[Native]] = {
    "native": Native,
    "topmail": TopMail,
    "buttondown": Buttondown,
    "sendportal": SendPortal,
    "datamailer": Datamailer,
}


def test_every_front_end_takes_part() -> None:
    assert CALLERS.keys() == FRONT_ENDS.keys()


# Each verb once, with an effect that is there to be seen at the end.
EVERY_VERB = [
    *(Change("make_contact", (email,)) for email in EMAILS),
    Change("add", (EMAILS[0],), ("VIP", "Beta Tester")),
    Change("replace", (EMAILS[0],), ("Cafe\u0301", "vip")),
    Change("add", (EMAILS[1],), ("VIP", "2026")),
    Change("remove", (EMAILS[1],), ("2026", "東京 trip")),
    Change("make_tag", names=("a_b",)),
    Change("assign", tuple(EMAILS), ("a_b",)),
    Change("unassign", (EMAILS[1],), ("a_b",)),
    Change("respell_tag", names=("VIP",)),
    Change("add", (EMAILS[1],), ("x" * 50,)),
    Change("delete_tag", names=("x" * 50,)),
    Change("drop_contact", (EMAILS[2],)),
]


@pytest.mark.timeout(120 + 10 * EXAMPLES)
@example(EVERY_VERB)
@given(PROGRAMS)
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
async def test_the_same_changes_are_the_same_to_see(app: ASGIApp, database: Database, program: list[Change]) -> None:
    model = Model()
    for change in program:
        model.apply(change)

    for slug, kind in CALLERS.items():
        workspace = await make_workspace(database)
        async with client_of(app, workspace) as api:
            caller = kind(api)
            for change in program:
                await caller.apply(change)
            await look_at(api, model, f"changed through {slug}")
        rows = await run(
            database,
            "select distinct front_end from events where workspace_id = :workspace_id",
            workspace_id=workspace.principal.workspace_id,
        )
        assert {row["front_end"] for row in rows} <= {slug, "native", "cli"}


async def look_at(api: Api, model: Model, story: str) -> None:
    """The workspace through every front end."""
    for slug, kind in CALLERS.items():
        seen = kind(api)
        assert await seen.carried() == model.carried(), f"{story}, seen through {slug}"
        assert await seen.counts() in (None, model.counts()), f"{story}, seen through {slug}"
