"""A verification while everything goes on: what is newer than the replay is no difference, and damage is still found."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bus.connection import Bus
from bus.reader import last_sequence
from projections.database import connect
from projections.progress import Progress
from projections.rebuild import PROJECTIONS, rebuild
from projections.table_projector import TableProjector
from projections.views import ViewProjector
from tests.projections import history as h
from tests.projections.conftest import running
from tests.replay.conftest import found, project


@asynccontextmanager
async def traffic(bus: Bus, postgres_url: str) -> AsyncIterator[None]:
    """Projectors at work and twenty agents too, of which the first few are always busy."""
    stopping = asyncio.Event()

    async def work(history: h.History) -> None:
        while not stopping.is_set():
            await h.append(bus, [*history.events(10)])

    progress = Progress()
    async with running(TableProjector(bus, postgres_url, progress).run(), ViewProjector(bus, progress).run()):
        async with asyncio.TaskGroup() as group:
            group.create_task(work(h.History(agents=18)))
            group.create_task(work(h.History(agents=2, prefix="b")))
            try:
                yield
            finally:
                stopping.set()


async def test_under_traffic(bus: Bus, tables: str) -> None:
    await project(bus, tables, await h.append(bus, [*h.History(agents=10, prefix="idle").events(1000)]))
    async with traffic(bus, tables):
        for _ in range(5):
            before = await last_sequence(bus)
            differences, summary = await found(bus, tables)
            assert differences == []
            assert summary.sequence >= before
            assert await last_sequence(bus) > summary.sequence
        async with connect(tables) as connection:
            await connection.execute("UPDATE agents SET state = 'gone' WHERE id = 'idle3'")
            await connection.execute("DELETE FROM executions WHERE execution_id = 'idle3-0'")
        differences, _ = await found(bus, tables)
        assert [(difference.place, difference.key) for difference in differences] == [
            ("agents", "idle3"),
            ("executions", "idle3/idle3-0"),
        ]


async def test_while_projections_are_rebuilt(bus: Bus, tables: str) -> None:
    await project(bus, tables, await h.append(bus, [*h.History(agents=10, prefix="idle").events(2000)]))
    async with traffic(bus, tables):
        rebuilding = asyncio.create_task(_rebuild_all(bus, tables))
        while not rebuilding.done():
            differences, _ = await found(bus, tables)
            assert differences == []
        await rebuilding


async def _rebuild_all(bus: Bus, postgres_url: str) -> None:
    for _ in range(3):
        for name in PROJECTIONS:
            await rebuild(name, bus, postgres_url)
