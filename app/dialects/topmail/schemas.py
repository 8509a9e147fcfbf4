"""Tags and contacts on TopMail's wire. What comes in keeps to its limits; what is shown may be longer."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, Query
from pydantic import MISSING, AfterValidator, Field, PlainSerializer, StringConstraints, WithJsonSchema
from pydantic_core import PydanticCustomError

from app.pagination import LIMIT_DEFAULT, LIMIT_MAX, Page, PageRequest
from app.repositories.subscribers import Subscriber
from app.repositories.tags import Tag
from app.schemas.base import (
    NAME_PATTERN,
    WITHOUT_NUL,
    Color,
    Email,
    Flag,
    JsonObject,
    LooseInput,
    Output,
    TagName,
    at_most,
    with_example,
)
from app.values import ATTRIBUTES_MAX_BYTES, DEFAULT_COLOR, EMAIL_MAX_LENGTH

NAME_MAX_LENGTH = 50
DESCRIPTION_MAX_LENGTH = 200
PERSON_NAME_MAX_LENGTH = 100
CONTACT_IDS_MAX = 500
# Each is looked for in every contact.
SEARCH_WORDS_MAX = 10
TAG_ID = "01a204bb-3ba7-739e-b83c-af5ad6ee37f6"
CONTACT_ID = "01a204bb-3c5e-7445-b33a-76b7ec062694"

# It has no cursors, so a long list can be read to its end by offset alone. A list ends where it ends: an offset beyond
# it costs no more.
OFFSET_MAX = 1_000_000_000

Name = Annotated[
    TagName,
    at_most(NAME_MAX_LENGTH),
    WithJsonSchema({"type": "string", "minLength": 1, "maxLength": NAME_MAX_LENGTH, "pattern": NAME_PATTERN}),
]
Description = Annotated[str, StringConstraints(pattern=WITHOUT_NUL, max_length=DESCRIPTION_MAX_LENGTH)]
PersonName = Annotated[str, StringConstraints(pattern=WITHOUT_NUL, max_length=PERSON_NAME_MAX_LENGTH)]


def _has_few_words(text: str) -> str:
    if len(text.split()) > SEARCH_WORDS_MAX:
        raise PydanticCustomError("too_long", "This must have at most {most} words.", {"most": SEARCH_WORDS_MAX})
    return text


Words = Annotated[
    str,
    StringConstraints(pattern=WITHOUT_NUL, max_length=EMAIL_MAX_LENGTH),
    AfterValidator(_has_few_words),
]


def _in_milliseconds(time: datetime) -> str:
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


# As its other resources show times: 2026-03-29T18:00:00.000Z.
Milliseconds = Annotated[
    datetime,
    PlainSerializer(_in_milliseconds, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]


async def _page(
    limit: Annotated[
        int, Query(ge=1, le=LIMIT_MAX, description="The most items that are wanted.", examples=[100])
    ] = LIMIT_DEFAULT,
    offset: Annotated[
        int, Query(ge=0, le=OFFSET_MAX, description="How many items to leave out before them.", examples=[100])
    ] = 0,
) -> PageRequest:
    return PageRequest(limit, offset)


PageDep = Annotated[PageRequest, Depends(_page)]

_NAME_FIELD = Field(description="Unique, whatever its case. Blanks around it are taken away.", examples=["Beta Tester"])
_ColorIn = Annotated[Color | MISSING, Field(examples=["#10b981"])]
_DescriptionIn = Annotated[Description | None | MISSING, Field(examples=["Asked to try new things."])]
_EMAIL_FIELD = Field(description="The address. Unique, whatever its case.", examples=["ada@example.com"])
_FirstNameIn = Annotated[PersonName | None | MISSING, Field(examples=["Ada"])]
_LastNameIn = Annotated[PersonName | None | MISSING, Field(examples=["Lovelace"])]
_AttributesIn = Annotated[
    JsonObject | None | MISSING,
    Field(
        description=f"Whatever is kept about the contact, at most {ATTRIBUTES_MAX_BYTES:,} bytes. They are merged with "
        "those that are known, in depth too: null takes a member away, and null for the whole takes all.",
        examples=[{"plan": "pro"}],
    ),
]
_SUBSCRIBED_FIELD = Field(description="Whether it may be written to, by the client of the key.", examples=[True])


class TagIn(LooseInput):
    """A tag that is wanted."""

    model_config = with_example({"name": "Beta Tester", "color": "#10b981", "description": "Asked to try new things."})

    name: Annotated[Name, _NAME_FIELD]
    color: Annotated[_ColorIn, Field(description=f"#RGB or #RRGGBB. {DEFAULT_COLOR} if left out.")] = MISSING
    description: Annotated[_DescriptionIn, Field(description="For the team. null is as good as left out.")] = MISSING


class TagPatch(LooseInput):
    """What shall change; what is left out stays as it is."""

    model_config = with_example({"color": "#f59e0b", "description": None})

    name: Annotated[Name | MISSING, _NAME_FIELD] = MISSING
    color: Annotated[_ColorIn, Field(description="#RGB or #RRGGBB.")] = MISSING
    description: Annotated[_DescriptionIn, Field(description="For the team. null clears it.")] = MISSING


class ContactIds(LooseInput):
    """Contacts. Repeats count once."""

    model_config = with_example({"contact_ids": [CONTACT_ID]})

    contact_ids: Annotated[
        list[UUID],
        Field(
            min_length=1,
            max_length=CONTACT_IDS_MAX,
            description="Ids of contacts, as `GET /contacts` has them.",
            examples=[[CONTACT_ID]],
        ),
    ]


class ContactIn(LooseInput):
    """A contact that is wanted."""

    model_config = with_example(
        {"email": "ada@example.com", "first_name": "Ada", "last_name": "Lovelace", "attributes": {"plan": "pro"}}
    )

    email: Annotated[Email, _EMAIL_FIELD]
    first_name: Annotated[_FirstNameIn, Field(description="null clears one that is known.")] = MISSING
    last_name: Annotated[_LastNameIn, Field(description="null clears one that is known.")] = MISSING
    attributes: _AttributesIn = MISSING
    subscribed: Annotated[Flag, _SUBSCRIBED_FIELD] = True


class ContactPatch(LooseInput):
    """What shall change; what is left out stays as it is."""

    model_config = with_example({"last_name": None, "attributes": {"plan": "free"}, "subscribed": False})

    email: Annotated[Email | MISSING, _EMAIL_FIELD] = MISSING
    first_name: Annotated[_FirstNameIn, Field(description="null clears it.")] = MISSING
    last_name: Annotated[_LastNameIn, Field(description="null clears it.")] = MISSING
    attributes: _AttributesIn = MISSING
    subscribed: Annotated[Flag | MISSING, _SUBSCRIBED_FIELD] = MISSING


class TagOut(Output):
    """A tag, and how many contacts carry it."""

    id: UUID = Field(description="Id of the tag.")
    name: str = Field(
        description=f"As it was last written. Longer than {NAME_MAX_LENGTH} characters only where another API wrote it."
    )
    color: str = Field(description="#RGB or #RRGGBB.")
    description: str | None = Field(description="For the team. null where there is none.")
    contact_count: int = Field(description="How many contacts of the audience carry it now.")
    created_at: Milliseconds = Field(description="When the tag was made, in UTC.")
    updated_at: Milliseconds = Field(
        description="When the tag was last changed, in UTC. Giving or taking it does not count."
    )

    @classmethod
    def from_tag(cls, tag: Tag) -> "TagOut":
        return cls.model_validate(tag)


class ContactOut(Output):
    """A contact. `subscribed` is what it agreed to with the client that the key belongs to."""

    id: UUID = Field(description="Id of the contact.")
    email: str = Field(description="The email address, as it was sent.")
    first_name: str | None = Field(description="null where none is known.")
    last_name: str | None = Field(description="null where none is known.")
    attributes: dict[str, Any] = Field(description="Whatever the caller keeps about the contact.")
    subscribed: bool = Field(description="Whether it may be written to, by this client.")
    created_at: Milliseconds = Field(description="When the contact was made, in UTC.")

    @classmethod
    def from_subscriber(cls, found: Subscriber) -> "ContactOut":
        return cls(**_contact(found))


class ListOut(Output):
    """A static or dynamic list, of which there are none here."""

    id: UUID = Field(description="Id of the list.")
    name: str = Field(description="What it is called.")


class ContactDetailOut(ContactOut):
    """A contact by itself, with its lists."""

    lists: list[ListOut] = Field(description="Always empty: this service has no lists.")

    @classmethod
    def from_subscriber(cls, found: Subscriber) -> "ContactDetailOut":
        return cls(**_contact(found), lists=[])


def _contact(found: Subscriber) -> dict[str, Any]:
    contact = found.contact
    return {
        "id": contact.id,
        "email": contact.email,
        "first_name": contact.first_name,
        "last_name": contact.last_name,
        "attributes": contact.attributes,
        "subscribed": found.subscribed,
        "created_at": contact.created_at,
    }


class Pagination(Output):
    """Where in the list this page stands."""

    total: int = Field(description="How many items there are on all pages, exactly.")
    limit: int = Field(description="The most items that this page could have.")
    offset: int = Field(description="How many items were left out before it.")
    has_more: bool = Field(description="Whether there are items behind this page.")

    @classmethod
    def of(cls, page: Page[object]) -> "Pagination":
        return cls(
            total=page.total or 0,
            limit=page.request.limit,
            offset=page.request.offset,
            has_more=page.next_cursor is not None,
        )


class TagAnswer(Output):
    """One tag."""

    data: TagOut = Field(description="The tag.")


class TagPage(Output):
    """A page of tags, by name."""

    data: list[TagOut] = Field(description="The tags of this page.")
    pagination: Pagination = Field(description="Where this page stands in the list.")


class ContactAnswer(Output):
    """One contact."""

    data: ContactOut = Field(description="The contact.")


class ContactDetailAnswer(Output):
    """One contact, with its lists."""

    data: ContactDetailOut = Field(description="The contact.")


class ContactPage(Output):
    """A page of contacts, by id, which is nearly the order in which they were made."""

    data: list[ContactOut] = Field(description="The contacts of this page.")
    pagination: Pagination = Field(description="Where this page stands in the list.")


class Deleted(Output):
    """That something is gone."""

    id: UUID = Field(description="Id of what was deleted.")
    deleted: bool = Field(description="Always true.")


class DeletedAnswer(Output):
    """That something is gone."""

    data: Deleted = Field(description="What was deleted.")


class AssignedOut(Output):
    """What tagging did. Repeats in the request count once."""

    tag_id: UUID = Field(description="Id of the tag.")
    requested: int = Field(description="How many different contacts the request named.")
    added: int = Field(description="How many of them carry the tag since this call.")
    already_tagged: int = Field(description="How many of them carried it before.")
    not_found: list[UUID] = Field(description="Ids that no contact of the audience has. They were skipped.")


class AssignedAnswer(Output):
    """What tagging did."""

    data: AssignedOut = Field(description="What was done.")


class UnassignedOut(Output):
    """What un-tagging did. Repeats in the request count once."""

    tag_id: UUID = Field(description="Id of the tag.")
    requested: int = Field(description="How many different contacts the request named.")
    removed: int = Field(description="How many of them lost the tag.")


class UnassignedAnswer(Output):
    """What un-tagging did."""

    data: UnassignedOut = Field(description="What was done.")


class ErrorDetail(Output):
    """What kept a call from being done."""

    code: str = Field(description="Which error it is, for programs.")
    message: str = Field(description="What happened, in words.")
    path: Annotated[str | MISSING, Field(description="The field or parameter at fault, like `contact_ids.3`.")] = (
        MISSING
    )


class ErrorOut(Output):
    """Every error looks like this."""

    error: ErrorDetail = Field(description="What kept the call from being done.")
