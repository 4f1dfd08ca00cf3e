import pytest

from domain.agent import commands as c
from domain.agent import events as e
from domain.agent.state import Status
from domain.errors import ErrorCode
from domain.message import Event
from tests.domain.agent.story import (
    FAILED,
    PENDING,
    RESTARTING,
    RUNNING,
    SUSPENDED,
    TERMINATED,
    TERMINATING,
    given,
    origin,
    report_spawned,
)

RESUME = c.Resume(origin=origin(node_id="n2"))


def test_happened() -> None:
    after = given(*SUSPENDED).when(RESUME).then(e.AgentResumed(session_id="s1", node_id="n2", incarnation=2))
    assert after.state.status is Status.PENDING
    assert after.state.node_id == "n2"


def test_its_restarts_are_forgiven() -> None:
    suspended = (*RESTARTING, e.AgentSuspended(session_id="s1", reason="user_request"))
    after = given(*suspended).when(RESUME).then(e.AgentResumed(session_id="s1", node_id="n2", incarnation=2))
    assert after.state.restart_attempt == 0


def test_a_process_of_before_does_not_count() -> None:
    given(*SUSPENDED, e.AgentResumed(session_id="s1", node_id="n2", incarnation=2)).when(report_spawned(1)).ignored()


@pytest.mark.parametrize("past", [PENDING, RUNNING, RESTARTING], ids=["pending", "running", "restarting"])
def test_ignored_by_one_that_has_a_process(past: tuple[Event, ...]) -> None:
    given(*past).when(RESUME).ignored()


@pytest.mark.parametrize("past", [TERMINATING, TERMINATED, FAILED], ids=["terminating", "terminated", "failed"])
def test_refused_by_one_that_ends(past: tuple[Event, ...]) -> None:
    given(*past).when(RESUME).fails(ErrorCode.INVALID_STATE, "spawn a new one")
