"""The tables of the context server: made at its start, and what all its tools do with them."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import asyncpg
import msgspec

from l02.bus.connection.postgres import UNANSWERED, pool_of_primary
from l02.context.model import TaskContext, ToolRefused
from l02.context.presence import SCHEMA, present

if TYPE_CHECKING:
    from asyncpg import Pool, Record
    from asyncpg.pool import PoolConnectionProxy

    PgPool = Pool[Record]
    PgConnection = PoolConnectionProxy[Record]

SCHEMA_VERSION = 1
KEPT_VERSIONS = 1000
"""Of each task; older ones go when a new one comes, but for those that a checkpoint holds."""

_MIGRATION_LOCK = 0x6C303263  # "l02c" in ASCII
_COMMAND_SECONDS = 10.0
_POOL_SIZE = 4
_context = msgspec.json.Decoder(TaskContext)


class StoreUnusable(Exception):
    """The database cannot be used; the message is one line that says why."""


class Store:
    """Connections to the tables; `server_id` is this process, as the sessions that it hears of remember it."""

    def __init__(self, pool: PgPool) -> None:
        self.server_id = uuid.uuid4().hex
        self._pool = pool

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[PgConnection]:
        """All of a tool's work, or none of it."""
        try:
            async with AsyncExitStack() as stack:
                yield await self._begin(stack)
        except asyncpg.ReadOnlySQLTransactionError:
            await self._pool.expire_connections()  # they lead to no primary any more: another server may be
            raise

    async def _begin(self, stack: AsyncExitStack) -> PgConnection:
        """A connection in a transaction; those that the server has closed meanwhile are passed over."""
        passed_over = 0
        while True:
            async with AsyncExitStack() as begun:
                connection = await begun.enter_async_context(self._pool.acquire())
                try:
                    await begun.enter_async_context(connection.transaction())
                except UNANSWERED:
                    passed_over += 1
                    if passed_over > _POOL_SIZE or not connection.is_closed():
                        raise
                    continue
                stack.push_async_exit(begun.pop_all())
                return connection

    async def lock(self, connection: PgConnection, task_id: str) -> tuple[int, TaskContext]:
        """A task's version and context, which nobody else changes before the transaction ends. Raises ToolRefused."""
        version = await connection.fetchval("SELECT version FROM tasks WHERE task_id = $1 FOR UPDATE", task_id)
        if version is None:
            raise unknown_task(task_id)
        return version, await self.context(connection, task_id, version)

    async def make_known(self, connection: PgConnection, task_id: str) -> None:
        """Let there be a task of this id: at version 0, which is empty and never seen outside."""
        made = await connection.fetchval(
            "INSERT INTO tasks (task_id, status, version) VALUES ($1, 'pending', 0) "
            "ON CONFLICT DO NOTHING RETURNING task_id",
            task_id,
        )
        if made is not None:
            await connection.execute(
                "INSERT INTO versions (task_id, version, context) VALUES ($1, 0, $2)", task_id, _encode(TaskContext())
            )

    async def context(self, connection: PgConnection, task_id: str, version: int) -> TaskContext:
        """A task's context at a version of it. Raises ToolRefused."""
        found = await connection.fetchval(
            "SELECT context FROM versions WHERE task_id = $1 AND version = $2", task_id, version
        )
        if found is None:
            raise ToolRefused(f"task {task_id!r} has no version {version} (any more); the newest are kept")
        return _context.decode(found)

    async def write(
        self,
        connection: PgConnection,
        task_id: str,
        version: int,
        context: TaskContext,
        *,
        summary: str | None,
        session_id: str | None,
    ) -> Any:
        """Make `version` of a locked task, and note that the session is active; gives the time of it."""
        time = await connection.fetchval(
            "INSERT INTO versions (task_id, version, context, summary, session_id) VALUES ($1, $2, $3, $4, $5) "
            "RETURNING created_at",
            *(task_id, version, _encode(context), summary, session_id),
        )
        await connection.execute(
            "UPDATE tasks SET version = $2, status = $3, updated_at = $4 WHERE task_id = $1",
            *(task_id, version, context.status, time),
        )
        await connection.execute(
            "DELETE FROM versions WHERE task_id = $1 AND version <= $2 AND NOT EXISTS (SELECT FROM checkpoint_tasks "
            "WHERE checkpoint_tasks.task_id = versions.task_id AND checkpoint_tasks.version = versions.version)",
            *(task_id, version - KEPT_VERSIONS),
        )
        if session_id is not None:
            await connection.execute(
                "INSERT INTO sessions (session_id, task_id, server_id, at_work) VALUES ($1, $2, $3, $4) "
                "ON CONFLICT (session_id) DO UPDATE SET task_id = excluded.task_id, server_id = excluded.server_id, "
                "at_work = excluded.at_work, last_activity = excluded.last_activity",
                *(session_id, task_id, self.server_id, context.status == "in_progress"),
            )
        return time


def unknown_task(task_id: str) -> ToolRefused:
    """What a tool says when it is asked about a task that nobody has made known."""
    return ToolRefused(
        f"task {task_id!r} is not known; the first save_context_snapshot with a sessionId makes it known"
    )


def _encode(context: TaskContext) -> str:
    return msgspec.json.encode(context).decode()


@asynccontextmanager
async def open_store(url: str) -> AsyncIterator[Store]:
    """Make the tables if need be, and connect; any number of servers may do so at once. Raises StoreUnusable."""
    try:
        pool = pool_of_primary(
            url,
            size=_POOL_SIZE,
            command_timeout=_COMMAND_SECONDS,
            server_settings={"search_path": SCHEMA, "application_name": "l02-context"},
        )
        await pool
    except (*UNANSWERED, ValueError) as error:
        raise StoreUnusable(f"PostgreSQL cannot be used: {error or type(error).__name__}") from error
    try:
        store = Store(pool)
        await _migrate(store)
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(present(url, store.server_id))
            except UNANSWERED as error:
                raise StoreUnusable(f"PostgreSQL cannot be used: {error or type(error).__name__}") from error
            yield store
    finally:
        # Not close(): it waits for a server that may be gone. What was committed is safe.
        pool.terminate()


async def _migrate(store: Store) -> None:
    try:
        async with store.transaction() as connection:
            await connection.execute("SELECT pg_advisory_xact_lock($1)", _MIGRATION_LOCK)
            await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
            await connection.execute((files("l02.context") / "sql" / "schema.sql").read_text())
            await connection.execute(
                "INSERT INTO schema_version (version) VALUES ($1) ON CONFLICT DO NOTHING", SCHEMA_VERSION
            )
            found = await connection.fetchval("SELECT version FROM schema_version")
    except UNANSWERED as error:
        raise StoreUnusable(f"the tables of schema {SCHEMA} cannot be made: {error}") from error
    if found != SCHEMA_VERSION:
        raise StoreUnusable(
            f"schema {SCHEMA} has layout {found}, this version of l02 knows {SCHEMA_VERSION}: "
            "use the version that made it"
        )
