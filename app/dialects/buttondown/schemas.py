"""Tags, subscribers and bulk actions on Buttondown's wire. What comes in keeps to its limits."""

import re
import unicodedata
from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    MISSING,
    AfterValidator,
    AliasChoices,
    ConfigDict,
    Field,
    RootModel,
    StringConstraints,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from app.dialects.buttondown.typeids import SUBSCRIBER_ID, TAG_ID, Ids, decode
from app.pagination import Page
from app.repositories.bulk_actions import CHANGES_MAX, BulkAction, BulkActionType
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
    with_example,
)
from app.values import (
    ATTRIBUTES_MAX_BYTES,
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


_NAME = f"1 to {NAME_MAX_LENGTH} characters, one of them a letter or digit. Unique, whatever its case."
_NAME_EXAMPLE = Field(examples=["VIP"])
_COLOR_EXAMPLE = Field(examples=["#FFD700"])
_DescriptionIn = Annotated[Description | None | MISSING, Field(examples=["Buys every month."])]
_PublicDescriptionIn = Annotated[Description | None | MISSING, Field(examples=["Our best customers."])]
_EDITABLE_EXAMPLE = Field(examples=[True])
_EMAIL_EXAMPLE = Field(examples=["ada@example.com"])
_TagsIn = Annotated[NamedTags | None | MISSING, Field(examples=[["VIP"]])]
_MetadataIn = Annotated[JsonObject | None | MISSING, Field(examples=[{"plan": "pro"}])]
_METADATA = (
    f"Whatever is kept about the subscriber, at most {ATTRIBUTES_MAX_BYTES:,} bytes. It is merged with what is "
    "known, in depth too: null takes a member away."
)
_NOT_KEPT = "Taken, so that clients may send it, and not kept."


class TagIn(Input):
    """A tag that is wanted."""

    model_config = with_example({"name": "VIP", "color": "#FFD700", "description": "Buys every month."})

    name: Annotated[Name, _NAME_EXAMPLE, Field(description=_NAME)]
    color: Annotated[
        Color | MISSING, _COLOR_EXAMPLE, Field(description=f"#RGB or #RRGGBB. {DEFAULT_COLOR} if left out.")
    ] = MISSING
    description: Annotated[_DescriptionIn, Field(description="For the author. null is as good as left out.")] = MISSING
    public_description: Annotated[
        _PublicDescriptionIn, Field(description="For subscribers. null is as good as left out.")
    ] = MISSING
    subscriber_editable: Annotated[
        Flag | MISSING,
        _EDITABLE_EXAMPLE,
        Field(description="Whether subscribers may give it to themselves. false if left out."),
    ] = MISSING


class TagPatch(Input):
    """What shall change. What is left out stays; null stays, too, except for the descriptions, which it clears."""

    model_config = with_example({"color": "#FFA500", "public_description": None})

    name: Annotated[Name | None | MISSING, _NAME_EXAMPLE, Field(description=f"{_NAME} null leaves it.")] = MISSING
    color: Annotated[Color | None | MISSING, _COLOR_EXAMPLE, Field(description="#RGB or #RRGGBB. null leaves it.")] = (
        MISSING
    )
    description: Annotated[_DescriptionIn, Field(description="For the author. null clears it.")] = MISSING
    public_description: Annotated[_PublicDescriptionIn, Field(description="For subscribers. null clears it.")] = MISSING
    subscriber_editable: Annotated[
        Flag | None | MISSING,
        _EDITABLE_EXAMPLE,
        Field(description="Whether subscribers may give it to themselves. null leaves it."),
    ] = MISSING
    secondary_id: Annotated[
        SecondaryId | None | MISSING,
        Field(description="A short number for people, unique in the newsletter. null leaves it.", examples=[1001]),
    ] = MISSING


class _NotKept(Input):
    """Fields of the vendor's subscribers that its clients send and that have no place here."""

    notes: Annotated[Any | MISSING, Field(description=_NOT_KEPT, examples=["Met at a fair."])] = MISSING
    referrer_url: Annotated[Any | MISSING, Field(description=_NOT_KEPT, examples=["https://example.com/blog"])] = (
        MISSING
    )
    referring_subscriber_id: Annotated[Any | MISSING, Field(description=_NOT_KEPT, examples=[SUBSCRIBER_ID])] = MISSING
    ip_address: Annotated[Any | MISSING, Field(description=_NOT_KEPT, examples=["192.0.2.1"])] = MISSING
    utm_campaign: Annotated[Any | MISSING, Field(description=_NOT_KEPT, examples=["spring-sale"])] = MISSING
    utm_medium: Annotated[Any | MISSING, Field(description=_NOT_KEPT, examples=["email"])] = MISSING
    utm_source: Annotated[Any | MISSING, Field(description=_NOT_KEPT, examples=["newsletter"])] = MISSING


NOT_KEPT = frozenset(_NotKept.model_fields)


class SubscriberIn(_NotKept):
    """A subscriber that is wanted. null is as good as left out."""

    model_config = with_example({"email_address": "ada@example.com", "tags": ["VIP"], "metadata": {"plan": "pro"}})

    # The vendor's name of it until 2024, which its npm client still sends.
    email_address: Annotated[
        Email,
        _EMAIL_EXAMPLE,
        Field(
            validation_alias=AliasChoices("email_address", "email"),
            description="The address. Unique, whatever its case. `email`, its older name, is taken too.",
        ),
    ]
    tags: Annotated[_TagsIn, Field(description="Names or ids of its tags. A name that is new makes a tag.")] = MISSING
    metadata: Annotated[_MetadataIn, Field(description=_METADATA)] = MISSING
    type: Annotated[
        SubscriberType | None | MISSING,
        Field(description="What it agreed to with the client of the key. A new one is `regular` if this is left out."),
    ] = MISSING


class SubscriberPatch(_NotKept):
    """What shall change. What is left out or null stays."""

    model_config = with_example({"tags": ["VIP", "Early adopter"], "metadata": {"plan": None}})

    email_address: Annotated[
        Email | None | MISSING,
        _EMAIL_EXAMPLE,
        Field(
            validation_alias=AliasChoices("email_address", "email"),
            description="The address. Unique, whatever its case. null leaves it.",
        ),
    ] = MISSING
    tags: Annotated[
        _TagsIn,
        Field(
            description="Names or ids of all tags that it shall carry, or of those to add, by the collision header "
            "`add`. A name that is new makes a tag. [] takes all tags away, null leaves them."
        ),
    ] = MISSING
    metadata: Annotated[_MetadataIn, Field(description=f"{_METADATA} null leaves all of it.")] = MISSING
    type: Annotated[
        SubscriberType | None | MISSING,
        Field(description="What it agreed to with the client of the key. null leaves it."),
    ] = MISSING


# null comes in as well, and is refused by the code of a bulk action.
_WantedIds = Annotated[
    BulkIds | None | MISSING,
    WithJsonSchema({"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": BULK_IDS_MAX}),
]
_WantedColor = Annotated[Color | None | MISSING, WithJsonSchema({"type": "string", "pattern": COLOR_PATTERN})]


class BulkMetadata(Input):
    """What a bulk action is about; each type reads its own, and passes over the rest."""

    model_config = ConfigDict(json_schema_extra={"required": ["ids"]})

    ids: Annotated[
        _WantedIds,
        Field(
            description="Ids of subscribers for `apply_tags`, else of tags. Or `all`, by itself. Or ids with a `-` "
            f"in front of each: all but those. An action changes at most {CHANGES_MAX:,} rows.",
            examples=[[SUBSCRIBER_ID], ["all"], [f"-{SUBSCRIBER_ID}"]],
        ),
    ] = MISSING
    tag_ids: Annotated[
        BulkIds | None | MISSING,
        Field(
            description="For `apply_tags`: ids of the tags. This or `tag_id` is needed, and null is as good as "
            "left out.",
            examples=[[TAG_ID]],
        ),
    ] = MISSING
    tag_id: Annotated[
        IdText | None | MISSING,
        Field(description="For `apply_tags`: id of one tag more. null is as good as left out.", examples=[TAG_ID]),
    ] = MISSING
    action: Annotated[
        Literal["add", "remove"] | MISSING,
        Field(description="For `apply_tags`: whether the tags are given or taken. `add` if left out."),
    ] = MISSING
    color: Annotated[
        _WantedColor,
        _COLOR_EXAMPLE,
        Field(description="For `change_tags_colors`, which needs it: #RGB or #RRGGBB."),
    ] = MISSING


# What each type reads, and keeps.
READ_BY: dict[BulkActionType, tuple[str, ...]] = {
    "apply_tags": ("tag_ids", "tag_id", "action", "ids"),
    "change_tags_colors": ("color", "ids"),
    "delete_tags": ("ids",),
}


class BulkActionIn(Input):
    """Something to be done to many."""

    model_config = with_example(
        {
            "type": "apply_tags",
            "metadata": {"tag_ids": [TAG_ID], "action": "add", "ids": ["all"]},
        }
    )

    type: BulkActionType = Field(
        description="`apply_tags` gives tags to subscribers, or takes them. `change_tags_colors` and `delete_tags` are "
        "about tags."
    )
    metadata: BulkMetadata = Field(description="What it is about.")


class TagOut(Output):
    """A tag."""

    id: str = Field(description="`sub_tag_…`, or a UUID for an `X-API-Version` before 2026-01-01.")
    creation_date: Timestamp = Field(description="When the tag was made, in UTC.")
    name: str = Field(
        description=f"As it was last written. Longer than {NAME_MAX_LENGTH} characters only where another API wrote it."
    )
    color: str = Field(description="#RGB or #RRGGBB.")
    description: str | None = Field(description="For the author. null where there is none.")
    public_description: str | None = Field(description="For subscribers. null where there is none.")
    subscriber_editable: bool = Field(
        description="Whether subscribers may give it to themselves. It is kept, and nothing here goes by it."
    )
    secondary_id: int = Field(description="A short number for people, unique in the newsletter.")

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

    created_subscribers: int = Field(description="How many became subscribers with this tag, and never lost it since.")
    open_rate: float = Field(description="Always 0.")
    click_rate: float = Field(description="Always 0.")


class SubscriberOut(Output):
    """A subscriber, with its tags by name."""

    id: str = Field(description="`sub_…`, or a UUID for an `X-API-Version` before 2026-01-01.")
    creation_date: Timestamp = Field(description="When the subscriber was made, in UTC.")
    email_address: str = Field(description="The address, as it was sent.")
    metadata: dict[str, Any] = Field(description="Whatever the caller keeps about the subscriber.")
    notes: str = Field(description="Always empty: notes are not kept.")
    secondary_id: int = Field(
        description="A short number for people. It is the same in all newsletters of the account."
    )
    tags: list[str] = Field(description="The names of its tags.")
    type: str = Field(
        description="`regular`, `unactivated` or `unsubscribed`, by what it agreed to with the client of the key."
        " `complained` and `undeliverable` where another API said so."
    )
    unsubscription_date: Timestamp | None = Field(description="When it unsubscribed, in UTC. null where it did not.")
    unsubscription_reason: str = Field(description="Why it unsubscribed. Empty where it gave no reason.")

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

    id: str = Field(description="`bulk_action_…`, or a UUID for an `X-API-Version` before 2026-01-01.")
    creation_date: Timestamp = Field(description="When it was asked for, in UTC.")
    completion_date: Timestamp = Field(description="When it was done, in UTC.")
    type: BulkActionType = Field(description="What was done.")
    status: str = Field(description="Always `processed`.")
    metadata: dict[str, Any] = Field(description="What it was about, as it was sent.")
    result: dict[str, int] = Field(description="How many rows changed.")

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

    count: int = Field(description="How many there are on all pages.")
    next: str | None = Field(description="The absolute URL of the next page, with all filters. null on the last one.")
    previous: str | None = Field(description="The absolute URL of the page before. null on the first one.")


class TagListOut(_ListOut):
    """A page of tags, in the order in which they were made."""

    results: list[TagOut] = Field(description="The tags of this page.")


class SubscriberListOut(_ListOut):
    """A page of subscribers, the newest first."""

    results: list[SubscriberOut] = Field(description="The subscribers of this page.")


def total_of(page: Page[object]) -> int:
    """How many there are on all pages, for a list that counts them."""
    return page.total or 0


class CodedError(Output):
    """What kept a call from being done, by a code."""

    code: str = Field(description="Which error it is, for programs.")
    detail: str = Field(description="What happened, in words.")
    metadata: Annotated[
        dict[str, str] | MISSING,
        Field(description="What helps to get on, such as `tag_id`, `subscriber_id` and `remedy_header`."),
    ] = MISSING


class UncodedError(Output):
    """What kept a call from being done, where the vendor has no code."""

    detail: str = Field(description="What happened, in words.")


class InvalidField(Output):
    """One value of the request that breaks a rule."""

    type: str = Field(description="The fault, by pydantic's name of it.")
    loc: list[str | int] = Field(description='Where it stood, like `["body", "payload", "color"]`.')
    msg: str = Field(description="The rule, in words.")


class InvalidFields(Output):
    """Values that break a rule, each by itself."""

    detail: list[InvalidField] = Field(description="The first 100 of them.")


class ErrorOut(RootModel[CodedError | UncodedError | InvalidFields]):
    """Every error looks like one of these: with a code, without one, or as a list of wrong values."""
