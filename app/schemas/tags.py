"""Tags on the native wire."""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import MISSING, ConfigDict, Field, WithJsonSchema

from app.schemas.base import Color, Description, Flag, Input, Output, SecondaryId, TagName
from app.schemas.fields import CONTACT_ID, TAG_ID, Count, CreatedAt, Number, Serial, UpdatedAt
from app.schemas.pagination import PagePosition
from app.values import DEFAULT_COLOR, SECONDARY_ID_MAX

BATCH_MAX = 100
CONTACTS_MAX = 10_000

_NAME = "What people read. Unique in its audience, whatever its case: `vip` is the same name as `VIP`."
_DESCRIPTION = "A note for the team. null: there is none."
_PUBLIC_DESCRIPTION = "A note for subscribers. null: there is none."
_EDITABLE = "Whether subscribers may give and take the tag themselves, in a front end of yours that lets them."

_NAME_FIELD = Field(description=f"{_NAME} Blanks around it are trimmed.", examples=["VIP"])
NoteForTeam = Annotated[Description | None | MISSING, Field(description=_DESCRIPTION, examples=["Spent over 1,000."])]
NoteForSubscribers = Annotated[
    Description | None | MISSING, Field(description=_PUBLIC_DESCRIPTION, examples=["Our best customers."])
]


class TagSpec(Input):
    """A tag that is wanted. The name alone is needed."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "VIP", "color": "#f59e0b"}]})

    name: Annotated[TagName, _NAME_FIELD]
    color: Annotated[
        Color | MISSING,
        Field(
            description=f"`#RGB` or `#RRGGBB`; the short form is stored as the long one. {DEFAULT_COLOR} if left out.",
            examples=["#f59e0b"],
        ),
    ] = MISSING
    description: NoteForTeam = MISSING
    public_description: NoteForSubscribers = MISSING
    subscriber_editable: Annotated[
        Flag | MISSING, Field(description=f"{_EDITABLE} false if left out.", examples=[False])
    ] = MISSING


class TagCreate(TagSpec):
    """A tag that is wanted, and contacts that shall carry it."""

    contact_ids: Annotated[
        list[UUID] | MISSING,
        Field(
            max_length=CONTACTS_MAX,
            description="Members of the audience who shall carry it. If one of them is unknown or no member, nothing "
            "is made.",
            examples=[[CONTACT_ID]],
        ),
    ] = MISSING


class TagUpdate(Input):
    """A merge patch: what is left out stays as it is. The slug never changes."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"color": "#0ea5e9", "description": "Spent over 1,000.", "secondary_id": 1001}]}
    )

    name: Annotated[TagName | MISSING, _NAME_FIELD] = MISSING
    color: Annotated[
        Color | MISSING,
        Field(description="`#RGB` or `#RRGGBB`; the short form is stored as the long one.", examples=["#0ea5e9"]),
    ] = MISSING
    description: NoteForTeam = MISSING
    public_description: NoteForSubscribers = MISSING
    subscriber_editable: Annotated[Flag | MISSING, Field(description=_EDITABLE, examples=[True])] = MISSING
    secondary_id: Annotated[
        SecondaryId | MISSING,
        Field(description="Another short number for people. Unique in its audience.", examples=[1001]),
    ] = MISSING


class TagFields(Output):
    """What is shown of a tag wherever it is shown."""

    id: Annotated[UUID, Field(description="The tag, in paths and bodies.", examples=[TAG_ID])]
    number: Number
    audience: Annotated[str, Field(description="The slug of the audience that it belongs to.", examples=["newsletter"])]
    name: Annotated[str, Field(description=_NAME, examples=["VIP"])]
    slug: Annotated[
        str,
        Field(
            description="The tag, in addresses and filters. Unique in its audience, made from its first name, never "
            "changed.",
            examples=["vip"],
        ),
    ]
    secondary_id: Annotated[
        int,
        WithJsonSchema({"type": "integer", "minimum": 1, "maximum": SECONDARY_ID_MAX}),
        Field(description="A short number for people, counted in its audience. A PATCH can change it.", examples=[1]),
    ]
    color: Annotated[
        str,
        WithJsonSchema({"type": "string", "pattern": "^#[0-9a-fA-F]{6}$"}),
        Field(description="`#RRGGBB`, with letters in the case that they were sent in.", examples=["#f59e0b"]),
    ]
    description: Annotated[str | None, Field(description=_DESCRIPTION, examples=["Spent over 1,000."])]
    public_description: Annotated[str | None, Field(description=_PUBLIC_DESCRIPTION, examples=["Our best customers."])]
    subscriber_editable: Annotated[bool, Field(description=_EDITABLE, examples=[False])]
    version: Annotated[
        Serial,
        Field(
            description="1 at first, and one more with each change of the tag's own fields; giving it to contacts does "
            'not move it. `If-Match: "<version>"` holds a change to it.',
            examples=[1],
        ),
    ]
    created_at: CreatedAt
    updated_at: UpdatedAt


class TagRead(TagFields):
    """A tag, and how many contacts carry it."""

    contact_count: Annotated[Count, Field(description="How many contacts carry it: exact, at once.", examples=[500])]


class TagList(Output):
    """A page of tags."""

    data: Annotated[list[TagRead], Field(description="The tags, in the order asked for.")]
    pagination: PagePosition


class TagBatch(Input):
    """Tags that shall be there. A name that is taken finds its tag, as it is."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"tags": [{"name": "VIP", "color": "#f59e0b"}, {"name": "Beta Tester"}, {"name": "Churned"}]}]
        }
    )

    tags: Annotated[
        list[TagSpec],
        Field(min_length=1, max_length=BATCH_MAX, description="The tags. The same name twice is the same tag."),
    ]


class TagOutcome(Output):
    """What became of one of them."""

    outcome: Annotated[
        Literal["created", "found"],
        Field(description="`created`: it is new. `found`: the name was taken, and this is the tag that has it."),
    ]
    tag: Annotated[TagRead, Field(description="The tag as it is now.")]


class TagBatchResult(Output):
    """An outcome for each, in the order asked."""

    data: Annotated[list[TagOutcome], Field(description="One outcome for each tag that was sent, in that order.")]
