"""Bodies and answers on SendPortal's wire.

Fields come in as they are sent: which of them is looked at when is for checks.py to say. The documented type of each
stands beside it.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import MISSING, Field, PlainSerializer, WithJsonSchema
from pydantic.json_schema import SkipJsonSchema

from app.repositories.contact_tags import ContactTag
from app.repositories.subscribers import Subscriber
from app.repositories.tags import Tag
from app.schemas.base import NAME_PATTERN, WITHOUT_NUL, LooseInput, Output, with_example
from app.values import EMAIL_MAX_LENGTH, NAME_MAX_LENGTH, PERSON_NAME_MAX_LENGTH

TAGS_MAX = 1_000
SUBSCRIBERS_MAX = 10_000

FORM = "application/x-www-form-urlencoded"


def _ids(at_most: int) -> dict[str, Any]:
    return {"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": at_most, "examples": [[1, 2]]}


def _any_ids(at_most: int) -> dict[str, Any]:
    return {"type": ["array", "null"], "items": {"type": "integer"}, "maxItems": at_most, "examples": [[1, 2]]}


# Any JSON value, or none; documented as what it should be.
_Tags = Annotated[Any | MISSING, WithJsonSchema(_ids(TAGS_MAX))]
_AnyTags = Annotated[Any | MISSING, WithJsonSchema(_any_ids(TAGS_MAX))]
_Subscribers = Annotated[Any | MISSING, WithJsonSchema(_ids(SUBSCRIBERS_MAX))]
_AnySubscribers = Annotated[Any | MISSING, WithJsonSchema(_any_ids(SUBSCRIBERS_MAX))]
_Name = Annotated[
    Any | MISSING,
    WithJsonSchema(
        {
            "type": "string",
            "minLength": 1,
            "maxLength": NAME_MAX_LENGTH,
            "pattern": NAME_PATTERN,
            "examples": ["VIP"],
        }
    ),
]
_PersonName = Annotated[
    Any | MISSING,
    WithJsonSchema({"type": ["string", "null"], "maxLength": PERSON_NAME_MAX_LENGTH, "pattern": WITHOUT_NUL}),
]
_Email = Annotated[
    Any | MISSING,
    WithJsonSchema(
        {"type": "string", "format": "email", "maxLength": EMAIL_MAX_LENGTH, "examples": ["ada@example.com"]}
    ),
]
_Time = Annotated[Any | MISSING, WithJsonSchema({"type": ["string", "null"], "examples": ["2020-03-23 12:44:14"]})]


class In(LooseInput):
    """What a call may send. `_method` would make another call of a POST, which is refused."""

    method: Annotated[SkipJsonSchema[Any | MISSING], Field(alias="_method")] = MISSING


class TagsIn(In):
    """The tags that a call on a subscriber names."""

    model_config = with_example({"tags": [1]}, required=["tags"])

    tags: Annotated[_Tags, Field(description="Ids of tags. Repeats count once.")] = MISSING


class SubscribersIn(In):
    """The subscribers that a call on a tag names."""

    model_config = with_example({"subscribers": [1]}, required=["subscribers"])

    subscribers: Annotated[_Subscribers, Field(description="Ids of subscribers. Repeats count once.")] = MISSING


class TagIn(In):
    """A tag."""

    model_config = with_example({"name": "VIP"}, required=["name"])

    name: Annotated[_Name, Field(description="Unique, whatever its case. Blanks around it are taken away.")] = MISSING
    subscribers: Annotated[
        _AnySubscribers,
        Field(
            description="Ids of subscribers to give a new tag to. null is as good as left out. Passed over when a tag "
            "changes."
        ),
    ] = MISSING


class SubscriberIn(In):
    """A subscriber. What is left out stays as it is, but for the email, which is always needed."""

    model_config = with_example(
        {"email": "ada@example.com", "first_name": "Ada", "last_name": "Lovelace"}, required=["email"]
    )

    email: Annotated[_Email, Field(description="The address. Unique, whatever its case.")] = MISSING
    first_name: Annotated[_PersonName, Field(description="null clears it.", examples=["Ada"])] = MISSING
    last_name: Annotated[_PersonName, Field(description="null clears it.", examples=["Lovelace"])] = MISSING
    tags: Annotated[
        _AnyTags, Field(description="Ids of all tags that it shall carry. [] takes all away, null leaves them.")
    ] = MISSING


class NewSubscriberIn(SubscriberIn):
    """A subscriber that shall be there."""

    unsubscribed_at: Annotated[
        _Time,
        Field(
            description="Since when it is unsubscribed, in ISO 8601, like `2020-03-23 12:44:14`: in UTC, where it "
            "has no zone. null subscribes it. Left out, a new one is subscribed."
        ),
    ] = MISSING


def form_of(model: type[In]) -> dict[str, Any]:
    """What the OpenAPI document of a call says of its body, beside that it is JSON: it may be a form.

    A form has its lists as PHP does, `tags[]=1&tags[]=2`, and an empty text for null.
    """
    schema = model.model_json_schema()
    names = {name: f"{name}[]" if "array" in one["type"] else name for name, one in schema["properties"].items()}

    def without_null(one: dict[str, Any]) -> dict[str, Any]:
        kinds = one["type"]
        return one if isinstance(kinds, str) else {**one, "type": kinds[0]}

    form = {
        "type": "object",
        "description": f"{schema['description']} An empty text means null.",
        "properties": {names[name]: without_null(one) for name, one in schema["properties"].items()},
        "required": [names[name] for name in schema["required"]],
        "examples": [{names[name]: value for name, value in one.items()} for one in schema["examples"]],
    }
    return {"requestBody": {"required": True, "content": {FORM: {"schema": form}}}}


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

    id: int = Field(description="Id of the tag, a number.")
    name: str = Field(description="As it was last written.")
    created_at: Seconds = Field(description="When the tag was made, in UTC.")
    update_at: Seconds = Field(description="When the tag was last changed, in UTC. The name is the vendor's.")
    updated_at: Seconds = Field(description="The same as `update_at`.")

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

    id: int = Field(description="Id of the subscriber, a number.")
    first_name: str | None = Field(description="null where none is known.")
    last_name: str | None = Field(description="null where none is known.")
    email: str = Field(description="The address, as it was sent.")
    unsubscribed_at: Seconds | None = Field(description="When it unsubscribed, in UTC. null where it did not.")
    created_at: Seconds = Field(description="When the subscriber was made, in UTC.")
    updated_at: Seconds = Field(description="When the subscriber was last changed, in UTC. Its tags do not count.")

    @classmethod
    def from_subscriber(cls, found: Subscriber) -> "SubscriberOut":
        return cls(**_subscriber(found))


class TaggedSubscriberOut(Output):
    """A subscriber with its tags."""

    id: int = Field(description="Id of the subscriber, a number.")
    first_name: str | None = Field(description="null where none is known.")
    last_name: str | None = Field(description="null where none is known.")
    email: str = Field(description="The address, as it was sent.")
    tags: list[TagOut] = Field(description="All tags that it carries.")
    unsubscribed_at: Seconds | None = Field(description="When it unsubscribed, in UTC. null where it did not.")
    created_at: Seconds = Field(description="When the subscriber was made, in UTC.")
    updated_at: Seconds = Field(description="When the subscriber was last changed, in UTC. Its tags do not count.")

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

    id: int = Field(description="Id of the tag, a number.")
    name: str = Field(description="As it was last written.")
    subscribers: list[SubscriberOut] = Field(description="The subscribers that it was given to.")
    created_at: Seconds = Field(description="When the tag was made, in UTC.")
    update_at: Seconds = Field(description="When the tag was last changed, in UTC. The name is the vendor's.")
    updated_at: Seconds = Field(description="The same as `update_at`.")

    @classmethod
    def from_tag(cls, tag: Tag, subscribers: Sequence[Subscriber]) -> "NewTagOut":
        return cls(
            **dict(TagOut.from_tag(tag)), subscribers=[SubscriberOut.from_subscriber(one) for one in subscribers]
        )


class TagAnswer(Output):
    """One tag."""

    data: TagOut = Field(description="The tag.")


class NewTagAnswer(Output):
    """A new tag."""

    data: NewTagOut = Field(description="The tag.")


class TagList(Output):
    """The tags of a subscriber, all of them."""

    data: list[TagOut] = Field(description="The tags, by slug.")


class SubscriberAnswer(Output):
    """One subscriber."""

    data: SubscriberOut = Field(description="The subscriber.")


class TaggedSubscriberAnswer(Output):
    """One subscriber, with its tags."""

    data: TaggedSubscriberOut = Field(description="The subscriber.")


class SubscriberList(Output):
    """The subscribers of a tag, all of them."""

    data: list[SubscriberOut] = Field(description="The subscribers, in the order in which they were made.")


class Links(Output):
    """Where other pages of a list are."""

    first: str = Field(description="The absolute URL of the first page.")
    last: str = Field(description="The absolute URL of the last page.")
    prev: str | None = Field(description="The absolute URL of the page before. null on the first one.")
    next: str | None = Field(description="The absolute URL of the next page. null on the last one.")


class PageLink(Output):
    """A link as a row of page numbers shows it. Between numbers that are far apart it leads nowhere."""

    url: str | None = Field(description="The absolute URL. null where the link leads nowhere.")
    label: str = Field(description="The text to show, in HTML: a number, `...`, or an arrow with a word.")
    active: bool = Field(description="Whether it is this page.")


class Meta(Output):
    """Where in the list a page stands."""

    current_page: int = Field(description="The number of this page, from 1.")
    from_: Annotated[
        int | None,
        Field(
            serialization_alias="from",
            description="The place of the first item of this page in the list, from 1. null where the page is empty.",
        ),
    ]
    last_page: int = Field(description="The number of the last page.")
    links: list[PageLink] = Field(description="The links of a row of page numbers.")
    path: str = Field(description="The absolute URL of the list, without its query.")
    per_page: int = Field(description="The most items that a page has.")
    to: int | None = Field(
        description="The place of the last item of this page in the list, from 1. null where the page is empty."
    )
    total: int = Field(description="How many items there are on all pages.")


class TagPage(Output):
    """A page of tags, by name."""

    data: list[TagOut] = Field(description="The tags of this page.")
    links: Links = Field(description="Where other pages are.")
    meta: Meta = Field(description="Where in the list this page stands.")


class SubscriberPage(Output):
    """A page of subscribers."""

    data: list[SubscriberOut] = Field(description="The subscribers of this page.")
    links: Links = Field(description="Where other pages are.")
    meta: Meta = Field(description="Where in the list this page stands.")


class ErrorOut(Output):
    """Every error looks like this."""

    message: str = Field(description="What happened, in words. Of several wrong fields the first.")
    errors: Annotated[
        dict[str, list[str]] | MISSING, Field(description="With 422: what is wrong with each field, in words.")
    ] = MISSING
