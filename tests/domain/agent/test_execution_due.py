import pytest
from msgspec.structs import replace

from l02.domain.agent.life.resuming import ExecutionReopened
from l02.domain.agent.work.executions import ExecutionDue
from l02.domain.errors import ErrorCode
from l02.domain.kernel.message import Event
from tests.domain.agent.story import (
    RUNNING,
    SPEC,
    SUSPENDED,
    TERMINATING,
    completed,
    execution_failed,
    given,
    restarted,
    spawn_requested,
    spawned,
    started,
    terminated,
)

LIMITED = replace(SPEC, resource_limits=replace(SPEC.resource_limits, execution_seconds=60.0))
WORKING = (spawn_requested(spec=LIMITED), spawned(), replace(started("x1", awaited_by="c7"), deadline=1060.5))
DUE = ExecutionDue(execution_id="x1", deadline=1060.5)
OVERDUE = execution_failed("E2006", "not ended within 60 s (resource_limits.execution_seconds)", completes=("c7",))


@pytest.mark.parametrize(
    "since",
    [(), SUSPENDED[-1:], (restarted(),), TERMINATING[-1:]],
    ids=["running", "suspended", "waiting to be restarted", "terminating"],
)
def test_happened(since: tuple[Event, ...]) -> None:
    before = given(*WORKING, *since)
    after = before.when(DUE).then(OVERDUE)
    assert after.state.executions == {}
    assert after.state.status is before.state.status
    after.when(DUE).ignored()


def test_other_work_goes_on() -> None:
    later = replace(started("x2"), deadline=1061.5)
    assert list(given(*WORKING, later).when(DUE).then(OVERDUE).state.executions) == ["x2"]


def test_happened_for_a_timer_that_was_set_again_when_the_command_was_retried() -> None:
    given(*WORKING).when(replace(DUE, deadline=1061.0)).then(OVERDUE)


def test_happened_though_the_specification_has_no_limit_any_more() -> None:
    past = (*RUNNING, replace(started("x1", awaited_by="c7"), deadline=1060.5))
    message = "not ended in time (resource_limits.execution_seconds)"
    given(*past).when(DUE).then(replace(OVERDUE, message=message))


@pytest.mark.parametrize(
    "past",
    [(*WORKING, completed()), (*WORKING, OVERDUE), (*WORKING, OVERDUE, TERMINATING[-1], terminated()), RUNNING],
    ids=["completed", "failed", "terminated", "never accepted"],
)
def test_ignored_when_it_comes_late_or_in_vain(past: tuple[Event, ...]) -> None:
    given(*past).when(DUE).ignored()


def test_ignored_for_work_without_a_limit() -> None:
    given(*RUNNING, started("x1")).when(DUE).ignored()


def test_ignored_of_an_earlier_deadline() -> None:
    reopened = ExecutionReopened(
        execution_id="x1", assumed="not-done", result=None, requested_by="bob", deadline=5060.5
    )
    held = replace(OVERDUE, code="E2001", held=True)
    past = given(*WORKING, held, reopened)
    past.when(DUE).ignored()
    past.when(replace(DUE, deadline=5060.5)).then(replace(OVERDUE, completes=()))


def test_refused_when_there_is_no_such_agent() -> None:
    given().when(DUE).fails(ErrorCode.AGGREGATE_NOT_FOUND)
