import pytest

from domain.agent import commands as c
from domain.agent import events as e
from domain.agent.state import Status
from domain.errors import ErrorCode
from domain.message import Event
from tests.domain.agent.story import (
    EXECUTING,
    FAILED,
    PENDING,
    RESTARTING,
    RUNNING,
    SUSPENDED,
    TERMINATED,
    TERMINATING,
    given,
    origin,
)

SUSPEND = c.Suspend(reason="lunch", origin=origin())


def test_happened() -> None:
    after = given(*RUNNING).when(SUSPEND).then(e.AgentSuspended(session_id="s1", reason="lunch"))
    assert after.state.status is Status.SUSPENDED
    assert not after.state.process_ready


def test_a_spawn_under_way_can_be_suspended() -> None:
    given(*PENDING).when(SUSPEND).then(e.AgentSuspended(session_id=None, reason="lunch"))


def test_no_restart_is_pending_after_it() -> None:
    after = given(*RESTARTING).when(SUSPEND).then(e.AgentSuspended(session_id="s1", reason="lunch"))
    assert not after.state.restart_pending


def test_its_work_is_kept() -> None:
    after = given(*EXECUTING).when(SUSPEND).then(e.AgentSuspended(session_id="s1", reason="lunch"))
    assert list(after.state.executions) == ["x1"]


def test_ignored_twice() -> None:
    given(*SUSPENDED).when(SUSPEND).ignored()


@pytest.mark.parametrize("past", [TERMINATING, TERMINATED, FAILED], ids=["terminating", "terminated", "failed"])
def test_refused_by_one_that_ends(past: tuple[Event, ...]) -> None:
    given(*past).when(SUSPEND).fails(ErrorCode.INVALID_STATE, "no process to take away")
