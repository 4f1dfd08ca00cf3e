"""Reads and decodes the next events while the last ones are being written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from l02.bus.background.cancelling import end
from l02.bus.connection.bus import Bus
from l02.bus.log.reader import EventReader, read_events
from l02.bus.wire.codec import LogEntry

_BATCH_EVENTS = 500
_BATCHES_AHEAD = 24


class ReadAhead:
    """The events of the stream in order, a few batches ahead of need."""

    def __init__(self, reader: EventReader) -> None:
        self._reader = reader
        self._batches: asyncio.Queue[list[LogEntry] | Exception] = asyncio.Queue(_BATCHES_AHEAD)
        self._failed = False

    @property
    def ready(self) -> bool:
        """Whether the next batch is there already, and it is one."""
        return self._batches.qsize() > self._failed

    async def next_batch(self) -> list[LogEntry]:
        """The next events, at least one; waits for it. Raises, each time, what reading has met."""
        batch = await self._batches.get()
        if isinstance(batch, Exception):
            self._batches.put_nowait(batch)
            raise batch
        return batch

    async def read(self) -> None:
        """Read until cancelled."""
        try:
            while True:
                await self._batches.put(await self._reader.next_batch(_BATCH_EVENTS))
        except Exception as error:
            self._failed = True
            await self._batches.put(error)


@asynccontextmanager
async def read_ahead(bus: Bus, *, after: int) -> AsyncIterator[ReadAhead]:
    """Read the events above `after` in the background, as long as the context lasts."""
    async with read_events(bus, after=after) as reader:
        ahead = ReadAhead(reader)
        reading = asyncio.create_task(ahead.read())
        try:
            yield ahead
        finally:
            await end(reading)
