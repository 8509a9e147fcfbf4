"""Audiences on the native wire."""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import MISSING, Field

from app.schemas.base import Input, Output, Slug, TagName, Timestamp


class AudienceCreate(Input):
    """A new namespace of tags."""

    name: Annotated[TagName, Field(examples=["Newsletter"])]
    slug: Annotated[Slug | MISSING, Field(description="Made from the name if left out; never changed.")] = MISSING


class AudienceUpdate(Input):
    """A merge patch: what is left out stays as it is."""

    name: TagName | MISSING = MISSING
    is_default: Annotated[
        Literal[True] | MISSING, Field(description="Makes it the default audience, in place of the one that was.")
    ] = MISSING


class AudienceRead(Output):
    """A namespace of tags. Contacts are members of it, and carry tags of no other."""

    id: UUID
    slug: str
    name: str
    is_default: bool
    created_at: Timestamp
    updated_at: Timestamp


class AudienceList(Output):
    """All audiences of the workspace, by slug."""

    data: list[AudienceRead]
