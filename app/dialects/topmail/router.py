"""TopMail's paths: tags, the contacts of a tag, and contacts as far as a client needs them to get at ids."""

from typing import Annotated, Any, cast
from uuid import UUID

from fastapi import Query

from app.dependencies import Subscribers, TagContacts, Tags
from app.dialects.topmail.schemas import (
    SEARCH_WORDS_MAX,
    AssignedAnswer,
    AssignedOut,
    ContactAnswer,
    ContactDetailAnswer,
    ContactDetailOut,
    ContactIds,
    ContactIn,
    ContactOut,
    ContactPage,
    ContactPatch,
    Deleted,
    DeletedAnswer,
    PageDep,
    Pagination,
    TagAnswer,
    TagIn,
    TagOut,
    TagPage,
    TagPatch,
    UnassignedAnswer,
    UnassignedOut,
    Words,
)
from app.frontend import new_router, requires
from app.repositories.contacts import ContactFields
from app.repositories.subscriptions import SubscriptionChange
from app.repositories.tag_contacts import ContactRefs
from app.repositories.tags import TagFields
from app.schemas.base import Text
from app.values import NAME_MAX_LENGTH

tags_router = new_router("tags")
contacts_router = new_router("contacts")


@tags_router.get("/api/v1/tags")
@requires("tags:read", native="GET /tags")
async def list_tags(
    tags: Tags,
    page: PageDep,
    search: Annotated[Text | None, Query(max_length=NAME_MAX_LENGTH, description="Part of the name, any case.")] = None,
) -> TagPage:
    """List all tags with contact counts."""
    found = await tags.list(page, search=search)
    return TagPage(data=[TagOut.from_tag(tag) for tag in found.items], pagination=Pagination.of(found))


@tags_router.get("/api/v1/tags/{tag_id}")
@requires("tags:read", native="GET /tags/{tag_id}")
async def get_tag(tags: Tags, tag_id: UUID) -> TagAnswer:
    """Retrieve a single tag."""
    return TagAnswer(data=TagOut.from_tag(await tags.get(tag_id)))


@tags_router.post("/api/v1/tags", status_code=201)
@requires("tags:write", native="POST /tags")
async def create_tag(tags: Tags, body: TagIn) -> TagAnswer:
    """Create a tag. A name that is taken is 409."""
    made = await tags.create(cast("TagFields", body.model_dump()))
    return TagAnswer(data=TagOut.from_tag(made.tag))


@tags_router.patch("/api/v1/tags/{tag_id}")
@requires("tags:write", native="PATCH /tags/{tag_id}")
async def update_tag(tags: Tags, tag_id: UUID, body: TagPatch) -> TagAnswer:
    """Update a tag. Only the fields that are given change."""
    return TagAnswer(data=TagOut.from_tag(await tags.update(tag_id, cast("TagFields", body.model_dump()))))


@tags_router.delete("/api/v1/tags/{tag_id}")
@requires("tags:write", native="DELETE /tags/{tag_id}")
async def delete_tag(tags: Tags, tag_id: UUID) -> DeletedAnswer:
    """Delete a tag, and take it from all contacts."""
    await tags.delete(tag_id)
    return DeletedAnswer(data=Deleted(id=tag_id, deleted=True))


@tags_router.get("/api/v1/tags/{tag_id}/contacts")
@requires("tags:read", "contacts:read", native="GET /tags/{tag_id}/contacts")
async def list_tag_contacts(
    tag_contacts: TagContacts, subscribers: Subscribers, tag_id: UUID, page: PageDep
) -> ContactPage:
    """List the contacts that carry a tag."""
    found = await tag_contacts.list(tag_id, page)
    members = await subscribers.get_many([item.contact.id for item in found.items])
    return ContactPage(
        data=[
            ContactOut.from_subscriber(members[item.contact.id]) for item in found.items if item.contact.id in members
        ],
        pagination=Pagination.of(found),
    )


@tags_router.post("/api/v1/tags/{tag_id}/contacts")
@requires("tags:write", native="POST /tags/{tag_id}/contacts")
async def assign_tag(tag_contacts: TagContacts, tag_id: UUID, body: ContactIds) -> AssignedAnswer:
    """Assign a tag to up to 500 contacts. Ids that do not exist are skipped and listed."""
    done = await tag_contacts.assign(tag_id, ContactRefs("contact_ids", body.contact_ids), on_missing="skip")
    # Who is in another audience only does not exist here.
    missing = {*done.missing.not_found, *done.missing.not_members}
    return AssignedAnswer(
        data=AssignedOut(
            tag_id=tag_id,
            requested=done.requested,
            added=done.added,
            already_tagged=done.already_assigned,
            not_found=[contact_id for contact_id in dict.fromkeys(body.contact_ids) if contact_id in missing],
        )
    )


@tags_router.delete("/api/v1/tags/{tag_id}/contacts")
@requires("tags:write", native="DELETE /tags/{tag_id}/contacts")
async def unassign_tag(tag_contacts: TagContacts, tag_id: UUID, body: ContactIds) -> UnassignedAnswer:
    """Remove a tag from up to 500 contacts. Those that do not carry it are no error."""
    return await _unassign(tag_contacts, tag_id, body)


@tags_router.post("/api/v1/tags/{tag_id}/contacts/remove")
@requires("tags:write", native="POST /tags/{tag_id}/contacts/remove")
async def unassign_tag_by_post(tag_contacts: TagContacts, tag_id: UUID, body: ContactIds) -> UnassignedAnswer:
    """The same as DELETE, for clients and proxies that drop the body of a DELETE. Not the vendor's."""
    return await _unassign(tag_contacts, tag_id, body)


async def _unassign(tag_contacts: TagContacts, tag_id: UUID, body: ContactIds) -> UnassignedAnswer:
    done = await tag_contacts.unassign(tag_id, ContactRefs("contact_ids", body.contact_ids))
    return UnassignedAnswer(data=UnassignedOut(tag_id=tag_id, requested=done.requested, removed=done.removed))


@contacts_router.get("/api/v1/contacts")
@requires("contacts:read", native="GET /contacts")
async def list_contacts(
    subscribers: Subscribers,
    page: PageDep,
    search: Annotated[
        Words | None, Query(description=f"Parts of the email or of the names, at most {SEARCH_WORDS_MAX} words.")
    ] = None,
    subscribed: Annotated[bool | None, Query(description="Only those who are, or who are not, subscribed.")] = None,
) -> ContactPage:
    """List contacts."""
    found = await subscribers.list(page, words=search, subscribed=subscribed, include_total=True)
    return ContactPage(data=[ContactOut.from_subscriber(one) for one in found.items], pagination=Pagination.of(found))


@contacts_router.post("/api/v1/contacts", status_code=201)
@requires("contacts:write", native="POST /contacts")
async def create_contact(subscribers: Subscribers, body: ContactIn) -> ContactAnswer:
    """Create a contact. An email that has one already is 409."""
    given = body.model_dump()
    own = _subscription(given.pop("subscribed"))
    made = await subscribers.create(cast("ContactFields", given), own=own)
    return ContactAnswer(data=ContactOut.from_subscriber(made))


@contacts_router.get("/api/v1/contacts/{contact_id}")
@requires("contacts:read", native="GET /contacts/{contact_id}")
async def get_contact(subscribers: Subscribers, contact_id: UUID) -> ContactDetailAnswer:
    """Retrieve a contact."""
    return ContactDetailAnswer(data=ContactDetailOut.from_subscriber(await subscribers.get("id", contact_id)))


@contacts_router.patch("/api/v1/contacts/{contact_id}")
@requires("contacts:write", native="PATCH /contacts/{contact_id}")
async def update_contact(subscribers: Subscribers, contact_id: UUID, body: ContactPatch) -> ContactAnswer:
    """Update a contact. Only what is given changes; attributes are merged."""
    given: dict[str, Any] = body.model_dump()
    own = _subscription(given.pop("subscribed")) if "subscribed" in given else None
    changed = await subscribers.update(contact_id, cast("ContactFields", given), own)
    return ContactAnswer(data=ContactOut.from_subscriber(changed))


@contacts_router.delete("/api/v1/contacts/{contact_id}")
@requires("contacts:write", native="DELETE /contacts/{contact_id}/audiences/{slug}")
async def delete_contact(subscribers: Subscribers, contact_id: UUID) -> DeletedAnswer:
    """Delete a contact, with its tags. One that other audiences know stays there."""
    await subscribers.delete(contact_id)
    return DeletedAnswer(data=Deleted(id=contact_id, deleted=True))


def _subscription(subscribed: bool) -> SubscriptionChange:
    return SubscriptionChange("subscribed" if subscribed else "unsubscribed")
