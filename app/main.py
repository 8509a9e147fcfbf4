"""The composition root: settings become a service. `uvicorn --factory app.main:create_app` takes it from here too."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import structlog
from fastapi import FastAPI
from starlette.middleware import Middleware

import app
from app import logs, metrics, migrate
from app.config import Settings
from app.database import Database, create_engine
from app.dependencies import Authenticator
from app.dialects.buttondown import BUTTONDOWN
from app.dialects.datamailer import DATAMAILER
from app.dialects.sendportal import SENDPORTAL
from app.dialects.topmail import TOPMAIL
from app.frontend import BodyLimits, FrontEnd, build, mount
from app.idempotency import Idempotency
from app.middleware import Edge
from app.openapi import describe
from app.rate_limits import Bodies, RateLimits, SharedCounts, Shares, demand_redis
from app.repositories.system import SystemRepository
from app.routers import NATIVE
from app.turns import Turns

log = structlog.get_logger(__name__)

# Each is a line here and a folder in app/dialects.
DIALECTS: tuple[FrontEnd, ...] = (TOPMAIL, BUTTONDOWN, SENDPORTAL, DATAMAILER)
FRONT_ENDS = {front_end.slug: front_end for front_end in (NATIVE, *DIALECTS)}

RECORD_USE_EVERY_SECONDS = 10
COUNT_UNNUMBERED_EVERY_SECONDS = 10
LOOK_AT_POOL_EVERY_SECONDS = 1
# So many of the largest ones may be under way at the same time, in one process.
BODIES_OF_A_KEY = 8
FORGET_ANSWERS_EVERY_SECONDS = 300
FORGET_ANSWERS_AT_ONCE = 1_000
_LAST_RECORD_WITHIN_SECONDS = 2


def chosen_dialects(names: str) -> tuple[FrontEnd, ...]:
    """The dialects that a setting names: `all`, `none`, or slugs with commas between. ValueError for unknown ones."""
    if names in {"all", "none"}:
        return DIALECTS if names == "all" else ()
    chosen = names.split(",")
    there = {dialect.slug: dialect for dialect in DIALECTS}
    if unknown := [name for name in chosen if name not in there]:
        raise ValueError(
            f"POLYTAG_DIALECTS must be all, none, or names of {', '.join(there)} with commas between; it has "
            f"{', '.join(f'{name} beside other names' if name in {'all', 'none'} else name for name in unknown)}."
        )
    return tuple(dialect for slug, dialect in there.items() if slug in chosen)


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
    if settings.rate_limit_storage is not None:
        demand_redis()
    dialects = chosen_dialects(settings.dialects)
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
        rate_limits = _rate_limits(settings)
        metrics.begin(version=app.__version__, connections=settings.pool_size)
        tasks = [
            asyncio.create_task(authenticator.record_every(RECORD_USE_EVERY_SECONDS)),
            asyncio.create_task(_look_at_pool_every(database, LOOK_AT_POOL_EVERY_SECONDS)),
            asyncio.create_task(_count_unnumbered_every(system, COUNT_UNNUMBERED_EVERY_SECONDS)),
            asyncio.create_task(_forget_answers_every(system, FORGET_ANSWERS_EVERY_SECONDS)),
        ]
        try:
            yield {
                "database": database,
                "database_is_current": partial(migrate.is_current, database, newest_revision),
                "authenticate": authenticator,
                "idempotency": Idempotency(wait_seconds=settings.lock_timeout),
                "rate_limits": rate_limits,
                "shares": Shares(settings.pool_size, wait=settings.pool_timeout),
                "turns": Turns(),
                "bodies": Bodies(BODIES_OF_A_KEY * settings.max_bulk_body_bytes),
            }
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            with suppress(TimeoutError):
                async with asyncio.timeout(_LAST_RECORD_WITHIN_SECONDS):
                    await authenticator.record()
            if rate_limits is not None:
                await rate_limits.close()
            await database.dispose()
            metrics.end()

    body_limits = BodyLimits(settings.max_body_bytes, settings.max_bulk_body_bytes)
    service = build(
        NATIVE,
        version=app.__version__,
        body_limits=body_limits,
        lifespan=lifespan,
        middleware=(Middleware(Edge, timeout=settings.request_timeout, public_url=settings.public_url),),
        public_url=settings.public_url,
    )
    describe(service, NATIVE)
    for dialect in dialects:
        mounted = build(dialect, version=app.__version__, body_limits=body_limits, public_url=settings.public_url)
        describe(mounted, dialect)
        mount(service, dialect, mounted)
    return service


def openapi_document(front_end: FrontEnd) -> dict[str, Any]:
    """The OpenAPI document of a front end, as the service has it at its `/openapi.json`. Nothing is started for it."""
    # No request is served, so no body is measured.
    service = build(front_end, version=app.__version__, body_limits=BodyLimits(default=0, bulk=0))
    describe(service, front_end)
    return service.openapi()


def _rate_limits(settings: Settings) -> RateLimits | None:
    if settings.rate_limit == "off":
        return None
    requests, seconds = settings.rate_limit.removesuffix("s").split("/")
    url = settings.rate_limit_storage
    shared = None if url is None else SharedCounts(url.get_secret_value())
    return RateLimits(int(requests), int(seconds), shared=shared)


async def _look_at_pool_every(database: Database, seconds: float) -> None:
    """Keep the metric of connections in use, until cancelled. Noting each use would cost each request."""
    while True:
        metrics.pool_connections_in_use.set(database.connections_in_use())
        await asyncio.sleep(seconds)


async def _count_unnumbered_every(system: SystemRepository, seconds: float) -> None:
    """Keep the metric of events that have no position yet, until cancelled."""
    while True:
        try:
            metrics.events_unnumbered.set(await system.count_unnumbered(metrics.UNNUMBERED_MAX))
        except Exception as error:  # noqa: BLE001  # whatever it was, the next time may do better
            log.warning("unnumbered events not counted", cause=repr(error))
        await asyncio.sleep(seconds)


async def _forget_answers_every(system: SystemRepository, seconds: float) -> None:
    """Keep idempotency keys from piling up, until cancelled. A thousand at a time, to hold nothing up."""
    while True:
        try:
            while await system.forget_answers(FORGET_ANSWERS_AT_ONCE) == FORGET_ANSWERS_AT_ONCE:
                pass
        except Exception as error:  # noqa: BLE001  # whatever it was, the next time may do better
            log.warning("old answers to idempotent requests not deleted", cause=repr(error))
        await asyncio.sleep(seconds)
