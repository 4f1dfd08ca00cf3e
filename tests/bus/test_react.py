"""A handler hears at once of what its process records, and behind that of everything, what failed again and again.

All of a node hear from one reader, and none is told again, or kept waiting, for what another does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from nats.js.api import ConsumerConfig

from l02.bus.background.cancelling import end
from l02.bus.commands import react as module
from l02.bus.commands.dead_letters import dead_letters, resend
from l02.bus.commands.react import EventReader, Handle
from l02.bus.connection.bus import Bus
from l02.bus.connection.streams import EVENTS_STREAM
from l02.bus.jetstream.pull import consumer_info
from l02.bus.log.event_store import EventStore
from l02.bus.log.repository import Repository
from l02.bus.wire.codec import RecordedEvent
from tests.bus.listening import reading
from tests.bus.toy import TOY, Noted, State, note, payloads, until


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_RETRY_SECONDS", (0.01, 0.02, 0.02, 0.02))


async def listen(bus: Bus, repository: Repository[State], name: str, handle: Handle) -> Callable[[], Any]:
    """When it listens; what ends that is given back."""
    reader = EventReader(bus, repository)
    listener = reader.listener(name, (Noted,), handle)
    await reader.open()
    ready = asyncio.Event()
    tasks = [asyncio.create_task(listener.listen(ready.set))]
    await ready.wait()
    tasks.append(asyncio.create_task(reader.run()))

    async def stop() -> None:
        for task in reversed(tasks):
            await end(task)

    return stop


async def test_at_once_and_behind(bus: Bus, repository: Repository[State], store: EventStore) -> None:
    heard: list[tuple[Any, bool]] = []

    def wake(recorded: RecordedEvent, recorded_here: bool) -> None:
        heard.append((payloads([recorded])[0], recorded_here))

    stop = await listen(bus, repository, "waking", wake)
    await repository.record("a1", note("here"))
    assert ("here", True) in heard, "by the time that it is known to be stored"
    await Repository(TOY, store, "n2").record("a2", note("elsewhere"))
    await until(lambda: len(heard) == 3)
    assert sorted(heard) == [("elsewhere", False), ("here", False), ("here", True)]
    await stop()
    await repository.record("a1", note("later"))
    assert len(heard) == 3, "nobody listens any more"


async def parked(bus: Bus) -> list[str]:
    return [letter.consumer async for letter in dead_letters(bus)]


async def settled(bus: Bus, repository: Repository[State]) -> bool:
    info = await consumer_info(bus, EVENTS_STREAM, f"node-{repository.node_id}")
    return info is not None and info["num_pending"] == info["num_ack_pending"] == 0


async def test_what_it_begins_is_waited_for_and_may_fail(bus: Bus, repository: Repository[State]) -> None:
    begun: list[bool] = []

    async def work(recorded_here: bool) -> None:
        begun.append(recorded_here)
        raise RuntimeError("no")

    def start(recorded: RecordedEvent, recorded_here: bool) -> asyncio.Task[None] | None:
        return None if recorded_here else asyncio.create_task(work(recorded_here))

    stop = await listen(bus, repository, "working", start)
    await repository.record("a1", note(1))
    await until(lambda: parked(bus))
    assert await parked(bus) == [f"working-{repository.node_id}"]
    assert begun == [False] * 5
    await stop()


class Told:
    """What each of several handlers was told of, and what they do about it."""

    def __init__(self) -> None:
        self.of: dict[str, list[Any]] = {}
        self.fails: set[tuple[str, Any]] = set()
        self.slow: set[tuple[str, Any]] = set()
        self.go_on = asyncio.Event()

    def handler(self, name: str) -> Any:
        """One that fails on, or waits at, what it is said to."""
        heard = self.of[name] = []

        async def handle(recorded: RecordedEvent) -> None:
            [payload] = payloads([recorded])
            heard.append(payload)
            if (name, payload) in self.fails:
                raise RuntimeError("no")
            if (name, payload) in self.slow:
                await self.go_on.wait()

        return handle

    def handlers(self) -> dict[str, Any]:
        return {name: self.handler(name) for name in ("sound", "failing")}


async def test_what_fails_for_one_is_tried_and_parked_for_that_one_alone(
    bus: Bus, repository: Repository[State]
) -> None:
    told = Told()
    told.fails = {("failing", 2)}
    async with reading(bus, repository, told.handlers()):
        for number in (1, 2, 3):
            await repository.record("a1", note(number))
        await until(lambda: parked(bus))
        await until(lambda: settled(bus, repository))
        assert told.of["sound"] == [1, 2, 3]
        assert told.of["failing"].count(2) == 5
        [letter] = [letter async for letter in dead_letters(bus)]
        assert (letter.consumer, letter.origin, letter.deliveries) == (f"failing-{repository.node_id}", 2, 5)
        told.fails.clear()
        await resend(bus, letter)
        assert (told.of["sound"], told.of["failing"].count(2)) == ([1, 2, 3], 6)
    assert await parked(bus) == []


async def test_who_is_slow_holds_up_nobody_and_hears_once(
    bus: Bus, repository: Repository[State], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_AGAIN_AFTER_SECONDS", 0.3)
    told = Told()
    told.slow = {("sound", 1)}
    told.fails = {("failing", 1)}
    async with reading(bus, repository, told.handlers()):
        for number in (1, 2, 3):
            await repository.record("a1", note(number))
        await until(lambda: told.of["sound"] == [1, 2, 3] and told.of["failing"].count(3) == 1)
        assert await until(lambda: parked(bus)) == [f"failing-{repository.node_id}"], "though the other is at it still"
        info = await consumer_info(bus, EVENTS_STREAM, f"node-{repository.node_id}")
        assert info is not None
        assert info["num_ack_pending"] == 1, "it is not acknowledged before all have done with it"
        told.go_on.set()
        await until(lambda: settled(bus, repository))
    assert told.of["sound"] == [1, 2, 3]


async def test_after_a_crash_all_may_hear_again_and_nothing_is_missed(
    bus: Bus, repository: Repository[State], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_AGAIN_AFTER_SECONDS", 0.3)
    before, after = Told(), Told()
    before.slow = {("sound", 2)}
    async with reading(bus, repository, before.handlers()):
        for number in (1, 2, 3):
            await repository.record("a1", note(number))
        await until(lambda: before.of["sound"] == [1, 2, 3])
    await repository.record("a1", note(4))
    async with reading(bus, repository, after.handlers()):
        await until(lambda: settled(bus, repository))
    assert set(after.of["sound"]) >= {2, 4}
    assert set(after.of["failing"]) >= {2, 4}
    assert after.of["sound"].count(4) == 1


async def test_who_does_not_listen_yet_misses_nothing(bus: Bus, repository: Repository[State]) -> None:
    heard: list[Any] = []
    reader = EventReader(bus, repository)
    listener = reader.listener("late", (Noted,), lambda recorded, here: heard.append(payloads([recorded])[0]))
    await reader.open()
    await repository.record("a1", note("between"))
    tasks = [asyncio.create_task(reader.run())]
    await until(lambda: reader.lag(0)[listener.name] == 1)
    assert heard == []
    tasks.append(asyncio.create_task(listener.listen()))
    await until(lambda: heard == ["between"])
    for task in tasks:
        await end(task)
    assert await parked(bus) == []


async def test_the_consumers_of_earlier_versions_are_gone_and_what_they_had_left_is_not(
    bus: Bus, repository: Repository[State]
) -> None:
    names = [f"{name}-{repository.node_id}" for name in ("sound", "failing")]
    for name in names:
        await bus.jetstream.add_consumer(EVENTS_STREAM, ConsumerConfig(durable_name=name, ack_policy="explicit"))  # type: ignore[arg-type]
    for number in (1, 2, 3):
        await repository.record("a1", note(number))
    for name, done in zip(names, (3, 1), strict=True):
        subscription = await bus.jetstream.pull_subscribe_bind(name, EVENTS_STREAM)
        for message in await subscription.fetch(done):
            await message.ack_sync()
    told = Told()
    async with reading(bus, repository, told.handlers()):
        await until(lambda: settled(bus, repository))
        left = await bus.jetstream.consumers_info(EVENTS_STREAM)
        assert [info.name for info in left] == [f"node-{repository.node_id}"]
    assert told.of == {"sound": [2, 3], "failing": [2, 3]}
