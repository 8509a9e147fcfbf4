"""Namespaces of tags."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKeyConstraint, Index, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, CreatedAt, KeyText


class Audience(Base):
    """A namespace of tags: Datamailer's audience, Buttondown's newsletter.

    The row is the lock for creating, renaming and deleting tags.
    """

    __tablename__ = "audiences"
    __table_args__ = (
        ForeignKeyConstraint(["workspace_id"], ["workspaces.id"]),
        UniqueConstraint("workspace_id", "slug"),
        Index("uq_audiences_default", "workspace_id", unique=True, postgresql_where=text("is_default")),
    )

    workspace_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    slug: Mapped[KeyText]
    name: Mapped[str]
    is_default: Mapped[bool] = mapped_column(server_default=text("false"))
    # The last secondary_id that a tag of this audience was given.
    last_secondary_id: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
