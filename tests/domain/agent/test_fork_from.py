from msgspec.structs import replace

from l02.domain.agent.execution import Execution, Journal, JournalEntry
from l02.domain.agent.life.restarts import AgentFailed
from l02.domain.agent.saved.forks import AgentForked, ExecutionInherited, ForkFrom, Past
from l02.domain.agent.state import PendingSignal, Status
from l02.domain.agent.work.effects import EffectRecorded
from l02.domain.errors import ErrorCode
from tests.domain.agent.story import (
    EXECUTING,
    MOVED_ON,
    RUNNING,
    SPEC,
    given,
    past_after,
    spawn_requested,
    started,
    tool_called,
    tool_requested,
)


def fork(past: Past, checkpoint_id: str | None = None) -> ForkFrom:
    return ForkFrom(from_agent_id="a0", checkpoint_id=checkpoint_id, past=past, awaited_by="c1")


def test_happened() -> None:
    after = (
        given()
        .when(fork(past_after(*MOVED_ON), "k1"))
        .then(
            spawn_requested(awaited_by="c1"),
            AgentForked(
                from_agent_id="a0",
                from_version=len(MOVED_ON),
                from_sequence=10 * len(MOVED_ON),
                checkpoint_id="k1",
                state={"seen": 5},
                signals=(PendingSignal(name="approve", payload=True),),
            ),
        )
    )
    assert after.state.status is Status.PENDING
    assert after.state.data == {"seen": 5}
    assert [signal.name for signal in after.state.signals] == ["approve"]
    assert after.state.checkpoints == {}, "those are the other's"


def test_work_under_way_goes_on_with_what_is_recorded() -> None:
    waiting = EffectRecorded(
        execution_id="x1", call=3, kind="sleep", request={"seconds": 9.0}, result=None, done=False, deadline=1.0
    )
    past = past_after(*EXECUTING, tool_called(1), tool_requested(2), waiting)
    entry = JournalEntry(
        call=1, kind="tool", request={"tool": "send_mail", "arguments": {"to": "bob"}}, ok=True, result="sent"
    )
    forked = AgentForked(from_agent_id="a0", from_version=6, from_sequence=60, checkpoint_id=None, state={}, signals=())
    inherited = ExecutionInherited(execution_id="x1", input="how many commits?", journal=(entry,))
    after = given().when(fork(past)).then(spawn_requested(awaited_by="c1"), forked, inherited)
    assert after.state.executions == {
        "x1": Execution(execution_id="x1", input="how many commits?", journal=Journal([entry]))
    }, "what had no answer there is begun anew here, and nobody waits for it"


def test_its_past_can_be_that_of_an_agent_that_has_ended() -> None:
    failed = AgentFailed(code="E2025", message="gave up")
    after = given(*RUNNING, started(), failed)
    assert past_after(*after.past).executions[0].execution_id == "x1"


def test_refused_when_the_agent_exists() -> None:
    given(*RUNNING).when(fork(past_after(*MOVED_ON))).fails(ErrorCode.INVALID_STATE, "choose another id")


def test_the_time_of_work_under_way_begins_anew() -> None:
    spec = replace(SPEC, resource_limits=replace(SPEC.resource_limits, execution_seconds=60.0))
    past = past_after(spawn_requested(spec=spec), replace(started(), deadline=1060.0))
    forked = AgentForked(from_agent_id="a0", from_version=2, from_sequence=20, checkpoint_id=None, state={}, signals=())
    inherited = ExecutionInherited(execution_id="x1", input="how many commits?", journal=(), deadline=5060.5)
    after = given().when(fork(past), time=5000.5).then(spawn_requested(spec=spec, awaited_by="c1"), forked, inherited)
    assert after.state.executions["x1"].deadline == 5060.5
