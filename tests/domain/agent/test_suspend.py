import pytest
from msgspec.structs import replace

from l02.domain.agent.life.suspension import AgentSuspended, Suspend
from l02.domain.agent.state import Status
from l02.domain.agent.work.executions import Execute
from l02.domain.errors import ErrorCode
from l02.domain.kernel.message import Event
from tests.domain.agent.story import (
    CHECKPOINTED,
    EXECUTING,
    FAILED,
    IDLE,
    PENDING,
    RESTARTING,
    RUNNING,
    SUSPENDED,
    TERMINATED,
    TERMINATING,
    checkpoint_requested,
    given,
)

SUSPEND = Suspend(reason="lunch")
REQUESTED = checkpoint_requested("c1", "pre_suspend")
TAKEN_AWAY = AgentSuspended(session_id="s1", reason="lunch", checkpoint_id="c1")


def test_happened() -> None:
    after = given(*RUNNING).when(SUSPEND).then(REQUESTED, TAKEN_AWAY)
    assert after.state.status is Status.SUSPENDED
    assert not after.state.process_ready


def test_a_spawn_under_way_can_be_suspended() -> None:
    given(*PENDING).when(SUSPEND).then(REQUESTED, replace(TAKEN_AWAY, session_id=None))


def test_no_restart_is_pending_after_it() -> None:
    after = given(*RESTARTING).when(SUSPEND).then(REQUESTED, TAKEN_AWAY)
    assert not after.state.restart_pending


def test_its_work_is_kept() -> None:
    after = given(*EXECUTING).when(SUSPEND).then(REQUESTED, TAKEN_AWAY)
    assert list(after.state.executions) == ["x1"]


def test_nothing_is_stored_twice() -> None:
    given(*CHECKPOINTED).when(SUSPEND).then(replace(TAKEN_AWAY, checkpoint_id="k1"))


def test_one_that_is_only_idle_stays_suspended_from_now_on() -> None:
    after = given(*IDLE).when(SUSPEND).then(replace(TAKEN_AWAY, checkpoint_id="k1"))
    after.when(Execute(input=1)).fails(ErrorCode.INVALID_STATE, "resume it first")


def test_ignored_twice() -> None:
    given(*SUSPENDED).when(SUSPEND).ignored()


@pytest.mark.parametrize("past", [TERMINATING, TERMINATED, FAILED], ids=["terminating", "terminated", "failed"])
def test_refused_by_one_that_ends(past: tuple[Event, ...]) -> None:
    given(*past).when(SUSPEND).fails(ErrorCode.INVALID_STATE, "no process to take away")


def test_without_a_checkpoint() -> None:
    given(*RUNNING).when(replace(SUSPEND, checkpoint=False)).then(AgentSuspended(session_id="s1", reason="lunch"))
    given(*SUSPENDED).when(replace(SUSPEND, checkpoint=False)).ignored()
