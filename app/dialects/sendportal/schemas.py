"""Bodies and answers on SendPortal's wire.

Fields come in as they are sent: which of them is looked at when is for checks.py to say. The documented type of each
stands beside it.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import MISSING, ConfigDict, Field, PlainSerializer, WithJsonSchema
from pydantic.json_schema import SkipJsonSchema

from app.repositories.contact_tags import ContactTag
from app.repositories.subscribers import Subscriber
from app.repositories.tags import Tag
from app.schemas.base import LooseInput, Output
from app.values import EMAIL_MAX_LENGTH, NAME_MAX_LENGTH, PERSON_NAME_MAX_LENGTH

TAGS_MAX = 1_000
SUBSCRIBERS_MAX = 10_000


def _ids(at_most: int) -> dict[str, Any]:
    return {"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": at_most}


def _any_ids(at_most: int) -> dict[str, Any]:
    return {"type": ["array", "null"], "items": {"type": "integer"}, "maxItems": at_most}


# Any JSON value, or none; documented as what it should be.
_Tags = Annotated[Any | MISSING, WithJsonSchema(_ids(TAGS_MAX))]
_AnyTags = Annotated[Any | MISSING, WithJsonSchema(_any_ids(TAGS_MAX))]
_Subscribers = Annotated[Any | MISSING, WithJsonSchema(_ids(SUBSCRIBERS_MAX))]
_AnySubscribers = Annotated[Any | MISSING, WithJsonSchema(_any_ids(SUBSCRIBERS_MAX))]
_Name = Annotated[Any | MISSING, WithJsonSchema({"type": "string", "minLength": 1, "maxLength": NAME_MAX_LENGTH})]
_PersonName = Annotated[
    Any | MISSING, WithJsonSchema({"type": ["string", "null"], "maxLength": PERSON_NAME_MAX_LENGTH})
]
_Email = Annotated[Any | MISSING, WithJsonSchema({"type": "string", "format": "email", "maxLength": EMAIL_MAX_LENGTH})]
_Time = Annotated[Any | MISSING, WithJsonSchema({"type": ["string", "null"], "format": "date-time"})]


class In(LooseInput):
    """What a call may send. `_method` would make another call of a POST, which is refused."""

    method: Annotated[SkipJsonSchema[Any | MISSING], Field(alias="_method")] = MISSING


class TagsIn(In):
    """The tags that a call on a subscriber names."""

    model_config = ConfigDict(json_schema_extra={"required": ["tags"]})

    tags: Annotated[_Tags, Field(description="Ids of tags. Repeats count once.")] = MISSING


class SubscribersIn(In):
    """The subscribers that a call on a tag names."""

    model_config = ConfigDict(json_schema_extra={"required": ["subscribers"]})

    subscribers: Annotated[_Subscribers, Field(description="Ids of subscribers. Repeats count once.")] = MISSING


class TagIn(In):
    """A tag."""

    model_config = ConfigDict(json_schema_extra={"required": ["name"]})

    name: Annotated[_Name, Field(description="Unique, whatever its case.")] = MISSING
    subscribers: Annotated[
        _AnySubscribers, Field(description="Ids of subscribers to give a new tag to. Passed over when a tag changes.")
    ] = MISSING


class SubscriberIn(In):
    """A subscriber. What is left out stays as it is, but for the email, which is always needed."""

    model_config = ConfigDict(json_schema_extra={"required": ["email"]})

    email: Annotated[_Email, Field(description="The address; compared whatever its case.")] = MISSING
    first_name: Annotated[_PersonName, Field(description="null clears it.")] = MISSING
    last_name: Annotated[_PersonName, Field(description="null clears it.")] = MISSING
    tags: Annotated[_AnyTags, Field(description="Ids of all tags that it shall carry; [] clears.")] = MISSING


class NewSubscriberIn(SubscriberIn):
    """A subscriber that shall be there."""

    unsubscribed_at: Annotated[
        _Time, Field(description="Since when it is unsubscribed; null subscribes it. In UTC, where it has no zone.")
    ] = MISSING


def _in_seconds(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(" ", "seconds")[:19]


# 2020-03-23 12:44:14, in UTC.
Seconds = Annotated[
    datetime,
    PlainSerializer(_in_seconds, return_type=str),
    WithJsonSchema({"type": "string", "pattern": r"^\d{4}-\d{2}-\d{2} \d{2}:\d{2}:\d{2}$"}, mode="serialization"),
]


class TagOut(Output):
    """A tag. `update_at` is what its answers have, and `updated_at` what its documentation and its SDKs read."""

    id: int
    name: str
    created_at: Seconds
    update_at: Seconds
    updated_at: Seconds

    @classmethod
    def from_tag(cls, tag: Tag | ContactTag) -> "TagOut":
        return cls(
            id=tag.number,
            name=tag.name,
            created_at=tag.created_at,
            update_at=tag.updated_at,
            updated_at=tag.updated_at,
        )


class SubscriberOut(Output):
    """A subscriber. `unsubscribed_at` is what it agreed to with the key's client, or with nobody any more."""

    id: int
    first_name: str | None
    last_name: str | None
    email: str
    unsubscribed_at: Seconds | None
    created_at: Seconds
    updated_at: Seconds

    @classmethod
    def from_subscriber(cls, found: Subscriber) -> "SubscriberOut":
        return cls(**_subscriber(found))


class TaggedSubscriberOut(Output):
    """A subscriber with its tags."""

    id: int
    first_name: str | None
    last_name: str | None
    email: str
    tags: list[TagOut]
    unsubscribed_at: Seconds | None
    created_at: Seconds
    updated_at: Seconds

    @classmethod
    def from_subscriber(cls, found: Subscriber, tags: Sequence[ContactTag]) -> "TaggedSubscriberOut":
        return cls(**_subscriber(found), tags=[TagOut.from_tag(tag) for tag in tags])


def _subscriber(found: Subscriber) -> dict[str, Any]:
    contact, own = found.contact, found.own
    return {
        "id": contact.number,
        "first_name": contact.first_name,
        "last_name": contact.last_name,
        "email": contact.email,
        "unsubscribed_at": (own and own.unsubscribed_at) or found.global_unsubscribed_at,
        "created_at": contact.created_at,
        "updated_at": contact.updated_at,
    }


class NewTagOut(Output):
    """A new tag, with the subscribers that it was given to."""

    id: int
    name: str
    subscribers: list[SubscriberOut]
    created_at: Seconds
    update_at: Seconds
    updated_at: Seconds

    @classmethod
    def from_tag(cls, tag: Tag, subscribers: Sequence[Subscriber]) -> "NewTagOut":
        return cls(
            **dict(TagOut.from_tag(tag)), subscribers=[SubscriberOut.from_subscriber(one) for one in subscribers]
        )


class TagAnswer(Output):
    """One tag."""

    data: TagOut


class NewTagAnswer(Output):
    """A new tag."""

    data: NewTagOut


class TagList(Output):
    """The tags of a subscriber, all of them."""

    data: list[TagOut]


class SubscriberAnswer(Output):
    """One subscriber."""

    data: SubscriberOut


class TaggedSubscriberAnswer(Output):
    """One subscriber, with its tags."""

    data: TaggedSubscriberOut


class SubscriberList(Output):
    """The subscribers of a tag, all of them."""

    data: list[SubscriberOut]


class Links(Output):
    """Where other pages of a list are."""

    first: str
    last: str
    prev: str | None
    next: str | None


class PageLink(Output):
    """A link as a row of page numbers shows it. Between numbers that are far apart it leads nowhere."""

    url: str | None
    label: str
    active: bool


class Meta(Output):
    """Where in the list a page stands."""

    current_page: int
    from_: Annotated[int | None, Field(serialization_alias="from")]
    last_page: int
    links: list[PageLink]
    path: str
    per_page: int
    to: int | None
    total: int


class TagPage(Output):
    """A page of tags, by name."""

    data: list[TagOut]
    links: Links
    meta: Meta


class SubscriberPage(Output):
    """A page of subscribers."""

    data: list[SubscriberOut]
    links: Links
    meta: Meta
