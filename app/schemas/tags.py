"""Tags on the native wire."""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import MISSING, Field

from app.schemas.base import Color, Description, Flag, Input, Output, SecondaryId, TagName, Timestamp
from app.schemas.pagination import Pagination
from app.values import DEFAULT_COLOR

BATCH_MAX = 100
CONTACTS_MAX = 10_000


class TagSpec(Input):
    """A tag that is wanted. The name alone is needed."""

    name: Annotated[TagName, Field(description="Unique in its audience, whatever its case.", examples=["VIP"])]
    color: Annotated[Color | MISSING, Field(description=f"#RGB or #RRGGBB. {DEFAULT_COLOR} if left out.")] = MISSING
    description: Annotated[Description | None | MISSING, Field(description="For the team.")] = MISSING
    public_description: Annotated[Description | None | MISSING, Field(description="For subscribers.")] = MISSING
    subscriber_editable: Annotated[
        Flag | MISSING, Field(description="Whether subscribers may give and take it themselves. false if left out.")
    ] = MISSING


class TagCreate(TagSpec):
    """A tag that is wanted, and contacts that shall carry it."""

    contact_ids: Annotated[
        list[UUID] | MISSING,
        Field(max_length=CONTACTS_MAX, description="Members of the audience. One that is missing: nothing is made."),
    ] = MISSING


class TagUpdate(Input):
    """A merge patch: what is left out stays as it is. The slug never changes."""

    name: Annotated[TagName | MISSING, Field(description="Unique in its audience, whatever its case.")] = MISSING
    color: Annotated[Color | MISSING, Field(description="#RGB or #RRGGBB.")] = MISSING
    description: Annotated[Description | None | MISSING, Field(description="null clears it.")] = MISSING
    public_description: Annotated[Description | None | MISSING, Field(description="null clears it.")] = MISSING
    subscriber_editable: Annotated[Flag | MISSING, Field(description="Whether subscribers may change it.")] = MISSING
    secondary_id: Annotated[SecondaryId | MISSING, Field(description="Unique in its audience.")] = MISSING


class TagRead(Output):
    """A tag, and how many contacts carry it."""

    id: UUID
    number: int = Field(description="A short id for systems that take no UUIDs.")
    audience: str = Field(description="The slug of its audience.")
    name: str
    slug: str = Field(description="Unique in its audience, made from the first name, never changed.")
    secondary_id: int = Field(description="A short number for people, counted in the audience.")
    color: str
    description: str | None
    public_description: str | None
    subscriber_editable: bool
    version: int = Field(description="Moves with each change of the tag itself.")
    contact_count: int = Field(description="Contacts that carry it, exactly.")
    created_at: Timestamp
    updated_at: Timestamp


class TagList(Output):
    """A page of tags."""

    data: list[TagRead]
    pagination: Pagination


class TagBatch(Input):
    """Tags that shall be there. A name that is taken finds its tag, as it is."""

    tags: Annotated[list[TagSpec], Field(min_length=1, max_length=BATCH_MAX)]


class TagOutcome(Output):
    """What became of one of them."""

    outcome: Literal["created", "found"]
    tag: TagRead


class TagBatchResult(Output):
    """An outcome for each, in the order asked."""

    data: list[TagOutcome]
