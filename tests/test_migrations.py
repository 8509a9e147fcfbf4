"""The migrations make what the models say, can be taken back, and neither wait nor collide."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from app import migrate
from app.database import Database, create_engine
from app.models import Base
from tests.conftest import MakeDatabase
from tests.databases import empty_database, query

# All versions of the service have to agree on it, or an old and a new one migrate at the same time.
ADVISORY_LOCK = 0x706F6C79746167

Schema = set[tuple[Any, ...]]

# Everything that a schema is made of, one row each, as the server itself writes it down.
CATALOG = (
    """
    select 'column', c.relname, a.attname, format_type(a.atttypid, a.atttypmod), l.collname, a.attnotnull,
        a.attidentity, a.attgenerated, pg_get_expr(d.adbin, d.adrelid)
    from pg_attribute a
    join pg_class c on c.oid = a.attrelid and c.relkind in ('r', 'p')
    left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
    left join pg_collation l on l.oid = a.attcollation
    where c.relnamespace = 'public'::regnamespace and a.attnum > 0 and not a.attisdropped
    """,
    """
    select 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid), convalidated
    from pg_constraint where connamespace = 'public'::regnamespace
    """,
    """
    select 'index', i.indrelid::regclass::text, pg_get_indexdef(i.indexrelid), i.indisunique, i.indnullsnotdistinct,
        i.indisvalid
    from pg_index i join pg_class c on c.oid = i.indexrelid where c.relnamespace = 'public'::regnamespace
    """,
    """
    select 'sequence', c.relname, format_type(s.seqtypid, null), s.seqstart, s.seqincrement, s.seqmax, s.seqmin,
        s.seqcache, s.seqcycle
    from pg_sequence s join pg_class c on c.oid = s.seqrelid where c.relnamespace = 'public'::regnamespace
    """,
    # What none of the above lists: views, types, functions, triggers, extensions.
    "select 'relation', relname, relkind::text from pg_class where relnamespace = 'public'::regnamespace",
    "select 'type', typname, typtype::text from pg_type where typnamespace = 'public'::regnamespace",
    "select 'function', oid::regprocedure::text from pg_proc where pronamespace = 'public'::regnamespace",
    "select 'trigger', tgrelid::regclass::text, tgname from pg_trigger where not tgisinternal",
    "select 'extension', extname from pg_extension",
)


async def read_schema(connection: asyncpg.Connection) -> Schema:
    """All that stands in the catalog, but for Alembic's own table."""
    rows = [tuple(row.values()) for statement in CATALOG for row in await connection.fetch(statement)]
    return {row for row in rows if not any("alembic_version" in str(part) for part in row)}


async def schema_of(url: str) -> Schema:
    connection = await asyncpg.connect(url)
    try:
        return await read_schema(connection)
    finally:
        await connection.close()


async def upgrade(url: str) -> None:
    # The migrations run an event loop of their own.
    await asyncio.to_thread(migrate.upgrade, url)


async def make_all(url: str) -> None:
    """Make the tables from the models, without the migrations."""
    engine = create_engine(url)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)


async def differences(url: str) -> list[Any]:
    """What Alembic would write into a new revision."""

    def compare(connection: Connection) -> list[Any]:
        options = {"compare_type": True, "compare_server_default": True}
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), Base.metadata))

    async with create_engine(url).connect() as connection:
        return await connection.run_sync(compare)


@pytest.fixture
async def empty_url(server_url: str) -> AsyncIterator[str]:
    async with empty_database(server_url) as url:
        yield url


async def test_up_down_and_up_again_is_up(empty_url: str) -> None:
    untouched = await schema_of(empty_url)
    await upgrade(empty_url)
    first = await schema_of(empty_url)
    assert ("relation", "contact_tags", "r") in first

    await asyncio.to_thread(migrate.downgrade, empty_url, "base")
    assert await schema_of(empty_url) == untouched

    await upgrade(empty_url)
    assert await schema_of(empty_url) == first
    # Where there is nothing to do, nothing is done.
    await upgrade(empty_url)
    assert await schema_of(empty_url) == first


async def test_a_database_knows_whether_it_is_current(empty_url: str, new_database: MakeDatabase) -> None:
    for url, is_current in ((empty_url, False), (await new_database(), True)):
        await query(url, "create table if not exists alembic_version (version_num text)")
        database = Database(create_engine(url))
        assert await migrate.is_current(database, migrate.newest_revision()) is is_current
        await database.dispose()


async def test_the_migrations_make_what_the_models_say(empty_url: str, new_database: MakeDatabase) -> None:
    migrated = await new_database()
    await make_all(empty_url)

    assert await differences(migrated) == []
    assert await schema_of(migrated) == await schema_of(empty_url)


# Of each kind one that Alembic's own comparison may miss.
DRIFTS = (
    'alter table tags alter column name_key type text collate "default"',
    "alter table tags alter column color drop not null",
    "alter table tags alter column version set default 2",
    "alter table tags drop constraint uq_tags_workspace_id_number",
    "alter table contacts alter column number drop default",
    "alter sequence contacts_number_seq cache 100",
    "alter table subscriptions drop constraint ck_subscriptions_status",
    "alter table subscriptions drop constraint fk_subscriptions_clients",
    """
    drop index uq_audiences_default;
    create unique index uq_audiences_default on audiences (workspace_id) where not is_default
    """,
    """
    alter table subscriptions drop constraint uq_subscriptions_workspace_id_contact_id_audience_id_client_id;
    alter table subscriptions add constraint uq_subscriptions_workspace_id_contact_id_audience_id_client_id
        unique (workspace_id, contact_id, audience_id, client_id)
    """,
    "create view everything as select * from tags",
)


async def test_every_difference_is_found(new_database: MakeDatabase) -> None:
    connection = await asyncpg.connect(await new_database())
    migrated = await read_schema(connection)
    for drift in DRIFTS:
        change = connection.transaction()
        await change.start()
        await connection.execute(drift)
        assert await read_schema(connection) != migrated, drift
        await change.rollback()
    await connection.close()


async def test_no_index_leans_on_the_locale_of_the_database(database_url: str) -> None:
    """Else an upgrade of the system's libraries breaks it without a word, and `unique` holds no more."""
    leaning = await query(
        database_url,
        """
        select c.relname, a.attname
        from pg_index i
        join pg_class c on c.oid = i.indrelid
        cross join lateral unnest(i.indcollation) with ordinality as key(collation_id, place)
        join pg_attribute a on a.attrelid = i.indexrelid and a.attnum = key.place
        join pg_collation l on l.oid = key.collation_id
        where c.relnamespace = 'public'::regnamespace and l.collname <> 'C' and c.relname <> 'alembic_version'
        """,
    )
    # Its values are a handful of ASCII words of our own.
    assert set(leaning) <= {("idempotency_keys", "front_end")}


async def test_no_key_text_leans_on_the_locale_of_the_database(database_url: str) -> None:
    """Those of design.md, whether an index stands over them or not."""
    columns = await query(
        database_url,
        """
        select c.relname || '.' || a.attname, l.collname
        from pg_attribute a join pg_class c on c.oid = a.attrelid and c.relkind = 'r'
        join pg_collation l on l.oid = a.attcollation
        where c.relnamespace = 'public'::regnamespace
            and a.attname in ('slug', 'name_key', 'email_key', 'external_id', 'key')
        """,
    )
    assert dict(columns) == dict.fromkeys(
        [
            "workspaces.slug",
            "clients.slug",
            "audiences.slug",
            "tags.slug",
            "tags.name_key",
            "contacts.email_key",
            "contacts.external_id",
            "idempotency_keys.key",
        ],
        "C",
    )


async def test_a_migration_does_not_wait_for_ever(new_database: MakeDatabase) -> None:
    """Whoever waits for a table makes all requests wait that come after: better that the migration is run again."""
    url = await new_database()
    before = await schema_of(url)
    reader = await asyncpg.connect(url)
    async with reader.transaction():
        await reader.fetch("select from tags")
        began = time.monotonic()
        with pytest.raises(DBAPIError) as caught:
            await asyncio.to_thread(migrate.downgrade, url, "base")
        assert time.monotonic() - began < 10
    await reader.close()

    assert "lock timeout" in str(caught.value)
    # It is all or nothing, and nobody has to take anything back by hand.
    assert await schema_of(url) == before
    await asyncio.to_thread(migrate.downgrade, url, "base")


async def test_two_migrations_at_once_take_turns(
    empty_url: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two services that start together both migrate. Each in a process: Alembic has one context in a process."""
    monkeypatch.setenv("PYTHONPATH", str(Path(migrate.__file__).parent.parent))
    holder = await asyncpg.connect(empty_url)
    await holder.execute(f"select pg_advisory_lock({ADVISORY_LOCK})")
    services = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", "import sys; from app import migrate; migrate.upgrade(sys.argv[1])", empty_url
        )
        for _ in range(2)
    ]
    waiting = "select count(*) from pg_locks where locktype = 'advisory' and not granted and database = "
    waiting += "(select oid from pg_database where datname = current_database())"
    async with asyncio.timeout(30):
        while await holder.fetchval(waiting) < len(services):
            assert [service.returncode for service in services] == [None, None], "one of them did not wait"
            await asyncio.sleep(0.05)
    assert await holder.fetchval("select count(*) from pg_tables where schemaname = 'public'") == 0
    await holder.close()

    assert [await service.wait() for service in services] == [0, 0]
    assert await schema_of(empty_url) == await schema_of(database_url)


async def test_alembic_itself_can_be_used(new_database: MakeDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    """For writing new revisions; `check` compares as `revision --autogenerate` would."""
    monkeypatch.setenv("POLYTAG_DATABASE_URL", await new_database())
    root = Path(__file__).parent.parent
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "alembic",
        "check",
        cwd=root,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert (process.returncode, b"No new upgrade operations" in said) == (0, True), said.decode()
