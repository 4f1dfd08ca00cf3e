"""Keeps tables in step with the event stream, exactly once, through restarts of either server.

Any number of nodes may project into the same tables: the transaction decides who writes, the others leave out what
they find done.
"""

from __future__ import annotations

import asyncio
import time
from asyncio import FIRST_COMPLETED
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import asyncpg
import structlog
from nats.errors import Error as NatsError

from l02.bus.background.backoff import Backoff
from l02.bus.background.cancelling import cancellable, end
from l02.bus.commands.dead_letters import park_entries
from l02.bus.connection.bus import Bus
from l02.bus.log.reader import last_sequence
from l02.bus.wire.codec import LogEntry
from l02.projections.projector.pace import gathering_seconds
from l02.projections.projector.passing import is_passing
from l02.projections.projector.progress import Observer
from l02.projections.projector.read_ahead import ReadAhead, read_ahead
from l02.projections.tables.database import SCHEMA, connect
from l02.projections.tables.definitions import TABLES
from l02.projections.tables.table import Table
from l02.projections.tables.writer import TableWriter

if TYPE_CHECKING:
    from l02.projections.tables.database import PgConnection

_TRANSACTION_EVENTS = 4_000
_TRICKLE_EVENTS = 1_000
_GATHER_SECONDS = 0.05
_LOOK_SECONDS = 5.0
_EXPECTED = (
    NatsError,
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)
_log = structlog.get_logger()


class ProjectionAhead(Exception):
    """A projection reflects events that the stream does not have."""


class TableProjector:
    """Projects the event stream into some of the tables. The tables exist (`l02.projections.tables.database.migrate`).

    When it is behind, up to `transaction_events` go into one transaction: a row that many of them change is written
    once. Their views are in memory until then.
    """

    def __init__(
        self,
        bus: Bus,
        postgres_url: str,
        progress: Observer,
        *,
        tables: Mapping[str, Table[Any]] = TABLES,
        schema: str = SCHEMA,
        transaction_events: int = _TRANSACTION_EVENTS,
    ) -> None:
        self._bus = bus
        self._url = postgres_url
        self._progress = progress
        self._tables = tables
        self._schema = schema
        self._transaction_events = transaction_events
        self._backoff = Backoff()

    async def run(self, until: int | None = None) -> None:
        """Project for ever, or until all the tables have reached the stream sequence `until`.

        A server that is away is waited for. An event that cannot be taken in is parked. What does not pass by itself is
        raised: a view that this version does not understand, ProjectionAhead, an error in a statement.
        """
        while True:
            connection: PgConnection | None = None
            try:
                async with connect(self._url, self._schema, synchronous=False) as connection:
                    if await self._project(TableWriter(connection, self._tables), until):
                        return
            except _EXPECTED as error:
                if not is_passing(error, connection):
                    raise
                self._progress.lost_sight(self._tables)
                _log.warning("projections wait for a server", projections=list(self._tables), error=repr(error))
                await self._backoff.pause()

    async def _project(self, writer: TableWriter, until: int | None) -> bool:
        """True when `until` is reached; False if the tables have gone back, and reading has to begin there."""
        await writer.begin()
        await writer.rollback()
        newest = await cancellable(last_sequence(self._bus))
        if writer.position > newest:
            raise ProjectionAhead(
                f"{', '.join(self._tables)}: the tables are at event {writer.position}, the stream ends at {newest}; "
                f"they belong to another stream: drop schema {self._schema} or use another database"
            )
        self._report(writer)
        async with read_ahead(self._bus, after=writer.position) as events:
            while until is None or writer.position < until:
                batch = await self._next_batch(events, writer)
                if batch is None:
                    return False
                began = time.monotonic()
                if not await writer.begin():
                    return False
                await writer.fold(batch)
                folded = len(batch)
                while folded < self._transaction_events and (events.ready or batch[-1].sequence < newest):
                    batch = await events.next_batch()
                    await writer.fold(batch)
                    folded += len(batch)
                if self._schema == SCHEMA:  # a rebuild meets again what was parked long ago
                    await park_entries(self._bus, writer.set_aside.values())
                await writer.commit()
                self._backoff.reset()
                self._report(writer)
                # A transaction costs some milliseconds whatever its size: a trickle becomes a few larger ones.
                if folded < _TRICKLE_EVENTS and (until is None or writer.position < until):
                    await self._progress.pause(gathering_seconds(_GATHER_SECONDS, time.monotonic() - began, folded))
        return True

    async def _next_batch(self, events: ReadAhead, writer: TableWriter) -> list[LogEntry] | None:
        """The next events; None if there are none and the tables have gone back meanwhile.

        Without events nothing is written, and nobody would notice that the server is gone, and what had not reached its
        standby with it. One that vanishes without a word ends no connection, so it is asked now and then.
        """
        if events.ready:
            return await events.next_batch()
        waiting = asyncio.create_task(events.next_batch())
        try:
            while not waiting.done():
                await asyncio.wait({waiting, writer.gone}, timeout=_LOOK_SECONDS, return_when=FIRST_COMPLETED)
                if not waiting.done() and await writer.have_gone_back():
                    return None
            return await waiting
        finally:
            await end(waiting)

    def _report(self, writer: TableWriter) -> None:
        for name, position in writer.positions.items():
            self._progress.reached(name, position)
