"""What a reader makes of an event's bytes."""

from __future__ import annotations

from datetime import UTC, datetime

from l02.bus.wire.codec import EventDecoder, RecordedEvent, encode_event
from l02.bus.wire.subjects import AggregateId
from l02.domain.aggregates import AGGREGATES
from l02.domain.kernel.message import Event, Metadata

DECODER = EventDecoder(AGGREGATES.values())


def read_back(event: Event) -> Event:
    """Encode and decode; what stands around the event must come back too."""
    recorded = RecordedEvent(
        event=event,
        aggregate=AggregateId("agent", "a1"),
        event_id="e1",
        version=1,
        sequence=1,
        time=datetime(2026, 1, 1, tzinfo=UTC),
        metadata=Metadata(causation_id="c1", correlation_id="c1", actor="alice"),
    )
    raw = encode_event(
        event,
        aggregate=recorded.aggregate,
        event_id=recorded.event_id,
        version=recorded.version,
        time=recorded.time,
        metadata=recorded.metadata,
    )
    read = DECODER.decode(raw, recorded.sequence)
    assert read == recorded
    return read.event
