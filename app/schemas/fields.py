"""Fields that several native shapes share: what they are, with examples.

What goes out is described and not checked: an answer that breaks a limit shall not become an error on its way.
"""

from typing import Annotated

from pydantic import Field, WithJsonSchema

from app.schemas.base import Timestamp

TAG_ID = "01a204bb-3ba7-739e-b83c-af5ad6ee37f6"
CONTACT_ID = "01a204bb-3c5e-7445-b33a-76b7ec062694"
OTHER_CONTACT_ID = "01a204bb-3c5e-7446-9f0e-2c6a7be41c58"
AUDIENCE_ID = "01a204bb-3b01-7a10-8f3e-5d2b9c7e4a61"
KEY_ID = "01a204bb-3b02-7c11-a4d5-6e7f8091a2b3"
CLIENT_ID = "01a204bb-3b00-7b21-b6c7-8d9e0f1a2b3c"
EVENT_ID = "01a204bb-3ca0-7d31-8e4f-9a0b1c2d3e4f"
TIME = "2026-11-22T19:28:29.094011Z"

Count = Annotated[int, WithJsonSchema({"type": "integer", "minimum": 0})]
# From a sequence of the database; beyond what 32 bits hold, in time.
Serial = Annotated[int, WithJsonSchema({"type": "integer", "format": "int64", "minimum": 1})]

Number = Annotated[
    Serial,
    Field(
        description="A short id for systems that take no UUIDs. Unique in the workspace, never changed.", examples=[1]
    ),
]
CreatedAt = Annotated[Timestamp, Field(description="When it was made.", examples=[TIME])]
UpdatedAt = Annotated[Timestamp, Field(description="When one of its own fields last changed.", examples=[TIME])]
AssignedAt = Annotated[
    Timestamp,
    Field(description="Since when the contact carries the tag. Giving it again does not move it.", examples=[TIME]),
]

KeyClient = Annotated[str, Field(description="The slug of the application that holds the key.", examples=["default"])]
KeyScopes = Annotated[
    list[str],
    Field(
        description="What the key may do. `admin` implies all others. There may be further scopes in time.",
        examples=[["contacts:read", "tags:read"]],
    ),
]
KeyAudience = Annotated[
    str | None,
    Field(
        description="The slug of the key's default audience, in force where a call names none. null: there is none.",
        examples=["newsletter"],
    ),
]
KeyExpiry = Annotated[
    Timestamp | None,
    Field(description="When the key ends. null: never.", examples=["2099-01-01T00:00:00Z"]),
]
