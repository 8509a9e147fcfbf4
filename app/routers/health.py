"""Whether the process serves, and whether it can do its work."""

import asyncio
from typing import Annotated, Literal

from fastapi import Request
from pydantic import Field

from app.errors import Unavailable
from app.frontend import new_router, public
from app.schemas.base import Output

READY_WITHIN_SECONDS = 2

router = new_router("health", "Whether the service is alive and ready.")


class Health(Output):
    """That all is well; otherwise a problem says what is not."""

    status: Annotated[
        Literal["ok", "ready"], Field(description="`ok` at `/healthz`, `ready` at `/readyz`. All else is a problem.")
    ]


@router.get("/healthz", response_description="It serves.")
@public
async def get_health() -> Health:
    """Ask whether the process serves, whatever the state of its database."""
    return Health(status="ok")


@router.get("/readyz", response_description="It can do its work.")
@public
async def get_readiness(request: Request) -> Health:
    """Ask whether the database can be reached and is at the schema of this version. 503 if not."""
    try:
        async with asyncio.timeout(READY_WITHIN_SECONDS):
            is_current = await request.state.database_is_current()
    except TimeoutError:
        raise Unavailable(f"The database did not answer within {READY_WITHIN_SECONDS} seconds.") from None
    if not is_current:
        raise Unavailable("The database is not at the schema of this version. Run `polytag db upgrade`.", retry_after=5)
    return Health(status="ready")
