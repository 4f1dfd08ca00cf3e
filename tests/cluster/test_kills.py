"""One of three servers is killed under load: nothing acknowledged is lost, doubled or out of order; writers go on."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from l02.bus.connection.bus import Bus, connect
from l02.bus.connection.streams import EVENTS_STREAM
from l02.bus.log.event_store import open_event_store
from l02.bus.log.repository import Repository
from tests.bus.faults import Acknowledged, all_events, kill_for_good, write_for_ever
from tests.bus.toy import TABLE, TOY, State, note, until
from tests.cluster.servers import Cluster, ClusterServer

PROCESSES = 3
OWN_WRITERS = 8
SHARED = 4
# An election takes 4 to 9 s; an append that was under way is given up after 5 s, and found or made anew.
PAUSE_SECONDS = 20.0


class Load:
    """Writers in several processes, most with aggregates of their own, some with aggregates they share."""

    def __init__(self, label: str) -> None:
        self._label = label
        self.own: Acknowledged = {}
        self.shared: dict[int, list[str]] = {process: [] for process in range(PROCESSES)}

    @property
    def acknowledged(self) -> int:
        return sum(map(len, (*self.own.values(), *self.shared.values())))

    @asynccontextmanager
    async def running(self, cluster: Cluster) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            tasks = []
            for process in range(PROCESSES):
                bus = await stack.enter_async_context(connect(cluster.url, name=f"writer {process}", aggregates=TABLE))
                repository = Repository(TOY, await stack.enter_async_context(open_event_store(bus)), "n1")
                names = [f"{self._label}-{process}-{number}" for number in range(OWN_WRITERS)]
                tasks += [asyncio.create_task(write_for_ever(repository, name, self.own)) for name in names]
                tasks.append(asyncio.create_task(self._share(repository, process)))
            try:
                yield
                assert not [task.exception() for task in tasks if task.done()], "a writer has given up"
            finally:
                for task in tasks:
                    task.cancel()
                ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(error, asyncio.CancelledError) for error in ended), ended

    async def _share(self, repository: Repository[State], process: int) -> None:
        number = 0
        while True:
            number += 1
            name = f"{self._label}-shared-{number % SHARED}"
            decision = await repository.record(name, note([process, number]))
            self.shared[process] += [item.event_id for item in decision.events]

    async def hold(self, bus: Bus) -> None:
        """What was acknowledged is there, once, in order; `all_events` sees that no version is missing or double."""
        found = {name: ids for name, ids in (await all_events(bus)).items() if name.startswith(f"{self._label}-")}
        everything = [event_id for ids in found.values() for event_id in ids]
        assert len(everything) == len(set(everything))
        for name, ids in self.own.items():
            # A writer that was cancelled may have stored one decision more than it was told of.
            assert found[name][: len(ids)] == ids and len(found[name]) <= len(ids) + 2
        places = {event_id: (name, place) for name, ids in found.items() for place, event_id in enumerate(ids)}
        for ids in self.shared.values():
            newest: dict[str, int] = {}
            for event_id in ids:
                name, place = places[event_id]
                assert place > newest.get(name, -1)
                newest[name] = place


async def kill_and_go_on(cluster: Cluster, victim: ClusterServer, load: Load) -> tuple[float, float]:
    """Kill one and wait until every writer's aggregate has grown; how long until the first, and until the last."""
    await kill_for_good(victim)
    began, before = time.monotonic(), {name: len(ids) for name, ids in load.own.items()}
    total = load.acknowledged
    await until(lambda: load.acknowledged > total, seconds=PAUSE_SECONDS)
    first = time.monotonic() - began
    await until(lambda: all(len(load.own[name]) > count for name, count in before.items()), seconds=PAUSE_SECONDS)
    return first, time.monotonic() - began


async def hold_under_kills(cluster: Cluster, bus: Bus, label: str, kills: int, chance: random.Random) -> None:
    load = Load(label)
    pauses = []
    async with load.running(cluster):
        await until(lambda: len(load.own) == PROCESSES * OWN_WRITERS)
        for number in range(kills):
            await asyncio.sleep(chance.uniform(0.1, 0.5))
            leads = number % 2 == 0
            victim = await cluster.leader(bus, EVENTS_STREAM) if leads else chance.choice(cluster.servers)
            pauses.append(await kill_and_go_on(cluster, victim, load))
            await victim.start()
            await cluster.settled(bus)
    await load.hold(bus)
    firsts, lasts = zip(*pauses, strict=True)
    said = ", ".join(f"{first:.1f}/{last:.1f}" for first, last in pauses[:12])
    print(f"{load.acknowledged} acknowledged, {kills} kills; first/last writer on after {said} s", end=" ")
    print(f"(worst {max(firsts):.1f}/{max(lasts):.1f})")


async def test_killed_at_random_under_load_it_loses_nothing(cluster: Cluster, bus: Bus) -> None:
    await hold_under_kills(cluster, bus, "kills", 2, random.Random())


@pytest.mark.soak
@pytest.mark.timeout(1800)
async def test_killed_many_times_under_load_it_loses_nothing(cluster: Cluster, bus: Bus) -> None:
    await hold_under_kills(cluster, bus, "soak", 40, random.Random())


@pytest.mark.soak
async def test_without_a_majority_it_acknowledges_nothing_and_loses_nothing(cluster: Cluster, bus: Bus) -> None:
    load = Load("majority")
    async with load.running(cluster):
        await until(lambda: len(load.own) == PROCESSES * OWN_WRITERS)
        victims = [await cluster.leader(bus, EVENTS_STREAM), (await cluster.followers(bus, EVENTS_STREAM))[0]]
        await asyncio.gather(*map(kill_for_good, victims))
        before = load.acknowledged
        await asyncio.sleep(8)
        assert load.acknowledged == before
        await cluster.start()
        await until(lambda: load.acknowledged > before, seconds=30)
    await load.hold(bus)
