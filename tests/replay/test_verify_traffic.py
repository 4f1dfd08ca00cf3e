"""A verification while everything goes on: what is new is no difference, and damage is still found."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import asyncpg

from l02.bus.connection.bus import Bus
from l02.bus.log.reader import last_sequence
from l02.client.replay import replay_agent
from l02.projections.folds.fold import encode_view
from l02.projections.projector.progress import Progress
from l02.projections.rebuild import PROJECTIONS, rebuild
from l02.projections.tables.database import connect
from l02.projections.tables.projector import TableProjector
from l02.projections.views.bucket import ViewBucket
from l02.projections.views.projector import ViewProjector
from l02.verify import Difference, verify
from l02.verify.replayed import Replayed
from l02.verify.views import compare_views
from tests.projections import history as h
from tests.projections.conftest import running
from tests.replay.conftest import found, project


@asynccontextmanager
async def traffic(bus: Bus, postgres_url: str) -> AsyncIterator[None]:
    """Projectors at work and twenty agents too, two of which are always busy."""
    stopping = asyncio.Event()

    async def work(history: h.History) -> None:
        while not stopping.is_set():
            await h.append(bus, [*history.events(10)])

    progress = Progress()
    async with (
        running(TableProjector(bus, postgres_url, progress).run(), ViewProjector(bus, progress).run()),
        asyncio.TaskGroup() as group,
    ):
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
    for _ in range(2):
        for name in PROJECTIONS:
            await rebuild(name, bus, postgres_url)


async def test_a_table_cannot_be_exchanged_between_its_position_and_its_rows(bus: Bus, tables: str) -> None:
    await project(bus, tables, await h.append(bus, [*h.History(agents=10).events(1000)]))

    async def exchange() -> str:
        async with connect(tables) as connection:
            try:
                await connection.execute("SET lock_timeout = '300ms'; DROP TABLE executions")
            except asyncpg.LockNotAvailableError:
                return "refused"
        return "done"

    outcomes: list[tuple[Difference, str]] = []

    def report(difference: Difference) -> None:
        """While the agents are compared, and the executions are not yet."""
        with ThreadPoolExecutor(1) as other:
            outcomes.append((difference, other.submit(asyncio.run, exchange()).result()))

    async with connect(tables) as connection:
        await connection.execute("UPDATE agents SET state = 'gone' WHERE id = 'a3'")
    await verify(bus, tables, report)
    assert [(difference.key, outcome) for difference, outcome in outcomes] == [("a3", "refused")]


async def test_a_view_that_its_projector_has_not_come_to_is_waited_for(bus: Bus) -> None:
    """A view far ahead takes the replay along; then the others are behind, and that is no difference."""
    await h.append(bus, [*h.History(agents=500, prefix="k").events(2000)])
    await h.append_events(bus, [h.spawn_requested()], "first")
    newest = await h.append_events(bus, [h.spawn_requested()], "z")
    await ViewProjector(bus, Progress()).run(until=newest)
    differences: list[Difference] = []
    replayed = Replayed(bus, differences.append, patience=10.0)
    await replayed.fold_to(newest)
    await h.append_events(bus, [h.spawned("z")], "z", first_version=2)
    ahead = await h.append_events(bus, [h.spawned("first")], "first", first_version=2)
    bucket = ViewBucket(bus)
    view = encode_view(await replay_agent(bus, "first", ahead))
    await bucket.store("agent.first", view, (await bucket.load("agent.first")).revision)
    comparing = asyncio.create_task(compare_views(bus, replayed, differences.append, patience=20.0))
    ended, _ = await asyncio.wait({comparing}, timeout=1.5)
    assert not ended, "it did not wait for the projector"
    await ViewProjector(bus, Progress()).run(until=ahead)
    await comparing
    assert (differences, replayed.position) == ([], ahead)
