"""Whatever is done to a recorder, it answers as the library's SQLite recorder does."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

import pytest
from eventsourcing.persistence import IntegrityError, Notification, ProcessRecorder, StoredEvent, Tracking
from eventsourcing.sqlite import SQLiteFactory
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from l02.bus.embedded import EmbeddedNats
from l02.bus.recorder import log
from tests.recorder.conftest import Factories, process_recorder

ORIGINATORS = [UUID(int=number) for number in range(3)]
bound = st.none() | st.integers(0, 14)
stored_events = st.builds(
    StoredEvent, st.sampled_from(ORIGINATORS), st.integers(0, 12), st.sampled_from(["a", "b"]), st.binary(max_size=3)
)
inserts = st.tuples(
    st.lists(stored_events, max_size=4), st.none() | st.builds(Tracking, st.sampled_from(["x", "y"]), st.integers(1, 9))
)
reads = st.fixed_dictionaries(
    {"gt": bound, "lte": bound, "desc": st.booleans(), "limit": st.none() | st.integers(1, 5)}
)


def answer(operation: Callable[[], object]) -> object:
    try:
        return operation()
    except IntegrityError:
        return IntegrityError


def without_id(notifications: Sequence[Notification]) -> list[tuple[object, ...]]:
    return [(n.originator_id, n.originator_version, n.topic, n.state) for n in notifications]


@pytest.mark.parametrize("worth_seeking", [0, 500])
def test_answers_as_sqlite_does(
    fresh_nats: EmbeddedNats, factories: Factories, monkeypatch: pytest.MonkeyPatch, worth_seeking: int
) -> None:
    monkeypatch.setattr(log, "_WORTH_SEEKING", worth_seeking)

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(steps=st.lists(inserts, min_size=1, max_size=12), read=st.lists(reads, min_size=1, max_size=4))
    def check(steps: list[tuple[list[StoredEvent], Tracking | None]], read: list[dict[str, Any]]) -> None:
        name = secrets.token_hex(6)
        factory = factories(NATS_URL=fresh_nats.url, NATS_STREAM=name, NATS_SUBJECT_PREFIX=name)
        recorders = [process_recorder(factory), process_recorder(factory)]
        model = SQLiteFactory({"SQLITE_DBNAME": ":memory:"}).process_recorder()
        for number, (events, tracking) in enumerate(steps):
            recorder = recorders[number % 2]

            def insert(into: ProcessRecorder, events: Sequence[StoredEvent], tracking: Tracking | None) -> int:
                return len(into.insert_events(events, tracking=tracking) or ())

            expected = answer(lambda: insert(model, events, tracking))  # noqa: B023
            assert answer(lambda: insert(recorder, events, tracking)) == expected  # noqa: B023
        for recorder in (*recorders, process_recorder(factory)):
            for arguments in read:
                for originator in ORIGINATORS:
                    assert recorder.select_events(originator, **arguments) == model.select_events(
                        originator, **arguments
                    )
            for topics in ((), ("b",)):
                ours = recorder.select_notifications(None, 100, topics=topics)
                assert without_id(ours) == without_id(model.select_notifications(None, 100, topics=topics))
                assert [n.id for n in ours] == sorted({n.id for n in ours})
            for upstream in ("x", "y"):
                assert recorder.max_tracking_id(upstream) == model.max_tracking_id(upstream)
        factory.close()

    check()
