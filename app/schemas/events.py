"""The feed of changes on the native wire."""

from typing import Annotated, Any
from uuid import UUID

from pydantic import Field, WithJsonSchema

from app.schemas.base import Output, Timestamp
from app.schemas.fields import AUDIENCE_ID, CLIENT_ID, CONTACT_ID, EVENT_ID, KEY_ID, TAG_ID, TIME

# What every JSON reader holds exactly.
POSITION_MAX = 2**53 - 1


class EventRead(Output):
    """A change, by ids and counts; it holds no email, name or attribute of a person."""

    position: Annotated[
        int,
        WithJsonSchema({"type": "integer", "format": "int64", "minimum": 1, "maximum": POSITION_MAX}),
        Field(description="Its place in the feed: 1, 2, 3, … without a gap.", examples=[42]),
    ]
    id: Annotated[UUID, Field(description="The event, by which a reader knows it again.", examples=[EVENT_ID])]
    type: Annotated[
        str,
        Field(description="What happened. There may be further types in time.", examples=["tag.contacts_changed"]),
    ]
    occurred_at: Annotated[
        Timestamp, Field(description="When the change was made. Positions need not follow it exactly.", examples=[TIME])
    ]
    audience_id: Annotated[
        UUID | None, Field(description="The audience that it is about. null: about none.", examples=[AUDIENCE_ID])
    ]
    tag_id: Annotated[UUID | None, Field(description="The tag that it is about. null: about none.", examples=[TAG_ID])]
    contact_id: Annotated[
        UUID | None, Field(description="The contact that it is about. null: about none.", examples=[CONTACT_ID])
    ]
    client_id: Annotated[
        UUID | None,
        Field(description="The client whose key made the change. null: the command line did.", examples=[CLIENT_ID]),
    ]
    key_id: Annotated[
        UUID | None,
        Field(description="The API key that made the change. null: the command line did.", examples=[KEY_ID]),
    ]
    front_end: Annotated[
        str,
        Field(
            description="The API through which it was made: `native`, a dialect's name, or `cli` for the command line.",
            examples=["native"],
        ),
    ]
    request_id: Annotated[
        str,
        Field(
            description="The `X-Request-Id` of the request that made it.", examples=["01a204bb3ba7739eb83caf5ad6ee37f6"]
        ),
    ]
    payload: Annotated[
        dict[str, Any],
        Field(
            description="What the type tells beside the ids: `added` and `removed` (ids), `fields` (names), `version`, "
            "`removed_count`.",
            examples=[{"added": [CONTACT_ID], "removed": []}],
        ),
    ]


class FeedPosition(Output):
    """How far the feed was read."""

    limit: Annotated[int, Field(description="The most events that were wanted.", examples=[100])]
    has_more: Annotated[
        bool,
        Field(
            description="Whether there is more at once. If not, ask again later with the same cursor.", examples=[False]
        ),
    ]
    next_cursor: Annotated[
        int,
        WithJsonSchema({"type": "integer", "format": "int64", "minimum": 0, "maximum": POSITION_MAX}),
        Field(description="Where to go on, as `after`. Always present, also at the end of the feed.", examples=[42]),
    ]


class EventList(Output):
    """A part of the feed, in order."""

    data: Annotated[list[EventRead], Field(description="The changes, by position.")]
    pagination: Annotated[FeedPosition, Field(description="How far the feed was read, and where to go on.")]
