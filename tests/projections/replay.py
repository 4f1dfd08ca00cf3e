"""What the projections must hold, by the shortest way: all events from the first, folded in memory."""

from __future__ import annotations

from typing import Any

import asyncpg

from l02.bus.connection.bus import Bus
from l02.bus.log.reader import last_sequence, read_events
from l02.projections.folds.fold import Key, encode_view
from l02.projections.tables.definitions import TABLES
from l02.projections.views.bucket import ViewBucket

Rows = dict[Key, dict[str, Any]]
Views = dict[Key, bytes]


async def replayed(bus: Bus) -> dict[str, dict[Key, Any]]:
    """The views of each table, as a fresh replay has them."""
    newest = await last_sequence(bus)
    views: dict[str, dict[Key, Any]] = {name: {} for name in TABLES}
    async with read_events(bus) as reader:
        while reader.position < newest:
            for item in await reader.next_batch():
                for name, table in TABLES.items():
                    key = table.fold.key_of(item)
                    if key is not None and (view := table.fold.after(views[name].get(key), item)[0]) is not None:
                        views[name][key] = view
    return views


async def replayed_rows(bus: Bus) -> dict[str, Rows]:
    """All that has to stand in the rows of each table, by a fresh replay."""
    return {
        name: {
            key: {
                **dict(zip(TABLES[name].key, key, strict=True)),
                **TABLES[name].columns_of(view),
                "view": encode_view(view).decode(),
            }
            for key, view in found.items()
        }
        for name, found in (await replayed(bus)).items()
    }


async def stored_rows(postgres_url: str) -> dict[str, Rows]:
    """All that stands in the rows of each table in PostgreSQL."""
    connection = await asyncpg.connect(postgres_url)
    try:
        return {
            name: {
                tuple(row[part] for part in table.key): dict(row)
                for row in await connection.fetch(f"SELECT * FROM l02.{name}")
            }
            for name, table in TABLES.items()
        }
    finally:
        await connection.close()


async def stored_positions(postgres_url: str) -> dict[str, int]:
    connection = await asyncpg.connect(postgres_url)
    try:
        rows = await connection.fetch("SELECT name, position FROM l02.positions")
        return {row["name"]: row["position"] for row in rows}
    finally:
        await connection.close()


async def stored_views(bus: Bus) -> Views:
    """The agents' live views."""
    bucket = ViewBucket(bus)
    found: Views = {}
    for key in await bucket.keys("agent"):
        stored = await bucket.load(key)
        if stored.value is not None:
            found[(key.removeprefix("agent."),)] = stored.value
    return found


async def assert_tables_equal_replay(bus: Bus, postgres_url: str) -> None:
    expected = await replayed_rows(bus)
    stored = await stored_rows(postgres_url)
    assert expected["agents"], "nothing was to be projected"
    for name, rows in expected.items():
        assert stored[name] == rows
    newest = await last_sequence(bus)
    assert await stored_positions(postgres_url) == dict.fromkeys(TABLES, newest)


async def assert_views_equal_replay(bus: Bus) -> None:
    expected = {key: encode_view(view) for key, view in (await replayed(bus))["agents"].items()}
    assert expected, "nothing was to be projected"
    assert await stored_views(bus) == expected
