"""The statements that belong to no workspace yet, or to all of them: keys by their hash or their id, and provisioning.

They stand together here, so that everywhere else a statement without a workspace is a mistake.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from uuid import UUID

from app.database import Connection, Database, Statement
from app.errors import NotFound, Unavailable
from app.repositories.audiences import CREATE as CREATE_AUDIENCE
from app.repositories.base import Principal
from app.repositories.idempotency import KEPT_HOURS
from app.repositories.keys import CREATE as CREATE_KEY
from app.repositories.keys import CREATE_CLIENT, JOIN_CLIENT_AND_AUDIENCE, KEY_COLUMNS, Key, key_from_row
from app.values import hash_key, new_id, new_key, shown_prefix


@dataclass(frozen=True, slots=True)
class FoundKey:
    """A key that is neither revoked nor expired."""

    principal: Principal
    client_is_active: bool


@dataclass(frozen=True, slots=True)
class Provisioned:
    """A new key, the one time that it is known in clear, and what was made along with it."""

    key: str
    key_id: UUID
    workspace: str
    client: str
    audience: str
    scopes: Sequence[str]
    created: Sequence[str]


@dataclass(frozen=True, slots=True)
class WorkspaceKey:
    """A key, and the slug of the workspace that it belongs to."""

    workspace: str
    key: Key


@dataclass(frozen=True, slots=True)
class RevokedKey(WorkspaceKey):
    """A key that is revoked now, and whether it was before."""

    was_revoked: bool


_FIND_KEY = Statement(
    "system.find_key",
    """
    select k.id, k.workspace_id, w.slug as workspace, k.client_id, c.slug as client, c.active, k.scopes,
        a.slug as audience, nullif(k.expires_at, 'infinity') as expires_at
    from api_keys k
    join workspaces w on w.id = k.workspace_id
    join clients c on c.workspace_id = k.workspace_id and c.id = k.client_id
    left join audiences a on a.workspace_id = k.workspace_id and a.id = k.audience_id
    where k.secret_hash = :secret_hash and k.revoked_at is null and (k.expires_at is null or k.expires_at > now())
    """,
)

_RECORD_USE = Statement(
    "system.record_use",
    """
    update api_keys k set last_used_at = now()
    from (select id from api_keys where id = any(:key_ids) order by id for update) used
    where k.id = used.id
    """,
)

# The order makes the planner take the partial index, whatever it believes of how many there are.
_COUNT_UNNUMBERED = Statement(
    "system.count_unnumbered",
    """
    select count(*) as n
    from (select from events where position is null order by workspace_id, sequence limit :up_to) unnumbered
    """,
)

# Those that another process sweeps at the moment are left to it.
_FORGET_ANSWERS = Statement(
    "system.forget_answers",
    """
    with old as (
        select workspace_id, key_id, front_end, key from idempotency_keys
        where created_at < now() - make_interval(hours => :kept_hours)
        order by created_at
        limit :at_most
        for update skip locked
    ), forgotten as (
        delete from idempotency_keys i using old
        where i.workspace_id = old.workspace_id and i.key_id = old.key_id and i.front_end = old.front_end
            and i.key = old.key
        returning 1
    )
    select count(*) as n from forgotten
    """,
)

_HAS_WORKSPACES = Statement("system.has_workspaces", "select exists (select from workspaces) as has")

_MAKE_WORKSPACE = Statement(
    "system.make_workspace",
    "insert into workspaces (id, slug, name) values (:id, :slug, :slug) on conflict do nothing returning id",
)

# Provisioning the same workspace twice at once is done one after the other.
_LOCK_WORKSPACE = Statement("system.lock_workspace", "select id from workspaces where slug = :slug for no key update")

_MAKE_STREAM = Statement(
    "system.make_stream", "insert into event_streams (workspace_id) values (:workspace_id) on conflict do nothing"
)

_FIND_CLIENT = Statement(
    "system.find_client", "select id from clients where workspace_id = :workspace_id and slug = :slug"
)

_HAS_DEFAULT = Statement(
    "system.has_default_audience",
    "select exists (select from audiences where workspace_id = :workspace_id and is_default) as has",
)

_LIST_KEYS = Statement(
    "system.list_keys",
    f"""
    select {KEY_COLUMNS}, w.slug as workspace
    from api_keys k
    join workspaces w on w.id = k.workspace_id
    {JOIN_CLIENT_AND_AUDIENCE}
    where cast(:workspace as text) is null or w.slug = :workspace
    order by w.slug, k.id desc
    """,
)

_REVOKE_KEY = Statement(
    "system.revoke_key",
    f"""
    with before as (
        -- Locked, so that of two who revoke it at once only the first finds it alive.
        select k.id, k.revoked_at from api_keys k where k.id = :id
        for no key update
    ), k as (
        update api_keys set revoked_at = coalesce(before.revoked_at, now())
        from before
        where api_keys.id = before.id
        returning api_keys.*, before.revoked_at is not null as was_revoked
    )
    select {KEY_COLUMNS}, w.slug as workspace, k.was_revoked
    from k
    join workspaces w on w.id = k.workspace_id
    {JOIN_CLIENT_AND_AUDIENCE}
    """,
)


class SystemRepository:
    """What is done for no caller in particular."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find_key(self, secret_hash: bytes) -> FoundKey | None:
        """The live key with this hash, and whom it stands for."""
        rows = await self._database.fetch(_FIND_KEY, secret_hash=secret_hash)
        if not rows:
            return None
        [row] = rows
        return FoundKey(
            Principal(
                workspace_id=row["workspace_id"],
                workspace=row["workspace"],
                client_id=row["client_id"],
                client=row["client"],
                key_id=row["id"],
                scopes=frozenset(row["scopes"]),
                audience=row["audience"],
                expires_at=row["expires_at"],
            ),
            client_is_active=row["active"],
        )

    async def record_use(self, key_ids: Collection[UUID]) -> None:
        """Note that these keys were used by now."""
        await self._database.fetch(_RECORD_USE, key_ids=list(key_ids))

    async def forget_answers(self, at_most: int) -> int:
        """Delete the answers to idempotent requests that are no longer kept, the oldest first; how many it were."""
        n: int = (await self._database.fetch_one(_FORGET_ANSWERS, kept_hours=KEPT_HOURS, at_most=at_most))["n"]
        return n

    async def count_unnumbered(self, up_to: int) -> int:
        """How many events have no position yet, over all workspaces. More than `up_to` are not counted."""
        n: int = (await self._database.fetch_one(_COUNT_UNNUMBERED, up_to=up_to))["n"]
        return n

    async def has_workspaces(self) -> bool:
        """Whether anything was ever provisioned here."""
        return bool((await self._database.fetch_one(_HAS_WORKSPACES))["has"])

    async def provision(self, *, workspace: str, client: str, audience: str, scopes: Sequence[str]) -> Provisioned:
        """Make the workspace, client and audience of these slugs where they are missing, and one more key."""
        key = new_key()

        async def work(connection: Connection) -> Provisioned:
            created: list[str] = []
            if await connection.fetch(_MAKE_WORKSPACE, id=new_id(), slug=workspace):
                created.append("workspace")
            workspace_id = (await connection.fetch_one(_LOCK_WORKSPACE, slug=workspace))["id"]
            await connection.fetch(_MAKE_STREAM, workspace_id=workspace_id)
            if await connection.fetch(CREATE_CLIENT, workspace_id=workspace_id, id=new_id(), slug=client):
                created.append("client")
            client_id = (await connection.fetch_one(_FIND_CLIENT, workspace_id=workspace_id, slug=client))["id"]
            has_default = (await connection.fetch_one(_HAS_DEFAULT, workspace_id=workspace_id))["has"]
            made = await connection.fetch(
                CREATE_AUDIENCE,
                workspace_id=workspace_id,
                id=new_id(),
                slug=audience,
                name=audience,
                is_default=not has_default,
                client_id=client_id,
                key_id=None,
                front_end="cli",
                request_id="provision",
            )
            if made:
                created.append("audience")
            row = await connection.fetch_one(
                CREATE_KEY,
                workspace_id=workspace_id,
                id=new_id(),
                secret_hash=hash_key(key),
                client=client,
                audience=audience,
                scopes=sorted(scopes),
                prefix=shown_prefix(key),
                expires_at=None,
            )
            if row["id"] is None:
                raise Unavailable(f"The audience {audience} was deleted at the same time. Nothing was made: try again.")
            return Provisioned(key, row["id"], workspace, client, audience, scopes, created)

        return await self._database.transaction(work)

    async def list_keys(self, workspace: str | None = None) -> Sequence[WorkspaceKey]:
        """The keys of all workspaces, or of the one with this slug, the newest first in each."""
        rows = await self._database.fetch(_LIST_KEYS, workspace=workspace)
        return [WorkspaceKey(row["workspace"], key_from_row(row)) for row in rows]

    async def revoke_key(self, key_id: UUID) -> RevokedKey:
        """End a key, whosever it is. One that is revoked already stays as it is."""
        rows = await self._database.fetch(_REVOKE_KEY, id=key_id)
        if not rows:
            raise NotFound("key", key_id)
        [row] = rows
        return RevokedKey(row["workspace"], key_from_row(row), was_revoked=row["was_revoked"])
