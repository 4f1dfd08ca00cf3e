"""All that is decided has its file here, and none of it speaks to an agent that does not exist."""

import re
from pathlib import Path

import pytest

from l02.domain.agent.checkpoints import Checkpoint, ExpireCheckpoints
from l02.domain.agent.effects import EffectRecorded
from l02.domain.agent.executions import Execute, ExecutionDue
from l02.domain.agent.restarts import RecoverProcess, RestartDue
from l02.domain.agent.restoring import Restore, RestoreFailed
from l02.domain.agent.resuming import Resume
from l02.domain.agent.signals import Signal
from l02.domain.agent.suspension import Suspend, SuspendIdle
from l02.domain.agent.termination import Terminate
from l02.domain.aggregates import AGENT
from l02.domain.errors import ErrorCode
from l02.domain.kernel.message import Command, Event, Report
from tests.domain.agent.session_story import (
    RECOVERED,
    RESTORED,
    ROLLED_BACK,
    SESSION_ENDED,
    degraded,
    saved,
    session_started,
)
from tests.domain.agent.story import (
    checkpoint_created,
    checkpoint_failed,
    checkpoint_requested,
    checkpoint_restored,
    completed,
    execution_failed,
    given,
    report_exit,
    report_spawn_failed,
    spawned,
    terminated,
    tool_called,
    tool_requested,
)

DECIDED = [message for message in AGENT.messages if issubclass(message, Command | Report)]
TO_AN_EXISTING_AGENT: list[Command | Report] = [
    Execute(input=1),
    Signal(name="approve"),
    Suspend(),
    Resume(),
    Terminate(),
    RestartDue(attempt=1),
    ExecutionDue(execution_id="x1", deadline=1060.0),
    spawned(),
    report_spawn_failed(),
    report_exit(),
    RecoverProcess(lost_node_id="n1", cause="node n1 began anew"),
    terminated(),
    tool_requested(),
    tool_called(),
    EffectRecorded(execution_id="x1", call=1, kind="now", request=None, result=None),
    completed(),
    execution_failed("E2005", "no"),
    Checkpoint(),
    Restore(checkpoint_id="k1"),
    ExpireCheckpoints(checkpoint_ids=("k1",)),
    checkpoint_requested(),
    checkpoint_created(),
    checkpoint_failed(),
    checkpoint_restored(),
    RestoreFailed(checkpoint_id="k1", code="E2032", message="no"),
    SuspendIdle(revision=0, checkpoint_id="k1"),
    session_started(),
    saved(),
    ROLLED_BACK,
    RECOVERED,
    SESSION_ENDED,
    degraded(),
    RESTORED,
]


def words(message: type[Event | Command]) -> str:
    return re.sub("(?<!^)(?=[A-Z])", "_", message.__name__).lower()


@pytest.mark.parametrize("message", DECIDED, ids=words)
def test_what_is_decided_has_its_file(message: type[Event | Command]) -> None:
    tests = Path(__file__).with_name(f"test_{words(message)}.py").read_text()
    assert "def test_happened" in tests


def test_what_has_a_decide_is_decided() -> None:
    assert {message for message in AGENT.messages if hasattr(message, "decide")} == {*DECIDED}


@pytest.mark.parametrize("message", TO_AN_EXISTING_AGENT, ids=lambda message: words(type(message)))
def test_there_must_be_an_agent(message: Command | Report) -> None:
    given().when(message).fails(ErrorCode.AGGREGATE_NOT_FOUND, "l02 ps")


def test_none_is_left_out_above() -> None:
    assert {type(message) for message in TO_AN_EXISTING_AGENT} == {one for one in DECIDED if not one.begins}
