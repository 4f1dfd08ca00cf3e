"""PostgreSQL as the stores of state use it: their tables, in the runtime's own schema, and connections to them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

import asyncpg

if TYPE_CHECKING:
    from asyncpg import Pool, Record

    PgPool = Pool[Record]

__all__ = ["UNANSWERED", "open_pool", "sql"]

SCHEMA = "l02"

_MIGRATION_LOCK = 0x6C3032  # "l02" in ASCII; whoever makes tables in the schema takes it
_POOL_SIZE = 4
_CONNECT_SECONDS = 5.0
_COMMAND_SECONDS = 30.0

UNANSWERED = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""What a statement raises that was not carried out, or whose answer was lost."""


@cache
def sql(name: str) -> str:
    """The statement in `sql/<name>.sql`."""
    return (files("handlers.state") / "sql" / f"{name}.sql").read_text()


@asynccontextmanager
async def open_pool(url: str) -> AsyncIterator[PgPool]:
    """Connections, with the tables made if they are not there. Raises asyncpg's errors, OSError or TimeoutError."""
    async with asyncpg.create_pool(
        url,
        min_size=1,
        max_size=_POOL_SIZE,
        timeout=_CONNECT_SECONDS,
        command_timeout=_COMMAND_SECONDS,
        server_settings={
            "search_path": SCHEMA,
            "application_name": "l02-state",
            # Every statement here goes by keys; planning one anew would take longer than carrying it out.
            "plan_cache_mode": "force_generic_plan",
        },
        reset=_leave_as_it_is,
    ) as pool:
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1)", _MIGRATION_LOCK)
            await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
            if await connection.fetchval("SELECT to_regclass('state_chunks')") is None:
                await connection.execute(sql("tables"))
        yield pool


async def _leave_as_it_is(_: object) -> None:
    """No statement here leaves anything in its session, and resetting one takes as long as a small load."""
