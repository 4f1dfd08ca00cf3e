"""The database moves to another server: the projections follow it, and what it has lost they write again, once."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from l02.bus.connection.bus import Bus
from l02.bus.connection.postgres import NoPrimary, connect_to_primary
from l02.bus.log.reader import last_sequence
from l02.projections.projector.progress import Progress
from l02.projections.queries import open_read_model
from l02.projections.tables.database import migrate
from l02.projections.tables.definitions import TABLES
from l02.projections.tables.projector import TableProjector
from l02.projections.views.projector import ViewProjector
from tests.conftest import in_containers
from tests.projections import history as h
from tests.projections.conftest import CATCHING_UP_SECONDS, caught_up, load, running
from tests.projections.replay import assert_tables_equal_replay, assert_views_equal_replay, stored_positions
from tests.replication import Pair, replicated

pytestmark = pytest.mark.skipif(in_containers(), reason="the standby is a copy of the embedded server")


@pytest_asyncio.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    async with replicated(tmp_path) as pair:
        await migrate(pair.url)
        await pair.caught_up()
        yield pair


@pytest.mark.parametrize("loses", [False, True], ids=["standby has it all", "standby lacks the last transactions"])
async def test_under_load(bus: Bus, pair: Pair, loses: bool) -> None:
    progress = Progress()
    tables = TableProjector(bus, pair.url, progress, transaction_events=50)
    async with running(tables.run(), ViewProjector(bus, progress).run()):
        async with load(bus):
            await progress.wait_for("agents", 200)
            if loses:
                await pair.caught_up()
                await pair.cut_off()
                await caught_up(progress, await last_sequence(bus) + 200)
            before = progress.position("agents")
            await pair.kill_primary()
            if loses:
                assert max((await stored_positions(pair.standby.url)).values()) < before
            await caught_up_views(progress, await last_sequence(bus))  # live views need no PostgreSQL
            await pair.promote()
            await caught_up(progress, await last_sequence(bus))
        await caught_up(progress, await last_sequence(bus))
    await assert_tables_equal_replay(bus, pair.standby.url)
    await assert_views_equal_replay(bus)


async def test_when_nothing_more_happens(bus: Bus, pair: Pair) -> None:
    """The last events are lost with the primary, and no other comes that would make the projector look."""
    progress = Progress()
    async with (
        running(TableProjector(bus, pair.url, progress).run(), ViewProjector(bus, progress).run()),
        open_read_model(bus, pair.url, progress) as read_model,
    ):
        await caught_up(progress, await h.append_events(bus, [h.spawn_requested()]))
        await pair.caught_up()
        await pair.cut_off()
        newest = await h.append_events(bus, [h.spawned()], first_version=2)
        await caught_up(progress, newest)
        await pair.kill_primary()
        assert max((await stored_positions(pair.standby.url)).values()) < newest
        await pair.promote()
        await read_model.wait_for("agents", newest, timeout=CATCHING_UP_SECONDS)
        agent = await read_model.get_agent("a1")
        assert agent is not None and agent.sequence == newest
    await assert_tables_equal_replay(bus, pair.standby.url)
    await assert_views_equal_replay(bus)


async def test_a_server_that_takes_no_writes_is_not_stuck_to(bus: Bus, pair: Pair) -> None:
    """As a provider does before it moves a database: sessions stay, and whatever writes is refused."""
    progress = Progress()
    async with running(TableProjector(bus, pair.url, progress).run()):
        await tables_caught_up(progress, await h.append_events(bus, [h.spawn_requested()]))
        await pair.caught_up()
        await pair.refuse_writes()
        newest = await h.append_events(bus, [h.spawned()], first_version=2)
        await pair.promote()
        await tables_caught_up(progress, newest)
    await assert_tables_equal_replay(bus, pair.standby.url)


async def test_only_a_standby_is_there(pair: Pair) -> None:
    await pair.kill_primary()
    with pytest.raises(NoPrimary, match="standby"):
        await connect_to_primary(pair.url)


async def test_a_host_that_does_not_answer_keeps_nobody_from_the_next(pair: Pair) -> None:
    """A machine that is gone refuses no connection."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = pair.url.replace("@", f"@127.0.0.1:{silent.getsockname()[1]},")
        with pytest.raises(TimeoutError):
            await asyncpg.connect(url, timeout=0.5)
        connection = await connect_to_primary(url, timeout=0.5)
        assert await connection.fetchval("SELECT NOT pg_is_in_recovery()")
        connection.terminate()


async def caught_up_views(progress: Progress, sequence: int) -> None:
    async with asyncio.timeout(CATCHING_UP_SECONDS):
        await progress.wait_for("views", sequence)


async def tables_caught_up(progress: Progress, sequence: int) -> None:
    async with asyncio.timeout(CATCHING_UP_SECONDS):
        for name in TABLES:
            await progress.wait_for(name, sequence)
