"""Builds a projection anew from event 1 while the old one is read and kept in step, and then puts it in its place.

A table is filled in a schema of its own by an ordinary projector and moved over together with its position. The live
views are folded in memory and replace, key by key, what they differ from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import asyncpg
import structlog

from l02.bus.connection.bus import Bus
from l02.bus.log.reader import last_sequence
from l02.projections.tables.database import SCHEMA, connect, create_tables
from l02.projections.tables.definitions import TABLES
from l02.projections.tables.projector import TableProjector
from l02.projections.views.projector import VIEWS
from l02.projections.views.rebuild import rebuild_views

if TYPE_CHECKING:
    from l02.projections.tables.database import PgConnection

PROJECTIONS = (*TABLES, VIEWS)

# As many as fit: a row that many events change is written once for all of them.
_TRANSACTION_EVENTS = 20_000
_REBUILD_LOCK = 0x6C303272  # "l02r" in ASCII
_LOCK_TIMEOUT = "2s"
_log = structlog.get_logger()

ProgressCallback = Callable[[int, int], None]


class RebuildUnderWay(Exception):
    """Somebody else is rebuilding this projection."""


async def rebuild(
    name: str, bus: Bus, postgres_url: str, on_progress: ProgressCallback = lambda done, total: None
) -> int:
    """Rebuild the projection `name` (of PROJECTIONS); the stream sequence up to which it then reflects all events.

    `on_progress` is told how many of how many events are done. Raises KeyError for an unknown name, RebuildUnderWay,
    and PostgreSQL's errors if its connection is lost while the tables are exchanged: the old one is then in place.
    """
    if name == VIEWS:
        return await rebuild_views(bus, on_progress)
    return await _rebuild_table(name, bus, postgres_url, on_progress)


async def _rebuild_table(name: str, bus: Bus, postgres_url: str, on_progress: ProgressCallback) -> int:
    table = TABLES[name]
    shadow = f"{SCHEMA}_rebuild_{name}"
    async with connect(postgres_url, shadow) as connection:
        if not await connection.fetchval("SELECT pg_try_advisory_lock($1, hashtext($2))", _REBUILD_LOCK, name):
            raise RebuildUnderWay(f"{name} is being rebuilt already; wait for that to end")
        await connection.execute(f"DROP SCHEMA IF EXISTS {shadow} CASCADE")
        await connection.execute(f"CREATE SCHEMA {shadow}")
        await create_tables(connection, [table])
        projector = TableProjector(
            bus,
            postgres_url,
            _Reporter(await last_sequence(bus), on_progress),
            tables={name: table},
            schema=shadow,
            transaction_events=_TRANSACTION_EVENTS,
        )
        while True:
            await projector.run(until=await last_sequence(bus))
            try:
                return await _exchange(connection, name, shadow, projector)
            except asyncpg.LockNotAvailableError:
                _log.info("the table is being read; trying again", table=name)


async def _exchange(connection: PgConnection, name: str, shadow: str, projector: TableProjector) -> int:
    """While the live projectors are kept out by the lock on their position, catch up with them and take over.

    Raises LockNotAvailableError if somebody reads the old table for long: others would have to queue behind us.
    """
    async with connection.transaction():
        await connection.execute(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'")
        live = await connection.fetchval("SELECT position FROM l02.positions WHERE name = $1 FOR UPDATE", name)
        await projector.run(until=live)
        position = await connection.fetchval("SELECT position FROM positions WHERE name = $1", name)
        await connection.execute(f"DROP TABLE {SCHEMA}.{name}")
        await connection.execute(f"ALTER TABLE {shadow}.{name} SET SCHEMA {SCHEMA}")
        await connection.execute("UPDATE l02.positions SET position = $2 WHERE name = $1", name, position)
        await connection.execute(f"DROP SCHEMA {shadow} CASCADE")
    return int(position)


class _Reporter:
    def __init__(self, total: int, on_progress: ProgressCallback) -> None:
        self._total = total
        self._on_progress = on_progress

    async def pause(self, seconds: float) -> None:
        """Never: a rebuild is to be over soon."""

    def reached(self, name: str, position: int) -> None:
        self._total = max(self._total, position)
        self._on_progress(position, self._total)

    def lost_sight(self, names: Iterable[str]) -> None:
        """Nobody waits for the tables aside."""
