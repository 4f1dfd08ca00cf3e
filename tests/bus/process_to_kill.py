"""A process that handles commands until it is killed. Arguments: the server's URL, and the node's id."""

from __future__ import annotations

import asyncio
import sys

from l02.bus.commands.processor import CommandProcessor
from l02.bus.connection.bus import connect
from l02.bus.log.event_store import open_event_store
from l02.bus.log.repository import Repository
from tests.bus.toy import TABLE, TOY, partitions_of


async def main(url: str, node_id: str) -> None:
    async with (
        connect(url, name="to kill", aggregates=TABLE) as bus,
        open_event_store(bus) as store,
        partitions_of(bus, node_id) as partitions,
    ):
        print("ready", flush=True)
        await CommandProcessor(bus, {TOY.name: Repository(TOY, store, node_id)}, partitions).run()


asyncio.run(main(*sys.argv[1:]))
