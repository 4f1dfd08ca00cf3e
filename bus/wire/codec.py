"""Events as CloudEvents 1.0 in structured JSON, and back. Unknown types and versions are refused, never imported.

Whoever may publish below `l02.evt` may put anything there, and nothing is ever taken out. So what is no event for this
version, and what stands where it does not belong, is set aside: it halts the aggregate on whose subject it is, and
nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from l02.bus.wire.subjects import AggregateId, aggregate_of, event_subject
from l02.domain.errors import ErrorCode, Failure
from l02.domain.identifiers import is_id
from l02.domain.kernel.aggregate import Aggregate
from l02.domain.kernel.message import Event, Metadata
from l02.domain.upcasting import Upcasters
from l02.domain.values import nests_deeper

SOURCE = "l02-agent-runtime"


class UnreadableEvent(Failure):
    """The log holds something of an aggregate that this version cannot take in (E2117).

    Nobody can say how the aggregate is, so nothing of it is decided: to leave that out would be a lie.
    """

    def __init__(self, message: str) -> None:
        super().__init__(ErrorCode.HANDLER_FAILED, message)


class RecordedEvent(Struct, frozen=True, kw_only=True):
    """An event as it stands in the stream."""

    event: Event
    aggregate: AggregateId
    event_id: str
    version: int
    sequence: int
    time: datetime
    metadata: Metadata


class SetAside(Struct, frozen=True, kw_only=True):
    """What stands in the event stream and cannot be taken in, and why."""

    sequence: int
    subject: str
    reason: str

    @property
    def aggregate(self) -> AggregateId | None:
        """The aggregate that it halts."""
        return aggregate_of(self.subject)


LogEntry = RecordedEvent | SetAside


class CloudEvent(Struct, frozen=True, kw_only=True):
    """The envelope on the wire, with the event in `data`."""

    specversion: str
    id: str
    source: str
    type: str
    subject: str
    time: datetime
    datacontenttype: str
    version: int
    schemaversion: int
    causationid: str
    correlationid: str
    actor: str
    traceparent: str | UnsetType = UNSET
    commandhash: str | UnsetType = UNSET
    data: Any


class _ReadCloudEvent(CloudEvent, frozen=True, kw_only=True):
    data: msgspec.Raw


UNDECODABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What decoding raises for bytes that somebody else may have written, whatever is in them."""
# Deeper than any value that is taken from outside (`l02.domain.values`), with what events put around it.
_MAX_DEPTH = 200
_SHOWN_CHARACTERS = 200
# These are parts of subjects and of keys.
_IDS = ("execution_id", "checkpoint_id", "parent")
# A node's tables, views and handlers read the same event within moments, each by its own consumer.
_RECENT = 1024
_RECENT_BYTES = 2048
_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(_ReadCloudEvent)


def encode_event(
    event: Event, *, aggregate: AggregateId, event_id: str, version: int, time: datetime, metadata: Metadata
) -> bytes:
    """The bytes that are stored."""
    return _encoder.encode(
        CloudEvent(
            specversion="1.0",
            id=event_id,
            source=SOURCE,
            type=event.type,
            subject=str(aggregate),
            time=time,
            datacontenttype="application/json",
            version=version,
            schemaversion=event.schema_version,
            causationid=metadata.causation_id,
            correlationid=metadata.correlation_id,
            actor=metadata.actor,
            traceparent=metadata.traceparent or UNSET,
            commandhash=metadata.command_hash or UNSET,
            data=event,
        )
    )


def cloud_event(recorded: RecordedEvent) -> dict[str, Any]:
    """A recorded event as the CloudEvent it is stored as."""
    raw = encode_event(
        recorded.event,
        aggregate=recorded.aggregate,
        event_id=recorded.event_id,
        version=recorded.version,
        time=recorded.time,
        metadata=recorded.metadata,
    )
    return msgspec.json.decode(raw, type=dict[str, Any])


class EventDecoder:
    """Reads events of the given aggregates, those of earlier schema versions too."""

    def __init__(self, aggregates: Iterable[Aggregate[Any]]) -> None:
        """Raises ValueError if upcasters leave a version out; see `Upcasters`."""
        known = tuple(aggregates)
        self._kinds = {event.type: aggregate.name for aggregate in known for event in aggregate.events}
        self._event_types = {event.type: event for aggregate in known for event in aggregate.events}
        self._decoders = {name: msgspec.json.Decoder(event_type) for name, event_type in self._event_types.items()}
        self._upcasters = Upcasters(
            self._event_types, {key: step for aggregate in known for key, step in aggregate.upcasters.items()}
        )
        self._recent: list[tuple[bytes, str | None, RecordedEvent] | None] = [None] * _RECENT

    def decode(self, raw: bytes, sequence: int, subject: str | None = None) -> RecordedEvent:
        """The event behind stored bytes, in today's shape; UnreadableEvent if this version of the runtime does not know
        it, or if it does not belong on the `subject` it is stored on (None: it is from no stream).
        """
        recent = self._recent[sequence % _RECENT]
        if recent is not None and recent[0] == raw and recent[1] == subject and recent[2].sequence == sequence:
            return recent[2]
        recorded = self._decoded(raw, sequence, subject)
        if len(raw) <= _RECENT_BYTES:
            self._recent[sequence % _RECENT] = raw, subject, recorded
        return recorded

    def entry(self, raw: bytes, sequence: int, subject: str) -> LogEntry:
        """The same, with what is unreadable set aside."""
        try:
            return self.decode(raw, sequence, subject)
        except UnreadableEvent as error:
            return SetAside(sequence=sequence, subject=subject, reason=error.message)

    def _decoded(self, raw: bytes, sequence: int, subject: str | None) -> RecordedEvent:
        try:
            if nests_deeper(raw, _MAX_DEPTH):
                raise UnreadableEvent(f"sequence {sequence} is nested more than {_MAX_DEPTH} levels deep")
            envelope = _decoder.decode(raw)
            time = envelope.time if envelope.time.tzinfo is UTC else envelope.time.astimezone(UTC)
        except (*UNDECODABLE, OverflowError) as error:
            raise UnreadableEvent(f"sequence {sequence} is not a CloudEvent of this runtime: {error}") from error
        kind, _, aggregate_id = envelope.subject.partition("/")
        recorded = RecordedEvent(
            event=self._event(envelope, sequence),
            aggregate=AggregateId(kind, aggregate_id),
            event_id=envelope.id,
            version=envelope.version,
            sequence=sequence,
            time=time,
            metadata=Metadata(
                causation_id=envelope.causationid,
                correlation_id=envelope.correlationid,
                actor=envelope.actor,
                traceparent=envelope.traceparent or None,
                command_hash=envelope.commandhash or None,
            ),
        )
        if subject is not None and (reason := self._misplaced(recorded, subject)) is not None:
            raise UnreadableEvent(f"sequence {sequence}: {reason}")
        return recorded

    def _event(self, envelope: _ReadCloudEvent, sequence: int) -> Event:
        event_type = self._event_types.get(envelope.type)
        if event_type is None:
            raise UnreadableEvent(f"sequence {sequence} has the unknown type {envelope.type!r}; upgrade this node")
        if not 1 <= envelope.schemaversion <= event_type.schema_version:
            raise UnreadableEvent(
                f"sequence {sequence}: {envelope.type} has schema version {envelope.schemaversion}, "
                f"this node knows {event_type.schema_version}; upgrade this node"
            )
        try:
            if envelope.schemaversion == event_type.schema_version:
                event = self._decoders[envelope.type].decode(envelope.data)
            else:
                earlier = msgspec.json.decode(envelope.data, type=dict[str, Any])
                event = msgspec.convert(self._upcast(envelope, earlier, sequence), event_type)
        except UNDECODABLE as error:
            raise UnreadableEvent(f"sequence {sequence}: data of {envelope.type} do not fit: {error}") from error
        for name in _IDS:
            value = getattr(event, name, None)
            if value is not None and not is_id(value):
                raise UnreadableEvent(f"sequence {sequence}: data of {envelope.type} do not fit: {name} is no id")
        return event

    def _upcast(self, envelope: _ReadCloudEvent, data: dict[str, Any], sequence: int) -> dict[str, Any]:
        try:
            return self._upcasters.upcast(envelope.type, envelope.schemaversion, data)
        except Exception as error:
            raise UnreadableEvent(
                f"sequence {sequence}: data of {envelope.type}, schema version {envelope.schemaversion}, "
                f"cannot be upcast: {error!r}"
            ) from error

    def _misplaced(self, recorded: RecordedEvent, subject: str) -> str | None:
        """Why an event does not belong on the subject that it is stored on, if it does not."""
        aggregate, event_type = recorded.aggregate, recorded.event.type
        if self._kinds[event_type] != aggregate.kind or not is_id(aggregate.id):
            return f"{event_type} is no event of {str(aggregate)[:_SHOWN_CHARACTERS]!r}"
        expected = event_subject(aggregate, event_type)
        return None if subject == expected else f"it is stored on {subject[:_SHOWN_CHARACTERS]!r}, not on {expected}"
