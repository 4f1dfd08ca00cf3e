"""The tables against the replay. One snapshot of PostgreSQL has the rows and the event that they are as of, exactly."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import asyncpg

from l02.projections.folds.fold import Key, encode_view
from l02.projections.tables.database import DatabaseUnreachable, connect
from l02.projections.tables.definitions import TABLES
from l02.projections.tables.table import Table
from l02.verify.difference import Difference, Report, ahead, behind, compare_json, differs
from l02.verify.replayed import Replayed, Sealed

if TYPE_CHECKING:
    from asyncpg import Record

    from l02.projections.tables.database import PgConnection

_POLL_SECONDS = 0.05
_ROWS_AHEAD = 500


@asynccontextmanager
async def open_tables(postgres_url: str) -> AsyncIterator[Tables]:
    """Connect. Raises DatabaseUnreachable."""
    async with AsyncExitStack() as stack:
        try:
            connection = await stack.enter_async_context(connect(postgres_url))
        except (OSError, TimeoutError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise DatabaseUnreachable(f"PostgreSQL cannot be used: {error or type(error).__name__}") from error
        yield Tables(connection)


class Tables:
    """The tables through one connection."""

    def __init__(self, connection: PgConnection) -> None:
        self._connection = connection

    async def compare(self, replayed: Replayed, report: Report, patience: float) -> None:
        """Wait up to `patience` seconds until the tables are as far as `replayed`, and compare those that are.

        Raises DatabaseUnreachable if there is no answer, PostgreSQL's errors, and as `replayed`.
        """
        try:
            ready = await self._wait_for(replayed.position, report, patience)
            if ready:
                await self._compare_all(ready, replayed, report)
        except TimeoutError as error:
            raise DatabaseUnreachable("PostgreSQL does not answer; see the server's log") from error

    async def _wait_for(self, target: int, report: Report, patience: float) -> list[str]:
        """The tables that reflect the event `target`; the others are reported."""
        clock = asyncio.get_running_loop()
        deadline = clock.time() + patience
        while True:
            positions = await self._positions()
            if min(positions.values()) >= target or clock.time() > deadline:
                break
            await asyncio.sleep(_POLL_SECONDS)
        for name, position in positions.items():
            if position < target:
                report(behind(name, position, target, patience))
        return [name for name, position in positions.items() if position >= target]

    async def _compare_all(self, names: list[str], replayed: Replayed, report: Report) -> None:
        # Most of what has come meanwhile, before there is a snapshot that PostgreSQL has to keep for us.
        positions = await self._positions()
        await replayed.fold_to(min(await replayed.newest(), *(positions[name] for name in names)))
        async with self._connection.transaction(isolation="repeatable_read", readonly=True):
            # First of all: the snapshot is that of the next statement, and no rebuild can exchange a table after it.
            await self._connection.execute(f"LOCK TABLE positions, {', '.join(names)} IN ACCESS SHARE MODE")
            positions = await self._positions()
            newest = await replayed.newest()
            for name in sorted(names, key=lambda name: positions[name]):
                await replayed.fold_to(min(positions[name], newest))
                if replayed.position == positions[name]:
                    await self._compare_table(TABLES[name], replayed, report)
                else:
                    report(ahead(name, positions[name], replayed.position))

    async def _positions(self) -> dict[str, int]:
        rows = await self._connection.fetch("SELECT name, position FROM positions")
        found = {row["name"]: row["position"] for row in rows}
        return {name: found.get(name, 0) for name in TABLES}

    async def _compare_table(self, table: Table[Any], replayed: Replayed, report: Report) -> None:
        views = replayed.views(table.fold)
        unseen = set(views)
        columns = ", ".join((*table.key, *(column.name for column in table.columns), "view"))
        query = f"SELECT {columns} FROM {table.name} ORDER BY {', '.join(table.key)}"  # noqa: S608, names of our own
        async for row in self._connection.cursor(query, prefetch=_ROWS_AHEAD):
            key: Key = tuple(row[name] for name in table.key)
            view = views.get(key)
            if view is None:
                report(_whole(table, key, row["sequence"], "there is a row, but no event that could have made it"))
            else:
                unseen.remove(key)
                await _compare_row(table, key, row, view, replayed, report)
        for key in sorted(unseen):
            report(_whole(table, key, views[key].sequence, "the row is missing"))


def _whole(table: Table[Any], key: Key, sequence: int, message: str) -> Difference:
    return Difference(place=table.name, key="/".join(key), sequence=sequence, message=message)


async def _compare_row(table: Table[Any], key: Key, row: Record, view: Any, replayed: Replayed, report: Report) -> None:
    found = row["view"].encode()
    if isinstance(view, Sealed):
        view = table.fold.decode(found) if view.is_of(found) else await replayed.unsealed(table.fold, key, view)
    differing = [
        (name, expected, row[name]) for name, expected in table.columns_of(view).items() if expected != row[name]
    ]
    for path, expected, value in compare_json(encode_view(view), found):
        differing.append((f"view.{path}" if path else "view", expected, value))
    for name, expected, value in differing:
        report(differs(table.name, "/".join(key), view.sequence, name, expected, value))
