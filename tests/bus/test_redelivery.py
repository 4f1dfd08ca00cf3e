"""Crashes of the process that handles commands: what comes again is neither lost, repeated nor answered twice."""

from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path

import pytest
from msgspec import UNSET

from bus.command_consumer import CommandConsumer
from bus.commands import CONSUMER
from bus.connection import Bus
from bus.embedded import EmbeddedNats
from bus.event_store import EventStore
from bus.outcomes import Outcome, failed, publish_outcome
from bus.pull import create_consumer
from bus.repository import Repository
from bus.streams import COMMANDS_STREAM
from domain.errors import ErrorCode, Failure
from tests.bus.toy import (
    TOY,
    State,
    agent,
    metadata,
    outcome,
    outcomes,
    payloads,
    processing,
    send,
    signal,
    until,
)

ROOT = Path(__file__).parents[2]


async def consumers(bus: Bus) -> dict[str, int]:
    """Each consumer of commands, and how far it has got."""
    names = (await bus.api(f"CONSUMER.NAMES.{COMMANDS_STREAM}", {}))["consumers"] or []
    infos = [await bus.api(f"CONSUMER.INFO.{COMMANDS_STREAM}.{name}", {}) for name in names]
    return {info["name"]: info["ack_floor"]["stream_seq"] for info in infos}


async def test_killed_again_and_again_a_processor_loses_no_command_and_keeps_the_order(
    fresh_nats: EmbeddedNats, bus: Bus, store: EventStore
) -> None:
    lanes, length = 5, 200
    chance = random.Random(1)

    async def send_all() -> None:
        for number in range(length):
            await asyncio.gather(*(send(bus, f"a{lane}", f"c{lane}-{number}", number) for lane in range(lanes)))

    async def is_done() -> bool:
        return all([await outcomes(bus, f"c{lane}-{length - 1}") for lane in range(lanes)])

    sending_ended = asyncio.Event()
    sending = asyncio.create_task(send_all())
    sending.add_done_callback(lambda _: sending_ended.set())
    kills = 0
    while not (sending.done() and await is_done()):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.bus.process_to_kill", fresh_nats.url),
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            assert process.stdout is not None
            await process.stdout.readline()
            # The first ones die young, so that there are many; the last is let live.
            seconds = chance.uniform(0.0, 0.15) if kills < 8 else 20.0
            async with asyncio.timeout(seconds):
                await asyncio.gather(sending_ended.wait(), until(is_done))
        except TimeoutError:
            assert kills < 8, "the last one did not come to the end"
        finally:
            process.kill()
            await process.wait()
        kills += 1
    assert kills >= 3
    for lane in range(lanes):
        assert payloads(await store.load(agent(f"a{lane}"))) == list(range(length))
        for number in range(length):
            said = await outcomes(bus, f"c{lane}-{number}")
            assert len(said) == 1 and said[0].ok and said[0].version == number + 1


async def test_a_crash_between_decision_and_outcome_is_made_good(
    bus: Bus, repository: Repository[State], store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached = asyncio.Event()

    async def never(*_: object) -> None:
        reached.set()
        await asyncio.Event().wait()

    with monkeypatch.context() as crash:
        crash.setattr("bus.commands.publish_outcome", never)
        async with processing(bus, repository):
            await send(bus, "a1", "c1", 1, "two")
            await reached.wait()
    assert await outcomes(bus, "c1") == []
    async with processing(bus, Repository(TOY, store)):
        said = await outcome(bus, "c1")
        assert said.ok and said.version == 2 and said.events == ["agent.signal.received"] * 2
    assert len(await store.load(agent("a1"))) == 2


async def test_what_was_answered_and_comes_again_is_not_decided_again(
    bus: Bus, repository: Repository[State], store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused before the crash, it would be accepted after it."""

    async def lost(*_: object) -> None: ...

    async with processing(bus, repository):
        with monkeypatch.context() as crash:
            crash.setattr("nats.aio.msg.Msg.ack", lost)
            await send(bus, "a1", "c1", 1, "unless-opened")
            refused = await outcome(bus, "c1")
            await until(lambda: not repository._locks)
    assert not refused.ok
    await repository.record("a1", signal("open"), metadata())
    async with processing(bus, Repository(TOY, store)):
        await send(bus, "a1", "c2", 2)
        assert (await outcome(bus, "c2")).ok
    assert await outcomes(bus, "c1") == [refused]
    assert payloads(await store.load(agent("a1"))) == ["open", 2]


async def test_outcomes_are_not_said_twice_when_all_comes_again(
    bus: Bus, repository: Repository[State], store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lost(*_: object) -> None: ...

    with monkeypatch.context() as crash:
        crash.setattr("nats.aio.msg.Msg.ack", lost)
        async with processing(bus, repository):
            for number in range(20):
                await send(bus, "a1", f"c{number}", number)
            await outcome(bus, "c19")
    async with processing(bus, Repository(TOY, store)):
        await send(bus, "a1", "last", 20)
        await outcome(bus, "last")
    for number in range(20):
        assert len(await outcomes(bus, f"c{number}")) == 1
    assert payloads(await store.load(agent("a1"))) == list(range(21))


async def test_each_start_goes_on_behind_what_is_done_with_one_consumer(
    bus: Bus, repository: Repository[State]
) -> None:
    seen: set[str] = set()
    for number in range(4):
        async with processing(bus, repository):
            sequence = await send(bus, "a1", f"c{number}", number)
            await outcome(bus, f"c{number}")

            async def is_acknowledged(sequence: int = sequence) -> bool:
                return sequence in (await consumers(bus)).values()

            await until(is_acknowledged)
            seen.update(await consumers(bus))
            assert len(await consumers(bus)) == 1
    assert seen == {f"{CONSUMER}-a", f"{CONSUMER}-b"}


@pytest.mark.parametrize("died_after", ["the new one was made", "the other was deleted"])
async def test_a_crash_while_consumers_change_places_loses_no_position(
    bus: Bus, repository: Repository[State], died_after: str
) -> None:
    """Commands that were refused in their time must not be decided again from the beginning of the stream."""
    async with processing(bus, repository):
        for number in range(10):
            await send(bus, "a1", f"c{number}", number, "unless-opened")
        await outcome(bus, "c9")

        async def are_acknowledged() -> bool:
            return list((await consumers(bus)).values()) == [10]

        await until(are_acknowledged)
    [name] = await consumers(bus)
    changing = CommandConsumer(bus, CONSUMER, max_ack_pending=10)
    [other] = set(changing._names) - {name}
    await create_consumer(bus, COMMANDS_STREAM, changing._config(other, 11))
    if died_after == "the other was deleted":
        await changing._delete(name)
    async with changing.pull(window=10) as source:
        await send(bus, "a1", "new", 1)
        [message] = await source.next_batch(100)
        assert message.headers is not None and message.headers["Nats-Msg-Id"] == "new"
    assert len(await consumers(bus)) == 1


async def test_a_refusal_gives_way_to_an_effect_and_to_nothing_else(bus: Bus) -> None:
    refusal = failed("c1", Failure(ErrorCode.INVALID_STATE, "no"), "agent/a1")
    effect = Outcome(command_id="c1", ok=True, subject="agent/a1", version=1, events=[], result={})
    for said, sequence in ((refusal, 5), (refusal, 5), (effect, 7), (effect, 8), (refusal, 9), (effect, 0)):
        await publish_outcome(bus, said, sequence)
    found = await outcomes(bus, "c1")
    assert found == [refusal, effect] and found[0].version is UNSET
