"""What can be the case when a request is not fulfilled: facts, without HTTP.

AppError
├── Unauthenticated         no key, or none that is good
├── Forbidden               the key lacks a scope
├── NotFound                nothing of that id in this workspace
├── RouteNotFound           nothing at that path
├── MethodNotAllowed        something at that path, but not for that method
├── Unreadable              the body is not JSON in UTF-8
├── UnsupportedMediaType    the body is not declared as JSON, or is compressed
├── TooLarge                the body is longer than the limit
├── SlowBody                the body did not come in time
├── InvalidInput            fields that break a rule, each with its place
├── InvalidCursor           a cursor that was damaged, or made for another list
├── Duplicate               the value is taken, and by whom
├── Conflict                the state of the object does not allow it
├── PreconditionFailed      the object is not as If-Match says
├── IdempotencyKeyReused    the key of another request
├── StillRunning            the first request of this idempotency key has not ended
├── RateLimited             the key asks more often than it may
├── Unavailable             the database is away, busy or too slow: try again
└── InternalError           a fault of this service

The core raises these; each front end renders every one of them in its own form (`FrontEnd.render_error`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal
from uuid import UUID

UnauthenticatedReason = Literal["missing", "malformed", "invalid", "inactive_client"]


class AppError(Exception):
    """The root of the tree. `detail` is written for the person who made the request."""

    detail: str

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class Unauthenticated(AppError):
    """Unknown, revoked and expired keys are one reason, `invalid`: who guesses keys learns nothing."""

    def __init__(self, reason: UnauthenticatedReason, detail: str = "") -> None:
        super().__init__(
            detail
            or {
                "missing": "This call needs an API key.",
                "malformed": "The authorization that was sent is not of the form this API takes.",
                "invalid": "The API key is unknown, revoked or expired.",
                "inactive_client": "The client that this API key belongs to is not active.",
            }[reason]
        )
        self.reason = reason


class Forbidden(AppError):
    """The key is good, but was not given what this call needs."""

    def __init__(self, missing_scopes: Sequence[str]) -> None:
        super().__init__(f"The API key lacks the scope {' and '.join(missing_scopes)}.")
        self.missing_scopes = tuple(missing_scopes)


class NotFound(AppError):
    """Also the answer for another workspace's object: to this key it does not exist."""

    def __init__(self, resource: str, identifier: object, *, where: str = "") -> None:
        super().__init__(f"There is no {resource} {identifier}{where and ' ' + where}.")
        self.resource = resource
        self.identifier = str(identifier)


class RouteNotFound(AppError):
    """No route has this path, for any method. `below` is the path as the front end knows it, without its mount."""

    def __init__(self, path: str, *, below: str = "") -> None:
        super().__init__(f"There is nothing at {path}.")
        self.path = path
        self.below = below


class MethodNotAllowed(AppError):
    """`allowed` is every method that the path has; `below` is the path as the front end knows it."""

    def __init__(self, method: str, allowed: Sequence[str], *, below: str = "") -> None:
        super().__init__(f"{method} is not possible here. These methods are: {', '.join(allowed)}.")
        self.method = method
        self.allowed = tuple(allowed)
        self.below = below


class Unreadable(AppError):
    """The body cannot be parsed at all, so no field of it can be named."""


class UnsupportedMediaType(AppError):
    """`media_type` is what was declared; None where nothing was. `encoding` is named where that is what is wrong."""

    def __init__(self, media_type: str | None, *, encoding: str | None = None) -> None:
        sent = f"The body is declared as {media_type}" if media_type else "The body has no Content-Type"
        super().__init__(
            f"The body has the Content-Encoding {encoding}; send it without one."
            if encoding
            else f"{sent}; send it as application/json."
        )
        self.media_type = media_type


class TooLarge(AppError):
    """`limit` is in bytes."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"The body is larger than the {limit:,} bytes that this call takes.")
        self.limit = limit


class SlowBody(AppError):
    """The rest of the body was waited for as long as a request may take. Nothing was written."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"The body did not come within {seconds:g} seconds. Nothing was written.")


@dataclass(frozen=True, slots=True)
class FieldError:
    """One broken rule: where (the first part names the source: body, query, path or header), which, and in words."""

    location: tuple[str | int, ...]
    code: str
    detail: str
    # What validation itself calls it, for front ends that say it by that name; empty where it was not validation.
    kind: str = field(default="", compare=False)


# Every code of a FieldError, and what is wrong with the value then.
FIELD_CODES: dict[str, str] = {
    "missing": "It is required.",
    "unknown_field": "The object has no such field.",
    "unknown_parameter": "The call has no such query parameter.",
    "unsupported_header": "The call does not look at this header, and so refuses to act as if it did.",
    "invalid_type": "It is of another JSON type than the field.",
    "invalid_value": "It breaks the field's rule, or is none of its choices.",
    "invalid_id": "It is not a UUID.",
    "invalid_slug": "Nothing in it can be part of a slug.",
    "invalid_characters": "It holds NUL, half a surrogate pair, a control character, or bytes that are not UTF-8.",
    "too_long": "Text has too many characters, a list too many items, or the query too many bytes.",
    "too_short": "Text has too few characters, or a list too few items.",
    "out_of_range": "A number or a time is too small or too large.",
    "too_many_fields": "An object has more members than any object here has fields, or a query more parameters.",
    "too_large": "Free-form JSON is larger than is stored.",
    "too_deep": "It is nested deeper than is taken.",
    "not_together": "Two values exclude each other.",
    "overlap": "A tag is to be both added and removed.",
    "unknown_ids": "There is no contact or tag with this id, email or external id.",
    "not_members": "The contact is no member of the audience that the tag belongs to.",
    "unknown_tag": "The audience has no tag with this name or slug.",
    "unknown_audience": "There is no audience with this slug.",
    "unknown_client": "There is no client with this slug.",
    "audience_required": "The call needs one audience, and none is in force: add `audience=<slug>`.",
    "other_audience": "The tag belongs to another audience than the one that the call names.",
}


class InvalidInput(AppError):
    """`code` names the rule when all errors break the same one, and is `invalid_input` otherwise."""

    def __init__(self, errors: Sequence[FieldError]) -> None:
        codes = {error.code for error in errors}
        super().__init__(
            errors[0].detail if len(errors) == 1 else f"{len(errors)} values of the request cannot be taken."
        )
        self.errors = tuple(errors)
        self.code = codes.pop() if len(codes) == 1 else "invalid_input"


class InvalidCursor(AppError):
    """Also for a cursor that was made for other filters, another order or another database."""

    def __init__(
        self, detail: str = "The cursor is damaged, or belongs to a list with other filters. Start again without it."
    ) -> None:
        super().__init__(detail)


UniqueField = Literal["name", "slug", "secondary_id", "email", "external_id"]


class Duplicate(AppError):
    """`existing_id` is the object of this workspace that has the value; None when it is gone again."""

    def __init__(self, resource: str, field: UniqueField, value: object, existing_id: UUID | None) -> None:
        super().__init__(f"Another {resource} has the {field.replace('_', ' ')} {value}.")
        self.resource = resource
        self.field = field
        self.value = value
        self.existing_id = existing_id


ConflictCode = Literal["contact_mismatch", "tag_in_use", "audience_in_use"]


class Conflict(AppError):
    """`facts` are the figures behind it, shown to the caller beside the detail."""

    def __init__(self, code: ConflictCode, detail: str, **facts: int | str) -> None:
        super().__init__(detail)
        self.code = code
        self.facts = facts


class PreconditionFailed(AppError):
    """Somebody else changed it since the caller read it."""

    def __init__(self, resource: str) -> None:
        super().__init__(
            f"The {resource} is not as If-Match says: it was changed since. Nothing was written. Read it again, and "
            "repeat the change with the ETag of that answer."
        )
        self.resource = resource


class IdempotencyKeyReused(AppError):
    """The key came before with another method, path, query, body, audience or header."""

    def __init__(self) -> None:
        super().__init__(
            "This idempotency key belongs to another request: its method, path, query, body, audience, or a header "
            "that the call takes was not this one. Nothing was written. A new request needs a new key."
        )


class StillRunning(AppError):
    """Whether the first request of this idempotency key succeeds is not known yet. `retry_after` is in seconds."""

    def __init__(self, *, retry_after: int = 1) -> None:
        super().__init__("The first request with this idempotency key is still running. Repeat this one later.")
        self.retry_after = retry_after


class RateLimited(AppError):
    """The key asks for more than its share. Nothing was written. `retry_after` is in seconds, at least 1."""

    def __init__(self, detail: str, *, retry_after: int = 1) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class Unavailable(AppError):
    """Nothing was written, unless the detail says that this is not known. `retry_after` is in seconds."""

    def __init__(self, detail: str, *, retry_after: int = 1) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class InternalError(AppError):
    """What went wrong is in the log, under the request's id; the caller learns no more."""

    def __init__(self) -> None:
        super().__init__("Something went wrong in this service. The log has more under the request id.")
