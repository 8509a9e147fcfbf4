"""Contacts: make or update, change, delete, and which audiences they are in."""

from typing import Annotated, cast
from uuid import UUID

from fastapi import Query, Request, Response

from app.dependencies import Contacts, ContactUpserts, Memberships, PrincipalDep, demand
from app.errors import AppError, Duplicate
from app.frontend import new_router, requires
from app.repositories.contact_tags import TagRef
from app.repositories.contact_upserts import ContactConflict, NewContact, TagsMode, Upserted
from app.repositories.contacts import ContactFields
from app.routers.parameters import AudienceParam, locate
from app.routers.problems import code_of
from app.schemas.base import Text
from app.schemas.contacts import (
    ContactBatch,
    ContactBatchResult,
    ContactCreate,
    ContactOutcome,
    ContactRead,
    ContactUpdate,
    MembershipList,
    MembershipPut,
    MembershipRead,
    OutcomeError,
)

router = new_router("contacts")

OnConflictParam = Annotated[
    ContactConflict, Query(description="When the contact is there: update it, or refuse with 409.")
]
TagsModeParam = Annotated[
    TagsMode, Query(description="Whether the tags given are added, or replace those of the audience in force.")
]


@router.post("/contacts", status_code=201)
@requires("contacts:write")
async def upsert_contact(
    request: Request,
    response: Response,
    upserts: ContactUpserts,
    principal: PrincipalDep,
    body: ContactCreate,
    audience: AudienceParam = None,
    on_conflict: OnConflictParam = "update",
    tags_mode: TagsModeParam = "add",
) -> ContactRead:
    """Make a contact, or update the one with the same email or external id (200)."""
    new = _new_contact(body, ("body",))
    if new.tags is not None:
        demand(principal, "tags:write")
    [done] = await upserts.upsert([new], audience=audience, on_conflict=on_conflict, tags_mode=tags_mode)
    if done.error or done.contact is None:
        raise done.error or RuntimeError("an upsert without a contact and without an error")
    locate(request, response, f"/contacts/{done.contact.id}")
    response.status_code = 201 if done.outcome == "created" else 200
    return ContactRead.model_validate(done.contact)


@router.post("/contacts/batch")
@requires("contacts:write", bulk=True)
async def upsert_contacts(
    upserts: ContactUpserts,
    principal: PrincipalDep,
    body: ContactBatch,
    audience: AudienceParam = None,
    on_conflict: OnConflictParam = "update",
    tags_mode: TagsModeParam = "add",
) -> ContactBatchResult:
    """Make or update up to 1,000 contacts, with an outcome for each.

    One whose email or external id is in the way fails alone. One that breaks a rule of its fields, such as an email
    that is none, refuses the whole call.
    """
    new = [_new_contact(one, ("body", "contacts", place)) for place, one in enumerate(body.contacts)]
    if any(one.tags is not None for one in new):
        demand(principal, "tags:write")
    done = await upserts.upsert(new, audience=audience, on_conflict=on_conflict, tags_mode=tags_mode)
    return ContactBatchResult(data=[_outcome(one) for one in done])


@router.get("/contacts/{contact_id}")
@requires("contacts:read")
async def get_contact(contacts: Contacts, contact_id: UUID) -> ContactRead:
    """One contact."""
    return ContactRead.model_validate(await contacts.get(contact_id))


@router.patch("/contacts/{contact_id}")
@requires("contacts:write")
async def update_contact(contacts: Contacts, contact_id: UUID, body: ContactUpdate) -> ContactRead:
    """Change what is given; what is left out stays, null clears."""
    return ContactRead.model_validate(await contacts.update(contact_id, cast("ContactFields", body.model_dump())))


@router.delete("/contacts/{contact_id}", status_code=204)
@requires("contacts:write")
async def delete_contact(contacts: Contacts, contact_id: UUID) -> None:
    """Remove a contact from the workspace, with its memberships and tags."""
    await contacts.delete(contact_id)


@router.get("/contacts/{contact_id}/audiences")
@requires("contacts:read")
async def list_contact_audiences(memberships: Memberships, contact_id: UUID) -> MembershipList:
    """The audiences that a contact is a member of, by slug."""
    return MembershipList(data=[MembershipRead.model_validate(one) for one in await memberships.list(contact_id)])


@router.put("/contacts/{contact_id}/audiences/{slug}")
@requires("contacts:write")
async def join_audience(
    response: Response,
    memberships: Memberships,
    contact_id: UUID,
    slug: Text,
    body: MembershipPut | None = None,
) -> MembershipRead:
    """Make a contact a member of an audience (201), or change what it agreed to there (200)."""
    given = body.model_dump() if body else {}
    membership, is_new = await memberships.put(contact_id, slug, **given, has_reason="reason" in given)
    response.status_code = 201 if is_new else 200
    return MembershipRead.model_validate(membership)


@router.delete("/contacts/{contact_id}/audiences/{slug}", status_code=204)
@requires("contacts:write")
async def leave_audience(memberships: Memberships, contact_id: UUID, slug: Text) -> None:
    """End a membership. The contact loses its tags there, and stays in the workspace. No error if it is no member."""
    await memberships.leave(contact_id, slug)


def _new_contact(body: ContactCreate, place: tuple[str | int, ...]) -> NewContact:
    given = body.model_dump()
    audiences, tags = given.pop("audiences", None), given.pop("tags", None)
    refs = None if tags is None else [TagRef.by_name(name, (*place, "tags", n)) for n, name in enumerate(tags)]
    return NewContact(cast("ContactFields", given), audiences, refs, place)


def _outcome(done: Upserted) -> ContactOutcome:
    return ContactOutcome(
        outcome=done.outcome,
        contact=None if done.contact is None else ContactRead.model_validate(done.contact),
        error=None if done.error is None else _outcome_error(done.error),
    )


def _outcome_error(error: AppError) -> OutcomeError:
    existing_id = error.existing_id if isinstance(error, Duplicate) else None
    return OutcomeError(code=code_of(error), detail=error.detail, existing_id=existing_id)
