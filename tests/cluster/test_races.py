"""Two processes write to one aggregate of a replicated stream at the same moment: never do both win."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from itertools import chain

import pytest
import pytest_asyncio

from l02.bus.log.event_store import Conflict, EventStore
from l02.bus.log.repository import Repository
from tests.bus.toy import TOY, State, another_process, message, metadata, note, payloads, toy_id
from tests.cluster.servers import Cluster

Append = list[tuple[str, bytes]]
ROUNDS = 60
BESIDES = 20


@pytest_asyncio.fixture
async def stores(cluster: Cluster) -> AsyncIterator[list[EventStore]]:
    """Of two processes, each at a server of its own."""
    async with (
        another_process(cluster.servers[0].url) as (_, one),
        another_process(cluster.servers[1].url) as (_, other),
    ):
        yield [one, other]


@pytest.fixture
def repositories(stores: list[EventStore]) -> list[Repository[State]]:
    return [Repository(TOY, store, "n1") for store in stores]


async def race(stores: Sequence[EventStore], name: str, kinds: Sequence[str], after: int, version: int) -> list[int]:
    """Both append after the same event at once, as `kinds` say; what each was told, 0 for a conflict."""

    async def write(place: int, store: EventStore, kind: str) -> int:
        count = 3 if kind == "batch" else 1
        mine = [message(name, version + offset, [place, offset]) for offset in range(1, count + 1)]
        besides = [f"{name}-{place}-{version}-{number}" for number in range(BESIDES if kind == "group" else 0)]
        appends = [store.append(toy_id(name), mine, after), *(_alone(store, besides_id) for besides_id in besides)]
        won, *others = await asyncio.gather(*appends, return_exceptions=True)
        assert all(isinstance(other, int) for other in others), "a conflict has failed others of its batch"
        assert isinstance(won, int | Conflict), won
        return won if isinstance(won, int) else 0

    return await asyncio.gather(
        *(write(n, store, kind) for n, (store, kind) in enumerate(zip(stores, kinds, strict=True)))
    )


def _alone(store: EventStore, name: str) -> asyncio.Future[int]:
    return asyncio.ensure_future(store.append(toy_id(name), [message(name, 1)], 0))


@pytest.mark.parametrize(
    "kinds",
    [
        ("single", "single"),
        ("batch", "batch"),
        ("single", "batch"),
        ("group", "group"),
        ("group", "single"),
        ("group", "batch"),
    ],
    ids="-".join,
)
async def test_two_writers_never_both_win(stores: list[EventStore], kinds: tuple[str, str]) -> None:
    name = f"race-{'-'.join(kinds)}"
    after = version = 0
    won: Counter[int | None] = Counter()
    for _ in range(ROUNDS):
        told = await race(stores, name, kinds, after, version)
        winners = [place for place, sequence in enumerate(told) if sequence]
        assert len(winners) <= 1, f"both have won after sequence {after}"
        won[winners[0] if winners else None] += 1
        events = await stores[0].load(toy_id(name))
        assert [item.version for item in events] == list(range(1, len(events) + 1))
        assert [item.sequence for item in events] == [item.sequence for item in await stores[1].load(toy_id(name))]
        new = payloads(events)[version:]
        assert {place for place, _ in new} == set(winners)
        if winners:
            after, version = told[winners[0]], len(events)
            assert events[-1].sequence == after
    print(f"{ROUNDS} races, won: {dict(won)}", end=" ")
    assert won[0] + won[1] >= ROUNDS * 0.9


async def test_both_come_through_on_one_aggregate_without_waiting_long(repositories: list[Repository[State]]) -> None:
    """Conflicts are decided again on what the leader has, so ten tries are never used up."""

    async def add(asked: Repository[State], place: int) -> list[float]:
        took = []
        for number in range(100):
            began = time.perf_counter()
            await asked.decide("both", note([place, number]), metadata(f"{place}-{number}", "hash"))
            took.append(time.perf_counter() - began)
        return took

    lists = await asyncio.gather(*(add(asked, place) for place, asked in enumerate(repositories)))
    took = sorted(chain.from_iterable(lists))
    stored = payloads(await repositories[0].store.load(toy_id("both")))
    for place in (0, 1):
        assert [number for whose, number in stored if whose == place] == list(range(100))
    print(f"decision p50 {took[100] * 1000:.1f} ms, p99 {took[198] * 1000:.1f} ms", end=" ")


@pytest.mark.parametrize("seed", range(2))
async def test_each_decision_is_made_exactly_once(repositories: list[Repository[State]], seed: int) -> None:
    """Every payload is wanted by both, in an order of their own; `once` lets one of them have it."""
    chance = random.Random(seed)

    async def decide_all(asked: Repository[State]) -> list[str]:
        made = []
        for payload in chance.sample(range(60), 60):
            decision = await asked.record(f"once-{seed}-{payload % 3}", note(payload, "once"))
            made += [item.event_id for item in decision.events]
        return made

    lists = await asyncio.gather(*(decide_all(asked) for asked in repositories * 2))
    store = repositories[0].store
    stored = [item for number in range(3) for item in await store.load(toy_id(f"once-{seed}-{number}"))]
    assert sorted(payloads(stored)) == list(range(60))
    assert sorted(event_id for one in lists for event_id in one) == sorted(item.event_id for item in stored)
