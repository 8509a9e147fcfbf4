"""Contacts: make or update, change, delete, and which audiences they are in."""

from typing import Annotated, cast

from fastapi import Query, Request, Response

from app.dependencies import Contacts, ContactUpserts, Memberships, PrincipalDep, demand
from app.errors import AppError, Conflict, Duplicate
from app.frontend import new_router, requires
from app.repositories.contact_tags import TagRef
from app.repositories.contact_upserts import ContactConflict, NewContact, TagsMode, Upserted
from app.repositories.contacts import ContactFields
from app.routers.parameters import LOCATED, AudienceParam, AudienceSlugParam, ContactIdParam, locate
from app.routers.problems import code_of
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

router = new_router("contacts", "Contacts: people with an email, in audiences, with attributes of your own.")

OnConflictParam = Annotated[
    ContactConflict,
    Query(
        description="When the contact is there. `update`: it gets what is given. `error`: the answer is 409, or in a "
        "batch the outcome `failed`."
    ),
]
TagsModeParam = Annotated[
    TagsMode,
    Query(
        description="Where tags are given. `add`: it carries them too. `replace`: it carries them and no others of the "
        "audience in force."
    ),
]


@router.post(
    "/contacts",
    status_code=201,
    response_description="The contact, which is new.",
    responses={200: {"model": ContactRead, "description": "The contact, which was there.", **LOCATED}, 201: LOCATED},
)
@requires("contacts:write", raises=(Duplicate, Conflict))
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
    """Make a contact, or update the one with the same email or external id. Answers 200 when it was there."""
    new = _new_contact(body, ("body",))
    if new.tags is not None:
        demand(principal, "tags:write")
    [done] = await upserts.upsert([new], audience=audience, on_conflict=on_conflict, tags_mode=tags_mode)
    if done.error or done.contact is None:
        raise done.error or RuntimeError("an upsert without a contact and without an error")
    locate(request, response, f"/contacts/{done.contact.id}")
    response.status_code = 201 if done.outcome == "created" else 200
    return ContactRead.model_validate(done.contact)


@router.post("/contacts/batch", response_description="An outcome for each contact.")
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


@router.get("/contacts/{contact_id}", response_description="The contact.")
@requires("contacts:read")
async def get_contact(contacts: Contacts, contact_id: ContactIdParam) -> ContactRead:
    """Get a contact."""
    return ContactRead.model_validate(await contacts.get(contact_id))


@router.patch("/contacts/{contact_id}", response_description="The contact, changed.")
@requires("contacts:write", raises=(Duplicate,))
async def update_contact(contacts: Contacts, contact_id: ContactIdParam, body: ContactUpdate) -> ContactRead:
    """Change a contact. What is left out stays as it is, null clears."""
    return ContactRead.model_validate(await contacts.update(contact_id, cast("ContactFields", body.model_dump())))


@router.delete("/contacts/{contact_id}", status_code=204, response_description="The contact is gone.")
@requires("contacts:write")
async def delete_contact(contacts: Contacts, contact_id: ContactIdParam) -> None:
    """Delete a contact from the workspace, with its memberships and tags."""
    await contacts.delete(contact_id)


@router.get("/contacts/{contact_id}/audiences", response_description="The memberships.")
@requires("contacts:read")
async def list_contact_audiences(memberships: Memberships, contact_id: ContactIdParam) -> MembershipList:
    """List the audiences that a contact is a member of, by slug."""
    return MembershipList(data=[MembershipRead.model_validate(one) for one in await memberships.list(contact_id)])


@router.put(
    "/contacts/{contact_id}/audiences/{slug}",
    response_description="The membership, which was there.",
    responses={201: {"model": MembershipRead, "description": "The membership, which is new."}},
)
@requires("contacts:write")
async def join_audience(
    response: Response,
    memberships: Memberships,
    contact_id: ContactIdParam,
    slug: AudienceSlugParam,
    body: MembershipPut | None = None,
) -> MembershipRead:
    """Make a contact a member of an audience, or change what it agreed to there. Answers 201 for a new member."""
    given = body.model_dump() if body else {}
    membership, is_new = await memberships.put(contact_id, slug, **given, has_reason="reason" in given)
    response.status_code = 201 if is_new else 200
    return MembershipRead.model_validate(membership)


@router.delete(
    "/contacts/{contact_id}/audiences/{slug}",
    status_code=204,
    response_description="The contact is no member.",
)
@requires("contacts:write")
async def leave_audience(memberships: Memberships, contact_id: ContactIdParam, slug: AudienceSlugParam) -> None:
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
