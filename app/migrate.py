"""Bringing a database to the schema of this version, and telling whether it is there."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from app.database import Database, Statement

# Alembic's table is not there before the first migration; naming it outright would be an error then.
_IS_MIGRATED = Statement("migrate.is_migrated", "select to_regclass('alembic_version') is not null as yes")
_SCHEMA_VERSION = Statement("migrate.schema_version", "select version_num from alembic_version")


class CannotMigrate(Exception):
    """Why the database is not at the schema of this version, in words for the person who runs the service."""


def upgrade(url: str, revision: str = "head") -> None:
    """Migrate the database at a `postgresql://` URL. Not to be called from a running event loop."""
    try:
        command.upgrade(_config(url), revision)
    except CommandError as error:
        raise CannotMigrate("a newer Polytag has migrated it. Upgrade this one, or use another database") from error
    except Exception as error:
        # What the driver said; the statement that stands around it is of no help to who runs the service.
        raise CannotMigrate(str(getattr(error, "driver_exception", None) or error)) from error


def downgrade(url: str, revision: str) -> None:
    """Take revisions back, down to the one named. `base` empties the database."""
    command.downgrade(_config(url), revision)


def newest_revision() -> str:
    """The revision that this version of the service works on."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    if head is None:
        raise RuntimeError("The migrations are missing from this installation.")
    return head


async def is_current(database: Database, newest: str) -> bool:
    """Whether the database stands at the newest revision. Raises what the database raises when it is away."""
    if not (await database.fetch_one(_IS_MIGRATED))["yes"]:
        return False
    rows = await database.fetch(_SCHEMA_VERSION)
    return [row["version_num"] for row in rows] == [newest]


def _config(url: str | None = None) -> Config:
    package = Path(__file__).parent
    # Installed, the migrations lie inside the package; in a checkout beside it.
    installed, checkout = package / "_migrations", package.parent / "migrations"
    config = Config(attributes={"url": url})
    config.set_main_option("script_location", str(installed if installed.exists() else checkout).replace("%", "%%"))
    return config
