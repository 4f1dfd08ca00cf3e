"""Appending with an expectation and loading: nothing lost, nothing twice, nothing out of order."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from bus.codec import UnreadableEvent
from bus.connection import Bus
from bus.embedded import EmbeddedNats
from bus.event_store import AppendFailed, Conflict, EventStore, open_event_store
from bus.streams import EVENTS_STREAM
from domain.errors import ErrorCode, Failure
from tests.bus.toy import agent, another_process, append_many, message, payloads


async def batch_ids(bus: Bus, count: int) -> list[str | None]:
    """The batch each of the first events was stored in, if it was in one."""
    stored = [await bus.stored(EVENTS_STREAM, sequence=sequence) for sequence in range(1, count + 1)]
    return [item.headers.get("Nats-Batch-Id") for item in stored if item is not None and item.headers is not None]


async def test_what_is_appended_is_loaded(store: EventStore) -> None:
    first = await store.append(agent("a1"), [message("a1", 1, {"text": "ü\n\x00"})], 0)
    last = await store.append(agent("a1"), [message("a1", 2), message("a1", 3)], first)
    events = await store.load(agent("a1"))
    assert payloads(events) == [{"text": "ü\n\x00"}, 2, 3]
    assert [item.version for item in events] == [1, 2, 3]
    assert [item.sequence for item in events] == [first, last - 1, last]
    assert await store.load(agent("a1"), last - 1) == events[2:]
    assert await store.event_at(last) == events[2]


async def test_an_aggregate_is_not_mixed_up_with_one_whose_id_begins_alike(store: EventStore) -> None:
    await store.append(agent("a1"), [message("a1", 1)], 0)
    await store.append(agent("a11"), [message("a11", 1)], 0)
    assert len(await store.load(agent("a1"))) == 1


@pytest.mark.parametrize("count", [0, 1, 20, 2_500])
async def test_load_of_any_length(store: EventStore, count: int) -> None:
    await append_many(store, "a1", count)
    assert payloads(await store.load(agent("a1"))) == list(range(1, count + 1))


async def test_load_of_more_bytes_than_one_answer_holds(store: EventStore) -> None:
    text = "x" * 1_000_000
    sequence = 0
    for version in range(1, 41):
        sequence = await store.append(agent("a1"), [message("a1", version, [version, text])], sequence)
    assert [item.version for item in await store.load(agent("a1"))] == list(range(1, 41))


@pytest.mark.parametrize("events", [1, 3])
async def test_a_wrong_expectation_is_a_conflict(store: EventStore, events: int) -> None:
    await store.append(agent("a1"), [message("a1", 1)], 0)
    with pytest.raises(Conflict):
        await store.append(agent("a1"), [message("a1", version) for version in range(1, events + 1)], 0)
    assert len(await store.load(agent("a1"))) == 1


async def test_a_conflict_fails_none_of_those_that_share_its_batch(bus: Bus, store: EventStore) -> None:
    await store.append(agent("taken"), [message("taken", 1)], 0)
    wanted = [*(f"a{number}" for number in range(100)), "taken", *(f"b{number}" for number in range(100))]
    answers = await asyncio.gather(
        *(store.append(agent(name), [message(name, 1), message(name, 2)], 0) for name in wanted),
        return_exceptions=True,
    )
    failed = [name for name, answer in zip(wanted, answers, strict=True) if isinstance(answer, BaseException)]
    assert failed == ["taken"] and isinstance(answers[100], Conflict)
    for name, answer in zip(wanted, answers, strict=True):
        events = await store.load(agent(name))
        assert payloads(events) == ([1] if name == "taken" else [1, 2])
        assert name == "taken" or events[-1].sequence == answer


async def test_two_appends_to_one_aggregate_at_once_cost_the_others_nothing(store: EventStore) -> None:
    names = ["a1", "a1", *(f"b{number}" for number in range(50))]
    answers = await asyncio.gather(
        *(store.append(agent(name), [message(name, 1)], 0) for name in names), return_exceptions=True
    )
    assert isinstance(answers[0], int) and isinstance(answers[1], Conflict)
    assert all(isinstance(answer, int) for answer in answers[2:])


async def test_256_writers_at_once_store_all_once_and_in_order(bus: Bus, store: EventStore) -> None:
    async def write(name: str) -> None:
        sequence = 0
        for version in range(1, 21):
            sequence = await store.append(agent(name), [message(name, version)], sequence)

    names = [f"a{number}" for number in range(256)]
    await asyncio.gather(*(write(name) for name in names))
    for name in names:
        events = await store.load(agent(name))
        assert [item.version for item in events] == list(range(1, 21)) == payloads(events)
    assert (await bus.jetstream.stream_info(EVENTS_STREAM)).state.messages == 256 * 20


async def test_a_lone_append_goes_alone(bus: Bus, store: EventStore) -> None:
    await store.append(agent("a1"), [message("a1", 1)], 0)
    assert await batch_ids(bus, 1) == [None]


async def test_those_that_wait_together_share_batches_of_at_most_500(bus: Bus, store: EventStore) -> None:
    await asyncio.gather(*(store.append(agent(f"a{n}"), [message(f"a{n}", 1)], 0) for n in range(1_200)))
    ids = await batch_ids(bus, 1_200)
    sizes = [ids.count(batch) for batch in set(ids)]
    assert len(ids) == 1_200 and max(sizes) <= 500 and len(sizes) <= 12


async def test_batches_are_at_most_4_mib(bus: Bus, store: EventStore) -> None:
    text = "x" * 900_000
    await asyncio.gather(*(store.append(agent(f"a{n}"), [message(f"a{n}", 1, text)], 0) for n in range(20)))
    ids = await batch_ids(bus, 20)
    assert len(ids) == 20 and max(ids.count(batch) for batch in ids if batch) <= 4


async def test_a_decision_of_1000_events_is_stored_as_one_and_more_are_refused(store: EventStore) -> None:
    await store.append(agent("a1"), [message("a1", version) for version in range(1, 1_001)], 0)
    assert len(await store.load(agent("a1"))) == 1_000
    with pytest.raises(Failure) as refused:
        await store.append(agent("a2"), [message("a2", version) for version in range(1, 1_002)], 0)
    assert refused.value.code is ErrorCode.PAYLOAD_TOO_LARGE
    assert await store.load(agent("a2")) == []


async def test_an_event_larger_than_the_server_takes_harms_nobody(bus: Bus, store: EventStore) -> None:
    async def append_too_large() -> None:
        with pytest.raises(Failure) as refused:
            await store.append(agent("big"), [message("big", 1, "x" * bus.client.max_payload)], 0)
        assert refused.value.code is ErrorCode.PAYLOAD_TOO_LARGE

    await asyncio.gather(
        append_too_large(), *(store.append(agent(f"a{n}"), [message(f"a{n}", 1)], 0) for n in range(50))
    )
    assert bus.client.stats["reconnects"] == 0


async def test_a_cancelled_caller_leaves_the_store_whole(store: EventStore) -> None:
    for round_number in range(20):
        names = [f"a{round_number}-{number}" for number in range(30)]
        tasks = [asyncio.create_task(store.append(agent(name), [message(name, 1)], 0)) for name in names]
        for _ in range(round_number % 4):
            await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        assert all(isinstance(answer, int) for answer in await asyncio.gather(*tasks[1::2]))
        assert len(await store.load(agent(names[0]))) <= 1
    assert isinstance(await store.append(agent("after"), [message("after", 1)], 0), int)


async def test_closing_waits_for_what_is_under_way_and_then_takes_no_more(bus: Bus) -> None:
    async with open_event_store(bus) as store:
        tasks = [asyncio.create_task(store.append(agent(f"a{n}"), [message(f"a{n}", 1)], 0)) for n in range(2_000)]
        await asyncio.sleep(0)
    assert all(isinstance(task.result(), int) for task in tasks)
    with pytest.raises(AppendFailed):
        await store.append(agent("late"), [message("late", 1)], 0)


async def test_writers_of_two_processes_on_one_aggregate_never_both_win(
    fresh_nats: EmbeddedNats, store: EventStore
) -> None:
    async with another_process(fresh_nats.url) as (_, other):
        sequence = 0
        for version in range(1, 101):
            answers = await asyncio.gather(
                *(one.append(agent("a1"), [message("a1", version)], sequence) for one in (store, other)),
                return_exceptions=True,
            )
            [sequence] = [answer for answer in answers if isinstance(answer, int)]
            assert sum(isinstance(answer, Conflict) for answer in answers) == 1
    assert len(await store.load(agent("a1"))) == 100


async def test_what_is_not_an_event_of_this_version_is_refused_by_name(bus: Bus, store: EventStore) -> None:
    subject, raw = message("a1", 1)
    document = msgspec.json.decode(raw)
    cases = {
        "garbage": b"\xff\x00{",
        "not-utf-8": raw.replace(b'"test"', b'"\xff"'),
        "unknown type": msgspec.json.encode(document | {"type": "agent.vanished"}),
        "newer": msgspec.json.encode(document | {"schemaversion": 99}),
        "other data": msgspec.json.encode(document | {"data": {"name": 1}}),
        "nested": raw.replace(b'"payload":1', b'"payload":' + b"[" * 100_000),
    }
    for number, body in enumerate(cases.values()):
        assert body != raw
        await bus.publish(subject.replace("a1", f"c{number}"), body)
        with pytest.raises(UnreadableEvent, match=f"sequence {number + 1}"):
            await store.load(agent(f"c{number}"))
