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
)
from app.values import DEFAULT_COLOR, EMAIL_MAX_LENGTH

NAME_MAX_LENGTH = 50
DESCRIPTION_MAX_LENGTH = 200
PERSON_NAME_MAX_LENGTH = 100
CONTACT_IDS_MAX = 500
# Each is looked for in every contact.
SEARCH_WORDS_MAX = 10
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
    limit: Annotated[int, Query(ge=1, le=LIMIT_MAX, description="The most items that are wanted.")] = LIMIT_DEFAULT,
    offset: Annotated[int, Query(ge=0, le=OFFSET_MAX, description="How many items to leave out.")] = 0,
) -> PageRequest:
    return PageRequest(limit, offset)


PageDep = Annotated[PageRequest, Depends(_page)]


class TagIn(LooseInput):
    """A tag that is wanted."""

    name: Annotated[Name, Field(description="Unique, whatever its case.", examples=["Beta Tester"])]
    color: Annotated[Color | MISSING, Field(description=f"#RGB or #RRGGBB. {DEFAULT_COLOR} if left out.")] = MISSING
    description: Annotated[Description | None | MISSING, Field(description="For the team.")] = MISSING


class TagPatch(LooseInput):
    """What shall change; what is left out stays as it is."""

    name: Annotated[Name | MISSING, Field(description="Unique, whatever its case.")] = MISSING
    color: Annotated[Color | MISSING, Field(description="#RGB or #RRGGBB.")] = MISSING
    description: Annotated[Description | None | MISSING, Field(description="null clears it.")] = MISSING


class ContactIds(LooseInput):
    """Contacts. Repeats count once."""

    contact_ids: Annotated[list[UUID], Field(min_length=1, max_length=CONTACT_IDS_MAX)]


class ContactIn(LooseInput):
    """A contact that is wanted."""

    email: Annotated[Email, Field(examples=["ada@example.com"])]
    first_name: PersonName | None | MISSING = MISSING
    last_name: PersonName | None | MISSING = MISSING
    attributes: JsonObject | None | MISSING = MISSING
    subscribed: Annotated[Flag, Field(description="Whether it may be written to.")] = True


class ContactPatch(LooseInput):
    """What shall change; what is left out stays as it is. Attributes are merged, and null takes one away."""

    email: Email | MISSING = MISSING
    first_name: PersonName | None | MISSING = MISSING
    last_name: PersonName | None | MISSING = MISSING
    attributes: JsonObject | None | MISSING = MISSING
    subscribed: Annotated[Flag | MISSING, Field(description="Whether it may be written to.")] = MISSING


class TagOut(Output):
    """A tag, and how many contacts carry it."""

    id: UUID
    name: str
    color: str
    description: str | None
    contact_count: int
    created_at: Milliseconds
    updated_at: Milliseconds

    @classmethod
    def from_tag(cls, tag: Tag) -> "TagOut":
        return cls.model_validate(tag)


class ContactOut(Output):
    """A contact. `subscribed` is what it agreed to with the client that the key belongs to."""

    id: UUID
    email: str
    first_name: str | None
    last_name: str | None
    attributes: dict[str, Any]
    subscribed: bool
    created_at: Milliseconds

    @classmethod
    def from_subscriber(cls, found: Subscriber) -> "ContactOut":
        return cls(**_contact(found))


class ListOut(Output):
    """A static or dynamic list, of which there are none here."""

    id: UUID
    name: str


class ContactDetailOut(ContactOut):
    """A contact by itself, with its lists."""

    lists: list[ListOut]

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

    total: int
    limit: int
    offset: int
    has_more: bool

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

    data: TagOut


class TagPage(Output):
    """A page of tags, by name."""

    data: list[TagOut]
    pagination: Pagination


class ContactAnswer(Output):
    """One contact."""

    data: ContactOut


class ContactDetailAnswer(Output):
    """One contact, with its lists."""

    data: ContactDetailOut


class ContactPage(Output):
    """A page of contacts, by id, which is nearly the order in which they were made."""

    data: list[ContactOut]
    pagination: Pagination


class Deleted(Output):
    """That something is gone."""

    id: UUID
    deleted: bool


class DeletedAnswer(Output):
    """That something is gone."""

    data: Deleted


class AssignedOut(Output):
    """What tagging did. Repeats in the request count once."""

    tag_id: UUID
    requested: int
    added: int
    already_tagged: int
    not_found: list[UUID]


class AssignedAnswer(Output):
    """What tagging did."""

    data: AssignedOut


class UnassignedOut(Output):
    """What un-tagging did. Repeats in the request count once."""

    tag_id: UUID
    requested: int
    removed: int


class UnassignedAnswer(Output):
    """What un-tagging did."""

    data: UnassignedOut
