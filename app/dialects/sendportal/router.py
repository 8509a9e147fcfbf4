"""SendPortal's paths: the tags of a subscriber, tags, the subscribers of a tag, and subscribers."""

from typing import Annotated
from uuid import UUID

from fastapi import Path, Request, Response
from fastapi.responses import PlainTextResponse
from pydantic import WithJsonSchema

from app.dependencies import ContactTags, PrincipalDep, Subscribers, TagContacts, Tags, demand
from app.dialects.sendportal.bodies import input_of
from app.dialects.sendportal.checks import Check, number_in_path
from app.dialects.sendportal.pages import (
    WHOLE_MAX,
    FixedPagingDep,
    OptionalPagingDep,
    Paging,
    PagingDep,
    page_fields,
)
from app.dialects.sendportal.schemas import (
    NewSubscriberIn,
    NewTagAnswer,
    NewTagOut,
    SubscriberAnswer,
    SubscriberIn,
    SubscriberList,
    SubscriberOut,
    SubscriberPage,
    SubscribersIn,
    TagAnswer,
    TaggedSubscriberAnswer,
    TaggedSubscriberOut,
    TagIn,
    TagList,
    TagOut,
    TagPage,
    TagsIn,
    form_of,
)
from app.errors import Duplicate, NotFound
from app.frontend import new_router, public, requires
from app.logs import shown
from app.repositories.base import Principal
from app.repositories.contact_tags import ContactTagRepository, TagChange, TagRef
from app.repositories.subscribers import SubscriberRepository
from app.repositories.tag_contacts import ContactRefs, TagContactRepository
from app.repositories.tags import TagRepository

subscriber_tags_router = new_router("subscriber tags", "The tags of a subscriber.")
tags_router = new_router("tags", "Tags.")
tag_subscribers_router = new_router("tag subscribers", "The subscribers of a tag.")
subscribers_router = new_router("subscribers", "Subscribers, as far as they carry tags.")
ping_router = new_router("ping", "Whether the service is alive.")

# Text, since what is no number is 404 like one that nothing has, and a number may have more digits than are read.
_NUMBER = WithJsonSchema({"type": "integer", "minimum": 1, "examples": [1]})
TagParam = Annotated[str, Path(description="Id of the tag."), _NUMBER]
SubscriberParam = Annotated[str, Path(description="Id of the subscriber."), _NUMBER]


@subscriber_tags_router.get("/api/v1/subscribers/{subscriber}/tags", response_description="All tags of the subscriber.")
@requires("tags:read", native="GET /contacts/{contact_id}/tags")
async def sendportal_list_subscriber_tags(
    contact_tags: ContactTags, subscribers: Subscribers, subscriber: SubscriberParam
) -> TagList:
    """List the tags of a subscriber."""
    found = await contact_tags.list(await _subscriber_id(subscribers, subscriber))
    return TagList(data=[TagOut.from_tag(tag) for tag in found])


@subscriber_tags_router.post(
    "/api/v1/subscribers/{subscriber}/tags",
    response_description="All tags of the subscriber, as they are now.",
    openapi_extra=form_of(TagsIn),
)
@requires("tags:write", native="POST /contacts/{contact_id}/tags")
async def sendportal_add_subscriber_tags(
    request: Request,
    contact_tags: ContactTags,
    subscribers: Subscribers,
    tags: Tags,
    subscriber: SubscriberParam,
    body: TagsIn | None = None,
) -> TagList:
    """Add tags to a subscriber."""
    refs = await _named_tags(request, body, tags)
    return await _change_tags(contact_tags, TagChange(await _subscriber_id(subscribers, subscriber), add=refs))


@subscriber_tags_router.put(
    "/api/v1/subscribers/{subscriber}/tags",
    response_description="All tags of the subscriber, as they are now.",
    openapi_extra=form_of(TagsIn),
)
@requires("tags:write", native="PUT /contacts/{contact_id}/tags")
async def sendportal_replace_subscriber_tags(
    request: Request,
    contact_tags: ContactTags,
    subscribers: Subscribers,
    tags: Tags,
    subscriber: SubscriberParam,
    body: TagsIn | None = None,
) -> TagList:
    """Replace the tags of a subscriber. An empty list is refused."""
    refs = await _named_tags(request, body, tags)
    contact_id = await _subscriber_id(subscribers, subscriber)
    return await _change_tags(contact_tags, TagChange(contact_id, add=refs, replace=True))


@subscriber_tags_router.delete(
    "/api/v1/subscribers/{subscriber}/tags",
    response_description="The tags that are left.",
    openapi_extra=form_of(TagsIn),
)
@requires("tags:write", native="DELETE /contacts/{contact_id}/tags")
async def sendportal_remove_subscriber_tags(
    request: Request,
    contact_tags: ContactTags,
    subscribers: Subscribers,
    tags: Tags,
    subscriber: SubscriberParam,
    body: TagsIn | None = None,
) -> TagList:
    """Remove tags from a subscriber, and list those that are left."""
    refs = await _named_tags(request, body, tags)
    return await _change_tags(contact_tags, TagChange(await _subscriber_id(subscribers, subscriber), remove=refs))


@tags_router.get("/api/v1/tags", response_description="A page of tags.")
@requires("tags:read", native="GET /tags")
async def sendportal_list_tags(request: Request, tags: Tags, paging: PagingDep) -> TagPage:
    """List tags by name."""
    found = await tags.list(paging.request())
    shown_tags = [TagOut.from_tag(tag) for tag in found.items]
    return TagPage(data=shown_tags, **page_fields(request, paging, len(shown_tags), found.total or 0))


@tags_router.post(
    "/api/v1/tags", status_code=201, response_description="The tag, which was made.", openapi_extra=form_of(TagIn)
)
@requires("tags:write", bulk=True, native="POST /tags", raises=(Duplicate,))
async def sendportal_create_tag(
    request: Request,
    tags: Tags,
    tag_contacts: TagContacts,
    subscribers: Subscribers,
    principal: PrincipalDep,
    body: TagIn | None = None,
) -> NewTagAnswer:
    """Create a tag, and give it to subscribers if there are any. Their names come back: that needs `contacts:read`."""
    given = input_of(request, body)
    if given.get("subscribers"):
        demand(principal, "contacts:read")
    check = Check(given)
    name = await check.name(tags)
    contact_ids = await check.subscribers(subscribers, required=False) or []
    check.done()
    made = await tag_contacts.create_tag({"name": name}, ContactRefs("contact_ids", contact_ids))
    members = await subscribers.get_many(contact_ids)
    carriers = [members[contact_id] for contact_id in contact_ids if contact_id in members]
    return NewTagAnswer(data=NewTagOut.from_tag(made.tag, carriers))


@tags_router.get("/api/v1/tags/{tag}", response_description="The tag.")
@requires("tags:read", native="GET /tags/{tag_id}")
async def sendportal_get_tag(tags: Tags, tag: TagParam) -> TagAnswer:
    """Retrieve a tag."""
    return TagAnswer(data=TagOut.from_tag(await tags.get(await _tag_id(tags, tag))))


@tags_router.put("/api/v1/tags/{tag}", response_description="The tag, as it is now.", openapi_extra=form_of(TagIn))
@requires("tags:write", native="PATCH /tags/{tag_id}", raises=(Duplicate,))
async def sendportal_replace_tag(request: Request, tags: Tags, tag: TagParam, body: TagIn | None = None) -> TagAnswer:
    """Rename a tag. A name that is taken is refused; `subscribers` is passed over."""
    return await _rename(request, tags, tag, body)


@tags_router.patch("/api/v1/tags/{tag}", response_description="The tag, as it is now.", openapi_extra=form_of(TagIn))
@requires("tags:write", native="PATCH /tags/{tag_id}", raises=(Duplicate,))
async def sendportal_update_tag(request: Request, tags: Tags, tag: TagParam, body: TagIn | None = None) -> TagAnswer:
    """Rename a tag, the same as by PUT."""
    return await _rename(request, tags, tag, body)


@tags_router.delete("/api/v1/tags/{tag}", status_code=204, response_description="The tag is gone.")
@requires("tags:write", native="DELETE /tags/{tag_id}")
async def sendportal_delete_tag(tags: Tags, tag: TagParam) -> None:
    """Delete a tag, and take it from all subscribers."""
    await tags.delete(await _tag_id(tags, tag))


@tag_subscribers_router.get(
    "/api/v1/tags/{tag}/subscribers", response_description="The subscribers of the tag, all or a page of them."
)
@requires("tags:read", "contacts:read", native="GET /tags/{tag_id}/contacts")
async def sendportal_list_tag_subscribers(
    request: Request,
    tags: Tags,
    tag_contacts: TagContacts,
    subscribers: Subscribers,
    tag: TagParam,
    paging: OptionalPagingDep,
) -> SubscriberList | SubscriberPage:
    """List the subscribers of a tag. All of them, or a page where one is asked for or there are more than 1,000."""
    return await _list_carriers(request, tag_contacts, subscribers, await _tag_id(tags, tag), paging, was_written=False)


@tag_subscribers_router.post(
    "/api/v1/tags/{tag}/subscribers",
    response_description="The subscribers of the tag, as they are now.",
    openapi_extra=form_of(SubscribersIn),
)
@requires("tags:write", "contacts:read", bulk=True, native="POST /tags/{tag_id}/contacts")
async def sendportal_add_tag_subscribers(
    request: Request,
    tags: Tags,
    tag_contacts: TagContacts,
    subscribers: Subscribers,
    tag: TagParam,
    paging: OptionalPagingDep,
    body: SubscribersIn | None = None,
) -> SubscriberList | SubscriberPage:
    """Give a tag to subscribers, and list all that carry it."""
    named = await _named_subscribers(request, body, subscribers)
    tag_id = await _tag_id(tags, tag)
    await tag_contacts.assign(tag_id, named)
    return await _list_carriers(request, tag_contacts, subscribers, tag_id, paging, was_written=True)


@tag_subscribers_router.put(
    "/api/v1/tags/{tag}/subscribers",
    response_description="The subscribers of the tag, as they are now.",
    openapi_extra=form_of(SubscribersIn),
)
@requires("tags:write", "contacts:read", bulk=True, native="PUT /tags/{tag_id}/contacts")
async def sendportal_replace_tag_subscribers(
    request: Request,
    tags: Tags,
    tag_contacts: TagContacts,
    subscribers: Subscribers,
    tag: TagParam,
    paging: OptionalPagingDep,
    body: SubscribersIn | None = None,
) -> SubscriberList | SubscriberPage:
    """Replace the subscribers of a tag. An empty list is refused."""
    named = await _named_subscribers(request, body, subscribers)
    tag_id = await _tag_id(tags, tag)
    await tag_contacts.replace(tag_id, named)
    return await _list_carriers(request, tag_contacts, subscribers, tag_id, paging, was_written=True)


@tag_subscribers_router.delete(
    "/api/v1/tags/{tag}/subscribers",
    response_description="The subscribers that are left.",
    openapi_extra=form_of(SubscribersIn),
)
@requires("tags:write", "contacts:read", bulk=True, native="DELETE /tags/{tag_id}/contacts")
async def sendportal_remove_tag_subscribers(
    request: Request,
    tags: Tags,
    tag_contacts: TagContacts,
    subscribers: Subscribers,
    tag: TagParam,
    paging: OptionalPagingDep,
    body: SubscribersIn | None = None,
) -> SubscriberList | SubscriberPage:
    """Take a tag from subscribers, and list those that still carry it."""
    named = await _named_subscribers(request, body, subscribers)
    tag_id = await _tag_id(tags, tag)
    await tag_contacts.unassign(tag_id, named)
    return await _list_carriers(request, tag_contacts, subscribers, tag_id, paging, was_written=True)


@subscribers_router.get("/api/v1/subscribers", response_description="A page of subscribers.")
@requires("contacts:read", native="GET /contacts")
async def sendportal_list_subscribers(
    request: Request, subscribers: Subscribers, paging: FixedPagingDep
) -> SubscriberPage:
    """List subscribers by their last names, 25 a page."""
    found = await subscribers.list_by_last_name(paging.request())
    listed = [SubscriberOut.from_subscriber(one) for one in found.items]
    return SubscriberPage(data=listed, **page_fields(request, paging, len(listed), found.total or 0))


@subscribers_router.post(
    "/api/v1/subscribers",
    status_code=201,
    responses={
        200: {"model": TaggedSubscriberAnswer, "description": "The subscriber, which was there and took what was sent."}
    },
    response_description="The subscriber, which was made.",
    openapi_extra=form_of(NewSubscriberIn),
)
@requires("contacts:write", "tags:read", native="POST /contacts", raises=(Duplicate,))
async def sendportal_put_subscriber(
    request: Request,
    response: Response,
    tags: Tags,
    contact_tags: ContactTags,
    subscribers: Subscribers,
    principal: PrincipalDep,
    body: NewSubscriberIn | None = None,
) -> TaggedSubscriberAnswer:
    """Make a subscriber, or update the one with this email (200). `tags` replaces its tags: that needs `tags:write`."""
    given = input_of(request, body)
    if given.get("tags") is not None:
        demand(principal, "tags:write")
    check = Check(given)
    fields = check.contact()
    refs = await check.tags(tags, required=False)
    own = check.subscription()
    check.done()
    done = await subscribers.put(fields, own, tags=refs)
    if not done.joined:
        response.status_code = 200
    carried = await contact_tags.list_of_one(done.subscriber.contact.id)
    return TaggedSubscriberAnswer(data=TaggedSubscriberOut.from_subscriber(done.subscriber, carried))


@subscribers_router.get("/api/v1/subscribers/{subscriber}", response_description="The subscriber.")
@requires("contacts:read", "tags:read", native="GET /contacts/{contact_id}")
async def sendportal_get_subscriber(
    contact_tags: ContactTags, subscribers: Subscribers, subscriber: SubscriberParam
) -> TaggedSubscriberAnswer:
    """Retrieve a subscriber with its tags."""
    number = number_in_path(subscriber)
    found = None if number is None else await subscribers.find("number", number)
    if found is None:
        raise NotFound("contact", shown(subscriber))
    carried = await contact_tags.list(found.contact.id)
    return TaggedSubscriberAnswer(data=TaggedSubscriberOut.from_subscriber(found, carried))


@subscribers_router.put(
    "/api/v1/subscribers/{subscriber}",
    response_description="The subscriber, as it is now.",
    openapi_extra=form_of(SubscriberIn),
)
@requires("contacts:write", native="PATCH /contacts/{contact_id}", raises=(Duplicate,))
async def sendportal_replace_subscriber(
    request: Request,
    tags: Tags,
    subscribers: Subscribers,
    principal: PrincipalDep,
    subscriber: SubscriberParam,
    body: SubscriberIn | None = None,
) -> SubscriberAnswer:
    """Update a subscriber; the email is needed. `tags` replaces its tags: that needs `tags:write`."""
    return await _update_subscriber(request, tags, subscribers, principal, subscriber, body)


@subscribers_router.patch(
    "/api/v1/subscribers/{subscriber}",
    response_description="The subscriber, as it is now.",
    openapi_extra=form_of(SubscriberIn),
)
@requires("contacts:write", native="PATCH /contacts/{contact_id}", raises=(Duplicate,))
async def sendportal_update_subscriber(
    request: Request,
    tags: Tags,
    subscribers: Subscribers,
    principal: PrincipalDep,
    subscriber: SubscriberParam,
    body: SubscriberIn | None = None,
) -> SubscriberAnswer:
    """Update a subscriber, the same as by PUT."""
    return await _update_subscriber(request, tags, subscribers, principal, subscriber, body)


@subscribers_router.delete(
    "/api/v1/subscribers/{subscriber}",
    status_code=204,
    response_description="The subscriber is gone from the audience.",
)
@requires("contacts:write", native="DELETE /contacts/{contact_id}/audiences/{slug}")
async def sendportal_delete_subscriber(subscribers: Subscribers, subscriber: SubscriberParam) -> None:
    """Delete a subscriber, with its tags. One that other audiences know stays there."""
    await subscribers.delete(await _subscriber_id(subscribers, subscriber))


@ping_router.get("/api/v1/ping", response_class=PlainTextResponse, response_description="`ok`.")
@public
async def sendportal_ping() -> str:
    """Answer `ok`."""
    return "ok"


async def _tag_id(tags: TagRepository, sent: str) -> UUID:
    number = number_in_path(sent)
    found = {} if number is None else await tags.ids_by_number([number])
    if number is None or number not in found:
        raise NotFound("tag", shown(sent))
    return found[number]


async def _subscriber_id(subscribers: SubscriberRepository, sent: str) -> UUID:
    number = number_in_path(sent)
    found = {} if number is None else await subscribers.ids_by_number([number])
    if number is None or number not in found:
        raise NotFound("contact", shown(sent))
    return found[number]


async def _named_tags(request: Request, body: TagsIn | None, tags: TagRepository) -> list[TagRef]:
    check = Check(input_of(request, body))
    refs = await check.tags(tags, required=True)
    check.done()
    return refs or []


async def _named_subscribers(
    request: Request, body: SubscribersIn | None, subscribers: SubscriberRepository
) -> ContactRefs:
    check = Check(input_of(request, body))
    contact_ids = await check.subscribers(subscribers, required=True)
    check.done()
    return ContactRefs("contact_ids", contact_ids or [])


async def _change_tags(contact_tags: ContactTagRepository, change: TagChange) -> TagList:
    done = await contact_tags.change(change, create_missing=False)
    return TagList(data=[TagOut.from_tag(tag) for tag in done.tags])


async def _list_carriers(
    request: Request,
    tag_contacts: TagContactRepository,
    subscribers: SubscriberRepository,
    tag_id: UUID,
    paging: Paging | None,
    *,
    was_written: bool,
) -> SubscriberList | SubscriberPage:
    wanted = paging or Paging(1, WHOLE_MAX)
    found = await tag_contacts.list(tag_id, wanted.request(), gone_is_empty=was_written)
    members = await subscribers.get_many([item.contact.id for item in found.items])
    listed = [
        SubscriberOut.from_subscriber(members[item.contact.id]) for item in found.items if item.contact.id in members
    ]
    if paging is None and (found.total or 0) <= WHOLE_MAX:
        return SubscriberList(data=listed)
    return SubscriberPage(data=listed, **page_fields(request, wanted, len(listed), found.total or 0))


async def _rename(request: Request, tags: TagRepository, sent: str, body: TagIn | None) -> TagAnswer:
    check = Check(input_of(request, body))
    name = await check.name(tags, of=number_in_path(sent))
    check.ignored_subscribers()
    check.done()
    changed = await tags.update(await _tag_id(tags, sent), {"name": name})
    return TagAnswer(data=TagOut.from_tag(changed))


async def _update_subscriber(
    request: Request,
    tags: TagRepository,
    subscribers: SubscriberRepository,
    principal: Principal,
    sent: str,
    body: SubscriberIn | None,
) -> SubscriberAnswer:
    given = input_of(request, body)
    if given.get("tags") is not None:
        demand(principal, "tags:write")
    check = Check(given)
    fields = check.contact()
    refs = await check.tags(tags, required=False)
    check.done()
    changed = await subscribers.update(await _subscriber_id(subscribers, sent), fields, tags=refs, tags_mode="replace")
    return SubscriberAnswer(data=SubscriberOut.from_subscriber(changed))
