"""Lists of contacts and filters by tags, on the native wire."""

from collections.abc import Iterator
from typing import Annotated

from pydantic import MISSING, BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from app.schemas.assignments import ContactTagRead
from app.schemas.base import Flag, Input, Output, Slug, UnionBranch
from app.schemas.contacts import ContactRead
from app.schemas.fields import Count
from app.schemas.pagination import PagePosition

FILTER_DEPTH_MAX = 3
FILTER_TAGS_MAX = 100


class ContactFound(ContactRead):
    """A contact in a list."""

    tags: Annotated[
        list[ContactTagRead] | MISSING,
        Field(
            description="Its tags of the audience in force, by slug; of all where none is, or for `*`. "
            "Only there with `expand=tags`."
        ),
    ] = MISSING


class ContactList(Output):
    """A page of contacts."""

    data: Annotated[list[ContactFound], Field(description="The contacts, by id; by email with `search`.")]
    pagination: PagePosition


def _branch(item: object) -> str:
    return UnionBranch.FILTER if isinstance(item, dict | ContactFilter) else UnionBranch.SLUG


Condition = Annotated[
    Annotated[Slug, Tag(UnionBranch.SLUG)] | Annotated["ContactFilter", Tag(UnionBranch.FILTER)],
    Discriminator(_branch),
]
Conditions = Annotated[list[Condition] | MISSING, Field(min_length=1, max_length=FILTER_TAGS_MAX)]


class ContactFilter(Input):
    """Contacts by the tags they carry. All of `all`, `any` and `none` that are given must be met.

    Each is a list of slugs and of further filters, up to three deep and with 100 slugs in all. A slug that no tag of
    the audience has is an error.
    """

    model_config = ConfigDict(
        json_schema_extra={"minProperties": 1, "examples": [{"all": ["vip"], "none": ["churned"]}]}
    )

    all: Annotated[
        Conditions, Field(description="Each of these must be met.", examples=[["vip", {"none": ["churned"]}]])
    ] = MISSING
    any: Annotated[
        Conditions, Field(description="One of these at least must be met.", examples=[["vip", "beta-tester"]])
    ] = MISSING
    none: Annotated[Conditions, Field(description="None of these may be met.", examples=[["churned"]])] = MISSING

    @model_validator(mode="after")
    def _asks_for_something(self) -> "ContactFilter":
        if not self.model_fields_set:
            raise PydanticCustomError("missing", "A filter has at least one of all, any and none.")
        return self


def _is_bounded(value: object) -> object:
    """Looked at before anything else, since a filter is read by recursion."""
    if _depth(value) > FILTER_DEPTH_MAX:
        raise PydanticCustomError("too_deep", "Filters are nested at most {most} deep.", {"most": FILTER_DEPTH_MAX})
    if sum(1 for _ in _leaves(value)) > FILTER_TAGS_MAX:
        raise PydanticCustomError("too_long", "A filter names at most {most} tags in all.", {"most": FILTER_TAGS_MAX})
    return value


def _depth(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max((_depth(inner) for inner in value.values()), default=0)
    return max((_depth(inner) for inner in value), default=0) if isinstance(value, list) else 0


def _leaves(value: object) -> Iterator[object]:
    # What is empty counts as well: each would be an error.
    if isinstance(value, dict | list) and value:
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _leaves(inner)
    else:
        yield value


class ContactQuery(Input):
    """Which contacts are wanted."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"filter": {"all": ["vip"], "none": ["churned"]}, "count_only": True}]}
    )

    filter: Annotated[ContactFilter, BeforeValidator(_is_bounded), Field(description="Which tags they carry.")]
    count_only: Annotated[
        Flag | MISSING,
        Field(
            description="Answer with their number alone, whatever page is asked for. false if left out.",
            examples=[True],
        ),
    ] = MISSING


class ContactCount(Output):
    """How many contacts the filter means."""

    count: Annotated[Count, Field(description="Their number, exactly.", examples=[499])]
