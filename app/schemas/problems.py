"""Problem documents on the native wire, as the OpenAPI document describes them."""

from typing import Annotated
from uuid import UUID

from pydantic import MISSING, ConfigDict, Field, WithJsonSchema

from app.schemas.base import Output
from app.schemas.fields import CONTACT_ID, TAG_ID, Count


class ProblemField(Output):
    """One value of the request that breaks a rule."""

    pointer: Annotated[
        str,
        Field(
            description="Where it stood: `#/contact_ids/3` in the body, `?limit` in the query, `path:slug`, or "
            "`header:If-Match`.",
            examples=["?limit"],
        ),
    ]
    code: Annotated[
        str,
        Field(
            description="Which rule it breaks, for programs. Codes are stable; there may be further ones in time.",
            examples=["out_of_range"],
        ),
    ]
    detail: Annotated[
        str, Field(description="Which rule it breaks, in words.", examples=["This must be at most 1000."])
    ]


class Problem(Output):
    """What kept a call from being done, after RFC 9457. Nothing was written, unless the detail says otherwise."""

    model_config = ConfigDict(extra="forbid")

    type: Annotated[
        str,
        WithJsonSchema({"type": "string", "format": "uri"}),
        Field(description="A URN made of the code.", examples=["urn:polytag:problem:not_found"]),
    ]
    title: Annotated[str, Field(description="What kind of problem it is, in words.", examples=["Not found"])]
    status: Annotated[int, Field(ge=400, le=599, description="The HTTP status.", examples=[404])]
    detail: Annotated[
        str,
        Field(
            description="What happened, to what, and what to do. Texts may change.",
            examples=[f"There is no tag {TAG_ID}."],
        ),
    ]
    code: Annotated[
        str,
        Field(
            description="Which problem it is, for programs. Codes are stable; there may be further ones in time.",
            examples=["not_found"],
        ),
    ]
    request_id: Annotated[
        str,
        Field(
            description="The id of the request, as in `X-Request-Id`.", examples=["01a204bb3ba7739eb83caf5ad6ee37f6"]
        ),
    ]
    errors: Annotated[
        list[ProblemField] | MISSING,
        Field(description="Where values are wrong: the first 100 of them, each with the rule that it breaks."),
    ] = MISSING
    existing_id: Annotated[
        UUID | None | MISSING,
        Field(
            description="With a value that is taken: the object that has it. null: that is gone again.",
            examples=[TAG_ID],
        ),
    ] = MISSING
    missing_scopes: Annotated[
        list[str] | MISSING,
        Field(description="With `insufficient_scope`: the scopes that the key lacks.", examples=[["tags:write"]]),
    ] = MISSING
    contact_count: Annotated[
        Count | MISSING, Field(description="With `tag_in_use`: how many contacts carry the tag.", examples=[3])
    ] = MISSING
    email_contact_id: Annotated[
        UUID | MISSING,
        Field(description="With `contact_mismatch`: the contact that has the email.", examples=[CONTACT_ID]),
    ] = MISSING
    external_id_contact_id: Annotated[
        UUID | MISSING,
        Field(description="With `contact_mismatch`: the contact that has the external id.", examples=[CONTACT_ID]),
    ] = MISSING
    tags: Annotated[
        Count | MISSING, Field(description="With `audience_in_use`: how many tags it has.", examples=[2])
    ] = MISSING
    keys: Annotated[
        Count | MISSING,
        Field(description="With `audience_in_use`: how many live keys have it as their default.", examples=[0]),
    ] = MISSING
