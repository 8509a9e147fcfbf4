"""What a key can find out about itself, on the native wire."""

from uuid import UUID

from pydantic import Field

from app.schemas.base import Output, Timestamp


class MeRead(Output):
    """Whom the key speaks for, and what it may do."""

    key_id: UUID
    workspace: str
    client: str
    scopes: list[str] = Field(description="`admin` implies all others.")
    audience: str | None = Field(description="The audience in force where a call names none.")
    expires_at: Timestamp | None
