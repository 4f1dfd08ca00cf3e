from l02.domain.agent.life.suspension import AgentResumed
from l02.domain.agent.life.termination import TerminationRequested
from l02.domain.agent.saved.restoring import CheckpointRestored
from l02.domain.agent.state import StateChange, Status
from l02.domain.agent.work.executions import ExecutionFailed
from l02.domain.errors import ErrorCode
from tests.domain.agent.story import (
    IDLE,
    MOVED_ON,
    RUNNING,
    checkpoint_restored,
    completed,
    execution_failed,
    given,
    restarted,
    restore_requested,
    signalled,
    spawn_requested,
    started,
)

RESTORED = CheckpointRestored(checkpoint_id="k1", restore_seconds=0.01, state={"seen": 5})
FRESH = spawn_requested(2, requested_by="restore")
CHANGED = (*MOVED_ON, started("x2"), completed("x2", state=StateChange(set={"seen": 9}, delete=("a",))))


def test_happened() -> None:
    past = (*CHANGED, restore_requested(awaited_by="c9"))
    after = given(*past).when(RESTORED).then(checkpoint_restored(completes=("c9",)), FRESH)
    assert after.state.data == {"seen": 5}
    assert after.state.restoring is None
    assert [signal.name for signal in after.state.signals] == ["approve"]


def test_work_under_way_has_begun_from_another_state() -> None:
    past = (*MOVED_ON, started("x2", awaited_by="x2"), restore_requested())
    message = "the agent was brought back to checkpoint k1 meanwhile; send the work again"
    failed = execution_failed("E2112", message, execution_id="x2", completes=("x2",))
    assert given(*past).when(RESTORED).then(failed, checkpoint_restored(), FRESH).state.executions == {}


def test_what_was_held_is_held_no_more() -> None:
    held = ExecutionFailed(execution_id="x2", code="E2001", message="in doubt", held=True)
    past = (*MOVED_ON, started("x2"), held, restore_requested())
    assert given(*past).when(RESTORED).then(checkpoint_restored(), FRESH).state.held == {}


def test_a_restart_that_is_due_brings_the_process() -> None:
    given(*MOVED_ON, restarted(), restore_requested()).when(RESTORED).then(checkpoint_restored())


def test_a_suspended_agent_stays_so() -> None:
    after = given(*IDLE, signalled(), restore_requested()).when(RESTORED).then(checkpoint_restored())
    assert after.state.status is Status.SUSPENDED


def test_unless_it_is_resumed_from_the_checkpoint() -> None:
    resumed = AgentResumed(session_id="s1", node_id="n2", incarnation=2, checkpoint_id="k1")
    past = (*IDLE, signalled(), restore_requested(resume=True, node_id="n2"))
    given(*past).when(RESTORED).then(checkpoint_restored(), resumed)


def test_ignored_when_nobody_asked_for_it() -> None:
    given(*MOVED_ON).when(RESTORED).ignored()
    given(*MOVED_ON, restore_requested("k0")).when(RESTORED).ignored()
    given(*MOVED_ON, restore_requested(), checkpoint_restored()).when(RESTORED).ignored()


def test_ignored_when_the_agent_is_to_end() -> None:
    ending = TerminationRequested(reason="user_request", requested_by="alice")
    given(*MOVED_ON, restore_requested(), ending).when(RESTORED).ignored()


def test_refused_when_there_is_no_such_agent() -> None:
    given().when(RESTORED).fails(ErrorCode.AGGREGATE_NOT_FOUND)
    given(*RUNNING).when(RESTORED).ignored()
