"""The event store on JetStream: append with an expectation, load an aggregate's past.

On synced storage a batch of hundreds costs as much as ten messages that go alone. So a lone append goes alone, a few go
side by side, and more that wait at the same time share one atomic batch, each with the expectation of its own
aggregate. When a batch is refused because one of them lost a race, each is tried again on its own.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager

from nats.errors import Error as NatsError
from nats.js.errors import APIError

from bus.codec import RecordedEvent, decode_event
from bus.connection import Bus
from bus.history import HistoryUnreadable, read_history
from bus.leader import message_from_leader, standing_of
from bus.requests import PubAck
from bus.streams import EVENTS_STREAM
from bus.subjects import AggregateId, aggregate_filter
from domain.errors import ErrorCode, Failure

__all__ = ["AppendFailed", "Conflict", "EventStore", "open_event_store"]

MAX_BATCH_EVENTS = 500
MAX_BATCH_BYTES = 4 * 1024 * 1024
# The server's limit for one atomic batch.
MAX_APPEND_EVENTS = 1000
_HEADER_BYTES = 4096
# Measured, synced, 2 cores: 8 writers store 4,300 events/s alone and 2,800/s in batches, 16 writers the same either
# way. While batches are under way all go in batches, so as not to pay for syncs of their own: 256 writers then store
# 24,000 to 28,000/s, else 18,000/s.
_SINGLES_IN_FLIGHT = 8
_BATCHES_IN_FLIGHT = 2
_ACK_SECONDS = 5.0
_CONFLICT_CODES = (10071, 10164)
# So many are had sooner one by one from the leader than together from any copy, which may be one that hangs.
_FEW_EVENTS = 2
# How long it is taken for granted that the stream has a single copy.
_REPLICATION_SECONDS = 10.0


class Conflict(Exception):
    """Somebody else has appended to this aggregate since it was loaded."""


class AppendFailed(Exception):
    """The server did not say whether the events are stored; load the aggregate to find out."""


class _Append:
    """Messages of one aggregate that are stored together or not at all."""

    __slots__ = ("aggregate", "expected", "messages", "size", "stored")

    def __init__(self, aggregate: AggregateId, messages: Sequence[tuple[str, bytes]], expected: int) -> None:
        self.aggregate = aggregate
        self.messages = messages
        self.expected = expected
        self.size = sum(len(payload) for _, payload in messages)
        self.stored: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def accept(self, sequence: int) -> None:
        if not self.stored.done():
            self.stored.set_result(sequence)

    def reject(self, error: Exception) -> None:
        if not self.stored.done():
            self.stored.set_exception(error)


class EventStore:
    """Append and load. One per process; made by `open_event_store`."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._waiting: deque[_Append] = deque()
        self._flush_is_due = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._singles = 0
        self._batches = 0
        self._closed = False
        self._single_until = 0.0

    async def append(self, aggregate: AggregateId, messages: Sequence[tuple[str, bytes]], expected: int) -> int:
        """Store `messages` (subject, payload) after the aggregate's event with stream sequence `expected` (0: none).

        Returns the stream sequence of the last one. Raises Conflict, AppendFailed if the answer did not come, or
        Failure E2115 if the server would never take it. If the caller is cancelled, it may be stored or not.
        """
        if self._closed:
            raise AppendFailed("the event store is closed")
        self._require_storable(messages)
        append = _Append(aggregate, messages, expected)
        self._waiting.append(append)
        self._flush_soon()
        return await append.stored

    async def load(self, aggregate: AggregateId, after: int = 0, version: int = 0) -> list[RecordedEvent]:
        """The aggregate's events with a stream sequence above `after`, at which it has `version`, in order.

        What was acknowledged to anybody before this was called is among them: where the stream has several copies its
        leader says how many there must be, and gives a few, or those that a lagging copy has not.
        """
        newest = await self._version_at_leader(aggregate)
        events: list[RecordedEvent] = []
        more = newest is None or newest > version + _FEW_EVENTS
        while more:
            position = events[-1].sequence if events else after
            batch, more = await read_history(self._bus, aggregate_filter(aggregate), after=position)
            events += batch
        while newest is not None and newest > (events[-1].version if events else version):
            events.append(await self._next_from_leader(aggregate, events[-1].sequence if events else after))
        return events

    async def event_at(self, sequence: int) -> RecordedEvent:
        """The event with this stream sequence."""
        message = await self._bus.stored(EVENTS_STREAM, sequence=sequence)
        if message is not None:
            return decode_event(message.data, sequence)
        # A copy of the stream that lags.
        found = await message_from_leader(self._bus, EVENTS_STREAM, {"seq": sequence})
        assert found is not None, "nothing is ever taken out of the event stream"
        return decode_event(found.data, sequence)

    async def _version_at_leader(self, aggregate: AggregateId) -> int | None:
        """The aggregate's version; None if there is but one copy of the stream, which cannot lag."""
        now = asyncio.get_running_loop().time()
        if now < self._single_until:
            return None
        standing = await standing_of(self._bus, EVENTS_STREAM, aggregate_filter(aggregate), within=_ACK_SECONDS)
        if standing.replicas == 1:
            self._single_until = now + _REPLICATION_SECONDS
            return None
        return standing.messages

    async def _next_from_leader(self, aggregate: AggregateId, after: int) -> RecordedEvent:
        wanted = {"seq": after + 1, "next_by_subj": aggregate_filter(aggregate)}
        message = await message_from_leader(self._bus, EVENTS_STREAM, wanted, within=_ACK_SECONDS)
        if message is None:
            raise HistoryUnreadable(f"{aggregate}: there must be an event above sequence {after}; the leader changes")
        return decode_event(message.data, message.sequence)

    async def close(self) -> None:
        """Take no more, and wait for what is under way; if cancelled, leave it."""
        self._closed = True
        try:
            while self._tasks or self._flush_is_due:
                await asyncio.wait([*self._tasks, asyncio.create_task(asyncio.sleep(0))])
        finally:
            for task in self._tasks:
                task.cancel()
            while self._waiting:
                self._waiting.popleft().reject(AppendFailed("the event store is closed"))

    def _require_storable(self, messages: Sequence[tuple[str, bytes]]) -> None:
        if len(messages) > MAX_APPEND_EVENTS:
            raise Failure(
                ErrorCode.PAYLOAD_TOO_LARGE,
                f"the command leads to {len(messages)} events, at most {MAX_APPEND_EVENTS} can be stored as one",
            )
        limit = self._bus.client.max_payload - _HEADER_BYTES
        largest = max(len(payload) for _, payload in messages)
        if largest > limit:
            raise Failure(
                ErrorCode.PAYLOAD_TOO_LARGE,
                f"an event would have {largest} bytes, the NATS server takes {limit}; raise its max_payload to 8 MiB",
            )

    def _flush_soon(self) -> None:
        """Let those that are ready in the same round of the event loop come together first."""
        if not self._flush_is_due:
            self._flush_is_due = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_is_due = False
        while self._waiting:
            if self._waiting[0].stored.cancelled():
                self._waiting.popleft()
            elif not self._batches and self._singles + len(self._waiting) <= _SINGLES_IN_FLIGHT:
                self._singles += 1
                self._start(self._store_alone(self._waiting.popleft()))
            elif self._batches < _BATCHES_IN_FLIGHT:
                self._batches += 1
                self._start(self._store_together(self._take_batch()))
            else:
                return

    def _start(self, storing: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(storing)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _take_batch(self) -> list[_Append]:
        """The next ones, in order, as many as fit; never two of one aggregate, of which one would surely conflict."""
        batch: list[_Append] = []
        aggregates: set[AggregateId] = set()
        events = size = 0
        while self._waiting:
            following = self._waiting[0]
            if following.stored.cancelled():
                self._waiting.popleft()
                continue
            events += len(following.messages)
            size += following.size
            full = events > MAX_BATCH_EVENTS or size > MAX_BATCH_BYTES
            if batch and (full or following.aggregate in aggregates):
                break
            batch.append(self._waiting.popleft())
            aggregates.add(following.aggregate)
        return batch

    async def _store_alone(self, append: _Append) -> None:
        try:
            await self._settle(append)
        finally:
            self._singles -= 1
            self._flush_soon()

    async def _store_together(self, batch: list[_Append]) -> None:
        try:
            sequence = await self._publish(batch)
            for append in reversed(batch):
                append.accept(sequence)
                sequence -= len(append.messages)
        except Conflict:
            await asyncio.gather(*(self._settle(append) for append in batch))
        except Exception as error:
            for append in batch:
                append.reject(error)
        finally:
            self._batches -= 1
            self._flush_soon()

    async def _settle(self, append: _Append) -> None:
        try:
            append.accept(await self._publish([append]))
        except Exception as error:
            append.reject(error)

    async def _publish(self, batch: list[_Append]) -> int:
        """Publish all messages, as one atomic batch if there are several; the last one's stream sequence."""
        messages: list[tuple[str, bytes, dict[str, str]]] = []
        for append in batch:
            (subject, payload), *others = append.messages
            messages.append((subject, payload, _expectation(append)))
            messages += [(subject, payload, {}) for subject, payload in others]
        try:
            ack = await self._publish_atomically(messages)
        except APIError as error:
            if error.err_code in _CONFLICT_CODES:
                raise Conflict(error.description) from error
            raise AppendFailed(f"JetStream refused the append: {error.description} ({error.err_code})") from error
        except (NatsError, TimeoutError, OSError) as error:
            raise AppendFailed(f"no answer from JetStream: {error!r}") from error
        return ack.seq

    async def _publish_atomically(self, messages: list[tuple[str, bytes, dict[str, str]]]) -> PubAck:
        *others, (subject, payload, headers) = messages
        if others:
            batch_id = uuid.uuid4().hex
            for number, (other_subject, other_payload, other_headers) in enumerate(others, start=1):
                other_headers |= {"Nats-Batch-Id": batch_id, "Nats-Batch-Sequence": str(number)}
                await self._bus.client.publish(other_subject, other_payload, headers=other_headers)
            headers |= {
                "Nats-Batch-Id": batch_id,
                "Nats-Batch-Sequence": str(len(messages)),
                "Nats-Batch-Commit": "1",
            }
        return await self._bus.requests.publish(subject, payload, timeout=_ACK_SECONDS, headers=headers)


def _expectation(append: _Append) -> dict[str, str]:
    return {
        "Nats-Expected-Last-Subject-Sequence": str(append.expected),
        "Nats-Expected-Last-Subject-Sequence-Subject": aggregate_filter(append.aggregate),
    }


@asynccontextmanager
async def open_event_store(bus: Bus) -> AsyncIterator[EventStore]:
    """The event store of this process, as long as the context lasts; what is under way at its end is waited for."""
    store = EventStore(bus)
    try:
        yield store
    finally:
        await store.close()
