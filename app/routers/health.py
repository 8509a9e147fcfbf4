"""Whether the process serves, and whether it can do its work."""

import asyncio

from fastapi import Request

from app.errors import Unavailable
from app.frontend import new_router, public
from app.schemas.base import Output

READY_WITHIN_SECONDS = 2

router = new_router("health")


class Health(Output):
    """That all is well; otherwise a problem says what is not."""

    status: str


@router.get("/healthz")
@public
async def get_health() -> Health:
    """The process serves, whatever the state of its database."""
    return Health(status="ok")


@router.get("/readyz")
@public
async def get_readiness(request: Request) -> Health:
    """The database can be reached and is at the schema of this version."""
    try:
        async with asyncio.timeout(READY_WITHIN_SECONDS):
            is_current = await request.state.database_is_current()
    except TimeoutError:
        raise Unavailable(f"The database did not answer within {READY_WITHIN_SECONDS} seconds.") from None
    if not is_current:
        raise Unavailable("The database is not at the schema of this version. Run `polytag db upgrade`.", retry_after=5)
    return Health(status="ready")
