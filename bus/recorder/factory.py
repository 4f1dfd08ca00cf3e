"""Makes recorders from environment variables: what `PERSISTENCE_MODULE=bus.recorder` leads to."""

from __future__ import annotations

from typing import TypeVar

from eventsourcing.persistence import (
    AggregateRecorder,
    ApplicationRecorder,
    InfrastructureFactory,
    ProcessRecorder,
)
from eventsourcing.utils import Environment, EnvType, resolve_topic, strtobool

from l02.bus.recorder.connecting import open_worker, patience, positive_int
from l02.bus.recorder.layout import EventLayout, token
from l02.bus.recorder.recorders import (
    JetStreamAggregateRecorder,
    JetStreamApplicationRecorder,
    JetStreamProcessRecorder,
    JetStreamRecorder,
    JetStreamTrackingRecorder,
)
from l02.bus.recorder.writer import EventWriter

_R = TypeVar("_R", bound=JetStreamRecorder)


class JetStreamFactory(InfrastructureFactory[JetStreamTrackingRecorder]):
    """Recorders on one connection to NATS, which lives as long as the factory is not closed.

    Environment variables, each also with the application's name in front (`BANKACCOUNTS_NATS_URL`):

    - NATS_URL: the server; nats://127.0.0.1:4222
    - NATS_STREAM: streams are called `<NATS_STREAM>_<application>[_<purpose>]`; EVENTSOURCING
    - NATS_SUBJECT_PREFIX: subjects are `<NATS_SUBJECT_PREFIX>.<application>.…`; eventsourcing
    - NATS_REPLICAS: of the streams that are made; 1
    - NATS_TIMEOUT: for how many seconds an operation waits for a server that is away; 10
    - ORIGINATOR_ID_TYPE: `uuid` or `text`; uuid
    - CREATE_TABLE: make the streams that are missing; yes
    - APPLICATION_RECORDER_TOPIC, TRACKING_RECORDER_TOPIC, PROCESS_RECORDER_TOPIC: a subclass to use

    Raises OSError if one of them cannot be used, OperationalError if no server answers.
    """

    NATS_STREAM = "NATS_STREAM"
    NATS_SUBJECT_PREFIX = "NATS_SUBJECT_PREFIX"
    NATS_REPLICAS = "NATS_REPLICAS"
    ORIGINATOR_ID_TYPE = "ORIGINATOR_ID_TYPE"
    CREATE_TABLE = "CREATE_TABLE"

    def __init__(self, env: Environment | EnvType | None) -> None:
        super().__init__(env)
        self._replicas = positive_int(self.env, self.NATS_REPLICAS, 1)
        originator_id_type = self.env.get(self.ORIGINATOR_ID_TYPE, "uuid").lower()
        if originator_id_type not in ("uuid", "text"):
            raise OSError(f"{self.ORIGINATOR_ID_TYPE} must be 'uuid' or 'text', not {originator_id_type!r}")
        self._uuids = originator_id_type == "uuid"
        self._patience = patience(self.env)
        self._worker = open_worker(self.env)

    def aggregate_recorder(self, purpose: str = "events") -> AggregateRecorder:
        """For `events` those of the application; every other purpose has a stream of its own."""
        return self._make(JetStreamAggregateRecorder, purpose)

    def application_recorder(self) -> ApplicationRecorder:
        topic = self.env.get(self.APPLICATION_RECORDER_TOPIC)
        return self._make(_subclass(topic, JetStreamApplicationRecorder))

    def tracking_recorder(
        self, tracking_recorder_class: type[JetStreamTrackingRecorder] | None = None
    ) -> JetStreamTrackingRecorder:
        topic = self.env.get(self.TRACKING_RECORDER_TOPIC)
        return self._make(tracking_recorder_class or _subclass(topic, JetStreamTrackingRecorder))

    def process_recorder(self) -> ProcessRecorder:
        topic = self.env.get(self.PROCESS_RECORDER_TOPIC)
        return self._make(_subclass(topic, JetStreamProcessRecorder))

    def close(self) -> None:
        """Close the connection; its recorders and subscriptions raise InterfaceError from now on."""
        self._worker.close()

    def _make(self, recorder_class: type[_R], purpose: str = "events") -> _R:
        stream = self.env.get(self.NATS_STREAM, "EVENTSOURCING")
        prefix = self.env.get(self.NATS_SUBJECT_PREFIX, "eventsourcing")
        if self.env.name:
            stream = f"{stream}_{token(self.env.name)}"
            prefix = f"{prefix}.{token(self.env.name)}"
        if purpose != "events":
            stream = f"{stream}_{token(purpose)}"
        layout = EventLayout(prefix, purpose, uuids=self._uuids)
        log = EventWriter(self._worker.bus, stream, layout, patience=self._patience)
        if strtobool(self.env.get(self.CREATE_TABLE) or "yes"):
            self._worker.run(log.ensure_stream(self._replicas))
        return recorder_class(self._worker, log)


Factory = JetStreamFactory


def _subclass(topic: str | None, base: type[_R]) -> type[_R]:
    if not topic:
        return base
    found = resolve_topic(topic)
    if not (isinstance(found, type) and issubclass(found, base)):
        raise OSError(f"{topic} is not a {base.__name__}")
    return found
