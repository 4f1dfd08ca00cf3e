"""Nothing leaves before all that it rests on is on record: whatever the store does, whoever else writes, any crash."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from nats.errors import Error as NatsError

from l02.bus.log import patience
from l02.bus.log.event_store import Conflict
from l02.bus.log.repository import Repository
from l02.bus.wire.codec import EventDecoder, encode_event
from l02.bus.wire.subjects import AggregateId, event_subject
from l02.domain.agent.state import AgentState
from l02.domain.agent.work.effects import EffectRecorded
from l02.domain.agent.work.signals import Signal
from l02.domain.aggregates import AGENT
from l02.domain.errors import Failure
from l02.handlers.executor.journal.records import RecordRefused, Records
from tests.bus.toy import metadata
from tests.domain.agent.story import completed, spawn_requested, spawned, started, steps_recorded, words_counted
from tests.event_store.memory import MemoryEventStore, MemoryLog

_ADDRESS = AggregateId("agent", "a1")
_FAULTS = ("none", "none", "slow", "refused", "fails", "unanswered", "another writer")


class _FaultyStore(MemoryEventStore):
    """Does to each append what it was told to; after the last nothing is stored any more, and nobody answers."""

    def __init__(self, log: MemoryLog, faults: Sequence[str], crashes: bool) -> None:
        super().__init__(log)
        self.faults = [*faults]
        self.crashes = crashes

    async def append(
        self, aggregate: AggregateId, messages: Sequence[tuple[str, bytes]], expected: int, trail: Sequence[int] = ()
    ) -> int:
        fault = self.faults.pop(0) if self.faults else "crash" if self.crashes else "none"
        match fault:
            case "crash":
                await asyncio.Event().wait()
            case "slow":
                for _ in range(20):
                    await asyncio.sleep(0)
            case "refused":
                raise Conflict("refused")
            case "fails":
                raise NatsError("no answer, and nothing stored")
            case "another writer":
                await _repository(self.log).decide("a1", Signal(name="s"), metadata())
        last = await super().append(aggregate, messages, expected, trail)
        if fault == "unanswered":
            raise TimeoutError("stored, and nobody says so")
        return last


def _repository(log: MemoryLog) -> Repository[AgentState]:
    """Of another process, with a store that does what it is asked to."""
    return Repository(AGENT, MemoryEventStore(log), "n1")


def _log() -> MemoryLog:
    """With an agent at work on x1."""
    log = MemoryLog(EventDecoder([AGENT]))
    for version, event in enumerate((spawn_requested(), spawned(), started()), start=1):
        log.put(
            event_subject(_ADDRESS, event.type),
            encode_event(
                event,
                aggregate=_ADDRESS,
                event_id=f"e{version}",
                version=version,
                time=datetime.now(UTC),
                metadata=metadata(),
            ),
        )
    return log


def _effect(call: int) -> EffectRecorded:
    return EffectRecorded(execution_id="x1", call=call, kind="now", request={}, result=call)


async def _on_record(log: MemoryLog) -> list[int]:
    """The calls whose answers are stored, in their order."""
    state = (await _repository(log).load("a1")).state
    return [entry.call for entry in state.executions["x1"].journal]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "RETRY_SECONDS", 0)
    monkeypatch.setattr(patience, "_CONFLICT_PAUSE_SECONDS", 0)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    faults=st.lists(st.sampled_from(_FAULTS), max_size=12),
    crashes=st.booleans(),
    acts=st.lists(st.sampled_from(["record", "step", "leave", "turn"]), max_size=25),
)
async def test_what_leaves_rests_on_what_is_stored(faults: list[str], crashes: bool, acts: list[str]) -> None:
    log = _log()
    store = _FaultyStore(log, faults, crashes)
    records = Records(Repository(AGENT, store, "n1"), "a1", "x1", 1)
    added: list[int] = []
    leaving: list[asyncio.Task[None]] = []

    async def leave(rests_on: list[int]) -> None:
        await records.stored()
        stored = await _on_record(log)
        assert stored[: len(rests_on)] == rests_on, "it left before"

    for act in acts:
        match act:
            case "record":
                added.append(len(added) + 1)
                records.add(_effect(added[-1]))
            case "step":
                added.append(len(added) + 1)
                records.add(steps_recorded(words_counted(added[-1])), 1, steps_bytes=100)
            case "leave":
                leaving.append(asyncio.create_task(leave([*added])))
            case "turn":
                await asyncio.sleep(0)
    if not crashes:
        await asyncio.gather(*leaving)
        await records.stored()
        assert await _on_record(log) == added, "each once, in order"
        assert records.is_stored
        return
    for _ in range(300):
        await asyncio.sleep(0)
    for task in leaving:
        if task.done():
            task.result()
        task.cancel()
    await asyncio.gather(*leaving, return_exceptions=True)
    stored = await _on_record(log)
    assert stored == added[: len(stored)], "a crash leaves the beginning"
    records.abandon()


async def test_what_comes_while_one_append_is_under_way_is_the_next_one() -> None:
    log = _log()
    appends: list[int] = []

    class Counting(MemoryEventStore):
        async def append(self, aggregate: AggregateId, messages: Sequence[tuple[str, bytes]], *more: Any) -> int:
            appends.append(len(messages))
            return await super().append(aggregate, messages, *more)

    records = Records(Repository(AGENT, Counting(log), "n1"), "a1", "x1", 1)
    records.add(_effect(1))
    await asyncio.sleep(0)
    for call in range(2, 102):
        records.add(steps_recorded(words_counted(call)), 1, steps_bytes=100)
    records.add(_effect(102))
    records.add(completed(), 1)
    await records.stored()
    assert appends == [1, 3], "many steps in one event, the end of the work in one batch with them"


async def test_a_refusal_stops_all_that_comes_after_it() -> None:
    """Another process has recorded something else at the same number."""
    log = _log()
    records = Records(Repository(AGENT, MemoryEventStore(log), "n1"), "a1", "x1", 1)
    refused: list[RecordRefused] = []
    records.on_refused = refused.append
    await _repository(log).record("a1", replace(_effect(2), result="another"))
    for call in (1, 2, 3):
        records.add(_effect(call))
    with pytest.raises(RecordRefused):
        await records.stored()
    assert len(refused) == 1 and await _on_record(log) == [2, 1]
    records.add(_effect(4))
    with pytest.raises(RecordRefused):
        await records.stored()
    assert await _on_record(log) == [2, 1] and not records.is_stored


async def test_once_the_execution_is_let_go_nothing_leaves() -> None:
    log = _log()
    records = Records(Repository(AGENT, MemoryEventStore(log), "n1"), "a1", "x1", 1)
    records.add(_effect(1))
    await records.close()
    assert await _on_record(log) == [1] and records.is_stored
    with pytest.raises(RecordRefused):
        await records.stored()


@pytest.mark.parametrize("incarnation", [0, 2])
async def test_the_word_of_another_process_is_refused(incarnation: int) -> None:
    log = _log()
    records = Records(Repository(AGENT, MemoryEventStore(log), "n1"), "a1", "x1", 1)
    records.add(steps_recorded(words_counted(1)), incarnation)
    with pytest.raises(RecordRefused):
        await records.stored()
    assert await _on_record(log) == []


async def test_there_is_room_again_once_what_waits_is_stored() -> None:
    """Whoever says more than can be stored waits; what is stored together is bounded."""
    log = _log()
    together: list[int] = []

    class Counting(MemoryEventStore):
        async def append(self, aggregate: AggregateId, messages: Sequence[tuple[str, bytes]], *more: Any) -> int:
            together.append(sum(len(payload) for _, payload in messages))
            return await super().append(aggregate, messages, *more)

    records = Records(Repository(AGENT, Counting(log), "n1"), "a1", "x1", 1)
    for call in range(1, 31):
        await asyncio.wait_for(records.room(), 10)
        records.add(steps_recorded(words_counted(call, "x" * 100_000)), 1, steps_bytes=100_100)
    assert len(together) > 5, "the one that adds has waited for the others"
    await records.stored()
    assert len(together) >= 15
    assert max(together) < 256 * 1024


async def test_what_is_on_record_is_bounded() -> None:
    records = Records(_repository(_log()), "a1", "x1", 1)
    records.require_space()
    records.footprint = 129 * 1024 * 1024
    with pytest.raises(Failure, match="on record"):
        records.require_space()


async def test_a_refusal_makes_room() -> None:
    """Nobody waits for what is never stored: there has been no such process."""
    records = Records(_repository(_log()), "a1", "x1", 1)
    for call in range(1, 21):
        records.add(steps_recorded(words_counted(call, "x" * 100_000)), 7, steps_bytes=100_100)
    await asyncio.wait_for(records.room(), 10)
    with pytest.raises(RecordRefused):
        await records.stored()
