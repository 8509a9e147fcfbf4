"""What a key can find out about itself, on the native wire."""

from typing import Annotated
from uuid import UUID

from pydantic import Field

from app.schemas.base import Output
from app.schemas.fields import KEY_ID, KeyAudience, KeyClient, KeyExpiry, KeyScopes


class MeRead(Output):
    """Whom the key speaks for, and what it may do."""

    key_id: Annotated[UUID, Field(description="The API key that was sent.", examples=[KEY_ID])]
    workspace: Annotated[
        str, Field(description="The slug of the workspace, which is all that the key can see.", examples=["default"])
    ]
    client: KeyClient
    scopes: KeyScopes
    audience: KeyAudience
    expires_at: KeyExpiry
