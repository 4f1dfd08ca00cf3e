"""An agent that was given to another node: what its former node still reports changes nothing."""

import pytest
from msgspec.structs import replace

from l02.domain.agent.life.restarts import RecoverProcess
from l02.domain.agent.state import AgentState
from l02.domain.agent.work.effects import EffectRecorded
from l02.domain.errors import ErrorCode
from l02.domain.kernel.message import Command, Report
from tests.domain.agent.story import (
    EXECUTING,
    checkpoint_requested,
    completed,
    execution_failed,
    given,
    report_exit,
    spawned,
    tool_called,
    tool_requested,
)
from tests.domain.given_when_then import Given, context

TO_N2 = RecoverProcess(lost_node_id="n1", cause="node n1 is lost")
OF_EXECUTORS = [
    tool_requested(),
    tool_called(),
    EffectRecorded(execution_id="x1", call=1, kind="now", request={}, result=1.0),
    completed(),
    execution_failed("E2005", "no"),
]


def moved() -> Given[AgentState]:
    before = given(*EXECUTING)
    return before.and_then(*before.aggregate.decide(before.state, TO_N2, context(node_id="n2")))


@pytest.mark.parametrize("report", OF_EXECUTORS, ids=lambda report: report.type)
def test_its_former_executor_is_refused(report: Report) -> None:
    moved().when(report, node_id="n1").fails(ErrorCode.INVALID_STATE, "not on node n1 but on n2")
    moved().when(report, node_id="n2").then(report)


def test_its_former_executors_checkpoint_is_refused() -> None:
    asked = checkpoint_requested("k2", call=1)
    moved().when(asked).fails(ErrorCode.INVALID_STATE, "not on node n1 but on n2")
    moved().when(replace(asked, node_id="n2")).then(replace(asked, node_id="n2"))


@pytest.mark.parametrize("message", [spawned(), report_exit()], ids=lambda message: type(message).__name__)
def test_its_former_process_is_stale(message: Command | Report) -> None:
    moved().when(message).ignored()
