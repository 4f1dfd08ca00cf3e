"""Commands of any shape: what comes out of the types and the decider is events that can be read, or a refusal."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from l02.domain.agent.commands import (
    DUE_COMMANDS,
    WIRE_COMMANDS,
    Checkpoint,
    Execute,
    ExecutionDue,
    ExpireCheckpoints,
    Fork,
    RestartDue,
    Restore,
    Resume,
    Signal,
    Spawn,
    Suspend,
    Terminate,
    WireCommand,
)
from l02.domain.aggregates import AGENT
from l02.domain.errors import ErrorCode, Failure
from l02.domain.message import Event
from tests.domain.agent.story import EXECUTING, FAILED, RESTARTING, SUSPENDED, TERMINATING, origin
from tests.domain.agent.story import given as an_agent
from tests.domain.json_values import json_values, texts
from tests.domain.read_back import read_back

SENDABLE: dict[type[WireCommand], dict[str, Any]] = {
    Spawn: {
        "spec": {
            "name": "historian",
            "entrypoint": "/agents/historian.py",
            "resource_limits": {"execution_seconds": 60.0},
        },
        "fleet_id": "archive",
        "state": {"seen": 1},
    },
    Execute: {"input": {"question": "how many commits?"}},
    Signal: {"name": "approve", "payload": True},
    Suspend: {"reason": "lunch", "checkpoint": False},
    Resume: {"checkpoint_id": "k1"},
    Checkpoint: {"label": "before the move"},
    Restore: {"checkpoint_id": "k1"},
    Fork: {"from_agent_id": "a0", "at": 17},
    ExpireCheckpoints: {"checkpoint_ids": ["k1"], "keep": 1},
    Terminate: {"reason": "drain", "force": True},
    RestartDue: {"attempt": 1},
    ExecutionDue: {"execution_id": "x1", "deadline": 1060.0},
}
LIVES: list[tuple[Event, ...]] = [(), EXECUTING, RESTARTING, SUSPENDED, TERMINATING, FAILED]
FROM_OUTSIDE = (*WIRE_COMMANDS, *DUE_COMMANDS)
ENVELOPE = {"wait": "accepted", "expected_version": 3}
REFUSALS = {
    ErrorCode.COMMAND_INVALID,
    ErrorCode.AGGREGATE_NOT_FOUND,
    ErrorCode.INVALID_STATE,
    ErrorCode.RESTORE_FAILED,
}


@st.composite
def bodies(draw: st.DrawFn) -> tuple[type[WireCommand], Any]:
    """A command's body with some fields left out, some of other values, and some that it does not have."""
    command = draw(st.sampled_from(FROM_OUTSIDE))
    whole = SENDABLE[command] | ENVELOPE
    body = {name: whole[name] for name in whole if draw(st.integers(0, 7)) > 0}
    names = st.sampled_from([*whole]) | texts
    return command, body | draw(st.dictionaries(names, json_values, max_size=1))


@given(bodies(), st.sampled_from(LIVES))
def test_anything_is_taken_or_refused(sent: tuple[type[WireCommand], Any], life: tuple[Event, ...]) -> None:
    command_type, body = sent
    try:
        command = msgspec.convert(body, command_type)
    except msgspec.ValidationError:
        return
    try:
        events = AGENT.decide(an_agent(*life).state, msgspec.structs.replace(command, origin=origin("c1")))
    except Failure as failure:
        assert failure.code in REFUSALS
    else:
        assert [read_back(event) for event in events] == events


@pytest.mark.parametrize("command", FROM_OUTSIDE, ids=lambda command: command.verb)
def test_the_whole_body_is_taken(command: type[WireCommand]) -> None:
    taken = msgspec.convert(SENDABLE[command] | ENVELOPE, command)
    assert (taken.wait, taken.expected_version) == ("accepted", 3)


@pytest.mark.parametrize("command", FROM_OUTSIDE, ids=lambda command: command.verb)
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
