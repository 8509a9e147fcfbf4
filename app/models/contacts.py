"""People, the audiences they are members of, and what they subscribed to there."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index, Sequence, UniqueConstraint, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, CreatedAt, KeyText

contact_number = Sequence("contacts_number_seq", metadata=Base.metadata)


class Contact(Base):
    """A person, known in the workspace by email and, if the caller wishes, by an id of the caller's own."""

    __tablename__ = "contacts"
    __table_args__ = (
        ForeignKeyConstraint(["workspace_id"], ["workspaces.id"]),
        UniqueConstraint("workspace_id", "number"),
        UniqueConstraint("workspace_id", "email_key"),
        UniqueConstraint("workspace_id", "external_id"),
        # A few of all: who is not to be written to, looked for beside those who subscribed.
        Index(
            "ix_contacts_global_unsubscribed",
            "workspace_id",
            "id",
            postgresql_where=text("global_unsubscribed_at is not null"),
        ),
    )

    workspace_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(contact_number, server_default=contact_number.next_value())
    email: Mapped[str]
    email_key: Mapped[KeyText]
    external_id: Mapped[KeyText | None]
    first_name: Mapped[str | None]
    last_name: Mapped[str | None]
    attributes: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'"))
    verified_at: Mapped[datetime | None]
    email_validation_status: Mapped[str | None]
    email_validation_reason: Mapped[str | None]
    email_validated_at: Mapped[datetime | None]
    global_unsubscribed_at: Mapped[datetime | None]
    hard_bounced_at: Mapped[datetime | None]
    complained_at: Mapped[datetime | None]
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class AudienceMember(Base):
    """The row that makes a contact a member of an audience, and the lock for what the contact carries there."""

    __tablename__ = "audience_members"
    __table_args__ = (
        ForeignKeyConstraint(["workspace_id", "audience_id"], ["audiences.workspace_id", "audiences.id"]),
        ForeignKeyConstraint(["workspace_id", "contact_id"], ["contacts.workspace_id", "contacts.id"]),
        Index(None, "workspace_id", "contact_id"),
    )

    workspace_id: Mapped[UUID] = mapped_column(primary_key=True)
    audience_id: Mapped[UUID] = mapped_column(primary_key=True)
    contact_id: Mapped[UUID] = mapped_column(primary_key=True)
    joined_at: Mapped[CreatedAt]


class Subscription(Base):
    """What a member agreed to: one row for the audience as a whole (no client) and one per client."""

    __tablename__ = "subscriptions"
    __table_args__ = (
        UniqueConstraint("workspace_id", "contact_id", "audience_id", "client_id", postgresql_nulls_not_distinct=True),
        ForeignKeyConstraint(
            ["workspace_id", "audience_id", "contact_id"],
            ["audience_members.workspace_id", "audience_members.audience_id", "audience_members.contact_id"],
        ),
        ForeignKeyConstraint(["workspace_id", "client_id"], ["clients.workspace_id", "clients.id"]),
        CheckConstraint("status in ('pending', 'subscribed', 'unsubscribed')", name="status"),
        # Who subscribed with a client, in the order of contacts, and how many they are.
        Index(
            "ix_subscriptions_subscribed",
            "workspace_id",
            "audience_id",
            "client_id",
            "contact_id",
            postgresql_where=text("status = 'subscribed'"),
        ),
    )

    workspace_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=func.gen_random_uuid())
    contact_id: Mapped[UUID]
    audience_id: Mapped[UUID]
    client_id: Mapped[UUID | None]
    status: Mapped[str]
    verified_at: Mapped[datetime | None]
    unsubscribed_at: Mapped[datetime | None]
    reason: Mapped[str | None]
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
