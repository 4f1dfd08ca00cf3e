"""PostgreSQL as the stores of state use it: their tables, in the runtime's own schema, and connections to them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Literal

import asyncpg

from l02.bus.connection.postgres import connect_to_primary
from l02.handlers.state.stores.memory import keep_freed_memory

if TYPE_CHECKING:
    from asyncpg import Connection, Record

    PgConnection = Connection[Record]

SCHEMA = "l02"

_MIGRATION_LOCK = 0x6C3032  # "l02" in ASCII; whoever makes tables in the schema takes it
_CONNECTIONS = 4
_COMMAND_SECONDS = 30.0


@cache
def sql(name: str) -> str:
    """The statement in `sql/<name>.sql`."""
    return (files("l02.handlers.state") / "sql" / f"{name}.sql").read_text()


class Database:
    """A few connections that are used in turns. All methods raise what is in `l02.bus.connection.postgres.UNANSWERED`.

    asyncpg's own pool takes as long to lend a connection and to take it back as a small load takes.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._idle: list[PgConnection] = []
        self._lent = asyncio.Semaphore(_CONNECTIONS)

    def connection(self) -> _Lent:
        """One for the caller alone, as long as the context lasts; the one that was used last, if it lives."""
        return _Lent(self._idle, self._lent, self._connect)

    async def execute(self, statement: str, *arguments: object) -> None:
        """Carry out a statement."""
        async with self.connection() as connection:
            await connection.execute(statement, *arguments)

    async def fetch(self, statement: str, *arguments: object) -> list[Record]:
        """All rows of a statement."""
        async with self.connection() as connection:
            return await connection.fetch(statement, *arguments)

    async def fetchrow(self, statement: str, *arguments: object) -> Record | None:
        """Its first row, if it has one."""
        async with self.connection() as connection:
            return await connection.fetchrow(statement, *arguments)

    async def fetchval(self, statement: str, *arguments: object) -> Any:
        """The first column of its first row, None if it has none."""
        async with self.connection() as connection:
            return await connection.fetchval(statement, *arguments)

    def close(self) -> None:
        """Give the connections up. Not by asking for it: the server may be gone, and nothing is under way."""
        for connection in self._idle:
            connection.terminate()

    async def _connect(self) -> PgConnection:
        return await connect_to_primary(
            self._url,
            command_timeout=_COMMAND_SECONDS,
            server_settings={
                "search_path": SCHEMA,
                "application_name": "l02-state",
                # Every statement here goes by keys; planning one anew would take longer than carrying it out.
                "plan_cache_mode": "force_generic_plan",
            },
        )


class _Lent:
    """A connection while it is lent. Not a generator as elsewhere: to a small load, its 10 microseconds would count."""

    def __init__(
        self, idle: list[PgConnection], lent: asyncio.Semaphore, connect: Callable[[], Awaitable[PgConnection]]
    ) -> None:
        self._idle, self._lent, self._connect = idle, lent, connect

    async def __aenter__(self) -> PgConnection:
        await self._lent.acquire()
        try:
            self._connection = await self._living()
        except BaseException:
            self._lent.release()
            raise
        return self._connection

    async def __aexit__(self, kind: object, raised: BaseException | None, traceback: object) -> None:
        # One leads to no primary any more, or to a server that has said its last word and not yet hung up.
        is_spent = isinstance(raised, asyncpg.ReadOnlySQLTransactionError | asyncpg.InternalClientError)
        # A transaction that was cut off by a cancellation ends with its connection.
        if is_spent or self._connection.is_closed() or self._connection.is_in_transaction():
            self._connection.terminate()
        else:
            self._idle.append(self._connection)
        self._lent.release()

    async def _living(self) -> PgConnection:
        while self._idle:
            if not (connection := self._idle.pop()).is_closed():
                return connection
        return await self._connect()


@asynccontextmanager
async def open_database(url: str, tables: Literal["state", "langgraph"]) -> AsyncIterator[Database]:
    """The database at `url`, in which the tables are made if they are not there. Raises what is in `UNANSWERED`."""
    keep_freed_memory()
    database = Database(url)
    try:
        async with database.connection() as connection, connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1)", _MIGRATION_LOCK)
            await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
            if await connection.fetchval("SELECT to_regclass($1)", f"{tables}_checkpoints") is None:
                await connection.execute(sql(f"{tables}_tables"))
        yield database
    finally:
        database.close()
