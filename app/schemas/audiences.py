"""Audiences on the native wire."""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import MISSING, ConfigDict, Field

from app.schemas.base import Input, Output, Slug, TagName
from app.schemas.fields import AUDIENCE_ID, CreatedAt, UpdatedAt

_NAME = "What people read. Names may be the same; slugs may not."

_NAME_FIELD = Field(description=f"{_NAME} Blanks around it are trimmed.", examples=["Product News"])


class AudienceCreate(Input):
    """A new namespace of tags."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "Product News", "slug": "product-news"}]})

    name: Annotated[TagName, _NAME_FIELD]
    slug: Annotated[
        Slug | MISSING,
        Field(
            description="What calls name it by. Unique in the workspace, never changed. Left out: made from the name.",
            examples=["product-news"],
        ),
    ] = MISSING


class AudienceUpdate(Input):
    """A merge patch: what is left out stays as it is."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "Weekly Newsletter"}]})

    name: Annotated[TagName | MISSING, _NAME_FIELD] = MISSING
    is_default: Annotated[
        Literal[True] | MISSING,
        Field(description="Makes it the default audience of the workspace, in place of the one that was."),
    ] = MISSING


class AudienceRead(Output):
    """A namespace of tags. Contacts are members of it, and carry tags of no other."""

    id: Annotated[UUID, Field(description="The audience, as events name it.", examples=[AUDIENCE_ID])]
    slug: Annotated[
        str,
        Field(
            description="The audience, in paths and as `audience`. Unique in the workspace, never changed.",
            examples=["newsletter"],
        ),
    ]
    name: Annotated[str, Field(description=_NAME, examples=["Newsletter"])]
    is_default: Annotated[
        bool, Field(description="Whether it is the workspace's default. One audience is, always.", examples=[True])
    ]
    created_at: CreatedAt
    updated_at: UpdatedAt


class AudienceList(Output):
    """All audiences of the workspace, by slug."""

    data: Annotated[list[AudienceRead], Field(description="The audiences, by slug.")]
