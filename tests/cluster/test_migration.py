"""The streams of a version before are migrated on three servers, and not while a node lives there."""

from __future__ import annotations

import asyncio

import pytest

from l02.bus.background.cancelling import end
from l02.bus.commands.leases import Leases
from l02.bus.commands.migration import BEFORE_STREAM, MigrationRefused, migrate_streams
from l02.bus.connection.bus import Bus
from l02.bus.connection.streams import COMMANDS_STREAM
from tests.bus.bus_of_before import OLD, assert_migrated, leave_bus_of_before, nobody

COPIES = 3


async def test_it_is_refused_if_a_node_says_a_moment_later_that_it_lives_and_done_when_that_is_gone(bus: Bus) -> None:
    """As those say it whose leases were over because the servers were away."""
    for stream in (await bus.api("STREAM.NAMES", {}))["streams"]:
        await bus.api(f"STREAM.DELETE.{stream}", {})
    last = await leave_bus_of_before(bus, COPIES)
    one, other = Leases(bus, "n1", "here"), Leases(bus, "n7", "there")
    await one.acquire()
    keeping = asyncio.create_task(one.keep())
    migrating = asyncio.create_task(migrate_streams(bus, COPIES, one.others))
    await other.acquire()
    with pytest.raises(MigrationRefused, match="n7 runs on them; stop all nodes"):
        await migrating
    await other.release()
    await end(keeping)
    await one.release()
    assert (await bus.api(f"STREAM.INFO.{COMMANDS_STREAM}", {}))["config"]["subjects"] == OLD["subjects"]
    await migrate_streams(bus, COPIES, nobody)
    for stream in (COMMANDS_STREAM, BEFORE_STREAM):
        assert (await bus.api(f"STREAM.INFO.{stream}", {}))["config"]["num_replicas"] == COPIES
    await assert_migrated(bus, last, COPIES)
    await bus.api(f"STREAM.DELETE.{BEFORE_STREAM}", {})
