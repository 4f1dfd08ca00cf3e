"""Reading forward: every event exactly once and in order, whatever happens to server, consumer and connection."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from l02.bus.connection.bus import Bus
from l02.bus.connection.streams import EVENTS_STREAM
from l02.bus.embedded import EmbeddedNats
from l02.bus.jetstream.pull import ConsumerError, Pull, pull
from l02.bus.log.event_store import EventStore
from l02.bus.log.reader import EventReader, read_events
from l02.bus.log.repository import Repository
from l02.bus.wire.codec import LogEntry, RecordedEvent, SetAside
from l02.bus.wire.subjects import events_filter
from tests.bus.faults import kill
from tests.bus.toy import TOY, append_many, message, note, payloads, toy_id, until


def of_events(entries: list[LogEntry]) -> list[RecordedEvent]:
    return [entry for entry in entries if isinstance(entry, RecordedEvent)]


async def read(reader: EventReader, count: int, limit: int = 500) -> list[RecordedEvent]:
    events: list[RecordedEvent] = []
    async with asyncio.timeout(30):
        while len(events) < count:
            events += of_events(await reader.next_batch(limit))
    return events


async def consumers(bus: Bus) -> list[str]:
    return list((await bus.api(f"CONSUMER.NAMES.{EVENTS_STREAM}", {}))["consumers"] or [])


async def cut_connection(bus: Bus) -> None:
    """As a broken network does it: neither side has said good-bye."""
    reconnects = bus.client.stats["reconnects"]
    assert bus.client._transport is not None
    transport = bus.client._transport
    transport._io_writer.transport.abort()  # type: ignore[attr-defined]
    await until(lambda: bus.client.stats["reconnects"] > reconnects)


@asynccontextmanager
async def writing(store: EventStore) -> AsyncIterator[list[int]]:
    """Another task appends numbers to one aggregate all the while; gives those it has appended."""
    repository = Repository(TOY, store, "n1")
    written: list[int] = []

    async def write() -> None:
        while True:
            await repository.record("a1", note(len(written) + 1))
            written.append(len(written) + 1)

    task = asyncio.create_task(write())
    try:
        yield written
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.wait([task])


@pytest.mark.parametrize("after", [0, 1, 1_499, 2_999])
@pytest.mark.parametrize(("limit", "window"), [(1, 2), (500, 2048), (10_000, 100)])
async def test_reading_from_any_position(store: EventStore, bus: Bus, after: int, limit: int, window: int) -> None:
    await append_many(store, "a1", 3_000)
    async with read_events(bus, after=after, window=window) as reader:
        events = await read(reader, 3_000 - after, limit)
        assert payloads(events) == [item.sequence for item in events] == list(range(after + 1, 3_001))
        assert reader.position == 3_000
        await store.append(toy_id("a2"), [message("a2", 1, "new")], 0)
        assert payloads(await reader.next_batch()) == ["new"]


async def test_reading_only_what_a_filter_names(store: EventStore, bus: Bus) -> None:
    await append_many(store, "a1", 10)
    await store.append(toy_id("a2"), [message("a2", 1, "wanted")], 0)
    async with read_events(bus, filters=["l02.evt.toy.a2.>"]) as reader:
        assert payloads(await reader.next_batch()) == ["wanted"]
    async with read_events(bus, filters=[events_filter(event_type="toy.noted")]) as reader:
        assert len(await read(reader, 11)) == 11


@pytest.mark.usefixtures("patient_keeper")
@pytest.mark.parametrize("fault", ["kill", "restart", "delete the consumer", "cut the connection"])
async def test_faults_while_reading_leave_nothing_out_and_give_nothing_twice(
    fresh_nats: EmbeddedNats, bus: Bus, store: EventStore, fault: str
) -> None:
    async with writing(store) as written, read_events(bus, window=64) as reader:
        events: list[RecordedEvent] = []
        for _ in range(4):
            events += await read(reader, 50, 10)
            match fault:
                case "kill":
                    await kill(fresh_nats)
                case "restart":
                    await fresh_nats.stop()
                    await fresh_nats.start()
                case "delete the consumer":
                    for name in await consumers(bus):
                        await bus.api(f"CONSUMER.DELETE.{EVENTS_STREAM}.{name}", {})
                case "cut the connection":
                    await cut_connection(bus)
        goal = len(written) + 100
        while len(events) < goal:
            events += await read(reader, 1)
    assert payloads(events) == list(range(1, len(events) + 1))


async def test_deliveries_that_were_lost_on_the_way_are_fetched_again(store: EventStore, bus: Bus) -> None:
    """A connection that breaks unnoticed loses deliveries, and the consumer goes on behind them on the new one."""
    await append_many(store, "a1", 100)
    async with read_events(bus) as reader:
        first = await reader.next_batch(10)
        source = reader._messages._source
        await until(lambda: len(source._messages) == 100 - len(first))
        kept = list(source._messages)
        source._messages.clear()
        source._messages.extend(kept[:20] + kept[30:])
        events = first + await read(reader, 100 - len(first))
    assert payloads(events) == list(range(1, 101))


async def test_what_is_no_event_is_set_aside_in_its_place(store: EventStore, bus: Bus) -> None:
    await append_many(store, "a1", 10)
    await bus.publish("l02.evt.toy.a2.vanished", b'{"specversion":"1.0"}')
    await store.append(toy_id("a3"), [message("a3", 1)], 0)
    entries: list[LogEntry] = []
    async with read_events(bus) as reader:
        while reader.position < 12:
            entries += await reader.next_batch()
    assert [entry.sequence for entry in entries] == [*range(1, 13)]
    [aside] = [entry for entry in entries if isinstance(entry, SetAside)]
    assert (aside.sequence, aside.subject, aside.aggregate) == (11, "l02.evt.toy.a2.vanished", toy_id("a2"))
    assert "sequence 11 is not a CloudEvent" in aside.reason


async def test_a_reader_whose_wait_is_cancelled_misses_nothing(store: EventStore, bus: Bus) -> None:
    events: list[RecordedEvent] = []
    async with writing(store), read_events(bus, window=16) as reader:
        for number in range(200):
            task = asyncio.create_task(reader.next_batch(5))
            for _ in range(number % 7):
                await asyncio.sleep(0)
            if not task.done():
                task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                events += of_events(task.result())
        events += await read(reader, 50)
    assert payloads(events) == list(range(1, len(events) + 1))


async def test_cancelling_leaves_no_subscription_behind(store: EventStore, bus: Bus) -> None:
    before = len(bus.client._subs)

    async def follow() -> None:
        async with read_events(bus) as reader:
            while True:
                await reader.next_batch()

    await append_many(store, "a1", 100)
    for number in range(20):
        task = asyncio.create_task(follow())
        await asyncio.sleep(0.002 * number)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
    assert len(bus.client._subs) == before
    assert len(bus._on_reconnect) == 0


async def test_the_consumer_of_a_closed_reader_is_gone(store: EventStore, bus: Bus) -> None:
    await append_many(store, "a1", 10)
    async with read_events(bus) as reader:
        await reader.next_batch()
        assert len(await consumers(bus)) == 1

    async def is_gone() -> bool:
        return await consumers(bus) == []

    await until(is_gone)


async def test_a_slow_reader_holds_no_more_than_its_window(store: EventStore, bus: Bus) -> None:
    await append_many(store, "a1", 3_000)
    async with read_events(bus, window=100) as reader:
        first = await reader.next_batch(1)
        await until(lambda: len(reader._messages._source._messages) >= 50)
        info = await bus.api(f"CONSUMER.INFO.{EVENTS_STREAM}.{(await consumers(bus))[0]}", {})
        assert info["delivered"]["consumer_seq"] <= 101
        events = first + await read(reader, 2_999)
        assert len(reader._messages._source._messages) <= 100
    assert payloads(events) == list(range(1, 3_001))


async def test_reading_is_fast(store: EventStore, bus: Bus) -> None:
    await append_many(store, "a1", 30_000)
    began = time.perf_counter()
    async with read_events(bus) as reader:
        while reader.position < 30_000:
            await reader.next_batch()
    rate = 30_000 / (time.perf_counter() - began)
    print(f"{rate:.0f} events/s")
    # Measured 70,000/s on two cores; the bound only finds a fall by an order of magnitude on a busy machine.
    assert rate > 7_000


async def test_a_consumer_that_cannot_be_had_is_an_error_and_not_silence(bus: Bus) -> None:
    async def config() -> dict[str, object]:
        return {"ack_policy": "none"}

    async with pull(bus, "L02_NOWHERE", config) as source:
        with pytest.raises(ConsumerError, match="not found"):
            await source.next_batch(1)


async def test_a_durable_consumer_gets_what_it_did_not_acknowledge(bus: Bus, store: EventStore) -> None:
    await append_many(store, "a1", 20)

    async def config() -> dict[str, object]:
        return {"durable_name": "test", "ack_policy": "explicit", "ack_wait": 1_000_000_000}

    async def number_of(source: Pull) -> int:
        [item] = await source.next_batch(1)
        if (number := int(json.loads(item.data)["version"])) % 2:
            await item.ack()
        return number

    async with pull(bus, EVENTS_STREAM, config, window=4) as source:
        assert [await number_of(source) for _ in range(20)] == list(range(1, 21))
    async with pull(bus, EVENTS_STREAM, config) as source, asyncio.timeout(20):
        assert {await number_of(source) for _ in range(10)} == set(range(2, 21, 2))
