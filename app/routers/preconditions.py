"""ETag, If-None-Match and If-Match (RFC 9110, 8.8.3 and 13): what a state is known by, and calls that depend on it.

Which states an object has, the repositories know; here is how the headers say them.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated

from fastapi import Header, Response
from pydantic import BeforeValidator, WithJsonSchema

# Some hundred entity tags: whoever sends more than that keeps no copies.
CONDITION_MAX_LENGTH = 4_000

# An entity tag, or nothing, up to the next comma. Without quotes it is what several clients send, and means no other.
# The quantifiers are possessive, so that no value makes this look back.
_ELEMENT = re.compile(
    r"""[ \t]*+ (?: (?P<weak>W/)? (?: "(?P<quoted>[!\#-~\x80-\xff]*+)" | (?P<bare>[!\#-+\--~\x80-\xff]++) ) )?
        [ \t]*+ (?: , | \Z )""",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class EntityTags:
    """What a condition names: entity tags, without their quotes; or, by `*`, whatever there is."""

    strong: frozenset[str] = frozenset()
    weak: frozenset[str] = frozenset()
    is_any: bool = False


def parse_entity_tags(text: str) -> EntityTags:
    """The value of If-Match or If-None-Match, several lines of it with commas between. ValueError for anything else."""
    if len(text) > CONDITION_MAX_LENGTH:
        raise ValueError(f"must have at most {CONDITION_MAX_LENGTH} characters")
    if text.strip(" \t") == "*":
        return EntityTags(is_any=True)
    tags: dict[bool, set[str]] = {False: set(), True: set()}
    place = 0
    while place < len(text):
        element = _ELEMENT.match(text, place)
        if element is None or element["bare"] == "*":
            raise ValueError("must be entity tags")
        place = element.end()
        tag = element["quoted"] if element["bare"] is None else element["bare"]
        if tag is not None:
            tags[element["weak"] is not None].add(tag)
    if not tags[False] and not tags[True]:
        raise ValueError("must not be empty")
    return EntityTags(frozenset(tags[False]), frozenset(tags[True]))


# FastAPI gives all lines of a header to what is annotated as a collection.
def _read_if_match(lines: list[str]) -> Collection[str] | None:
    try:
        named = parse_entity_tags(", ".join(lines))
    except ValueError:
        raise ValueError(
            'If-Match must be what an ETag header said, quotes and all, like "3-12"; several with commas between; or '
            f"*. It has at most {CONDITION_MAX_LENGTH:,} characters. Nothing was written."
        ) from None
    if named.weak and not named.strong:
        # It promises too little to overwrite something (RFC 9110, 13.1.1), so none would ever match.
        raise ValueError(
            'If-Match takes no weak ETags. W/"3-12" is what a proxy that compresses makes of "3-12": send it without '
            "W/. Nothing was written."
        )
    # `*` asks that the object is there, and every call that takes If-Match answers 404 where it is not.
    return None if named.is_any else named.strong


def _read_if_none_match(lines: list[str]) -> Collection[str]:
    """A value that cannot be read names no copy, since the whole answer is never wrong."""
    try:
        named = parse_entity_tags(", ".join(lines))
    except ValueError:
        return frozenset()
    return frozenset({_WHATEVER}) if named.is_any else named.strong | named.weak


# Stands among copies for `*`. No entity tag has a quote in it.
_WHATEVER = '"*"'

# The states in which a call may change the object; None for whichever it has. A parameter and no dependency, which
# would cost each call twice as much.
IfMatchParam = Annotated[
    frozenset[str] | None,
    BeforeValidator(_read_if_match),
    WithJsonSchema({"type": "string", "maxLength": CONDITION_MAX_LENGTH, "examples": ['"3-12"']}),
    Header(
        alias="If-Match",
        description="The `ETag` of an answer: do it only if nobody has changed it since; else answer 412. Several with "
        "commas between, or `*`, work too.",
    ),
]

# The copies that a caller has.
IfNoneMatchParam = Annotated[
    frozenset[str] | None,
    BeforeValidator(_read_if_none_match),
    WithJsonSchema({"type": "string", "examples": ['"3-12"']}),
    Header(
        alias="If-None-Match",
        description="The `ETag` of the copy that you have: answer 304, without a body, if it is still true. Several "
        "with commas between, or `*`, work too.",
    ),
]


def answer_304(response: Response, etag: str, copies: Collection[str] | None) -> Response | None:
    """304 if the caller has a copy of this state. Else None, and `response` says which state it shows."""
    # A copy may be kept by the caller alone, and has to be asked about each time: it can be old at any moment.
    headers = {"ETag": f'"{etag}"', "Cache-Control": "private, no-cache"}
    if copies is not None and (etag in copies or _WHATEVER in copies):
        return Response(status_code=304, headers=headers)
    response.headers.update(headers)
    return None


def put_etag(response: Response, etag: str) -> None:
    """Say which state a change has left, so that the next one can depend on it."""
    response.headers["ETag"] = f'"{etag}"'
