"""What is stored is read in pages, many at a time, and no server cuts a connection off for that."""

from __future__ import annotations

import asyncio
import os

from l02.bus.connection.bus import Bus
from l02.bus.connection.streams import EVENTS_STREAM
from l02.bus.jetstream.history import read_stored, sequence_of
from l02.bus.log.event_store import EventStore
from l02.bus.wire.subjects import aggregate_filter
from tests.bus.toy import message, toy_id

TEXT = os.urandom(120_000).hex()
EVENTS = 100
READERS = 40


async def test_many_who_read_much_at_once_are_all_answered(bus: Bus, store: EventStore) -> None:
    last = 0
    for version in range(1, EVENTS + 1):
        last = await store.append(toy_id("long"), [message("long", version, TEXT)], last)
    lost: list[str] = []

    async def read() -> int:
        found, more = 0, True
        after = 0
        while more:
            page, more = await read_stored(bus, EVENTS_STREAM, aggregate_filter(toy_id("long")), after=after)
            found, after = found + len(page), sequence_of(page[-1])
        return found

    async with bus.on_disconnect(lambda: lost.append("the connection")):
        assert await asyncio.gather(*(read() for _ in range(READERS))) == [EVENTS] * READERS
    assert not lost
