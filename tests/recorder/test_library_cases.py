"""The library's own test cases for a persistence module, unchanged, on JetStream."""

from __future__ import annotations

import os
from collections import Counter
from typing import ClassVar
from unittest import TestCase
from uuid import UUID

import pytest
from eventsourcing.application import Application
from eventsourcing.persistence import Tracking, TrackingRecorder
from eventsourcing.popo import POPOTrackingRecorder
from eventsourcing.tests import application, persistence, projection
from eventsourcing.utils import Environment

from l02.bus.recorder import (
    JetStreamAggregateRecorder,
    JetStreamApplicationRecorder,
    JetStreamFactory,
    JetStreamProcessRecorder,
    JetStreamTrackingRecorder,
)

pytestmark = pytest.mark.conformance


class WithFactory(TestCase):
    """A factory for the test, closed after it."""

    factory: JetStreamFactory

    def setUp(self) -> None:
        super().setUp()
        self.factory = JetStreamFactory(Environment("case", os.environ))
        self.addCleanup(self.factory.close)


class TestAggregateRecorder(WithFactory, persistence.AggregateRecorderTestCase):
    def create_recorder(self) -> JetStreamAggregateRecorder:
        recorder = self.factory.aggregate_recorder()
        assert isinstance(recorder, JetStreamAggregateRecorder)
        return recorder


class TestSnapshotRecorder(WithFactory, persistence.AggregateRecorderTestCase):
    def create_recorder(self) -> JetStreamAggregateRecorder:
        recorder = self.factory.aggregate_recorder("snapshots")
        assert isinstance(recorder, JetStreamAggregateRecorder)
        return recorder


class TestApplicationRecorder(WithFactory, persistence.ApplicationRecorderTestCase[JetStreamApplicationRecorder]):
    def create_recorder(self) -> JetStreamApplicationRecorder:
        recorder = self.factory.application_recorder()
        assert isinstance(recorder, JetStreamApplicationRecorder)
        return recorder

    def test_insert_subscribe(self) -> None:
        self.optional_test_insert_subscribe()


class TestTrackingRecorder(WithFactory, persistence.TrackingRecorderTestCase):
    def create_recorder(self) -> JetStreamTrackingRecorder:
        return self.factory.tracking_recorder()


class TestProcessRecorder(WithFactory, persistence.ProcessRecorderTestCase):
    def create_recorder(self) -> JetStreamProcessRecorder:
        recorder = self.factory.process_recorder()
        assert isinstance(recorder, JetStreamProcessRecorder)
        return recorder


class TestNonInterleavingNotificationIds(WithFactory, persistence.NonInterleavingNotificationIDsBaseCase):
    def create_recorder(self) -> JetStreamApplicationRecorder:
        recorder = self.factory.application_recorder()
        assert isinstance(recorder, JetStreamApplicationRecorder)
        return recorder


class TrackingRecorderSubclass(JetStreamTrackingRecorder):
    pass


class TestInfrastructureFactory(persistence.InfrastructureFactoryTestCase[JetStreamFactory]):
    def setUp(self) -> None:
        self.env = Environment("case", os.environ)
        super().setUp()

    def expected_factory_class(self) -> type[JetStreamFactory]:
        return JetStreamFactory

    def expected_aggregate_recorder_class(self) -> type[JetStreamAggregateRecorder]:
        return JetStreamAggregateRecorder

    def expected_application_recorder_class(self) -> type[JetStreamApplicationRecorder]:
        return JetStreamApplicationRecorder

    def expected_tracking_recorder_class(self) -> type[JetStreamTrackingRecorder]:
        return JetStreamTrackingRecorder

    def tracking_recorder_subclass(self) -> type[TrackingRecorder]:
        return TrackingRecorderSubclass

    def expected_process_recorder_class(self) -> type[JetStreamProcessRecorder]:
        return JetStreamProcessRecorder


class TestExampleApplication(application.ExampleApplicationTestCase):
    expected_factory_topic = "l02.bus.recorder.factory:JetStreamFactory"


class TestApplication(application.ApplicationTestCase):
    def test_runs_on_jetstream(self) -> None:
        with Application[UUID]() as app:
            self.assertIsInstance(app.factory, JetStreamFactory)


class TestEventSourcedProjection(projection.EventSourcedProjectionTestCase):
    pass


class CountersView(POPOTrackingRecorder, projection.EventCountersView):
    """A view in memory, with the counts under the same lock as the position."""

    def __init__(self) -> None:
        super().__init__()
        self._counts: Counter[str] = Counter()

    def get_created_event_counter(self) -> int:
        return self._counts["created"]

    def get_subsequent_event_counter(self) -> int:
        return self._counts["subsequent"]

    def incr_created_event_counter(self, tracking: Tracking) -> None:
        self._count("created", tracking)

    def incr_subsequent_event_counter(self, tracking: Tracking) -> None:
        self._count("subsequent", tracking)

    def _count(self, name: str, tracking: Tracking) -> None:
        with self._database_lock:
            self.insert_tracking(tracking)
            self._counts[name] += 1


class TestCountersProjection(projection.AggregateEventCountersProjectionTestCase):
    view_class = CountersView
    env: ClassVar = {"EVENTCOUNTERS_PERSISTENCE_MODULE": "eventsourcing.popo"}
