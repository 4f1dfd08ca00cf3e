import pytest
from msgspec.structs import replace

from l02.domain.agent.resources import ResourceExceeded
from l02.domain.agent.state import Status
from l02.domain.agent.work.executions import ExecutionFailed
from l02.domain.kernel.message import Event
from tests.domain.agent.story import (
    EXECUTING,
    FAILED,
    PENDING,
    RESTARTING,
    RUNNING,
    SUSPENDED,
    TERMINATED,
    TERMINATING,
    USAGE,
    completed,
    execution_failed,
    given,
    report_exit,
    restarted,
    restarting_at_most,
    spawn_requested,
    spawned,
    started,
)

EXCEEDED = ResourceExceeded(resource_type="memory", limit=100, actual=101, action_taken="terminate", code="E2071")


@pytest.mark.parametrize("past", [PENDING, RUNNING], ids=["before it was ready", "while it ran"])
def test_happened(past: tuple[Event, ...]) -> None:
    after = given(*past).when(report_exit()).then(restarted())
    assert after.state.status is Status.PENDING
    assert not after.state.process_ready
    assert after.state.usage == USAGE


def test_its_work_is_kept() -> None:
    assert list(given(*EXECUTING).when(report_exit()).then(restarted()).state.executions) == ["x1"]


def test_tokens_are_counted_by_executions() -> None:
    used = replace(USAGE, tokens_consumed=7)
    given(*EXECUTING, completed()).when(report_exit()).then(replace(restarted(), usage=used))


def test_ignored_when_already_recorded() -> None:
    given(*RESTARTING).when(report_exit()).ignored()


def test_ignored_for_a_stale_incarnation() -> None:
    given(*RESTARTING, spawn_requested(2)).when(report_exit(1)).ignored()


@pytest.mark.parametrize(
    "past", [SUSPENDED, TERMINATING, TERMINATED, FAILED], ids=["suspended", "terminating", "terminated", "failed"]
)
def test_ignored_when_its_end_is_wanted(past: tuple[Event, ...]) -> None:
    given(*past).when(report_exit()).ignored()


def test_one_that_the_node_ended_with_work_that_is_over_counts_for_nothing() -> None:
    spec = restarting_at_most(0, 600.0)
    past = (spawn_requested(spec=spec), spawned(), started("x1"), execution_failed("E2003", "too much"), started("x2"))
    ended = replace(report_exit(), ended_with="x1")
    again = replace(spawn_requested(2, spec=spec), requested_by="its work ended")
    after = given(*past).when(ended).then(restarted(0, 0.0), again)
    assert (after.state.restart_attempt, after.state.restart_pending) == (0, False)
    after.when(ended).ignored()


def test_one_that_the_node_ended_with_work_that_is_begun_anew_counts() -> None:
    given(*EXECUTING).when(replace(report_exit(), ended_with="x1")).then(restarted())


def test_it_forgives_nothing_either() -> None:
    again = replace(spawn_requested(3), requested_by="its work ended")
    given(*RESTARTING, spawn_requested(2), spawned(2)).when(replace(report_exit(2), ended_with="x1")).then(
        restarted(1, 0.0), again
    )


def test_a_limit_that_was_passed_is_on_record_with_the_end_of_its_process() -> None:
    ended = replace(report_exit(), exceeded=EXCEEDED)
    given(*RUNNING).when(ended).then(EXCEEDED, restarted())
    given(*RUNNING).when(replace(ended, incarnation=2)).ignored()


def test_work_that_has_filled_its_disk_fails_and_the_process_is_replaced_at_once() -> None:
    full = replace(EXCEEDED, resource_type="disk", code="E2074")
    ended = replace(report_exit(), exceeded=full, cause="E2074: full")
    events = given(*EXECUTING, started("x2")).when(ended).decided()
    assert [event.type for event in events] == [
        "agent.resource.exceeded",
        "agent.execution.failed",
        "agent.restarted",
        "agent.spawn.requested",
    ]
    [failed] = [event for event in events if isinstance(event, ExecutionFailed)]
    assert (failed.execution_id, failed.code, failed.message) == ("x1", "E2074", "E2074: full")
    given(*RUNNING).when(ended).then(full, replace(restarted(), cause="E2074: full"))
