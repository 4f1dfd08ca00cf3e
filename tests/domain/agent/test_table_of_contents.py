"""Every command has its file here, and none speaks to an agent that does not exist."""

from pathlib import Path

import pytest

from l02.domain.agent import commands as c
from l02.domain.errors import ErrorCode
from l02.domain.message import Command
from tests.domain.agent.session_story import (
    report_degraded,
    report_ended,
    report_recovered,
    report_restored,
    report_rolled_back,
    report_saved,
    report_started,
)
from tests.domain.agent.story import (
    complete_execution,
    given,
    record_tool,
    report_exit,
    report_spawn_failed,
    report_spawned,
    report_stored,
    report_terminated,
    request_tool,
)

COMMANDS = (*c.WIRE_COMMANDS, *c.DUE_COMMANDS, *c.INTERNAL_COMMANDS)
TO_AN_EXISTING_AGENT: list[Command] = [
    c.Execute(input=1),
    c.Signal(name="approve"),
    c.Suspend(),
    c.Resume(),
    c.Terminate(),
    c.RestartDue(attempt=1),
    c.ExecutionDue(execution_id="x1", deadline=1060.0),
    report_spawned(),
    report_spawn_failed(),
    report_exit(),
    c.RecoverProcess(node_id="n1", lost_node_id="n1", cause="node n1 began anew"),
    report_terminated(),
    request_tool(),
    record_tool(),
    c.RecordEffect(node_id="n1", execution_id="x1", call=1, kind="now", request=None),
    complete_execution(),
    c.FailExecution(node_id="n1", execution_id="x1", code="E2005", message="no"),
    c.Checkpoint(),
    c.Restore(checkpoint_id="k1"),
    c.ExpireCheckpoints(checkpoint_ids=("k1",)),
    c.RequestCheckpoint(checkpoint_id="k1", checkpoint_type="auto", node_id="n1"),
    report_stored(),
    c.ReportCheckpointFailed(checkpoint_id="k1", code="E2030", message="no"),
    c.ReportRestored(checkpoint_id="k1", restore_seconds=0.1, state={}),
    c.ReportRestoreFailed(checkpoint_id="k1", code="E2032", message="no"),
    c.SuspendIdle(revision=0, checkpoint_id="k1", node_id="n1"),
    report_started(),
    report_saved(),
    report_rolled_back(),
    report_recovered(),
    report_ended(),
    report_degraded(),
    report_restored(),
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.verb)
def test_every_command_has_its_file(command: type[Command]) -> None:
    tests = Path(__file__).with_name(f"test_{command.verb.replace('-', '_')}.py").read_text()
    assert "def test_happened" in tests


@pytest.mark.parametrize("command", TO_AN_EXISTING_AGENT, ids=lambda command: command.verb)
def test_there_must_be_an_agent(command: Command) -> None:
    given().when(command).fails(ErrorCode.AGGREGATE_NOT_FOUND, "l02 ps")


def test_none_is_left_out_above() -> None:
    assert {type(command) for command in TO_AN_EXISTING_AGENT} == {*COMMANDS} - {c.Spawn, c.Fork}
