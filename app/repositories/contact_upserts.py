"""Contacts that a call wants to be there: made where they are missing, updated where they are, with audiences and tags.

Ten or a thousand at a time, in one transaction: contacts first, then memberships, then tags, each set-wise and in the
order of locks.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, TypeVar
from uuid import UUID

from app.database import Connection, ConstraintViolation, Statement
from app.errors import AppError, Conflict, Duplicate, FieldError, InvalidInput, Unavailable
from app.repositories.base import Repository, unknown_audience
from app.repositories.contact_tags import ContactTagRepository, Outdated, TagChange, TagRef
from app.repositories.contacts import (
    CONTACT_COLUMNS,
    UNIQUE_KEYS,
    Contact,
    ContactFields,
    ContactRepository,
    changed_fields,
    contact_from_row,
    with_changes,
)
from app.repositories.memberships import JOIN
from app.repositories.subscriptions import SubscriptionStatus
from app.values import fold, new_id

T = TypeVar("T")

ContactConflict = Literal["error", "update"]
TagsMode = Literal["add", "replace"]
Outcome = Literal["created", "updated", "unchanged", "failed"]

# Another request may be making the very contact or tag that this one is about to make; looking again finds it.
_ATTEMPTS = 5
_LOST_RACES = (*UNIQUE_KEYS, "fk_audience_members_contacts", "fk_audience_members_audiences")


@dataclass(frozen=True, slots=True)
class NewContact:
    """A contact that shall be there, the audiences it shall be in, and the tags it shall carry in the one in force.

    None for the audiences means the one in force, if there is one; None for the tags leaves them alone. `place` is
    where the call has it, for errors that say so.
    """

    fields: ContactFields
    audiences: Sequence[str] | None = None
    tags: Sequence[TagRef] | None = None
    place: tuple[str | int, ...] = ("body",)


@dataclass(frozen=True, slots=True)
class Upserted:
    """What became of one. A failed one has an error instead of a contact, and left nothing behind."""

    outcome: Outcome
    contact: Contact | None = None
    error: AppError | None = None
    # Whether it became a member of the audience in force by this.
    joined: bool = False


class _LostRace(Exception):
    """What this unit found free was taken by another one before it could write: look again."""


_LOCK_MATCHING = Statement(
    "contacts.lock_matching",
    f"""
    select {CONTACT_COLUMNS} from contacts c
    where c.workspace_id = :workspace_id
        and (c.email_key = any(cast(:email_keys as text[])) or c.external_id = any(cast(:external_ids as text[])))
    order by c.id
    for update
    """,
)

_AUDIENCES = Statement(
    "contacts.audiences",
    "select a.id, a.slug from audiences a where a.workspace_id = :workspace_id and a.slug = any(:slugs)",
)


class _Directory:
    """The contacts in hand, by the keys that they have or shall have."""

    def __init__(self, known: Sequence[Contact]) -> None:
        self.contacts: dict[UUID, Contact] = {}
        self.new: set[UUID] = set()
        self._found = {contact.id: contact for contact in known}
        self._by_email: dict[str, UUID] = {}
        self._by_external_id: dict[str, UUID] = {}
        for contact in known:
            self._keep(contact)

    def put(self, one: NewContact, on_conflict: ContactConflict) -> tuple[UUID, Outcome]:
        """Make or change the contact that is meant; which it is, and what that did to it.

        Raises what keeps it from being made or changed.
        """
        fields = one.fields
        email, external_id = fields["email"], fields.get("external_id")
        by_email = self._by_email.get(fold(email))
        by_external_id = self._by_external_id.get(external_id) if external_id else None
        if by_email and by_external_id and by_email != by_external_id:
            raise Conflict(
                "contact_mismatch",
                f"The email {email} and the external id {external_id} belong to two contacts.",
                email_contact_id=str(by_email),
                external_id_contact_id=str(by_external_id),
            )
        contact_id = by_email or by_external_id
        if contact_id is None:
            contact = Contact(new_id(), 0, email, None, None, None, {}, _NEVER, _NEVER)
        elif on_conflict == "error":
            if by_email:
                raise Duplicate("contact", "email", email, contact_id)
            raise Duplicate("contact", "external_id", external_id, contact_id)
        else:
            contact = self.contacts[contact_id]
        changed_contact, changed = with_changes(contact, fields, one.place)
        if contact_id is None:
            self.new.add(contact.id)
        elif not changed:
            return contact_id, "unchanged"
        self._forget(contact)
        self._keep(changed_contact)
        return contact.id, "created" if contact_id is None else "updated"

    def changed(self) -> list[tuple[Contact, list[str]]]:
        """The contacts that were there and shall be others, with the fields in which they differ, all items done."""
        states = [(found, self.contacts[contact_id]) for contact_id, found in self._found.items()]
        return [(now, fields) for found, now in states if (fields := changed_fields(found, now))]

    def _keep(self, contact: Contact) -> None:
        self.contacts[contact.id] = contact
        self._by_email[fold(contact.email)] = contact.id
        if contact.external_id:
            self._by_external_id[contact.external_id] = contact.id

    def _forget(self, contact: Contact) -> None:
        self._by_email.pop(fold(contact.email), None)
        if contact.external_id:
            self._by_external_id.pop(contact.external_id, None)


# What a contact that is not written yet has for times; the database gives them.
_NEVER = datetime.fromtimestamp(0, UTC)


class ContactUpsertRepository(Repository):
    """Contacts by the thousand."""

    async def upsert(
        self,
        new: Sequence[NewContact],
        *,
        audience: str | None = None,
        on_conflict: ContactConflict = "update",
        tags_mode: TagsMode = "add",
        status: SubscriptionStatus = "subscribed",
    ) -> Sequence[Upserted]:
        """Make or update each contact in order, and answer for each.

        A contact is found by its email, then by its external id; two different ones are a Conflict of that item. An
        audience that does not exist fails the whole call. `status` is what new members have with the key's client.
        """
        return await self.attempt(
            lambda connection: self.upsert_within(
                connection, new, audience=audience, on_conflict=on_conflict, tags_mode=tags_mode, status=status
            )
        )

    async def attempt(self, unit: Callable[[Connection], Awaitable[T]]) -> T:
        """Run a unit of work that upserts, in one transaction, and again where it lost a race."""
        for _ in range(_ATTEMPTS):
            try:
                return await self._database.transaction(unit)
            except (_LostRace, Outdated):
                continue
            except ConstraintViolation as violation:
                if violation.constraint not in _LOST_RACES:
                    raise
        raise Unavailable("Other requests kept changing the same contacts. Nothing was written.")

    async def upsert_within(
        self,
        connection: Connection,
        new: Sequence[NewContact],
        *,
        audience: str | None,
        on_conflict: ContactConflict = "update",
        tags_mode: TagsMode = "add",
        status: SubscriptionStatus | None,
        reason: str | None = None,
    ) -> Sequence[Upserted]:
        """`upsert` as a part of a larger unit of work, to be run by `attempt`.

        Without a status new members subscribe to nothing. What exists already is held until the end.
        """
        contacts, contact_tags = self._sibling(ContactRepository), self._sibling(ContactTagRepository)
        in_force = audience or self._principal.audience
        has_tags = any(one.tags is not None for one in new)
        if has_tags:
            in_force = self._audience(audience)
        audience_ids = await self._find_audiences(connection, new, in_force)

        # Creating tags comes first in the order of locks, so whether it will be needed is looked up beforehand.
        named = [ref for one in new for ref in one.tags or ()]
        holds_audience = in_force is not None and await contact_tags.lock_if_missing_within(connection, named, in_force)

        known = await connection.fetch(
            _LOCK_MATCHING,
            **self._caller,
            email_keys=[fold(one.fields["email"]) for one in new],
            external_ids=[one.fields["external_id"] for one in new if one.fields.get("external_id")],
        )
        directory = _Directory([contact_from_row(row) for row in known])
        results: list[tuple[UUID, Outcome] | AppError] = []
        for one in new:
            try:
                results.append(directory.put(one, on_conflict))
            except AppError as error:
                results.append(error)
        accepted = [(one, result[0]) for one, result in zip(new, results, strict=True) if isinstance(result, tuple)]

        # Those that change first: they may give up a key that a new one takes.
        written = await contacts.write_changed(connection, directory.changed())
        made = await contacts.insert(connection, [directory.contacts[key] for key in directory.new])
        if len(made) < len(directory.new):
            raise _LostRace
        answers = directory.contacts | {contact.id: contact for contact in [*written, *made]}

        pairs = {
            (audience_ids[slug], contact_id) for one, contact_id in accepted for slug in _audiences_of(one, in_force)
        }
        joined = await connection.fetch(
            JOIN,
            **self._caller,
            audience_ids=[audience_id for audience_id, _ in pairs],
            contact_ids=[contact_id for _, contact_id in pairs],
            status=status,
            reason=reason,
        )
        touched = {row["contact_id"] for row in joined}

        if has_tags and in_force is not None:
            if holds_audience:
                wanted = [ref for one, _ in accepted for ref in one.tags or ()]
                await contact_tags.create_missing_within(connection, wanted, in_force)
            changes = _tag_changes(accepted, tags_mode)
            touched |= set(await contact_tags.change_many_within(connection, changes, in_force))

        here = in_force and audience_ids[in_force]
        newcomers = {row["contact_id"] for row in joined if row["audience_id"] == here}
        return _answers(results, touched, newcomers, answers)

    async def _find_audiences(
        self, connection: Connection, new: Sequence[NewContact], in_force: str | None
    ) -> dict[str, UUID]:
        """The ids of the audiences named, and of the one in force. InvalidInput for those that do not exist."""
        slugs = {slug for one in new for slug in _audiences_of(one, in_force)} | ({in_force} if in_force else set())
        rows = await connection.fetch(_AUDIENCES, **self._caller, slugs=list(slugs))
        found = {row["slug"]: row["id"] for row in rows}
        if in_force and in_force not in found:
            raise unknown_audience(in_force)
        errors = [
            FieldError((*one.place, "audiences", place), "unknown_audience", f"There is no audience {slug}.")
            for one in new
            for place, slug in enumerate(one.audiences or ())
            if slug not in found
        ]
        if errors:
            raise InvalidInput(errors)
        return found


def _audiences_of(one: NewContact, in_force: str | None) -> set[str]:
    """The audiences that a contact shall be in: those named, or the one in force; that one for its tags in any case."""
    audiences = set(one.audiences or ())
    if in_force and (one.audiences is None or one.tags is not None):
        audiences.add(in_force)
    return audiences


def _tag_changes(accepted: Sequence[tuple[NewContact, UUID]], mode: TagsMode) -> Sequence[TagChange]:
    """One change a contact. Of several items for one contact, the last one that replaces forgets those before it."""
    adding: dict[UUID, Sequence[TagRef]] = {}
    for one, contact_id in accepted:
        if one.tags is not None:
            adding[contact_id] = one.tags if mode == "replace" else [*adding.get(contact_id, []), *one.tags]
    return [TagChange(contact_id, add=add, replace=mode == "replace") for contact_id, add in adding.items()]


def _answers(
    results: Sequence[tuple[UUID, Outcome] | AppError],
    touched: set[UUID],
    newcomers: set[UUID],
    contacts: dict[UUID, Contact],
) -> list[Upserted]:
    """An answer for each item. Memberships and tags, which are written together, count for the first of a contact."""
    answers: list[Upserted] = []
    for result in results:
        if isinstance(result, AppError):
            answers.append(Upserted("failed", error=result))
            continue
        contact_id, outcome = result
        if outcome == "unchanged" and contact_id in touched:
            outcome = "updated"
        touched.discard(contact_id)
        answers.append(Upserted(outcome, contacts[contact_id], joined=contact_id in newcomers))
        newcomers.discard(contact_id)
    return answers
