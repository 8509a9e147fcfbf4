"""The types that every wire shape is built of, in all front ends.

Limits come from app/values.py, and from there into the OpenAPI documents. Text refuses NUL and lone surrogates
everywhere, since neither can be stored. A field of a PATCH that may be absent is `T | MISSING = MISSING` (pydantic's):
absent is not null.

Lists need no guard of their own: pydantic compares the length before it looks at an item.
"""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)
from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError

from app import values

OBJECT_MEMBERS_MAX = 64
# Normalising and trimming can shorten a text, so one that is somewhat longer than the limit may still keep to it.
RAW_LENGTH_FACTOR = 4
JSON_OBJECT_MAX_DEPTH = 32
# A pattern, so that it is checked without a call into Python, and stands in the OpenAPI documents.
WITHOUT_NUL = r"^[^\x00]*$"
SLUG_PATTERN = r"^(?!.*--)[a-z0-9]([a-z0-9_-]*[a-z0-9])?$"


class UnionBranch(StrEnum):
    """The names of a union's branches, which pydantic puts into the places of errors, and callers must not see."""

    SLUG = "<slug>"
    FILTER = "<filter>"


class Input(BaseModel):
    """What comes in. A field that is not known is refused, so that a misspelt one is not silently lost."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _has_few_members(cls, value: object) -> object:
        # Each unknown field would become an error with a place: 300,000 of them stop a process for seconds.
        if isinstance(value, dict) and len(value) > OBJECT_MEMBERS_MAX:
            raise PydanticCustomError("too_many_fields", "This has more fields than any object of this API.")
        return value


class LooseInput(Input):
    """What comes in through the API of a vendor that passes over fields it does not know."""

    model_config = ConfigDict(extra="ignore")


class Output(BaseModel):
    """What goes out, read from the dataclasses of repositories. Without defaults: each field is always there."""

    model_config = ConfigDict(frozen=True, from_attributes=True)


def with_example(body: dict[str, Any], *, required: Sequence[str] = ()) -> ConfigDict:
    """For a `model_config`: a body that works when it is pasted, for the OpenAPI document.

    `required` names fields that handlers ask for, where validation lets them be left out.
    """
    extra: JsonDict = {"examples": [body]}
    if required:
        extra["required"] = list(required)
    return ConfigDict(json_schema_extra=extra)


def _by_rule(rule: Callable[[str], str], *, at_most: int) -> AfterValidator:
    """A rule of app/values.py, with the code of a field that it breaks."""

    def check(text: str) -> str:
        if len(text) > RAW_LENGTH_FACTOR * at_most:
            # Normalising takes time by the square of the combining marks in a row, so a long text is not looked at.
            raise PydanticCustomError("too_long", "This must have at most {most} characters.", {"most": at_most})
        try:
            return rule(text)
        except ValueError as error:
            raise PydanticCustomError(_code(text.strip(), at_most), "This {rule}.", {"rule": str(error)}) from None

    return AfterValidator(check)


def _code(text: str, at_most: int) -> str:
    if not text:
        return "too_short"
    if len(text) > at_most:
        return "too_long"
    return "invalid_characters" if values.has_control_characters(text) else "invalid_value"


def _is_slug(text: str) -> str:
    if not text or values.slugify(text) != text:
        raise ValueError("must be made of a-z, 0-9 and single hyphens between them, like spring-sale")
    return text


def at_most(limit: int) -> AfterValidator:
    """A tighter limit than the type's own, as some vendors have, on the text as it will be stored."""

    def check(text: str) -> str:
        if len(text) > limit:
            raise PydanticCustomError("too_long", "This must have at most {most} characters.", {"most": limit})
        return text

    return AfterValidator(check)


Text = Annotated[str, StringConstraints(pattern=WITHOUT_NUL)]

NAME_PATTERN = r"^[^\x00-\x1f\x7f-\x9f]*[^\x00-\x20\x7f-\xa0][^\x00-\x1f\x7f-\x9f]*$"
TagName = Annotated[
    str,
    _by_rule(values.normalize_name, at_most=values.NAME_MAX_LENGTH),
    WithJsonSchema({"type": "string", "minLength": 1, "maxLength": values.NAME_MAX_LENGTH, "pattern": NAME_PATTERN}),
]
Slug = Annotated[
    str,
    _by_rule(_is_slug, at_most=values.SLUG_MAX_LENGTH),
    WithJsonSchema(
        {"type": "string", "minLength": 1, "maxLength": values.SLUG_MAX_LENGTH, "pattern": SLUG_PATTERN},
    ),
]
Color = Annotated[
    str,
    _by_rule(values.normalize_color, at_most=7),
    WithJsonSchema({"type": "string", "pattern": values.COLOR_PATTERN}),
]
Email = Annotated[
    str,
    _by_rule(values.normalize_email, at_most=values.EMAIL_MAX_LENGTH),
    WithJsonSchema({"type": "string", "format": "email", "maxLength": values.EMAIL_MAX_LENGTH}),
]
Description = Annotated[str, StringConstraints(pattern=WITHOUT_NUL, max_length=values.DESCRIPTION_MAX_LENGTH)]
ExternalId = Annotated[
    str, StringConstraints(pattern=WITHOUT_NUL, min_length=1, max_length=values.EXTERNAL_ID_MAX_LENGTH)
]
PersonName = Annotated[str, StringConstraints(pattern=WITHOUT_NUL, max_length=values.PERSON_NAME_MAX_LENGTH)]
SecondaryId = Annotated[StrictInt, Field(ge=1, le=values.SECONDARY_ID_MAX)]
# true and false, without "yes", "on" and 1.
Flag = StrictBool


def _is_written_out(value: object) -> object:
    if not isinstance(value, str) or not _RFC_3339.fullmatch(value):
        raise PydanticCustomError("invalid_value", "This must be a time with its zone, like 2026-03-29T18:00:00Z.")
    return value


_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


def in_utc(time: datetime) -> datetime:
    """A point in time as it is stored. Raises ValueError beyond the years that can be."""
    # The last year is left out: its last moment is the driver's word for infinity, which comes back without a zone.
    if not 1 < time.year < 9999:
        raise PydanticCustomError("out_of_range", "This is beyond the years that can be stored.")
    return time.astimezone(UTC)


# A point in time that comes in; numbers and bare dates, which pydantic takes as well, do not say which.
Instant = Annotated[AwareDatetime, BeforeValidator(_is_written_out), AfterValidator(in_utc)]
# One that goes out. The database answers in UTC, which pydantic writes as RFC 3339 with a Z.
Timestamp = AwareDatetime


def _fits(value: object) -> object:
    if not isinstance(value, dict):
        return value
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise PydanticCustomError(
            "invalid_characters", "This holds half a surrogate pair, which is not a character."
        ) from None
    if size > values.ATTRIBUTES_MAX_BYTES or values.stored_size(value) > values.ATTRIBUTES_MAX_BYTES:
        raise PydanticCustomError(
            "too_large", "This must have at most {most} bytes as JSON.", {"most": values.ATTRIBUTES_MAX_BYTES}
        )
    if _ESCAPED_NUL.search(text):
        raise PydanticCustomError("invalid_characters", "This must not contain NUL.")
    level: Iterable[Any] = [value]
    for _ in range(JSON_OBJECT_MAX_DEPTH):
        level = [inner for outer in level for inner in _members(outer) if isinstance(inner, dict | list)]
    if level:
        raise PydanticCustomError(
            "too_deep", "This must be nested at most {most} levels deep.", {"most": JSON_OBJECT_MAX_DEPTH}
        )
    return value


def _members(container: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return container.values() if isinstance(container, dict) else container


# Behind an even number of backslashes; behind an odd one it is the text \u0000 that is meant.
_ESCAPED_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")

# Free-form JSON. That numbers are finite is seen to where the body is parsed.
JsonObject = Annotated[
    dict[str, Any],
    BeforeValidator(_fits),
    WithJsonSchema(
        {
            "type": "object",
            "additionalProperties": True,
            "description": f"Any JSON object, at most {values.ATTRIBUTES_MAX_BYTES:,} bytes "
            f"and {JSON_OBJECT_MAX_DEPTH} levels deep.",
        }
    ),
]
