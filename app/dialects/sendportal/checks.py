"""What SendPortal's calls are checked for, in its order and with its texts.

All that is wrong with a request is told at once, field by field; whether the tags and subscribers exist that it names
belongs to that, and comes before whether there is anything at the path. Codes are the names of Laravel's rules.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from app.dialects.sendportal.schemas import SUBSCRIBERS_MAX, TAGS_MAX
from app.errors import FieldError, InvalidInput
from app.logs import shown
from app.repositories.contact_tags import TagRef
from app.repositories.contacts import ContactFields
from app.repositories.subscribers import SubscriberRepository
from app.repositories.subscriptions import SubscriptionChange
from app.repositories.tags import TagRepository
from app.schemas.base import RAW_LENGTH_FACTOR, in_utc
from app.values import (
    EMAIL_MAX_LENGTH,
    NAME_MAX_LENGTH,
    PERSON_NAME_MAX_LENGTH,
    normalize_email,
    normalize_name,
)

NUMBER_MAX = 2**63 - 1

TAG_NAME_TAKEN = "The tag name must be unique."
EMAIL_TAKEN = "The email has already been taken."
# What the vendor left there, and its clients have seen ever since.
NO_SUBSCRIBER = "The validation error message."

_INTEGER = re.compile(r"[+-]?(0|[1-9][0-9]*)", re.ASCII)
_INTEGER_MAX_LENGTH = len(str(-NUMBER_MAX))


def integer(value: object) -> int | None:
    """The integer that a value is to PHP's filter: a JSON one, 2.0, true, or text like "2" and " +2 "; or none."""
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) <= NUMBER_MAX else None
    if isinstance(value, int):
        # Beyond its integers a number is a fraction to PHP. false is nothing to it, true is 1.
        return int(value) if value is not False and abs(value) <= NUMBER_MAX else None
    text = value.strip() if isinstance(value, str) else ""
    if len(text) > _INTEGER_MAX_LENGTH or not _INTEGER.fullmatch(text):
        return None
    return int(text) if abs(int(text)) <= NUMBER_MAX else None


def number_in_path(text: str) -> int | None:
    """The number that an id in a path is: nothing but digits, and no more than there can be."""
    digits = text.lstrip("0")
    if not text.isascii() or not text.isdecimal() or not 0 < len(digits) <= len(str(NUMBER_MAX)):
        return None
    return int(digits) if int(digits) <= NUMBER_MAX else None


@dataclass(frozen=True, slots=True)
class _Element:
    """An element of a list of ids: where it is, as what it is said back, and its number if it is one."""

    place: str | int
    text: str | None
    number: int | None


def broken(rule: str, detail: str, *place: str | int) -> FieldError:
    """A field of the body that breaks one of Laravel's rules."""
    return FieldError(("body", *place), rule, detail)


class Check:
    """One request being looked at. What is wrong is collected, and raised by `done`."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self._given = given
        self._errors: list[FieldError] = []

    def done(self) -> None:
        """Refuse the request if anything was wrong."""
        if self._errors:
            raise InvalidInput(self._errors)

    def refuse(self, rule: str, detail: str, *place: str | int) -> None:
        """Note that the field at this place breaks this rule."""
        self._errors.append(broken(rule, detail, *place))

    async def name(self, tags: TagRepository, *, of: int | None = None) -> str:
        """A tag's name, which no tag has but the one `of` this number. The verb looks again; its word counts."""
        text = self._text("name", NAME_MAX_LENGTH, required=True)
        if not text:
            return ""
        try:
            name = normalize_name(text)
        except ValueError:
            self._refuse_form("name", text, NAME_MAX_LENGTH)
            return ""
        holder = await tags.find_by_name(name)
        if holder and holder.number != of:
            self.refuse("unique", TAG_NAME_TAKEN, "name")
        return name

    def contact(self) -> ContactFields:
        """What is said of a person. The email is needed, also where it shall not change."""
        fields: ContactFields = {}
        for field in ("first_name", "last_name"):
            if field in self._given:
                text = self._text(field, PERSON_NAME_MAX_LENGTH)
                if text and (len(text) > PERSON_NAME_MAX_LENGTH or not _is_storable(text)):
                    self._refuse_form(field, text, PERSON_NAME_MAX_LENGTH)
                fields[field] = text
        if email := self._text("email", EMAIL_MAX_LENGTH, required=True):
            try:
                fields["email"] = normalize_email(email)
            except ValueError:
                if len(email) > EMAIL_MAX_LENGTH:
                    self._refuse_form("email", email, EMAIL_MAX_LENGTH)
                else:
                    self.refuse("email", "The email field must be a valid email address.", "email")
        return fields

    def subscription(self) -> SubscriptionChange | None:
        """What becomes of what a subscriber agreed to; nothing, where nothing is said."""
        if "unsubscribed_at" not in self._given:
            return None
        value = _cleaned(self._given["unsubscribed_at"])
        if value is None:
            return SubscriptionChange("subscribed")
        try:
            time = datetime.fromisoformat(value)
            at = in_utc(time if time.utcoffset() is not None else time.replace(tzinfo=UTC))
        except (TypeError, ValueError, OverflowError):
            self.refuse("date", "The unsubscribed at field must be a valid date.", "unsubscribed_at")
            return None
        return SubscriptionChange("unsubscribed", unsubscribed_at=at)

    async def tags(self, tags: TagRepository, *, required: bool) -> list[TagRef] | None:
        """The tags that are named, once each; None where none need be named and the field is absent or null."""
        elements = self._elements("tags", TAGS_MAX, required=required)
        if elements is None:
            return None
        ids = await tags.ids_by_number(_numbers(elements))
        found = self._found(elements, ids, "tags", "Tag ID {} does not exist.")
        return [TagRef(("body", "tags", place), id=tag_id) for tag_id, place in found.items()]

    async def subscribers(self, subscribers: SubscriberRepository, *, required: bool) -> list[UUID] | None:
        """The subscribers that are named, once each; None as with tags."""
        elements = self._elements("subscribers", SUBSCRIBERS_MAX, required=required)
        if elements is None:
            return None
        ids = await subscribers.ids_by_number(_numbers(elements))
        return list(self._found(elements, ids, "subscribers", NO_SUBSCRIBER))

    def ignored_subscribers(self) -> None:
        """A list that must be one, and of which nothing comes."""
        self._list("subscribers", SUBSCRIBERS_MAX, required=False)

    def _text(self, field: str, at_most: int, *, required: bool = False) -> str | None:
        """Text as Laravel has it before its rules: trimmed, and null if nothing is left. Numbers are text to PHP."""
        value = _cleaned(self._given.get(field))
        if isinstance(value, int | float) and not isinstance(value, bool):
            value = str(value)
        if value is None:
            if required:
                self.refuse("required", f"The {_said(field)} field is required.", field)
        elif not isinstance(value, str):
            self.refuse("string", f"The {_said(field)} field must be a string.", field)
        # Normalising takes time by the square of the combining marks in a row, so a long text is not looked at.
        elif len(value) > RAW_LENGTH_FACTOR * at_most:
            self._refuse_form(field, value, at_most)
        else:
            return value
        return None

    def _refuse_form(self, field: str, text: str, at_most: int) -> None:
        if len(text) > at_most:
            self.refuse("max", f"The {_said(field)} field must not be greater than {at_most} characters.", field)
        else:
            self.refuse("regex", f"The {_said(field)} field format is invalid.", field)

    def _list(self, field: str, at_most: int, *, required: bool) -> list[tuple[str | int, Any]] | None:
        """The elements of a list or a map by their places, which errors name."""
        if required and field not in self._given:
            self.refuse("required", f"The {field} field is required.", field)
            return None
        value = _cleaned(self._given.get(field))
        if not isinstance(value, list | dict):
            if required or value is not None:
                self.refuse("array", f"The {field} field must be an array.", field)
            if required and value is None:
                self.refuse("required", f"The {field} field is required.", field)
            return None
        if required and not value:
            self.refuse("required", f"The {field} field is required.", field)
            return None
        if len(value) > at_most:
            self.refuse("max", f"The {field} field must not have more than {at_most} items.", field)
            return None
        return list(value.items() if isinstance(value, dict) else enumerate(value))

    def _elements(self, field: str, at_most: int, *, required: bool) -> list[_Element] | None:
        listed = self._list(field, at_most, required=required)
        if listed is None:
            return None
        return [
            _Element(shown(place) if isinstance(place, str) else place, _echo(value), integer(value))
            for place, value in listed
        ]

    def _found(
        self, elements: Sequence[_Element], ids: Mapping[int, UUID], field: str, missing: str
    ) -> dict[UUID, str | int]:
        """What the elements mean, each with the place where it is named first. What they mean in vain is noted."""
        found: dict[UUID, str | int] = {}
        for one in elements:
            if one.number is None:
                self.refuse("integer", f"The {field}.{one.place} field must be an integer.", field, one.place)
            elif one.number in ids:
                found.setdefault(ids[one.number], one.place)
                continue
            # What is a list or an object itself has no text to be named by.
            if one.text is not None:
                self.refuse("exists", missing.format(one.text), field, one.place)
        return found


def _numbers(elements: Sequence[_Element]) -> list[int]:
    # None is 0 or less, and what cannot be there is not asked for.
    return list(dict.fromkeys(one.number for one in elements if one.number is not None and one.number > 0))


def _cleaned(value: Any) -> Any:  # noqa: ANN401
    return (value.strip() or None) if isinstance(value, str) else value


def _echo(value: Any) -> str | None:  # noqa: ANN401
    """How the vendor's messages say a value."""
    value = _cleaned(value)
    if isinstance(value, list | dict):
        return None
    if value is None or isinstance(value, bool):
        return {None: "empty", False: "false", True: "1"}[value]
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) <= NUMBER_MAX else repr(value)
    return shown(str(value))


def _said(field: str) -> str:
    return field.replace("_", " ")


def _is_storable(text: str) -> bool:
    return not any(character == "\x00" or "\ud800" <= character <= "\udfff" for character in text)
