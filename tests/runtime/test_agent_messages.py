"""Every message of the agent protocol, however spoiled: its documented end, and nobody else waits for an answer."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from l02.bus.wire.agent.texts import MESSAGE_BYTES, cut
from l02.client.client import Client
from l02.domain.errors import Failure
from tests.runtime.answering import require_answers
from tests.runtime.conftest import talker, worker
from tests.runtime.hostile_events import examples
from tests.runtime.hostile_lines import KINDS, NOISE, OF_STEPS, any_line, line, places, spoiled
from tests.runtime.judged_lines import DONE, OWN, WAIT, End, end_of_spawn, end_of_work

T = TypeVar("T")

_EACH = 2
_AT_ONCE = 2
_HELLO = line("hello")
_OWN_TOOL = {"name": "own", "description": "", "schema": {}, "idempotent": True}
_OFFER = line("hello", records_steps=True, tools=[_OWN_TOOL])
_END = line("complete", output="end")


def _spoiled(kind: str) -> list[str]:
    """The message, and some with another value in each of its fields."""
    lines = [said for place in places(kind) for said in examples(spoiled(kind, place), _EACH)]
    return [*dict.fromkeys([line(kind), *lines])]


@dataclass
class Work:
    """What an agent says in an execution, and what has to come of it, where `$ID` stands for the execution's id."""

    said: list[str]
    expected: End
    hello: str


def _work(said: list[str], hello: str = _HELLO) -> Work:
    """Judged before it is told: that takes the loop longer than telling it."""
    expected = end_of_work(said, "$ID", hello == _OFFER)
    if expected is None:
        expected = end_of_work(said := [*said, _END], "$ID", hello == _OFFER)
    assert expected is not None
    return Work(said, expected, hello)


async def _execute(client: Client, agent_id: str, work: Work) -> None:
    """Have the agent say this at work, and see whether the right thing comes of it."""
    said, expected, execution_id = work.said, work.expected, uuid.uuid4().hex
    try:
        output = (await client.execute(agent_id, said, command_id=execution_id)).output
    except Failure as failure:
        assert failure.code.value in expected.codes, (said, expected, failure)
        if failure.detail is not None:
            assert expected.said is not None
            own = expected.said["code"]
            assert failure.detail.code == cut(own, 64), said
            assert failure.detail.name == cut(expected.said.get("name", cut(own, 64)), 256), said
        if expected.said is not None:
            assert failure.message.startswith(expected.said["message"][:20]), said
        assert len(failure.message.encode()) <= MESSAGE_BYTES
    else:
        assert DONE in expected.codes, (said, expected, output)
        assert json.loads(json.dumps(output).replace(execution_id, "$ID")) == expected.output, said


async def _work_off(client: Client, stories: Iterable[Work]) -> None:
    """Each on an agent that is there, or on a new one once that has gone; all say the same at first."""
    agent_id = None
    for work in stories:
        if agent_id is None:
            agent_id = await _spawn(client, work.hello)
            assert agent_id is not None
        await _execute(client, agent_id, work)
        if not work.expected.agent_goes_on:
            agent_id = None
    if agent_id is not None:
        await client.terminate(agent_id, force=True)


async def _spawn(client: Client, first: str) -> str | None:
    """An agent that has said this first, if it is one then; and see whether that is right."""
    agent_id = uuid.uuid4().hex
    expected = end_of_spawn(first)
    specification = talker(first) | {"executor": {"context_window_tokens": 100_000_000}}
    try:
        await client.spawn(specification, id=agent_id)
    except Failure as failure:
        assert failure.code.value == expected, (first, failure)
        return None
    assert expected == DONE, first
    return agent_id


async def _side_by_side(work: Callable[[T], Awaitable[None]], items: list[T]) -> None:
    slots = asyncio.Semaphore(_AT_ONCE)

    async def one(item: T) -> None:
        async with slots:
            await work(item)

    async with asyncio.TaskGroup() as tasks:
        for item in items:
            tasks.create_task(one(item))


@pytest_asyncio.fixture(scope="module")
async def other(client: Client) -> AsyncIterator[str]:
    """An agent that does no harm."""
    agent_id = (await client.spawn(worker(), id=uuid.uuid4().hex)).agent_id
    yield agent_id
    await client.terminate(agent_id)


@pytest.mark.parametrize("kind", KINDS)
async def test_every_field_of_every_message(client: Client, other: str, kind: str) -> None:
    """Said at work, and each has the end that the protocol's page tells of."""
    before = [line("tool", tool=OWN), WAIT] if kind.startswith("tool_") else []
    lines = [line(kind)] if kind in ("hello", "load_failed", *OF_STEPS) else _spoiled(kind)  # those are spoiled below
    stories = [_work([*before, said]) for said in lines]

    async def attack() -> None:
        await _side_by_side(lambda some: _work_off(client, some), [stories[n::_AT_ONCE] for n in range(_AT_ONCE)])

    await require_answers(client, other, attack)


@pytest.mark.parametrize("kind", [*OF_STEPS, "now"])
async def test_every_field_of_what_one_says_that_does_steps(client: Client, other: str, kind: str) -> None:
    """Also said twice, and before the end that goes with it."""
    failed = line("fail", code="E2001")
    stories = [_work([said], _OFFER) for said in _spoiled(kind)]
    stories += [_work(said, _OFFER) for said in ([line(kind)] * 2, [line(kind), failed])]

    async def attack() -> None:
        await _side_by_side(lambda some: _work_off(client, some), [stories[n::_AT_ONCE] for n in range(_AT_ONCE)])

    await require_answers(client, other, attack)


async def test_every_field_of_the_first_message(client: Client, other: str) -> None:
    """As the first: `hello`, however it is, `load_failed`, and what must not come first."""
    firsts = [*_spoiled("hello"), *_spoiled("load_failed"), *map(line, KINDS), *NOISE]

    async def spawn(first: str) -> None:
        agent_id = await _spawn(client, first)
        if agent_id is not None:
            assert (await client.execute(agent_id, [_END])).output == "end"
            await client.terminate(agent_id, force=True)

    async def attack() -> None:
        await _side_by_side(spawn, [first for first in dict.fromkeys(firsts) if _can_be_an_argument(first)])

    await require_answers(client, other, attack)


def _can_be_an_argument(first: str) -> bool:
    return first.isprintable() and len(first) < 120_000


_story = st.tuples(
    st.lists(any_line(), min_size=1, max_size=4), st.none() | any_line(), st.sampled_from([_HELLO, _OFFER])
)


@settings(
    max_examples=6,
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),  # a smaller example takes minutes to find
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(stories=st.lists(_story, min_size=3, max_size=3))
async def test_whatever_an_agent_says(
    client: Client, other: str, stories: list[tuple[list[str], str | None, str]]
) -> None:
    """Some messages, and perhaps one more after the end of its work."""

    def whole(said: list[str], late: str | None, hello: str) -> list[Work]:
        ended = end_of_work(said, "$ID", hello == _OFFER) is not None
        told = [*said, *([] if ended else [_END]), *([] if late is None else [late])]
        return [_work(told, hello), _work([_END], hello)]

    works = [whole(*story) for story in stories]
    await require_answers(client, other, lambda: _side_by_side(lambda some: _work_off(client, some), works))
