"""Appending with an expectation and loading: nothing lost, nothing twice, nothing out of order."""

from __future__ import annotations

import asyncio

import pytest

from l02.bus.connection.bus import Bus
from l02.bus.connection.streams import EVENTS_STREAM
from l02.bus.log.event_store import Conflict, EventStore
from l02.domain.errors import ErrorCode, Failure
from tests.bus.toy import message, payloads, toy_id


async def batch_ids(bus: Bus, count: int) -> list[str | None]:
    """The batch each of the first events was stored in, if it was in one."""
    stored = [await bus.stored(EVENTS_STREAM, sequence=sequence) for sequence in range(1, count + 1)]
    return [item.headers.get("Nats-Batch-Id") for item in stored if item is not None and item.headers is not None]


async def test_a_conflict_fails_none_of_those_that_share_its_batch(bus: Bus, store: EventStore) -> None:
    await store.append(toy_id("taken"), [message("taken", 1)], 0)
    wanted = [*(f"a{number}" for number in range(100)), "taken", *(f"b{number}" for number in range(100))]
    answers = await asyncio.gather(
        *(store.append(toy_id(name), [message(name, 1), message(name, 2)], 0) for name in wanted),
        return_exceptions=True,
    )
    failed = [name for name, answer in zip(wanted, answers, strict=True) if isinstance(answer, BaseException)]
    assert failed == ["taken"] and isinstance(answers[100], Conflict)
    for name, answer in zip(wanted, answers, strict=True):
        events = await store.load(toy_id(name))
        assert payloads(events) == ([1] if name == "taken" else [1, 2])
        assert name == "taken" or events[-1].sequence == answer


async def test_256_writers_at_once_store_all_once_and_in_order(bus: Bus, store: EventStore) -> None:
    async def write(name: str) -> None:
        sequence = 0
        for version in range(1, 21):
            sequence = await store.append(toy_id(name), [message(name, version)], sequence)

    names = [f"a{number}" for number in range(256)]
    await asyncio.gather(*(write(name) for name in names))
    for name in names:
        events = await store.load(toy_id(name))
        assert [item.version for item in events] == list(range(1, 21)) == payloads(events)
    assert (await bus.jetstream.stream_info(EVENTS_STREAM)).state.messages == 256 * 20


async def test_a_lone_append_goes_alone(bus: Bus, store: EventStore) -> None:
    await store.append(toy_id("a1"), [message("a1", 1)], 0)
    assert await batch_ids(bus, 1) == [None]


async def test_those_that_wait_together_share_batches_of_at_most_500(bus: Bus, store: EventStore) -> None:
    await asyncio.gather(*(store.append(toy_id(f"a{n}"), [message(f"a{n}", 1)], 0) for n in range(1_200)))
    ids = await batch_ids(bus, 1_200)
    sizes = [ids.count(batch) for batch in set(ids)]
    assert len(ids) == 1_200 and max(sizes) <= 500 and len(sizes) <= 12


async def test_batches_are_at_most_4_mib(bus: Bus, store: EventStore) -> None:
    text = "x" * 900_000
    await asyncio.gather(*(store.append(toy_id(f"a{n}"), [message(f"a{n}", 1, text)], 0) for n in range(20)))
    ids = await batch_ids(bus, 20)
    assert len(ids) == 20 and max(ids.count(batch) for batch in ids if batch) <= 4


async def test_an_event_larger_than_the_server_takes_harms_nobody(bus: Bus, store: EventStore) -> None:
    async def append_too_large() -> None:
        with pytest.raises(Failure) as refused:
            await store.append(toy_id("big"), [message("big", 1, "x" * bus.client.max_payload)], 0)
        assert refused.value.code is ErrorCode.PAYLOAD_TOO_LARGE

    await asyncio.gather(
        append_too_large(), *(store.append(toy_id(f"a{n}"), [message(f"a{n}", 1)], 0) for n in range(50))
    )
    assert bus.client.stats["reconnects"] == 0
