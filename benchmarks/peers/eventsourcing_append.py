"""The eventsourcing library's aggregate recorder on PostgreSQL: each append a transaction, the version its key."""

from __future__ import annotations

import json
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from eventsourcing.persistence import StoredEvent
from eventsourcing.postgres import PostgresAggregateRecorder, PostgresDatastore

OPTIONS: dict[str, Any] = json.loads(sys.argv[1])
STATE = b"x" * OPTIONS["payload"]


def main() -> dict[str, float]:
    threads = min(OPTIONS["writers"], OPTIONS["threads"])
    url = urlsplit(OPTIONS["postgres"])
    with PostgresDatastore(
        dbname=url.path[1:],
        host=url.hostname or "",
        port=url.port or 0,
        user=url.username or "",
        password=url.password or "",
        pool_size=threads,
    ) as datastore:
        recorder = PostgresAggregateRecorder(datastore, events_table_name="peer_events")
        recorder.create_table()
        return one_at_a_time(recorder) if threads == 1 else together(recorder, threads)


def together(recorder: PostgresAggregateRecorder, threads: int) -> dict[str, float]:
    """Each thread is a writer: more of them than connections would only wait."""
    end = time.perf_counter() + OPTIONS["seconds"]

    def write(_: int) -> int:
        aggregate, version = uuid4(), 0
        while time.perf_counter() < end:
            version += 1
            recorder.insert_events([StoredEvent(aggregate, version, "peer:Event", STATE)])
        return version

    began = time.perf_counter()
    with ThreadPoolExecutor(threads) as executor:
        counts = list(executor.map(write, range(threads)))
    return {"per_second": sum(counts) / (time.perf_counter() - began)}


def one_at_a_time(recorder: PostgresAggregateRecorder) -> dict[str, float]:
    aggregate = uuid4()
    taken = []
    for version in range(1, OPTIONS["runs"] + 1):
        began = time.perf_counter()
        recorder.insert_events([StoredEvent(aggregate, version, "peer:Event", STATE)])
        taken.append(time.perf_counter() - began)
    return {"p50_ms": statistics.median(taken) * 1000}


print(json.dumps(main()))
