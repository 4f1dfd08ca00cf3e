"""Who starts while a cluster that has lost a server chooses its leaders waits for them, and then has its share."""

from __future__ import annotations

import asyncio

from l02.bus.commands.leases import hold_lease
from l02.bus.commands.partitions import COMMAND_PARTITIONS, open_partitions
from l02.bus.connection.bus import Bus
from l02.bus.connection.streams import EVENTS_STREAM, LEASES_STREAM, SNAPSHOTS_STREAM, ensure_streams
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
