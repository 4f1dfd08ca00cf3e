"""Who starts while a cluster that has lost a server chooses its leaders waits for them, and then has its share.

What only the server had that is away is not waited for if it is but a copy.
"""

from __future__ import annotations

import asyncio

from l02.bus.commands.leases import hold_lease
from l02.bus.commands.partitions import COMMAND_PARTITIONS, open_partitions
from l02.bus.connection.bus import Bus
from l02.bus.connection.streams import (
    EVENTS_STREAM,
    HOT_STREAM,
    LEASES_STREAM,
    SNAPSHOTS_STREAM,
    ensure_hot_bucket,
    ensure_streams,
)
from l02.handlers.state.hot import open_hot_state
from l02.handlers.state.settings import StateSettings
from tests.bus.faults import kill_for_good
from tests.bus.toy import until
from tests.cluster.servers import Cluster


async def test_streams_buckets_lease_and_partitions_are_waited_for(cluster: Cluster, bus: Bus) -> None:
    victim, other, _ = cluster.servers
    for stream in (LEASES_STREAM, SNAPSHOTS_STREAM):
        await cluster.hand_over(bus, stream, victim)
    await cluster.hand_over(bus, EVENTS_STREAM, other)
    await kill_for_good(victim)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(ensure_streams(bus, replicas=3))
        async with (
            hold_lease(bus, "starting", "here", tasks) as leases,
            open_partitions(bus, leases, tasks) as partitions,
        ):
            await until(lambda: all(partitions.has(name) for name in COMMAND_PARTITIONS))
    await victim.start()


async def test_hot_state_on_the_server_that_is_away_is_not_waited_for(cluster: Cluster, bus: Bus) -> None:
    """It has one copy, so nobody can make it or ask for it until that server is back; then it is used again."""
    await ensure_hot_bucket(bus)
    victim = await cluster.leader(bus, HOT_STREAM)
    await kill_for_good(victim)
    async with asyncio.timeout(5), open_hot_state(StateSettings(), bus) as hot:
        await hot.put("a1", 1, b"one")
        assert await hot.get("a1") is None
    await victim.start()
    async with asyncio.timeout(20), open_hot_state(StateSettings(), bus) as hot:
        while await hot.get("a1") != (2, b"two"):
            await hot.put("a1", 2, b"two")
    await bus.api(f"STREAM.DELETE.{HOT_STREAM}", {})
