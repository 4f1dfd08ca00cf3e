"""What concerns several aggregates is stored for all of them or for none, whoever else writes and whatever is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from l02.bus.log.event_store import AppendFailed, Conflict, EventStore, Part
from l02.bus.log.repository import Repository
from l02.bus.wire.codec import RecordedEvent
from l02.domain.errors import Failure
from l02.domain.kernel.message import Event
from tests.bus.toy import State, message, note, payloads, toy_id


async def states(repository: Repository[State], *names: str) -> list[State]:
    return [(await repository.load(name)).state for name in names]


async def test_all_in_one_append_each_on_its_own_past(
    repository: Repository[State], other: Repository[State], store: EventStore
) -> None:
    heard: list[RecordedEvent] = []
    prepared: list[str] = []

    async def prepare(aggregate_id: str, _: Sequence[Event]) -> None:
        prepared.append(aggregate_id)

    repository.on_recorded(heard.append)
    repository.before_storing(prepare)
    await other.record("b", note(0))
    decisions = await repository.record_together({"c": [note(1), note(2)], "a": [note(1)], "b": [note(3, "two")]})
    assert {name: decision.version for name, decision in decisions.items()} == {"c": 2, "a": 1, "b": 3}
    sequences = [item.sequence for decision in decisions.values() for item in decision.events]
    assert sequences == [2, 3, 4, 5, 6] == [item.sequence for item in heard]
    assert prepared == ["c", "a", "b"]
    assert await states(other, "a", "b", "c") == [(1,), (0, [3, 1], [3, 2]), (1, 2)]
    assert payloads(await store.load(toy_id("b"))) == [0, [3, 1], [3, 2]]


async def test_what_one_refuses_is_stored_for_none(repository: Repository[State], other: Repository[State]) -> None:
    with pytest.raises(Failure, match="not opened"):
        await repository.record_together({"a": [note(1)], "b": [note(2, "unless-opened")]})
    assert await states(repository, "a", "b") == [(), ()]
    await other.record("b", note("open"))  # which the first does not know when it decides
    await repository.record_together({"a": [note(1)], "b": [note(2, "unless-opened")]})
    assert await states(other, "a", "b") == [(1,), ("open", 2)]


async def test_who_changes_nothing_is_left_out(repository: Repository[State]) -> None:
    await repository.record("a", note(1))
    decisions = await repository.record_together({"a": [note(1, "once")], "b": [note(1, "once")]})
    assert [*decisions] == ["b"]
    assert await repository.record_together({"a": [note(1, "once")], "b": [note(1, "once")]}) == {}


async def test_writers_that_share_aggregates_lose_and_repeat_nothing(
    repository: Repository[State], other: Repository[State]
) -> None:
    async def write(writer: Repository[State], names: Sequence[str], number: int) -> None:
        await writer.record_together({name: [note(number)] for name in names})

    await asyncio.gather(
        *(write(repository, "ab", number) for number in range(0, 8)),
        *(write(repository, "ca", number) for number in range(8, 16)),
        *(write(other, "bc", number) for number in range(16, 20)),
    )
    a, b, c = await states(other, "a", "b", "c")
    assert sorted(a) == [*range(16)] and sorted(b) == [*range(8), *range(16, 20)] and sorted(c) == [*range(8, 20)]


@pytest.mark.parametrize("is_stored", [True, False])
async def test_an_answer_that_is_lost_is_found_in_the_log(
    repository: Repository[State], store: EventStore, monkeypatch: pytest.MonkeyPatch, is_stored: bool
) -> None:
    append, calls = store.append_together, 0

    async def silent(parts: Sequence[Part]) -> int:
        nonlocal calls
        calls += 1
        if calls > 1:
            return await append(parts)
        if is_stored:
            await append(parts)
        raise AppendFailed("no answer")

    monkeypatch.setattr(store, "append_together", silent)
    decisions = await repository.record_together({"a": [note(1)], "b": [note(2)]})
    assert calls == (1 if is_stored else 2)
    assert {name: payloads(decision.events) for name, decision in decisions.items()} == {"a": [1], "b": [2]}
    assert await states(repository, "a", "b") == [(1,), (2,)]


async def test_one_that_is_not_as_expected_is_a_conflict_for_all(
    repository: Repository[State], store: EventStore
) -> None:
    await repository.record("a", note(1))
    parts = [Part(toy_id("b"), [message("b", 1)], 0), Part(toy_id("a"), [message("a", 2)], 7)]
    with pytest.raises(Conflict):
        await store.append_together(parts)
    assert await states(repository, "a", "b") == [(1,), ()]
