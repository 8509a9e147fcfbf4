"""The rules of names, slugs, colors, ids and keys. Pure: schemas, repositories and dialects all lean on them.

Keys that are compared as text are folded here and not in SQL, so that every database locale gives the same answer.
"""

import hashlib
import json
import re
import secrets
import string
import unicodedata
import zlib
from decimal import Decimal
from typing import Any, Literal, get_args
from uuid import UUID

import slugify as python_slugify
import uuid_utils.compat

NAME_MAX_LENGTH = 120
SLUG_MAX_LENGTH = 120
DESCRIPTION_MAX_LENGTH = 1_000
EMAIL_MAX_LENGTH = 320
EXTERNAL_ID_MAX_LENGTH = 255
PERSON_NAME_MAX_LENGTH = 255
ATTRIBUTES_MAX_BYTES = 16_384
SECONDARY_ID_MAX = 1_000_000_000
DEFAULT_COLOR = "#6366f1"
COLOR_PATTERN = r"^#([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$"

Scope = Literal["tags:read", "tags:write", "contacts:read", "contacts:write", "events:read", "admin"]
SCOPES: tuple[str, ...] = get_args(Scope)

_BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
_KEY_PREFIX = "ptag_"
_KEY_RANDOM_LENGTH = 32
_KEY_CHECK_LENGTH = 6
_KEY_FORM = re.compile(rf"{_KEY_PREFIX}[0-9A-Za-z]{{{_KEY_RANDOM_LENGTH + _KEY_CHECK_LENGTH}}}")
_EMAIL_FORM = re.compile(r"[^@\s]+@[^@\s]+")


def new_id() -> UUID:
    """A uuid v7: unique, and close in the index to what was made at the same time."""
    return uuid_utils.compat.uuid7()


def fold(text: str) -> str:
    """The form in which names and addresses are compared: "VIP" is "vip", a composed é is a decomposed one."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text.strip()).casefold())


def has_control_characters(text: str) -> bool:
    """Control characters (NUL among them) and lone surrogates: neither can be shown, nor stored as text."""
    return any(unicodedata.category(character) in {"Cc", "Cs"} for character in text)


def normalize_name(text: str) -> str:
    """A tag's name as it is stored. Raises ValueError with the broken rule in words."""
    name = unicodedata.normalize("NFC", text).strip()
    if not name:
        raise ValueError("must not be blank")
    if len(name) > NAME_MAX_LENGTH:
        raise ValueError(f"must have at most {NAME_MAX_LENGTH} characters")
    if has_control_characters(name):
        raise ValueError("must not contain control characters")
    return name


def normalize_color(text: str) -> str:
    """`#RGB` becomes `#RRGGBB`; the letters stay as sent. Raises ValueError for anything else."""
    if not re.fullmatch(COLOR_PATTERN.removeprefix("^").removesuffix("$"), text):
        raise ValueError("must be a color like #1af or #11aaff")
    return text if len(text) == 7 else "#" + "".join(digit * 2 for digit in text[1:])


def normalize_email(text: str) -> str:
    """An address as it is stored: trimmed, otherwise as sent.

    One @ with something on either side and no blanks is all that is asked: whether mail arrives is the mailer's
    business, and a stricter rule would refuse addresses that exist.
    """
    email = unicodedata.normalize("NFC", text).strip()
    if len(email) > EMAIL_MAX_LENGTH:
        raise ValueError(f"must have at most {EMAIL_MAX_LENGTH} characters")
    if not _EMAIL_FORM.fullmatch(email) or has_control_characters(email):
        raise ValueError("must be an email address")
    return email


def slugify(text: str) -> str:
    """The slug of a text by Django's rule, as Datamailer has it, cut to 120 characters. It may be empty."""
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode("ascii")
    words = re.sub(r"[^\w\s-]", "", ascii_text.lower())
    return re.sub(r"[-\s]+", "-", words).strip("-_")[:SLUG_MAX_LENGTH].strip("-_")


def slug_for_name(name: str) -> str:
    """The slug that a new tag asks for. Never empty: transliterated, or a hash, where the rule leaves nothing."""
    return (
        slugify(name)
        or python_slugify.slugify(name, max_length=SLUG_MAX_LENGTH)
        or "tag-" + hashlib.sha256(fold(name).encode()).hexdigest()[:8]
    )


def numbered_slug(slug: str, number: int) -> str:
    """The slug itself for number 1; then `slug-2`, `slug-3`, …, cut so that the whole keeps to the limit."""
    if number == 1:
        return slug
    suffix = f"-{number}"
    return slug[: SLUG_MAX_LENGTH - len(suffix)].rstrip("-_") + suffix


def stored_size(document: Any) -> int:  # noqa: ANN401
    """The bytes that a JSON value takes as the database gives it back: numbers are written out, 1e308 in 309 digits."""
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    size = len(text.encode())
    if "e" not in text:
        return size
    inner: list[Any] = [document]
    while inner:
        value = inner.pop()
        if isinstance(value, dict):
            inner.extend(value.values())
        elif isinstance(value, list):
            inner.extend(value)
        elif isinstance(value, float):
            size += len(format(Decimal(repr(value)), "f")) - len(repr(value))
    return size


def new_key() -> str:
    """An API key: `ptag_`, 32 random base62 characters (190 bits), and 6 of their CRC32."""
    body = "".join(secrets.choice(_BASE62) for _ in range(_KEY_RANDOM_LENGTH))
    return _KEY_PREFIX + body + _check_characters(body)


def is_key(text: str) -> bool:
    """Whether the text has a key's form and checksum: a mistyped key costs no query."""
    if not _KEY_FORM.fullmatch(text):
        return False
    body = text[len(_KEY_PREFIX) :]
    return _check_characters(body[:_KEY_RANDOM_LENGTH]) == body[_KEY_RANDOM_LENGTH:]


def hash_key(key: str) -> bytes:
    """What is stored of a key. A key is random, so a fast hash gives nothing away."""
    return hashlib.sha256(key.encode()).digest()


def shown_prefix(key: str) -> str:
    """The part of a key by which people tell keys apart in lists."""
    return key[: len(_KEY_PREFIX) + 4]


def _check_characters(body: str) -> str:
    checksum = zlib.crc32(body.encode())
    characters = []
    for _ in range(_KEY_CHECK_LENGTH):
        checksum, digit = divmod(checksum, len(_BASE62))
        characters.append(_BASE62[digit])
    return "".join(reversed(characters))
