"""Timers: set, replaced, cancelled; each fires once, also those that come due while the server is down."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime, timedelta

import msgspec
import psutil
import pytest

from l02.bus.commands.timers import cancel_timer, set_timer
from l02.bus.connection.bus import Bus
from l02.bus.connection.leader import standing_of
from l02.bus.connection.streams import TIMERS_STREAM
from l02.bus.embedded import EmbeddedNats
from l02.bus.log.event_store import EventStore
from l02.bus.log.reader import read_stream
from l02.bus.log.repository import Repository
from l02.bus.wire.subjects import DUE, TIMERS
from tests.bus.faults import kill, kill_for_good
from tests.bus.toy import Remind, State, outcome, payloads, processing, toy_id, until

VERB = Remind.verb
SOON = timedelta(seconds=2)
FAR = timedelta(hours=1)


async def set_one(bus: Bus, name: str, payload: str, due: datetime, aggregate_id: str = "a1") -> None:
    body = msgspec.json.encode({"payload": payload})
    await set_timer(bus, toy_id(aggregate_id), name, due=due, verb=VERB, body=body, command_id=f"{name}-{payload}")


async def pending(bus: Bus) -> int:
    return (await standing_of(bus, TIMERS_STREAM, f"{TIMERS}.>")).messages


async def is_empty(bus: Bus) -> bool:
    return await pending(bus) == 0


async def fired(bus: Bus) -> Counter[str]:
    """How often each command id stands in the stream of commands."""
    standing = await standing_of(bus, TIMERS_STREAM, f"{DUE}.>")
    found: Counter[str] = Counter()
    async with read_stream(bus, TIMERS_STREAM, filters=[f"{DUE}.>"]) as reader:
        while found.total() < standing.messages:
            found.update((message.headers or {})["L02-Command-Id"] for message in await reader.next_batch())
    return found


async def test_a_timer_fires_once_also_after_a_restart_of_the_server(
    fresh_nats: EmbeddedNats, bus: Bus, repository: Repository[State], store: EventStore
) -> None:
    due = datetime.now(UTC) + SOON
    await set_one(bus, "kept", "kept", due)
    await set_one(bus, "replaced", "old", due)
    await set_one(bus, "replaced", "new", due + timedelta(seconds=1))
    await fresh_nats.stop()
    await fresh_nats.start()
    async with processing(bus, repository):
        assert (await outcome(bus, "kept-kept")).ok
        assert datetime.now(UTC) >= due
        said = await outcome(bus, "replaced-new")
        assert said.version == 2
    events = await store.load(toy_id("a1"))
    assert payloads(events) == ["kept", "new"]
    assert {item.metadata.actor for item in events} == {"timer"}
    assert await pending(bus) == 0


async def test_a_cancelled_timer_does_not_fire(bus: Bus) -> None:
    due = datetime.now(UTC) + SOON
    for name in ("kept", "cancelled", "set-again"):
        await set_one(bus, name, "1", due)
    assert await cancel_timer(bus, toy_id("a1"), "cancelled")
    assert await cancel_timer(bus, toy_id("a1"), "set-again")
    await set_one(bus, "set-again", "2", due)
    await until(lambda: is_empty(bus))
    assert await fired(bus) == {"kept-1": 1, "set-again-2": 1}


async def test_cancelling_takes_no_other_timer_with_it(bus: Bus) -> None:
    due = datetime.now(UTC) + FAR
    for aggregate_id, name in (("a1", "restart"), ("a1", "restart2"), ("a11", "restart"), ("a2", "restart")):
        await set_one(bus, name, "1", due, aggregate_id)
    assert await cancel_timer(bus, toy_id("a1"), "restart")
    assert await pending(bus) == 3


async def test_cancelling_what_is_not_there_does_nothing(bus: Bus) -> None:
    assert not await cancel_timer(bus, toy_id("a1"), "never-set")
    due = datetime.now(UTC)
    await set_one(bus, "fired", "1", due)
    await until(lambda: is_empty(bus))
    assert not await cancel_timer(bus, toy_id("a1"), "fired")
    assert await fired(bus) == {"fired-1": 1}


async def test_a_timer_that_was_due_before_it_was_set_fires(bus: Bus) -> None:
    await set_one(bus, "late", "1", datetime.now(UTC) - FAR)
    await until(lambda: is_empty(bus))
    assert await fired(bus) == {"late-1": 1}


async def test_killed_while_timers_fire_each_has_its_effect_once(
    fresh_nats: EmbeddedNats,
    bus: Bus,
    repository: Repository[State],
    store: EventStore,
    patient_keeper: None,
) -> None:
    """The server may publish one and be killed before it takes the timer away; the command's id tells."""
    due = datetime.now(UTC) + SOON
    await asyncio.gather(*(set_one(bus, f"t{number}", "1", due, f"a{number % 10}") for number in range(500)))
    async with processing(bus, repository):
        for count in range(5):
            await until(lambda count=count: _have_fired(bus, count * 50 + 1))  # type: ignore[misc]
            await kill(fresh_nats)
            await until(lambda count=count: bus.client.stats["reconnects"] > count)  # type: ignore[misc]
        await until(lambda: is_empty(bus), seconds=60)
        for number in range(500):
            assert (await outcome(bus, f"t{number}-1")).ok
    stored = [payload for number in range(10) for payload in payloads(await store.load(toy_id(f"a{number}")))]
    assert len(stored) == 500
    doubles = sum(count - 1 for count in (await fired(bus)).values())
    print(f"{doubles} of 500 were published twice", end=" ")


async def _have_fired(bus: Bus, count: int) -> bool:
    return (await standing_of(bus, TIMERS_STREAM, f"{DUE}.>")).messages >= count


@pytest.mark.parametrize("count", [1_000, pytest.param(100_000, marks=[pytest.mark.soak, pytest.mark.timeout(1800)])])
@pytest.mark.parametrize("fresh_nats", ["synced"], indirect=True)
async def test_many_wait_at_little_cost_and_fire_once_though_the_server_is_down_when_they_are_due(
    fresh_nats: EmbeddedNats, bus: Bus, count: int
) -> None:
    """Eight of ten come due together; one of ten is first set for later and replaced, one of ten is cancelled."""
    memory = _memory(fresh_nats)
    due = datetime.now(UTC) + timedelta(seconds=max(5, count / 500))
    few = count // 10
    setting = await _rate(range(count - few), lambda n: set_one(bus, f"t{n}", "1", due if n >= few else due + FAR))
    cancelled = range(count - few, count)
    await _rate(cancelled, lambda n: set_one(bus, f"t{n}", "1", due + FAR))
    replacing = await _rate(range(few), lambda n: set_one(bus, f"t{n}", "2", due))
    cancelling = await _rate(cancelled, lambda n: _cancel(bus, f"t{n}"))
    grown = _memory(fresh_nats) - memory
    idle = await _cpu(fresh_nats, seconds=2)
    await kill_for_good(fresh_nats)
    await asyncio.sleep(max(0.0, (due - datetime.now(UTC)).total_seconds()))
    began = time.monotonic()
    await fresh_nats.start()
    restarting = time.monotonic() - began
    await until(lambda: is_empty(bus), seconds=900)
    firing = (count - few) / (time.monotonic() - began)
    wanted = {f"t{n}-{2 if n < few else 1}": 1 for n in range(count - few)}
    assert await fired(bus) == wanted
    print(
        f"{count} timers: set {setting:.0f}/s, replaced {replacing:.0f}/s, cancelled {cancelling:.0f}/s, "
        f"fired {firing:.0f}/s; {grown / 2**20:.0f} MiB, {idle:.3f} CPU s/s waiting; restart {restarting:.1f} s",
        end=" ",
    )
    assert grown < 64 * 2**20 + 4096 * count
    assert idle < 0.2


async def _cancel(bus: Bus, name: str) -> None:
    assert await cancel_timer(bus, toy_id("a1"), name)


async def _rate(numbers: Iterable[int], act: Callable[[int], Awaitable[None]]) -> float:
    """Do it for all, 128 at a time; how many a second."""
    waiting = iter(numbers)
    done = 0

    async def work() -> None:
        nonlocal done
        for number in waiting:
            await act(number)
            done += 1

    began = time.monotonic()
    await asyncio.gather(*(work() for _ in range(128)))
    return done / (time.monotonic() - began)


def _memory(server: EmbeddedNats) -> int:
    return int(psutil.Process(server.pid).memory_info().rss)


async def _cpu(server: EmbeddedNats, *, seconds: float) -> float:
    """CPU seconds a second that the server takes for itself."""
    process = psutil.Process(server.pid)
    before = process.cpu_times()
    await asyncio.sleep(seconds)
    after = process.cpu_times()
    return float(after.user + after.system - before.user - before.system) / seconds


async def test_a_stream_cannot_both_hold_timers_and_deny_being_purged(bus: Bus) -> None:
    """That is why timers wait beside the commands and not in the audit log, in one append with the event that causes
    them. A server that allows both would let them; this says so.
    """
    wanted = {"name": "BOTH", "subjects": ["both.>"], "allow_msg_schedules": True, "deny_purge": True}
    config = (await bus.api("STREAM.CREATE.BOTH", wanted))["config"]
    assert config["allow_msg_schedules"] and not config["deny_purge"]
    answer = await bus.api("STREAM.CREATE.BOTH2", wanted | {"name": "BOTH2", "subjects": ["both2.>"], "pedantic": True})
    assert answer["error"]["err_code"] == 10052
    wanted |= {"name": "BOTH3", "subjects": ["both3.>"], "allow_rollup_hdrs": True}
    assert "purge" in (await bus.api("STREAM.CREATE.BOTH3", wanted))["error"]["description"]
