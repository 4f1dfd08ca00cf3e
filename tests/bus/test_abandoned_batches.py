"""A client that begins as many atomic batches as the server takes, and leaves them, keeps nobody from storing."""

from __future__ import annotations

import asyncio
import uuid
from itertools import count

import pytest

from l02.bus.commands.outcomes import Outcome, publish_outcome
from l02.bus.commands.sender import send_command
from l02.bus.connection.bus import Bus
from l02.bus.jetstream.group_commit import _SINGLES_IN_FLIGHT
from l02.bus.log.event_store import Conflict, EventStore
from l02.bus.log.repository import Repository
from l02.bus.wire.subjects import CommandAddress, event_subject, outcome_subject
from tests.bus.toy import Noted, State, message, note, outcomes, payloads, processing, toy_id

MANY = 4 * _SINGLES_IN_FLIGHT
A_BATCH_IS_LEFT = 2.0  # seconds, after which the server gives it up
EVENTS = event_subject(toy_id("left"), Noted.type)


async def leave_batches(bus: Bus, subject: str) -> int:
    """Begin batches until the stream takes no more, and leave all; how many."""
    for number in count():
        headers = {"Nats-Batch-Id": uuid.uuid4().hex, "Nats-Batch-Sequence": "1"}
        answer = await bus.client.request(subject, b"{}", timeout=5, headers=headers)
        if b"10210" in answer.data:
            return number
    raise AssertionError("unreachable")


async def test_outcomes_go_alone_then(bus: Bus) -> None:
    said = [Outcome(command_id=f"c{number}", ok=True, version=1) for number in range(MANY)]
    assert await leave_batches(bus, outcome_subject("left")) > 1
    async with asyncio.timeout(A_BATCH_IS_LEFT):
        await asyncio.gather(*(publish_outcome(bus, outcome) for outcome in said))
    for outcome in said:
        assert await outcomes(bus, outcome.command_id) == [outcome]


async def test_events_go_alone_then_each_with_its_expectation(bus: Bus, store: EventStore) -> None:
    first = await store.append(toy_id("a0"), [message("a0", 1)], 0)
    assert await leave_batches(bus, EVENTS) > 1
    async with asyncio.timeout(A_BATCH_IS_LEFT):
        appends = [store.append(toy_id(f"a{number}"), [message(f"a{number}", 1)], 0) for number in range(MANY)]
        answers = await asyncio.gather(*appends, return_exceptions=True)
    assert isinstance(answers[0], Conflict)
    assert sorted(answers[1:]) == list(range(first + 1, first + MANY))  # type: ignore[type-var]
    for number in range(MANY):
        assert payloads(await store.load(toy_id(f"a{number}"))) == [1]


async def test_decisions_keep_their_order_and_those_of_several_events_wait_for_room(
    bus: Bus, store: EventStore, repository: Repository[State]
) -> None:
    """Sixty-four aggregates: each gets a few decisions, of one event and of two."""
    names = ("add", "add", "two", "add", "two")

    async def decide(aggregate_id: str) -> None:
        for number, name in enumerate(names):
            await repository.record(aggregate_id, note(number, name))

    assert await leave_batches(bus, EVENTS) > 1
    await asyncio.gather(*(decide(f"a{number}") for number in range(MANY)))
    for number in range(MANY):
        assert payloads(await store.load(toy_id(f"a{number}"))) == [0, 1, [2, 1], [2, 2], 3, [4, 1], [4, 2]]


@pytest.mark.parametrize("subject", [EVENTS, outcome_subject("left")])
async def test_commands_are_decided_and_answered_then(bus: Bus, repository: Repository[State], subject: str) -> None:
    async with processing(bus, repository):
        assert await leave_batches(bus, subject) > 1
        async with asyncio.timeout(A_BATCH_IS_LEFT):
            answers = await asyncio.gather(
                *(
                    send_command(
                        bus,
                        CommandAddress(toy_id(f"a{number}"), "note"),
                        b'{"name": "add"}',
                        command_id=f"c{number}",
                        headers={},
                    )
                    for number in range(MANY)
                )
            )
    assert all(answer.ok for answer in answers)
