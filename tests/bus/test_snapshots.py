"""Snapshots: what is loaded with one equals what is folded from the first event, and a bad one changes nothing."""

from __future__ import annotations

import asyncio
import itertools
import random
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from l02.bus.connection.bus import Bus
from l02.bus.connection.streams import SNAPSHOTS_STREAM
from l02.bus.embedded import EmbeddedNats
from l02.bus.log import snapshots as module
from l02.bus.log.event_store import AppendFailed, EventStore
from l02.bus.log.loaded import Loaded
from l02.bus.log.repository import Repository
from l02.bus.log.snapshots import Snapshots, open_snapshots
from l02.bus.wire.codec import RecordedEvent, encode_event
from l02.bus.wire.incoming import CommandIdReused
from l02.bus.wire.subjects import AggregateId, event_subject, snapshot_subject
from l02.domain.agent.state import AgentState
from l02.domain.aggregates import AGENT
from l02.domain.kernel.aggregate import Aggregate
from l02.domain.kernel.message import Event
from l02.domain.kernel.states import encode_state
from tests.bus.toy import TOY, State, another_process, append_many, message, metadata, note, payloads, toy_id
from tests.golden.agent_life import agent_life

EVERY = module.EVENTS_PER_SNAPSHOT


@pytest_asyncio.fixture
async def snapshots(bus: Bus) -> AsyncIterator[Snapshots[State]]:
    async with open_snapshots(bus, TOY) as opened:
        yield opened


@pytest_asyncio.fixture
async def other(fresh_nats: EmbeddedNats, store: EventStore) -> AsyncIterator[Repository[State]]:
    """The repository of another process, which writes snapshots of its own."""
    async with another_process(fresh_nats.url) as (bus, other_store), open_snapshots(bus, TOY) as snapshots:
        yield Repository(TOY, other_store, "n1", snapshots)


@pytest.fixture
def read(store: EventStore, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many events each load has read."""
    counts: list[int] = []
    load = store.load

    async def counted(aggregate: AggregateId, after: int = 0, version: int = 0) -> list[RecordedEvent]:
        events = await load(aggregate, after, version)
        counts.append(len(events))
        return events

    monkeypatch.setattr(store, "load", counted)
    return counts


async def stored(bus: Bus, name: str = "a1") -> bytes | None:
    found = await bus.stored(SNAPSHOTS_STREAM, last_on=snapshot_subject(toy_id(name)))
    return None if found is None else found.data


def seen(loaded: Loaded[Any]) -> tuple[Any, ...]:
    """All of an aggregate that others can see or that is stored."""
    return (
        encode_state(loaded.state),
        type(loaded.state),
        loaded.version,
        loaded.sequence,
        loaded.event_id,
        loaded.created_at,
        loaded.handled.packed(),
    )


async def folded(store: EventStore, name: str = "a1") -> Loaded[State]:
    """The aggregate from its first event on."""
    return await Repository(TOY, store, "n1").load(name)


async def with_snapshot(store: EventStore, snapshots: Snapshots[State], count: int = EVERY) -> None:
    await append_many(store, "a1", count)
    await Repository(TOY, store, "n1", snapshots).load("a1")
    await snapshots.settled()


async def test_the_cost_of_loading_does_not_grow_with_the_past(
    store: EventStore, snapshots: Snapshots[State], read: list[int], bus: Bus
) -> None:
    loading = Repository(TOY, store, "n1", snapshots)
    version = sequence = 0
    for _ in range(3 * EVERY + 7):
        version += 1
        sequence = await store.append(toy_id("a1"), [message("a1", version)], sequence)
        if version % 50 == 0:
            await loading.load("a1")
            await snapshots.settled()
    read.clear()
    loaded = await Repository(TOY, store, "n1", snapshots).load("a1")
    assert read == [8]
    assert seen(loaded) == seen(await folded(store)) and loaded.version == version
    assert (await bus.jetstream.stream_info(SNAPSHOTS_STREAM)).state.messages == 1


async def test_a_long_past_without_a_snapshot_is_read_whole_once(
    store: EventStore, snapshots: Snapshots[State], read: list[int]
) -> None:
    await with_snapshot(store, snapshots, 5_000)
    await Repository(TOY, store, "n1", snapshots).load("a1")
    assert read == [5_000, 1]


async def test_decisions_write_one_every_so_many_events(
    store: EventStore, snapshots: Snapshots[State], bus: Bus
) -> None:
    repository = Repository(TOY, store, "n1", snapshots)
    for number in range(EVERY // 2 - 1):
        await repository.decide("a1", note(number, "two"), metadata())
    await snapshots.settled()
    assert await stored(bus) is None
    await repository.decide("a1", note("last", "two"), metadata())
    await snapshots.settled()
    restored = await snapshots.read("a1")
    assert restored is not None and seen(restored) == seen(await folded(store))


async def test_a_few_events_far_apart_get_one_too(
    store: EventStore, snapshots: Snapshots[State], monkeypatch: pytest.MonkeyPatch, bus: Bus
) -> None:
    monkeypatch.setattr(module, "SPREAD_SEQUENCES", 2_000)
    repository = Repository(TOY, store, "n1", snapshots)
    for number in range(module.SPREAD_EVENTS):
        await append_many(store, f"other{number}", 200)
        await snapshots.settled()
        assert await stored(bus) is None
        await repository.decide("a1", note(number), metadata())
    await snapshots.settled()
    restored = await snapshots.read("a1")
    assert restored is not None and seen(restored) == seen(await folded(store))


async def test_a_large_one_is_written_less_often(
    store: EventStore, snapshots: Snapshots[State], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "EVENTS_PER_SNAPSHOT", 5)
    monkeypatch.setattr(module, "BYTES_PER_EVENT", 100)
    repository = Repository(TOY, store, "n1", snapshots)
    written = []
    for number in range(60):
        await repository.decide("a1", note("x" * 90), metadata())
        await snapshots.settled()
        restored = await snapshots.read("a1")
        assert restored is not None or number < 4
        if restored is not None and restored.version not in written:
            written.append(restored.version)
        if number == 30:
            repository = Repository(TOY, store, "n1", snapshots)
    gaps = [later - earlier for earlier, later in itertools.pairwise(written)]
    assert written[0] == 5 and gaps == sorted(gaps) and gaps[0] >= 7, "each is larger than the one before"
    assert 3 <= len(written) <= 6


async def test_commands_are_known_for_ever(
    store: EventStore, snapshots: Snapshots[State], other: Repository[State]
) -> None:
    first = await Repository(TOY, store, "n1").decide("a1", note(7, "two"), metadata("c1", "hash"))
    repository = Repository(TOY, store, "n1", snapshots)
    for number in range(EVERY):
        await repository.decide("a1", note(number), metadata(f"d{number}", f"hash{number}"))
    await snapshots.settled()
    again = await other.decide("a1", note(7, "two"), metadata("c1", "hash"))
    assert again.repeated is not None and again.events == () and again.version == 2
    assert list(again.repeated.sequences) == [item.sequence for item in first.events]
    with pytest.raises(CommandIdReused):
        await other.decide("a1", note(8), metadata("c1", "another"))


def _flipped(raw: bytes, position: int) -> bytes:
    return raw[:position] + bytes([raw[position] ^ 1]) + raw[position + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: b"",
        lambda raw: b"{}",
        lambda raw: raw[: len(raw) // 2],
        lambda raw: raw + b"x",
        *(lambda raw, part=part: _flipped(raw, len(raw) * part // 20) for part in range(20)),
        lambda raw: _flipped(raw, len(raw) - 1),
    ],
)
async def test_a_damaged_one_is_passed_over(
    store: EventStore, snapshots: Snapshots[State], bus: Bus, read: list[int], damage: Callable[[bytes], bytes]
) -> None:
    await with_snapshot(store, snapshots)
    raw = await stored(bus)
    assert raw is not None
    await bus.publish(snapshot_subject(toy_id("a1")), damage(raw))
    read.clear()
    with capture_logs() as lines:
        loaded = await Repository(TOY, store, "n1", snapshots).load("a1")
    assert read == [EVERY] and seen(loaded) == seen(await folded(store))
    assert len(lines) == (0 if damage(raw) == b"" else 1)
    # It is replaced by a good one.
    await snapshots.settled()
    assert await stored(bus) == raw


async def test_one_of_other_code_is_passed_over(store: EventStore, snapshots: Snapshots[State], bus: Bus) -> None:
    await with_snapshot(store, snapshots)
    toy: Aggregate[Any] = TOY
    agent: Aggregate[Any] = AGENT
    others = [replace(toy, initial_state=list), replace(toy, fold_version=2), replace(agent, name=TOY.name)]
    assert len({snapshots.made_by, *(Snapshots(bus, kind).made_by for kind in others)}) == 4
    for kind in others:
        with capture_logs() as lines:
            assert await Snapshots(bus, kind).read("a1") is None
        assert "another version" in lines[0]["reason"]


@pytest.mark.parametrize("taken_from", ["another aggregate", "events that are gone"])
async def test_one_that_does_not_meet_the_events_is_passed_over(
    store: EventStore, snapshots: Snapshots[State], bus: Bus, taken_from: str
) -> None:
    await with_snapshot(store, snapshots)
    raw = await stored(bus)
    assert raw is not None
    name = "b1" if taken_from == "another aggregate" else "a1"
    if name == "a1":
        stream = (await bus.jetstream.stream_info("L02_EVENTS")).config
        await bus.jetstream.delete_stream("L02_EVENTS")
        await bus.jetstream.add_stream(stream)
    await append_many(store, name, 3 if name == "b1" else EVERY)
    await bus.publish(snapshot_subject(toy_id(name)), raw)
    with capture_logs() as lines:
        loaded = await Repository(TOY, store, "n1", snapshots).load(name)
    assert [line["event"] for line in lines] == ["snapshot passed over: no such event"]
    assert seen(loaded) == seen(await folded(store, name))


async def test_without_its_bucket_all_goes_on(store: EventStore, snapshots: Snapshots[State], bus: Bus) -> None:
    await bus.jetstream.delete_stream(SNAPSHOTS_STREAM)
    with capture_logs() as lines:
        await with_snapshot(store, snapshots)
        repository = Repository(TOY, store, "n1", snapshots)
        assert (await repository.decide("a1", note(1), metadata())).version == EVERY + 1
        await snapshots.settled()
    assert {line["event"] for line in lines} == {"snapshot passed over", "snapshot not written"}


async def test_one_too_large_is_not_kept_and_said_once(
    store: EventStore, snapshots: Snapshots[State], bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_SNAPSHOT_BYTES", 500)
    with capture_logs() as lines:
        for _ in range(3):
            await with_snapshot(store, snapshots) if not lines else await Repository(TOY, store, "n1", snapshots).load(
                "a1"
            )
            await snapshots.settled()
    assert await stored(bus) is None
    assert [line["event"] for line in lines] == ["snapshot too large to be kept"]


async def test_processes_that_race_leave_one_that_fits(
    store: EventStore, snapshots: Snapshots[State], other: Repository[State], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "EVENTS_PER_SNAPSHOT", 3)
    chance = random.Random(1)

    async def add(repository: Repository[State], first: int) -> None:
        for number in range(first, first + 60):
            await repository.decide("a1", note(number), metadata(f"c{number}", "hash"))
            if chance.random() < 0.1:
                repository._loaded.clear()
                await repository.load("a1")

    await asyncio.gather(add(Repository(TOY, store, "n1", snapshots), 0), add(other, 100))
    await snapshots.settled()
    loaded = await Repository(TOY, store, "n1", snapshots).load("a1")
    assert seen(loaded) == seen(await folded(store))
    assert sorted(loaded.state) == [*range(60), *range(100, 160)]


async def test_an_event_of_its_own_is_found_behind_anothers_snapshot(
    store: EventStore, snapshots: Snapshots[State], other: Repository[State], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The acknowledgement is lost, and before the events are searched another process has made a snapshot with them."""
    monkeypatch.setattr(module, "EVENTS_PER_SNAPSHOT", 1)
    append = store.append

    async def unacknowledged(*arguments: Any) -> int:
        monkeypatch.setattr(store, "append", append)
        await append(*arguments)
        await other.record("a1", note("later"))
        assert other._snapshots is not None
        await other._snapshots.settled()
        assert await snapshots.read("a1") is not None
        raise AppendFailed("the answer was lost")

    monkeypatch.setattr(store, "append", unacknowledged)
    decision = await Repository(TOY, store, "n1", snapshots).record("a1", note("mine"))
    assert payloads(decision.events) == ["mine"] and decision.version == 1
    assert payloads(await store.load(toy_id("a1"))) == ["mine", "later"]


async def test_killed_between_append_and_snapshot_nothing_is_lost(
    fresh_nats: EmbeddedNats, store: EventStore, snapshots: Snapshots[State]
) -> None:
    chance = random.Random(7)
    for _ in range(4):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.bus.snapshots_to_kill", fresh_nats.url, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        for _ in range(chance.randint(5, 60)):
            acknowledged = int(await process.stdout.readline())
        process.kill()
        await process.wait()
        # What it sent last may still be on its way to the stream; after an event from here it comes too late.
        await Repository(TOY, store, "n1").record("a1", note("fence"))
        loaded = await Repository(TOY, store, "n1", snapshots).load("a1")
        assert seen(loaded) == seen(await folded(store)) and loaded.version > acknowledged
    assert await snapshots.read("a1") is not None


async def test_an_agent_is_the_same_at_every_point_of_its_life(
    store: EventStore, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "EVENTS_PER_SNAPSHOT", 1)
    async with open_snapshots(bus, AGENT) as snapshots:
        writing: Repository[AgentState] = Repository(AGENT, store, "n1", snapshots)
        sequence = 0
        for version, event in enumerate(agent_life(), start=1):
            payload = message_of(event, version)
            sequence = await store.append(AggregateId(AGENT.name, "a1"), [payload], sequence)
            await writing.load("a1")
            await snapshots.settled()
            restored = await snapshots.read("a1")
            assert restored is not None
            assert seen(restored) == seen(await Repository(AGENT, store, "n1").load("a1"))
            assert restored.version == version


def message_of(event: Event, version: int) -> tuple[str, bytes]:
    raw = encode_event(
        event,
        aggregate=AggregateId(AGENT.name, "a1"),
        event_id=f"e{version}",
        version=version,
        time=datetime.now(UTC),
        metadata=metadata(f"c{version}", "hash"),
    )
    return event_subject(AggregateId(AGENT.name, "a1"), event.type), raw
