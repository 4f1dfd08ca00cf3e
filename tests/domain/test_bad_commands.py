"""Commands of any shape: what comes out of the types and the decider is events that can be read, or a refusal."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from l02.domain.agent.work.signals import Signal
from l02.domain.aggregates import AGENT, AGGREGATES
from l02.domain.errors import ErrorCode, Failure
from l02.domain.kernel.aggregate import Aggregate
from l02.domain.kernel.message import Event, WireCommand
from tests.domain.agent.story import EXECUTING, FAILED, RESTARTING, SUSPENDED, TERMINATING
from tests.domain.given_when_then import Given, context
from tests.domain.json_values import json_values, texts
from tests.domain.read_back import read_back
from tests.golden.samples import COMMANDS, SAMPLES

SENDABLE: dict[type[WireCommand], dict[str, Any]] = {type(one): msgspec.to_builtins(one) for one in COMMANDS}
FROM_OUTSIDE = [
    (aggregate, command)
    for aggregate in AGGREGATES.values()
    for command in (*aggregate.wire_commands.values(), *aggregate.due_commands.values())
]
ENVELOPE = {"wait": "accepted", "expected_version": 3}
REFUSALS = {
    ErrorCode.COMMAND_INVALID,
    ErrorCode.AGGREGATE_NOT_FOUND,
    ErrorCode.INVALID_STATE,
    ErrorCode.RESTORE_FAILED,
    ErrorCode.QUOTA_UPDATE_FAILED,
}
commands = pytest.mark.parametrize(
    "command", [command for _, command in FROM_OUTSIDE], ids=lambda command: f"{command.__module__}.{command.verb}"
)


def lives(aggregate: Aggregate[Any]) -> list[tuple[Event, ...]]:
    """What may have happened to it before."""
    if aggregate is AGENT:
        return [(), EXECUTING, RESTARTING, SUSPENDED, TERMINATING, FAILED]
    return [(), tuple(SAMPLES[event.type].event for event in aggregate.events)]


@st.composite
def bodies(draw: st.DrawFn, command: type[WireCommand]) -> Any:
    """A command's body with some fields left out, some of other values, and some that it does not have."""
    whole = SENDABLE[command] | ENVELOPE
    body = {name: whole[name] for name in whole if draw(st.integers(0, 7)) > 0}
    names = st.sampled_from([*whole]) | texts
    return body | draw(st.dictionaries(names, json_values, max_size=1))


@given(st.data(), st.sampled_from(FROM_OUTSIDE))
def test_anything_is_taken_or_refused(data: st.DataObject, addressed: tuple[Aggregate[Any], type[WireCommand]]) -> None:
    aggregate, command_type = addressed
    life = data.draw(st.sampled_from(lives(aggregate)))
    try:
        command = msgspec.convert(data.draw(bodies(command_type)), command_type)
    except msgspec.ValidationError:
        return
    try:
        events = aggregate.decide(Given(aggregate, life).state, command, context())
    except Failure as failure:
        assert failure.code in REFUSALS
    else:
        assert [read_back(event) for event in events] == events


def test_every_command_has_a_sample() -> None:
    assert SENDABLE.keys() == {command for _, command in FROM_OUTSIDE}, "add it to tests/golden/samples.py"


@commands
def test_the_whole_body_is_taken(command: type[WireCommand]) -> None:
    taken = msgspec.convert(SENDABLE[command] | ENVELOPE, command)
    assert (taken.wait, taken.expected_version) == ("accepted", 3)


@commands
@pytest.mark.parametrize(
    "wrong", [{"unknown": 1}, {"wait": "for ever"}, {"expected_version": -1}, {"expected_version": "3"}], ids=str
)
def test_what_no_command_may_say(command: type[WireCommand], wrong: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(SENDABLE[command] | wrong, command)


@pytest.mark.parametrize("name", ["", "x" * 129])
def test_a_signals_name_has_bounds(name: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=r"\$\.name"):
        msgspec.convert({"name": name}, Signal)
