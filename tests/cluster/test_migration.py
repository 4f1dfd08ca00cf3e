"""The streams of a version before are migrated on three servers, also if one is away meanwhile, and not while a node
lives there.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from l02.bus.background.cancelling import end
from l02.bus.commands.leases import Leases
from l02.bus.commands.migration import BEFORE_STREAM, STEPS, MigrationRefused, _take, migrate_streams
from l02.bus.connection.bus import Bus
from l02.bus.connection.streams import COMMANDS_STREAM, TIMERS_STREAM
from tests.bus.bus_of_before import OLD, assert_migrated, leave_bus_of_before, nobody
from tests.bus.faults import kill_for_good
from tests.cluster.servers import Cluster

COPIES = 3


@pytest_asyncio.fixture
async def last(bus: Bus) -> AsyncIterator[int]:
    """The last sequence of the commands of before, on a cluster that holds nothing else."""
    for stream in (await bus.api("STREAM.NAMES", {}))["streams"]:
        await bus.api(f"STREAM.DELETE.{stream}", {})
    yield await leave_bus_of_before(bus, COPIES)
    await bus.api(f"STREAM.DELETE.{BEFORE_STREAM}", {})


async def test_it_is_refused_if_a_node_says_a_moment_later_that_it_lives_and_done_when_that_is_gone(
    bus: Bus, last: int
) -> None:
    """As those say it whose leases were over because the servers were away."""
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


async def test_a_server_that_was_away_meanwhile_has_the_same_as_the_others(
    cluster: Cluster, bus: Bus, last: int
) -> None:
    """It leads what is migrated when it is killed, half-way; nothing is lost, whichever server is asked later."""
    copied = [step.__name__ for step in STEPS].index("_detach")
    for step in STEPS[:copied]:
        await step(bus, COPIES)
    victim = await cluster.leader(bus, BEFORE_STREAM)

    async def migrate_on() -> None:
        for step in STEPS[copied:]:
            await _take(step, bus, COPIES)

    migrating = asyncio.create_task(migrate_on())
    await kill_for_good(victim)
    await migrating
    await victim.start()
    await cluster.settled(bus)
    for stream in (COMMANDS_STREAM, BEFORE_STREAM, TIMERS_STREAM):
        one, two, three = await cluster.copies(bus, stream)
        assert one and one == two == three
    await assert_migrated(bus, last, COPIES)
