"""TopMail's paths: tags, the contacts of a tag, and contacts as far as a client needs them to get at ids."""

from typing import Annotated, Any, cast
from uuid import UUID

from fastapi import Path, Query

from app.dependencies import Subscribers, TagContacts, Tags
from app.dialects.topmail.schemas import (
    CONTACT_ID,
    SEARCH_WORDS_MAX,
    TAG_ID,
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
from app.errors import Duplicate
from app.frontend import new_router, requires
from app.repositories.contacts import ContactFields
from app.repositories.subscriptions import SubscriptionChange
from app.repositories.tag_contacts import ContactRefs
from app.repositories.tags import TagFields
from app.schemas.base import Text
from app.values import NAME_MAX_LENGTH

tags_router = new_router("tags", "Tags, and the contacts that carry them.")
contacts_router = new_router("contacts", "Contacts, as far as a client needs them to get at ids.")

TagIdParam = Annotated[UUID, Path(description="Id of the tag.", examples=[TAG_ID])]
ContactIdParam = Annotated[UUID, Path(description="Id of the contact.", examples=[CONTACT_ID])]


@tags_router.get("/api/v1/tags", response_description="A page of tags, by name.")
@requires("tags:read", native="GET /tags")
async def topmail_list_tags(
    tags: Tags,
    page: PageDep,
    search: Annotated[
        Text | None,
        Query(max_length=NAME_MAX_LENGTH, description="Part of the name, any case.", examples=["beta"]),
    ] = None,
) -> TagPage:
    """List all tags with contact counts."""
    found = await tags.list(page, search=search)
    return TagPage(data=[TagOut.from_tag(tag) for tag in found.items], pagination=Pagination.of(found))


@tags_router.get("/api/v1/tags/{tag_id}", response_description="The tag.")
@requires("tags:read", native="GET /tags/{tag_id}")
async def topmail_get_tag(tags: Tags, tag_id: TagIdParam) -> TagAnswer:
    """Retrieve a single tag."""
    return TagAnswer(data=TagOut.from_tag(await tags.get(tag_id)))


@tags_router.post("/api/v1/tags", status_code=201, response_description="The tag, which was made.")
@requires("tags:write", native="POST /tags", raises=(Duplicate,))
async def topmail_create_tag(tags: Tags, body: TagIn) -> TagAnswer:
    """Create a tag. A name that is taken is 409."""
    made = await tags.create(cast("TagFields", body.model_dump()))
    return TagAnswer(data=TagOut.from_tag(made.tag))


@tags_router.patch("/api/v1/tags/{tag_id}", response_description="The tag, as it is now.")
@requires("tags:write", native="PATCH /tags/{tag_id}", raises=(Duplicate,))
async def topmail_update_tag(tags: Tags, tag_id: TagIdParam, body: TagPatch) -> TagAnswer:
    """Update a tag. Only the fields that are given change."""
    return TagAnswer(data=TagOut.from_tag(await tags.update(tag_id, cast("TagFields", body.model_dump()))))


@tags_router.delete("/api/v1/tags/{tag_id}", response_description="The tag is gone.")
@requires("tags:write", native="DELETE /tags/{tag_id}")
async def topmail_delete_tag(tags: Tags, tag_id: TagIdParam) -> DeletedAnswer:
    """Delete a tag, and take it from all contacts."""
    await tags.delete(tag_id)
    return DeletedAnswer(data=Deleted(id=tag_id, deleted=True))


@tags_router.get("/api/v1/tags/{tag_id}/contacts", response_description="A page of contacts.")
@requires("tags:read", "contacts:read", native="GET /tags/{tag_id}/contacts")
async def topmail_list_tag_contacts(
    tag_contacts: TagContacts, subscribers: Subscribers, tag_id: TagIdParam, page: PageDep
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


@tags_router.post("/api/v1/tags/{tag_id}/contacts", response_description="The contacts that exist carry the tag.")
@requires("tags:write", native="POST /tags/{tag_id}/contacts")
async def topmail_assign_tag(tag_contacts: TagContacts, tag_id: TagIdParam, body: ContactIds) -> AssignedAnswer:
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


@tags_router.delete(
    "/api/v1/tags/{tag_id}/contacts", response_description="None of the contacts carries the tag any more."
)
@requires("tags:write", native="DELETE /tags/{tag_id}/contacts")
async def topmail_unassign_tag(tag_contacts: TagContacts, tag_id: TagIdParam, body: ContactIds) -> UnassignedAnswer:
    """Remove a tag from up to 500 contacts. Those that do not carry it are no error."""
    return await _unassign(tag_contacts, tag_id, body)


@tags_router.post(
    "/api/v1/tags/{tag_id}/contacts/remove", response_description="None of the contacts carries the tag any more."
)
@requires("tags:write", native="POST /tags/{tag_id}/contacts/remove")
async def topmail_unassign_tag_by_post(
    tag_contacts: TagContacts, tag_id: TagIdParam, body: ContactIds
) -> UnassignedAnswer:
    """Remove a tag from contacts by POST. For clients and proxies that drop the body of a DELETE; not the vendor's."""
    return await _unassign(tag_contacts, tag_id, body)


async def _unassign(tag_contacts: TagContacts, tag_id: UUID, body: ContactIds) -> UnassignedAnswer:
    done = await tag_contacts.unassign(tag_id, ContactRefs("contact_ids", body.contact_ids))
    return UnassignedAnswer(data=UnassignedOut(tag_id=tag_id, requested=done.requested, removed=done.removed))


@contacts_router.get("/api/v1/contacts", response_description="A page of contacts.")
@requires("contacts:read", native="GET /contacts")
async def topmail_list_contacts(
    subscribers: Subscribers,
    page: PageDep,
    search: Annotated[
        Words | None,
        Query(
            description=f"Parts of the email or of the names, at most {SEARCH_WORDS_MAX} words.",
            examples=["ada lovelace"],
        ),
    ] = None,
    subscribed: Annotated[bool | None, Query(description="Only those who are, or who are not, subscribed.")] = None,
) -> ContactPage:
    """List contacts by id, which is nearly the order in which they were made."""
    found = await subscribers.list(page, words=search, subscribed=subscribed, include_total=True)
    return ContactPage(data=[ContactOut.from_subscriber(one) for one in found.items], pagination=Pagination.of(found))


@contacts_router.post("/api/v1/contacts", status_code=201, response_description="The contact, which was made.")
@requires("contacts:write", native="POST /contacts", raises=(Duplicate,))
async def topmail_create_contact(subscribers: Subscribers, body: ContactIn) -> ContactAnswer:
    """Create a contact. An email that has one already is 409."""
    given = body.model_dump()
    own = _subscription(given.pop("subscribed"))
    made = await subscribers.create(cast("ContactFields", given), own=own)
    return ContactAnswer(data=ContactOut.from_subscriber(made))


@contacts_router.get("/api/v1/contacts/{contact_id}", response_description="The contact.")
@requires("contacts:read", native="GET /contacts/{contact_id}")
async def topmail_get_contact(subscribers: Subscribers, contact_id: ContactIdParam) -> ContactDetailAnswer:
    """Retrieve a contact."""
    return ContactDetailAnswer(data=ContactDetailOut.from_subscriber(await subscribers.get("id", contact_id)))


@contacts_router.patch("/api/v1/contacts/{contact_id}", response_description="The contact, as it is now.")
@requires("contacts:write", native="PATCH /contacts/{contact_id}", raises=(Duplicate,))
async def topmail_update_contact(
    subscribers: Subscribers, contact_id: ContactIdParam, body: ContactPatch
) -> ContactAnswer:
    """Update a contact. Only what is given changes; attributes are merged."""
    given: dict[str, Any] = body.model_dump()
    own = _subscription(given.pop("subscribed")) if "subscribed" in given else None
    changed = await subscribers.update(contact_id, cast("ContactFields", given), own)
    return ContactAnswer(data=ContactOut.from_subscriber(changed))


@contacts_router.delete("/api/v1/contacts/{contact_id}", response_description="The contact is gone from the audience.")
@requires("contacts:write", native="DELETE /contacts/{contact_id}/audiences/{slug}")
async def topmail_delete_contact(subscribers: Subscribers, contact_id: ContactIdParam) -> DeletedAnswer:
    """Delete a contact, with its tags. One that other audiences know stays there."""
    await subscribers.delete(contact_id)
    return DeletedAnswer(data=Deleted(id=contact_id, deleted=True))


def _subscription(subscribed: bool) -> SubscriptionChange:
    return SubscriptionChange("subscribed" if subscribed else "unsubscribed")
