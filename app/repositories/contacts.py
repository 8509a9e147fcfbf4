"""People: found by id, email or the caller's own id, one at a time or by the thousand."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal, TypedDict
from uuid import UUID

from app.database import Connection, ConstraintViolation, Row, Statement
from app.errors import Duplicate, FieldError, InvalidInput, NotFound
from app.repositories import events
from app.repositories.base import Repository
from app.values import ATTRIBUTES_MAX_BYTES, fold, stored_size


@dataclass(frozen=True, slots=True)
class Contact:
    """A person known to the workspace. `number` is a short id for front ends that take no UUIDs."""

    id: UUID
    number: int
    email: str
    external_id: str | None
    first_name: str | None
    last_name: str | None
    attributes: dict[str, Any]
    created_at: datetime
    updated_at: datetime


class ContactFields(TypedDict, total=False):
    """The fields that a call gave; what it left out is absent. A new contact needs an email.

    Attributes are a merge patch.
    """

    email: str
    external_id: str | None
    first_name: str | None
    last_name: str | None
    attributes: dict[str, Any] | None


CONTACT_COLUMNS = """
    c.id, c.number, c.email, c.external_id, c.first_name, c.last_name, c.attributes, c.created_at, c.updated_at
"""

_GET = Statement(
    "contacts.get",
    f"select {CONTACT_COLUMNS} from contacts c where c.workspace_id = :workspace_id and c.id = :contact_id",
)

_LOCK = Statement(
    "contacts.lock",
    f"""
    select {CONTACT_COLUMNS} from contacts c where c.workspace_id = :workspace_id and c.id = :contact_id
    for update
    """,
)

_INSERT = Statement(
    "contacts.insert",
    f"""
    with made as (
        insert into contacts (workspace_id, id, email, email_key, external_id, first_name, last_name, attributes)
        select :workspace_id, n.id, n.email, n.email_key, n.external_id, n.first_name, n.last_name,
            cast(n.attributes as jsonb)
        from unnest(
            cast(:ids as uuid[]), cast(:emails as text[]), cast(:email_keys as text[]), cast(:external_ids as text[]),
            cast(:first_names as text[]), cast(:last_names as text[]), cast(:attributes as text[])
        ) as n(id, email, email_key, external_id, first_name, last_name, attributes)
        order by n.email_key
        on conflict do nothing
        returning *
    ), finished as (
        select array_agg(id) as ids from made
    ), recorded as (
        {events.record("contact.created", "finished, unnest(finished.ids) as contact_id", contact="contact_id")}
    )
    select {CONTACT_COLUMNS} from made c
    """,
)

# Keys that change hands within one batch are put aside first, since each row is checked as it is written.
_PARK_KEYS = Statement(
    "contacts.park_keys",
    """
    update contacts set email_key = cast(id as text), external_id = null
    where workspace_id = :workspace_id and id = any(:ids)
    """,
)

_UPDATE = Statement(
    "contacts.update",
    f"""
    with changed as (
        update contacts c
        set email = n.email, email_key = n.email_key, external_id = n.external_id, first_name = n.first_name,
            last_name = n.last_name, attributes = cast(n.attributes as jsonb), updated_at = now()
        from unnest(
            cast(:ids as uuid[]), cast(:emails as text[]), cast(:email_keys as text[]), cast(:external_ids as text[]),
            cast(:first_names as text[]), cast(:last_names as text[]), cast(:attributes as text[]),
            cast(:fields as text[])
        ) as n(id, email, email_key, external_id, first_name, last_name, attributes, fields)
        where c.workspace_id = :workspace_id and c.id = n.id
        returning c.*, n.fields
    ), finished as (
        select jsonb_object_agg(id, to_jsonb(string_to_array(fields, ','))) as fields from changed
    ), recorded as (
        {
        events.record(
            "contact.updated",
            "finished, jsonb_each(finished.fields) as one(contact_id, fields)",
            contact="one.contact_id",
            payload="jsonb_build_object('fields', one.fields)",
        )
    }
    )
    select {CONTACT_COLUMNS} from changed c
    """,
)

# The constraints by which two contacts cannot be one: a lost race.
UNIQUE_KEYS = ("uq_contacts_workspace_id_email_key", "uq_contacts_workspace_id_external_id")

_FIND_HOLDER = Statement(
    "contacts.find_holder",
    """
    select c.id from contacts c
    where c.workspace_id = :workspace_id and (c.email_key = :email_key or c.external_id = :external_id)
    """,
)

# Whoever joins or tags the contact holds the contact or its member rows; those that are here wait for them.
_LOCK_MEMBERSHIPS = Statement(
    "contacts.lock_memberships",
    """
    select m.audience_id from audience_members m
    where m.workspace_id = :workspace_id and m.contact_id = :contact_id
    order by m.audience_id
    for update
    """,
)

_LOCK_ASSIGNMENTS = Statement(
    "contacts.lock_assignments",
    """
    select ct.tag_id from contact_tags ct
    where ct.workspace_id = :workspace_id and ct.contact_id = :contact_id
    order by ct.tag_id
    for update
    """,
)

_DELETE = Statement(
    "contacts.delete",
    f"""
    with removed as (
        delete from contact_tags where workspace_id = :workspace_id and contact_id = :contact_id
        returning tag_id
    ), counted as (
        insert into tag_counts (workspace_id, tag_id, slot, n)
        select :workspace_id, tag_id, :slot, -1 from removed order by tag_id
        on conflict (workspace_id, tag_id, slot) do update set n = tag_counts.n - 1
    ), unsubscribed as (
        delete from subscriptions where workspace_id = :workspace_id and contact_id = :contact_id
    ), left_audiences as (
        delete from audience_members where workspace_id = :workspace_id and contact_id = :contact_id
    ), deleted as (
        delete from contacts where workspace_id = :workspace_id and id = :contact_id
        returning id
    )
    {
        events.record(
            "contact.deleted",
            "deleted, (select count(*) as n from removed) total",
            contact="deleted.id",
            payload="jsonb_build_object('removed_count', total.n)",
        )
    }
    """,
)


class ContactRepository(Repository):
    """The contacts of a workspace."""

    async def get(self, contact_id: UUID) -> Contact:
        """One contact of the workspace, whichever audiences it is in."""
        rows = await self._database.fetch(_GET, **self._caller, contact_id=contact_id)
        if not rows:
            raise NotFound("contact", contact_id)
        return contact_from_row(rows[0])

    async def update(self, contact_id: UUID, fields: ContactFields) -> Contact:
        """Change what is given. Duplicate if another contact has the email or the external id."""

        async def work(connection: Connection) -> Contact:
            return await self.write_within(connection, await self.hold_within(connection, contact_id), fields)

        try:
            return await self._database.transaction(work)
        except ConstraintViolation as violation:
            raise await self.lost_race(violation, fields) from violation

    async def write_within(self, connection: Connection, held: Contact, fields: ContactFields) -> Contact:
        """Change a contact that this unit of work holds. A key that is taken comes out as ConstraintViolation."""
        contact, changed = with_changes(held, fields, ("body",))
        if not changed:
            return contact
        [written] = await self.write_changed(connection, [(contact, changed)])
        return written

    async def delete(self, contact_id: UUID) -> None:
        """Remove a contact from the workspace, with its memberships, subscriptions and tags."""

        async def work(connection: Connection) -> None:
            await self.hold_within(connection, contact_id)
            await self.delete_within(connection, contact_id)

        await self._database.transaction(work)

    async def hold_within(self, connection: Connection, contact_id: UUID) -> Contact:
        """Hold a contact: from here on nobody changes or deletes it, or makes it join an audience."""
        rows = await connection.fetch(_LOCK, **self._caller, contact_id=contact_id)
        if not rows:
            raise NotFound("contact", contact_id)
        return contact_from_row(rows[0])

    async def delete_within(self, connection: Connection, contact_id: UUID) -> None:
        """`delete` as a part of a larger unit of work, which holds the contact."""
        scope = {**self._caller, "contact_id": contact_id}
        # Each in a statement of its own: the next sees what was written while this one waited.
        await connection.fetch(_LOCK_MEMBERSHIPS, **scope)
        await connection.fetch(_LOCK_ASSIGNMENTS, **scope)
        await connection.fetch(_DELETE, **scope)

    async def write_changed(
        self, connection: Connection, contacts: Sequence[tuple[Contact, Sequence[str]]]
    ) -> Sequence[Contact]:
        """Write contacts that this transaction holds, each with the names of the fields that differ from before.

        Raises ConstraintViolation when another contact has one of the keys.
        """
        if not contacts:
            return []
        moving = [contact.id for contact, fields in contacts if {"email", "external_id"} & set(fields)]
        if len(moving) > 1:
            await connection.fetch(_PARK_KEYS, **self._caller, ids=moving)
        rows = await connection.fetch(
            _UPDATE,
            **self._caller,
            **_columns([contact for contact, _ in contacts]),
            fields=[",".join(sorted(fields)) for _, fields in contacts],
        )
        return [contact_from_row(row) for row in rows]

    async def insert(self, connection: Connection, contacts: Sequence[Contact]) -> Sequence[Contact]:
        """Write new contacts. Those whose key was taken in the meantime are left out of the answer."""
        if not contacts:
            return []
        rows = await connection.fetch(_INSERT, **self._caller, **_columns(contacts))
        return [contact_from_row(row) for row in rows]

    async def lost_race(self, violation: ConstraintViolation, fields: ContactFields) -> Exception:
        """What a violation is to the caller: who has the key that a change asked for, if that is what it is about."""
        if violation.constraint not in UNIQUE_KEYS:
            return violation
        name: Literal["email", "external_id"] = "email" if "email_key" in violation.constraint else "external_id"
        value = str(fields.get(name))
        holders = await self._database.fetch(
            _FIND_HOLDER,
            **self._caller,
            email_key=fold(value) if name == "email" else None,
            external_id=value if name == "external_id" else None,
        )
        return Duplicate("contact", name, value, holders[0]["id"] if holders else None)


def with_changes(contact: Contact, fields: ContactFields, place: tuple[str | int, ...]) -> tuple[Contact, list[str]]:
    """The contact with these changes, and the names of the fields that differ. `place` is where a call has them."""
    target: dict[str, Any] = {name: value for name, value in fields.items() if name != "attributes"}
    if "attributes" in fields:
        patch = fields["attributes"]
        # By RFC 7396 null takes the member away; for the whole of the attributes that leaves none.
        target["attributes"] = {} if patch is None else merge_patch(contact.attributes, patch)
        if stored_size(target["attributes"]) > ATTRIBUTES_MAX_BYTES:
            detail = f"The attributes of a contact take at most {ATTRIBUTES_MAX_BYTES:,} bytes of JSON."
            raise InvalidInput([FieldError((*place, "attributes"), "too_large", detail)])
    changed_contact = replace(contact, **target)
    return changed_contact, changed_fields(contact, changed_contact)


def changed_fields(before: Contact, after: Contact) -> list[str]:
    """The names of the fields, of those that a call can give, in which two states of a contact differ."""
    names = ("email", "external_id", "first_name", "last_name", "attributes")
    return [name for name in names if not _is_same(getattr(before, name), getattr(after, name))]


def merge_patch(document: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """A JSON object after a merge patch (RFC 7396): null removes, objects merge, everything else replaces."""
    merged = dict(document)
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, dict):
            under = merged.get(name)
            merged[name] = merge_patch(under if isinstance(under, dict) else {}, value)
        else:
            merged[name] = value
    return merged


def _is_same(before: Any, after: Any) -> bool:  # noqa: ANN401
    """Whether two JSON values are one once they are stored: numbers by value, but true is not 1, as it is to Python."""
    if isinstance(before, dict) and isinstance(after, dict):
        return before.keys() == after.keys() and all(_is_same(value, after[name]) for name, value in before.items())
    if isinstance(before, list) and isinstance(after, list):
        return len(before) == len(after) and all(map(_is_same, before, after))
    if isinstance(before, bool) or isinstance(after, bool):
        return before is after
    if isinstance(before, int | float) and isinstance(after, int | float):
        # The database gives 1e23 back as the integer that it wrote out, which is another number to Python.
        try:
            return before == after or (float(before) == float(after) and not type(before) is type(after) is int)
        except OverflowError:
            return False
    return bool(before == after)


def contact_from_row(row: Row) -> Contact:
    """A contact from a row with CONTACT_COLUMNS."""
    return Contact(
        id=row["id"],
        number=row["number"],
        email=row["email"],
        external_id=row["external_id"],
        first_name=row["first_name"],
        last_name=row["last_name"],
        attributes=row["attributes"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def _columns(contacts: Sequence[Contact]) -> dict[str, object]:
    """The contacts as one list a column, as the statements that write many take them."""
    return {
        "ids": [contact.id for contact in contacts],
        "emails": [contact.email for contact in contacts],
        "email_keys": [fold(contact.email) for contact in contacts],
        "external_ids": [contact.external_id for contact in contacts],
        "first_names": [contact.first_name for contact in contacts],
        "last_names": [contact.last_name for contact in contacts],
        "attributes": [json.dumps(contact.attributes) for contact in contacts],
    }
