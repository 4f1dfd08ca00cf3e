"""On a replicated stream any copy answers a read: no decision rests on one that lags, or on a leader that was."""

from __future__ import annotations

import asyncio
import os
import signal as signals
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio

from l02.bus.connection.bus import Bus
from l02.bus.connection.streams import EVENTS_STREAM
from l02.bus.log.repository import Repository
from l02.bus.wire.subjects import aggregate_filter
from l02.domain.errors import Failure
from tests.bus.toy import TOY, another_process, message, metadata, note, payloads, toy_id, until
from tests.cluster.servers import Cluster, ClusterServer

# More than the kernel holds for a paused server.
TEXT = os.urandom(450_000).hex()
LARGE_EVENTS = 64


async def test_what_was_acknowledged_is_seen_by_everybody_at_once(cluster: Cluster) -> None:
    async with (
        another_process(cluster.servers[0].url) as (_, one),
        another_process(cluster.servers[1].url) as (_, two),
        another_process(cluster.servers[2].url) as (_, three),
    ):
        others = [Repository(TOY, two, "n1"), Repository(TOY, three, "n1")]
        writer = Repository(TOY, one, "n1")
        for number in range(200):
            decision = await writer.decide("seen", note(number), metadata())
            for loaded in await asyncio.gather(*(other.load("seen") for other in others)):
                assert loaded.version == decision.version == number + 1


@pytest_asyncio.fixture
async def lagging(cluster: Cluster, bus: Bus) -> ClusterServer:
    return (await cluster.followers(bus, EVENTS_STREAM))[0]


async def gives_the_past(bus: Bus, name: str, newest: int) -> bool:
    """Whether a copy that answers does not know the aggregate's newest event. Any may be asked, so all are, often."""

    async def ask() -> bool:
        try:
            found = await bus.stored(EVENTS_STREAM, last_on=aggregate_filter(toy_id(name)), timeout=0.1)
        except TimeoutError:
            return False
        return found is None or found.headers is None or int(found.headers["Nats-Sequence"]) < newest

    return any(await asyncio.gather(*(ask() for _ in range(20))))


async def test_a_copy_that_lags_is_not_believed(cluster: Cluster, bus: Bus, lagging: ClusterServer) -> None:
    """It is paused until it is behind, and then is the only one that answers; a refusal waits for the others."""
    _, writing = await cluster.followers(bus, EVENTS_STREAM)
    leader = await cluster.leader(bus, EVENTS_STREAM)
    async with (
        another_process(writing.url) as (_, store),
        another_process(lagging.url) as (there, store_there),
    ):
        repository = Repository(TOY, store, "n1")
        refusing = Repository(TOY, store_there, "n1")
        await repository.decide("lag", note("first"), metadata())
        with pytest.raises(Failure):
            await refusing.decide("lag", note(1, "unless-opened"), metadata())
        async with lagging.paused():
            for number in range(LARGE_EVENTS):
                await store.append(toy_id(f"lag-{number}"), [message(f"lag-{number}", 1, TEXT)], 0)
            opened = await repository.decide("lag", note("open"), metadata())
            async with leader.paused(), writing.paused():
                os.kill(lagging.pid, signals.SIGCONT)
                decision = asyncio.create_task(refusing.decide("lag", note(1, "unless-opened"), metadata()))
                loading = [asyncio.create_task(Repository(TOY, store_there, "n1").load("lag")) for _ in range(20)]
                await until(lambda: gives_the_past(there, "lag", opened.events[-1].sequence))
        assert (await decision).version == 3
        assert all(loaded.version >= 2 for loaded in await asyncio.gather(*loading))


async def test_a_leader_that_was_is_not_believed(cluster: Cluster, bus: Bus) -> None:
    """It is paused until there is another, and does not know of it when it goes on."""
    old = await cluster.leader(bus, EVENTS_STREAM)
    other = (await cluster.followers(bus, EVENTS_STREAM))[0]
    async with another_process(old.url) as (of_old, there), another_process(other.url) as (_, store):
        refusing = Repository(TOY, there, "n1")
        await refusing.decide("former", note("first"), metadata())
        async with _paused_having_read_all(bus, old):
            await Repository(TOY, store, "n1").record("former", note("open"))
            decision = asyncio.create_task(refusing.decide("former", note(1, "unless-opened"), metadata()))
            loading = [asyncio.create_task(Repository(TOY, there, "n1").load("former")) for _ in range(20)]
            await until(lambda: len(of_old.requests._open) > len(loading))  # all wait for the answer of one that hangs
        assert (await decision).version == 3
        assert all(loaded.version >= 2 for loaded in await asyncio.gather(*loading))
        assert payloads(await store.load(toy_id("former"))) == ["first", "open", 1]


@asynccontextmanager
async def _paused_having_read_all(bus: Bus, leader: ClusterServer) -> AsyncIterator[None]:
    """An answer of its followers that it has not read yet would look fresh to it: what `leader` leaves open."""
    while True:
        began = time.monotonic()
        if (quiet := await _quiet_seconds(bus)) <= 0:
            continue
        async with leader.paused():
            if time.monotonic() < began + quiet:
                yield
                return


async def _quiet_seconds(bus: Bus) -> float:
    """For how long at least the leader of the events says nothing, as its next heartbeat comes a second after its last
    word; 0 if its followers have not answered all of that yet.
    """
    copies = (await bus.api(f"STREAM.INFO.{EVENTS_STREAM}", {}))["cluster"]["replicas"]
    if not all(copy["current"] and not copy.get("lag") and copy["active"] > 50_000_000 for copy in copies):
        return 0.0
    return 0.9 - max(int(copy["active"]) for copy in copies) / 1e9
