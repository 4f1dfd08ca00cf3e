"""What the library's cases leave open: order, uniqueness, races, what is refused, and how a recorder ends."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID, uuid4

import pytest
from eventsourcing.persistence import (
    DataError,
    IntegrityError,
    InterfaceError,
    NotSupportedError,
    OperationalError,
    StoredEvent,
    Tracking,
)
from eventsourcing.utils import Environment

from l02.bus.recorder import JetStreamFactory, JetStreamProcessRecorder
from tests.recorder.conftest import Factories, jetstream_threads, process_recorder

ORIGINATOR = UUID(int=1)


def event(version: int, originator: UUID | str = ORIGINATOR, state: bytes = b"{}", topic: str = "t") -> StoredEvent:
    return StoredEvent(originator, version, topic, state)


def versions(recorder: JetStreamProcessRecorder, **bounds: int | bool | None) -> list[int]:
    return [event.originator_version for event in recorder.select_events(ORIGINATOR, **bounds)]  # type: ignore[arg-type]


def test_of_concurrent_writers_of_a_version_one_wins(factories: Factories) -> None:
    recorders = [process_recorder(factories()) for _ in range(4)]

    def write_all(recorder: JetStreamProcessRecorder, name: bytes) -> int:
        won = 0
        for version in range(1, 51):
            try:
                recorder.insert_events([event(version, state=name), event(version, uuid4())])
                won += 1
            except IntegrityError:
                continue
        return won

    with ThreadPoolExecutor(4) as pool:
        won = list(pool.map(write_all, recorders, [b"0", b"1", b"2", b"3"]))
    stored = recorders[0].select_events(ORIGINATOR)
    assert [item.originator_version for item in stored] == list(range(1, 51))
    assert [sum(item.state == str(number).encode() for item in stored) for number in range(4)] == won
    # Those that lost have not stored the other half of their insert either.
    assert len(recorders[0].select_notifications(None, 1000)) == 100


def test_of_concurrent_processors_of_a_position_one_wins(factories: Factories) -> None:
    recorders = [process_recorder(factories()) for _ in range(3)]

    def process(recorder: JetStreamProcessRecorder) -> list[int]:
        won = []
        for position in range(1, 41):
            try:
                recorder.insert_events([event(1, uuid4(), str(position).encode())], tracking=Tracking("up", position))
                won.append(position)
            except IntegrityError:
                continue
        return won

    with ThreadPoolExecutor(3) as pool:
        won = sorted(position for positions in pool.map(process, recorders) for position in positions)
    stored = recorders[0].select_notifications(None, 1000)
    assert [int(item.state) for item in stored] == won == sorted(set(won))
    assert recorders[0].max_tracking_id("up") == 40


def test_versions_may_come_late_but_only_once(factories: Factories, recorder: JetStreamProcessRecorder) -> None:
    """Two threads that take snapshots do not wait for each other."""
    for version in (10, 5, 12, 7):
        recorder.insert_events([event(version)])
    recorder.insert_events([event(20), event(9), event(21)])
    another = process_recorder(factories())
    for seen_by in (recorder, another, process_recorder(factories())):
        assert versions(seen_by, desc=True, limit=1) == [21]
        assert versions(seen_by, lte=9, desc=True, limit=1) == [9]
        assert versions(seen_by) == [5, 7, 9, 10, 12, 20, 21]
        assert versions(seen_by, gt=5, lte=12) == [7, 9, 10, 12]
        for version in (5, 7, 9, 10, 12, 20, 21):
            with pytest.raises(IntegrityError):
                seen_by.insert_events([event(version)])


def test_a_long_history_is_entered_in_its_middle(factories: Factories, recorder: JetStreamProcessRecorder) -> None:
    for start in range(1, 3001, 500):
        recorder.insert_events([event(version) for version in range(start, start + 500)])
        recorder.insert_events([event(1, uuid4())])
    cold = process_recorder(factories())
    assert versions(cold, gt=2900) == list(range(2901, 3001))
    assert versions(cold, gt=2000, lte=2010, desc=True) == list(range(2010, 2000, -1))
    assert versions(cold, gt=3000) == versions(process_recorder(factories()), gt=4000) == []
    assert versions(cold) == list(range(1, 3001))
    for version in (1, 1234, 2999):
        with pytest.raises(IntegrityError):
            process_recorder(factories()).insert_events([event(version)])
    recorder.insert_events([event(3001)])
    assert versions(cold, gt=3000) == [3001]


def test_pages_of_notifications_and_topics(recorder: JetStreamProcessRecorder) -> None:
    for start in range(0, 2500, 500):
        recorder.insert_events([event(n, topic=f"t{n % 5}") for n in range(start, start + 500)])
    assert [item.id for item in recorder.select_notifications(None, 5000)] == list(range(1, 2501))
    assert [item.id for item in recorder.select_notifications(7, 300, topics=["t0"])] == list(range(11, 1511, 5))
    assert [item.id for item in recorder.select_notifications(7, 300, stop=20, topics=["t0", "t1"])] == [
        7,
        11,
        12,
        16,
        17,
    ]
    assert recorder.select_notifications(2501, 10) == []
    assert recorder.select_notifications(1, 0) == []


def test_text_ids_of_any_kind(factories: Factories) -> None:
    recorder = process_recorder(factories(ORIGINATOR_ID_TYPE="text"))
    names = ["a", "a.b", "a b", "*", ">", "ä/ö%2E", str(uuid4()), "x" * 300]
    for name in names:
        recorder.insert_events([event(1, name)], tracking=Tracking(name, 1))
    for name in names:
        assert recorder.select_events(name) == [event(1, name)]
        assert recorder.max_tracking_id(name) == 1
    assert [item.originator_id for item in recorder.select_notifications(None, 100)] == names
    assert recorder.select_events("a.*") == []


@pytest.mark.parametrize(
    ("events", "error"),
    [
        ([event(1, "text")], DataError),
        ([event(-1)], DataError),
        ([event(1, topic="two\r\nlines")], DataError),
        ([event(1, state=bytes(9_000_000))], DataError),
        ([event(1), event(1)], IntegrityError),
        ([event(number) for number in range(1000)], NotSupportedError),
    ],
)
def test_what_cannot_be_stored_is_refused(
    recorder: JetStreamProcessRecorder, events: list[StoredEvent], error: type[Exception]
) -> None:
    recorder.insert_events([event(1, UUID(int=2))])
    with pytest.raises(error):
        recorder.insert_events([event(2, UUID(int=2)), *events])
    assert len(recorder.select_notifications(None, 10)) == 1


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"NATS_TIMEOUT": "soon"}, OSError),
        ({"ORIGINATOR_ID_TYPE": "int"}, OSError),
        ({"NATS_URL": "nats://127.0.0.1:1", "NATS_TIMEOUT": "1"}, OperationalError),
    ],
)
def test_settings_that_cannot_be_used(factories: Factories, settings: dict[str, str], error: type[Exception]) -> None:
    with pytest.raises(error):
        factories(**settings)


def test_a_stream_made_for_something_else_is_refused(factories: Factories) -> None:
    factories(NATS_SUBJECT_PREFIX=os.environ["NATS_SUBJECT_PREFIX"] + "-other").application_recorder()
    with pytest.raises(OperationalError, match="exists and is not made for this"):
        factories().application_recorder()


def test_a_stream_that_is_missing_is_told(factories: Factories) -> None:
    recorder = process_recorder(factories(CREATE_TABLE="no", NATS_TIMEOUT="1"))
    operations: list[Callable[[], object]] = [
        lambda: recorder.insert_events([event(1)]),
        lambda: recorder.select_events(ORIGINATOR),
        lambda: recorder.max_notification_id(),
        lambda: next(recorder.subscribe()),
    ]
    for operation in operations:
        with pytest.raises(OperationalError):
            operation()


def test_closing_ends_what_waits(factories: Factories) -> None:
    factory = factories()
    recorder = process_recorder(factory)
    subscription = recorder.subscribe()
    waiting = threading.Event()
    raised: list[BaseException] = []

    def wait() -> None:
        waiting.set()
        try:
            next(subscription)
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    waiting.wait()
    factory.close()
    thread.join()
    assert isinstance(raised[0], InterfaceError)
    assert not jetstream_threads()
    for operation in (recorder.max_notification_id, recorder.subscribe, lambda: recorder.insert_events([event(1)])):
        with pytest.raises(InterfaceError):
            operation()


def test_stopping_ends_a_subscription_that_waits(recorder: JetStreamProcessRecorder) -> None:
    recorder.insert_events([event(1)])
    with recorder.subscribe() as subscription:
        received = []

        def receive() -> None:
            for notification in subscription:
                received.append(notification.id)
                arrived.set()

        arrived = threading.Event()
        thread = threading.Thread(target=receive)
        thread.start()
        assert arrived.wait(10)
        subscription.stop()
        thread.join(10)
        assert not thread.is_alive()
    assert received == [1]


def test_a_recorder_that_nobody_refers_to_leaves_no_thread() -> None:
    """The library's projection runner makes a factory for its view and does not keep it."""
    recorder = JetStreamFactory(Environment("case", os.environ)).tracking_recorder()
    recorder.insert_tracking(Tracking("up", 1))
    assert len(jetstream_threads()) == 1
    del recorder
    gc.collect()
    assert not jetstream_threads()
