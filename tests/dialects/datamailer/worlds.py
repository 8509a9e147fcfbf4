"""The world in which the published traces were observed, built anew for each of them.

Two workspaces stand for the two organizations. They are made once, since it is contacts, agreements and tags that
traces change; those are put back before each. Traces name contacts by the vendor's ids, which are mapped to ours.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self
from uuid import UUID, uuid4

import httpx
from starlette.types import ASGIApp

from app.database import Database
from app.repositories.contact_tags import ContactTagRepository, TagChange, TagRef
from app.repositories.system import SystemRepository
from app.repositories.tags import TagRepository
from app.values import SCOPES, fold, hash_key, new_id
from tests.conftest import Workspace
from tests.dialects.datamailer.calls import BASE
from tests.routers.calls import Json, run

PUBLISHED: Json = json.loads((Path(__file__).parent / "traces.json").read_text(encoding="utf-8"))
FIXTURE: Json = PUBLISHED["fixture"]
SEEDED_AT = datetime.fromisoformat(FIXTURE["time"])

# The keys that traces send, each with its organization, client and audience.
_KEYS = {
    "$TOKEN_A": ("acme", "client-a", "newsletter"),
    "$TOKEN_A2": ("acme", "client-a", "courses"),
    "$TOKEN_A_REVOKED": ("acme", "client-a", "newsletter"),
    # The vendor has older keys of another form. Here it is one key more.
    "$TOKEN_LEGACY": ("acme", "client-a", "newsletter"),
    "$TOKEN_B": ("acme", "client-b", "newsletter"),
    "$TOKEN_OFF": ("acme", "client-off", "newsletter"),
    "$TOKEN_X": ("globex", "client-x", "newsletter"),
    "$GLOBEX_ONLY": ("globex", "client-x", "globex-only"),
}


@dataclass(frozen=True)
class Trace:
    """A request, what it was answered with, and what stood in the tables before and after."""

    name: str
    tags: Mapping[str, Mapping[str, str]]
    contact_tags: Mapping[str, list[str]]
    method: str
    path: str
    headers: Mapping[str, str]
    status: int
    answer: Any
    content: str | None = None
    # Contacts that the trace before this one made, with an agreement that is pending.
    pending: Mapping[str, str] = field(default_factory=dict)
    after: Mapping[str, Mapping[str, Any]] | None = None


TRACES = {one["name"]: Trace(**one) for one in PUBLISHED["traces"]}

_TABLES = ("contact_tags", "tag_counts", "tags", "subscriptions", "audience_members", "contacts", "events")


@dataclass
class World:
    """The two organizations, and what a trace is to find there."""

    app: ASGIApp
    database: Database
    # By organization; each with the key of one of its clients.
    workspaces: dict[str, Workspace]
    keys: dict[str, str]
    audiences: dict[str, UUID]
    clients: dict[str, UUID]
    # From the vendor's ids to ours, and to our numbers.
    contacts: dict[str, UUID] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)

    @classmethod
    async def make(cls, app: ASGIApp, database: Database) -> Self:
        system = SystemRepository(database)
        suffix = uuid4().hex[:12]
        keys, workspaces, clients = {}, {}, {}
        for name, (organization, client, audience) in _KEYS.items():
            provisioned = await system.provision(
                workspace=f"{organization}-{suffix}", client=client, audience=audience, scopes=SCOPES
            )
            found = await system.find_key(hash_key(provisioned.key))
            assert found is not None
            workspaces[organization] = Workspace(database, provisioned, found.principal)
            clients[client] = found.principal.client_id
            keys[name] = provisioned.key
            if name == "$TOKEN_A_REVOKED":
                await system.revoke_key(provisioned.key_id)
        # No verb makes a client inactive yet.
        await run(database, "update clients set active = false where id = :id", id=clients["client-off"])
        audiences = {}
        for organization, workspace in workspaces.items():
            for row in await run(
                database,
                "select id, slug from audiences where workspace_id = :workspace_id",
                workspace_id=workspace.principal.workspace_id,
            ):
                audiences[f"{organization}/{row['slug']}"] = row["id"]
        return cls(app, database, workspaces, keys, audiences, clients)

    async def reset(self, trace: Trace) -> None:
        """Put back what the trace begins with."""
        for table in _TABLES:
            await run(
                self.database,
                f"delete from {table} where workspace_id = any(:ids)",
                ids=[workspace.principal.workspace_id for workspace in self.workspaces.values()],
            )
        self.contacts, self.numbers = {}, {}
        agreements = [dict(agreement) for agreement in FIXTURE["subscriptions"]]
        for key, email in {**FIXTURE["contacts"], **trace.pending}.items():
            await self._make_contact(key, email, agreements)
        agreements += [
            {"contact": key, "audience": "acme/newsletter", "client": "client-a", "status": "pending"}
            for key in trace.pending
        ]
        for agreement in agreements:
            await self._make_agreement(agreement)
        for audience, tags in trace.tags.items():
            await self._make_tags(audience, tags)
        for key, tags_of_contact in trace.contact_tags.items():
            for audience_and_slug in tags_of_contact:
                audience, slug = audience_and_slug.split(":")
                await self._tag(audience, self.contacts[key], trace.tags[audience][slug])

    async def _make_contact(self, key: str, email: str, agreements: list[Json]) -> None:
        organization = next((one["audience"] for one in agreements if one["contact"] == key), "acme").partition("/")[0]
        self.contacts[key] = new_id()
        suppressed = FIXTURE["suppressed"].get(key, [])
        # With the times of the traces, which no verb would give.
        [row] = await run(
            self.database,
            """
            insert into contacts
                (workspace_id, id, email, email_key, created_at, updated_at, global_unsubscribed_at, hard_bounced_at)
            values (
                :workspace_id, :id, :email, :email_key, :at, now(),
                case when :is_unsubscribed then cast(:at as timestamptz) end,
                case when :has_bounced then cast(:at as timestamptz) end
            )
            returning number
            """,
            workspace_id=self.workspaces[organization].principal.workspace_id,
            id=self.contacts[key],
            email=email,
            email_key=fold(email),
            at=SEEDED_AT,
            is_unsubscribed="global_unsubscribed_at" in suppressed,
            has_bounced="hard_bounced_at" in suppressed,
        )
        self.numbers[key] = row["number"]

    async def _make_agreement(self, agreement: Json) -> None:
        organization = agreement["audience"].partition("/")[0]
        scope = {
            "workspace_id": self.workspaces[organization].principal.workspace_id,
            "audience_id": self.audiences[agreement["audience"]],
            "contact_id": self.contacts[agreement["contact"]],
        }
        await run(
            self.database,
            """
            insert into audience_members (workspace_id, audience_id, contact_id)
            values (:workspace_id, :audience_id, :contact_id)
            on conflict do nothing
            """,
            **scope,
        )
        await run(
            self.database,
            """
            insert into subscriptions
                (workspace_id, audience_id, contact_id, client_id, status, reason, verified_at, unsubscribed_at)
            values (
                :workspace_id, :audience_id, :contact_id, cast(:client_id as uuid), :status, :reason,
                case when :is_verified then cast(:at as timestamptz) end,
                case when :status = 'unsubscribed' then cast(:at as timestamptz) end
            )
            """,
            **scope,
            client_id=agreement["client"] and self.clients[agreement["client"]],
            status=agreement["status"],
            reason=agreement.get("unsubscribe_reason"),
            is_verified=agreement.get("verified", False),
            at=SEEDED_AT,
        )

    async def _make_tags(self, audience: str, tags: Mapping[str, str]) -> None:
        organization, _, slug_of_audience = audience.partition("/")
        repository = self.workspaces[organization].repository(TagRepository)
        for slug, name in tags.items():
            # Made by its slug and renamed, since a slug stays. What can be no slug here becomes one.
            made = (await repository.create({"name": slug or name}, audience=slug_of_audience)).tag
            if made.name != name:
                await repository.update(made.id, {"name": name})

    async def _tag(self, audience: str, contact_id: UUID, name: str) -> None:
        organization, _, slug_of_audience = audience.partition("/")
        repository = self.workspaces[organization].repository(ContactTagRepository)
        await repository.change(
            TagChange(contact_id, add=[TagRef((), name=name)]), audience=slug_of_audience, create_missing=False
        )

    async def send(self, trace: Trace) -> httpx.Response:
        """The request of a trace, with our keys and numbers in it."""
        headers = {
            name: re.sub(r"\$\w+", lambda token: self.keys[token[0]], value) for name, value in trace.headers.items()
        }
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app=self.app), base_url="http://polytag.test"
        ) as client:
            return await client.request(
                trace.method,
                BASE + self._path(trace.path),
                # A client of this library cannot send other than ASCII by itself.
                headers=[(name.encode(), value.encode()) for name, value in headers.items()],
                content=trace.content and trace.content.encode(),
            )

    def _path(self, path: str) -> str:
        def number(found: re.Match[str]) -> str:
            zeros, digits = found.groups()
            return f"/api/contacts/{zeros}{self.numbers.get(digits, digits)}/"

        return re.sub(r"^/api/contacts/(0*)([0-9]+)/", number, path)

    async def state(self) -> Json:
        """The tags that there are, and who carries them, as traces write it."""
        tags: dict[str, dict[str, str]] = {}
        carried: dict[str, list[str]] = {}
        keys = {contact_id: key for key, contact_id in self.contacts.items()}
        for audience, audience_id in self.audiences.items():
            rows = await run(
                self.database,
                """
                select t.slug, t.name, array_agg(ct.contact_id) filter (where ct.contact_id is not null) as contact_ids
                from tags t
                left join contact_tags ct on ct.workspace_id = t.workspace_id and ct.tag_id = t.id
                where t.audience_id = :audience_id
                group by t.slug, t.name
                """,
                audience_id=audience_id,
            )
            for row in rows:
                tags.setdefault(audience, {})[row["slug"]] = row["name"]
                for contact_id in row["contact_ids"] or ():
                    carried.setdefault(keys.get(contact_id, "new"), []).append(f"{audience}:{row['slug']}")
        return {"tags": tags, "contact_tags": {key: sorted(slugs) for key, slugs in carried.items()}}

    async def differences(self, trace: Trace) -> list[str]:
        """Run a trace from its beginning. What came out otherwise than it was published, if anything."""
        await self.reset(trace)
        response = await self.send(trace)
        found = []
        if response.status_code != trace.status:
            found.append(f"status {response.status_code}, not {trace.status}: {response.text[:500]}")
        if response.headers["content-type"] != "application/json":
            found.append(f"content type {response.headers['content-type']}")
        answer = response.json() if response.content else None
        if answer != (wanted := self._ours(trace.answer, answer)):
            found.append(f"answer {answer}, not {wanted}")
        if isinstance(answer, dict) and trace.status == 200 and list(answer) != list(trace.answer):
            found.append(f"fields in the order {list(answer)}, not {list(trace.answer)}")
        after = await self.state()
        wanted_after = trace.after or {"tags": trace.tags, "contact_tags": trace.contact_tags}
        if after != {
            "tags": {audience: dict(tags) for audience, tags in wanted_after["tags"].items() if tags},
            "contact_tags": {key: sorted(slugs) for key, slugs in wanted_after["contact_tags"].items() if slugs},
        }:
            found.append(f"afterwards {after}, not {wanted_after}")
        return found

    def _ours(self, published: Any, answer: Any) -> Any:
        """A published answer with our numbers in it, and with the times that were not fixed."""
        if isinstance(published, dict):
            inner = answer if isinstance(answer, dict) else {}
            return {
                key: self._number(value, inner.get(key)) if key == "contact_id" else self._ours(value, inner.get(key))
                for key, value in published.items()
            }
        if isinstance(published, list):
            inner_list = answer if isinstance(answer, list) else []
            return [
                self._ours(value, inner_list[place] if place < len(inner_list) else None)
                for place, value in enumerate(published)
            ]
        if published == "$NOW":
            return answer if is_recent(answer) else "$NOW"
        return published

    def _number(self, published: int | None, answer: Any) -> Any:
        if published is None or str(published) in self.numbers:
            return published and self.numbers[str(published)]
        # A contact that the trace has made: a new number.
        return answer if isinstance(answer, int) and answer > max(self.numbers.values()) else published


def is_recent(time: Any) -> bool:
    """Whether this is the time of something that a test has just done."""
    return isinstance(time, str) and abs(datetime.now(UTC) - datetime.fromisoformat(time)) < timedelta(minutes=2)
