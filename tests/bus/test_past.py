"""An aggregate's past is the same whichever way it is read, and far-apart events are not looked for among others'."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l02.bus.connection.bus import Bus
from l02.bus.connection.streams import EVENTS_STREAM
from l02.bus.log import past
from l02.bus.log.event_store import EventStore
from l02.bus.log.past import read_past
from l02.bus.log.repository import Repository
from l02.bus.wire.codec import RecordedEvent
from l02.bus.wire.subjects import AggregateId
from l02.bus.wire.trail import TRAIL_EVENTS, TRAIL_HEADER, extended, read_trail, trail_header
from tests.bus.toy import TOY, append_many, message, metadata, note, payloads, toy_id

FAR = 2 * past._NEAR_SEQUENCES


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> list[AggregateId]:
    """Whose events the server was asked to look for among others'."""
    found: list[AggregateId] = []
    search = past._in_one_go

    async def counted(bus: Bus, aggregate: AggregateId, after: int) -> list[RecordedEvent]:
        found.append(aggregate)
        return await search(bus, aggregate, after)

    monkeypatch.setattr(past, "_in_one_go", counted)
    return found


async def write_far_apart(store: EventStore, count: int) -> None:
    repository = Repository(TOY, store, "n1")
    for number in range(count):
        await repository.decide("a1", note(number), metadata())
        await append_many(store, f"other{number}", FAR)


@pytest.mark.parametrize("count", [1, 2, TRAIL_EVENTS + 1, 2 * TRAIL_EVENTS + 5])
async def test_events_far_apart_are_fetched_by_their_sequences(
    bus: Bus, store: EventStore, searches: list[AggregateId], count: int
) -> None:
    await write_far_apart(store, count)
    searches.clear()
    events = await store.load(toy_id("a1"))
    assert payloads(events) == list(range(count)) and searches == []
    assert await store.load(toy_id("a1"), events[0].sequence) == events[1:]
    assert await store.load(toy_id("a1"), events[-1].sequence - 1) == events[-1:]
    assert await store.load(toy_id("a1"), events[-1].sequence) == []
    assert searches == []


async def test_events_side_by_side_are_read_in_one_go(store: EventStore, searches: list[AggregateId]) -> None:
    await append_many(store, "a1", 1_000)
    assert payloads(await store.load(toy_id("a1"))) == list(range(1, 1_001))
    assert searches == [toy_id("a1")]


async def test_whichever_way_it_is_read_it_is_the_same(bus: Bus, store: EventStore) -> None:
    chance = random.Random(3)
    repository = Repository(TOY, store, "n1")
    for number in range(60):
        await repository.decide("a1", note(number, chance.choice(["add", "two"])), metadata())
        if chance.random() < 0.3:
            await append_many(store, f"other{number}", chance.randrange(1, 3 * FAR))
        if chance.random() < 0.1:
            repository = Repository(TOY, store, "n1")
    events = await past._in_one_go(bus, toy_id("a1"), 0)
    assert await store.load(toy_id("a1")) == events
    for _ in range(30):
        after = chance.choice(events).sequence - chance.randrange(2)
        assert await store.load(toy_id("a1"), after) == [item for item in events if item.sequence > after]


async def test_events_from_before_there_were_trails_are_found(
    bus: Bus, store: EventStore, searches: list[AggregateId]
) -> None:
    for version in range(1, 4):
        await bus.publish(*message("a1", version))
        await append_many(store, f"other{version}", FAR)
    assert payloads(await store.load(toy_id("a1"))) == [1, 2, 3] and len(searches) == 1
    await Repository(TOY, store, "n1").decide("a1", note("new"), metadata())
    assert payloads(await store.load(toy_id("a1"))) == [1, 2, 3, "new"] and len(searches) == 2


@pytest.mark.parametrize("wrong", ["others", "a gap", "beyond the end"])
async def test_a_trail_that_leads_astray_is_passed_over(
    bus: Bus, store: EventStore, searches: list[AggregateId], wrong: str
) -> None:
    await write_far_apart(store, 3)
    first, second, last = [item.sequence for item in await store.load(toy_id("a1"))]
    trail = {"others": (first, second, last + 1), "a gap": (first, last), "beyond the end": (first, 10**9)}[wrong]
    await append_many(store, "other", FAR)
    await bus.publish(*message("a1", 4, "end"), headers={TRAIL_HEADER: trail_header(trail, 0)})
    assert payloads(await store.load(toy_id("a1"))) == [0, 1, 2, "end"] and searches == [toy_id("a1")]


async def test_the_stream_holds_the_trail_beside_the_event_and_not_in_it(bus: Bus, store: EventStore) -> None:
    first = await store.append(toy_id("a1"), [message("a1", 1)], 0)
    subject, raw = message("a1", 2)
    await store.append(toy_id("a1"), [(subject, raw), message("a1", 3)], first, (first,))
    found = [await bus.stored(EVENTS_STREAM, sequence=sequence) for sequence in (1, 2, 3)]
    assert [item and read_trail(item.headers, sequence) for sequence, item in enumerate(found, start=1)] == [
        (),
        (1,),
        (1, 2),
    ]
    assert found[1] is not None and found[1].data == raw
    assert [item.sequence for item in await read_past(bus, toy_id("a1"))] == [1, 2, 3]


@given(
    st.lists(st.integers(1, 2**62), max_size=TRAIL_EVENTS, unique=True).map(sorted),
    st.integers(0, 999),
    st.integers(2**63, 2**64),
)
def test_what_a_header_says_is_read(trail: Sequence[int], place: int, sequence: int) -> None:
    headers = {TRAIL_HEADER: trail_header(trail, place)}
    assert read_trail(headers, sequence) == (*trail, *range(sequence - place, sequence))


@given(st.text(max_size=40), st.integers(1, 2**64))
def test_any_other_header_is_no_trail_or_leads_back(text: str, sequence: int) -> None:
    trail = read_trail({TRAIL_HEADER: text}, sequence)
    assert trail is None or (all(0 < earlier < sequence for earlier in trail) and len(trail) <= sequence)


@given(st.lists(st.integers(1, 2**63), max_size=40))
def test_a_trail_keeps_the_last_ones(sequences: list[int]) -> None:
    trail: tuple[int, ...] = ()
    for sequence in sequences:
        trail = extended(trail, sequence)
    assert list(trail) == sequences[-TRAIL_EVENTS:]
