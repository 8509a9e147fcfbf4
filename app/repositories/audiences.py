"""Audiences: the namespaces of tags."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypedDict
from uuid import UUID

from app.database import Connection, Row, Statement
from app.errors import Conflict, Duplicate, NotFound
from app.logs import shown
from app.repositories import events
from app.repositories.base import Repository
from app.values import new_id


@dataclass(frozen=True, slots=True)
class Audience:
    """A namespace of tags, known by its slug, which never changes."""

    id: UUID
    slug: str
    name: str
    is_default: bool
    created_at: datetime
    updated_at: datetime


class AudienceFields(TypedDict, total=False):
    """What a call changes. Being the default can only be taken over from another audience, never just given up."""

    name: str
    is_default: bool


_COLUMNS = "a.id, a.slug, a.name, a.is_default, a.created_at, a.updated_at"

_LIST = Statement(
    "audiences.list", f"select {_COLUMNS} from audiences a where a.workspace_id = :workspace_id order by a.slug"
)

_GET = Statement(
    "audiences.get", f"select {_COLUMNS} from audiences a where a.workspace_id = :workspace_id and a.slug = :slug"
)

_FIND_BY_ID = Statement(
    "audiences.find_by_id", f"select {_COLUMNS} from audiences a where a.workspace_id = :workspace_id and a.id = :id"
)

CREATE = Statement(
    "audiences.create",
    f"""
    with made as (
        insert into audiences (workspace_id, id, slug, name, is_default)
        values (:workspace_id, :id, :slug, :name, :is_default)
        on conflict (workspace_id, slug) do nothing
        returning *
    ), recorded as (
        {events.record("audience.created", "made", audience="made.id")}
    )
    select {_COLUMNS} from made a
    """,
)

# Every audience of the workspace, in one order, since being the default moves from one to another.
_LOCK_ALL = Statement(
    "audiences.lock_all",
    f"select {_COLUMNS} from audiences a where a.workspace_id = :workspace_id order by a.id for no key update",
)

_UPDATE = Statement(
    "audiences.update",
    f"""
    with changed as (
        update audiences set name = :name, is_default = :is_default, updated_at = now()
        where workspace_id = :workspace_id and id = :id
        returning *
    ), recorded as (
        {
        events.record(
            "audience.updated",
            "changed",
            audience="changed.id",
            payload="jsonb_build_object('fields', to_jsonb(cast(:fields as text[])))",
        )
    }
    )
    select {_COLUMNS} from changed a
    """,
)

_UNSET_DEFAULT = Statement(
    "audiences.unset_default",
    f"""
    with changed as (
        update audiences set is_default = false, updated_at = now()
        where workspace_id = :workspace_id and is_default
        returning id
    )
    {
        events.record(
            "audience.updated",
            "changed",
            audience="changed.id",
            payload="jsonb_build_object('fields', jsonb_build_array('is_default'))",
        )
    }
    """,
)

_LOCK_FOR_DELETE = Statement(
    "audiences.lock_for_delete",
    f"""
    select {_COLUMNS} from audiences a where a.workspace_id = :workspace_id and a.slug = :slug
    for update
    """,
)

_USES = Statement(
    "audiences.uses",
    """
    select
        (select count(*) from tags t where t.workspace_id = :workspace_id and t.audience_id = :id) as tags,
        (
            select count(*) from api_keys k
            where k.workspace_id = :workspace_id and k.audience_id = :id
                and k.revoked_at is null and (k.expires_at is null or k.expires_at > now())
        ) as keys
    """,
)

# In a statement of its own: what hangs below a member can change as long as the member is not held.
_LOCK_MEMBERS = Statement(
    "audiences.lock_members",
    """
    select count(*) as n
    from (
        select from audience_members m
        where m.workspace_id = :workspace_id and m.audience_id = :id
        order by m.contact_id
        for update
    ) locked
    """,
)

_DELETE_MEMBERS = Statement(
    "audiences.delete_members",
    """
    with unsubscribed as (
        delete from subscriptions where workspace_id = :workspace_id and audience_id = :id
    ), forgotten as (
        -- Keys that are dead already would keep the audience alive.
        update api_keys set audience_id = null where workspace_id = :workspace_id and audience_id = :id
    )
    delete from audience_members where workspace_id = :workspace_id and audience_id = :id
    """,
)

_DELETE = Statement(
    "audiences.delete",
    f"""
    with deleted as (
        delete from audiences where workspace_id = :workspace_id and id = :id
        returning id
    )
    {events.record("audience.deleted", "deleted", audience="deleted.id")}
    """,
)


class AudienceRepository(Repository):
    """The audiences of a workspace."""

    async def list(self) -> list[Audience]:
        """All of them, by slug."""
        return [_audience_from_row(row) for row in await self._database.fetch(_LIST, **self._caller)]

    async def find(self, slug: str) -> Audience | None:
        """One audience of the workspace by its slug, if there is such a one."""
        rows = await self._database.fetch(_GET, **self._caller, slug=slug)
        return _audience_from_row(rows[0]) if rows else None

    async def find_by_id(self, audience_id: UUID) -> Audience | None:
        """One audience of the workspace by its id, if there is such a one."""
        rows = await self._database.fetch(_FIND_BY_ID, **self._caller, id=audience_id)
        return _audience_from_row(rows[0]) if rows else None

    async def get(self, slug: str) -> Audience:
        """One audience of the workspace, by its slug."""
        found = await self.find(slug)
        if found is None:
            raise NotFound("audience", shown(slug))
        return found

    async def create(self, slug: str, name: str) -> Audience:
        """Make an audience. Duplicate if the slug is taken."""
        rows = await self._database.fetch(CREATE, **self._caller, id=new_id(), slug=slug, name=name, is_default=False)
        if rows:
            return _audience_from_row(rows[0])
        holders = await self._database.fetch(_GET, **self._caller, slug=slug)
        raise Duplicate("audience", "slug", slug, holders[0]["id"] if holders else None)

    async def update(self, slug: str, fields: AudienceFields) -> Audience:
        """Change the name, or make it the default. The slug stays."""

        async def work(connection: Connection) -> Audience:
            rows: Sequence[Row] = await connection.fetch(_LOCK_ALL, **self._caller)
            audience = next((_audience_from_row(row) for row in rows if row["slug"] == slug), None)
            if audience is None:
                raise NotFound("audience", shown(slug))
            target: AudienceFields = {"name": audience.name, "is_default": audience.is_default, **fields}
            changed = [name for name in ("name", "is_default") if target[name] != getattr(audience, name)]
            if not changed:
                return audience
            if "is_default" in changed:
                await connection.fetch(_UNSET_DEFAULT, **self._caller)
            row = await connection.fetch_one(_UPDATE, **self._caller, id=audience.id, **target, fields=changed)
            return _audience_from_row(row)

        return await self._database.transaction(work)

    async def delete(self, slug: str) -> None:
        """Delete an audience without tags. Conflict while it has some, is the default, or a live key leans on it."""

        async def work(connection: Connection) -> None:
            rows = await connection.fetch(_LOCK_FOR_DELETE, **self._caller, slug=slug)
            if not rows:
                raise NotFound("audience", shown(slug))
            audience = _audience_from_row(rows[0])
            uses = await connection.fetch_one(_USES, **self._caller, id=audience.id)
            if audience.is_default:
                raise Conflict(
                    "audience_in_use", f"{slug} is the default audience. Make another one the default first."
                )
            if uses["tags"]:
                raise Conflict(
                    "audience_in_use", f"{slug} still has {uses['tags']} tags. Delete them first.", tags=uses["tags"]
                )
            if uses["keys"]:
                raise Conflict(
                    "audience_in_use",
                    f"{slug} is the default audience of {uses['keys']} live API keys. Revoke them first.",
                    keys=uses["keys"],
                )
            await connection.fetch(_LOCK_MEMBERS, **self._caller, id=audience.id)
            await connection.fetch(_DELETE_MEMBERS, **self._caller, id=audience.id)
            await connection.fetch(_DELETE, **self._caller, id=audience.id)

        await self._database.transaction(work)


def _audience_from_row(row: Row) -> Audience:
    return Audience(
        id=row["id"],
        slug=row["slug"],
        name=row["name"],
        is_default=row["is_default"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
