from l02.domain.agent.state import StateChange
from l02.domain.errors import ErrorCode
from tests.domain.agent.story import (
    EXECUTING,
    RUNNING,
    SUSPENDED,
    completed,
    given,
    restarted,
    spawn_requested,
    spawned,
    started,
)


def test_happened() -> None:
    after = given(*EXECUTING).when(completed()).then(completed())
    assert after.state.executions == {}
    assert after.state.usage.tokens_consumed == 7


def test_it_completes_the_command() -> None:
    given(*RUNNING, started("x1", awaited_by="x1")).when(completed()).then(completed(completes=("x1",)))


def test_its_changes_of_state_are_kept() -> None:
    first, second = StateChange(set={"a": 1, "b": 2}), StateChange(set={"c": 3}, delete=("a",))
    past = (*RUNNING, started("x1"), completed("x1", state=first), started("x2"))
    after = given(*past).when(completed("x2", state=second)).then(completed("x2", state=second))
    assert after.state.data == {"b": 2, "c": 3}


def test_also_by_an_agent_suspended_just_now() -> None:
    past = (*RUNNING, started(), SUSPENDED[-1])
    given(*past).when(completed()).then(completed())


def test_it_forgives_restarts() -> None:
    past = (*EXECUTING, restarted(4, 8.0), spawn_requested(2), spawned(2))
    assert given(*past).when(completed()).then(completed()).state.restart_attempt == 0


def test_but_not_the_restart_that_is_pending() -> None:
    after = given(*EXECUTING, restarted(4, 8.0)).when(completed()).then(completed())
    assert after.state.restart_attempt == 4


def test_ignored_when_already_recorded() -> None:
    given(*EXECUTING, completed()).when(completed()).ignored()


def test_refused_when_there_is_no_such_agent() -> None:
    given().when(completed()).fails(ErrorCode.AGGREGATE_NOT_FOUND)
