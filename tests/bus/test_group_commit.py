"""What waits together is stored together; what cannot be stored harms nobody beside it."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nats.aio.client import Client
from nats.errors import MaxPayloadError
from nats.js.errors import APIError

from l02.bus.commands.outcomes import Outcome, publish_outcome
from l02.bus.connection.bus import Bus
from l02.bus.connection.requests import Message, Requests
from l02.bus.connection.streams import OUTCOMES_STREAM
from l02.bus.embedded import EmbeddedNats
from l02.bus.jetstream.group_commit import (
    _SINGLES_IN_FLIGHT,
    MAX_BATCH_MESSAGES,
    GroupCommit,
    GroupCommitClosed,
    _Unit,
    together,
)
from l02.bus.wire.incoming import COMMAND_ID_HEADER
from l02.bus.wire.subjects import outcome_subject
from tests.bus.toy import another_process, outcomes

MANY = 4 * _SINGLES_IN_FLIGHT


def said(number: int) -> Outcome:
    return Outcome(command_id=f"c{number}", ok=True, version=number + 1)


def message(name: str, payload: bytes = b"{}", expected: int = 0) -> list[Message]:
    return [(outcome_subject(name), payload, {"Nats-Expected-Last-Subject-Sequence": str(expected)})]


async def batches(bus: Bus) -> list[str | None]:
    """The batch of each message of the stream, if it was in one."""
    count = (await bus.jetstream.stream_info(OUTCOMES_STREAM)).state.last_seq
    found = [await bus.stored(OUTCOMES_STREAM, sequence=number) for number in range(1, count + 1)]
    return [(item.headers or {}).get("Nats-Batch-Id") for item in found if item is not None]


async def test_a_few_outcomes_go_side_by_side(bus: Bus) -> None:
    await asyncio.gather(*(publish_outcome(bus, said(number)) for number in range(_SINGLES_IN_FLIGHT)))
    assert await batches(bus) == [None] * _SINGLES_IN_FLIGHT


async def test_a_few_more_wait_for_their_turn_and_make_no_batch(bus: Bus) -> None:
    async def say(begin: int) -> None:
        for _ in range(begin):
            await asyncio.sleep(0)  # one in each round of the loop: never many wait at once
        await publish_outcome(bus, said(begin))

    await asyncio.gather(*(say(number) for number in range(_SINGLES_IN_FLIGHT + 4)))
    assert await batches(bus) == [None] * (_SINGLES_IN_FLIGHT + 4)


async def test_many_outcomes_share_a_batch(bus: Bus) -> None:
    await asyncio.gather(*(publish_outcome(bus, said(number)) for number in range(MANY)))
    found = await batches(bus)
    assert len(found) == MANY and None not in found and len(set(found)) <= 3
    for number in range(MANY):
        assert await outcomes(bus, f"c{number}") == [said(number)]


async def test_an_outcome_said_before_is_not_said_again_and_those_beside_it_are(bus: Bus) -> None:
    await publish_outcome(bus, said(5))
    await asyncio.gather(*(publish_outcome(bus, said(number)) for number in range(MANY)))
    for number in range(MANY):
        assert await outcomes(bus, f"c{number}") == [said(number)]


async def test_a_command_stored_a_moment_ago_is_not_stored_again_and_those_beside_it_are(bus: Bus) -> None:
    commit = together(bus, OUTCOMES_STREAM)

    def command(number: int) -> list[Message]:
        return [(outcome_subject("note"), b"{}", {COMMAND_ID_HEADER: f"c{number}"})]

    first = await commit.store({"c5"}, command(5))
    answers = await asyncio.gather(*(commit.store({f"c{number}"}, command(number)) for number in range(MANY)))
    assert answers[5] == first
    assert sorted(answers) == list(range(1, MANY + 1))


async def test_one_that_is_too_large_fails_alone(bus: Bus) -> None:
    commit = together(bus, OUTCOMES_STREAM)
    large = b"x" * (bus.client.max_payload + 1)
    answers = await asyncio.gather(
        *(commit.store({number}, message(f"c{number}", large if number == 3 else b"{}")) for number in range(MANY)),
        return_exceptions=True,
    )
    assert isinstance(answers[3], MaxPayloadError)
    assert all(isinstance(answer, int) for number, answer in enumerate(answers) if number != 3)


async def test_an_expectation_that_does_not_hold_fails_alone(bus: Bus) -> None:
    commit = together(bus, OUTCOMES_STREAM)
    answers = await asyncio.gather(
        *(commit.store({number}, message(f"c{number}", expected=9 * (number == 3))) for number in range(MANY)),
        return_exceptions=True,
    )
    assert isinstance(answers[3], APIError)
    assert all(isinstance(answer, int) for number, answer in enumerate(answers) if number != 3)


async def test_whoever_waits_when_the_connection_is_given_up_is_told(fresh_nats: EmbeddedNats, bus: Bus) -> None:
    async with another_process(fresh_nats.url) as (leaving, _):
        commit = together(leaving, OUTCOMES_STREAM)
        waiting = [
            asyncio.create_task(commit.store({number}, message(f"c{number}")))
            for number in range(50 * _SINGLES_IN_FLIGHT)
        ]
        await asyncio.sleep(0)
    answers = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(answer, int | GroupCommitClosed) for answer in answers)
    assert any(isinstance(answer, GroupCommitClosed) for answer in answers)
    with pytest.raises(GroupCommitClosed):
        await commit.store({"late"}, message("late"))


async def test_of_two_that_expect_the_same_of_one_aggregate_the_first_is_stored_and_none_beside_them_is_harmed(
    bus: Bus,
) -> None:
    commit = together(bus, OUTCOMES_STREAM)
    both = (3, 40)

    def unit(number: int) -> list[Message]:
        return message(f"c{number}") + (message("shared") if number in both else [])

    answers = await asyncio.gather(
        *(commit.store({number} | ({"shared"} if number in both else set()), unit(number)) for number in range(MANY)),
        return_exceptions=True,
    )
    assert [number for number in range(MANY) if isinstance(answers[number], APIError)] == [both[1]]
    assert sum(isinstance(answer, int) for answer in answers) == MANY - 1


units = st.tuples(
    st.frozensets(st.sampled_from("abcdefgh"), max_size=3),
    st.sampled_from([1, 2, 3, MAX_BATCH_MESSAGES // 2, MAX_BATCH_MESSAGES]),
)


@given(st.lists(units, min_size=1, max_size=40))
@settings(deadline=None)
def test_units_that_expect_something_of_the_same_aggregate_never_share_a_batch(
    asked: list[tuple[frozenset[str], int]],
) -> None:
    async def taken() -> None:
        commit = GroupCommit(Requests(Client()))
        waiting = [_Unit(keys, message("c") * size) for keys, size in asked]
        commit._waiting.extend(waiting)
        batches: list[list[_Unit]] = []
        while commit._waiting:
            batches.append(commit._take_batch())
        assert [unit for batch in batches for unit in batch] == waiting
        for batch, following in zip(batches, [*batches[1:], None], strict=True):
            named = [key for unit in batch for key in unit.keys]
            assert len(named) == len(set(named))
            count = sum(len(unit.messages) for unit in batch)
            assert count <= MAX_BATCH_MESSAGES or len(batch) == 1
            if following is not None:  # it ends only where it must
                full = count + len(following[0].messages) > MAX_BATCH_MESSAGES
                assert full or following[0].keys & set(named)

    asyncio.run(taken())
