"""API keys: which there are, one more, one less. Of the key itself only a hash is kept."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Literal, TypedDict
from uuid import UUID

from app.database import Connection, Row, Statement
from app.errors import FieldError, InvalidInput, NotFound
from app.pagination import Page, PageRequest, decode_cursor, fingerprint, id_part, page_of
from app.repositories.base import Repository
from app.values import hash_key, new_id, new_key, shown_prefix

KeyState = Literal["live", "revoked", "expired"]


@dataclass(frozen=True, slots=True)
class Key:
    """An API key, without what makes it one. `client` and `audience` are slugs."""

    id: UUID
    prefix: str
    client: str
    scopes: Sequence[str]
    audience: str | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None

    def state(self, now: datetime) -> KeyState:
        """What has become of the key by now."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now else "live"


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key the one time that it is known in clear."""

    secret: str
    key: Key


class KeyFields(TypedDict, total=False):
    """What a call says of a new key. A client or an audience that it leaves out is that of the calling key."""

    client: str
    scopes: Sequence[str]
    audience: str | None
    expires_at: datetime | None


KEY_COLUMNS = """
    k.id, k.prefix, c.slug as client, k.scopes, a.slug as audience, k.created_at,
    nullif(k.expires_at, 'infinity') as expires_at, k.revoked_at,
    k.last_used_at
"""

# What the columns are read from, once k is there.
JOIN_CLIENT_AND_AUDIENCE = """
    join clients c on c.workspace_id = k.workspace_id and c.id = k.client_id
    left join audiences a on a.workspace_id = k.workspace_id and a.id = k.audience_id
"""


@cache
def _list(*, has_cursor: bool) -> Statement:
    return Statement(
        "keys.list",
        f"""
        select head.*, page.*
        from (
            select case when :include_total then (
                select count(*) from api_keys k where k.workspace_id = :workspace_id
            ) end as total
        ) head
        left join lateral (
            select {KEY_COLUMNS}
            from api_keys k
            {JOIN_CLIENT_AND_AUDIENCE}
            where k.workspace_id = :workspace_id {"and k.id < cast(:before_id as uuid)" if has_cursor else ""}
            order by k.id desc
            limit :limit offset :offset
        ) page on true
        order by page.id desc
        """,
    )


CREATE_CLIENT = Statement(
    "keys.create_client",
    """
    insert into clients (workspace_id, id, slug, name) values (:workspace_id, :id, :slug, :slug)
    on conflict do nothing
    returning id
    """,
)

# Answers with one row in any case. No client_id, or no audience_id where an audience was named: there is no such one,
# and no key was made.
CREATE = Statement(
    "keys.create",
    f"""
    with client as (
        select c.id, c.slug from clients c where c.workspace_id = :workspace_id and c.slug = :client
    ), audience as (
        -- Locked, so that a deletion under way is waited for, and one that comes now waits and then counts this key.
        select a.id, a.slug from audiences a where a.workspace_id = :workspace_id and a.slug = :audience
        for key share
    ), made as (
        insert into api_keys (id, secret_hash, workspace_id, client_id, audience_id, scopes, prefix, expires_at)
        select :id, :secret_hash, :workspace_id, client.id, audience.id, :scopes, :prefix, :expires_at
        from client
        left join audience on true
        where audience.id is not null or cast(:audience as text) is null
        returning *
    )
    select c.id as client_id, a.id as audience_id, {KEY_COLUMNS}
    from (select) as asked
    left join client c on true
    left join audience a on true
    left join made k on true
    """,
)

# Revoking what is revoked leaves the time at which it was.
_REVOKE = Statement(
    "keys.revoke",
    """
    update api_keys set revoked_at = coalesce(revoked_at, now())
    where workspace_id = :workspace_id and id = :id
    returning id
    """,
)


class KeyRepository(Repository):
    """The API keys of a workspace."""

    async def list(self, page: PageRequest, *, include_total: bool = False) -> Page[Key]:
        """A page of all keys, those that are dead included, the newest first."""
        identity = fingerprint("keys")
        before_id: UUID | None = None
        if page.cursor is not None:
            [before_id] = decode_cursor(page.cursor, identity, id_part)
        rows = await self._database.fetch(
            _list(has_cursor=before_id is not None),
            **self._caller,
            include_total=include_total,
            limit=page.limit + 1,
            offset=page.offset,
            before_id=before_id,
        )
        return page_of(
            [key_from_row(row) for row in rows if row["id"] is not None],
            page,
            total=rows[0]["total"],
            list_fingerprint=identity,
            key=lambda key: [str(key.id)],
        )

    async def create(self, fields: KeyFields, *, create_missing: bool = False) -> NewKey:
        """Make a key. InvalidInput if there is no such client, which `create_missing` makes, or no such audience."""
        secret = new_key()
        client = fields.get("client", self._principal.client)
        audience = fields.get("audience", self._principal.audience)
        values = {
            **self._caller,
            "id": new_id(),
            "secret_hash": hash_key(secret),
            "client": client,
            "audience": audience,
            "scopes": sorted(set(fields["scopes"])),
            "prefix": shown_prefix(secret),
            "expires_at": fields.get("expires_at"),
        }

        def made(row: Row) -> NewKey:
            errors = []
            if row["client_id"] is None:
                errors.append(FieldError(("body", "client"), "unknown_client", f"There is no client {client}."))
            if row["audience_id"] is None and audience is not None:
                errors.append(FieldError(("body", "audience"), "unknown_audience", f"There is no audience {audience}."))
            if errors:
                raise InvalidInput(errors)
            return NewKey(secret, key_from_row(row))

        async def work(connection: Connection) -> NewKey:
            await connection.fetch(CREATE_CLIENT, **self._caller, id=new_id(), slug=client)
            return made(await connection.fetch_one(CREATE, **values))

        if create_missing:
            return await self._database.transaction(work)
        return made(await self._database.fetch_one(CREATE, **values))

    async def revoke(self, key_id: UUID) -> None:
        """End a key. One that is revoked already stays as it is."""
        if not await self._database.fetch(_REVOKE, **self._caller, id=key_id):
            raise NotFound("key", key_id)


def key_from_row(row: Row) -> Key:
    """The key in a row that has KEY_COLUMNS."""
    return Key(
        id=row["id"],
        prefix=row["prefix"],
        client=row["client"],
        scopes=sorted(row["scopes"]),
        audience=row["audience"],
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        revoked_at=row["revoked_at"],
        last_used_at=row["last_used_at"],
    )
