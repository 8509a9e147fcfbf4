"""Bodies and answers on Datamailer's wire.

Fields come in as they are sent: which of them is looked at when is for checks.py to say. The documented type of each
stands beside it.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, get_args

from pydantic import MISSING, Field, WithJsonSchema
from pydantic.config import JsonDict

from app.repositories.contact_tags import ContactTag
from app.repositories.subscribers import Subscriber, Suppression
from app.repositories.subscriptions import Subscription, SubscriptionStatus
from app.schemas.base import LooseInput, Output, Timestamp, with_example
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


# Names of a workspace as it is when it was just set up.
_SCOPE = {"audience": "newsletter", "client": "default"}
_ADA = {"email": "ada@example.com", **_SCOPE}

# What bodies and queries both take.
AUDIENCE_SCHEMA: JsonDict = {"type": "string", "minLength": 1, "examples": [_SCOPE["audience"]]}
CLIENT_SCHEMA: JsonDict = {"type": "string", "minLength": 1, "examples": [_SCOPE["client"]]}
EMAIL_SCHEMA: JsonDict = {
    "type": "string",
    "format": "email",
    "maxLength": EMAIL_MAX_LENGTH,
    "examples": [_ADA["email"]],
}

# Any JSON value, or none; documented as what it should be.
_Audience = Annotated[Any | MISSING, WithJsonSchema(AUDIENCE_SCHEMA)]
_Client = Annotated[Any | MISSING, WithJsonSchema(CLIENT_SCHEMA)]
_Email = Annotated[Any | MISSING, WithJsonSchema(EMAIL_SCHEMA)]
_Status = Annotated[Any | MISSING, WithJsonSchema({"type": "string", "enum": list(get_args(Status))})]
_UnsubscribeScope = Annotated[
    Any | MISSING, WithJsonSchema({"type": "string", "enum": list(get_args(UnsubscribeScope))})
]
_Reason = Annotated[
    Any | MISSING,
    WithJsonSchema({"type": "string", "maxLength": REASON_MAX_LENGTH, "examples": ["Too many mails."]}),
]
_Flag = Annotated[Any | MISSING, WithJsonSchema({"type": "boolean", "examples": [True]})]
_Tags = Annotated[
    Any | MISSING,
    WithJsonSchema(
        {
            "type": "array",
            "items": {"type": "string", "minLength": 1, "maxLength": NAME_MAX_LENGTH},
            "maxItems": TAGS_MAX,
            "examples": [["VIP", "Early Bird"]],
        }
    ),
]
_Validation = Annotated[
    Any | MISSING,
    WithJsonSchema(
        {
            "type": "object",
            "properties": {
                "status": {
                    "type": "string",
                    "enum": list(get_args(ValidationStatus)),
                    "description": "What was found out. `unknown` if left out.",
                },
                "reason": {
                    "type": "string",
                    "maxLength": REASON_MAX_LENGTH,
                    "description": "How it was found out. Empty if left out.",
                },
                "validated_at": {
                    "type": "string",
                    "format": "date-time",
                    "description": "When it was found out: in UTC, where it has no zone.",
                },
            },
            "examples": [
                {"status": "valid", "reason": "The mailbox answers.", "validated_at": "2026-11-22T19:28:29Z"},
            ],
        }
    ),
]
_SUPPRESSIONS: dict[Suppression, str] = {
    "global_unsubscribed": "Whether it unsubscribed from everything.",
    "hard_bounced": "Whether mail to it came back for good.",
    "complained": "Whether it called mail spam.",
}
_Suppression = Annotated[
    Any | MISSING,
    WithJsonSchema(
        {
            "type": "object",
            "properties": {
                name: {"type": "boolean", "description": _SUPPRESSIONS[name]} for name in get_args(Suppression)
            },
            "examples": [{"hard_bounced": True}],
        },
    ),
]


class Scoped(LooseInput):
    """The audience that a call is about, and the client that makes it. Both are needed."""

    model_config = with_example(_SCOPE, required=["audience", "client"])

    audience: Annotated[_Audience, Field(description="Slug of the audience.")] = MISSING
    client: Annotated[_Client, Field(description="Slug of the client that the key belongs to.")] = MISSING


class TagsIn(Scoped):
    """The tags that a contact shall carry in the audience."""

    model_config = with_example({**_SCOPE, "tags": ["VIP", "Early Bird"]}, required=["audience", "client", "tags"])

    tags: Annotated[
        _Tags,
        Field(description="All tags that it shall carry, by name. A name that is new makes a tag. [] takes all away."),
    ] = MISSING


_ADDRESSED = ["email", "audience", "client"]


class Addressed(Scoped):
    """A contact by its email, in an audience."""

    model_config = with_example(_ADA, required=_ADDRESSED)

    email: Annotated[_Email, Field(description="The address. Compared whatever its case.")] = MISSING


class ContactIn(Addressed):
    """A contact that shall be there. What is left out stays as it is."""

    model_config = with_example({**_ADA, "status": "subscribed", "tags": ["Early Bird"]}, required=_ADDRESSED)

    status: Annotated[
        _Status, Field(description="What it agreed to with this client. A new one is `pending` if this is left out.")
    ] = MISSING
    tags: Annotated[_Tags, Field(description="Tags to add, by name. A name that is new makes a tag.")] = MISSING
    verified: Annotated[
        _Flag,
        Field(description="Whether the address was confirmed for this client. A new one is not if this is left out."),
    ] = MISSING
    email_validation: Annotated[
        _Validation, Field(description="What was found out about the address. It replaces what was known.")
    ] = MISSING
    suppression: Annotated[
        _Suppression, Field(description="What keeps it from being written to. Flags that are left out stay.")
    ] = MISSING


class SubscribeIn(Addressed):
    """A contact that subscribes with this client."""

    model_config = with_example({**_ADA, "tags": ["Early Bird"]}, required=_ADDRESSED)

    tags: Annotated[_Tags, Field(description="Tags to add, by name. A name that is new makes a tag.")] = MISSING


class UnsubscribeIn(Addressed):
    """A contact that unsubscribes."""

    model_config = with_example(
        {**_ADA, "scope": "client", "reason": "Too many mails."}, required=[*_ADDRESSED, "scope"]
    )

    scope: Annotated[
        _UnsubscribeScope, Field(description="From this client, from the whole audience, or from everything.")
    ] = MISSING
    reason: Annotated[_Reason, Field(description="Why, in words. Without one a reason that is known stays.")] = MISSING


class SubscriptionOut(Output):
    """What a contact agreed to. Without any agreement the status is null."""

    slug: str = Field(description="Slug of the audience or of the client.")
    subscribed: bool = Field(description="Whether the status is `subscribed`.")
    status: Status | None = Field(description="What it agreed to. null where it agreed to nothing.")
    verified: bool = Field(description="Whether the address was confirmed for this.")
    verified_at: Timestamp | None = Field(description="When it was first confirmed, in UTC. null where it was not.")
    unsubscribed_at: Timestamp | None = Field(
        description="When it first unsubscribed, in UTC. null where it is not unsubscribed."
    )
    unsubscribe_reason: str = Field(description="Why it unsubscribed. Empty where no reason is known.")

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

    status: str = Field(
        description="What was found out: `unknown`, `valid`, `invalid_syntax`, `no_mx`, `disposable`, `risky`, "
        "`manually_invalid` or `externally_validated`."
    )
    reason: str = Field(description="How it was found out. Empty where that is not known.")
    validated_at: Timestamp | None = Field(description="When it was found out, in UTC. null where that is not known.")


class ContactStatus(Output):
    """How things stand with a contact in an audience. One that this client has no agreement with does not exist."""

    contact_id: int | None = Field(description="Id of the contact, a number. null where it does not exist.")
    email: str = Field(description="The address, in lower case.")
    exists: bool = Field(description="Whether this client has an agreement with it in this audience.")
    verified: bool = Field(description="Whether the address was confirmed, whoever asked.")
    verified_at: Timestamp | None = Field(description="When it was confirmed, in UTC. null where it was not.")
    email_validation: ValidationOut = Field(description="What is known of the address.")
    global_unsubscribed: bool = Field(description="Whether it unsubscribed from everything.")
    hard_bounced: bool = Field(description="Whether mail to it came back for good.")
    complained: bool = Field(description="Whether it called mail spam.")
    audience: SubscriptionOut = Field(description="What it agreed to with the whole audience.")
    client: SubscriptionOut = Field(description="What it agreed to with this client.")
    can_send_marketing: bool = Field(
        description="Whether marketing may be sent to it. This service sends nothing, and only tells."
    )
    can_send_transactional: bool = Field(
        description="Whether mail that it asked for may be sent to it. This service sends nothing, and only tells."
    )


class ContactStatusWithTags(ContactStatus):
    """How things stand with a contact, and the slugs of the tags that it carries in the audience."""

    tags: list[str] = Field(description="The slugs of its tags in the audience, in the order of code points.")


class Unsubscribed(ContactStatus):
    """How things stand with a contact that unsubscribed, and from what."""

    scope: UnsubscribeScope = Field(description="From what it unsubscribed.")


class ListedContact(ContactStatusWithTags):
    """A contact of a list."""

    subscription_status: Status | None = Field(description="The same as `client.status`.")
    unsubscribed: bool = Field(description="Whether that is `unsubscribed`.")
    unsubscribed_at: Timestamp | None = Field(description="The same as `client.unsubscribed_at`.")
    unsubscribe_reason: str = Field(description="The same as `client.unsubscribe_reason`.")
    created_at: Timestamp = Field(description="When the contact was made, in UTC.")
    updated_at: Timestamp = Field(
        description="When the contact was last changed, in UTC. Its tags and agreements do not count."
    )


class ContactList(Output):
    """A page of contacts; `count` is its length."""

    audience: str = Field(description="Slug of the audience.")
    client: str = Field(description="Slug of the client.")
    count: int = Field(description="How many contacts this page has.")
    next_cursor: str | None = Field(description="What to send as `cursor` for the next page. null on the last one.")
    contacts: list[ListedContact] = Field(description="The contacts of this page.")


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


class FieldErrors(Output):
    """What is wrong with fields, by codes."""

    code: Literal["validation_error"] = Field(description="Always this.")
    fields: dict[str, str] = Field(description="The code of each field at fault.")


class CodedError(Output):
    """What kept a call from being done."""

    code: str = Field(description="Which error it is, for programs.")
    message: Annotated[str | MISSING, Field(description="What happened, in words.")] = MISSING
    allowed_methods: Annotated[list[str] | MISSING, Field(description="With 405: the methods of the path.")] = MISSING


class ErrorOut(Output):
    """Every error looks like this."""

    error: FieldErrors | CodedError = Field(description="Wrong fields, each with a code; or one code with a message.")
