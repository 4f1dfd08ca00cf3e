"""A handler hears at once of what its process records, and behind that of everything, what failed again and again."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from l02.bus.background.cancelling import end
from l02.bus.commands import follow
from l02.bus.commands.dead_letters import dead_letters
from l02.bus.commands.react import react
from l02.bus.connection.bus import Bus
from l02.bus.log.event_store import EventStore
from l02.bus.log.repository import Repository
from l02.bus.wire.codec import RecordedEvent
from tests.bus.toy import TOY, Noted, State, note, payloads, until


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "_RETRY_SECONDS", (0.01, 0.02, 0.02, 0.02))


async def test_at_once_and_behind(bus: Bus, repository: Repository[State], store: EventStore) -> None:
    heard: list[tuple[Any, bool]] = []

    def wake(recorded: RecordedEvent, recorded_here: bool) -> None:
        heard.append((payloads([recorded])[0], recorded_here))

    ready = asyncio.Event()
    task = asyncio.create_task(react(bus, repository, "waking", (Noted,), wake, ready=ready.set))
    await ready.wait()
    await repository.record("a1", note("here"))
    assert ("here", True) in heard, "by the time that it is known to be stored"
    await Repository(TOY, store, "n2").record("a2", note("elsewhere"))
    await until(lambda: len(heard) == 3)
    assert sorted(heard) == [("elsewhere", False), ("here", False), ("here", True)]
    await end(task)
    await repository.record("a1", note("later"))
    assert len(heard) == 3, "nobody listens any more"


async def test_what_it_begins_is_waited_for_and_may_fail(bus: Bus, repository: Repository[State]) -> None:
    begun: list[bool] = []

    async def work(recorded_here: bool) -> None:
        begun.append(recorded_here)
        raise RuntimeError("no")

    def start(recorded: RecordedEvent, recorded_here: bool) -> asyncio.Task[None] | None:
        return None if recorded_here else asyncio.create_task(work(recorded_here))

    ready = asyncio.Event()
    task = asyncio.create_task(react(bus, repository, "working", (Noted,), start, ready=ready.set))
    await ready.wait()
    await repository.record("a1", note(1))

    async def parked() -> list[str]:
        return [letter.consumer async for letter in dead_letters(bus)]

    await until(parked)
    assert await parked() == [f"working-{repository.node_id}"]
    assert begun == [False] * 5
    await end(task)
