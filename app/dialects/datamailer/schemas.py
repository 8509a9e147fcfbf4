"""Bodies and answers on Datamailer's wire.

Fields come in as they are sent: which of them is looked at when is for checks.py to say. The documented type of each
stands beside it.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, get_args

from pydantic import MISSING, ConfigDict, Field, WithJsonSchema

from app.repositories.contact_tags import ContactTag
from app.repositories.subscribers import Subscriber, Suppression
from app.repositories.subscriptions import Subscription, SubscriptionStatus
from app.schemas.base import LooseInput, Output, Timestamp
from app.values import EMAIL_MAX_LENGTH, NAME_MAX_LENGTH

TAGS_MAX = 1_000
REASON_MAX_LENGTH = 255

Status = SubscriptionStatus
ValidationStatus = Literal[
    "unknown", "valid", "invalid_syntax", "no_mx", "disposable", "risky", "manually_invalid", "externally_validated"
]
UnsubscribeScope = Literal["client", "audience", "global"]
# An address of which this is known is not written to.
_UNDELIVERABLE: frozenset[str] = frozenset({"invalid_syntax", "no_mx", "disposable", "risky", "manually_invalid"})


# Any JSON value, or none; documented as what it should be.
_Slug = Annotated[Any | MISSING, WithJsonSchema({"type": "string", "minLength": 1})]
_Email = Annotated[Any | MISSING, WithJsonSchema({"type": "string", "format": "email", "maxLength": EMAIL_MAX_LENGTH})]
_Status = Annotated[Any | MISSING, WithJsonSchema({"type": "string", "enum": list(get_args(Status))})]
_UnsubscribeScope = Annotated[
    Any | MISSING, WithJsonSchema({"type": "string", "enum": list(get_args(UnsubscribeScope))})
]
_Reason = Annotated[Any | MISSING, WithJsonSchema({"type": "string", "maxLength": REASON_MAX_LENGTH})]
_Flag = Annotated[Any | MISSING, WithJsonSchema({"type": "boolean"})]
_Tags = Annotated[
    Any | MISSING,
    WithJsonSchema(
        {
            "type": "array",
            "items": {"type": "string", "minLength": 1, "maxLength": NAME_MAX_LENGTH},
            "maxItems": TAGS_MAX,
        }
    ),
]
_Validation = Annotated[
    Any | MISSING,
    WithJsonSchema(
        {
            "type": "object",
            "properties": {
                "status": {"type": "string", "enum": list(get_args(ValidationStatus))},
                "reason": {"type": "string", "maxLength": REASON_MAX_LENGTH},
                "validated_at": {"type": "string", "format": "date-time"},
            },
        }
    ),
]
_Suppression = Annotated[
    Any | MISSING,
    WithJsonSchema(
        {"type": "object", "properties": {name: {"type": "boolean"} for name in get_args(Suppression)}},
    ),
]


def _needed(*fields: str) -> ConfigDict:
    """Says in the OpenAPI document which fields have to be there; that they are is seen to by checks.py."""
    return ConfigDict(json_schema_extra={"required": list(fields)})


class Scoped(LooseInput):
    """The audience that a call is about, and the client that makes it. Both are needed."""

    model_config = _needed("audience", "client")

    audience: Annotated[_Slug, Field(description="Slug of the audience.")] = MISSING
    client: Annotated[_Slug, Field(description="Slug of the client that the key belongs to.")] = MISSING


class TagsIn(Scoped):
    """The tags that a contact shall carry in the audience."""

    model_config = _needed("audience", "client", "tags")

    tags: Annotated[_Tags, Field(description="All of them, by name; [] clears.")] = MISSING


class Addressed(Scoped):
    """A contact by its email, in an audience."""

    model_config = _needed("email", "audience", "client")

    email: Annotated[_Email, Field(description="The address; compared whatever its case.")] = MISSING


class ContactIn(Addressed):
    """A contact that shall be there. What is left out stays as it is."""

    status: Annotated[_Status, Field(description="What it agreed to with this client. A new one is pending.")] = MISSING
    tags: Annotated[_Tags, Field(description="Tags to add, by name.")] = MISSING
    verified: Annotated[_Flag, Field(description="Whether the address was confirmed for this client.")] = MISSING
    email_validation: Annotated[_Validation, Field(description="What was found out about the address.")] = MISSING
    suppression: Annotated[_Suppression, Field(description="What keeps it from being written to.")] = MISSING


class SubscribeIn(Addressed):
    """A contact that subscribes with this client."""

    tags: Annotated[_Tags, Field(description="Tags to add, by name.")] = MISSING


class UnsubscribeIn(Addressed):
    """A contact that unsubscribes."""

    model_config = _needed("email", "audience", "client", "scope")

    scope: Annotated[
        _UnsubscribeScope, Field(description="From this client, from the audience, or from everything.")
    ] = MISSING
    reason: Annotated[_Reason, Field(description="Why.")] = MISSING


class SubscriptionOut(Output):
    """What a contact agreed to. Without any agreement the status is null."""

    slug: str
    subscribed: bool
    status: Status | None
    verified: bool
    verified_at: Timestamp | None
    unsubscribed_at: Timestamp | None
    unsubscribe_reason: str

    @classmethod
    def of(cls, slug: str, agreed: Subscription | None) -> "SubscriptionOut":
        """Of the audience or the client with this slug."""
        return cls(
            slug=slug,
            subscribed=agreed is not None and agreed.status == "subscribed",
            status=agreed and agreed.status,
            verified=agreed is not None and agreed.verified_at is not None,
            verified_at=agreed and agreed.verified_at,
            unsubscribed_at=agreed and agreed.unsubscribed_at,
            unsubscribe_reason=(agreed and agreed.reason) or "",
        )


class ValidationOut(Output):
    """What is known of an address."""

    status: str
    reason: str
    validated_at: Timestamp | None


class ContactStatus(Output):
    """How things stand with a contact in an audience. One that this client has no agreement with does not exist."""

    contact_id: int | None
    email: str
    exists: bool
    verified: bool
    verified_at: Timestamp | None
    email_validation: ValidationOut
    global_unsubscribed: bool
    hard_bounced: bool
    complained: bool
    audience: SubscriptionOut
    client: SubscriptionOut
    can_send_marketing: bool
    can_send_transactional: bool


class ContactStatusWithTags(ContactStatus):
    """How things stand with a contact, and the slugs of the tags that it carries in the audience."""

    tags: list[str]


class Unsubscribed(ContactStatus):
    """How things stand with a contact that unsubscribed, and from what."""

    scope: UnsubscribeScope


class ListedContact(ContactStatusWithTags):
    """A contact of a list."""

    subscription_status: Status | None
    unsubscribed: bool
    unsubscribed_at: Timestamp | None
    unsubscribe_reason: str
    created_at: Timestamp
    updated_at: Timestamp


class ContactList(Output):
    """A page of contacts; `count` is its length."""

    audience: str
    client: str
    count: int
    next_cursor: str | None
    contacts: list[ListedContact]


def status_of(subscriber: Subscriber | None, *, email: str, audience: str, client: str) -> dict[str, Any]:
    """The fields of ContactStatus, which is about the one that was asked for where none is there."""
    if subscriber is None or subscriber.own is None:
        return {
            "contact_id": None,
            "email": email.lower(),
            "exists": False,
            "verified": False,
            "verified_at": None,
            "email_validation": ValidationOut(status="unknown", reason="", validated_at=None),
            "global_unsubscribed": False,
            "hard_bounced": False,
            "complained": False,
            "audience": SubscriptionOut.of(audience, None),
            "client": SubscriptionOut.of(client, None),
            "can_send_marketing": False,
            "can_send_transactional": False,
        }
    own, wide = subscriber.own, subscriber.audience_wide
    is_bounced, has_complained = subscriber.hard_bounced_at is not None, subscriber.complained_at is not None
    verified = [subscriber.verified_at, own.verified_at, wide.verified_at if wide else None]
    return {
        "contact_id": subscriber.contact.number,
        "email": subscriber.contact.email.lower(),
        "exists": True,
        "verified": subscriber.verified_at is not None,
        "verified_at": subscriber.verified_at,
        "email_validation": ValidationOut.model_validate(subscriber.email_validation),
        "global_unsubscribed": subscriber.global_unsubscribed_at is not None,
        "hard_bounced": is_bounced,
        "complained": has_complained,
        "audience": SubscriptionOut.of(audience, wide),
        "client": SubscriptionOut.of(client, own),
        "can_send_marketing": any(verified)
        and subscriber.subscribed
        and not is_bounced
        and not has_complained
        and subscriber.email_validation.status not in _UNDELIVERABLE,
        "can_send_transactional": not is_bounced and not has_complained,
    }


def listed(subscriber: Subscriber, tags: Sequence[ContactTag], *, audience: str, client: str) -> ListedContact:
    """A contact of a list, of members that this client has an agreement with."""
    contact, own = subscriber.contact, SubscriptionOut.of(client, subscriber.own)
    return ListedContact(
        **status_of(subscriber, email=contact.email, audience=audience, client=client),
        tags=[tag.slug for tag in tags],
        subscription_status=own.status,
        unsubscribed=own.status == "unsubscribed",
        unsubscribed_at=own.unsubscribed_at,
        unsubscribe_reason=own.unsubscribe_reason,
        created_at=contact.created_at,
        updated_at=contact.updated_at,
    )
