"""What commands lead to that are decided one upon the other, up to what one append takes, until it is stored."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Generic, TypeVar

from msgspec.structs import replace

from l02.bus.jetstream.group_commit import MAX_BATCH_BYTES, MAX_BATCH_MESSAGES
from l02.bus.log.event_store import EventStore, Part
from l02.bus.log.loaded import Loaded
from l02.bus.wire.codec import RecordedEvent, encode_event
from l02.bus.wire.subjects import AggregateId, event_subject
from l02.domain.kernel.aggregate import Aggregate
from l02.domain.kernel.message import Command, Context, Event, Metadata, Report

S = TypeVar("S")


class Attempt(Generic[S]):
    """To be stored upon `loaded`, which it changes only then."""

    def __init__(self, aggregate: Aggregate[S], loaded: Loaded[S], store: EventStore) -> None:
        self._aggregate = aggregate
        self.loaded = loaded
        self._store = store
        self.decided = 0
        """How many commands."""
        self.recorded: list[RecordedEvent] = []
        """Their events, as they will stand in the stream, but for their sequence."""
        self._states: list[S] = []
        self._messages: list[tuple[str, bytes]] = []
        self._bytes = 0

    def takes(self, command: Command | Report, context: Context) -> bool:
        """Decide one more, if what follows from it can be stored with the rest; what follows from one stays together.

        Raises the decider's Failure, or E2115 if it could not be stored alone either.
        """
        state = self._states[-1] if self._states else self.loaded.state
        events = self._aggregate.decide(state, command, context)
        recorded = self._as_recorded(events, context)
        messages = [_message(item) for item in recorded]
        if messages:
            self._store.require_storable(messages)
        size = sum(len(payload) for _, payload in messages)
        is_full = len(self.recorded) + len(recorded) > MAX_BATCH_MESSAGES or self._bytes + size > MAX_BATCH_BYTES
        if self.recorded and recorded and is_full:
            return False
        for event in events:
            state = self._aggregate.evolve(state, event)
            self._states.append(state)
        self.decided += 1
        self.recorded += recorded
        self._messages += messages
        self._bytes += size
        return True

    @property
    def part(self) -> Part:
        """What is to be appended."""
        loaded = self.loaded
        return Part(self.recorded[0].aggregate, self._messages, loaded.sequence, loaded.trail)

    def take_in(self, first: int) -> tuple[RecordedEvent, ...]:
        """They are stored, the first with this stream sequence."""
        stored = tuple(replace(item, sequence=first + place) for place, item in enumerate(self.recorded))
        for item, state in zip(stored, self._states, strict=True):
            self.loaded.take_in(item, state)
        return stored

    def _as_recorded(self, events: Sequence[Event], context: Context) -> list[RecordedEvent]:
        address = AggregateId(self._aggregate.name, context.aggregate_id)
        version = self.loaded.version + len(self.recorded)
        now = datetime.now(UTC)
        metadata = context.metadata
        if metadata.is_of_runtime and metadata.traceparent is None:
            metadata = replace(metadata, traceparent=self.loaded.trace_of(metadata.correlation_id))
        later = Metadata(
            causation_id=metadata.causation_id,
            correlation_id=metadata.correlation_id,
            actor=metadata.actor,
            traceparent=metadata.traceparent,
        )
        return [
            RecordedEvent(
                event=event,
                aggregate=address,
                event_id=secrets.token_hex(16),
                version=version + offset,
                sequence=0,
                time=now,
                metadata=metadata if offset == 1 else later,
            )
            for offset, event in enumerate(events, start=1)
        ]


def _message(item: RecordedEvent) -> tuple[str, bytes]:
    payload = encode_event(
        item.event,
        aggregate=item.aggregate,
        event_id=item.event_id,
        version=item.version,
        time=item.time,
        metadata=item.metadata,
    )
    return event_subject(item.aggregate, item.event.type), payload


async def store_together(store: EventStore, attempts: Sequence[Attempt[S]]) -> list[tuple[RecordedEvent, ...]]:
    """Store what several aggregates have come to, in one append, and take it in. Raises as `EventStore.append`."""
    parts = [attempt.part for attempt in attempts]
    last = await (store.append(*parts[0]) if len(parts) == 1 else store.append_together(parts))
    first = last + 1 - sum(len(attempt.recorded) for attempt in attempts)
    taken = []
    for attempt in attempts:
        taken.append(attempt.take_in(first))
        first += len(attempt.recorded)
    return taken
