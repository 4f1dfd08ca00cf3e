from l02.domain.agent.state import StateChange
from l02.domain.errors import ErrorCode
from tests.domain.agent.story import (
    EXECUTING,
    RUNNING,
    completed,
    execution_failed,
    given,
    restarted,
    spawn_requested,
    spawned,
    started,
)

FAILED = execution_failed("E2005", "no such commit")


def test_happened() -> None:
    assert given(*EXECUTING).when(FAILED).then(FAILED).state.executions == {}


def test_it_completes_the_command() -> None:
    given(*RUNNING, started("x1", awaited_by="x1")).when(FAILED).then(
        execution_failed("E2005", "no such commit", completes=("x1",))
    )


def test_the_agents_state_is_as_before() -> None:
    change = StateChange(set={"a": 1})
    past = (*RUNNING, started("x0"), completed("x0", state=change), started("x1"))
    assert given(*past).when(FAILED).then(FAILED).state.data == {"a": 1}


def test_it_does_not_forgive_restarts() -> None:
    past = (*EXECUTING, restarted(), spawn_requested(2), spawned(2))
    assert given(*past).when(FAILED).then(FAILED).state.restart_attempt == 1


def test_ignored_when_already_recorded() -> None:
    given(*EXECUTING, FAILED).when(FAILED).ignored()
    given(*EXECUTING, completed()).when(FAILED).ignored()


def test_refused_when_there_is_no_such_agent() -> None:
    given().when(FAILED).fails(ErrorCode.AGGREGATE_NOT_FOUND)
