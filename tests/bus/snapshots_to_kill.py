"""A process that decides and writes snapshots often until it is killed. Arguments: the server's URL."""

from __future__ import annotations

import asyncio
import sys

import bus.snapshots
from bus.connection import connect
from bus.event_store import open_event_store
from bus.repository import Repository
from bus.snapshots import open_snapshots
from tests.bus.toy import TOY, metadata, signal


async def main(url: str) -> None:
    bus.snapshots.EVENTS_PER_SNAPSHOT = 3
    async with (
        connect(url, name="to kill") as connected,
        open_event_store(connected) as store,
        open_snapshots(connected, TOY) as snapshots,
    ):
        repository = Repository(TOY, store, snapshots)
        while True:
            decision = await repository.decide("a1", signal(1, "two"), metadata())
            print(decision.version, flush=True)


asyncio.run(main(sys.argv[1]))
