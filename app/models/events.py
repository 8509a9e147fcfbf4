"""What happened, and in which order."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKeyConstraint, Index, Sequence, UniqueConstraint, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base

event_sequence = Sequence("events_sequence_seq", metadata=Base.metadata)


class Event(Base):
    """A change, written by the verb that made it, in the same transaction. Ids and counts only, no personal data.

    `sequence` is drawn after the verb's locks, so that changes that conflict have the order of their effects.
    `position` is the reader's cursor; it is given later, to events that are committed, without gaps.
    """

    __tablename__ = "events"
    __table_args__ = (
        UniqueConstraint("workspace_id", "position"),
        Index("ix_events_unnumbered", "workspace_id", "sequence", postgresql_where=text("position is null")),
    )

    workspace_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=func.gen_random_uuid())
    sequence: Mapped[int] = mapped_column(event_sequence, server_default=event_sequence.next_value())
    position: Mapped[int | None]
    type: Mapped[str]
    audience_id: Mapped[UUID | None]
    tag_id: Mapped[UUID | None]
    contact_id: Mapped[UUID | None]
    # Null for what the command line did.
    client_id: Mapped[UUID | None]
    key_id: Mapped[UUID | None]
    front_end: Mapped[str]
    request_id: Mapped[str]
    occurred_at: Mapped[datetime] = mapped_column(server_default=func.now())
    payload: Mapped[dict[str, Any]] = mapped_column(JSONB)


class EventStream(Base):
    """The last position that was given in a workspace, and the lock for giving the next."""

    __tablename__ = "event_streams"
    __table_args__ = (ForeignKeyConstraint(["workspace_id"], ["workspaces.id"]),)

    workspace_id: Mapped[UUID] = mapped_column(primary_key=True)
    last_position: Mapped[int] = mapped_column(server_default=text("0"))
