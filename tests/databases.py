"""Databases for tests that cannot take the migrated template: empty ones, and ones of another locale."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from tests.conftest import with_database


@asynccontextmanager
async def empty_database(server_url: str, options: str = "") -> AsyncIterator[str]:
    """The URL of a database without a table. `options` are those of `create database`."""
    name = f"polytag_test_{uuid.uuid4().hex[:12]}"
    await query(server_url, f"create database {name} template template0 encoding 'UTF8' {options}")
    try:
        yield with_database(server_url, name)
    finally:
        await query(server_url, f"drop database {name} with (force)")


async def query(url: str, statement: str, *values: object) -> list[tuple[Any, ...]]:
    """Run one statement on a connection of its own."""
    connection = await asyncpg.connect(url)
    try:
        return [tuple(row.values()) for row in await connection.fetch(statement, *values)]
    finally:
        await connection.close()
