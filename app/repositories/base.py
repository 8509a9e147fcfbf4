"""Who asks, and what every repository starts from."""

from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar
from uuid import UUID

from app.database import Database
from app.errors import FieldError, InvalidInput

AnyRepository = TypeVar("AnyRepository", bound="Repository")


@dataclass(frozen=True, slots=True)
class Principal:
    """The API key behind a request: its workspace, its client, and what it may do.

    `audience` is the slug of the key's default audience; None when the key has none.
    """

    workspace_id: UUID
    workspace: str
    client_id: UUID
    client: str
    key_id: UUID
    scopes: frozenset[str]
    audience: str | None
    expires_at: datetime | None

    def missing_scopes(self, needed: tuple[str, ...]) -> tuple[str, ...]:
        """The scopes that a call needs and this key has not. `admin` implies all."""
        return () if "admin" in self.scopes else tuple(scope for scope in needed if scope not in self.scopes)


class Repository:
    """Verbs within one workspace: none takes a workspace id, every statement names it.

    `front_end` and `request_id` go into what the verbs record of themselves. With `only_audience` a tag that is named
    by its id is found in that audience alone; a tag of another one does not exist.
    """

    def __init__(
        self,
        database: Database,
        principal: Principal,
        *,
        front_end: str,
        request_id: str,
        only_audience: str | None = None,
    ) -> None:
        self._database = database
        self._principal = principal
        self._front_end = front_end
        self._request_id = request_id
        self._only_audience = only_audience
        # What a statement may name of the caller; it takes the parameters that it has.
        self._caller: dict[str, object] = {
            "workspace_id": principal.workspace_id,
            "client_id": principal.client_id,
            "key_id": principal.key_id,
            "front_end": front_end,
            "request_id": request_id,
            "only_audience": only_audience,
        }

    def _sibling(self, kind: type[AnyRepository]) -> AnyRepository:
        """Another repository of the same caller, for a unit of work that needs both."""
        return kind(
            self._database,
            self._principal,
            front_end=self._front_end,
            request_id=self._request_id,
            only_audience=self._only_audience,
        )

    def _audience(self, audience: str | None) -> str:
        """The slug of the audience in force: the one named, else the key's default one."""
        slug = audience or self._principal.audience
        if slug is None:
            raise InvalidInput(
                [
                    FieldError(
                        ("query", "audience"),
                        "audience_required",
                        "The API key has no default audience, so the call must name one: audience=<slug>.",
                    )
                ]
            )
        return slug

    def _audience_or_all(self, audience: str | None) -> str | None:
        """The slug of the audience that a list is of; None where it is of all: for `*`, or where none is in force."""
        return None if audience == "*" else audience or self._principal.audience


def unknown_audience(slug: str) -> InvalidInput:
    """The fact that the audience named in the query does not exist in this workspace."""
    return InvalidInput([FieldError(("query", "audience"), "unknown_audience", f"There is no audience {slug}.")])
