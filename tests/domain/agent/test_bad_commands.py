"""Commands of any shape: what comes out of the types and the decider is events that can be read, or a refusal."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from l02.domain.agent.checkpoints import Checkpoint, ExpireCheckpoints
from l02.domain.agent.executions import Execute, ExecutionDue
from l02.domain.agent.forks import Fork
from l02.domain.agent.restarts import RestartDue
from l02.domain.agent.restoring import Restore
from l02.domain.agent.resuming import Resume
from l02.domain.agent.signals import Signal
from l02.domain.agent.spawning import Spawn
from l02.domain.agent.suspension import Suspend
from l02.domain.agent.termination import Terminate
from l02.domain.aggregates import AGENT
from l02.domain.errors import ErrorCode, Failure
from l02.domain.kernel.message import Event, WireCommand
from tests.domain.agent.story import EXECUTING, FAILED, RESTARTING, SUSPENDED, TERMINATING
from tests.domain.agent.story import given as an_agent
from tests.domain.given_when_then import context
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
    ExecutionDue: {"execution_id": "x1", "deadline": 1060.0},
    RestartDue: {"attempt": 1},
}
LIVES: list[tuple[Event, ...]] = [(), EXECUTING, RESTARTING, SUSPENDED, TERMINATING, FAILED]
FROM_OUTSIDE = (*AGENT.wire_commands.values(), *AGENT.due_commands.values())
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
        events = AGENT.decide(an_agent(*life).state, command, context())
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
