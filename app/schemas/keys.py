"""API keys on the native wire."""

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from pydantic import MISSING, AfterValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from app.schemas.base import Input, Instant, Output, Slug, Timestamp
from app.schemas.fields import KEY_ID, TIME, CreatedAt, KeyAudience, KeyClient, KeyExpiry, KeyScopes
from app.schemas.pagination import PagePosition
from app.values import Scope

SCOPES_MAX = 100


def _lies_ahead(time: datetime) -> datetime:
    if time <= datetime.now(UTC):
        raise PydanticCustomError("invalid_value", "This must lie in the future.")
    return time


class KeyCreate(Input):
    """A key that is wanted. The scopes alone are needed."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"scopes": ["tags:read", "contacts:read"], "audience": "newsletter"}]}
    )

    client: Annotated[
        Slug | MISSING,
        Field(
            description="The slug of the application that will hold it. One that is not there is made with "
            "`create_missing=true`. Left out: that of the calling key.",
            examples=["default"],
        ),
    ] = MISSING
    scopes: Annotated[
        list[Scope],
        Field(
            min_length=1,
            max_length=SCOPES_MAX,
            description="What it may do. `admin` implies all others. Repeats count once.",
            examples=[["tags:read", "contacts:read"]],
        ),
    ]
    audience: Annotated[
        Slug | None | MISSING,
        Field(
            description="The slug of the audience in force where a call names none. Left out: that of the calling key; "
            "null: none.",
            examples=["newsletter"],
        ),
    ] = MISSING
    expires_at: Annotated[
        Annotated[Instant, AfterValidator(_lies_ahead)] | None | MISSING,
        Field(
            description="When it ends, which lies in the future. Left out or null: never.",
            examples=["2099-01-01T00:00:00Z"],
        ),
    ] = MISSING


class KeyRead(Output):
    """An API key, without what makes it one."""

    id: Annotated[UUID, Field(description="The API key, in paths and events.", examples=[KEY_ID])]
    prefix: Annotated[
        str, Field(description="How the key begins, by which people tell keys apart.", examples=["ptag_4fKe"])
    ]
    client: KeyClient
    scopes: KeyScopes
    audience: KeyAudience
    created_at: CreatedAt
    expires_at: KeyExpiry
    revoked_at: Annotated[
        Timestamp | None, Field(description="When it was revoked. null: it was not.", examples=[TIME])
    ]
    last_used_at: Annotated[
        Timestamp | None,
        Field(description="When it was last used, written down some seconds later. null: never yet.", examples=[TIME]),
    ]


class KeyCreated(KeyRead):
    """A new API key."""

    key: Annotated[
        str | None,
        Field(
            description="The key itself, shown this once: it is kept nowhere. null in the answer to a repeat with the "
            "same `Idempotency-Key`.",
            examples=["ptag_4fKe…"],
        ),
    ]


class KeyList(Output):
    """A page of API keys."""

    data: Annotated[list[KeyRead], Field(description="The API keys, the newest first.")]
    pagination: PagePosition
