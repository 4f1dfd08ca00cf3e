"""Reading the event stream forward from any point, in order and without gaps, for projections, replay and followers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from bus.codec import RecordedEvent, UnreadableEvent, decode_event
from bus.connection import Bus
from bus.pull import Pull, delivery_of, forward_reading, pull
from bus.streams import EVENTS_STREAM

__all__ = ["EventReader", "last_sequence", "read_events"]


class EventReader:
    """A position in the event stream that moves forward."""

    def __init__(self, source: Pull, after: int) -> None:
        self._source = source
        self._consumer = ""
        self._delivered = 0
        self.position = after

    async def next_batch(self, limit: int = 500) -> list[RecordedEvent]:
        """The next events, at least one; waits for it. None is left out or given twice, whatever the server does.

        Raises UnreadableEvent, again and again, at an event that this version does not know.
        """
        while True:
            events: list[RecordedEvent] = []
            for message in await self._source.next_batch(limit):
                sequence, consumer, number = delivery_of(message)
                if not self._follows(consumer, number):
                    self._source.renew()
                    break
                if sequence > self.position:
                    try:
                        events.append(decode_event(message.data, sequence))
                    except UnreadableEvent:
                        self._source.renew()
                        if events:
                            break
                        raise
                    self.position = sequence
            if events:
                return events

    def _follows(self, consumer: str, number: int) -> bool:
        """Whether nothing is missing before a consumer's delivery: what is on its way when a connection breaks is."""
        if consumer != self._consumer:
            self._consumer, self._delivered = consumer, 0
        follows = number == self._delivered + 1
        if follows:
            self._delivered = number
        return follows


@asynccontextmanager
async def read_events(
    bus: Bus, *, after: int = 0, filters: Sequence[str] = (), window: int = 2048
) -> AsyncIterator[EventReader]:
    """Read events with a sequence above `after`, of the subjects in `filters` (all if empty)."""
    reader: EventReader

    async def config() -> dict[str, Any]:
        return forward_reading(reader.position, filters)

    async with pull(bus, EVENTS_STREAM, config, window=window) as source:
        reader = EventReader(source, after)
        yield reader


async def last_sequence(bus: Bus, stream: str = EVENTS_STREAM) -> int:
    """The sequence of the newest message of a stream; 0 if it has none."""
    info = await bus.jetstream.stream_info(stream)
    return info.state.last_seq
