"""Reading the event stream forward from any point, in order and without gaps, for projections, replay and followers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from bus.codec import RecordedEvent, decode_event
from bus.connection import Bus
from bus.pull import Pull, pull
from bus.streams import EVENTS_STREAM

__all__ = ["EventReader", "last_sequence", "read_events"]


class EventReader:
    """A position in the event stream that moves forward."""

    def __init__(self, source: Pull, after: int) -> None:
        self._source = source
        self.position = after

    async def next_batch(self, limit: int = 500) -> list[RecordedEvent]:
        """The next events, at least one; waits for it. None is left out or given twice, whatever the server does."""
        while True:
            events = []
            for message in await self._source.next_batch(limit):
                sequence = message.metadata.sequence.stream
                if sequence > self.position:
                    events.append(decode_event(message.data, sequence))
                    self.position = sequence
            if events:
                return events


@asynccontextmanager
async def read_events(
    bus: Bus, *, after: int = 0, filters: Sequence[str] = (), window: int = 2048
) -> AsyncIterator[EventReader]:
    """Read events with a sequence above `after`, of the subjects in `filters` (all if empty)."""
    reader: EventReader

    async def config() -> dict[str, Any]:
        return {
            "ack_policy": "none",
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": reader.position + 1,
            "filter_subjects": list(filters),
            "inactive_threshold": 60_000_000_000,
            "mem_storage": True,
            "num_replicas": 1,
        }

    async with pull(bus, EVENTS_STREAM, config, window=window) as source:
        reader = EventReader(source, after)
        yield reader


async def last_sequence(bus: Bus, stream: str = EVENTS_STREAM) -> int:
    """The sequence of the newest message of a stream; 0 if it has none."""
    info = await bus.jetstream.stream_info(stream)
    return info.state.last_seq
