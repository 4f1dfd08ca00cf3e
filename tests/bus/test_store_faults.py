"""The server is killed or paused at random moments: what was acknowledged is there, once, and writers go on."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time

import psutil
import pytest

from l02.bus.connection.bus import Bus
from l02.bus.connection.streams import EVENTS_STREAM
from l02.bus.embedded import EmbeddedNats
from l02.bus.jetstream import group_commit
from l02.bus.log.event_store import EventStore
from l02.bus.log.repository import Repository
from tests.bus import toy
from tests.bus.faults import Acknowledged, all_events, kill, write_for_ever
from tests.bus.toy import TOY, message, payloads, toy_id, until

pytestmark = pytest.mark.usefixtures("patient_keeper")


async def hold_under_kills(server: EmbeddedNats, bus: Bus, store: EventStore, kills: int) -> None:
    repository = Repository(TOY, store, "n1")
    acknowledged: Acknowledged = {}
    chance = random.Random(kills)
    writers = [asyncio.create_task(write_for_ever(repository, f"a{number}", acknowledged)) for number in range(64)]
    slowest = 0.0
    try:
        for _ in range(kills):
            await asyncio.sleep(chance.uniform(0.05, 0.5))
            await kill(server)
            began, before = time.monotonic(), sum(map(len, acknowledged.values()))
            await until(lambda before=before: sum(map(len, acknowledged.values())) > before)  # type: ignore[misc]
            slowest = max(slowest, time.monotonic() - began)
    finally:
        for writer in writers:
            writer.cancel()
        ended = await asyncio.gather(*writers, return_exceptions=True)
    assert all(isinstance(error, asyncio.CancelledError) for error in ended)
    found = await all_events(bus)
    for name, ids in acknowledged.items():
        # A writer that was cancelled may have stored one decision more than it was told of.
        assert found[name][: len(ids)] == ids and len(found[name]) <= len(ids) + 2
        assert len(set(found[name])) == len(found[name])
    print(f"{sum(map(len, acknowledged.values()))} acknowledged, {kills} kills, back after {slowest:.2f} s at most")


@pytest.mark.parametrize("fresh_nats", ["synced"], indirect=True)
async def test_killed_under_load_the_server_loses_nothing(
    fresh_nats: EmbeddedNats, bus: Bus, store: EventStore
) -> None:
    await hold_under_kills(fresh_nats, bus, store, 15)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("fresh_nats", ["synced"], indirect=True)
async def test_killed_hundreds_of_times_the_server_loses_nothing(
    fresh_nats: EmbeddedNats, bus: Bus, store: EventStore
) -> None:
    await hold_under_kills(fresh_nats, bus, store, 300)


async def test_a_decision_whose_acknowledgement_was_lost_is_not_made_twice(
    fresh_nats: EmbeddedNats, bus: Bus, store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server is paused for longer than an append waits, so the append is stored after it was given up."""
    monkeypatch.setattr(group_commit, "_ACK_SECONDS", 1.0)
    repository = Repository(TOY, store, "n1")
    await repository.record("a1", toy.note(0))
    os.kill(fresh_nats.pid, signal.SIGSTOP)
    await until(lambda: psutil.Process(fresh_nats.pid).status() == psutil.STATUS_STOPPED)
    decisions = [asyncio.create_task(repository.record(f"a{number}", toy.note(number))) for number in range(30)]
    await asyncio.sleep(1.5)
    assert not any(task.done() for task in decisions)
    os.kill(fresh_nats.pid, signal.SIGCONT)
    for number, decision in enumerate(await asyncio.gather(*decisions)):
        assert len(decision.events) == 1 and decision.version == (2 if number == 1 else 1)
    assert payloads(await store.load(toy_id("a1"))) == [0, 1]
    assert (await bus.jetstream.stream_info(EVENTS_STREAM)).state.messages == 31


async def test_an_append_given_up_and_stored_later_is_not_decided_again(
    fresh_nats: EmbeddedNats, bus: Bus, store: EventStore
) -> None:
    """Killed just after it has stored what it could not acknowledge: the event is found and is the decision."""
    for number in range(1, 8):
        repository = Repository(TOY, store, "n1")
        task = asyncio.create_task(repository.record("a1", toy.note(number)))
        await asyncio.sleep(0.0005 * number)
        await kill(fresh_nats)
        decision = await task
        assert decision.version == number and len(decision.events) == 1
        assert payloads(await store.load(toy_id("a1"))) == list(range(1, number + 1))


async def test_recording_waits_for_a_server_that_is_down(
    fresh_nats: EmbeddedNats, bus: Bus, store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("l02.bus.log.patience._UNREACHABLE_SECONDS", 0.5)
    repository = Repository(TOY, store, "n1")
    await repository.record("a1", toy.note(1))
    await fresh_nats.stop()
    cached = asyncio.create_task(repository.record("a1", toy.note(2)))
    unknown = asyncio.create_task(repository.record("a2", toy.note(1)))
    await asyncio.sleep(1.5)
    assert not cached.done() and not unknown.done()
    await fresh_nats.start()
    assert (await cached).version == 2 and (await unknown).version == 1
    assert payloads(await store.load(toy_id("a1"))) == [1, 2]


async def test_a_restart_costs_writers_no_timeout(fresh_nats: EmbeddedNats, bus: Bus, store: EventStore) -> None:
    await store.append(toy_id("a1"), [message("a1", 1)], 0)
    repository = Repository(TOY, store, "n1")
    for number in range(3):
        task = asyncio.create_task(repository.record("a1", toy.note(number)))
        await asyncio.sleep(0)
        await kill(fresh_nats)
        async with asyncio.timeout(3):
            await task
