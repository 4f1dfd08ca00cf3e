"""The event store on JetStream: append with an expectation, load an aggregate's past."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

from nats.errors import Error as NatsError
from nats.js.errors import APIError

from l02.bus.connection.bus import Bus
from l02.bus.connection.leader import message_from_leader, standing_of
from l02.bus.connection.requests import Message
from l02.bus.connection.streams import EVENTS_STREAM
from l02.bus.jetstream.group_commit import GroupCommit, GroupCommitClosed
from l02.bus.jetstream.history import HistoryUnreadable, subject_of
from l02.bus.jetstream.put import UNEXPECTED_CODES, expecting
from l02.bus.log.past import read_past
from l02.bus.wire.codec import RecordedEvent
from l02.bus.wire.subjects import AggregateId, aggregate_filter
from l02.bus.wire.trail import TRAIL_HEADER, trail_header
from l02.domain.errors import ErrorCode, Failure

# The server's limit for one atomic batch.
MAX_APPEND_EVENTS = 1000
_HEADER_BYTES = 4096
_LARGEST_PAYLOAD = 8 * 1024 * 1024
"""What the embedded server takes, and NATS advises at most."""
# How long the leader is asked for what there is.
_LEADER_SECONDS = 5.0
# So many are had sooner one by one from the leader than together from any copy, which may be one that hangs.
_FEW_EVENTS = 2
# How long it is taken for granted that the stream has a single copy.
_REPLICATION_SECONDS = 10.0


class Conflict(Exception):
    """Somebody else has appended to this aggregate since it was loaded."""


class AppendFailed(Exception):
    """The server did not say whether the events are stored; load the aggregate to find out."""


class EventStoreSilent(Failure):
    """The event store did not answer in time, so it is not known whether the command has led to anything (E2113)."""

    def __init__(self, error: Exception) -> None:
        super().__init__(
            ErrorCode.CONFLICT, f"the event store does not answer; send the command again with its id: {error!r}"
        )


class Part(NamedTuple):
    """What an append stores of one aggregate: `messages` (subject, payload) after its event with stream sequence
    `expected` (0: none). `trail` is what the writer knows of the last events' sequences, that of `expected` at its end.
    """

    aggregate: AggregateId
    messages: Sequence[tuple[str, bytes]]
    expected: int
    trail: Sequence[int] = ()


class EventStore:
    """Append and load. One per process; made by `open_event_store`."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._commit = GroupCommit(bus.requests)
        self._single_until = 0.0

    async def append(
        self,
        aggregate: AggregateId,
        messages: Sequence[tuple[str, bytes]],
        expected: int,
        trail: Sequence[int] = (),
    ) -> int:
        """Store what belongs to one aggregate (see `Part`). Returns the stream sequence of the last one.

        Raises Conflict, AppendFailed if the answer did not come, or Failure E2115 if the server would never take it. If
        the caller is cancelled, it may be stored or not.
        """
        return await self.append_together([Part(aggregate, messages, expected, trail)])

    async def append_together(self, parts: Sequence[Part]) -> int:
        """The same for several aggregates: all parts one after another, or none of them."""
        self.require_storable([message for part in parts for message in part.messages])
        with_headers: list[Message] = []
        for part in parts:
            trail = part.trail or ((part.expected,) if part.expected else ())
            expectation = expecting(part.expected, of=aggregate_filter(part.aggregate))
            for place, (subject, payload) in enumerate(part.messages):
                headers = {TRAIL_HEADER: trail_header(trail, place)}
                with_headers.append((subject, payload, headers if place else headers | expectation))
        try:
            return await self._commit.store({part.aggregate for part in parts}, with_headers)
        except APIError as error:
            if error.err_code in UNEXPECTED_CODES:
                raise Conflict(error.description) from error
            raise AppendFailed(f"JetStream refused the append: {error.description} ({error.err_code})") from error
        except GroupCommitClosed as error:
            raise AppendFailed("the event store is closed") from error
        except (NatsError, TimeoutError, OSError) as error:
            raise AppendFailed(f"no answer from JetStream: {error!r}") from error

    def require_storable(self, messages: Sequence[tuple[str, bytes]]) -> None:
        """Raise Failure E2115 if the server would never take these as one."""
        if len(messages) > MAX_APPEND_EVENTS:
            raise Failure(
                ErrorCode.PAYLOAD_TOO_LARGE,
                f"the command leads to {len(messages)} events, at most {MAX_APPEND_EVENTS} can be stored as one",
            )
        limit = self._max_payload - _HEADER_BYTES
        largest = max(len(payload) for _, payload in messages)
        if largest > limit:
            raise Failure(
                ErrorCode.PAYLOAD_TOO_LARGE,
                f"an event would have {largest:,} bytes, the NATS server takes {limit:,}; {_what_to_do(limit)}",
            )

    async def load(self, aggregate: AggregateId, after: int = 0, version: int = 0) -> list[RecordedEvent]:
        """The aggregate's events with a stream sequence above `after`, at which it has `version`, in order.

        What was acknowledged to anybody before this was called is among them: where the stream has several copies its
        leader says how many there must be, and gives a few, or those that a lagging copy has not.
        """
        newest = await self._version_at_leader(aggregate)
        if newest is None:
            return await read_past(self._bus, aggregate, after)
        events = await read_past(self._bus, aggregate, after) if newest > version + _FEW_EVENTS else []
        while newest > (events[-1].version if events else version):
            events.append(await self._next_from_leader(aggregate, events[-1].sequence if events else after))
        return events

    async def event_at(self, sequence: int) -> RecordedEvent:
        """The event with this stream sequence."""
        message = await self._bus.stored(EVENTS_STREAM, sequence=sequence)
        if message is not None:
            return self._bus.events.decode(message.data, sequence, subject_of(message))
        # A copy of the stream that lags.
        found = await message_from_leader(self._bus, EVENTS_STREAM, sequence=sequence)
        assert found is not None, "nothing is ever taken out of the event stream"
        return self._bus.events.decode(found.data, sequence, found.subject)

    async def _version_at_leader(self, aggregate: AggregateId) -> int | None:
        """The aggregate's version; None if there is but one copy of the stream, which cannot lag."""
        now = asyncio.get_running_loop().time()
        if now < self._single_until:
            return None
        standing = await standing_of(self._bus, EVENTS_STREAM, aggregate_filter(aggregate), within=_LEADER_SECONDS)
        if standing.replicas == 1:
            self._single_until = now + _REPLICATION_SECONDS
            return None
        return standing.messages

    async def _next_from_leader(self, aggregate: AggregateId, after: int) -> RecordedEvent:
        subjects = aggregate_filter(aggregate)
        message = await message_from_leader(
            self._bus, EVENTS_STREAM, sequence=after + 1, next_on=subjects, within=_LEADER_SECONDS
        )
        if message is None:
            raise HistoryUnreadable(f"{aggregate}: there must be an event above sequence {after}; the leader changes")
        return self._bus.events.decode(message.data, message.sequence, message.subject)

    async def close(self) -> None:
        """Take no more, and wait for what is under way; if cancelled, leave it."""
        await self._commit.close()

    @property
    def _max_payload(self) -> int:
        return self._bus.client.max_payload


def _what_to_do(limit: int) -> str:
    if limit + _HEADER_BYTES < _LARGEST_PAYLOAD:
        return "raise its max_payload to 8 MiB"
    return (
        "its max_payload is the most there may be: send less at once, and have the agent keep less and read its signals"
    )


@asynccontextmanager
async def open_event_store(bus: Bus) -> AsyncIterator[EventStore]:
    """The event store of this process, as long as the context lasts; what is under way at its end is waited for."""
    store = EventStore(bus)
    try:
        yield store
    finally:
        await store.close()
