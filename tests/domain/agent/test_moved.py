"""An agent that was given to another node: what its former node still reports changes nothing."""

import pytest
from msgspec.structs import replace

from l02.domain.agent import commands as c
from l02.domain.errors import ErrorCode
from l02.domain.message import Command
from tests.domain.agent.story import (
    EXECUTING,
    complete_execution,
    given,
    record_tool,
    report_exit,
    report_spawned,
    request_tool,
)

TO_N2 = c.RecoverProcess(node_id="n2", lost_node_id="n1", cause="node n1 is lost")


@pytest.mark.parametrize(
    "command",
    [
        request_tool(),
        record_tool(),
        c.RecordEffect(node_id="n1", execution_id="x1", call=1, kind="now", request={}, result=1.0),
        complete_execution(),
        c.FailExecution(node_id="n1", execution_id="x1", code="E2005", message="no"),
    ],
    ids=lambda command: command.verb,
)
def test_its_former_executor_is_refused(command: c.ExecutorCommand) -> None:
    before = given(*EXECUTING)
    moved = before.and_then(*before.aggregate.decide(before.state, TO_N2))
    moved.when(command).fails(ErrorCode.INVALID_STATE, "not on node n1 but on n2")
    assert moved.aggregate.decide(moved.state, replace(command, node_id="n2"))


@pytest.mark.parametrize("command", [report_spawned(), report_exit()], ids=lambda command: command.verb)
def test_its_former_process_is_stale(command: Command) -> None:
    before = given(*EXECUTING)
    before.and_then(*before.aggregate.decide(before.state, TO_N2)).when(command).ignored()
