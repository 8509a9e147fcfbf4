"""The contacts of a tag: list, assign, replace, remove."""

from typing import Annotated, cast

from fastapi import Query, Request, Response

from app.dependencies import PageDep, TagContacts
from app.frontend import new_router, requires
from app.repositories.tag_contacts import ContactField, ContactRefs, Missing
from app.routers.parameters import LINKED, OnMissingParam, TagIdDep, link_next
from app.schemas.assignments import (
    AssignmentAdded,
    AssignmentRemoved,
    AssignmentReplaced,
    ContactsNamed,
    ContactsPut,
    TagContactList,
    TagContactRead,
)
from app.schemas.base import Instant
from app.schemas.contacts import ContactRead
from app.schemas.fields import TIME
from app.schemas.pagination import Pagination

router = new_router("tag contacts", "The contacts of a tag: list, assign, replace, remove, up to 10,000 at once.")


@router.get("/tags/{tag_id}/contacts", response_description="A page of contacts.", responses={200: LINKED})
@requires("tags:read", "contacts:read")
async def list_tag_contacts(
    request: Request,
    response: Response,
    tag_contacts: TagContacts,
    tag_id: TagIdDep,
    page: PageDep,
    assigned_after: Annotated[
        Instant | None,
        Query(description="Only those assigned later than this: RFC 3339, with a zone.", examples=[TIME]),
    ] = None,
    assigned_before: Annotated[
        Instant | None,
        Query(description="Only those assigned earlier than this: RFC 3339, with a zone.", examples=[TIME]),
    ] = None,
    include_total: Annotated[
        bool, Query(description="Count the list where a time limits it; else the total is null then.")
    ] = False,
) -> TagContactList:
    """List the contacts that carry a tag, by id, with the time since when."""
    found = await tag_contacts.list(
        tag_id, page, assigned_after=assigned_after, assigned_before=assigned_before, include_total=include_total
    )
    link_next(request, response, found)
    return TagContactList(
        data=[
            TagContactRead(**ContactRead.model_validate(item.contact).model_dump(), assigned_at=item.assigned_at)
            for item in found.items
        ],
        pagination=Pagination.of(found),
    )


@router.post("/tags/{tag_id}/contacts", response_description="What it did.")
@requires("tags:write", bulk=True)
async def assign_tag(
    tag_contacts: TagContacts, tag_id: TagIdDep, body: ContactsNamed, on_missing: OnMissingParam = "error"
) -> AssignmentAdded:
    """Give a tag to up to 10,000 contacts. Who carries it already keeps the time since when."""
    done = await tag_contacts.assign(tag_id, _refs(body), on_missing=on_missing)
    return AssignmentAdded(
        requested=done.requested,
        added=done.added,
        already_assigned=done.already_assigned,
        **_missing(done.missing),
        contact_count=done.contact_count,
    )


@router.put("/tags/{tag_id}/contacts", response_description="What it did.")
@requires("tags:write", bulk=True)
async def replace_tag_contacts(
    tag_contacts: TagContacts, tag_id: TagIdDep, body: ContactsPut, on_missing: OnMissingParam = "error"
) -> AssignmentReplaced:
    """Make these contacts, and no others, carry the tag. An empty list takes it from all."""
    done = await tag_contacts.replace(tag_id, _refs(body), on_missing=on_missing)
    return AssignmentReplaced(
        requested=done.requested,
        added=done.added,
        removed=done.removed,
        kept=done.kept,
        **_missing(done.missing),
        contact_count=done.contact_count,
    )


@router.delete("/tags/{tag_id}/contacts", response_description="What it did.")
@requires("tags:write", bulk=True)
async def remove_tag_contacts(tag_contacts: TagContacts, tag_id: TagIdDep, body: ContactsNamed) -> AssignmentRemoved:
    """Take a tag from up to 10,000 contacts. The body says from whom; without one nothing is removed."""
    return await _remove(tag_contacts, tag_id, body)


@router.post("/tags/{tag_id}/contacts/remove", response_description="What it did.")
@requires("tags:write", bulk=True)
async def remove_tag_contacts_by_post(
    tag_contacts: TagContacts, tag_id: TagIdDep, body: ContactsNamed
) -> AssignmentRemoved:
    """Take a tag from up to 10,000 contacts, by POST. For clients and proxies that drop the body of a DELETE."""
    return await _remove(tag_contacts, tag_id, body)


async def _remove(tag_contacts: TagContacts, tag_id: TagIdDep, body: ContactsNamed) -> AssignmentRemoved:
    done = await tag_contacts.unassign(tag_id, _refs(body))
    return AssignmentRemoved(
        requested=done.requested,
        removed=done.removed,
        not_assigned=done.not_assigned,
        not_found=[str(value) for value in done.not_found],
        contact_count=done.contact_count,
    )


def _refs(body: ContactsPut) -> ContactRefs:
    [(field, values)] = body.model_dump().items()
    return ContactRefs(cast("ContactField", field), values)


def _missing(missing: Missing) -> dict[str, list[str]]:
    return {
        "not_found": [str(value) for value in missing.not_found],
        "not_members": [str(value) for value in missing.not_members],
    }
