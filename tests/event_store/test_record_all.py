"""Reports that follow one another: decided one upon the other, stored together, whatever happens in between."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from l02.bus.jetstream.group_commit import MAX_BATCH_BYTES, MAX_BATCH_MESSAGES
from l02.bus.log import attempt as module
from l02.bus.log.event_store import AppendFailed, Conflict, EventStore
from l02.bus.log.repository import Repository
from l02.bus.wire.codec import RecordedEvent
from l02.domain.errors import ErrorCode, Failure
from l02.domain.kernel.message import Context, Event
from tests.bus.toy import Note, State, metadata, note, payloads, toy_id

Appends = list[int]


@pytest.fixture
def appends(store: EventStore, monkeypatch: pytest.MonkeyPatch) -> Appends:
    """How many messages each append of this process had."""
    counts: Appends = []
    append = store.append

    async def counted(aggregate: Any, messages: Sequence[Any], *rest: Any) -> int:
        counts.append(len(messages))
        return await append(aggregate, messages, *rest)

    monkeypatch.setattr(store, "append", counted)
    return counts


async def test_each_is_decided_on_what_those_before_it_leave(
    repository: Repository[State], store: EventStore, appends: Appends
) -> None:
    heard: list[RecordedEvent] = []
    prepared: list[list[Event]] = []

    async def prepare(aggregate_id: str, events: Sequence[Event]) -> None:
        prepared.append([*events])

    repository.on_recorded(heard.append)
    repository.before_storing(prepare)
    reports = [note("x", "once"), note("x", "once"), note("open"), note(1, "unless-opened"), note(7, "two")]
    decision = await repository.record_all("a1", reports, "c1", correlation_id="root")
    assert appends == [5]
    assert payloads(decision.events) == ["x", "open", 1, [7, 1], [7, 2]] and decision.version == 5
    assert list(decision.events) == heard == await store.load(toy_id("a1"))
    assert [[item.event for item in heard]] == prepared
    assert {(item.metadata.causation_id, item.metadata.correlation_id) for item in heard} == {("c1", "root")}
    assert {item.metadata.actor for item in heard} == {"node/n1"}
    known = repository.in_memory("a1")
    assert known is not None and known.version == 5
    assert known.state == (await Repository(repository.aggregate, store, "n1").load("a1")).state


async def test_nothing_follows(repository: Repository[State], other: Repository[State], appends: Appends) -> None:
    assert (await repository.record_all("a1", [])).events == ()
    await repository.record("a1", note("x", "once"))
    await other.record("a1", note("y", "once"))
    decision = await repository.record_all("a1", [note("x", "once"), note("y", "once")])
    assert (decision.events, decision.version, appends) == ((), 2, [1, 1]), "it does not rest on an old state"


async def test_after_a_conflict_all_are_decided_again_in_order(
    repository: Repository[State], other: Repository[State], store: EventStore, appends: Appends
) -> None:
    await repository.record("a1", note("first"))
    await other.record_all("a1", [note("x", "once"), note("open")])
    reports = [note("y", "once"), note("x", "once"), note(1, "unless-opened")]
    decision = await repository.record_all("a1", reports)
    assert payloads(decision.events) == ["y", 1] and decision.version == 5
    assert payloads(await store.load(toy_id("a1"))) == ["first", "x", "open", "y", 1]
    assert appends[-1] == 2


async def test_those_before_a_refused_one_are_stored(
    repository: Repository[State], store: EventStore, appends: Appends
) -> None:
    with pytest.raises(Failure) as refused:
        await repository.record_all("a1", [note(1), note(2), note(3, "unless-opened"), note(4)])
    assert refused.value.code is ErrorCode.INVALID_STATE
    assert payloads(await store.load(toy_id("a1"))) == [1, 2] and appends == [2]
    with pytest.raises(Failure):
        await repository.record_all("a1", [note(3, "unless-opened"), note(4)])
    assert appends == [2]


async def test_a_refusal_does_not_rest_on_an_old_state(
    repository: Repository[State], other: Repository[State], store: EventStore
) -> None:
    await repository.record("a1", note("first"))
    await other.record("a1", note("open"))
    await repository.record_all("a1", [note(1), note(2, "unless-opened")])
    assert payloads(await store.load(toy_id("a1"))) == ["first", "open", 1, 2]


async def test_a_fault_leaves_the_aggregate_as_it_was(repository: Repository[State]) -> None:
    await repository.record("a1", note(0))
    with pytest.raises(RuntimeError):
        await repository.record_all("a1", [note(1), note(2, "boom")])
    assert (await repository.record("a1", note(3))).version == 2
    assert (await repository.load("a1")).state == (0, 3)


@pytest.mark.parametrize("lost", ["before it was stored", "after it was stored"])
async def test_what_was_not_acknowledged_is_stored_once(
    repository: Repository[State],
    other: Repository[State],
    store: EventStore,
    monkeypatch: pytest.MonkeyPatch,
    lost: str,
) -> None:
    heard: list[RecordedEvent] = []
    repository.on_recorded(heard.append)
    monkeypatch.setattr(module, "MAX_BATCH_MESSAGES", 3)
    append = store.append
    tried = 0

    async def unacknowledged(*arguments: Any) -> int:
        nonlocal tried
        tried += 1
        if tried % 2 == 0:
            return await append(*arguments)
        if lost == "after it was stored":
            await append(*arguments)
        await other.record("a1", note(f"later {tried}"))
        raise AppendFailed("the answer was lost")

    monkeypatch.setattr(store, "append", unacknowledged)
    decision = await repository.record_all("a1", [note(number) for number in range(6)])
    stored = await store.load(toy_id("a1"))
    assert [one for one in payloads(stored) if isinstance(one, int)] == list(range(6)) == payloads(decision.events)
    assert heard == list(decision.events) == [item for item in stored if isinstance(payloads([item])[0], int)]


async def test_one_that_another_process_keeps_changing_is_stored_in_order(
    repository: Repository[State], other: Repository[State], store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_BATCH_MESSAGES", 2)
    append = store.append
    conflicts = 0

    async def late(*arguments: Any) -> int:
        nonlocal conflicts
        if conflicts < 25:
            conflicts += 1
            await other.record("a1", note(f"other {conflicts}"))
            raise Conflict("wrong last sequence") if conflicts % 5 else AppendFailed("lost")
        return await append(*arguments)

    monkeypatch.setattr(store, "append", late)
    await repository.record_all("a1", [note(number) for number in range(5)])
    stored = payloads(await store.load(toy_id("a1")))
    assert [one for one in stored if isinstance(one, int)] == list(range(5)) and len(stored) == 30


async def test_more_than_a_batch_takes_is_stored_in_order(
    repository: Repository[State], store: EventStore, appends: Appends
) -> None:
    many = MAX_BATCH_MESSAGES
    reports: list[Note] = [note(number) for number in range(many - 1)]
    decision = await repository.record_all("a1", [*reports, note("pair", "two"), *reports])
    assert appends == [many - 1, many, 1], "what follows from one report stays together"
    assert payloads(decision.events) == [*range(many - 1), ["pair", 1], ["pair", 2], *range(many - 1)]
    assert list(decision.events) == await store.load(toy_id("a1"))


async def test_many_bytes_are_stored_in_order(
    repository: Repository[State], store: EventStore, appends: Appends
) -> None:
    text = "x" * (MAX_BATCH_BYTES // 3)
    decision = await repository.record_all("a1", [note([number, text]) for number in range(7)])
    assert appends == [2, 2, 2, 1]
    assert [number for number, _ in payloads(decision.events)] == list(range(7))
    assert len(await store.load(toy_id("a1"))) == 7


async def test_one_that_can_never_be_stored_is_refused_after_those_before_it(
    repository: Repository[State], store: EventStore
) -> None:
    with pytest.raises(Failure) as refused:
        await repository.record_all("a1", [note(1), note("x" * 8 * 1024 * 1024), note(2)])
    assert refused.value.code is ErrorCode.PAYLOAD_TOO_LARGE
    assert payloads(await store.load(toy_id("a1"))) == [1]


async def test_whose_word_it_is_is_known_to_the_decision(
    repository: Repository[State], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int | None] = []
    decide = Note.decide

    def watched(self: Note, state: State, context: Context, /) -> Any:
        seen.append(context.incarnation)
        return decide(self, state, context)

    monkeypatch.setattr(Note, "decide", watched)
    await repository.record("a1", note(1))
    await repository.record("a1", note(1), incarnation=3)
    await repository.record_all("a1", [note(1), note(2)], incarnation=4)
    await repository.decide("a1", note(2), metadata())
    assert seen == [None, 3, 4, 4, None]
