"""Tags, their exact counts, and who carries them."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKeyConstraint, Index, Integer, Sequence, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, CreatedAt, KeyText

tag_number = Sequence("tags_number_seq", metadata=Base.metadata)


class Tag(Base):
    __tablename__ = "tags"
    __table_args__ = (
        ForeignKeyConstraint(["workspace_id", "audience_id"], ["audiences.workspace_id", "audiences.id"]),
        UniqueConstraint("workspace_id", "number"),
        UniqueConstraint("workspace_id", "audience_id", "name_key"),
        UniqueConstraint("workspace_id", "audience_id", "slug"),
        UniqueConstraint("workspace_id", "audience_id", "secondary_id"),
    )

    workspace_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(tag_number, server_default=tag_number.next_value())
    audience_id: Mapped[UUID]
    name: Mapped[str]
    name_key: Mapped[KeyText]
    slug: Mapped[KeyText]
    secondary_id: Mapped[int]
    color: Mapped[str]
    description: Mapped[str | None]
    public_description: Mapped[str | None]
    subscriber_editable: Mapped[bool] = mapped_column(server_default=text("false"))
    # Moves with every PATCH that changes something; the ETag's first half.
    version: Mapped[int] = mapped_column(server_default=text("1"))
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class TagCount(Base):
    """A share of a tag's count; the exact count is the sum over the slots.

    One row a tag would be a hot row, and a column of `tags` would let assigning and deleting deadlock. A connection
    always writes the same slot, so that connections seldom wait for one another. A share may be negative.
    """

    __tablename__ = "tag_counts"

    workspace_id: Mapped[UUID] = mapped_column(primary_key=True)
    tag_id: Mapped[UUID] = mapped_column(primary_key=True)
    slot: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    n: Mapped[int]


class ContactTag(Base):
    """An assignment. No foreign keys: they cost three and a half times here; the locks keep it whole instead."""

    __tablename__ = "contact_tags"
    __table_args__ = (Index(None, "workspace_id", "contact_id", "tag_id"),)

    workspace_id: Mapped[UUID] = mapped_column(primary_key=True)
    tag_id: Mapped[UUID] = mapped_column(primary_key=True)
    contact_id: Mapped[UUID] = mapped_column(primary_key=True)
    assigned_at: Mapped[CreatedAt]
    client_id: Mapped[UUID]
    front_end: Mapped[str]
