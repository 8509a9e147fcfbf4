"""What routes ask for in their signature: who asks, which part of a list, and the repositories.

Everything comes from `request.state`: the lifespan put the database there, the edge the request id, and `Route` the
principal, before the body was read.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, TypeVar
from uuid import UUID

import structlog
from fastapi import Depends, Query, Request

from app.errors import FieldError, Forbidden, InvalidInput, Unauthenticated
from app.pagination import LIMIT_DEFAULT, LIMIT_MAX, OFFSET_MAX, PageRequest
from app.repositories.base import Principal, Repository
from app.schemas.base import Text
from app.values import hash_key, is_key

log = structlog.get_logger(__name__)

CURSOR_MAX_LENGTH = 1_000

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
        return kind(state.database, state.principal, front_end=state.front_end.slug, request_id=state.request_id)

    return provide


async def _page(
    limit: Annotated[int, Query(ge=1, le=LIMIT_MAX, description="The most items that are wanted.")] = LIMIT_DEFAULT,
    offset: Annotated[
        int | None, Query(ge=0, le=OFFSET_MAX, description="How many items to leave out. Not beside a cursor.")
    ] = None,
    cursor: Annotated[
        Text | None, Query(max_length=CURSOR_MAX_LENGTH, description="The `next_cursor` of the page before.")
    ] = None,
) -> PageRequest:
    if cursor is not None and offset is not None:
        raise InvalidInput(
            [FieldError(("query", "offset"), "not_together", "A cursor says where to begin: leave the offset out.")]
        )
    return PageRequest(limit, offset or 0, cursor)


PageDep = Annotated[PageRequest, Depends(_page)]
