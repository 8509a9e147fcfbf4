"""Contacts and their memberships on the native wire."""

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import MISSING, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from app.schemas.base import (
    JSON_OBJECT_MAX_DEPTH,
    Email,
    ExternalId,
    Input,
    JsonObject,
    Output,
    PersonName,
    Slug,
    TagName,
    Text,
    Timestamp,
)
from app.schemas.fields import CONTACT_ID, TIME, CreatedAt, Number, UpdatedAt
from app.values import ATTRIBUTES_MAX_BYTES

BATCH_MAX = 1_000
AUDIENCES_MAX = 50
TAGS_MAX = 100
REASON_MAX_LENGTH = 255

_EMAIL = "The address, as it was sent but for blanks around it. Unique in the workspace, whatever its case."
_EXTERNAL_ID = "Your own id of the contact. Unique in the workspace, case and all. null: there is none."
_FIRST_NAME = "The given name. null: there is none."
_LAST_NAME = "The family name. null: there is none."

_EMAIL_FIELD = Field(description=_EMAIL, examples=["ada@example.com"])
ExternalIdIn = Annotated[ExternalId | None | MISSING, Field(description=_EXTERNAL_ID, examples=["crm-1042"])]
FirstNameIn = Annotated[PersonName | None | MISSING, Field(description=_FIRST_NAME, examples=["Ada"])]
LastNameIn = Annotated[PersonName | None | MISSING, Field(description=_LAST_NAME, examples=["Lovelace"])]
AttributesIn = Annotated[
    JsonObject | None | MISSING,
    Field(
        description="A merge patch (RFC 7396) of the data that you keep with the contact: what is left out stays, null "
        f"removes a member, and null for the whole removes all. At most {ATTRIBUTES_MAX_BYTES:,} bytes of JSON and "
        f"{JSON_OBJECT_MAX_DEPTH} levels deep.",
        examples=[{"city": "London", "plan": "pro"}],
    ),
]

_STATUS = "What the contact agreed to, with the client of the key. "
_REASON = "Why the status is what it is, in words of your own. null: nothing was said."


class ContactCreate(Input):
    """A contact that shall be there. It is found by its email, then by its external id."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "email": "ada@example.com",
                    "external_id": "crm-1042",
                    "first_name": "Ada",
                    "last_name": "Lovelace",
                    "attributes": {"city": "London", "plan": "pro"},
                    "tags": ["VIP"],
                }
            ]
        }
    )

    email: Annotated[Email, _EMAIL_FIELD]
    external_id: ExternalIdIn = MISSING
    first_name: FirstNameIn = MISSING
    last_name: LastNameIn = MISSING
    attributes: AttributesIn = MISSING
    audiences: Annotated[
        list[Slug] | MISSING,
        Field(
            max_length=AUDIENCES_MAX,
            description="Slugs of audiences to join; it leaves none. Left out: the audience in force, if there is one.",
            examples=[["newsletter"]],
        ),
    ] = MISSING
    tags: Annotated[
        list[TagName] | MISSING,
        Field(
            max_length=TAGS_MAX,
            description="Names of tags to carry in the audience in force, which it joins for them. A name that means "
            "no tag makes one. Needs the scope `tags:write` too.",
            examples=[["VIP"]],
        ),
    ] = MISSING


class ContactUpdate(Input):
    """A merge patch: what is left out stays as it is, null clears."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"first_name": "Augusta Ada", "attributes": {"plan": "team", "city": None}}]}
    )

    email: Annotated[Email | MISSING, _EMAIL_FIELD] = MISSING
    external_id: ExternalIdIn = MISSING
    first_name: FirstNameIn = MISSING
    last_name: LastNameIn = MISSING
    attributes: AttributesIn = MISSING


class ContactRead(Output):
    """A contact of the workspace."""

    id: Annotated[UUID, Field(description="The contact, in paths and bodies.", examples=[CONTACT_ID])]
    number: Number
    # Not said to be in the format of an email, which some SDKs check by a stricter rule than ours.
    email: Annotated[str, _EMAIL_FIELD]
    external_id: Annotated[str | None, Field(description=_EXTERNAL_ID, examples=["crm-1042"])]
    first_name: Annotated[str | None, Field(description=_FIRST_NAME, examples=["Ada"])]
    last_name: Annotated[str | None, Field(description=_LAST_NAME, examples=["Lovelace"])]
    attributes: Annotated[
        dict[str, Any],
        Field(description="Data that you keep with the contact.", examples=[{"city": "London", "plan": "pro"}]),
    ]
    created_at: CreatedAt
    updated_at: UpdatedAt


class ContactBatch(Input):
    """Contacts that shall be there."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "contacts": [
                        {"email": "ada@example.com", "external_id": "crm-1042", "first_name": "Ada"},
                        {"email": "grace@example.com", "external_id": "crm-1043", "tags": ["VIP"]},
                    ]
                }
            ]
        }
    )

    contacts: Annotated[
        list[ContactCreate],
        Field(min_length=1, max_length=BATCH_MAX, description="The contacts. They are taken in this order."),
    ]


class OutcomeError(Output):
    """Why one of a batch failed."""

    code: Annotated[
        str,
        Field(description="Which problem it is, for programs, as in a problem document.", examples=["email_taken"]),
    ]
    detail: Annotated[
        str, Field(description="What happened, to what.", examples=["Another contact has the email ada@example.com."])
    ]
    existing_id: Annotated[
        UUID | None,
        Field(
            description="The contact that has the email or external id already. null where that is not what is wrong.",
            examples=[CONTACT_ID],
        ),
    ]


class ContactOutcome(Output):
    """What became of one of them. A failed one left nothing behind."""

    outcome: Annotated[
        Literal["created", "updated", "unchanged", "failed"],
        Field(description="What was done. `unchanged`: it was there, just as the call wants it."),
    ]
    contact: Annotated[ContactRead | None, Field(description="The contact as it is now. null: it failed.")]
    error: Annotated[OutcomeError | None, Field(description="Why it failed. null: it did not.")]


class ContactBatchResult(Output):
    """An outcome for each, in the order asked."""

    data: Annotated[
        list[ContactOutcome], Field(description="One outcome for each contact that was sent, in that order.")
    ]


class MembershipPut(Input):
    """What the contact agreed to. Left out: a new member is subscribed, one that was there keeps its status."""

    model_config = ConfigDict(
        json_schema_extra={
            # A reason goes with a status.
            "dependentRequired": {"reason": ["status"]},
            "examples": [{"status": "subscribed", "reason": "Signed up at the fair."}],
        }
    )

    status: Annotated[
        Literal["pending", "subscribed", "unsubscribed"] | MISSING,
        Field(description=f"{_STATUS}`pending`: it was asked, and has not answered."),
    ] = MISSING
    reason: Annotated[
        Text | None | MISSING,
        Field(
            max_length=REASON_MAX_LENGTH,
            description=f"{_REASON} It can only be given with a status.",
            examples=["Signed up at the fair."],
        ),
    ] = MISSING

    @model_validator(mode="after")
    def _reason_has_a_status(self) -> "MembershipPut":
        given = self.model_dump()
        if "reason" in given and "status" not in given:
            raise PydanticCustomError("missing", "A reason goes with a status.")
        return self


class MembershipRead(Output):
    """An audience that the contact is a member of, and its subscription there with the key's client."""

    audience: Annotated[str, Field(description="The slug of the audience.", examples=["newsletter"])]
    audience_name: Annotated[str, Field(description="The name of the audience.", examples=["Newsletter"])]
    joined_at: Annotated[Timestamp, Field(description="Since when the contact is a member.", examples=[TIME])]
    status: Annotated[
        Literal["pending", "subscribed", "unsubscribed"] | None,
        Field(
            description=f"{_STATUS}null: it has no subscription with this client.",
            examples=["subscribed"],
        ),
    ]
    reason: Annotated[str | None, Field(description=_REASON, examples=["Signed up at the fair."])]
    unsubscribed_at: Annotated[
        Timestamp | None,
        Field(
            description="When it unsubscribed. null: it has not, or is subscribed again.",
            examples=["2026-11-23T08:00:00Z"],
        ),
    ]
    subscribed: Annotated[
        bool,
        Field(
            description="Whether the status is `subscribed`, and the contact has not unsubscribed from everything.",
            examples=[True],
        ),
    ]


class MembershipList(Output):
    """Every audience of the contact."""

    data: Annotated[list[MembershipRead], Field(description="The memberships, by the audience's slug.")]
