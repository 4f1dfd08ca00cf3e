"""PostgreSQL as the projections use it: connections of one schema, and its tables.

All statements name their tables without a schema; the connection's search path says which is meant. So a rebuild can
fill the same tables in a schema of its own (`l02.projections.rebuild`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import asyncpg
import structlog

from l02.bus.connection.postgres import connect_to_primary
from l02.projections.tables.definitions import TABLES, sql
from l02.projections.tables.table import Table

if TYPE_CHECKING:
    from asyncpg import Connection, Record

    PgConnection = Connection[Record]

SCHEMA = "l02"
SCHEMA_VERSION = 4

_MIGRATION_LOCK = 0x6C3032  # "l02" in ASCII
_COMMAND_SECONDS = 30.0
# A node that is stopped inside a transaction gives up its locks after this time.
_IDLE_IN_TRANSACTION = "3s"
_log = structlog.get_logger()


class DatabaseUnreachable(Exception):
    """No PostgreSQL answers at the address given, or it lets nobody in."""


class SchemaMismatch(Exception):
    """The tables are of another version of the runtime."""


@asynccontextmanager
async def connect(url: str, schema: str = SCHEMA, *, synchronous: bool = True) -> AsyncIterator[PgConnection]:
    """A connection whose tables are those of `schema`.

    If not `synchronous`, a commit does not wait for the disk. That is right for a projector: rows and position survive
    a crash of PostgreSQL together or not at all, and what it takes back is read from the stream again.
    """
    connection = await connect_to_primary(
        url,
        command_timeout=_COMMAND_SECONDS,
        server_settings={
            "search_path": schema,
            "application_name": "l02-projections",
            "synchronous_commit": "on" if synchronous else "off",
            "idle_in_transaction_session_timeout": _IDLE_IN_TRANSACTION,
        },
    )
    try:
        yield connection
    finally:
        # Not close(): it waits for a server that may be gone. Nothing is under way here that must end well.
        connection.terminate()


async def migrate(url: str) -> None:
    """Make the schema `l02` and its tables, if they are not there; any number of nodes may do so at once.

    Tables of an earlier version are made anew, empty: all that is in them comes from the events, and comes again.
    Raises DatabaseUnreachable or SchemaMismatch, each with one line that says what to do.
    """
    try:
        async with connect(url) as connection, connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1)", _MIGRATION_LOCK)
            await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
            await connection.execute(sql("schema_version"))
            await connection.execute(
                "INSERT INTO schema_version (version) VALUES ($1) ON CONFLICT DO NOTHING", SCHEMA_VERSION
            )
            found = await connection.fetchval("SELECT version FROM schema_version")
            if found < SCHEMA_VERSION:
                await connection.execute(f"DROP TABLE IF EXISTS {', '.join((*TABLES, 'positions'))}")
                await connection.execute("UPDATE schema_version SET version = $1", SCHEMA_VERSION)
                _log.info("the tables are of an earlier version, and are filled anew", found=found)
            elif found > SCHEMA_VERSION:
                raise SchemaMismatch(
                    f"the tables in PostgreSQL have layout {found}, this version of l02 knows {SCHEMA_VERSION}: "
                    f"use the version that made them, or drop {', '.join((*TABLES, 'positions', 'schema_version'))} "
                    f"in schema {SCHEMA} (they are rebuilt from the events; agents' state beside them is not)"
                )
            await create_tables(connection, TABLES.values())
    except (OSError, TimeoutError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise DatabaseUnreachable(
            f"PostgreSQL at L02_POSTGRES_URL cannot be used: {error or type(error).__name__}"
        ) from error


async def create_tables(connection: PgConnection, tables: Iterable[Table[Any]]) -> None:
    """Make the tables of these projections in the connection's schema, with their positions."""
    await connection.execute(sql("positions"))
    for table in tables:
        for statement in (table.create, *table.create_indexes):
            await connection.execute(statement)
        await connection.execute(
            "INSERT INTO positions (name, position) VALUES ($1, 0) ON CONFLICT DO NOTHING", table.name
        )
