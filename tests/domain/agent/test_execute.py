import pytest
from msgspec.structs import replace

from l02.domain.agent.work.executions import Execute, ExecutionFailed
from l02.domain.errors import ErrorCode
from l02.domain.kernel.message import Event
from l02.domain.specification import ExecutorLimits
from tests.domain.agent.story import (
    FAILED,
    PENDING,
    RESTARTING,
    RUNNING,
    SPEC,
    SUSPENDED,
    TERMINATED,
    TERMINATING,
    given,
    spawn_requested,
    spawned,
    started,
)

EXECUTE = Execute(input="how many commits?")


@pytest.mark.parametrize("past", [PENDING, RUNNING, RESTARTING], ids=["pending", "running", "restarting"])
def test_happened(past: tuple[Event, ...]) -> None:
    after = given(*past).when(EXECUTE, command_id="x1").then(started("x1", awaited_by="x1"))
    assert after.state.executions["x1"].input == "how many commits?"


def test_the_outcome_may_be_wanted_at_once() -> None:
    given(*RUNNING).when(replace(EXECUTE, wait="accepted"), command_id="x1").then(started("x1"))


def test_executions_are_queued_in_order() -> None:
    state = given(*RUNNING, started("x1"), started("x0"), started("x2")).state
    assert list(state.executions) == ["x1", "x0", "x2"]


def test_the_queue_has_a_bound() -> None:
    spec = replace(SPEC, executor=ExecutorLimits(max_queued_executions=1))
    full = (spawn_requested(spec=spec), spawned(), started("x0"))
    given(*full).when(EXECUTE, command_id="x1").fails(ErrorCode.INVALID_STATE, "max_queued_executions")
    given(*full, ExecutionFailed(execution_id="x0", code="E2005", message="no")).when(EXECUTE, command_id="x1").then(
        started("x1", awaited_by="x1")
    )


@pytest.mark.parametrize("depth", [100, 101])
def test_input_may_be_a_hundred_deep(depth: int) -> None:
    deep: list[object] = []
    for _ in range(depth - 1):
        deep = [deep]
    when = given(*RUNNING).when(replace(EXECUTE, input=deep), command_id="x1")
    if depth > 100:
        when.fails(ErrorCode.COMMAND_INVALID, "100 deep", "$.input")
    else:
        when.then(replace(started("x1", awaited_by="x1"), input=deep))


@pytest.mark.parametrize(
    ("past", "saying"),
    [
        (SUSPENDED, "suspended; resume it first"),
        (TERMINATING, "terminating; spawn a new one"),
        (TERMINATED, "terminated; spawn a new one"),
        (FAILED, "failed; spawn a new one"),
    ],
)
def test_refused_without_a_process_to_come(past: tuple[Event, ...], saying: str) -> None:
    given(*past).when(EXECUTE, command_id="x1").fails(ErrorCode.INVALID_STATE, saying)


def test_its_seconds_are_counted_from_when_it_is_accepted() -> None:
    spec = replace(SPEC, resource_limits=replace(SPEC.resource_limits, execution_seconds=60.0))
    after = (
        given(spawn_requested(spec=spec), spawned())
        .when(EXECUTE, command_id="x1", time=1000.5)
        .then(replace(started("x1", awaited_by="x1"), deadline=1060.5))
    )
    assert after.state.executions["x1"].deadline == 1060.5
