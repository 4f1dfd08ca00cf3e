"""A bus as the version before left it is migrated once, whole, and again after an end between any two steps."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from l02.bus.commands.migration import STEPS, MigrationRefused, migrate_streams
from l02.bus.connection.bus import Bus, connect
from l02.bus.connection.streams import COMMANDS_STREAM, ensure_stream, ensure_streams
from l02.bus.embedded import EmbeddedNats
from l02.bus.log.reader import last_sequence
from tests.bus.bus_of_before import OLD, assert_migrated, leave_bus_of_before, nobody, somebody
from tests.bus.toy import TABLE


async def of_each(directory: Path, cases: Iterable[int], check: Callable[[Bus, int, int], Awaitable[None]]) -> None:
    """Check all cases side by side, each on a bus of its own: what takes time is that leases and timers do."""

    async def one(case: int) -> None:
        server = EmbeddedNats(directory / str(case), synced=False)
        await server.start()
        try:
            async with connect(server.url, name="old", aggregates=TABLE) as old:
                await check(old, case, await leave_bus_of_before(old))
        except BaseException as error:
            error.add_note(f"case {case}")
            raise
        finally:
            await server.stop()

    async with asyncio.TaskGroup() as tasks:
        for case in cases:
            tasks.create_task(one(case))


async def test_ended_after_any_step_it_is_taken_up_again(tmp_path: Path) -> None:
    async def check(old: Bus, steps: int, last: int) -> None:
        for step in STEPS[:steps]:
            await step(old, 1)
        await migrate_streams(old, 1, nobody)
        await assert_migrated(old, last)

    await of_each(tmp_path, range(len(STEPS) + 1), check)


async def test_ended_while_it_stores_again_nothing_is_lost_or_doubled(tmp_path: Path) -> None:
    async def check(old: Bus, stored: int, last: int) -> None:
        publish, count = old.publish, 0

        async def limited(*arguments: Any) -> Any:
            nonlocal count
            count += 1
            if count > stored:
                raise ConnectionAbortedError
            return await publish(*arguments)

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(old, "publish", limited)
            with pytest.raises(ConnectionAbortedError):
                await migrate_streams(old, 1, nobody)
        await migrate_streams(old, 1, nobody)
        await assert_migrated(old, last)

    await of_each(tmp_path, [1, 3, 5, 7], check)


async def test_it_is_refused_while_another_node_lives(fresh_nats: EmbeddedNats) -> None:
    async with connect(fresh_nats.url, name="old", aggregates=TABLE) as old:
        await ensure_stream(old, OLD)
        with pytest.raises(MigrationRefused, match="n7 runs on them; stop all nodes"):
            await migrate_streams(old, 1, somebody)
        assert (await old.api(f"STREAM.INFO.{COMMANDS_STREAM}", {}))["config"]["subjects"] == OLD["subjects"]


async def test_a_server_without_streams_needs_none(fresh_nats: EmbeddedNats) -> None:
    async with connect(fresh_nats.url, name="new", aggregates=TABLE) as bus, asyncio.timeout(10):
        await migrate_streams(bus, 1, somebody)
        await ensure_streams(bus)
        await migrate_streams(bus, 1, somebody)
        assert await last_sequence(bus, COMMANDS_STREAM) == 0
