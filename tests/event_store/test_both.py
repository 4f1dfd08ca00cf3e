"""What an event store does, whichever it is: nothing lost, nothing twice, nothing out of order."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from l02.bus.connection.bus import Bus
from l02.bus.log.event_store import AppendFailed, Conflict, EventStore
from l02.bus.wire.codec import UnreadableEvent
from l02.domain.errors import ErrorCode, Failure
from tests.bus.toy import append_many, message, payloads, toy_id
from tests.event_store.conftest import Put


async def test_what_is_appended_is_loaded(store: EventStore) -> None:
    first = await store.append(toy_id("a1"), [message("a1", 1, {"text": "ü\n\x00"})], 0)
    last = await store.append(toy_id("a1"), [message("a1", 2), message("a1", 3)], first)
    events = await store.load(toy_id("a1"))
    assert payloads(events) == [{"text": "ü\n\x00"}, 2, 3]
    assert [item.version for item in events] == [1, 2, 3]
    assert [item.sequence for item in events] == [first, last - 1, last]
    assert await store.load(toy_id("a1"), last - 1) == events[2:]
    assert await store.event_at(last) == events[2]


async def test_an_aggregate_is_not_mixed_up_with_one_whose_id_begins_alike(store: EventStore) -> None:
    await store.append(toy_id("a1"), [message("a1", 1)], 0)
    await store.append(toy_id("a11"), [message("a11", 1)], 0)
    assert len(await store.load(toy_id("a1"))) == 1


@pytest.mark.parametrize("count", [0, 1, 20, 2_500])
async def test_load_of_any_length(store: EventStore, count: int) -> None:
    await append_many(store, "a1", count)
    assert payloads(await store.load(toy_id("a1"))) == list(range(1, count + 1))


async def test_load_of_more_bytes_than_one_answer_holds(store: EventStore) -> None:
    text = "x" * 1_000_000
    sequence = 0
    for version in range(1, 41):
        sequence = await store.append(toy_id("a1"), [message("a1", version, [version, text])], sequence)
    assert [item.version for item in await store.load(toy_id("a1"))] == list(range(1, 41))


@pytest.mark.parametrize("events", [1, 3])
async def test_a_wrong_expectation_is_a_conflict(store: EventStore, events: int) -> None:
    await store.append(toy_id("a1"), [message("a1", 1)], 0)
    with pytest.raises(Conflict):
        await store.append(toy_id("a1"), [message("a1", version) for version in range(1, events + 1)], 0)
    assert len(await store.load(toy_id("a1"))) == 1


async def test_two_appends_to_one_aggregate_at_once_cost_the_others_nothing(store: EventStore) -> None:
    names = ["a1", "a1", *(f"b{number}" for number in range(50))]
    answers = await asyncio.gather(
        *(store.append(toy_id(name), [message(name, 1)], 0) for name in names), return_exceptions=True
    )
    assert isinstance(answers[0], int) and isinstance(answers[1], Conflict)
    assert all(isinstance(answer, int) for answer in answers[2:])


async def test_a_decision_of_1000_events_is_stored_as_one_and_more_are_refused(store: EventStore) -> None:
    await store.append(toy_id("a1"), [message("a1", version) for version in range(1, 1_001)], 0)
    assert len(await store.load(toy_id("a1"))) == 1_000
    with pytest.raises(Failure) as refused:
        await store.append(toy_id("a2"), [message("a2", version) for version in range(1, 1_002)], 0)
    assert refused.value.code is ErrorCode.PAYLOAD_TOO_LARGE
    assert await store.load(toy_id("a2")) == []


async def test_a_cancelled_caller_leaves_the_store_whole(store: EventStore) -> None:
    for round_number in range(20):
        names = [f"a{round_number}-{number}" for number in range(30)]
        tasks = [asyncio.create_task(store.append(toy_id(name), [message(name, 1)], 0)) for name in names]
        for _ in range(round_number % 4):
            await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        assert all(isinstance(answer, int) for answer in await asyncio.gather(*tasks[1::2]))
        assert len(await store.load(toy_id(names[0]))) <= 1
    assert isinstance(await store.append(toy_id("after"), [message("after", 1)], 0), int)


async def test_closing_waits_for_what_is_under_way_and_then_takes_no_more(store: EventStore) -> None:
    tasks = [asyncio.create_task(store.append(toy_id(f"a{n}"), [message(f"a{n}", 1)], 0)) for n in range(2_000)]
    await asyncio.sleep(0)
    await store.close()
    assert all(isinstance(task.result(), int) for task in tasks)
    with pytest.raises(AppendFailed):
        await store.append(toy_id("late"), [message("late", 1)], 0)


async def test_writers_of_two_processes_on_one_aggregate_never_both_win(
    store: EventStore, other_store: EventStore
) -> None:
    sequence = 0
    for version in range(1, 101):
        answers = await asyncio.gather(
            *(one.append(toy_id("a1"), [message("a1", version)], sequence) for one in (store, other_store)),
            return_exceptions=True,
        )
        [sequence] = [answer for answer in answers if isinstance(answer, int)]
        assert sum(isinstance(answer, Conflict) for answer in answers) == 1
    assert len(await store.load(toy_id("a1"))) == 100


async def test_what_is_not_an_event_of_this_version_is_refused_by_name(store: EventStore, put: Put) -> None:
    subject, raw = message("a1", 1)
    document = msgspec.json.decode(raw)
    cases = {
        "garbage": b"\xff\x00{",
        "not-utf-8": raw.replace(b'"test"', b'"\xff"'),
        "unknown type": msgspec.json.encode(document | {"type": "toy.vanished"}),
        "newer": msgspec.json.encode(document | {"schemaversion": 99}),
        "other data": msgspec.json.encode(document | {"data": {"name": 1}}),
        "nested": raw.replace(b'"payload":1', b'"payload":' + b"[" * 100_000),
    }
    for number, body in enumerate(cases.values()):
        assert body != raw
        await put(subject.replace("a1", f"c{number}"), body)
        with pytest.raises(UnreadableEvent, match=f"sequence {number + 1}"):
            await store.load(toy_id(f"c{number}"))


async def test_an_event_larger_than_a_message_may_be_is_refused(store: EventStore) -> None:
    with pytest.raises(Failure, match="max_payload") as refused:
        await store.append(toy_id("a1"), [message("a1", 1), message("a1", 2, "x" * 8 * 1024 * 1024)], 0)
    assert refused.value.code is ErrorCode.PAYLOAD_TOO_LARGE
    assert await store.load(toy_id("a1")) == []


async def test_what_is_too_large_for_any_server_is_said_to_be(on_server: tuple[Bus, EventStore]) -> None:
    """Its `max_payload` is not to be raised, being what it may be."""
    with pytest.raises(Failure, match="send less at once") as refused:
        on_server[1].require_storable([("l02.evt.toy.a.added", b"x" * (9 << 20))])
    assert "raise" not in refused.value.message
