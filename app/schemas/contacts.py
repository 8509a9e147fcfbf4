"""Contacts and their memberships on the native wire."""

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import MISSING, Field, model_validator
from pydantic_core import PydanticCustomError

from app.schemas.base import Email, ExternalId, Input, JsonObject, Output, PersonName, Slug, TagName, Text, Timestamp
from app.values import ATTRIBUTES_MAX_BYTES

BATCH_MAX = 1_000
AUDIENCES_MAX = 50
TAGS_MAX = 100
REASON_MAX_LENGTH = 255

Attributes = Annotated[
    JsonObject,
    Field(
        description=f"A merge patch of the contact's own data: null removes. At most {ATTRIBUTES_MAX_BYTES:,} bytes."
    ),
]


class ContactCreate(Input):
    """A contact that shall be there. It is found by its email, then by its external id."""

    email: Annotated[Email, Field(examples=["ada@example.com"])]
    external_id: Annotated[ExternalId | None | MISSING, Field(description="Your own id of it.")] = MISSING
    first_name: PersonName | None | MISSING = MISSING
    last_name: PersonName | None | MISSING = MISSING
    attributes: Attributes | None | MISSING = MISSING
    audiences: Annotated[
        list[Slug] | MISSING,
        Field(max_length=AUDIENCES_MAX, description="Audiences to be in. Left out: the one in force."),
    ] = MISSING
    tags: Annotated[
        list[TagName] | MISSING,
        Field(max_length=TAGS_MAX, description="Tags to carry in the audience in force, which it joins for them."),
    ] = MISSING


class ContactUpdate(Input):
    """A merge patch: what is left out stays as it is, null clears."""

    email: Email | MISSING = MISSING
    external_id: ExternalId | None | MISSING = MISSING
    first_name: PersonName | None | MISSING = MISSING
    last_name: PersonName | None | MISSING = MISSING
    attributes: Attributes | None | MISSING = MISSING


class ContactRead(Output):
    """A contact of the workspace."""

    id: UUID
    number: int = Field(description="A short id for systems that take no UUIDs.")
    email: str
    external_id: str | None
    first_name: str | None
    last_name: str | None
    attributes: dict[str, Any]
    created_at: Timestamp
    updated_at: Timestamp


class ContactBatch(Input):
    """Contacts that shall be there."""

    contacts: Annotated[list[ContactCreate], Field(min_length=1, max_length=BATCH_MAX)]


class OutcomeError(Output):
    """Why one of a batch failed."""

    code: str
    detail: str
    existing_id: UUID | None = Field(description="The contact that has the email or external id already.")


class ContactOutcome(Output):
    """What became of one of them. A failed one left nothing behind."""

    outcome: Literal["created", "updated", "unchanged", "failed"]
    contact: ContactRead | None
    error: OutcomeError | None


class ContactBatchResult(Output):
    """An outcome for each, in the order asked."""

    data: list[ContactOutcome]


class MembershipPut(Input):
    """What the contact agreed to. Left out: a new member is subscribed, one that was there keeps its status."""

    status: Literal["pending", "subscribed", "unsubscribed"] | MISSING = MISSING
    reason: Annotated[Text | None | MISSING, Field(max_length=REASON_MAX_LENGTH, description="Goes with a status.")] = (
        MISSING
    )

    @model_validator(mode="after")
    def _reason_has_a_status(self) -> "MembershipPut":
        given = self.model_dump()
        if "reason" in given and "status" not in given:
            raise PydanticCustomError("missing", "A reason goes with a status.")
        return self


class MembershipRead(Output):
    """An audience that the contact is a member of, and its subscription there with the key's client."""

    audience: str
    audience_name: str
    joined_at: Timestamp
    status: Literal["pending", "subscribed", "unsubscribed"] | None = Field(description="null: none with this client.")
    reason: str | None
    unsubscribed_at: Timestamp | None
    subscribed: bool = Field(description="Whether the status is subscribed, and nothing was unsubscribed globally.")


class MembershipList(Output):
    """Every audience of the contact."""

    data: list[MembershipRead]
