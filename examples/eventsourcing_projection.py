"""Counts the runtime's events by type, with the projection runner of the `eventsourcing` library.

    python examples/eventsourcing_projection.py counts.db

The events come from the stream of the node that runs here, or of L02_NATS_URL. The counts are kept in SQLite, in one
transaction with the position: stop it, kill it, start it again, and each event is counted once.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from eventsourcing.application import Application
from eventsourcing.dispatch import singledispatchmethod
from eventsourcing.persistence import Tracking
from eventsourcing.projection import Projection, ProjectionRunner
from eventsourcing.sqlite import SQLiteTrackingRecorder

from l02.client.discovery import find_nats_url
from l02.eventsourcing import RuntimeEvent


class L02(Application[str]):
    """The runtime, as an application of the library: its name chooses the environment variables with L02_ in front."""


class CountsView(SQLiteTrackingRecorder):
    """How many events of each type there are."""

    def construct_create_table_statements(self) -> list[str]:
        table = "CREATE TABLE IF NOT EXISTS counts (type TEXT PRIMARY KEY, events INTEGER NOT NULL)"
        return [*super().construct_create_table_statements(), table]

    def count(self, event_type: str, tracking: Tracking) -> None:
        with self.datastore.transaction(commit=True) as cursor:
            self._insert_tracking(cursor, tracking)
            cursor.execute(
                "INSERT INTO counts VALUES (:type, 1) ON CONFLICT (type) DO UPDATE SET events = events + 1",
                {"type": event_type},
            )

    def counts(self) -> dict[str, int]:
        with self.datastore.transaction(commit=False) as cursor:
            cursor.execute("SELECT type, events FROM counts ORDER BY events DESC, type")
            return {row["type"]: row["events"] for row in cursor.fetchall()}


class EventCounts(Projection[CountsView]):
    """Name event types in `topics` and it is sent only those: `topics = ("agent.spawned",)`."""

    @singledispatchmethod
    def process_event(self, domain_event: Any, tracking: Tracking) -> None:
        assert isinstance(domain_event, RuntimeEvent)
        self.view.count(domain_event.type, tracking)


def environment(nats_url: str, database: str) -> Mapping[str, str]:
    return {
        "L02_PERSISTENCE_MODULE": "l02.eventsourcing",
        "L02_NATS_URL": nats_url,
        "EVENTCOUNTS_PERSISTENCE_MODULE": "eventsourcing.sqlite",
        "EVENTCOUNTS_SQLITE_DBNAME": database,
    }


def runner(nats_url: str, database: str) -> ProjectionRunner[L02, CountsView]:
    return ProjectionRunner(
        application_class=L02,
        projection_class=EventCounts,
        view_class=CountsView,
        env=environment(nats_url, database),
    )


def main(database: str) -> None:
    with runner(find_nats_url(), database) as counting:
        counting.wait(counting.app.recorder.max_notification_id(), timeout=600)
        for event_type, events in counting.projection.view.counts().items():
            print(f"{events:8} {event_type}")


if __name__ == "__main__":
    main(*sys.argv[1:])
