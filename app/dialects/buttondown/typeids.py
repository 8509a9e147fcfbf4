"""Ids as Buttondown writes them: a UUID in 26 characters of Crockford's base32 behind a prefix that says of what.

Both forms are taken, whatever the version of the API; which one is answered goes by the version.
"""

import re
from dataclasses import dataclass
from typing import Literal, TypeAlias
from uuid import UUID

Prefix: TypeAlias = Literal["sub_tag", "sub", "news", "bulk_action"]

# For examples.
TAG_ID = "sub_tag_01m82bpex7eefbgf5fbbbewdzp"
SUBSCRIBER_ID = "sub_01m82bpf2yeh2v6ekppzp0c9mm"
BULK_ACTION_ID = "bulk_action_01m82bpf50fmrrwkwt1ce2tfjf"
NEWSLETTER_ID = "news_01m82bper1f888yfjx5ee7wjk1"

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_VALUES = {character: value for value, character in enumerate(_ALPHABET)}
_LENGTH = 26
# The first character has three bits, since 26 times five are two more than a UUID has.
_ENCODED = re.compile(rf"[0-7][{_ALPHABET}]{{{_LENGTH - 1}}}")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


def encode(prefix: Prefix, value: UUID) -> str:
    """The TypeID of a UUID."""
    number = value.int
    characters = []
    for _ in range(_LENGTH):
        number, digit = divmod(number, 32)
        characters.append(_ALPHABET[digit])
    return f"{prefix}_{''.join(reversed(characters))}"


def decode(prefix: Prefix, text: str) -> UUID | None:
    """The UUID of an id of this kind: a TypeID, a plain UUID, or a UUID behind the prefix. None for anything else."""
    bare = text.removeprefix(f"{prefix}_")
    if _UUID.fullmatch(bare):
        return UUID(bare)
    if bare == text or not _ENCODED.fullmatch(bare):
        return None
    number = 0
    for character in bare:
        number = number * 32 + _VALUES[character]
    return UUID(int=number)


@dataclass(frozen=True, slots=True)
class Ids:
    """The form that the ids of one answer have."""

    as_uuids: bool

    def show(self, prefix: Prefix, value: UUID) -> str:
        """An id as it is answered."""
        return str(value) if self.as_uuids else encode(prefix, value)
