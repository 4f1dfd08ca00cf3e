"""An event store in memory, for tests of what is decided and not of where it is kept.

`test_both.py` holds it and the real one to the same behaviour.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence

from l02.bus.log.event_store import AppendFailed, Conflict, EventStore, Part
from l02.bus.wire.codec import EventDecoder, RecordedEvent
from l02.bus.wire.subjects import AggregateId, aggregate_of
from tests.bus.toy import TABLE

DECODER = EventDecoder(TABLE.values())

_MAX_PAYLOAD = 8 * 1024 * 1024


class MemoryLog:
    """What the processes that use it share."""

    def __init__(self, decoder: EventDecoder = DECODER) -> None:
        self._decoder = decoder
        self._messages: list[tuple[str, bytes]] = []
        self._sequences: defaultdict[AggregateId | None, list[int]] = defaultdict(list)

    def put(self, subject: str, payload: bytes) -> int:
        """Store anything; its sequence, from 1."""
        self._messages.append((subject, payload))
        self._sequences[aggregate_of(subject)].append(len(self._messages))
        return len(self._messages)

    @property
    def last(self) -> int:
        """The sequence of the newest message."""
        return len(self._messages)

    def of(self, aggregate: AggregateId) -> list[int]:
        """The sequences of what is stored of an aggregate."""
        return self._sequences[aggregate]

    def at(self, sequence: int) -> RecordedEvent:
        subject, payload = self._messages[sequence - 1]
        return self._decoder.decode(payload, sequence, subject)


class MemoryEventStore(EventStore):
    """One process's; others over the same log are others of its processes."""

    def __init__(self, log: MemoryLog) -> None:
        self.log = log
        self._is_closed = False
        self._under_way = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def _max_payload(self) -> int:
        return _MAX_PAYLOAD

    async def append(
        self, aggregate: AggregateId, messages: Sequence[tuple[str, bytes]], expected: int, trail: Sequence[int] = ()
    ) -> int:
        return await self.append_together([Part(aggregate, messages, expected, trail)])

    async def append_together(self, parts: Sequence[Part]) -> int:
        self.require_storable([message for part in parts for message in part.messages])
        if self._is_closed:
            raise AppendFailed("the event store is closed")
        self._under_way += 1
        self._idle.clear()
        try:
            await asyncio.sleep(0)  # others get on, as they do while a server is asked
            for part in parts:
                last = self.log.of(part.aggregate)[-1:] or [0]
                if last != [part.expected]:
                    raise Conflict(f"wrong last sequence: {last[0]}")
            sequence = [self.log.put(*message) for part in parts for message in part.messages][-1]
            await asyncio.sleep(0)
            return sequence
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()

    async def load(self, aggregate: AggregateId, after: int = 0, version: int = 0) -> list[RecordedEvent]:
        await asyncio.sleep(0)
        return [self.log.at(sequence) for sequence in self.log.of(aggregate) if sequence > after]

    async def event_at(self, sequence: int) -> RecordedEvent:
        return self.log.at(sequence)

    async def close(self) -> None:
        self._is_closed = True
        await self._idle.wait()
