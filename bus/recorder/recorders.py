"""The library's recorders on JetStream: synchronous, usable from any thread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from eventsourcing.persistence import (
    AggregateRecorder,
    ApplicationRecorder,
    Notification,
    ProcessRecorder,
    Recorder,
    StoredEvent,
    Subscription,
    Tracking,
    TrackingRecorder,
)

from l02.bus.recorder.log import EventLog
from l02.bus.recorder.subscription import JetStreamSubscription
from l02.bus.recorder.worker import Worker


class JetStreamRecorder(Recorder):
    """A recorder of one stream. A subclass of your own that is a view takes the same two arguments."""

    def __init__(self, worker: Worker, log: EventLog) -> None:
        self.worker = worker
        self.log = log


class JetStreamAggregateRecorder(JetStreamRecorder, AggregateRecorder):
    """Events by originator and version; snapshots, for example."""

    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> Sequence[int] | None:
        """Raises IntegrityError if one of the versions is recorded already; then none of the events is stored."""
        self.worker.run(self.log.insert(stored_events))
        return None

    def select_events(
        self,
        originator_id: UUID | str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[StoredEvent]:
        """An originator's events in the order of their versions."""
        return self.worker.run(self.log.select_events(originator_id, gt, lte, desc, limit))


class JetStreamApplicationRecorder(JetStreamAggregateRecorder, ApplicationRecorder):
    """Events in the order of the application too: an event's notification id is its stream sequence."""

    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> Sequence[int] | None:
        """The events' notification ids. Raises IntegrityError if one of the versions is recorded already."""
        return self.worker.run(self.log.insert(stored_events))

    def select_notifications(
        self,
        start: int | None,
        limit: int,
        stop: int | None = None,
        topics: Sequence[str] = (),
        *,
        inclusive_of_start: bool = True,
    ) -> Sequence[Notification]:
        """Events with ids from `start` to `stop`, both included, unless `inclusive_of_start` is off."""
        first = 1 if start is None else start if inclusive_of_start else start + 1
        return self.worker.run(self.log.select_notifications(max(first - 1, 0), limit, stop, topics))

    def max_notification_id(self) -> int | None:
        """The id of the newest event."""
        return self.worker.run(self.log.max_notification_id())

    def subscribe(self, gt: int | None = None, topics: Sequence[str] = ()) -> Subscription[ApplicationRecorder]:
        """Events with ids above `gt`, those that are there and those to come."""
        return JetStreamSubscription(self, self.worker, self.log, gt, topics)


class JetStreamTrackingRecorder(JetStreamRecorder, TrackingRecorder):
    """How far each upstream application has been processed."""

    def insert_tracking(self, tracking: Tracking) -> None:
        """Raises IntegrityError if the notification id is not above all recorded for the application."""
        self.worker.run(self.log.insert([], tracking))

    def max_tracking_id(self, application_name: str) -> int | None:
        """The highest notification id recorded for an upstream application."""
        return self.worker.run(self.log.last_tracked(application_name))


class JetStreamProcessRecorder(JetStreamTrackingRecorder, JetStreamApplicationRecorder, ProcessRecorder):
    """Events and the position they were made at, stored together: each upstream event counts exactly once."""

    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> Sequence[int] | None:
        """The events' notification ids. Raises IntegrityError if a version or the position is recorded already."""
        return self.worker.run(self.log.insert(stored_events, kwargs.get("tracking")))
