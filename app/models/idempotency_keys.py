"""Answers that are kept for repeats."""

from uuid import UUID

from sqlalchemy import Index, LargeBinary, SmallInteger
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, CreatedAt, KeyText


class IdempotencyKey(Base):
    """A request that was answered 2xx, by the key that its caller gave it; repeats get the same answer for 24 hours.

    Written in the verb's own transaction: status and body are null only inside it. `key` is the SHA-256 of what the
    caller sent, who may have put anything there, in hexadecimal digits.
    """

    __tablename__ = "idempotency_keys"
    # For the sweep, which runs over all workspaces.
    __table_args__ = (Index(None, "created_at"),)

    workspace_id: Mapped[UUID] = mapped_column(primary_key=True)
    key_id: Mapped[UUID] = mapped_column(primary_key=True)
    front_end: Mapped[KeyText] = mapped_column(primary_key=True)
    key: Mapped[KeyText] = mapped_column(primary_key=True)
    fingerprint: Mapped[bytes] = mapped_column(LargeBinary)
    status: Mapped[int | None] = mapped_column(SmallInteger)
    body: Mapped[bytes | None] = mapped_column(LargeBinary)
    location: Mapped[str | None]
    etag: Mapped[str | None]
    created_at: Mapped[CreatedAt]
