"""The engine, its connections, and the one place where a statement is run.

Statements run by the driver's `fetch` on a connection of SQLAlchemy's pool: twice as fast as through the session, and
every statement passes one function that can count, time and translate it. What is not a transaction commits by itself.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from time import perf_counter
from typing import TypeVar, cast

import asyncpg
import sqlalchemy.exc
import structlog
from asyncpg.transaction import Transaction
from sqlalchemy import AdaptedConnection, event, text
from sqlalchemy.dialects.postgresql import asyncpg as asyncpg_dialect
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool, QueuePool

from app import metrics
from app.errors import Unavailable

T = TypeVar("T")
Row = asyncpg.Record

log = structlog.get_logger(__name__)

# Shares that a tag's count is split into. Each connection writes one, chosen by its server process id: processes that
# started one after the other have different ones, and two that meet only wait for each other.
COUNT_SLOTS = 64

CLOSE_WITHIN_SECONDS = 1

# A plan is made once for all values, so it leans on how large the tables are. One that was made while they were empty
# reads whole tables when they are filled: an import of 60,000 contacts took three times as long.
PLAN_LIVES_SECONDS = 10

# Names of the statements that ran in this context, for whoever sets a list: tests hold the number of them down.
statement_log: ContextVar[list[str] | None] = ContextVar("statement_log", default=None)

_DIALECT = asyncpg_dialect.dialect()  # type: ignore[no-untyped-call]


class Statement:
    """A statement with `:named` parameters, translated once into the driver's `$1`.

    The name says it in logs and counts. A parameter `:slot` is filled in from the connection. Write `cast(:x as int)`,
    since `:x::int` cannot be told apart from a parameter.
    """

    def __init__(self, name: str, sql: str) -> None:
        compiled = text(sql).compile(dialect=_DIALECT)
        self.name = name
        self.sql = str(compiled)
        self.parameters: tuple[str, ...] = tuple(compiled.positiontup or ())

    def __repr__(self) -> str:
        return f"Statement({self.name!r})"


class ConstraintViolation(Exception):
    """A row was refused by the constraint of this name: a lost race, which the repository turns into an answer."""

    def __init__(self, constraint: str) -> None:
        super().__init__(constraint)
        self.constraint = constraint


class LockTimeout(Exception):
    """A row was held by another transaction for longer than the lock timeout."""


class Connection:
    """A connection for the time of one unit of work."""

    def __init__(self, driver: asyncpg.Connection) -> None:
        self._driver = driver
        self._slot = driver.get_server_pid() % COUNT_SLOTS

    async def fetch(self, statement: Statement, **values: object) -> list[Row]:
        """Run a statement. Every one of the service passes here."""
        names = statement_log.get()
        if names is not None:
            names.append(statement.name)
        if "slot" in statement.parameters:
            values["slot"] = self._slot
        arguments = [values[name] for name in statement.parameters]
        started = perf_counter()
        try:
            rows: list[Row] = await self._driver.fetch(statement.sql, *arguments)
        except asyncpg.LockNotAvailableError as error:
            raise LockTimeout from error
        finally:
            metrics.time_statement(statement.name, perf_counter() - started)
        return rows

    async def fetch_one(self, statement: Statement, **values: object) -> Row:
        """Run a statement that answers with exactly one row."""
        [row] = await self.fetch(statement, **values)
        return row

    def transaction(self) -> Transaction:
        """A transaction around a block; within another one, a savepoint."""
        return self._driver.transaction()


class Database:
    """The pool of one process."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def fetch(self, statement: Statement, **values: object) -> list[Row]:
        """Run one statement, which commits by itself."""

        async def work(connection: Connection) -> list[Row]:
            return await connection.fetch(statement, **values)

        return await self._single(work)

    async def fetch_checked(
        self, statement: Statement, check: Callable[[list[Row]], None], /, **values: object
    ) -> list[Row]:
        """`fetch`, where `check` raises what kept the statement from writing.

        As a part of a larger transaction, the statement then lets go of what it holds.
        """

        async def work(connection: Connection) -> list[Row]:
            rows = await connection.fetch(statement, **values)
            check(rows)
            return rows

        return await self._single(work)

    async def fetch_one(self, statement: Statement, **values: object) -> Row:
        """Run one statement that answers with exactly one row."""
        [row] = await self.fetch(statement, **values)
        return row

    async def transaction(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Run `work` in one transaction that is committed before this returns, and rolled back if it raises.

        READ COMMITTED: each statement sees what was committed before it began, hence also what the transaction waited
        for. `work` may be run a second time, after a deadlock, so it must not keep anything from the first.
        """

        async def unit() -> T:
            async with self._lease() as connection, connection.transaction():
                return await work(connection)

        return await self._run(unit)

    def joined(self, connection: Connection) -> "Database":
        """A database whose units of work are all part of the transaction that is open on this connection."""
        return _Joined(self._engine, connection)

    def connections_in_use(self) -> int:
        """How many connections of the pool units of work hold now."""
        return cast("QueuePool", self._engine.pool).checkedout()

    async def dispose(self) -> None:
        """Close all connections."""
        await self._engine.dispose()

    @asynccontextmanager
    async def _lease(self) -> AsyncIterator[Connection]:
        started = perf_counter()
        async with self._engine.connect() as leased:
            metrics.time_pool_wait(perf_counter() - started)
            driver: asyncpg.Connection = (await leased.get_raw_connection()).driver_connection  # type: ignore[assignment]
            try:
                yield Connection(driver)
            except (asyncio.CancelledError, TimeoutError, asyncpg.InterfaceError, asyncpg.InternalClientError):
                # Whether a statement or a transaction is still open is not known now, and the next user of this
                # connection must not run inside it. Closing waits until the server has cancelled what it was doing:
                # otherwise it would go on, with its locks, and commit what nobody waits for any more.
                await asyncio.shield(_close(driver))
                raise

    async def _single(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        async def unit() -> T:
            async with self._lease() as connection:
                return await work(connection)

        return await self._run(unit)

    async def _run(self, unit: Callable[[], Awaitable[T]]) -> T:
        """One retry of the whole unit after a deadlock or a serialization failure; everything else becomes a fact."""
        try:
            try:
                return await unit()
            except (asyncpg.DeadlockDetectedError, asyncpg.SerializationError) as error:
                log.warning("unit retried", cause=type(error).__name__)
                is_deadlock = isinstance(error, asyncpg.DeadlockDetectedError)
                metrics.count_retry("deadlock" if is_deadlock else "serialization")
                return await unit()
        except asyncpg.IntegrityConstraintViolationError as error:
            raise ConstraintViolation(error.constraint_name or "") from error
        except (asyncpg.DeadlockDetectedError, asyncpg.SerializationError) as error:
            raise Unavailable("Other requests kept changing the same objects. Nothing was written.") from error
        except LockTimeout as error:
            raise Unavailable("Another request holds the object for too long. Nothing was written.") from error
        except asyncpg.QueryCanceledError as error:
            raise Unavailable("The database took too long and was stopped. Nothing was written.") from error
        except sqlalchemy.exc.TimeoutError as error:
            metrics.pool_timeouts.inc()
            # Those who wait in vain wait longest.
            metrics.time_pool_wait(cast("QueuePool", self._engine.pool).timeout())
            raise Unavailable("All database connections are in use. Nothing was written.") from error
        except _CONNECTION_ERRORS as error:
            log.warning("database unreachable", cause=type(error).__name__)
            raise Unavailable(
                "The database cannot be reached. If this request changes something, whether it did is not known. "
                "Repeating it does no harm.",
                retry_after=2,
            ) from error


class _Joined(Database):
    """Units of work as savepoints of one transaction.

    One that raises takes back what it wrote and lets go of what it held, so that the next one finds the order of locks
    as if the first had never been. Nothing is tried again here: a deadlock may be owed to what an earlier unit holds,
    so it ends the whole transaction, which is then run a second time.
    """

    def __init__(self, engine: AsyncEngine, connection: Connection) -> None:
        super().__init__(engine)
        self._connection = connection

    async def transaction(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        try:
            async with self._connection.transaction():
                return await work(self._connection)
        except asyncpg.IntegrityConstraintViolationError as error:
            raise ConstraintViolation(error.constraint_name or "") from error

    async def _single(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        return await self.transaction(work)


async def _close(driver: asyncpg.Connection) -> None:
    try:
        await driver.close(timeout=CLOSE_WITHIN_SECONDS)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
        driver.terminate()


# What a lost, refused or silent server looks like from here.
_CONNECTION_ERRORS = (
    OSError,  # TimeoutError is one
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # a connection that is being lost
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.ReadOnlySQLTransactionError,
    sqlalchemy.exc.DBAPIError,
)


def create_engine(
    url: str,
    *,
    pool_size: int | None = None,
    pool_timeout: float = 5,
    statement_timeout: float = 20,
    lock_timeout: float = 5,
) -> AsyncEngine:
    """The engine for a `postgresql://` URL, which the driver reads itself (sslmode, several hosts, a socket).

    Timeouts are in seconds. Without a pool size each use has a connection of its own, as migrations want it.
    """

    async def connect() -> asyncpg.Connection:
        return await asyncpg.connect(
            url,
            timeout=5,
            # The server's own limit comes first; this one is for a server that no longer answers.
            command_timeout=statement_timeout + 2,
            max_cached_statement_lifetime=PLAN_LIVES_SECONDS,
            server_settings={
                "application_name": "polytag",
                "statement_timeout": str(int(statement_timeout * 1000)),
                "lock_timeout": str(int(lock_timeout * 1000)),
                "idle_in_transaction_session_timeout": str(int(statement_timeout * 1000)),
                "timezone": "UTC",
                # Compiling costs more than any statement of ours takes.
                "jit": "off",
                # So does planning anew for each set of values: 1.0 of 1.7 ms for adding a tag. Statements that need
                # another plan when a filter is given are other statements.
                "plan_cache_mode": "force_generic_plan",
            },
        )

    if pool_size is None:
        return create_async_engine("postgresql+asyncpg://", async_creator=connect, poolclass=NullPool)
    engine = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=connect,
        pool_size=pool_size,
        # Overflow connections are opened and closed at each request, which costs two thirds of the throughput.
        max_overflow=0,
        pool_timeout=pool_timeout,
        # The connection that was used last has its plans still; taken in turn, all would lose theirs at low traffic.
        pool_use_lifo=True,
    )

    @event.listens_for(engine.sync_engine, "checkout")
    def replace_closed(dbapi_connection: AdaptedConnection, _record: object, _proxy: object) -> None:
        # The driver's own errors bypass the pool, which would hand out closed connections for ever.
        if dbapi_connection.driver_connection.is_closed():
            raise sqlalchemy.exc.DisconnectionError

    return engine
