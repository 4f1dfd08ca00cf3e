"""Deciding and appending as one step, whoever else decides at the same time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from l02.bus.log.event_store import EventStore
from l02.bus.log.repository import Repository
from l02.bus.wire.codec import RecordedEvent, UnreadableEvent
from l02.bus.wire.incoming import CommandIdReused
from l02.domain.errors import ErrorCode, Failure
from l02.domain.kernel.message import Context, Event
from tests.bus.toy import TOY, Note, State, message, metadata, note, payloads, toy_id


async def test_a_decision_says_what_it_stored(repository: Repository[State], store: EventStore) -> None:
    heard: list[RecordedEvent] = []
    repository.on_recorded(heard.append)
    decision = await repository.decide("a1", note(7, "two"), metadata("c1", "hash"))
    assert decision.version == 2 and decision.repeated is None
    assert list(decision.events) == heard == await store.load(toy_id("a1"))
    assert [item.metadata.command_hash for item in heard] == ["hash", None]


async def test_a_repeated_command_is_answered_and_not_decided(
    repository: Repository[State], other: Repository[State], store: EventStore
) -> None:
    await repository.decide("a1", note(7, "two"), metadata("c1", "hash"))
    await repository.decide("a1", note(8), metadata("c2", "hash2"))
    for asked in (repository, other, Repository(TOY, store, "n1")):
        again = await asked.decide("a1", note(7, "two"), metadata("c1", "hash"), expected_version=0)
        assert again.repeated is not None and again.events == () and again.version == 2
        assert list(again.repeated.sequences) == [1, 2]
        with pytest.raises(CommandIdReused) as reused:
            await asked.decide("a1", note(9), metadata("c1", "another"))
        assert reused.value.code is ErrorCode.COMMAND_INVALID
    assert len(await store.load(toy_id("a1"))) == 3


async def test_a_command_is_completed_before_it_is_decided(repository: Repository[State]) -> None:
    async def prepare(command: Note, context: Context) -> Note:
        if command.payload == "unknown":
            raise Failure(ErrorCode.AGGREGATE_NOT_FOUND, "nobody knows it")
        return replace(command, payload=f"{command.payload}, known")

    repository.before_deciding(Note, prepare)
    await repository.decide("a1", note("this"), metadata("c1", "hash"))
    assert (await repository.load("a1")).state == ("this, known",)
    with pytest.raises(Failure, match="nobody knows it"):
        await repository.decide("a1", note("unknown"), metadata())
    again = await repository.decide("a1", note("unknown"), metadata("c1", "hash"))
    assert again.repeated is not None, "what was handled is not looked up again"


async def test_what_has_to_stand_before_the_events_does(repository: Repository[State], store: EventStore) -> None:
    asked: list[tuple[str, int]] = []

    async def prepare(aggregate_id: str, events: Sequence[Event]) -> None:
        assert await store.load(toy_id("a1")) == []
        asked.append((aggregate_id, len(events)))
        if len(asked) == 1:
            raise TimeoutError

    repository.before_storing(prepare)
    with pytest.raises(Failure):
        await repository.decide("a1", note(1, "unless-opened"), metadata("c0", "hash"), expected_version=7)
    assert asked == [], "nothing is stored"
    decision = await repository.decide("a1", note(7, "two"), metadata("c1", "hash"))
    assert asked == [("a1", 2)] * 2, "what did not answer is asked again"
    assert await store.load(toy_id("a1")) == list(decision.events)


async def test_an_expected_version_that_does_not_fit_is_a_conflict(
    repository: Repository[State], other: Repository[State]
) -> None:
    await repository.decide("a1", note(1), metadata(), expected_version=0)
    with pytest.raises(Failure) as refused:
        await repository.decide("a1", note(2), metadata(), expected_version=0)
    assert refused.value.code is ErrorCode.CONFLICT and refused.value.path == "$.expected_version"
    await other.decide("a1", note(2), metadata(), expected_version=1)
    # What this process knows is old by now, and the version fits the stream.
    await repository.decide("a1", note(3), metadata(), expected_version=2)


async def test_a_refusal_does_not_rest_on_an_old_state(repository: Repository[State], other: Repository[State]) -> None:
    with pytest.raises(Failure):
        await repository.decide("a1", note(1, "unless-opened"), metadata())
    await repository.decide("a1", note("first"), metadata())
    await other.decide("a1", note("open"), metadata())
    decision = await repository.decide("a1", note(1, "unless-opened"), metadata())
    assert decision.version == 3


async def test_a_refusal_does_not_rest_on_an_old_state_that_was_put_out_of_the_cache(
    repository: Repository[State], other: Repository[State], monkeypatch: pytest.MonkeyPatch
) -> None:
    await repository.decide("a1", note("first"), metadata())
    await other.decide("a1", note("open"), metadata())
    monkeypatch.setattr("l02.bus.log.repository._CACHED_AGGREGATES", 1)
    both = await asyncio.gather(
        repository.decide("a1", note(1, "unless-opened"), metadata()),
        *(repository.decide(f"b{number}", note(1), metadata()) for number in range(20)),
    )
    assert both[0].version == 3


async def test_a_decision_for_nothing_does_not_rest_on_an_old_state(
    repository: Repository[State], other: Repository[State]
) -> None:
    await repository.decide("a1", note("x", "once"), metadata())
    assert (await repository.decide("a1", note("x", "once"), metadata())).events == ()
    await other.decide("a1", note("y", "once"), metadata())
    decision = await repository.decide("a1", note("y", "once"), metadata())
    assert decision.events == () and decision.version == 2


@pytest.mark.parametrize("seed", range(5))
async def test_processes_that_race_make_each_decision_exactly_once(
    repository: Repository[State], other: Repository[State], store: EventStore, seed: int
) -> None:
    """Every payload is wanted by both processes, in an order of their own; `once` lets one of them have it."""
    chance = random.Random(seed)

    async def decide_all(asked: Repository[State]) -> list[str]:
        made = []
        for payload in chance.sample(range(60), 60):
            name = f"a{payload % 3}"
            if chance.random() < 0.1:
                await asked.load(name)
            decision = await asked.record(name, note(payload, "once"))
            made += [item.event_id for item in decision.events]
            await asyncio.sleep(chance.choice([0, 0, 0.001]))
        return made

    lists = await asyncio.gather(*(decide_all(asked) for asked in (repository, other) * 2))
    made = [event_id for one in lists for event_id in one]
    stored = [item for number in range(3) for item in await store.load(toy_id(f"a{number}"))]
    assert sorted(payloads(stored)) == list(range(60))
    assert sorted(made) == sorted(item.event_id for item in stored)


async def test_both_processes_come_through_on_one_aggregate(
    repository: Repository[State], other: Repository[State], store: EventStore
) -> None:
    async def add(asked: Repository[State], first: int) -> None:
        for number in range(first, first + 50):
            await asked.decide("a1", note(number), metadata(f"c{number}", "hash"))

    await asyncio.gather(add(repository, 0), add(other, 100))
    events = payloads(await store.load(toy_id("a1")))
    assert [number for number in events if number < 100] == list(range(50))
    assert [number for number in events if number >= 100] == list(range(100, 150))


async def test_a_cancelled_decision_is_made_once_or_not_at_all(
    repository: Repository[State], store: EventStore
) -> None:
    for number in range(30):
        task = asyncio.create_task(repository.decide("a1", note(number), metadata(f"c{number}", "hash")))
        for _ in range(number % 10):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        await repository.decide("a1", note(number), metadata(f"c{number}", "hash"))
    assert payloads(await store.load(toy_id("a1"))) == list(range(30))
    assert repository._locks == {}


async def test_a_faulty_decider_leaves_the_aggregate_usable(repository: Repository[State]) -> None:
    with pytest.raises(RuntimeError):
        await repository.decide("a1", note(1, "boom"), metadata())
    assert (await repository.decide("a1", note(2), metadata())).version == 1


async def test_a_gap_in_an_aggregate_is_never_passed_over(repository: Repository[State], store: EventStore) -> None:
    first = await store.append(toy_id("a1"), [message("a1", 1)], 0)
    await store.append(toy_id("a1"), [message("a1", 3)], first)
    with pytest.raises(UnreadableEvent, match="version 1 to 3"):
        await repository.load("a1")


async def test_what_is_kept_in_memory_is_bounded(
    repository: Repository[State], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("l02.bus.log.repository._CACHED_AGGREGATES", 10)
    for number in range(30):
        await repository.decide(f"a{number}", note(1), metadata())
    assert len(repository._loaded) == 10
    assert (await repository.decide("a0", note(2), metadata())).version == 2
