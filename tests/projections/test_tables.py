"""The tables hold what a replay gives, each event once, whoever projects and however often it is delivered."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest
from msgspec import structs

from l02.bus.commands.dead_letters import dead_letters, resend
from l02.bus.connection.bus import Bus
from l02.bus.log.reader import read_events
from l02.domain.errors import Failure
from l02.projections.projector.progress import Progress
from l02.projections.tables.database import DatabaseUnreachable, SchemaMismatch, connect, migrate
from l02.projections.tables.definitions import TABLES
from l02.projections.tables.projector import ProjectionAhead, TableProjector
from l02.projections.tables.writer import TableWriter
from tests.projections import history as h
from tests.projections.conftest import running
from tests.projections.replay import (
    assert_tables_equal_replay,
    replayed_rows,
    stored_positions,
    stored_rows,
)


async def test_the_tables_equal_a_replay(bus: Bus, tables: str) -> None:
    history = h.History(agents=20)
    newest = await h.append(bus, [*history.events(3000)])
    await TableProjector(bus, tables, Progress()).run(until=newest)
    await assert_tables_equal_replay(bus, tables)


async def test_it_goes_on_where_it_stopped(bus: Bus, tables: str) -> None:
    history = h.History(agents=5)
    for _ in range(3):
        newest = await h.append(bus, [*history.events(200)])
        await TableProjector(bus, tables, Progress()).run(until=newest)
    await assert_tables_equal_replay(bus, tables)


async def test_new_events_are_projected_as_they_come(bus: Bus, tables: str) -> None:
    history, progress = h.History(agents=5), Progress()
    async with running(TableProjector(bus, tables, progress).run()):
        for _ in range(20):
            newest = await h.append(bus, [*history.events(3)])
            for name in TABLES:
                await progress.wait_for(name, newest)
            await assert_tables_equal_replay(bus, tables)


async def test_an_event_delivered_again_changes_nothing(bus: Bus, tables: str) -> None:
    newest = await h.append(bus, [*h.History(agents=5).events(300)])
    async with read_events(bus) as reader:
        events = []
        while reader.position < newest:
            events += await reader.next_batch()
    async with connect(tables) as connection:
        writer = TableWriter(connection, TABLES)
        for batch in (events[:100], events[:100], events[50:200], events, events[250:]):
            assert await writer.begin()
            await writer.fold(batch)
            await writer.commit()
    await assert_tables_equal_replay(bus, tables)


async def test_a_table_that_is_behind_catches_up_with_the_other(bus: Bus, tables: str) -> None:
    history = h.History(agents=5)
    newest = await h.append(bus, [*history.events(200)])
    await TableProjector(bus, tables, Progress(), tables={"agents": TABLES["agents"]}).run(until=newest)
    assert await stored_positions(tables) == dict.fromkeys(TABLES, 0) | {"agents": newest}
    newest = await h.append(bus, [*history.events(100)])
    await TableProjector(bus, tables, Progress()).run(until=newest)
    await assert_tables_equal_replay(bus, tables)


async def test_several_projectors_do_the_work_once(bus: Bus, tables: str) -> None:
    history = h.History(agents=10)
    seen = [Progress() for _ in range(3)]
    async with running(*(TableProjector(bus, tables, progress).run() for progress in seen)):
        for size in (1, 500, 1, 1, 50, 1000, 3, 200):
            newest = await h.append(bus, [*history.events(size)])
        async with asyncio.timeout(30):
            for progress in seen:
                await progress.wait_for("agents", newest)
                await progress.wait_for("executions", newest)
    await assert_tables_equal_replay(bus, tables)


async def test_columns_take_any_text(bus: Bus, tables: str) -> None:
    """PostgreSQL has no NUL, and an index entry has a limit; neither may stop the projection."""
    name = "\0é😀" * 40
    request = h.spawn_requested(name=name)
    await h.append_events(bus, [request, h.spawned(), h.started("x", "\0"), h.completed("x", ["\0"])])
    newest = await h.append_events(bus, [structs.replace(h.spawn_requested(), fleet_id="f" * 100_000)], "a2")
    await TableProjector(bus, tables, Progress()).run(until=newest)
    await assert_tables_equal_replay(bus, tables)
    async with connect(tables) as connection:
        assert await connection.fetchval("SELECT name FROM agents WHERE id = 'a1'") == name.replace("\0", "\ufffd")


async def test_large_views_are_written_in_parts(bus: Bus, tables: str) -> None:
    events = [h.spawn_requested(), h.spawned(), *(h.started(f"x{n}", str(n) * 1_000_000) for n in range(40))]
    newest = await h.append_events(bus, events)
    await TableProjector(bus, tables, Progress()).run(until=newest)
    await assert_tables_equal_replay(bus, tables)


async def test_what_cannot_be_taken_in_halts_its_own_aggregate(bus: Bus, tables: str) -> None:
    await h.append_events(bus, [h.spawn_requested(), h.spawned()])
    await bus.publish("l02.evt.agent.a1.from.the.future", b"{}")
    await bus.publish("l02.evt.agent.a9.spawned", b"\xff" * 1_000_000)
    await h.append_events(bus, [h.spawn_requested(), h.spawned()], "a2")
    await h.append_events(bus, [h.started("x1")], first_version=4)  # leaves a version out, had it not halted before
    newest = await h.append_events(bus, [h.tool_called("never", 1)], "a2", first_version=3)
    for _ in range(2):
        await TableProjector(bus, tables, Progress()).run(until=newest)
        await assert_tables_equal_replay(bus, tables)
        letters = [letter async for letter in dead_letters(bus)]
        assert sorted((letter.consumer, letter.origin, letter.subject) for letter in letters) == [
            ("projections", 3, "l02.evt.agent.a1.from.the.future"),
            ("projections", 4, "l02.evt.agent.a9.spawned"),
            ("projections", 8, "l02.evt.agent.a2.tool.called"),
        ]
        async with connect(tables) as connection:
            await connection.execute("UPDATE positions SET position = 2")
            await connection.execute("DELETE FROM agents WHERE id > 'a1'")
            await connection.execute("UPDATE agents SET view = replace(view::text, ',\"halted_at\":3', '')::json")
    with pytest.raises(Failure, match=r"E2117.*letter 1 stays.*upgrade, then `l02 rebuild`"):
        await resend(bus, letters[0])


async def test_an_error_in_a_statement_is_not_taken_for_an_outage(bus: Bus, tables: str) -> None:
    await h.append(bus, [*h.History(agents=2).events(20)])
    async with connect(tables) as connection:
        await connection.execute("ALTER TABLE agents RENAME COLUMN node_id TO something_else")
    with pytest.raises(asyncpg.UndefinedColumnError):
        async with asyncio.timeout(10):
            await TableProjector(bus, tables, Progress()).run()


async def test_tables_of_another_stream_are_refused(bus: Bus, tables: str) -> None:
    await h.append(bus, [*h.History(agents=2).events(20)])
    async with connect(tables) as connection:
        await connection.execute("UPDATE positions SET position = 1000000")
    with pytest.raises(ProjectionAhead, match="another stream"):
        async with asyncio.timeout(10):
            await TableProjector(bus, tables, Progress()).run()


async def test_tables_that_went_back_are_caught_up_again(bus: Bus, tables: str) -> None:
    """PostgreSQL restored from a backup, or failed over to a standby that did not have the last transactions."""
    history, progress = h.History(agents=5), Progress()
    first = await h.append(bus, [*history.events(100)])
    await TableProjector(bus, tables, Progress()).run(until=first)
    async with connect(tables) as connection:
        for name in TABLES:
            await connection.execute(f"CREATE TABLE saved_{name} AS TABLE {name}")
        async with running(TableProjector(bus, tables, progress).run()):
            newest = await h.append(bus, [*history.events(100)])
            await progress.wait_for("executions", newest)
            async with connection.transaction():
                await connection.execute("UPDATE positions SET position = $1", first)
                for name in TABLES:
                    await connection.execute(f"DELETE FROM {name}")
                    await connection.execute(f"INSERT INTO {name} TABLE saved_{name}")
            newest = await h.append(bus, [*history.events(1)])
            async with asyncio.timeout(30):
                while set((await stored_positions(tables)).values()) != {newest}:
                    pass
    await assert_tables_equal_replay(bus, tables)


async def test_migrating_at_the_same_time(database: str) -> None:
    await asyncio.gather(*(migrate(database) for _ in range(8)))
    assert await stored_positions(database) == dict.fromkeys(TABLES, 0)


async def test_migrating_again_keeps_what_is_there(bus: Bus, tables: str) -> None:
    newest = await h.append(bus, [*h.History(agents=2).events(50)])
    await TableProjector(bus, tables, Progress()).run(until=newest)
    await migrate(tables)
    assert await stored_rows(tables) == await replayed_rows(bus)


async def test_tables_of_an_earlier_version_are_filled_anew(bus: Bus, tables: str) -> None:
    newest = await h.append(bus, [*h.History(agents=2).events(50)])
    await TableProjector(bus, tables, Progress()).run(until=newest)
    async with connect(tables) as connection:
        await connection.execute("UPDATE schema_version SET version = 2")
        await connection.execute("ALTER TABLE agents DROP COLUMN has_session, DROP COLUMN owes")
    await asyncio.gather(*(migrate(tables) for _ in range(4)))
    assert await stored_positions(tables) == dict.fromkeys(TABLES, 0)
    await TableProjector(bus, tables, Progress()).run(until=newest)
    await assert_tables_equal_replay(bus, tables)


async def test_a_newer_schema_is_left_alone(tables: str) -> None:
    async with connect(tables) as connection:
        await connection.execute("UPDATE schema_version SET version = 99")
    with pytest.raises(SchemaMismatch, match="layout 99"):
        await migrate(tables)


async def test_an_unreachable_database_is_told_in_one_line(database: str) -> None:
    with pytest.raises(DatabaseUnreachable, match=r"^PostgreSQL at L02_POSTGRES_URL cannot be used: .+$"):
        await migrate("postgresql://nobody:secret@127.0.0.1:1/l02")
    with pytest.raises(DatabaseUnreachable) as caught:
        await migrate(database.replace("://", "://x", 1))
    assert "\n" not in str(caught.value)
