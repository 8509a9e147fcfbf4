"""What routes ask for in their signature: who asks, which part of a list, and the repositories.

Everything comes from `request.state`: the lifespan put the database there, the edge the request id, and `Route` the
principal, before the body was read.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from datetime import UTC, datetime
from typing import Annotated, TypeVar
from uuid import UUID

import structlog
from fastapi import Depends, Query, Request

from app.errors import FieldError, Forbidden, InvalidInput, Unauthenticated
from app.pagination import CURSOR_EXAMPLE, LIMIT_DEFAULT, LIMIT_MAX, OFFSET_MAX, PageRequest
from app.repositories.audiences import AudienceRepository
from app.repositories.base import Principal, Repository
from app.repositories.bulk_actions import BulkActionRepository
from app.repositories.contact_search import ContactSearchRepository
from app.repositories.contact_tags import ContactTagRepository
from app.repositories.contact_upserts import ContactUpsertRepository
from app.repositories.contacts import ContactRepository
from app.repositories.events import EventRepository
from app.repositories.keys import KeyRepository
from app.repositories.memberships import MembershipRepository
from app.repositories.subscribers import SubscriberRepository
from app.repositories.system import FoundKey
from app.repositories.tag_contacts import TagContactRepository
from app.repositories.tags import TagRepository
from app.schemas.base import Text
from app.values import hash_key, is_key

log = structlog.get_logger(__name__)

# The longest tag name, folded and encoded, takes about 1,100.
CURSOR_MAX_LENGTH = 2_000

R = TypeVar("R", bound=Repository)


async def _principal(request: Request) -> Principal:
    principal: Principal = request.state.principal
    return principal


PrincipalDep = Annotated[Principal, Depends(_principal)]


def demand(principal: Principal, *scopes: str) -> None:
    """For a scope that only some bodies need; what a route always needs stands in its @requires."""
    if missing := principal.missing_scopes(scopes):
        raise Forbidden(missing)


def repository(kind: type[R]) -> Callable[[Request], Awaitable[R]]:
    """How a repository of this kind is born: `Tags = Annotated[TagRepository, Depends(repository(TagRepository))]`."""

    async def provide(request: Request) -> R:
        state = request.state
        return kind(
            state.database,
            state.principal,
            front_end=state.front_end.slug,
            request_id=state.request_id,
            only_audience=state.principal.audience if state.front_end.one_audience else None,
        )

    return provide


Audiences = Annotated[AudienceRepository, Depends(repository(AudienceRepository))]
BulkActions = Annotated[BulkActionRepository, Depends(repository(BulkActionRepository))]
Contacts = Annotated[ContactRepository, Depends(repository(ContactRepository))]
ContactSearch = Annotated[ContactSearchRepository, Depends(repository(ContactSearchRepository))]
ContactTags = Annotated[ContactTagRepository, Depends(repository(ContactTagRepository))]
ContactUpserts = Annotated[ContactUpsertRepository, Depends(repository(ContactUpsertRepository))]
Events = Annotated[EventRepository, Depends(repository(EventRepository))]
Keys = Annotated[KeyRepository, Depends(repository(KeyRepository))]
Memberships = Annotated[MembershipRepository, Depends(repository(MembershipRepository))]
Subscribers = Annotated[SubscriberRepository, Depends(repository(SubscriberRepository))]
TagContacts = Annotated[TagContactRepository, Depends(repository(TagContactRepository))]
Tags = Annotated[TagRepository, Depends(repository(TagRepository))]


async def _page(
    limit: Annotated[
        int, Query(ge=1, le=LIMIT_MAX, description="The most items that are wanted.", examples=[100])
    ] = LIMIT_DEFAULT,
    offset: Annotated[
        int | None,
        Query(
            ge=0,
            le=OFFSET_MAX,
            description="How many items to leave out. Not beside a cursor, which also leads further on.",
            examples=[100],
        ),
    ] = None,
    cursor: Annotated[
        Text | None,
        Query(
            max_length=CURSOR_MAX_LENGTH,
            description="The `next_cursor` of the page before, with the same filters and order.",
            examples=[CURSOR_EXAMPLE],
        ),
    ] = None,
) -> PageRequest:
    if cursor is not None and offset is not None:
        raise InvalidInput(
            [FieldError(("query", "offset"), "not_together", "A cursor says where to begin: leave the offset out.")]
        )
    return PageRequest(limit, offset or 0, cursor)


PageDep = Annotated[PageRequest, Depends(_page)]


class Authenticator:
    """From a key to its principal, with one look-up per key in a few seconds, however many use it at once.

    What was found is believed for up to `found_for` seconds, so a revocation is seen within that time everywhere, and
    at once in the process that `forget`s the key; that nothing was found for `missed_for`, so a key that is made now
    works now. When keys were used is written off the request's path, by `record`.
    """

    def __init__(
        self,
        find_key: Callable[[bytes], Awaitable[FoundKey | None]],
        record_use: Callable[[Collection[UUID]], Awaitable[None]],
        *,
        found_for: float = 5,
        missed_for: float = 1,
        cached_max: int = 10_000,
    ) -> None:
        self._find_key = find_key
        self._record_use = record_use
        self._found_for = found_for
        self._missed_for = missed_for
        self._cached_max = cached_max
        self._cache: dict[bytes, tuple[float, FoundKey | None]] = {}
        self._under_way: dict[bytes, asyncio.Task[FoundKey | None]] = {}
        self._used: set[UUID] = set()
        self._forgets = 0

    async def __call__(self, key: str) -> Principal:
        """The principal of a key. Raises Unauthenticated; why a key is not good is not told apart."""
        # The hash of a mistyped key misses the cache as well, so the checksum is only worked out then.
        secret_hash = hash_key(key)
        until, found = self._cache.get(secret_hash, (0.0, None))
        if until <= time.monotonic():
            if not is_key(key):
                raise Unauthenticated("invalid")
            # The look-up is nobody's own: a caller who goes away does not end it for the others.
            found = await asyncio.shield(self._share_look_up(secret_hash))
        if found is None:
            raise Unauthenticated("invalid")
        if not found.client_is_active:
            raise Unauthenticated("inactive_client")
        self._used.add(found.principal.key_id)
        return found.principal

    def forget(self, key_id: UUID) -> None:
        """Look the key up again when it comes next: it was revoked."""
        self._forgets += 1
        # One that began before is answered to those who wait for it, and to nobody else.
        self._under_way = {}
        self._cache = {
            secret_hash: (until, found)
            for secret_hash, (until, found) in self._cache.items()
            if found is None or found.principal.key_id != key_id
        }

    async def record(self) -> None:
        """Write down which keys were used since the last time. What fails is kept for the next."""
        used, self._used = self._used, set()
        if not used:
            return
        try:
            await self._record_use(used)
        except asyncio.CancelledError:
            self._used |= used
            raise
        except Exception as error:  # noqa: BLE001  # whatever it was, the next time may do better
            self._used |= used
            log.warning("last use of keys not recorded yet", cause=repr(error))

    async def record_every(self, seconds: float) -> None:
        """Record until cancelled."""
        while True:
            await asyncio.sleep(seconds)
            await self.record()

    def _share_look_up(self, secret_hash: bytes) -> asyncio.Task[FoundKey | None]:
        """The look-up of this key that is under way, or a new one."""
        under_way = self._under_way
        task = under_way.get(secret_hash)
        if task is None:
            task = under_way[secret_hash] = asyncio.create_task(self._look_up(secret_hash))
            task.add_done_callback(lambda _: under_way.pop(secret_hash))
        return task

    async def _look_up(self, secret_hash: bytes) -> FoundKey | None:
        # The time before the query counts: what is revoked while it runs must not be believed for longer.
        now, forgets = time.monotonic(), self._forgets
        found = await self._find_key(secret_hash)
        if forgets != self._forgets:
            # A key was revoked meanwhile. It may be this one, found as it was before.
            return found
        believed_for = self._missed_for
        if found is not None:
            believed_for = self._found_for
            if found.principal.expires_at is not None:
                believed_for = min(believed_for, (found.principal.expires_at - datetime.now(UTC)).total_seconds())
        # Out and in again, so that the first in the dictionary is the one that was looked up longest ago.
        self._cache.pop(secret_hash, None)
        while len(self._cache) >= self._cached_max:
            del self._cache[next(iter(self._cache))]
        self._cache[secret_hash] = (now + believed_for, found)
        return found


async def _authenticator(request: Request) -> Authenticator:
    authenticator: Authenticator = request.state.authenticate
    return authenticator


AuthenticatorDep = Annotated[Authenticator, Depends(_authenticator)]
