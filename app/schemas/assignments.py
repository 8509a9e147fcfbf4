"""Assignments on the native wire: the contacts of a tag, and the tags of a contact."""

from collections.abc import Sequence
from typing import Annotated, Any
from uuid import UUID

from pydantic import MISSING, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from app.schemas.base import Email, ExternalId, Input, Output, TagName
from app.schemas.contacts import ContactRead
from app.schemas.fields import CONTACT_ID, OTHER_CONTACT_ID, TAG_ID, AssignedAt, Count
from app.schemas.pagination import PagePosition
from app.schemas.tags import CONTACTS_MAX, TagFields

TAGS_MAX = 1_000


def _exactly_one(given: Sequence[str], choice: str) -> None:
    if not given:
        raise PydanticCustomError("missing", "One of {choice} is required.", {"choice": choice})
    if len(given) > 1:
        raise PydanticCustomError("not_together", "Only one of {choice} can be given.", {"choice": choice})


def _one_of(example: dict[str, Any]) -> ConfigDict:
    """What `_exactly_one` asks for, in words of JSON Schema that generators of SDKs do not stumble over."""
    return ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1, "examples": [example]})


def _contacts(by: str, *examples: str) -> Any:  # noqa: ANN401 - what Field gives is said to be of the default's type
    return Field(max_length=CONTACTS_MAX, description=f"The contacts, by {by}.", examples=[list(examples)])


class ContactsPut(Input):
    """Contacts, named in one of three ways. Repeats count once."""

    model_config = _one_of({"emails": ["ada@example.com", "grace@example.com"]})

    contact_ids: Annotated[list[UUID] | MISSING, _contacts("id", CONTACT_ID, OTHER_CONTACT_ID)] = MISSING
    emails: Annotated[
        list[Email] | MISSING, _contacts("email, in any case", "ada@example.com", "grace@example.com")
    ] = MISSING
    external_ids: Annotated[
        list[ExternalId] | MISSING, _contacts("your own id of them, exactly as you gave it", "crm-1042", "crm-1043")
    ] = MISSING

    @model_validator(mode="after")
    def _has_one(self) -> "ContactsPut":
        _exactly_one(list(self.model_dump()), "contact_ids, emails and external_ids")
        return self


class ContactsNamed(ContactsPut):
    """Contacts, at least one, named in one of three ways. Repeats count once."""

    contact_ids: Annotated[list[UUID] | MISSING, Field(min_length=1), _contacts("id", CONTACT_ID, OTHER_CONTACT_ID)] = (
        MISSING
    )
    emails: Annotated[
        list[Email] | MISSING,
        Field(min_length=1),
        _contacts("email, in any case", "ada@example.com", "grace@example.com"),
    ] = MISSING
    external_ids: Annotated[
        list[ExternalId] | MISSING,
        Field(min_length=1),
        _contacts("your own id of them, exactly as you gave it", "crm-1042", "crm-1043"),
    ] = MISSING


Requested = Annotated[Count, Field(description="How many contacts were named, repeats collapsed.", examples=[500])]
Added = Annotated[Count, Field(description="How many carry the tag now and did not before.", examples=[498])]
Removed = Annotated[Count, Field(description="How many carried the tag before and do not now.", examples=[2])]
NotFound = Annotated[
    list[str],
    Field(
        description="Those named that are no contacts of the workspace, in the words of the call. Empty unless "
        "`on_missing=skip`, or what is done is to remove.",
        examples=[[]],
    ),
]
NotMembers = Annotated[
    list[str],
    Field(
        description="Those named that are no members of the tag's audience, in the words of the call. Empty unless "
        "`on_missing=skip`.",
        examples=[[]],
    ),
]
CarriedBy = Annotated[Count, Field(description="How many contacts carry the tag now, exactly.", examples=[500])]


class AssignmentAdded(Output):
    """What assigning a tag did."""

    requested: Requested
    added: Added
    already_assigned: Annotated[Count, Field(description="How many carried the tag before.", examples=[2])]
    not_found: NotFound
    not_members: NotMembers
    contact_count: CarriedBy


class AssignmentReplaced(Output):
    """What replacing a tag's contacts did."""

    requested: Requested
    added: Added
    removed: Removed
    kept: Annotated[Count, Field(description="How many carried the tag before and still do.", examples=[2])]
    not_found: NotFound
    not_members: NotMembers
    contact_count: CarriedBy


class AssignmentRemoved(Output):
    """What taking a tag away did."""

    requested: Requested
    removed: Removed
    not_assigned: Annotated[
        Count, Field(description="How many contacts of the workspace did not carry the tag before.", examples=[498])
    ]
    not_found: NotFound
    contact_count: CarriedBy


class TagContactRead(ContactRead):
    """A contact that carries the tag, and since when."""

    assigned_at: AssignedAt


class TagContactList(Output):
    """A page of a tag's contacts."""

    data: Annotated[list[TagContactRead], Field(description="The contacts, by id.")]
    pagination: PagePosition


def _tags(words: str, *examples: str) -> Any:  # noqa: ANN401 - as above
    return Field(max_length=TAGS_MAX, description=words, examples=[list(examples)])


_BY_NAME = (
    "Tags by name, in any case. A name that is a slug means the tag with that slug if no tag has that name. One that "
    "means no tag makes one, where tags are added and `create_missing` is not false."
)
_BY_ID = "Tags by id, of the audience in force."


class TagsPut(Input):
    """Tags, by name or by id. Repeats count once."""

    model_config = _one_of({"tags": ["VIP", "Beta Tester"]})

    tags: Annotated[list[TagName] | MISSING, _tags(_BY_NAME, "VIP", "Beta Tester")] = MISSING
    tag_ids: Annotated[list[UUID] | MISSING, _tags(_BY_ID, TAG_ID)] = MISSING

    @model_validator(mode="after")
    def _has_one(self) -> "TagsPut":
        _exactly_one(list(self.model_dump()), "tags and tag_ids")
        return self


class TagsNamed(TagsPut):
    """Tags, at least one, by name or by id. Repeats count once."""

    tags: Annotated[list[TagName] | MISSING, Field(min_length=1), _tags(_BY_NAME, "VIP", "Beta Tester")] = MISSING
    tag_ids: Annotated[list[UUID] | MISSING, Field(min_length=1), _tags(_BY_ID, TAG_ID)] = MISSING


class TagsPatch(Input):
    """Tags to add and to remove in one step, each by name or by id. No tag can be in both."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"add": ["VIP"], "remove": ["Churned"]}]})

    add: Annotated[list[TagName] | MISSING, _tags(f"To add. {_BY_NAME}", "VIP")] = MISSING
    add_ids: Annotated[list[UUID] | MISSING, _tags("To add. Tags by id, of the audience in force.", TAG_ID)] = MISSING
    remove: Annotated[
        list[TagName] | MISSING,
        _tags("To remove. Tags by name or slug. A name that means no tag is passed over.", "Churned"),
    ] = MISSING
    remove_ids: Annotated[list[UUID] | MISSING, _tags("To remove. Tags by id, of the audience in force.", TAG_ID)] = (
        MISSING
    )


class ContactTagRead(TagFields):
    """A tag on a contact, and since when."""

    assigned_at: AssignedAt


class ContactTagList(Output):
    """A contact's tags, by slug."""

    data: Annotated[list[ContactTagRead], Field(description="The tags, by slug.")]


class ContactTagChange(Output):
    """A contact's tags after a change, by slug, and what the change did."""

    data: Annotated[
        list[ContactTagRead], Field(description="All tags of the audience that the contact carries now, by slug.")
    ]
    added: Annotated[
        list[str],
        Field(description="Slugs of the tags that the contact did not carry before.", examples=[["beta-tester"]]),
    ]
    removed: Annotated[
        list[str], Field(description="Slugs of the tags that it no longer carries.", examples=[["churned"]])
    ]
