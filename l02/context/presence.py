"""That a process of this server lives, as the others see it: a lock that its connection holds and its end gives back.

PostgreSQL notices the end of a process at once, however it ends. A connection that is lost otherwise is made again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from l02.bus.background.backoff import Backoff
from l02.bus.background.cancelling import end
from l02.bus.connection.postgres import UNANSWERED, connect_to_primary

if TYPE_CHECKING:
    from l02.bus.connection.postgres import PgConnection

SCHEMA = "l02_context"

_FIRST_RETRY_SECONDS = 0.1
_LONGEST_RETRY_SECONDS = 5.0


@asynccontextmanager
async def present(url: str, server_id: str) -> AsyncIterator[None]:
    """Let others know that the process lives, as long as the context lasts. Raises what connecting raises."""
    connection = await _appear(url, server_id)
    staying = asyncio.create_task(_stay(url, server_id, connection))
    try:
        yield
    finally:
        await end(staying)


async def _stay(url: str, server_id: str, connection: PgConnection) -> None:
    backoff = Backoff(_FIRST_RETRY_SECONDS, _LONGEST_RETRY_SECONDS)
    try:
        while True:
            await _closed(connection)
            try:
                connection = await _appear(url, server_id)
            except UNANSWERED:
                await backoff.pause()
            else:
                backoff.reset()
    finally:
        connection.terminate()


async def _closed(connection: PgConnection) -> None:
    closed = asyncio.Event()
    connection.add_termination_listener(lambda _: closed.set())
    if not connection.is_closed():
        await closed.wait()


async def _appear(url: str, server_id: str) -> PgConnection:
    settings = {"application_name": "l02-context", "search_path": SCHEMA}
    connection = await connect_to_primary(url, server_settings=settings)
    await connection.execute("SELECT pg_advisory_lock_shared(presence_key($1))", server_id)
    return connection
