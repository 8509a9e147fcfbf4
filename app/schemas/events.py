"""The feed of changes on the native wire."""

from typing import Any
from uuid import UUID

from pydantic import Field

from app.schemas.base import Output, Timestamp

# What every JSON reader holds exactly.
POSITION_MAX = 2**53 - 1


class EventRead(Output):
    """A change, by ids and counts; it holds no email, name or attribute of a person."""

    position: int = Field(description="Its place in the feed: 1, 2, 3, … without a gap.")
    id: UUID
    type: str = Field(description="What happened, e.g. `tag.contacts_changed`. There may be further types in time.")
    occurred_at: Timestamp
    audience_id: UUID | None
    tag_id: UUID | None
    contact_id: UUID | None
    client_id: UUID | None = Field(description="The client whose key made the change; null for the command line.")
    key_id: UUID | None
    front_end: str = Field(description="The API through which it was made: `native`, a dialect's name, or `cli`.")
    request_id: str = Field(description="The `X-Request-Id` of the request that made it.")
    payload: dict[str, Any] = Field(description="What the type tells beside the ids: `added`, `removed`, counts.")


class FeedPosition(Output):
    """How far the feed was read."""

    limit: int = Field(description="The most events that were wanted.")
    has_more: bool = Field(description="Whether there is more at once. If not, ask again later with the same cursor.")
    next_cursor: int = Field(description="Where to go on, as `after`. Always present, also at the end of the feed.")


class EventList(Output):
    """A part of the feed, in order."""

    data: list[EventRead]
    pagination: FeedPosition
