"""What the projections must hold, by the shortest way: all events from the first, folded in memory."""

from __future__ import annotations

from typing import Any

import asyncpg

from l02.bus.connection.bus import Bus
from l02.bus.log.reader import last_sequence, read_events
from l02.projections.folds.agents import AGENT_FOLD
from l02.projections.folds.checkpoints import CHECKPOINT_FOLD
from l02.projections.folds.executions import EXECUTION_FOLD
from l02.projections.folds.fold import Fold, Key, encode_view
from l02.projections.folds.nodes import NODE_FOLD
from l02.projections.tables.definitions import TABLES
from l02.projections.views.bucket import ViewBucket

Views = dict[Key, bytes]
_FOLDS: dict[str, Fold[Any]] = {
    "agents": AGENT_FOLD,
    "executions": EXECUTION_FOLD,
    "checkpoints": CHECKPOINT_FOLD,
    "nodes": NODE_FOLD,
}
_STORED = {
    "agents": "SELECT id, view FROM l02.agents",
    "executions": "SELECT agent_id, execution_id, view FROM l02.executions",
    "checkpoints": "SELECT agent_id, checkpoint_id, view FROM l02.checkpoints",
    "nodes": "SELECT id, view FROM l02.nodes",
}


async def replayed(bus: Bus) -> dict[str, Views]:
    """The views of each table, as a fresh replay has them."""
    newest = await last_sequence(bus)
    views: dict[str, dict[Key, Any]] = {name: {} for name in _FOLDS}
    async with read_events(bus) as reader:
        while reader.position < newest:
            for item in await reader.next_batch():
                for name, fold in _FOLDS.items():
                    key = fold.key_of(item)
                    if key is not None and (view := fold.after(views[name].get(key), item)[0]) is not None:
                        views[name][key] = view
    return {name: {key: encode_view(view) for key, view in found.items()} for name, found in views.items()}


async def stored_rows(postgres_url: str) -> dict[str, Views]:
    """The views of each table, as PostgreSQL has them."""
    connection = await asyncpg.connect(postgres_url)
    try:
        return {
            name: {tuple(key): view.encode() for *key, view in await connection.fetch(query)}
            for name, query in _STORED.items()
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
    expected = await replayed(bus)
    stored = await stored_rows(postgres_url)
    assert expected["agents"], "nothing was to be projected"
    for name, views in expected.items():
        assert stored[name] == views
    newest = await last_sequence(bus)
    assert await stored_positions(postgres_url) == dict.fromkeys(TABLES, newest)


async def assert_views_equal_replay(bus: Bus) -> None:
    expected = (await replayed(bus))["agents"]
    assert expected, "nothing was to be projected"
    assert await stored_views(bus) == expected
