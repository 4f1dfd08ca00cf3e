"""Whatever is killed under load, the projections catch up by themselves and then equal a fresh replay."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from pathlib import Path

import asyncpg
import pytest

from l02.bus.connection.bus import Bus
from l02.bus.embedded import EmbeddedNats, EmbeddedPostgres
from l02.bus.log.reader import last_sequence
from l02.projections.projector.progress import Progress
from l02.projections.tables.database import migrate
from l02.projections.tables.definitions import TABLES
from l02.projections.tables.projector import TableProjector
from l02.projections.views.projector import ViewProjector
from tests.conftest import started_before
from tests.projections import history as h
from tests.projections.conftest import CATCHING_UP_SECONDS, caught_up, load, running
from tests.projections.replay import (
    assert_tables_equal_replay,
    assert_views_equal_replay,
    stored_positions,
)

ROOT = Path(__file__).parents[2]
CUT = """
    SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE application_name = 'l02-projections' AND datname = current_database() AND backend_xid IS NOT NULL
"""


async def started_again(server: EmbeddedPostgres, killed: int) -> None:
    async with asyncio.timeout(CATCHING_UP_SECONDS):
        while True:
            try:
                if server.pid != killed:
                    return
            except RuntimeError:
                pass  # it is down
            await asyncio.sleep(0.01)


async def test_a_projector_killed_again_and_again(bus: Bus, fresh_nats: EmbeddedNats, tables: str) -> None:
    chance = random.Random(1)
    newest = await h.append(bus, [*h.History(agents=30).events(1_500)])
    kills = 0
    while min((await stored_positions(tables)).values()) < newest:
        began = set((await stored_positions(tables)).values())
        program = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.projections.projector_to_kill", fresh_nats.url, tables, cwd=ROOT
        )
        try:
            while set((await stored_positions(tables)).values()) == began:
                assert program.returncode is None
            await asyncio.sleep(chance.uniform(0, 0.1))
        finally:
            program.send_signal(signal.SIGKILL)
            await program.wait()
        kills += 1
    assert kills >= 2, "it was too fast to be killed in the middle"
    await ViewProjector(bus, Progress()).run(until=newest)
    await assert_tables_equal_replay(bus, tables)
    await assert_views_equal_replay(bus)


@pytest.mark.parametrize("cuts", [5, pytest.param(50, marks=pytest.mark.soak)])
async def test_connections_to_postgres_cut_in_mid_transaction(bus: Bus, tables: str, cuts: int) -> None:
    progress = Progress()
    administrator = await asyncpg.connect(tables)
    try:
        async with running(TableProjector(bus, tables, progress, transaction_events=50).run()):
            async with load(bus):
                for _ in range(cuts):
                    await progress.wait_for("agents", progress.position("agents") + 1)
                    while not await administrator.fetchval(CUT):
                        pass
            newest = await last_sequence(bus)
            async with asyncio.timeout(CATCHING_UP_SECONDS):
                for name in TABLES:
                    await progress.wait_for(name, newest)
    finally:
        await administrator.close()
    await assert_tables_equal_replay(bus, tables)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGQUIT, signal.SIGINT], ids=lambda how: how.name)
async def test_postgres_restarted(bus: Bus, tmp_path: Path, initialized_postgres: Path, how: signal.Signals) -> None:
    server = EmbeddedPostgres(started_before(tmp_path / "postgres", initialized_postgres))
    url = await server.start()
    try:
        await migrate(url)
        progress = Progress()
        async with running(TableProjector(bus, url, progress, transaction_events=50).run()):
            async with load(bus):
                for _ in range(2):
                    await progress.wait_for("agents", await last_sequence(bus))
                    killed = server.pid
                    os.kill(killed, how)
                    await started_again(server, killed)
            newest = await last_sequence(bus)
            async with asyncio.timeout(CATCHING_UP_SECONDS):
                for name in TABLES:
                    await progress.wait_for(name, newest)
        await assert_tables_equal_replay(bus, url)
    finally:
        await server.stop()


@pytest.mark.parametrize("fresh_nats", ["synced"], indirect=True)
async def test_nats_killed(bus: Bus, fresh_nats: EmbeddedNats, tables: str) -> None:
    progress = Progress()
    history = h.History(agents=30)
    async with running(TableProjector(bus, tables, progress).run(), ViewProjector(bus, progress).run()):
        for _ in range(3):
            newest = await h.append(bus, [*history.events(2000)])
            killed = fresh_nats.pid
            os.kill(killed, signal.SIGKILL)
            await caught_up(progress, newest)
    await assert_tables_equal_replay(bus, tables)
    await assert_views_equal_replay(bus)
