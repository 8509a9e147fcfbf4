"""The composition root: settings become a service. `uvicorn --factory app.main:create_app` takes it from here too."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

from fastapi import FastAPI
from starlette.middleware import Middleware

import app
from app import logs, migrate
from app.config import Settings
from app.database import Database, create_engine
from app.dependencies import Authenticator
from app.frontend import BodyLimits, FrontEnd, build
from app.middleware import Edge
from app.repositories.system import SystemRepository
from app.routers import NATIVE

# Each is a line here and a folder in app/dialects.
DIALECTS: tuple[FrontEnd, ...] = ()
FRONT_ENDS = {front_end.slug: front_end for front_end in (NATIVE, *DIALECTS)}

RECORD_USE_EVERY_SECONDS = 10
_LAST_RECORD_WITHIN_SECONDS = 2


def create_app(settings: Settings | None = None) -> FastAPI:
    """The service by these settings. Without any it reads the environment and sets up the log, as a server's factory.

    It starts whether or not the database is there, says so at /readyz, and mends itself when it comes.
    """
    if settings is None:
        settings = Settings()
        logs.configure(settings.log_level, settings.log_format)
    if settings.database_url is None:
        raise ValueError("POLYTAG_DATABASE_URL is not set. `polytag serve` starts the bundled PostgreSQL without it.")
    database_url = settings.database_url.get_secret_value()
    newest_revision = migrate.newest_revision()

    @asynccontextmanager
    async def lifespan(_service: FastAPI) -> AsyncIterator[dict[str, Any]]:
        engine = create_engine(
            database_url,
            pool_size=settings.pool_size,
            pool_timeout=settings.pool_timeout,
            statement_timeout=settings.statement_timeout,
            lock_timeout=settings.lock_timeout,
        )
        database = Database(engine)
        system = SystemRepository(database)
        authenticator = Authenticator(system.find_key, system.record_use)
        recorder = asyncio.create_task(authenticator.record_every(RECORD_USE_EVERY_SECONDS))
        try:
            yield {
                "database": database,
                "database_is_current": partial(migrate.is_current, database, newest_revision),
                "authenticate": authenticator,
            }
        finally:
            recorder.cancel()
            with suppress(asyncio.CancelledError):
                await recorder
            with suppress(TimeoutError):
                async with asyncio.timeout(_LAST_RECORD_WITHIN_SECONDS):
                    await authenticator.record()
            await database.dispose()

    body_limits = BodyLimits(settings.max_body_bytes, settings.max_bulk_body_bytes)
    service = build(
        NATIVE,
        version=app.__version__,
        body_limits=body_limits,
        lifespan=lifespan,
        middleware=(Middleware(Edge, timeout=settings.request_timeout),),
    )
    for dialect in DIALECTS:
        service.mount(dialect.mount, build(dialect, version=app.__version__, body_limits=body_limits))
    return service


def openapi_document(front_end: FrontEnd) -> dict[str, Any]:
    """The OpenAPI document of a front end, as the service has it at its `/openapi.json`. Nothing is started for it."""
    # No request is served, so no body is measured.
    return build(front_end, version=app.__version__, body_limits=BodyLimits(default=0, bulk=0)).openapi()
