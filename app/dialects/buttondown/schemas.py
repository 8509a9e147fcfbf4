"""Tags, subscribers and bulk actions on Buttondown's wire. What comes in keeps to its limits."""

import re
import unicodedata
from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    MISSING,
    AfterValidator,
    AliasChoices,
    Field,
    StringConstraints,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from app.dialects.buttondown.typeids import Ids, decode
from app.pagination import Page
from app.repositories.bulk_actions import BulkAction, BulkActionType
from app.repositories.contact_tags import ContactTag
from app.repositories.subscribers import Subscriber
from app.repositories.subscriptions import SubscriptionStatus
from app.repositories.tags import Tag
from app.schemas.base import (
    RAW_LENGTH_FACTOR,
    WITHOUT_NUL,
    Description,
    Email,
    Flag,
    Input,
    JsonObject,
    Output,
    SecondaryId,
    Timestamp,
)
from app.values import (
    COLOR_PATTERN,
    DEFAULT_COLOR,
    fold,
    has_control_characters,
    normalize_color,
    normalize_name,
)
from app.values import NAME_MAX_LENGTH as CORE_NAME_MAX_LENGTH

NAME_MAX_LENGTH = 100
TAGS_MAX = 1_000
BULK_IDS_MAX = 200

_LETTER_OR_DIGIT = re.compile(r"[^\W_]")


def broken_name_rule(text: str) -> tuple[str, str] | None:
    """Which rule of names a text breaks, by its code and in words."""
    if not text.strip():
        return "name_blank", "A name must not be blank."
    # Normalising takes time by the square of the combining marks in a row, so a long text is not looked at.
    if len(text) > RAW_LENGTH_FACTOR * NAME_MAX_LENGTH:
        return "name_too_long", f"A name must have at most {NAME_MAX_LENGTH} characters."
    # Before it is trimmed, since a newline at the end is one of them.
    if has_control_characters(text):
        return "name_invalid", "A name must not contain control characters."
    if len(unicodedata.normalize("NFC", text).strip()) > NAME_MAX_LENGTH:
        return "name_too_long", f"A name must have at most {NAME_MAX_LENGTH} characters."
    if not _LETTER_OR_DIGIT.search(text):
        return "name_invalid", "A name must contain a letter or a digit."
    if decode("sub_tag", text.strip()) is not None:
        # Wherever tags are named, it would mean another one.
        return "name_invalid", "A name must not have the form of an id."
    return None


def name_key(text: str) -> str | None:
    """How a tag of this name is found, whoever made it. None if the core has no such names."""
    if len(text) > RAW_LENGTH_FACTOR * CORE_NAME_MAX_LENGTH or has_control_characters(text):
        return None
    try:
        return fold(normalize_name(text))
    except ValueError:
        return None


def _name(text: str) -> str:
    if broken := broken_name_rule(text):
        code, detail = broken
        raise PydanticCustomError(code, detail)
    return normalize_name(text)


# Control characters, and a letter or digit: as the vendor publishes it, for validators whose \W knows Unicode.
_NAME_SCHEMA = WithJsonSchema(
    {
        "type": "string",
        "minLength": 1,
        "maxLength": NAME_MAX_LENGTH,
        "pattern": r"^[^\x00-\x1f\x7f-\x9f]*[^\W_][^\x00-\x1f\x7f-\x9f]*$",
    }
)
Name = Annotated[str, AfterValidator(_name), _NAME_SCHEMA]
NamedTags = Annotated[list[str], Field(max_length=TAGS_MAX)]
Color = Annotated[str, StringConstraints(pattern=COLOR_PATTERN), AfterValidator(normalize_color)]
AnyText = Annotated[str, StringConstraints(pattern=WITHOUT_NUL)]
# What may be an id, with - in front of it, and what is none.
IdText = Annotated[str, StringConstraints(pattern=WITHOUT_NUL, max_length=100)]
BulkIds = Annotated[list[IdText], Field(max_length=BULK_IDS_MAX)]

Collision: TypeAlias = Literal["no_op", "overwrite"]
SubscriberCollision: TypeAlias = Literal["no_op", "fail", "add", "overwrite"]
SubscriberType: TypeAlias = Literal["regular", "unactivated", "unsubscribed"]

STATUSES: dict[SubscriberType, SubscriptionStatus] = {
    "regular": "subscribed",
    "unactivated": "pending",
    "unsubscribed": "unsubscribed",
}
_TYPES = {status: kind for kind, status in STATUSES.items()}


class TagIn(Input):
    """A tag that is wanted."""

    name: Annotated[Name, Field(description="Unique, whatever its case.", examples=["VIP"])]
    color: Annotated[Color | MISSING, Field(description=f"#RGB or #RRGGBB. {DEFAULT_COLOR} if left out.")] = MISSING
    description: Annotated[Description | None | MISSING, Field(description="For the author.")] = MISSING
    public_description: Annotated[Description | None | MISSING, Field(description="For subscribers.")] = MISSING
    subscriber_editable: Annotated[Flag | MISSING, Field(description="false if left out.")] = MISSING


class TagPatch(Input):
    """What shall change. What is left out stays; null stays, too, except for the descriptions, which it clears."""

    name: Annotated[Name | None | MISSING, Field(description="Unique, whatever its case.")] = MISSING
    color: Annotated[Color | None | MISSING, Field(description="#RGB or #RRGGBB.")] = MISSING
    description: Annotated[Description | None | MISSING, Field(description="null clears it.")] = MISSING
    public_description: Annotated[Description | None | MISSING, Field(description="null clears it.")] = MISSING
    subscriber_editable: Flag | None | MISSING = MISSING
    secondary_id: Annotated[SecondaryId | None | MISSING, Field(description="Unique.")] = MISSING


class _NotKept(Input):
    """Fields of the vendor's subscribers that its clients send and that have no place here."""

    notes: Annotated[Any, Field(description="Not kept.")] = None
    referrer_url: Annotated[Any, Field(description="Not kept.")] = None
    referring_subscriber_id: Annotated[Any, Field(description="Not kept.")] = None
    ip_address: Annotated[Any, Field(description="Not kept.")] = None
    utm_campaign: Annotated[Any, Field(description="Not kept.")] = None
    utm_medium: Annotated[Any, Field(description="Not kept.")] = None
    utm_source: Annotated[Any, Field(description="Not kept.")] = None


NOT_KEPT = frozenset(_NotKept.model_fields)


class SubscriberIn(_NotKept):
    """A subscriber that is wanted. null is as good as left out."""

    # The vendor's name of it until 2024, which its npm client still sends.
    email_address: Annotated[
        Email, Field(validation_alias=AliasChoices("email_address", "email"), examples=["ada@example.com"])
    ]
    tags: Annotated[NamedTags | None | MISSING, Field(description="Names or ids. Unknown names are made.")] = MISSING
    metadata: JsonObject | None | MISSING = MISSING
    type: Annotated[SubscriberType | None | MISSING, Field(description="regular if left out.")] = MISSING


class SubscriberPatch(_NotKept):
    """What shall change. What is left out or null stays. Metadata is merged, and null in it takes a member away."""

    email_address: Annotated[Email | None | MISSING, Field(validation_alias=AliasChoices("email_address", "email"))] = (
        MISSING
    )
    tags: Annotated[NamedTags | None | MISSING, Field(description="All that it shall carry; [] for none.")] = MISSING
    metadata: JsonObject | None | MISSING = MISSING
    type: SubscriberType | None | MISSING = MISSING


class BulkMetadata(Input):
    """What a bulk action is about; each type reads its own."""

    ids: Annotated[
        BulkIds | None | MISSING,
        Field(description='Subscribers, or tags: a list, ["all"], or all of them with - in front: all but those.'),
    ] = MISSING
    tag_ids: Annotated[BulkIds | None | MISSING, Field(description="For apply_tags.")] = MISSING
    tag_id: Annotated[IdText | None | MISSING, Field(description="For apply_tags, one of them.")] = MISSING
    action: Annotated[Literal["add", "remove"] | MISSING, Field(description="For apply_tags: add if left out.")] = (
        MISSING
    )
    color: Annotated[Color | None | MISSING, Field(description="For change_tags_colors.")] = MISSING


# What each type reads, and keeps.
READ_BY: dict[BulkActionType, tuple[str, ...]] = {
    "apply_tags": ("tag_ids", "tag_id", "action", "ids"),
    "change_tags_colors": ("color", "ids"),
    "delete_tags": ("ids",),
}


class BulkActionIn(Input):
    """Something to be done to many."""

    type: BulkActionType
    metadata: BulkMetadata


class TagOut(Output):
    """A tag."""

    id: str
    creation_date: Timestamp
    name: str
    color: str
    description: str | None
    public_description: str | None
    subscriber_editable: bool
    secondary_id: int

    @classmethod
    def from_tag(cls, tag: Tag, ids: Ids) -> "TagOut":
        return cls(
            id=ids.show("sub_tag", tag.id),
            creation_date=tag.created_at,
            name=tag.name,
            color=tag.color,
            description=tag.description,
            public_description=tag.public_description,
            subscriber_editable=tag.subscriber_editable,
            secondary_id=tag.secondary_id,
        )


class TagAnalyticsOut(Output):
    """How a tag does. This service sends no mail, so nobody opens or clicks any."""

    created_subscribers: int
    open_rate: float
    click_rate: float


class SubscriberOut(Output):
    """A subscriber, with its tags by name."""

    id: str
    creation_date: Timestamp
    email_address: str
    metadata: dict[str, Any]
    notes: str
    secondary_id: int
    tags: list[str]
    type: str
    unsubscription_date: Timestamp | None
    unsubscription_reason: str

    @classmethod
    def from_subscriber(cls, found: Subscriber, tags: Sequence[ContactTag], ids: Ids) -> "SubscriberOut":
        contact, own = found.contact, found.own
        return cls(
            id=ids.show("sub", contact.id),
            creation_date=contact.created_at,
            email_address=contact.email,
            metadata=contact.attributes,
            notes="",
            secondary_id=contact.number,
            tags=[tag.name for tag in tags],
            type=_type_of(found),
            unsubscription_date=(own and own.unsubscribed_at) or found.global_unsubscribed_at,
            unsubscription_reason=(own and own.reason) or "",
        )


def _type_of(found: Subscriber) -> str:
    if found.complained_at:
        return "complained"
    if found.hard_bounced_at:
        return "undeliverable"
    if found.global_unsubscribed_at:
        return "unsubscribed"
    # Who never agreed to anything with this client waits to be asked.
    return _TYPES[found.own.status if found.own else "pending"]


class BulkActionOut(Output):
    """A bulk action, which is done."""

    id: str
    creation_date: Timestamp
    completion_date: Timestamp
    type: BulkActionType
    status: str
    metadata: dict[str, Any]
    result: dict[str, int]

    @classmethod
    def from_bulk_action(cls, done: BulkAction, ids: Ids) -> "BulkActionOut":
        return cls(
            id=ids.show("bulk_action", done.id),
            creation_date=done.created_at,
            completion_date=done.completed_at,
            type=done.type,
            status=done.status,
            metadata=dict(done.metadata),
            result=dict(done.result),
        )


class _ListOut(Output):
    """A page of a list; `count` is of all pages."""

    count: int
    next: str | None
    previous: str | None


class TagListOut(_ListOut):
    """A page of tags, in the order in which they were made."""

    results: list[TagOut]


class SubscriberListOut(_ListOut):
    """A page of subscribers, the newest first."""

    results: list[SubscriberOut]


def total_of(page: Page[object]) -> int:
    """How many there are on all pages, for a list that counts them."""
    return page.total or 0
