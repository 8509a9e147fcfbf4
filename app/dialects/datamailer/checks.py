"""What Datamailer's calls are checked for, in its order and with its codes.

The order mixes what a body alone tells with what only the database knows: an audience that is not there comes before a
contact that is not, and that before tags that are malformed. So fields come in as they are sent, and handlers look at
each when its turn has come.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import cast, get_args

from pydantic import MISSING

from app.dialects.datamailer.schemas import (
    REASON_MAX_LENGTH,
    TAGS_MAX,
    Addressed,
    ContactIn,
    Scoped,
    Status,
    UnsubscribeIn,
    UnsubscribeScope,
    ValidationStatus,
)
from app.errors import FieldError, InvalidInput
from app.repositories.audiences import AudienceRepository
from app.repositories.base import Principal
from app.repositories.contact_search import NamedTag, TagFilter
from app.repositories.contact_tags import TagRef
from app.repositories.subscribers import EmailValidationChange, SubscriberChange, Suppression
from app.repositories.subscriptions import SubscriptionChange
from app.repositories.tags import TagRepository
from app.schemas.base import RAW_LENGTH_FACTOR, in_utc
from app.values import (
    EMAIL_MAX_LENGTH,
    NAME_MAX_LENGTH,
    SLUG_MAX_LENGTH,
    fold,
    has_control_characters,
    normalize_email,
    normalize_name,
    slug_for_name,
    slugify,
)

LIMIT_DEFAULT = 50
LIMIT_MAX = 500
FILTER_TAGS_MAX = 100
# Filters of the vendor's list that are not served. Passing them over would widen the list.
FILTERS_NOT_SERVED = ("verified", "email_validation_status", "suppression", "updated_since")
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
# Normalising takes time by the square of the combining marks in a row, so a longer text is not looked at.
_RAW_NAME_MAX_LENGTH = RAW_LENGTH_FACTOR * NAME_MAX_LENGTH
_RAW_EMAIL_MAX_LENGTH = RAW_LENGTH_FACTOR * EMAIL_MAX_LENGTH


@dataclass(frozen=True, slots=True)
class Scope:
    """Where a call takes place, and whom it is about where it says so."""

    audience: str
    client: str
    email: str


def refusal(codes: dict[str, str]) -> InvalidInput:
    """What is wrong with which field, in the vendor's words."""
    return InvalidInput([FieldError(("body", name), code, f"{name}: {code}") for name, code in codes.items()])


async def check_scope(
    body: Scoped, principal: Principal, audiences: AudienceRepository, *, finds_audience: bool = False
) -> Scope:
    """The scope of a call; all that is wrong with it is refused at once.

    `finds_audience` says that the verb that comes next finds out by itself whether the audience is there.
    """
    codes: dict[str, str] = {}
    email = ""
    if isinstance(body, Addressed):
        sent = _stripped(body.email)
        email = _email(sent)
        if not email:
            codes["email"] = "invalid" if sent else "required"
    audience, client = _stripped(body.audience), _stripped(body.client)
    if not client:
        codes["client"] = "required"
    elif client != principal.client:
        codes["client"] = "forbidden"
    if not audience:
        codes["audience"] = "required"
    elif has_control_characters(audience):
        # No slug has any, and the database could not even be asked.
        codes["audience"] = "not_found"
    elif (codes or not finds_audience) and await audiences.find(audience) is None:
        codes["audience"] = "not_found"
    if codes:
        raise refusal(codes)
    return Scope(audience, client, email)


def check_tags(value: object) -> list[TagRef]:
    """Tags by name: the one of that name, else the one with its slug, else a new one."""
    if not isinstance(value, list):
        raise refusal({"tags": "must_be_list"})
    if len(value) > TAGS_MAX:
        raise refusal({"tags": "too_many"})
    return [_tag_ref(name, place) for place, name in enumerate(value)]


def check_new_tags(value: object) -> list[TagRef] | None:
    """Tags to add, of which there need not be any."""
    return None if _is_left_out(value) else check_tags(value)


def check_tag(tag_slug: str) -> TagRef:
    """A tag by its slug in a path; one that is made is named after it."""
    slug = slugify(tag_slug)
    if not slug:
        raise refusal({"tag": "invalid"})
    if len(tag_slug) > SLUG_MAX_LENGTH:
        raise refusal({"tag": "too_long"})
    return TagRef.by_slug(slug, ("path", "tag"))


def check_contact(body: ContactIn) -> SubscriberChange:
    """What an upsert changes. What it leaves out stays, also where the vendor would take a confirmation back."""
    status = None
    if not _is_left_out(body.status):
        if body.status not in get_args(Status):
            raise refusal({"status": "invalid"})
        status = cast("Status", body.status)
    verified = None if body.verified is MISSING else body.verified
    if body.verified is not MISSING and not isinstance(verified, bool):
        raise refusal({"verified": "must_be_boolean"})
    return SubscriberChange(
        own=SubscriptionChange(status, verified=verified),
        email_validation=_validation(body.email_validation),
        suppressions=_suppressions(body.suppression),
    )


def check_unsubscribe_scope(body: UnsubscribeIn) -> UnsubscribeScope:
    """What it is that ends. The vendor looks at this before all else."""
    if body.scope not in get_args(UnsubscribeScope):
        raise refusal({"scope": "invalid"})
    return cast("UnsubscribeScope", body.scope)


def check_reason(value: object, field: str = "reason") -> str:
    """A reason in words, which may be none."""
    if value is None or value is MISSING:
        return ""
    if not isinstance(value, str):
        raise refusal({field: "must_be_string"})
    reason = value.strip()
    if len(reason) > REASON_MAX_LENGTH:
        raise refusal({field: "too_long"})
    if not _is_storable(reason):
        raise refusal({field: "invalid"})
    return reason


def check_names(tags: str) -> list[str]:
    """The names in a list's filter, with commas between."""
    names = [name for one in tags.split(",") if (name := one.strip())]
    if len(names) > FILTER_TAGS_MAX:
        raise refusal({"tags": "too_many"})
    if any(len(name) > _RAW_NAME_MAX_LENGTH for name in names):
        raise refusal({"tags": "too_long"})
    return names


async def find_filter(names: Sequence[str], tags: TagRepository, audience: str) -> TagFilter | None:
    """Who carries all of these tags: as everywhere, a name means the tag of that name, else that of its slug."""
    if not names:
        return None
    storable = [name for name in names if _is_storable(name)]
    by_name = {fold(tag.name): tag.slug for tag in await tags.find_many(ids=(), names=storable, audience=audience)}
    slugs = dict.fromkeys(by_name.get(fold(name)) or slugify(name) or slug_for_name(name) for name in names)
    return TagFilter(all=[NamedTag(slug, ("query", "tags")) for slug in slugs])


def check_statuses(status: str) -> list[Status]:
    """The statuses that a list asks for: one, or all there are."""
    status = status.strip()
    if status and status not in get_args(Status):
        raise refusal({"subscription_status": "invalid"})
    return [cast("Status", status)] if status else list(get_args(Status))


def check_limit(value: str) -> int:
    """How many contacts a page shall have."""
    if not value:
        return LIMIT_DEFAULT
    if not _INTEGER.fullmatch(value):
        raise refusal({"limit": "must_be_integer"})
    if not 1 <= int(value) <= LIMIT_MAX:
        raise refusal({"limit": f"must_be_between_1_and_{LIMIT_MAX}"})
    return int(value)


def _stripped(value: object) -> str:
    return value.strip() if isinstance(value, str) else ""


def _is_left_out(value: object) -> bool:
    return value is MISSING or value is None or value == ""


def _is_storable(text: str) -> bool:
    return not any(character == "\x00" or unicodedata.category(character) == "Cs" for character in text)


def _email(text: str) -> str:
    """An address as it is stored; empty if the text is none."""
    if len(text) > _RAW_EMAIL_MAX_LENGTH:
        return ""
    try:
        return normalize_email(text)
    except ValueError:
        return ""


def _tag_ref(name: object, place: int) -> TagRef:
    if not isinstance(name, str) or not name.strip():
        raise refusal({"tags": "must_be_non_empty_strings"})
    if len(name) > _RAW_NAME_MAX_LENGTH:
        raise refusal({"tags": "too_long"})
    if not _is_storable(name):
        raise refusal({"tags": "invalid"})
    stored = unicodedata.normalize("NFC", _without_control_characters(name)).strip()
    if not stored:
        raise refusal({"tags": "must_be_non_empty_strings"})
    if len(stored) > NAME_MAX_LENGTH:
        raise refusal({"tags": "too_long"})
    return TagRef(("body", "tags", place), name=normalize_name(stored), slug=slugify(stored) or None)


def _without_control_characters(text: str) -> str:
    """The vendor stores them, and leaves them out of the slug, which is all that it ever shows."""
    return "".join(
        " " if character.isspace() else "" if unicodedata.category(character) == "Cc" else character
        for character in text
    )


def _validation(value: object) -> EmailValidationChange | None:
    if _is_left_out(value):
        return None
    if not isinstance(value, dict):
        raise refusal({"email_validation": "must_be_object"})
    status: str = "unknown" if _is_left_out(value.get("status")) else value["status"]
    if status not in get_args(ValidationStatus):
        raise refusal({"email_validation.status": "invalid"})
    reason = check_reason(value.get("reason"), "email_validation.reason")
    if "validated_at" not in value:
        return EmailValidationChange(status, reason)
    return EmailValidationChange(status, reason, _time(value["validated_at"]), has_time=True)


def _time(value: object) -> datetime | None:
    if _is_left_out(value):
        return None
    try:
        time = datetime.fromisoformat(cast("str", value))
        return in_utc(time if time.utcoffset() is not None else time.replace(tzinfo=UTC))
    except (TypeError, ValueError, OverflowError):
        raise refusal({"email_validation.validated_at": "must_be_iso_datetime"}) from None


def _suppressions(value: object) -> dict[Suppression, bool]:
    if _is_left_out(value):
        return {}
    if not isinstance(value, dict):
        raise refusal({"suppression": "must_be_object"})
    given: dict[Suppression, bool] = {}
    for name in get_args(Suppression):
        if name not in value:
            continue
        if not isinstance(value[name], bool):
            raise refusal({f"suppression.{name}": "required" if value[name] is None else "must_be_boolean"})
        given[name] = value[name]
    return given
