import pytest
from msgspec.structs import replace

from l02.domain.agent.life.restarts import AgentRestarted, RecoverProcess, RestartDue
from l02.domain.agent.life.suspension import AgentSuspended
from l02.domain.agent.saved.restoring import RestoreFailed
from l02.domain.agent.state import ResourceUsage, Status
from l02.domain.kernel.message import Event
from tests.domain.agent.story import (
    EXECUTING,
    FAILED,
    MOVED_ON,
    PENDING,
    RESTARTING,
    RUNNING,
    SUSPENDED,
    TERMINATED,
    TERMINATING,
    USAGE,
    checkpoint_expired,
    checkpoint_requested,
    given,
    restore_requested,
    spawn_requested,
    spawned,
    started,
)

RECOVER = RecoverProcess(lost_node_id="n1", cause="node n1 is lost")
BEGIN_ANEW = RecoverProcess(lost_node_id="n1", cause="node n1 began anew")
AGAIN = spawn_requested(2, requested_by="recovery", node_id="n2")


def recovered(attempt: int = 0, usage: ResourceUsage | None = None) -> AgentRestarted:
    return AgentRestarted(attempt=attempt, delay_seconds=0.0, cause="node n1 is lost", usage=usage or ResourceUsage())


@pytest.mark.parametrize("past", [PENDING, RUNNING, EXECUTING], ids=["pending", "running", "executing"])
def test_happened(past: tuple[Event, ...]) -> None:
    after = given(*past).when(RECOVER, node_id="n2").then(recovered(), AGAIN)
    assert not after.state.restart_pending


def test_another_node_stores_and_brings_back_what_the_lost_one_was_to() -> None:
    asked = checkpoint_requested("k2", label="good", call=1, awaited_by="c9")
    past = (*MOVED_ON, started(), asked, restore_requested(awaited_by="c8"))
    used = ResourceUsage(tokens_consumed=7)
    after = (
        given(*past)
        .when(RECOVER, node_id="n2")
        .then(
            recovered(usage=used),
            AGAIN,
            replace(asked, node_id="n2"),
            replace(restore_requested(node_id="n2", awaited_by="c8"), requested_by="recovery"),
        )
    )
    (pending,) = after.state.pending_checkpoints.values()
    assert (pending.node_id, pending.asked_before) == ("n2", True)
    given(*past).when(RECOVER, node_id="n1").then(recovered(usage=used), replace(AGAIN, node_id="n1"))


def test_a_suspended_agent_has_only_that_done() -> None:
    asked = checkpoint_requested("k2", "pre_suspend")
    past = (*MOVED_ON, asked, AgentSuspended(session_id="s1", reason="user_request", checkpoint_id="k2"))
    bring_back = restore_requested(resume=True, awaited_by="c8")
    asked_anew = (
        replace(asked, node_id="n2"),
        replace(bring_back, node_id="n2", requested_by="recovery"),
    )
    after = given(*past, bring_back).when(RECOVER, node_id="n2").then(*asked_anew)
    assert after.state.status is Status.SUSPENDED
    after.when(RECOVER, node_id="n2").ignored()
    given(*past, bring_back).when(BEGIN_ANEW, node_id="n1").ignored()


def test_an_agent_that_runs_elsewhere_goes_on_there() -> None:
    asked = replace(checkpoint_requested("k2"), node_id="n3")
    of_another = replace(checkpoint_requested("k3"), node_id="n4")
    lost = replace(RECOVER, lost_node_id="n3", cause="node n3 is lost")
    after = given(*MOVED_ON, asked, of_another).when(lost, node_id="n2").then(replace(asked, node_id="n2"))
    assert after.state.node_id == "n1"
    assert after.state.pending_checkpoints["k3"].node_id == "n4"


def test_a_checkpoint_that_has_expired_meanwhile_cannot_be_gone_back_to() -> None:
    past = (*MOVED_ON, AgentSuspended(session_id="s1", reason="user_request"), restore_requested(awaited_by="c8"))
    given(*past, checkpoint_expired()).when(RECOVER, node_id="n2").then(
        RestoreFailed(
            checkpoint_id="k1",
            code="E2032",
            message="checkpoint k1 has expired before it was read",
            completes=("c8",),
        )
    )


def test_an_agent_that_is_to_end_needs_no_checkpoint() -> None:
    given(*TERMINATING[:-1], checkpoint_requested("k2"), TERMINATING[-1]).when(RECOVER, node_id="n2").ignored()


def test_it_is_not_counted_against_the_agent() -> None:
    crashed_once = (*RESTARTING, spawn_requested(2))
    again = spawn_requested(3, requested_by="recovery", node_id="n2")
    after = given(*crashed_once).when(RECOVER, node_id="n2").then(recovered(attempt=1, usage=USAGE), again)
    assert after.state.restart_attempt == 1


def test_the_process_of_before_is_stale() -> None:
    given(*PENDING, recovered(), AGAIN).when(spawned(1)).ignored()


def test_ignored_by_its_own_node_while_a_restart_is_due_anyway() -> None:
    given(*RESTARTING).when(BEGIN_ANEW, node_id="n1").ignored()


def test_another_node_does_not_wait_for_the_timer_of_the_lost_one() -> None:
    after = given(*RESTARTING).when(RECOVER, node_id="n2").then(recovered(attempt=1, usage=USAGE), AGAIN)
    after.when(RestartDue(attempt=1)).ignored()


def test_ignored_when_another_node_was_faster() -> None:
    given(*RUNNING, recovered(), AGAIN).when(RECOVER, node_id="n3").ignored()


@pytest.mark.parametrize(
    "past", [SUSPENDED, TERMINATING, TERMINATED, FAILED], ids=["suspended", "terminating", "terminated", "failed"]
)
def test_ignored_when_no_process_is_wanted(past: tuple[Event, ...]) -> None:
    given(*past).when(RECOVER, node_id="n2").ignored()
