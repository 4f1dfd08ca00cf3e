"""A process that decides and writes snapshots often until it is killed. Arguments: the server's URL."""

from __future__ import annotations

import asyncio
import sys

import l02.bus.log.snapshots
from l02.bus.connection.bus import connect
from l02.bus.log.event_store import open_event_store
from l02.bus.log.repository import Repository
from l02.bus.log.snapshots import open_snapshots
from tests.bus.toy import TABLE, TOY, metadata, note


async def main(url: str) -> None:
    l02.bus.log.snapshots.EVENTS_PER_SNAPSHOT = 3
    async with (
        connect(url, name="to kill", aggregates=TABLE) as connected,
        open_event_store(connected) as store,
        open_snapshots(connected, TOY) as snapshots,
    ):
        repository = Repository(TOY, store, "n1", snapshots)
        while True:
            decision = await repository.decide("a1", note(1, "two"), metadata())
            print(decision.version, flush=True)


asyncio.run(main(sys.argv[1]))
