"""Crashes of the process that handles commands: what comes again is neither lost, repeated nor answered twice."""

from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path

import msgspec
import pytest
from msgspec import UNSET

from l02.bus.commands.outcomes import Outcome, failed, publish_outcome
from l02.bus.commands.partitions import Partition, command_partition
from l02.bus.connection.bus import Bus
from l02.bus.connection.streams import PARTITIONS_STREAM
from l02.bus.embedded import EmbeddedNats
from l02.bus.log.event_store import EventStore
from l02.bus.log.repository import Repository
from l02.bus.wire.subjects import partition_subject
from l02.domain.errors import ErrorCode, Failure
from tests.bus.toy import TOY, State, note, outcome, outcomes, payloads, processing, send, toy_id, until

ROOT = Path(__file__).parents[2]


@pytest.fixture
def positions_are_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the process always died before it could store how far it is."""
    monkeypatch.setattr(Partition, "is_due", lambda *_: False)


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
            *(sys.executable, "-m", "tests.bus.process_to_kill", fresh_nats.url, "n1"),
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
        assert payloads(await store.load(toy_id(f"a{lane}"))) == list(range(length))
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
        crash.setattr("l02.bus.commands.processor.publish_outcome", never)
        async with processing(bus, repository):
            await send(bus, "a1", "c1", 1, "two")
            await reached.wait()
    assert await outcomes(bus, "c1") == []
    async with processing(bus, Repository(TOY, store, "n1")):
        said = await outcome(bus, "c1")
        assert said.ok and said.version == 2 and said.events == ["toy.noted"] * 2
    assert len(await store.load(toy_id("a1"))) == 2


async def test_what_was_answered_and_comes_again_is_not_decided_again(
    bus: Bus, repository: Repository[State], store: EventStore, positions_are_lost: None
) -> None:
    """Refused before the crash, it would be accepted after it."""
    async with processing(bus, repository):
        await send(bus, "a1", "c1", 1, "unless-opened")
        refused = await outcome(bus, "c1")
        await until(lambda: not repository._locks)
    assert not refused.ok
    await repository.record("a1", note("open"))
    async with processing(bus, Repository(TOY, store, "n1")):
        await send(bus, "a1", "c2", 2)
        assert (await outcome(bus, "c2")).ok
    assert await outcomes(bus, "c1") == [refused]
    assert payloads(await store.load(toy_id("a1"))) == ["open", 2]


async def test_outcomes_are_not_said_twice_when_all_comes_again(
    bus: Bus, repository: Repository[State], store: EventStore, positions_are_lost: None
) -> None:
    async with processing(bus, repository):
        for number in range(20):
            await send(bus, "a1", f"c{number}", number)
        await outcome(bus, "c19")
    async with processing(bus, Repository(TOY, store, "n1")):
        await send(bus, "a1", "last", 20)
        await outcome(bus, "last")
    for number in range(20):
        assert len(await outcomes(bus, f"c{number}")) == 1
    assert payloads(await store.load(toy_id("a1"))) == list(range(21))


async def test_each_start_goes_on_behind_what_is_done(
    bus: Bus, repository: Repository[State], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commands that were refused in their time must not be decided again from the beginning of the stream."""
    name = command_partition(toy_id("a1"))

    async def position() -> int:
        message = await bus.stored(PARTITIONS_STREAM, last_on=partition_subject(name))
        return 0 if message is None else int(msgspec.json.decode(message.data)["position"])

    async with processing(bus, repository):
        for number in range(10):
            await send(bus, "a1", f"c{number}", number, "unless-opened")
        await outcome(bus, "c9")

        async def is_stored() -> bool:
            return await position() == 10

        await until(is_stored)
    taken: list[int] = []
    take = Partition.take

    def noting(partition: Partition, sequence: int) -> bool:
        taken.append(sequence)
        return take(partition, sequence)

    monkeypatch.setattr(Partition, "take", noting)
    async with processing(bus, repository):
        await send(bus, "a1", "new", 1)
        assert (await outcome(bus, "new")).ok
    assert 11 in taken
    assert not [sequence for sequence in taken if sequence <= 10 and sequence > await position()]


async def test_a_refusal_gives_way_to_an_effect_and_to_nothing_else(bus: Bus) -> None:
    refusal = failed("c1", Failure(ErrorCode.INVALID_STATE, "no"), "toy/a1")
    effect = Outcome(command_id="c1", ok=True, subject="toy/a1", version=1, events=[], result={})
    for said, sequence in ((refusal, 5), (refusal, 5), (effect, 7), (effect, 8), (refusal, 9), (effect, 0)):
        await publish_outcome(bus, said, sequence)
    found = await outcomes(bus, "c1")
    assert found == [refusal, effect] and found[0].version is UNSET
