"""The feed: every change of the workspace, in order."""

from typing import Annotated

from fastapi import Query

from app.dependencies import Events
from app.errors import InvalidCursor
from app.frontend import new_router, requires
from app.pagination import LIMIT_DEFAULT, LIMIT_MAX
from app.repositories.events import EVENT_TYPES, EventType
from app.schemas.events import POSITION_MAX, EventList, EventRead, FeedPosition

router = new_router("events", "The feed of all changes, in order.")


@router.get("/events", response_description="A part of the feed.")
@requires("events:read", raises=(InvalidCursor,))
async def list_events(
    events: Events,
    after: Annotated[
        int,
        Query(
            ge=0,
            le=POSITION_MAX,
            description="The `next_cursor` of the answer before. 0: the beginning.",
            examples=[0],
            json_schema_extra={"format": "int64"},
        ),
    ] = 0,
    types: Annotated[
        list[EventType] | None,
        Query(
            max_length=len(EVENT_TYPES),
            description="Only changes of these types. Repeat it: `types=…&types=…`. Left out: all.",
            examples=[["tag.contacts_changed", "contact.tags_changed"]],
        ),
    ] = None,
    limit: Annotated[
        int, Query(ge=1, le=LIMIT_MAX, description="The most events that are wanted.", examples=[100])
    ] = LIMIT_DEFAULT,
) -> EventList:
    """Read the changes behind a cursor. Each has one position, none is skipped, and neither changes later.

    With `types` an answer can be empty and still have more behind it: go on with its `next_cursor`.
    """
    found = await events.list(after=after, limit=limit, types=types or ())
    return EventList(
        data=[EventRead.model_validate(one) for one in found.events],
        pagination=FeedPosition(limit=limit, has_more=found.has_more, next_cursor=found.next_position),
    )
