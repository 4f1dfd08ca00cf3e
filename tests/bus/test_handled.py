"""The commands an aggregate has handled, packed: nothing is forgotten, mixed up or found that is not there."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from l02.bus.log.loaded import HandledCommands
from l02.bus.wire.codec import RecordedEvent
from l02.bus.wire.subjects import AggregateId
from l02.domain.agent.life.spawning import SpawnFailed
from l02.domain.agent.work.executions import ExecutionStarted
from l02.domain.kernel.message import Event, Metadata

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def recorded(version: int, event: Event, cause: str, command_hash: str | None, second: int) -> RecordedEvent:
    return RecordedEvent(
        event=event,
        aggregate=AggregateId("agent", "a1"),
        event_id=f"e{version}",
        version=version,
        sequence=version * 10,
        time=NOW + timedelta(seconds=second),
        metadata=Metadata(causation_id=cause, correlation_id=cause, actor="x", command_hash=command_hash),
    )


def started(awaited_by: str | None = None) -> Event:
    return ExecutionStarted(execution_id="x", input=1, awaited_by=awaited_by)


def completing(*command_ids: str) -> Event:
    return SpawnFailed(code="E2040", message="", attempt=1, completes=command_ids)


def noted(*items: RecordedEvent) -> HandledCommands:
    commands = HandledCommands()
    for item in items:
        commands.note(item)
    return commands


def both_ways(commands: HandledCommands) -> Iterator[HandledCommands]:
    yield commands
    yield HandledCommands(*commands.packed())


def test_what_was_decided_with_a_command_belongs_to_it_and_what_came_later_does_not() -> None:
    commands = noted(
        recorded(1, started("c1"), "c1", "h1", 1),
        recorded(2, started(), "c1", None, 1),
        recorded(3, started(), "c1", None, 2),
        recorded(4, started(), "c2", "h2", 3),
        recorded(5, started("c2"), "node", None, 3),
    )
    for asked in both_ways(commands):
        first, second = asked.get("c1"), asked.get("c2")
        assert first is not None and second is not None and len(asked) == 2
        # The events of one decision follow one another in the stream, whatever a test's sequences are.
        assert (first.version, first.sequences, first.awaited, first.completed_at) == (2, range(19, 21), True, None)
        assert (second.version, second.sequences, second.awaited) == (4, range(40, 41), False)
        assert first.is_of("h1") and not first.is_of("h2")
        assert asked.get("c3") is None and asked.get("node") is None


def test_a_completion_is_kept_with_each_command_it_names() -> None:
    commands = noted(
        recorded(1, started("c1"), "c1", "h", 1),
        recorded(2, started("c2"), "c2", "h", 2),
        recorded(3, completing("c2", "unknown"), "node", None, 3),
    )
    for asked in both_ways(commands):
        assert [getattr(asked.get(name), "completed_at", None) for name in ("c1", "c2", "unknown")] == [None, 30, None]


@pytest.mark.parametrize("seed", range(3))
def test_with_and_without_an_index_it_finds_the_same(seed: int) -> None:
    chance = random.Random(seed)
    commands = HandledCommands()
    expected: dict[str, tuple[int, int | None]] = {}
    for version in range(1, 400):
        if expected and chance.random() < 0.3:
            done = chance.choice(list(expected))
            expected[done] = (expected[done][0], version * 10)
            commands.note(recorded(version, completing(done), "node", None, version))
        else:
            name = f"c{version}"
            expected[name] = (version, None)
            commands.note(recorded(version, started(name), name, "h", version))
        if chance.random() < 0.02:
            commands = HandledCommands(*commands.packed())
    for name, facts in expected.items():
        for asked in (commands, HandledCommands(*commands.packed())):
            found = asked.get(name)
            assert found is not None and (found.version, found.completed_at) == facts


def test_bytes_that_only_look_like_a_key_are_not_taken_for_one() -> None:
    source = noted(recorded(1, started(), "c1", "h", 1))
    key, facts = source.packed()
    across = bytes(5) + key + bytes(11)
    assert HandledCommands(across, facts * 2).get("c1") is None
    assert HandledCommands(key + across, facts * 3).get("c1") is not None


@pytest.mark.parametrize("parts", [(b"1", b""), (bytes(16), b""), (b"", bytes(39)), (bytes(16), bytes(40))])
def test_parts_that_do_not_fit_are_refused(parts: Any) -> None:
    with pytest.raises(ValueError, match="do not fit"):
        HandledCommands(*parts)


def test_a_command_takes_55_bytes() -> None:
    commands = noted(*(recorded(number, started(), f"c{number}", "h", number) for number in range(1, 1001)))
    assert sum(map(len, commands.packed())) == 55_000
