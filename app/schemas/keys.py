"""API keys on the native wire."""

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from pydantic import MISSING, AfterValidator, Field
from pydantic_core import PydanticCustomError

from app.schemas.base import Input, Instant, Output, Slug, Timestamp
from app.schemas.pagination import Pagination
from app.values import Scope

SCOPES_MAX = 100


def _lies_ahead(time: datetime) -> datetime:
    if time <= datetime.now(UTC):
        raise PydanticCustomError("invalid_value", "This must lie in the future.")
    return time


class KeyCreate(Input):
    """A key that is wanted. The scopes alone are needed."""

    client: Annotated[
        Slug | MISSING, Field(description="The application that will hold it. Left out: that of the calling key.")
    ] = MISSING
    scopes: Annotated[
        list[Scope],
        Field(min_length=1, max_length=SCOPES_MAX, description="`admin` implies all others. Repeats count once."),
    ]
    audience: Annotated[
        Slug | None | MISSING,
        Field(
            description="The audience in force where a call names none. Left out: that of the calling key; null: none."
        ),
    ] = MISSING
    expires_at: Annotated[
        Annotated[Instant, AfterValidator(_lies_ahead)] | None | MISSING,
        Field(description="When it ends, which lies in the future. Left out or null: never."),
    ] = MISSING


class KeyRead(Output):
    """An API key, without what makes it one."""

    id: UUID
    prefix: str = Field(description="How the key begins, by which people tell keys apart.")
    client: str = Field(description="The slug of the application that holds it.")
    scopes: list[str] = Field(description="`admin` implies all others.")
    audience: str | None = Field(description="The audience in force where a call names none.")
    created_at: Timestamp
    expires_at: Timestamp | None
    revoked_at: Timestamp | None
    last_used_at: Timestamp | None = Field(description="Written down some seconds after the use.")


class KeyCreated(KeyRead):
    """A new API key."""

    key: str | None = Field(
        description="The key itself, shown this once: it is kept nowhere. Null in the answer to a repeat with the same "
        "`Idempotency-Key`."
    )


class KeyList(Output):
    """A page of API keys."""

    data: list[KeyRead]
    pagination: Pagination
