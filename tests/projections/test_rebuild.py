"""A projection is built anew beside the old one, which stays readable and in step, and is exchanged at one instant."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from l02.bus.connection.bus import Bus
from l02.bus.connection.streams import VIEWS_BUCKET
from l02.bus.log.reader import last_sequence
from l02.projections.projector.progress import Progress
from l02.projections.rebuild import PROJECTIONS, RebuildUnderWay, rebuild
from l02.projections.tables.database import connect
from l02.projections.tables.definitions import TABLES
from l02.projections.tables.projector import TableProjector
from l02.projections.views.projector import VIEWS, ViewProjector
from tests.projections import history as h
from tests.projections.conftest import running
from tests.projections.replay import (
    assert_tables_equal_replay,
    assert_views_equal_replay,
    stored_views,
)

BEFORE = 2000


class BrokenOffError(Exception):
    pass


async def _damage_tables(url: str) -> None:
    async with connect(url) as connection:
        await connection.execute("DELETE FROM executions WHERE agent_id < 'a3'")
        await connection.execute("UPDATE agents SET state = 'gone', view = replace(view::text, 'n1', 'nowhere')::json")


async def _damage_views(bus: Bus) -> None:
    bucket = await bus.jetstream.key_value(VIEWS_BUCKET)
    await bucket.delete("agent.a1")
    await bucket.put("agent.a2", b"no view at all")
    await bucket.put("agent.a3", b'{"sequence":99999999}')
    await bucket.put("agent.nobody", b'{"sequence":1}')
    old = (await bucket.get("agent.a4")).value
    assert old is not None
    await bucket.put("agent.a4", old.replace(b"n1", b"nowhere"))


async def test_what_was_damaged_is_right_again(bus: Bus, tables: str) -> None:
    newest = await h.append(bus, [*h.History(agents=10).events(3000)])
    await TableProjector(bus, tables, Progress()).run(until=newest)
    await ViewProjector(bus, Progress()).run(until=newest)
    await _damage_tables(tables)
    await _damage_views(bus)
    for name in PROJECTIONS:
        told: list[tuple[int, int]] = []
        assert await rebuild(name, bus, tables, lambda done, total, told=told: told.append((done, total))) == newest  # type: ignore[misc]
        assert told == sorted(told)
        assert told[-1] == (newest, newest)
    await assert_tables_equal_replay(bus, tables)
    await assert_views_equal_replay(bus)


async def test_projectors_go_on_after_a_rebuild_without_them(bus: Bus, tables: str) -> None:
    history = h.History(agents=10)
    await h.append(bus, [*history.events(500)])
    for name in PROJECTIONS:
        await rebuild(name, bus, tables)
    newest = await h.append(bus, [*history.events(500)])
    await TableProjector(bus, tables, Progress()).run(until=newest)
    await ViewProjector(bus, Progress()).run(until=newest)
    await assert_tables_equal_replay(bus, tables)
    await assert_views_equal_replay(bus)


async def test_rebuilding_under_live_traffic(bus: Bus, tables: str) -> None:
    history, progress = h.History(agents=20), Progress()
    await h.append(bus, [*history.events(BEFORE)])
    stopping = asyncio.Event()

    async def traffic() -> None:
        while not stopping.is_set():
            await h.append(bus, [*history.events(20)])

    async def reader() -> None:
        """The tables can be read at every moment, and never show less than before."""
        connection = await asyncpg.connect(tables)
        seen = dict.fromkeys(TABLES, 0)
        try:
            while not stopping.is_set():
                for name in TABLES:
                    newest = await connection.fetchval(f"SELECT max(sequence) FROM l02.{name}")
                    assert (newest or 0) >= seen[name], f"{name} went back"
                    seen[name] = newest or 0
        finally:
            await connection.close()

    async with running(TableProjector(bus, tables, progress).run(), ViewProjector(bus, progress).run()):
        for name in PROJECTIONS:
            await progress.wait_for(name, BEFORE)
        async with asyncio.TaskGroup() as group:
            group.create_task(traffic())
            group.create_task(reader())
            for _ in range(2):
                for name in PROJECTIONS:
                    await rebuild(name, bus, tables)
            stopping.set()
        newest = await last_sequence(bus)
        assert newest > BEFORE
        async with asyncio.timeout(30):
            for name in PROJECTIONS:
                await progress.wait_for(name, newest)
    await assert_tables_equal_replay(bus, tables)
    await assert_views_equal_replay(bus)


async def test_views_are_replaced_under_a_working_projector(bus: Bus) -> None:
    history, progress = h.History(agents=5), Progress()
    await h.append(bus, [*history.events(500)])
    async with running(ViewProjector(bus, progress).run()):
        await progress.wait_for(VIEWS, 500)
        await _damage_views(bus)
        assert await rebuild(VIEWS, bus, "") == 500
        newest = await h.append(bus, [*history.events(100)])
        await progress.wait_for(VIEWS, newest)
    await assert_views_equal_replay(bus)
    assert len(await stored_views(bus)) == 5


async def test_a_rebuild_that_was_broken_off_leaves_no_trace(bus: Bus, tables: str) -> None:
    newest = await h.append(bus, [*h.History(agents=10).events(3000)])
    await TableProjector(bus, tables, Progress()).run(until=newest)

    def stop(done: int, total: int) -> None:
        if done:
            raise BrokenOffError

    with pytest.raises(BrokenOffError):
        await rebuild("agents", bus, tables, stop)
    await assert_tables_equal_replay(bus, tables)
    await rebuild("agents", bus, tables)
    await assert_tables_equal_replay(bus, tables)
    async with connect(tables) as connection:
        schemas = await connection.fetch("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'l02%'")
    assert [row[0] for row in schemas] == ["l02"]


async def test_one_rebuild_at_a_time(bus: Bus, tables: str) -> None:
    await h.append(bus, [*h.History(agents=10).events(3000)])
    results = await asyncio.gather(*(rebuild("agents", bus, tables) for _ in range(3)), return_exceptions=True)
    assert sorted(map(str, map(type, results))) == sorted(map(str, [int, RebuildUnderWay, RebuildUnderWay]))


async def test_an_unknown_name(bus: Bus, tables: str) -> None:
    with pytest.raises(KeyError):
        await rebuild("nothing", bus, tables)


async def test_a_long_report_on_the_old_table_is_waited_for(bus: Bus, tables: str) -> None:
    newest = await h.append(bus, [*h.History(agents=10).events(300)])
    await TableProjector(bus, tables, Progress()).run(until=newest)
    report = await asyncpg.connect(tables)
    try:
        transaction = report.transaction()
        await transaction.start()
        assert await report.fetchval("SELECT count(*) FROM l02.agents") == 10
        rebuilding = asyncio.create_task(rebuild("agents", bus, tables))
        async with connect(tables) as observer:
            async with asyncio.timeout(30):
                while not await observer.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
                    assert not rebuilding.done()
            async with asyncio.timeout(30):
                while await observer.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
                    assert not rebuilding.done()
            assert await observer.fetchval("SELECT count(*) FROM l02.agents") == 10
        await transaction.rollback()
        assert await rebuilding == newest
    finally:
        await report.close()
    await assert_tables_equal_replay(bus, tables)
