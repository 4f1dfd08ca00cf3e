import msgspec
import pytest
from msgspec.structs import replace

from l02.domain.agent import commands as c
from l02.domain.agent import events as e
from l02.domain.agent.forks import Past
from l02.domain.agent.state import Execution, JournalEntry, Status
from l02.domain.errors import ErrorCode
from tests.domain.agent.story import (
    EXECUTING,
    MOVED_ON,
    RUNNING,
    SPEC,
    given,
    origin,
    past_after,
    spawn_requested,
    started,
    tool_called,
    tool_requested,
)


def fork(past: Past | None, checkpoint_id: str | None = None) -> c.Fork:
    return c.Fork(from_agent_id="a0", checkpoint_id=checkpoint_id, origin=origin(past=past))


def test_happened() -> None:
    after = (
        given()
        .when(fork(past_after(*MOVED_ON), "k1"))
        .then(
            spawn_requested(awaited_by="c1"),
            e.AgentForked(
                from_agent_id="a0",
                from_version=len(MOVED_ON),
                from_sequence=10 * len(MOVED_ON),
                checkpoint_id="k1",
                state={"seen": 5},
                signals=(e.PendingSignal(name="approve", payload=True),),
            ),
        )
    )
    assert after.state.status is Status.PENDING
    assert after.state.data == {"seen": 5}
    assert [signal.name for signal in after.state.signals] == ["approve"]
    assert after.state.checkpoints == {}, "those are the other's"


def test_work_under_way_goes_on_with_what_is_recorded() -> None:
    waiting = e.EffectRecorded(
        execution_id="x1", call=3, kind="sleep", request={"seconds": 9.0}, result=None, done=False, deadline=1.0
    )
    past = past_after(*EXECUTING, tool_called(1), tool_requested(2), waiting)
    entry = JournalEntry(
        call=1, kind="tool", request={"tool": "send_mail", "arguments": {"to": "bob"}}, ok=True, result="sent"
    )
    forked = e.AgentForked(
        from_agent_id="a0", from_version=6, from_sequence=60, checkpoint_id=None, state={}, signals=()
    )
    inherited = e.ExecutionInherited(execution_id="x1", input="how many commits?", journal=(entry,))
    after = given().when(fork(past)).then(spawn_requested(awaited_by="c1"), forked, inherited)
    assert after.state.executions == {
        "x1": Execution(execution_id="x1", input="how many commits?", journal=(entry,))
    }, "what had no answer there is begun anew here, and nobody waits for it"


def test_its_past_can_be_that_of_an_agent_that_has_ended() -> None:
    failed = e.AgentFailed(code="E2025", message="gave up")
    after = given(*RUNNING, started(), failed)
    assert past_after(*after.past).executions[0].execution_id == "x1"


def test_refused_without_a_past() -> None:
    given().when(fork(None)).fails(ErrorCode.AGGREGATE_NOT_FOUND, "no agent 'a0'", "$.from_agent_id")


def test_refused_when_the_agent_exists() -> None:
    given(*RUNNING).when(fork(past_after(*MOVED_ON))).fails(ErrorCode.INVALID_STATE, "choose another id")


@pytest.mark.parametrize("points", [{"at": 1, "version": 1}, {"version": 1, "checkpoint_id": "k1"}])
def test_one_point_is_enough(points: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError, match="at most one"):
        msgspec.convert({"from_agent_id": "a0", **points}, c.Fork)


def test_the_time_of_work_under_way_begins_anew() -> None:
    spec = replace(SPEC, resource_limits=replace(SPEC.resource_limits, execution_seconds=60.0))
    past = past_after(spawn_requested(spec=spec), replace(started(), deadline=1060.0))
    command = replace(fork(past), origin=replace(origin(past=past), time=5000.5))
    forked = e.AgentForked(
        from_agent_id="a0", from_version=2, from_sequence=20, checkpoint_id=None, state={}, signals=()
    )
    inherited = e.ExecutionInherited(execution_id="x1", input="how many commits?", journal=(), deadline=5060.5)
    after = given().when(command).then(spawn_requested(spec=spec, awaited_by="c1"), forked, inherited)
    assert after.state.executions["x1"].deadline == 5060.5
