"""Reading a stream forward from any point, in order and without gaps, for projections, replay and who acts on it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from nats.aio.msg import Msg

from l02.bus.connection.bus import Bus
from l02.bus.connection.leader import standing_of
from l02.bus.connection.streams import EVENTS_STREAM
from l02.bus.jetstream.pull import Pull, delivery_of, forward_reading, pull
from l02.bus.wire.codec import EventDecoder, LogEntry


class StreamReader:
    """A position in a stream that moves forward; messages as they are."""

    def __init__(self, source: Pull, after: int) -> None:
        self._source = source
        self._consumer = ""
        self._delivered = 0
        self.position = after
        self.behind = 0
        """How many messages there were after the last one given, when that was delivered."""

    async def next_batch(self, limit: int = 500) -> list[Msg]:
        """The next messages, at least one; waits for it. None is left out or given twice, whatever the server does.

        Cancelled, it has taken none.
        """
        while True:
            batch: list[Msg] = []
            for message in await self._source.next_batch(limit):
                sequence, consumer, number = delivery_of(message)
                if not self._follows(consumer, number):
                    self._source.renew()
                    break
                if sequence > self.position:
                    batch.append(message)
                    self.position = sequence
            if batch:
                self.behind = batch[-1].metadata.num_pending or 0
                return batch

    def _follows(self, consumer: str, number: int) -> bool:
        """Whether nothing is missing before a consumer's delivery: what is on its way when a connection breaks is."""
        if consumer != self._consumer:
            self._consumer, self._delivered = consumer, 0
        follows = number == self._delivered + 1
        if follows:
            self._delivered = number
        return follows


class EventReader:
    """A position in the event stream that moves forward."""

    def __init__(self, messages: StreamReader, events: EventDecoder) -> None:
        self._messages = messages
        self._events = events

    @property
    def position(self) -> int:
        """The sequence of the last event that was given."""
        return self._messages.position

    async def next_batch(self, limit: int = 500) -> list[LogEntry]:
        """The next events, as `StreamReader.next_batch`; what is none for this version is set aside in its place."""
        return [
            self._events.entry(message.data, delivery_of(message).stream_sequence, message.subject)
            for message in await self._messages.next_batch(limit)
        ]


@asynccontextmanager
async def read_stream(
    bus: Bus, stream: str, *, after: int = 0, filters: Sequence[str] = (), window: int = 2048
) -> AsyncIterator[StreamReader]:
    """Read messages with a sequence above `after`, of the subjects in `filters` (all if empty), also those to come."""
    reader: StreamReader

    async def config() -> dict[str, Any]:
        return forward_reading(reader.position, filters)

    async with pull(bus, stream, config, window=window) as source:
        reader = StreamReader(source, after)
        yield reader


@asynccontextmanager
async def read_events(
    bus: Bus, *, after: int = 0, filters: Sequence[str] = (), window: int = 2048
) -> AsyncIterator[EventReader]:
    """The same of the event stream, as events."""
    async with read_stream(bus, EVENTS_STREAM, after=after, filters=filters, window=window) as messages:
        yield EventReader(messages, bus.events)


async def last_sequence(bus: Bus, stream: str = EVENTS_STREAM) -> int:
    """The sequence of the newest message of a stream; 0 if it has none."""
    return (await standing_of(bus, stream)).last_sequence
