"""One transaction after another into the tables of a set of projections: rows and positions together or not at all.

The positions' rows are locked first. Whoever holds them knows that nobody else projects into these tables, so what it
kept of the rows from its last transaction is still true if the positions are where it left them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from l02.bus.wire.codec import LogEntry, SetAside
from l02.projections.folds.fold import Key, encode_view
from l02.projections.projector.cache import BoundedCache
from l02.projections.tables.definitions import sql
from l02.projections.tables.table import Row, Table

if TYPE_CHECKING:
    from l02.projections.tables.database import PgConnection

_STATEMENT_BYTES = 16 * 1024 * 1024
_CACHE_BYTES = 4 * 1024 * 1024


class TableWriter:
    """The tables as seen through one connection. After an error it is of no more use, nor is the connection."""

    def __init__(self, connection: PgConnection, tables: Mapping[str, Table[Any]]) -> None:
        self._connection = connection
        self._tables = tables
        self._caches: dict[str, BoundedCache[Key, Any]] = {name: BoundedCache(_CACHE_BYTES) for name in tables}
        self._changed: dict[str, dict[Key, Any]] = {}
        self._last = 0
        self.gone = asyncio.get_running_loop().create_future()
        """Done when the connection has ended."""
        connection.add_termination_listener(self._connection_ended)
        self.positions: dict[str, int] = {}
        self.set_aside: dict[int, SetAside] = {}
        """What this transaction could not take in, by sequence."""

    @property
    def position(self) -> int:
        """All events up to this one are in all the tables."""
        return min(self.positions.values())

    async def begin(self) -> bool:
        """Begin a transaction and find out where the tables are.

        False if that is further back than this writer has been: PostgreSQL was restored, or lost what was not on disk.
        """
        await self._connection.execute("BEGIN")
        rows = await self._connection.fetch(sql("positions_lock"), list(self._tables))
        found = {row["name"]: row["position"] for row in rows}
        before, self.positions = self.positions, found
        if found != before:
            for cache in self._caches.values():
                cache.clear()
        self._changed = {name: {} for name in self._tables}
        self.set_aside = {}
        return all(position >= before.get(name, 0) for name, position in found.items())

    async def have_gone_back(self) -> bool:
        """Whether the tables are further back than this writer has been, seen without a transaction."""
        rows = await self._connection.fetch(sql("positions_seen"), list(self._tables))
        return any(row["position"] < self.positions[row["name"]] for row in rows)

    async def fold(self, entries: Sequence[LogEntry]) -> None:
        """Change the views by `entries`, which follow on those folded before; left out is what the tables have."""
        self.set_aside |= {item.sequence: item for item in entries if isinstance(item, SetAside)}
        for table in self._tables.values():
            await self._fold_into(table, entries)
        self._last = entries[-1].sequence

    async def commit(self) -> None:
        """Write the changed views and the positions; nothing if the tables were already as far."""
        if self._last <= self.position:
            await self.rollback()
            return
        changed = {
            name: [(key, view, encode_view(view)) for key, view in views.items()]
            for name, views in self._changed.items()
        }
        for name, rows in changed.items():
            table = self._tables[name]
            for some in _statements(rows):
                await self._connection.execute(table.upsert, *table.upsert_arguments(some))
        await self._connection.execute(sql("positions_advance"), list(self._tables), self._last)
        await self._connection.execute("COMMIT")
        self.positions = {name: max(position, self._last) for name, position in self.positions.items()}
        for name, rows in changed.items():
            for key, view, encoded in rows:
                self._caches[name].put(key, view, len(encoded))

    async def rollback(self) -> None:
        """End the transaction without a change."""
        await self._connection.execute("ROLLBACK")

    def _connection_ended(self, _: object) -> None:
        if not self.gone.done():
            self.gone.set_result(None)

    async def _fold_into(self, table: Table[Any], entries: Sequence[LogEntry]) -> None:
        position = self.positions[table.name]
        key_of, after = table.fold.key_of, table.fold.after
        keyed = [(key, item) for item in entries if item.sequence > position and (key := key_of(item)) is not None]
        views = self._changed[table.name]
        views.update(await self._load(table, {key for key, _ in keyed if key not in views}))
        for key, item in keyed:
            view, aside = after(views.get(key), item)
            if view is not None:
                views[key] = view
            if aside is not None:
                self.set_aside.setdefault(aside.sequence, aside)

    async def _load(self, table: Table[Any], keys: set[Key]) -> dict[Key, Any]:
        cache = self._caches[table.name]
        views = {key: view for key in keys if (view := cache.get(key)) is not None}
        missing = [key for key in keys if key not in views]
        if missing:
            rows = await self._connection.fetch(table.load, *table.load_arguments(missing))
            for *key, view in rows:
                views[tuple(key)] = table.fold.decode(view)
        return views


def _statements(rows: list[Row[Any]]) -> Iterator[list[Row[Any]]]:
    """Cut the rows into statements of bounded size."""
    begin, size = 0, 0
    for index, (_, _, encoded) in enumerate(rows):
        if size and size + len(encoded) > _STATEMENT_BYTES:
            yield rows[begin:index]
            begin, size = index, 0
        size += len(encoded)
    if begin < len(rows):
        yield rows[begin:]
