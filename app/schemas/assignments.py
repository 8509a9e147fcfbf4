"""Assignments on the native wire: the contacts of a tag, and the tags of a contact."""

from collections.abc import Sequence
from typing import Annotated
from uuid import UUID

from pydantic import MISSING, Field, model_validator
from pydantic_core import PydanticCustomError

from app.schemas.base import Email, ExternalId, Input, Output, TagName, Timestamp
from app.schemas.contacts import ContactRead
from app.schemas.pagination import Pagination
from app.schemas.tags import CONTACTS_MAX

TAGS_MAX = 1_000


def _exactly_one(given: Sequence[str], choice: str) -> None:
    if not given:
        raise PydanticCustomError("missing", "One of {choice} is required.", {"choice": choice})
    if len(given) > 1:
        raise PydanticCustomError("not_together", "Only one of {choice} can be given.", {"choice": choice})


class ContactsPut(Input):
    """Contacts, named in one of three ways. Repeats count once."""

    contact_ids: Annotated[list[UUID] | MISSING, Field(max_length=CONTACTS_MAX)] = MISSING
    emails: Annotated[list[Email] | MISSING, Field(max_length=CONTACTS_MAX)] = MISSING
    external_ids: Annotated[list[ExternalId] | MISSING, Field(max_length=CONTACTS_MAX)] = MISSING

    @model_validator(mode="after")
    def _has_one(self) -> "ContactsPut":
        _exactly_one(list(self.model_dump()), "contact_ids, emails and external_ids")
        return self


class ContactsNamed(ContactsPut):
    """Contacts, at least one, named in one of three ways. Repeats count once."""

    contact_ids: Annotated[list[UUID] | MISSING, Field(min_length=1, max_length=CONTACTS_MAX)] = MISSING
    emails: Annotated[list[Email] | MISSING, Field(min_length=1, max_length=CONTACTS_MAX)] = MISSING
    external_ids: Annotated[list[ExternalId] | MISSING, Field(min_length=1, max_length=CONTACTS_MAX)] = MISSING


class AssignmentAdded(Output):
    """What assigning a tag did."""

    requested: int = Field(description="Contacts named, repeats collapsed.")
    added: int
    already_assigned: int
    not_found: list[str] = Field(description="Named, but no contacts of the workspace; as they were named.")
    not_members: list[str] = Field(description="Named, but not members of the tag's audience; as they were named.")
    contact_count: int = Field(description="Contacts that carry the tag now.")


class AssignmentReplaced(Output):
    """What replacing a tag's contacts did."""

    requested: int = Field(description="Contacts named, repeats collapsed.")
    added: int
    removed: int
    kept: int
    not_found: list[str] = Field(description="Named, but no contacts of the workspace; as they were named.")
    not_members: list[str] = Field(description="Named, but not members of the tag's audience; as they were named.")
    contact_count: int = Field(description="Contacts that carry the tag now.")


class AssignmentRemoved(Output):
    """What taking a tag away did."""

    requested: int = Field(description="Contacts named, repeats collapsed.")
    removed: int
    not_assigned: int = Field(description="Contacts that did not carry it.")
    not_found: list[str] = Field(description="Named, but no contacts of the workspace; as they were named.")
    contact_count: int = Field(description="Contacts that carry the tag now.")


class TagContactRead(ContactRead):
    """A contact that carries the tag, and since when."""

    assigned_at: Timestamp


class TagContactList(Output):
    """A page of a tag's contacts."""

    data: list[TagContactRead]
    pagination: Pagination


class TagsPut(Input):
    """Tags, by name or by id. A name that is a slug means the tag with that slug if no tag has that name."""

    tags: Annotated[list[TagName] | MISSING, Field(max_length=TAGS_MAX, examples=[["VIP", "Beta Tester"]])] = MISSING
    tag_ids: Annotated[list[UUID] | MISSING, Field(max_length=TAGS_MAX)] = MISSING

    @model_validator(mode="after")
    def _has_one(self) -> "TagsPut":
        _exactly_one(list(self.model_dump()), "tags and tag_ids")
        return self


class TagsNamed(TagsPut):
    """Tags, at least one, by name or by id."""

    tags: Annotated[
        list[TagName] | MISSING, Field(min_length=1, max_length=TAGS_MAX, examples=[["VIP", "Beta Tester"]])
    ] = MISSING
    tag_ids: Annotated[list[UUID] | MISSING, Field(min_length=1, max_length=TAGS_MAX)] = MISSING


class TagsPatch(Input):
    """Tags to add and to remove in one step, each by name or by id. No tag can be in both."""

    add: Annotated[list[TagName] | MISSING, Field(max_length=TAGS_MAX, description="Names.")] = MISSING
    add_ids: Annotated[list[UUID] | MISSING, Field(max_length=TAGS_MAX)] = MISSING
    remove: Annotated[list[TagName] | MISSING, Field(max_length=TAGS_MAX, description="Names.")] = MISSING
    remove_ids: Annotated[list[UUID] | MISSING, Field(max_length=TAGS_MAX)] = MISSING


class ContactTagRead(Output):
    """A tag on a contact, and since when."""

    id: UUID
    number: int
    audience: str
    name: str
    slug: str
    secondary_id: int
    color: str
    description: str | None
    public_description: str | None
    subscriber_editable: bool
    version: int
    created_at: Timestamp
    updated_at: Timestamp
    assigned_at: Timestamp


class ContactTagList(Output):
    """A contact's tags, by slug."""

    data: list[ContactTagRead]


class ContactTagChange(Output):
    """A contact's tags after a change, by slug, and what the change did."""

    data: list[ContactTagRead]
    added: list[str] = Field(description="Slugs of the tags that the contact did not carry before.")
    removed: list[str] = Field(description="Slugs of the tags that it no longer carries.")
