"""A persistence module that reads the runtime's own event stream, and cannot write it.

    L02_PERSISTENCE_MODULE=l02.eventsourcing        # for an application called "L02"
    L02_NATS_URL=nats://…                           # the runtime's server

The library's projections can follow what agents do, with notification ids that are the stream's sequences. Originators
are aggregates ("agent/a1"), topics are event types ("agent.spawned"): a projection that names topics is sent only
those. Its view needs a persistence module of its own, since nothing but the runtime may write this stream.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import msgspec
from eventsourcing.domain import DomainEventProtocol
from eventsourcing.persistence import (
    AggregateRecorder,
    ApplicationRecorder,
    DataError,
    InfrastructureFactory,
    Mapper,
    MapperDeserialisationError,
    Notification,
    NotSupportedError,
    ProcessRecorder,
    StoredEvent,
    TrackingRecorder,
)
from eventsourcing.utils import Environment, EnvType, get_topic

from l02.bus.connection.leader import StoredMessage
from l02.bus.connection.streams import EVENTS_STREAM
from l02.bus.recorder.connecting import open_worker, patience
from l02.bus.recorder.layout import Layout
from l02.bus.recorder.log import EventLog
from l02.bus.recorder.recorders import JetStreamApplicationRecorder
from l02.bus.wire.codec import EventDecoder, UnreadableEvent
from l02.bus.wire.subjects import AggregateId, aggregate_filter, events_filter
from l02.domain.aggregates import AGGREGATES
from l02.domain.errors import Failure
from l02.domain.identifiers import require_id
from l02.domain.kernel.message import Event, Metadata

__all__ = ["RuntimeEvent", "RuntimeFactory", "RuntimeMapper"]

_events = EventDecoder(AGGREGATES.values())


@dataclass(frozen=True)
class RuntimeEvent:
    """An event of the runtime as a domain event of the library."""

    originator_id: str
    """The aggregate: "agent/a1"."""
    originator_version: int
    event: Event
    """What happened: one of the structs in `l02.domain`."""
    event_id: str
    time: datetime
    metadata: Metadata

    @property
    def type(self) -> str:
        """The CloudEvents type: "agent.spawned"."""
        return self.event.type


class RuntimeFactory(InfrastructureFactory[TrackingRecorder]):
    """Recorders that only read. NATS_URL, NATS_TIMEOUT: as in `JetStreamFactory`."""

    def __init__(self, env: Environment | EnvType | None) -> None:
        super().__init__(env)
        self.env.setdefault(self.MAPPER_TOPIC, get_topic(RuntimeMapper))
        self._patience = patience(self.env)
        self._worker = open_worker(self.env)

    def aggregate_recorder(self, purpose: str = "events") -> AggregateRecorder:
        if purpose != "events":
            raise NotSupportedError(f"the runtime's stream is only read here; there are no {purpose} in it")
        return self.application_recorder()

    def application_recorder(self) -> ApplicationRecorder:
        log = EventLog(self._worker.bus, EVENTS_STREAM, _CloudEventLayout(), patience=self._patience)
        return JetStreamApplicationRecorder(self._worker, log)

    def tracking_recorder(self, tracking_recorder_class: type[TrackingRecorder] | None = None) -> TrackingRecorder:
        raise NotSupportedError(_VIEW_NEEDS_ITS_OWN)

    def process_recorder(self) -> ProcessRecorder:
        raise NotSupportedError(_VIEW_NEEDS_ITS_OWN)

    def close(self) -> None:
        """Close the connection."""
        self._worker.close()


_VIEW_NEEDS_ITS_OWN = (
    "the runtime's stream is only read here; set <PROJECTION'S NAME>_PERSISTENCE_MODULE to where its view is kept"
)


class RuntimeMapper(Mapper[str]):
    """CloudEvents of the runtime as domain events. An unknown type or version is refused, never passed over."""

    def to_stored_event(self, domain_event: DomainEventProtocol[str]) -> StoredEvent:
        raise NotSupportedError("the runtime's stream is only read here")

    def to_domain_event(self, stored_event: StoredEvent) -> DomainEventProtocol[str]:
        sequence = stored_event.id if isinstance(stored_event, Notification) else 0
        try:
            recorded = _events.decode(stored_event.state, sequence)
        except UnreadableEvent as error:
            raise MapperDeserialisationError(
                f"version {stored_event.originator_version} of {stored_event.originator_id}: {error}"
            ) from error
        return RuntimeEvent(
            originator_id=str(recorded.aggregate),
            originator_version=recorded.version,
            event=recorded.event,
            event_id=recorded.event_id,
            time=recorded.time,
            metadata=recorded.metadata,
        )


class _Envelope(msgspec.Struct, frozen=True):
    """What the library wants to know of an event before it is decoded."""

    subject: str
    type: str
    version: int


_decoder = msgspec.json.Decoder(_Envelope)


class _CloudEventLayout(Layout):
    @property
    def events(self) -> str:
        return events_filter()

    def originator(self, originator_id: UUID | str) -> str:
        kind, _, name = str(originator_id).partition("/")
        try:
            return aggregate_filter(AggregateId(require_id(kind, "kind"), require_id(name, "id")))
        except Failure as error:
            raise DataError(f"{originator_id!r} is not an aggregate like 'agent/a1': {error.message}") from error

    def topics(self, topics: Sequence[str]) -> Sequence[str]:
        return [events_filter(event_type=topic) for topic in dict.fromkeys(topics)] or [self.events]

    def read(self, message: StoredMessage) -> Notification:
        envelope = _envelope(message)
        return Notification(
            originator_id=envelope.subject,
            originator_version=envelope.version,
            topic=envelope.type,
            state=message.data,
            id=message.sequence,
        )

    def highest_version(self, message: StoredMessage) -> int:
        return _envelope(message).version


def _envelope(message: StoredMessage) -> _Envelope:
    try:
        return _decoder.decode(message.data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DataError(f"message {message.sequence} is not a CloudEvent of the runtime: {error}") from error
