"""The members of one audience as vendors know them: an address, what it agreed to here, and nothing of elsewhere.

For the dialects, which see one audience at a time. Who is deleted here leaves the audience, and goes altogether only
with the last one; who is made here may be known elsewhere in the workspace already.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Literal, TypeAlias
from uuid import UUID

from app.database import Connection, ConstraintViolation, Row, Statement
from app.errors import Duplicate, InvalidInput, NotFound, Unavailable
from app.pagination import Page, PageRequest
from app.repositories import events
from app.repositories.base import Repository, unknown_audience
from app.repositories.contact_search import ContactSearchRepository, TagFilter
from app.repositories.contact_tags import ContactTagRepository, Outdated, TagChange, TagRef
from app.repositories.contact_upserts import ContactUpsertRepository, NewContact, TagsMode
from app.repositories.contacts import CONTACT_COLUMNS, Contact, ContactFields, ContactRepository, contact_from_row
from app.repositories.memberships import LOCK_MEMBER, MembershipRepository
from app.repositories.subscriptions import (
    Subscription,
    SubscriptionChange,
    SubscriptionRepository,
    SubscriptionStatus,
    subscription_from_row,
)
from app.values import fold

# How front ends name a subscriber, and the column that has it.
SubscriberKey: TypeAlias = Literal["id", "number", "email"]
_KEYS: dict[SubscriberKey, tuple[str, str]] = {
    "id": ("c.id", "uuid[]"),
    "number": ("c.number", "bigint[]"),
    "email": ("c.email_key", "text[]"),
}

# Each further one is needed only when a tag or the member goes in the moment in which it is named.
_ATTEMPTS = 3

Suppression: TypeAlias = Literal["global_unsubscribed", "hard_bounced", "complained"]


@dataclass(frozen=True, slots=True)
class EmailValidation:
    """What somebody found out about an address. `validated_at` is None where nobody looked."""

    status: str
    reason: str
    validated_at: datetime | None


UNVALIDATED = EmailValidation("unknown", "", None)


@dataclass(frozen=True, slots=True)
class Subscriber:
    """A member of an audience. `own` is what was agreed with the key's client, `audience_wide` with the audience."""

    contact: Contact
    joined_at: datetime
    verified_at: datetime | None
    email_validation: EmailValidation
    global_unsubscribed_at: datetime | None
    hard_bounced_at: datetime | None
    complained_at: datetime | None
    own: Subscription | None
    audience_wide: Subscription | None

    @property
    def subscribed(self) -> bool:
        """Whether the key's client may write to it: subscribed, and not unsubscribed from everything."""
        return self.own is not None and self.own.status == "subscribed" and self.global_unsubscribed_at is None

    @property
    def suppressed(self) -> bool:
        """Whether it wanted no more mail, or none can reach it."""
        return (
            (self.own is not None and self.own.status == "unsubscribed")
            or self.global_unsubscribed_at is not None
            or self.hard_bounced_at is not None
            or self.complained_at is not None
        )


@dataclass(frozen=True, slots=True)
class PutSubscriber:
    """A member that a call asked for, and whether it is a new one here."""

    subscriber: Subscriber
    joined: bool


@dataclass(frozen=True, slots=True)
class EmailValidationChange:
    """What was found out now. Without a time of its own it has that of the first time that this was found."""

    status: str
    reason: str
    validated_at: datetime | None = None
    has_time: bool = False

    def applied(self, before: EmailValidation, now: datetime) -> EmailValidation:
        """What is known after it."""
        if self.has_time:
            validated_at = self.validated_at
        elif self.status == UNVALIDATED.status:
            validated_at = None
        elif (self.status, self.reason) == (before.status, before.reason):
            validated_at = before.validated_at or now
        else:
            validated_at = now
        return EmailValidation(self.status, self.reason, validated_at)


@dataclass(frozen=True, slots=True)
class SubscriberChange:
    """What shall become of a subscriber; what is left out stays as it is. A suppression keeps its first time."""

    own: SubscriptionChange | None = None
    audience_wide: SubscriptionChange | None = None
    email_validation: EmailValidationChange | None = None
    suppressions: Mapping[Suppression, bool] = field(default_factory=dict)


@cache
def _find(key: SubscriberKey) -> Statement:
    column, sql_type = _KEYS[key]
    return Statement(
        f"subscribers.find.{key}",
        f"""
        select a.id as audience_id, now() as now, found.*
        from audiences a
        left join lateral (
            select {CONTACT_COLUMNS}, c.verified_at, c.email_validation_status, c.email_validation_reason,
                c.email_validated_at, c.global_unsubscribed_at, c.hard_bounced_at, c.complained_at, m.joined_at,
                own.status as own_status, own.reason as own_reason, own.verified_at as own_verified_at,
                own.unsubscribed_at as own_unsubscribed_at,
                wide.status as wide_status, wide.reason as wide_reason, wide.verified_at as wide_verified_at,
                wide.unsubscribed_at as wide_unsubscribed_at
            -- Each is looked up by itself: as a join, planned while the tables were empty, all members might be read.
            from unnest(cast(:keys as {sql_type})) as named(key)
            cross join lateral (
                select * from contacts c where c.workspace_id = :workspace_id and {column} = named.key offset 0
            ) c
            cross join lateral (
                select m.joined_at from audience_members m
                where m.workspace_id = :workspace_id and m.audience_id = a.id and m.contact_id = c.id
                offset 0
            ) m
            left join lateral (
                select s.* from subscriptions s
                where s.workspace_id = :workspace_id and s.contact_id = c.id and s.audience_id = a.id
                    and s.client_id = :client_id
                offset 0
            ) own on true
            left join lateral (
                select s.* from subscriptions s
                where s.workspace_id = :workspace_id and s.contact_id = c.id and s.audience_id = a.id
                    and s.client_id is null
                offset 0
            ) wide on true
        ) found on true
        where a.workspace_id = :workspace_id and a.slug = :audience
        """,
    )


_PUT_STATE = Statement(
    "subscribers.put_state",
    f"""
    with changed as (
        update contacts
        set email_validation_status = :email_validation_status, email_validation_reason = :email_validation_reason,
            email_validated_at = :email_validated_at, global_unsubscribed_at = :global_unsubscribed_at,
            hard_bounced_at = :hard_bounced_at, complained_at = :complained_at, updated_at = now()
        where workspace_id = :workspace_id and id = :contact_id
        returning id
    )
    {
        events.record(
            "contact.updated",
            "changed",
            contact="changed.id",
            payload="jsonb_build_object('fields', to_jsonb(cast(:fields as text[])))",
        )
    }
    """,
)

_STATE = Statement(
    "subscribers.state",
    """
    select now() as now, c.email_validation_status, c.email_validation_reason, c.email_validated_at,
        c.global_unsubscribed_at, c.hard_bounced_at, c.complained_at
    from contacts c
    where c.workspace_id = :workspace_id and c.id = :contact_id
    """,
)

_IDS_BY_NUMBER = Statement(
    "subscribers.ids_by_number",
    """
    select found.*
    from audiences a
    left join lateral (
        select named.number, contact.id
        from unnest(cast(:numbers as bigint[])) as named(number)
        cross join lateral (
            select c.id from contacts c where c.workspace_id = :workspace_id and c.number = named.number
            -- Each is looked up by itself: as joins, planned before there were many, all members might be read for one.
            offset 0
        ) contact
        cross join lateral (
            select from audience_members m
            where m.workspace_id = :workspace_id and m.audience_id = a.id and m.contact_id = contact.id
            offset 0
        ) member
    ) found on true
    where a.workspace_id = :workspace_id and a.slug = :audience
    """,
)

# No index has this order, so all members are read for each page. Bytes compare alike in every locale.
_LIST_BY_LAST_NAME = Statement(
    "subscribers.list_by_last_name",
    """
    with scope as (
        select a.id from audiences a where a.workspace_id = :workspace_id and a.slug = :audience
    )
    select head.*, page.id
    from (
        select (select scope.id from scope) as audience_id, (
            select count(*) from audience_members m
            where m.workspace_id = :workspace_id and m.audience_id = (select scope.id from scope)
        ) as total
    ) head
    left join lateral (
        select c.id, c.last_name
        from audience_members m
        join contacts c on c.workspace_id = :workspace_id and c.id = m.contact_id
        where m.workspace_id = :workspace_id and m.audience_id = (select scope.id from scope)
        order by c.last_name collate "C" nulls first, c.id
        limit :limit offset :offset
    ) page on true
    order by page.last_name collate "C" nulls first, page.id
    """,
)

_MEMBERSHIPS = Statement(
    "subscribers.memberships",
    """
    select a.id as audience_id, m.contact_id is not null as is_member, (
            select count(*) from audience_members each
            where each.workspace_id = :workspace_id and each.contact_id = :contact_id
        ) as memberships
    from audiences a
    left join audience_members m on m.workspace_id = a.workspace_id and m.audience_id = a.id
        and m.contact_id = :contact_id
    where a.workspace_id = :workspace_id and a.slug = :audience
    """,
)


_STATE_COLUMNS = (
    "email_validation_status",
    "email_validation_reason",
    "email_validated_at",
    "global_unsubscribed_at",
    "hard_bounced_at",
    "complained_at",
)


class _IsSuppressed(Exception):
    """What ends the unit of work that would have written over a member who must be left alone."""


class SubscriberRepository(Repository):
    """The members of an audience: the one that is named, else the key's default one."""

    async def find(
        self, key: SubscriberKey, value: UUID | int | str, *, audience: str | None = None
    ) -> Subscriber | None:
        """One member, if there is such a one. An unknown audience is InvalidInput."""
        found = await self._fetch(key, [value], audience)
        return found[0] if found else None

    async def get(self, key: SubscriberKey, value: UUID | int | str, *, audience: str | None = None) -> Subscriber:
        """One member. NotFound for contacts that are in other audiences only, as for those who never were."""
        found = await self.find(key, value, audience=audience)
        if found is None:
            raise NotFound("contact", value)
        return found

    async def get_many(self, contact_ids: Sequence[UUID], *, audience: str | None = None) -> Mapping[UUID, Subscriber]:
        """Members by id. Those that have just left are not among them."""
        if not contact_ids:
            return {}
        return {found.contact.id: found for found in await self._fetch("id", contact_ids, audience)}

    async def ids_by_number(self, numbers: Sequence[int], *, audience: str | None = None) -> Mapping[int, UUID]:
        """The ids of those of these numbers that are members."""
        audience = self._audience(audience)
        if not numbers:
            return {}
        rows = await self._database.fetch(_IDS_BY_NUMBER, **self._caller, audience=audience, numbers=numbers)
        if not rows:
            raise unknown_audience(audience)
        return {row["number"]: row["id"] for row in rows if row["id"] is not None}

    async def list_by_last_name(self, page: PageRequest, *, audience: str | None = None) -> Page[Subscriber]:
        """A page of members by their last names, those without one first. By offset alone, and with the total."""
        audience = self._audience(audience)
        rows = await self._database.fetch(
            _LIST_BY_LAST_NAME, **self._caller, audience=audience, limit=page.limit, offset=page.offset
        )
        if rows[0]["audience_id"] is None:
            raise unknown_audience(audience)
        ids = [row["id"] for row in rows if row["id"] is not None]
        # In a second statement, so one that leaves in between falls out of the page.
        members = await self.get_many(ids, audience=audience)
        return Page([members[one] for one in ids if one in members], page, rows[0]["total"], None)

    async def list(
        self,
        page: PageRequest,
        *,
        audience: str | None = None,
        search: str | None = None,
        words: str | None = None,
        subscribed: bool | None = None,
        statuses: Sequence[SubscriptionStatus] | None = None,
        tags: TagFilter | None = None,
        unknown_tags: Literal["error", "nobody"] = "error",
        include_total: bool = False,
        newest_first: bool = False,
    ) -> Page[Subscriber]:
        """A page of members, by id, or by email with `search`, the start of it; backwards with `newest_first`.

        `words` are parts of email and names.

        `subscribed` and `statuses` look at what was agreed with the key's client. A tag that is not there is
        InvalidInput, or, for a filter that asks for all of its tags, means that nobody is meant.
        """
        audience = self._audience(audience)
        try:
            found = await self._sibling(ContactSearchRepository).list(
                page,
                audience=audience,
                search=search,
                words=words,
                subscribed=subscribed,
                statuses=statuses,
                tags=tags,
                include_total=include_total,
                newest_first=newest_first,
            )
        except InvalidInput as error:
            if error.code == "unknown_tag" and unknown_tags == "nobody":
                return Page([], page, 0, None)
            raise
        # In a second statement, so one that leaves in between falls out of the page.
        members = await self.get_many([contact.id for contact in found.items], audience=audience)
        items = [members[contact.id] for contact in found.items if contact.id in members]
        return Page(items, found.request, found.total, found.next_cursor)

    async def create(
        self,
        fields: ContactFields,
        *,
        own: SubscriptionChange,
        tags: Sequence[TagRef] | None = None,
        audience: str | None = None,
    ) -> Subscriber:
        """Make a new member. Duplicate if the email has one already; who is known elsewhere joins, and is updated."""
        audience = self._audience(audience)

        async def work(connection: Connection) -> Subscriber:
            contact, joined = await self._upsert_within(connection, NewContact(fields, tags=tags), audience, own)
            if not joined:
                raise Duplicate("contact", "email", fields["email"], contact.id)
            # Whoever joined has agreed to the status by it, with its reason.
            if own.status is None or own != SubscriptionChange(own.status, own.reason, own.has_reason):
                return await self._agreed_within(connection, contact.id, audience, SubscriberChange(own))
            return await self._get_within(connection, contact.id, audience)

        return await self._sibling(ContactUpsertRepository).attempt(work)

    async def upsert(
        self,
        fields: ContactFields,
        change: SubscriberChange,
        *,
        joins: bool = True,
        tags: Sequence[TagRef] | None = None,
        audience: str | None = None,
    ) -> Subscriber | None:
        """Make or change a contact by its email, and what it agreed to. Tags are added.

        Without `joins` one that is no member stays so, and can be given no tags; the answer is None then.
        """
        audience = self._audience(audience)

        async def work(connection: Connection) -> Subscriber | None:
            new = NewContact(fields, None if joins else [], tags)
            contact, _ = await self._upsert_within(connection, new, audience, change.own)
            await self._change_state_within(connection, contact.id, change)
            audience_id = await self._hold_member_within(connection, contact.id, audience)
            if audience_id is None and not joins:
                return None
            await self._agree_within(connection, contact.id, audience_id, change)
            return await self._get_within(connection, contact.id, audience)

        return await self._sibling(ContactUpsertRepository).attempt(work)

    async def put(
        self,
        fields: ContactFields,
        own: SubscriptionChange | None = None,
        *,
        tags: Sequence[TagRef] | None = None,
        audience: str | None = None,
    ) -> PutSubscriber:
        """Make a member, or change the one that has the email. Tags that are given are all that it carries then.

        A new one is subscribed unless told otherwise. Ids that are no tag's are InvalidInput.
        """
        return await self._put(fields, own, tags, audience)

    async def overwrite(
        self,
        fields: ContactFields,
        *,
        status: SubscriptionStatus | None = None,
        tags: Sequence[TagRef] | None = None,
        audience: str | None = None,
    ) -> Subscriber | None:
        """Make a member, or change the one with this email, whose tags these become, where there are any given.

        None, with nothing written, for a member who is suppressed.
        """
        own = SubscriptionChange(status) if status else None
        try:
            return (await self._put(fields, own, tags, audience, spares_suppressed=True)).subscriber
        except _IsSuppressed:
            return None

    async def _put(
        self,
        fields: ContactFields,
        own: SubscriptionChange | None,
        tags: Sequence[TagRef] | None,
        audience: str | None,
        *,
        spares_suppressed: bool = False,
    ) -> PutSubscriber:
        audience = self._audience(audience)

        async def work(connection: Connection) -> PutSubscriber:
            new, joins = NewContact(fields, tags=tags), own or SubscriptionChange("subscribed")
            contact, joined = await self._upsert_within(connection, new, audience, joins, tags_mode="replace")
            if spares_suppressed and not joined:
                found = await self._get_within(connection, contact.id, audience)
                if found.suppressed:
                    raise _IsSuppressed
            change = SubscriberChange(own)
            return PutSubscriber(await self._agreed_within(connection, contact.id, audience, change), joined)

        return await self._sibling(ContactUpsertRepository).attempt(work)

    async def update(
        self,
        contact_id: UUID,
        fields: ContactFields,
        own: SubscriptionChange | None = None,
        *,
        tags: Sequence[TagRef] | None = None,
        tags_mode: TagsMode = "add",
        audience: str | None = None,
    ) -> Subscriber:
        """Change what is given, all of it or nothing. Duplicate if another contact has the email.

        Tags that are named and are not there are made; ids that are no tag's are InvalidInput.
        """
        audience = self._audience(audience)
        contacts, contact_tags = self._sibling(ContactRepository), self._sibling(ContactTagRepository)

        async def work(connection: Connection) -> Subscriber:
            # Creating tags comes first in the order of locks, so whether it will be needed is looked up beforehand.
            holds_audience = tags and await contact_tags.lock_if_missing_within(connection, tags, audience)
            held = await contacts.hold_within(connection, contact_id)
            audience_id = await self._hold_member_within(connection, contact_id, audience)
            if audience_id is None:
                raise NotFound("contact", contact_id)
            await contacts.write_within(connection, held, fields)
            if tags is not None:
                if holds_audience:
                    await contact_tags.create_missing_within(connection, tags, audience)
                change = TagChange(contact_id, add=tags, replace=tags_mode == "replace")
                await contact_tags.change_many_within(connection, [change], audience)
            await self._agree_within(connection, contact_id, audience_id, SubscriberChange(own))
            return await self._get_within(connection, contact_id, audience)

        for _ in range(_ATTEMPTS):
            try:
                return await self._database.transaction(work)
            except Outdated:
                continue
            except ConstraintViolation as violation:
                raise await contacts.lost_race(violation, fields) from violation
        raise Unavailable("Other requests kept removing what this one names. Nothing was written.")

    async def delete(self, contact_id: UUID, *, audience: str | None = None) -> None:
        """End the membership, with tags and agreements. With its last audience the contact goes altogether."""
        audience = self._audience(audience)

        async def work(connection: Connection) -> None:
            contacts = self._sibling(ContactRepository)
            # Held, it joins no other audience before this is done.
            await contacts.hold_within(connection, contact_id)
            rows = await connection.fetch(_MEMBERSHIPS, **self._caller, contact_id=contact_id, audience=audience)
            if not rows:
                raise unknown_audience(audience)
            [row] = rows
            if not row["is_member"]:
                raise NotFound("contact", contact_id)
            if row["memberships"] == 1:
                await contacts.delete_within(connection, contact_id)
            else:
                await self._sibling(MembershipRepository).leave_within(
                    connection, audience_id=row["audience_id"], contact_id=contact_id
                )

        await self._database.transaction(work)

    async def _fetch(
        self, key: SubscriberKey, values: Sequence[UUID | int | str], audience: str | None
    ) -> Sequence[Subscriber]:
        audience = self._audience(audience)
        keys = [fold(value) if key == "email" else value for value in values]  # type: ignore[arg-type]
        rows = await self._database.fetch(_find(key), **self._caller, audience=audience, keys=keys)
        if not rows:
            raise unknown_audience(audience)
        return [_subscriber_from_row(row) for row in rows if row["id"] is not None]

    async def _upsert_within(
        self,
        connection: Connection,
        new: NewContact,
        audience: str,
        own: SubscriptionChange | None,
        *,
        tags_mode: TagsMode = "add",
    ) -> tuple[Contact, bool]:
        """The contact, which is held from here on, and whether it became a member of the audience by this.

        A new member has agreed to what is given.
        """
        upserts = self._sibling(ContactUpsertRepository)
        status, reason = (own.status, own.reason) if own else (None, None)
        # Who finds somebody by an address, in an audience perhaps that it does not see, does not spell it anew.
        [done] = await upserts.upsert_within(
            connection,
            [new],
            audience=audience,
            tags_mode=tags_mode,
            status=status,
            reason=reason,
            keeps_email=True,
        )
        if done.error or done.contact is None:
            raise done.error or RuntimeError("an upsert without a contact and without an error")
        return done.contact, done.joined

    async def _hold_member_within(self, connection: Connection, contact_id: UUID, audience: str) -> UUID | None:
        """Hold the member, so that nobody else changes what it agreed to; the audience's id, or None if it is none."""
        rows = await connection.fetch(_find("id"), **self._caller, audience=audience, keys=[contact_id])
        if not rows:
            raise unknown_audience(audience)
        audience_id: UUID = rows[0]["audience_id"]
        held = await connection.fetch(LOCK_MEMBER, **self._caller, audience_id=audience_id, contact_id=contact_id)
        return audience_id if held else None

    async def _agree_within(
        self, connection: Connection, contact_id: UUID, audience_id: UUID | None, change: SubscriberChange
    ) -> None:
        """Change what the member agreed to, which is held; without an audience it has left since it was found."""
        if audience_id is None:
            raise Outdated
        subscriptions = self._sibling(SubscriptionRepository)
        scope = {"audience_id": audience_id, "contact_id": contact_id}
        if change.own:
            await subscriptions.change_within(
                connection, **scope, client_id=self._principal.client_id, change=change.own
            )
        if change.audience_wide:
            await subscriptions.change_within(connection, **scope, client_id=None, change=change.audience_wide)

    async def _agreed_within(
        self, connection: Connection, contact_id: UUID, audience: str, change: SubscriberChange
    ) -> Subscriber:
        """Hold the member and change what it agreed to; the member as it is then."""
        audience_id = await self._hold_member_within(connection, contact_id, audience)
        await self._agree_within(connection, contact_id, audience_id, change)
        return await self._get_within(connection, contact_id, audience)

    async def _get_within(self, connection: Connection, contact_id: UUID, audience: str) -> Subscriber:
        rows = await connection.fetch(_find("id"), **self._caller, audience=audience, keys=[contact_id])
        # Without a row the audience itself is gone, which the next attempt says.
        if not rows or rows[0]["id"] is None:
            raise Outdated
        return _subscriber_from_row(rows[0])

    async def _change_state_within(self, connection: Connection, contact_id: UUID, change: SubscriberChange) -> None:
        """Change what is known of the address, which this unit holds."""
        if not change.email_validation and not change.suppressions:
            return
        scope = {**self._caller, "contact_id": contact_id}
        row = await connection.fetch_one(_STATE, **scope)
        now: datetime = row["now"]
        known = _validation_from_row(row)
        before = {name: row[name] for name in _STATE_COLUMNS} | _validation_columns(known)
        after = dict(before)
        if change.email_validation:
            after |= _validation_columns(change.email_validation.applied(known, now))
        for name, is_suppressed in change.suppressions.items():
            after[f"{name}_at"] = (before[f"{name}_at"] or now) if is_suppressed else None
        changed = [name for name in _STATE_COLUMNS if after[name] != before[name]]
        if changed:
            await connection.fetch(_PUT_STATE, **scope, **after, fields=changed)


def _validation_columns(validation: EmailValidation) -> dict[str, object]:
    return {
        "email_validation_status": validation.status,
        "email_validation_reason": validation.reason,
        "email_validated_at": validation.validated_at,
    }


def _subscriber_from_row(row: Row) -> Subscriber:
    return Subscriber(
        contact=contact_from_row(row),
        joined_at=row["joined_at"],
        verified_at=row["verified_at"],
        email_validation=_validation_from_row(row),
        global_unsubscribed_at=row["global_unsubscribed_at"],
        hard_bounced_at=row["hard_bounced_at"],
        complained_at=row["complained_at"],
        own=subscription_from_row(row, "own_"),
        audience_wide=subscription_from_row(row, "wide_"),
    )


def _validation_from_row(row: Row) -> EmailValidation:
    if row["email_validation_status"] is None:
        return UNVALIDATED
    return EmailValidation(
        row["email_validation_status"], row["email_validation_reason"] or "", row["email_validated_at"]
    )
