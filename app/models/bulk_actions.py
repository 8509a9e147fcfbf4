"""Changes of many at once that a vendor's client asks for, and asks about later."""

from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKeyConstraint
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, CreatedAt


class BulkAction(Base):
    """What was asked for, and what came of it. Written in the transaction that did it, hence always done.

    No foreign key to the audience, which may be deleted long after this.
    """

    __tablename__ = "bulk_actions"
    __table_args__ = (ForeignKeyConstraint(["workspace_id"], ["workspaces.id"]),)

    workspace_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    audience_id: Mapped[UUID]
    type: Mapped[str]
    # As the call sent it.
    metadata_: Mapped[dict[str, Any]] = mapped_column("metadata", JSONB)
    status: Mapped[str]
    result: Mapped[dict[str, Any]] = mapped_column(JSONB)
    created_at: Mapped[CreatedAt]
    completed_at: Mapped[CreatedAt]
