"""Handlers behind a durable consumer: no event stops them, and none they could not handle is lost."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio
from nats.errors import NoRespondersError

from l02.bus.commands import react as module
from l02.bus.commands.dead_letters import DeadLetter, dead_letters, resend
from l02.bus.commands.react import EventReader
from l02.bus.connection.bus import Bus
from l02.bus.connection.streams import EVENTS_STREAM
from l02.bus.jetstream.pull import consumer_info
from l02.bus.log.event_store import EventStore
from l02.bus.log.repository import Repository
from l02.bus.wire.codec import RecordedEvent
from l02.domain.errors import ErrorCode, Failure
from tests.bus.listening import reading
from tests.bus.toy import State, message, payloads, toy_id, until

NAME = "listener-n1"
CONSUMER = "node-n1"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_RETRY_SECONDS", (0.01, 0.02, 0.02, 0.02))


class Listener:
    """Keeps what it hears, and fails as it is told."""

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.tried: list[Any] = []
        self.fails: Callable[[Any], Exception | None] = lambda payload: None

    async def handle(self, events: Sequence[RecordedEvent]) -> None:
        for payload in payloads(events):
            self.tried.append(payload)
            error = self.fails(payload)
            if error is not None:
                raise error
            self.heard.append(payload)


@pytest_asyncio.fixture(autouse=True)
async def _from_the_first_event_on(bus: Bus, repository: Repository[State]) -> None:
    await EventReader(bus, repository).open()


@asynccontextmanager
async def listening(bus: Bus, repository: Repository[State], listener: Listener) -> AsyncIterator[None]:
    async with reading(bus, repository, {"listener": lambda recorded: listener.handle([recorded])}) as task:
        yield
        assert not task.done(), "the reader has ended by itself"


async def add(store: EventStore, *names: str) -> None:
    """One event of each toy; its payload is the toy's id."""
    for name in names:
        await store.append(toy_id(name), [message(name, 1, name)], 0)


async def letters(bus: Bus) -> list[DeadLetter]:
    return [letter async for letter in dead_letters(bus)]


async def unread_event(bus: Bus) -> int:
    """An event that is heard of and cannot be read: of a newer schema version."""
    subject, raw = message("z1", 1)
    return (await bus.publish(subject, raw.replace(b'"schemaversion":1', b'"schemaversion":9'))).seq


async def test_what_was_handled_does_not_come_again(bus: Bus, repository: Repository[State], store: EventStore) -> None:
    first, second = Listener(), Listener()
    await add(store, "a1", "a2")
    async with listening(bus, repository, first):
        await until(lambda: len(first.heard) == 2)
        await until(lambda: settled(bus))
    await add(store, "a3")
    async with listening(bus, repository, second):
        await until(lambda: second.heard == ["a3"])
    assert first.heard == ["a1", "a2"]


async def settled(bus: Bus) -> bool:
    info = await consumer_info(bus, EVENTS_STREAM, CONSUMER)
    return info is not None and info["num_pending"] == info["num_ack_pending"] == 0


async def test_an_event_that_cannot_be_read_is_parked(
    bus: Bus, repository: Repository[State], store: EventStore
) -> None:
    listener = Listener()
    await add(store, "a1")
    sequence = await unread_event(bus)
    await add(store, "a2")
    async with listening(bus, repository, listener):
        await until(lambda: set(listener.heard) == {"a1", "a2"})
        [letter] = await until(lambda: letters(bus))
        await until(lambda: settled(bus))
    assert (letter.consumer, letter.origin, letter.code) == (NAME, sequence, "E2117")
    assert f"sequence {sequence}: toy.noted has schema version 9" in letter.reason
    assert "upgrade" in letter.reason
    assert bus.tally.parked[NAME] == 1


async def test_an_event_whose_handling_keeps_failing(
    bus: Bus, repository: Repository[State], store: EventStore
) -> None:
    listener = Listener()
    listener.fails = lambda payload: RuntimeError("a fault") if payload == "a2" else None
    await add(store, "a1", "a2", "a3")
    async with listening(bus, repository, listener):
        [letter] = await until(lambda: letters(bus))
        await until(lambda: settled(bus))
        await add(store, "a4")
        await until(lambda: "a4" in listener.heard)
    assert set(listener.heard) == {"a1", "a3", "a4"}
    assert "a2" in listener.tried[listener.tried.index("a3") :], "others do not wait for what is tried again"
    together = listener.tried.count("a2") - module._ATTEMPTS
    assert together in (0, 1), "once more where it came together with others"
    assert "toy.noted of toy/a2, event 2 failed 5 times: RuntimeError('a fault')" in letter.reason
    assert letter.deliveries == module._ATTEMPTS
    assert bus.tally.redeliveries[NAME] == module._ATTEMPTS - 1


async def test_a_handler_that_fails_once(bus: Bus, repository: Repository[State], store: EventStore) -> None:
    listener = Listener()
    listener.fails = lambda payload: RuntimeError("once") if listener.tried.count(payload) == 1 else None
    await add(store, "a1")
    async with listening(bus, repository, listener):
        await until(lambda: listener.heard == ["a1"])
        await until(lambda: settled(bus))
    assert await letters(bus) == []


async def test_an_error_that_passes_is_waited_out(bus: Bus, repository: Repository[State], store: EventStore) -> None:
    listener = Listener()
    away = True
    listener.fails = lambda payload: NoRespondersError() if away and payload == "a2" else None
    await add(store, "a1", "a2", "a3")
    async with listening(bus, repository, listener):
        await until(lambda: listener.tried.count("a2") > 2 * module._ATTEMPTS)
        assert {"a1", "a3"} <= set(listener.heard)
        away = False
        await until(lambda: "a2" in listener.heard)
    assert await letters(bus) == []


async def test_a_letter_is_retried_by_the_handler_itself(
    bus: Bus, repository: Repository[State], store: EventStore
) -> None:
    listener = Listener()
    listener.fails = lambda payload: RuntimeError("a fault")
    await add(store, "a1")
    newest = (await bus.jetstream.stream_info(EVENTS_STREAM)).state.last_seq
    async with listening(bus, repository, listener):
        [letter] = await until(lambda: letters(bus))
        with pytest.raises(Failure, match="failed on event 1 again.*a fault") as caught:
            await resend(bus, letter)
        assert caught.value.code is ErrorCode.HANDLER_FAILED
        assert await letters(bus) == [letter]
        listener.fails = lambda payload: None
        await resend(bus, letter)
        assert listener.heard == ["a1"]
    assert await letters(bus) == []
    assert (await bus.jetstream.stream_info(EVENTS_STREAM)).state.last_seq == newest, "nothing is published anew"


async def test_a_letter_whose_handler_does_not_run(bus: Bus, repository: Repository[State], store: EventStore) -> None:
    sequence = await unread_event(bus)
    async with listening(bus, repository, Listener()):
        [letter] = await until(lambda: letters(bus))
        with pytest.raises(Failure, match="schema version 9.*upgrade"):
            await resend(bus, letter)
    with pytest.raises(Failure, match=f"no node that runs has the handler {NAME}.*--since {sequence}"):
        await resend(bus, letter)
    assert await letters(bus) == [letter]


async def test_a_node_consumer_does_not_stay_for_ever(bus: Bus, repository: Repository[State]) -> None:
    async with listening(bus, repository, Listener()):
        info = await until(lambda: consumer_info(bus, EVENTS_STREAM, CONSUMER))
    assert info["config"].get("inactive_threshold") == module._INACTIVE_THRESHOLD


async def test_a_consumer_that_is_gone_is_made_again_where_it_was(
    bus: Bus, repository: Repository[State], store: EventStore
) -> None:
    listener = Listener()
    async with listening(bus, repository, listener):
        await until(lambda: consumer_info(bus, EVENTS_STREAM, CONSUMER))
        await add(store, "a1")
        await until(lambda: listener.heard == ["a1"])
        await bus.jetstream.delete_consumer(EVENTS_STREAM, CONSUMER)
        await add(store, "a2")
        await until(lambda: listener.heard == ["a1", "a2"])
    async with listening(
        bus, repository, listener
    ):  # begun elsewhere than it would begin now: nothing to complain about
        await add(store, "a3")
        await until(lambda: listener.heard == ["a1", "a2", "a3"])
