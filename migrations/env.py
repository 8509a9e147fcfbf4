"""Runs the migrations, over the driver that the service uses.

The URL comes from the caller (`polytag db upgrade`) or, under alembic's own command, from POLYTAG_DATABASE_URL.
"""

import asyncio

from alembic import context
from sqlalchemy import Connection, text

from app.config import Settings
from app.database import create_engine
from app.models import Base

# A migration that waits for a lock makes every request behind it wait too: better that it fails and is run again.
LOCK_TIMEOUT = "4s"
# Two services that start at once migrate one after the other.
ADVISORY_LOCK = 0x706F6C79746167


def run_migrations(connection: Connection) -> None:
    connection.execute(text("select pg_advisory_lock(:lock)"), {"lock": ADVISORY_LOCK})
    connection.execute(text(f"set lock_timeout = '{LOCK_TIMEOUT}'"))
    connection.commit()
    context.configure(connection=connection, target_metadata=Base.metadata)
    with context.begin_transaction():
        context.run_migrations()


async def run_online() -> None:
    url = context.config.attributes.get("url")
    if url is None:
        settings = Settings()
        if settings.database_url is None:
            raise SystemExit("Set POLYTAG_DATABASE_URL to the database that alembic shall work on.")
        url = settings.database_url.get_secret_value()
    engine = create_engine(url, statement_timeout=3600, lock_timeout=0)
    async with engine.connect() as connection:
        await connection.run_sync(run_migrations)
    await engine.dispose()


asyncio.run(run_online())
