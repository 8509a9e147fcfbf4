"""Datamailer's paths: the three tag calls, and those of contacts and subscriptions that a client needs besides."""

from dataclasses import dataclass
from typing import Annotated, get_args

from fastapi import Body, Depends, Path, Query, Request
from pydantic import WithJsonSchema
from starlette.convertors import Convertor, register_url_convertor

from app.dependencies import Audiences, ContactTags, PrincipalDep, Subscribers, Tags
from app.dialects.datamailer.checks import (
    FILTER_TAGS_MAX,
    FILTERS_NOT_SERVED,
    LIMIT_DEFAULT,
    LIMIT_MAX,
    Scope,
    check_contact,
    check_limit,
    check_names,
    check_new_tags,
    check_reason,
    check_scope,
    check_statuses,
    check_tag,
    check_tags,
    check_unsubscribe_scope,
    find_filter,
    refusal,
)
from app.dialects.datamailer.schemas import (
    AUDIENCE_SCHEMA,
    CLIENT_SCHEMA,
    EMAIL_SCHEMA,
    Addressed,
    ContactIn,
    ContactList,
    ContactStatus,
    ContactStatusWithTags,
    Scoped,
    Status,
    SubscribeIn,
    TagsIn,
    Unsubscribed,
    UnsubscribeIn,
    listed,
    status_of,
)
from app.errors import NotFound
from app.frontend import NEEDED, new_router, requires
from app.pagination import CURSOR_EXAMPLE, PageRequest
from app.repositories.audiences import AudienceRepository
from app.repositories.base import Principal
from app.repositories.contact_tags import ContactTagRepository, TagChange
from app.repositories.subscribers import Subscriber, SubscriberChange, SubscriberRepository
from app.repositories.subscriptions import SubscriptionChange
from app.values import SLUG_MAX_LENGTH

tags_router = new_router("tags", "The tags of a contact in an audience.")
contacts_router = new_router("contacts", "Contacts and their status in an audience.")
subscriptions_router = new_router("subscriptions", "Subscribing and unsubscribing, with tags.")


class _Digits(Convertor[str]):
    # As text, since a number can have more digits than are read.
    regex = "[0-9]+"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


class _Slug(_Digits):
    regex = "[-a-zA-Z0-9_]+"


# What does not look like one is no path of this API, key or no key.
register_url_convertor("datamailer_id", _Digits())
register_url_convertor("datamailer_slug", _Slug())

_NUMBER_MAX = 2**63 - 1

# One that is missing is looked at like an empty object, by the checks that say what is missing in it.
_BODY_IS_NEEDED = {"requestBody": {"required": True}}


ContactIdParam = Annotated[
    str, Path(description="Id of the contact."), WithJsonSchema({"type": "integer", "minimum": 1, "examples": [1]})
]
TagSlugParam = Annotated[
    str,
    Path(
        description="Slug of the tag. It is brought into the form of slugs first: small letters, and hyphens "
        "between them."
    ),
    WithJsonSchema(
        {"type": "string", "pattern": f"^{_Slug.regex}$", "maxLength": SLUG_MAX_LENGTH, "examples": ["early-bird"]}
    ),
]
AudienceParam = Annotated[
    str, Query(description="Slug of the audience."), WithJsonSchema({**AUDIENCE_SCHEMA, NEEDED: True})
]
ClientParam = Annotated[
    str,
    Query(description="Slug of the client that the key belongs to."),
    WithJsonSchema({**CLIENT_SCHEMA, NEEDED: True}),
]


@dataclass(frozen=True, slots=True)
class _Subject:
    """The contact that a tag call is about, in the audience that it names."""

    scope: Scope
    subscriber: Subscriber


async def _subject(
    subscribers: Subscribers,
    audiences: Audiences,
    principal: PrincipalDep,
    contact_id: ContactIdParam,
    body: Scoped | None = None,
    audience: Annotated[
        str,
        Query(description="Slug of the audience. Needed where there is no body."),
        WithJsonSchema(AUDIENCE_SCHEMA),
    ] = "",
    client: Annotated[
        str,
        Query(description="Slug of the client that the key belongs to. Needed where there is no body."),
        WithJsonSchema(CLIENT_SCHEMA),
    ] = "",
) -> _Subject:
    return await _find_subject(
        subscribers, audiences, principal, contact_id, body or Scoped(audience=audience, client=client)
    )


_SubjectDep = Annotated[_Subject, Depends(_subject)]


@tags_router.put(
    "/api/contacts/{contact_id:datamailer_id}/tags",
    openapi_extra=_BODY_IS_NEEDED,
    response_description="How things stand with the contact, and all its tags.",
)
@requires("tags:write", "contacts:read", native="PUT /contacts/{contact_id}/tags")
async def datamailer_replace_contact_tags(
    contact_tags: ContactTags,
    subscribers: Subscribers,
    audiences: Audiences,
    principal: PrincipalDep,
    contact_id: ContactIdParam,
    body: Annotated[TagsIn, Body(default_factory=TagsIn)],
) -> ContactStatusWithTags:
    """Replace all tags that a contact carries in an audience. Names that mean no tag make one."""
    subject = await _find_subject(subscribers, audiences, principal, contact_id, body)
    change = TagChange(subject.subscriber.contact.id, add=check_tags(body.tags), replace=True)
    return await _change_tags(contact_tags, subject, change)


@tags_router.post(
    "/api/contacts/{contact_id:datamailer_id}/tags/{tag_slug:datamailer_slug}",
    response_description="How things stand with the contact, and all its tags.",
)
@requires("tags:write", "contacts:read", native="PUT /contacts/{contact_id}/tags/{slug}")
async def datamailer_add_contact_tag(
    contact_tags: ContactTags, subject: _SubjectDep, tag_slug: TagSlugParam
) -> ContactStatusWithTags:
    """Add one tag. A slug that means no tag makes one, named after it."""
    change = TagChange(subject.subscriber.contact.id, add=[check_tag(tag_slug)])
    return await _change_tags(contact_tags, subject, change)


@tags_router.delete(
    "/api/contacts/{contact_id:datamailer_id}/tags/{tag_slug:datamailer_slug}",
    response_description="How things stand with the contact, and the tags that are left.",
)
@requires("tags:write", "contacts:read", native="DELETE /contacts/{contact_id}/tags/{slug}")
async def datamailer_remove_contact_tag(
    contact_tags: ContactTags, subject: _SubjectDep, tag_slug: TagSlugParam
) -> ContactStatusWithTags:
    """Remove one tag. No error when the contact does not carry it, or when there is no such tag."""
    change = TagChange(subject.subscriber.contact.id, remove=[check_tag(tag_slug)])
    return await _change_tags(contact_tags, subject, change)


@contacts_router.get("/api/contacts", response_description="A page of contacts.")
@requires("contacts:read", "tags:read", native="GET /contacts")
async def datamailer_list_contacts(
    request: Request,
    all_tags: Tags,
    contact_tags: ContactTags,
    subscribers: Subscribers,
    audiences: Audiences,
    principal: PrincipalDep,
    audience: AudienceParam = "",
    client: ClientParam = "",
    tags: Annotated[
        str,
        Query(
            description="Only those who carry all of these tags: names or slugs with commas between, at most "
            f"{FILTER_TAGS_MAX}.",
            examples=["vip,early-bird"],
        ),
    ] = "",
    subscription_status: Annotated[
        str,
        Query(description="Only those whose agreement with this client has this status."),
        WithJsonSchema({"type": "string", "enum": list(get_args(Status))}),
    ] = "",
    cursor: Annotated[
        str,
        Query(
            description="The `next_cursor` of the page before, as it is, with the same filters.",
            examples=[CURSOR_EXAMPLE],
        ),
    ] = "",
    offset: Annotated[
        str,
        Query(
            description="Another name of `cursor`, which counts where both are sent.",
            examples=[CURSOR_EXAMPLE],
        ),
    ] = "",
    limit: Annotated[
        Annotated[
            str | None,
            WithJsonSchema({"type": "integer", "minimum": 1, "maximum": LIMIT_MAX, "examples": [LIMIT_DEFAULT]}),
        ],
        Query(description=f"The most contacts that a page has, {LIMIT_DEFAULT} if left out."),
    ] = None,
) -> ContactList:
    """List the contacts that this client has an agreement with, with their tags."""
    scope = await check_scope(Scoped(audience=audience, client=client), principal, audiences)
    if not_served := [name for name in FILTERS_NOT_SERVED if request.query_params.get(name)]:
        raise refusal(dict.fromkeys(not_served, "not_supported"))
    names, statuses = check_names(tags), check_statuses(subscription_status)
    page = await subscribers.list(
        PageRequest(check_limit(limit or ""), cursor=cursor or offset or None),
        audience=scope.audience,
        statuses=statuses,
        tags=await find_filter(names, all_tags, scope.audience),
        unknown_tags="nobody",
    )
    carried = await contact_tags.list_of_many([one.contact.id for one in page.items], audience=scope.audience)
    return ContactList(
        audience=scope.audience,
        client=scope.client,
        count=len(page.items),
        next_cursor=page.next_cursor,
        contacts=[
            listed(one, carried[one.contact.id], audience=scope.audience, client=scope.client) for one in page.items
        ],
    )


@contacts_router.post(
    "/api/contacts",
    openapi_extra=_BODY_IS_NEEDED,
    response_description="How things stand with the contact, and all its tags.",
)
@requires("contacts:write", "tags:write", native="POST /contacts")
async def datamailer_upsert_contact(
    contact_tags: ContactTags,
    subscribers: Subscribers,
    audiences: Audiences,
    principal: PrincipalDep,
    body: Annotated[ContactIn, Body(default_factory=ContactIn)],
) -> ContactStatusWithTags:
    """Make or update a contact by its email, and what it agreed to with this client."""
    scope = await check_scope(body, principal, audiences)
    tags = check_new_tags(body.tags)
    done = await subscribers.upsert({"email": scope.email}, check_contact(body), tags=tags, audience=scope.audience)
    return await _with_tags_now(contact_tags, done, scope)


@contacts_router.get("/api/contacts/status", response_description="How things stand with the address.")
@requires("contacts:read", native="GET /contacts/{contact_id}/audiences")
async def datamailer_get_contact_status(
    subscribers: Subscribers,
    audiences: Audiences,
    principal: PrincipalDep,
    email: Annotated[
        str,
        Query(description="The address. Compared whatever its case."),
        WithJsonSchema({**EMAIL_SCHEMA, NEEDED: True}),
    ] = "",
    audience: AudienceParam = "",
    client: ClientParam = "",
) -> ContactStatus:
    """Tell how things stand with an address. One that is not known here is no error: `exists` is false then."""
    body = Addressed(email=email, audience=audience, client=client)
    scope = await check_scope(body, principal, audiences, finds_audience=True)
    found = await subscribers.find("email", scope.email, audience=scope.audience)
    return ContactStatus(**status_of(found, email=scope.email, audience=scope.audience, client=scope.client))


@subscriptions_router.post(
    "/api/subscriptions/subscribe",
    openapi_extra=_BODY_IS_NEEDED,
    response_description="How things stand with the contact, and all its tags.",
)
@requires("contacts:write", "tags:write", native="PUT /contacts/{contact_id}/audiences/{slug}")
async def datamailer_subscribe(
    contact_tags: ContactTags,
    subscribers: Subscribers,
    audiences: Audiences,
    principal: PrincipalDep,
    body: Annotated[SubscribeIn, Body(default_factory=SubscribeIn)],
) -> ContactStatusWithTags:
    """Subscribe an address with this client, confirmed. One that is not known yet is made."""
    scope = await check_scope(body, principal, audiences)
    tags = check_new_tags(body.tags)
    change = SubscriberChange(own=SubscriptionChange("subscribed", verified=True))
    done = await subscribers.upsert({"email": scope.email}, change, tags=tags, audience=scope.audience)
    return await _with_tags_now(contact_tags, done, scope)


@subscriptions_router.post(
    "/api/subscriptions/unsubscribe",
    openapi_extra=_BODY_IS_NEEDED,
    response_description="How things stand with the contact.",
)
@requires("contacts:write", native="PUT /contacts/{contact_id}/audiences/{slug}")
async def datamailer_unsubscribe(
    subscribers: Subscribers,
    audiences: Audiences,
    principal: PrincipalDep,
    body: Annotated[UnsubscribeIn, Body(default_factory=UnsubscribeIn)],
) -> Unsubscribed:
    """Unsubscribe an address from this client, from the audience, or from everything. Its tags stay."""
    ends = check_unsubscribe_scope(body)
    scope = await check_scope(body, principal, audiences)
    reason = check_reason(body.reason)
    ended = SubscriptionChange("unsubscribed", reason or None, has_reason=bool(reason))
    changes: dict[str, SubscriberChange] = {
        "client": SubscriberChange(own=ended),
        "audience": SubscriberChange(audience_wide=ended),
        "global": SubscriberChange(suppressions={"global_unsubscribed": True}),
    }
    # Who writes to nobody from anywhere needs not be a member of this audience for it.
    done = await subscribers.upsert(
        {"email": scope.email}, changes[ends], joins=ends != "global", audience=scope.audience
    )
    return Unsubscribed(**status_of(done, email=scope.email, audience=scope.audience, client=scope.client), scope=ends)


async def _find_subject(
    subscribers: SubscriberRepository,
    audiences: AudienceRepository,
    principal: Principal,
    contact_id: str,
    body: Scoped,
) -> _Subject:
    """A contact that this client has an agreement with in the audience; to it there are no others."""
    scope = await check_scope(body, principal, audiences, finds_audience=True)
    digits = contact_id.lstrip("0")
    # No contact has the number 0.
    number = int(digits) if digits and len(digits) <= len(str(_NUMBER_MAX)) else 0
    found = await subscribers.find("number", number if number <= _NUMBER_MAX else 0, audience=scope.audience)
    if found is None or found.own is None:
        raise NotFound("contact", number)
    return _Subject(scope, found)


async def _change_tags(
    contact_tags: ContactTagRepository, subject: _Subject, change: TagChange
) -> ContactStatusWithTags:
    done = await contact_tags.change(change, audience=subject.scope.audience)
    return _with_tags(subject.subscriber, [tag.slug for tag in done.tags], subject.scope)


def _with_tags(subscriber: Subscriber | None, tags: list[str], scope: Scope) -> ContactStatusWithTags:
    fields = status_of(subscriber, email=scope.email, audience=scope.audience, client=scope.client)
    return ContactStatusWithTags(**fields, tags=tags)


async def _with_tags_now(
    contact_tags: ContactTagRepository, subscriber: Subscriber | None, scope: Scope
) -> ContactStatusWithTags:
    carried = (
        [] if subscriber is None else await contact_tags.list_of_one(subscriber.contact.id, audience=scope.audience)
    )
    return _with_tags(subscriber, [tag.slug for tag in carried], scope)
