import pytest

from l02.domain.agent.life.restarts import AgentFailed, AgentRestarted
from l02.domain.agent.life.spawning import SpawnFailed
from l02.domain.agent.state import Status
from l02.domain.kernel.message import Event
from tests.domain.agent.story import (
    FAILED,
    PENDING,
    RESTARTING,
    SUSPENDED,
    TERMINATED,
    TERMINATING,
    execution_failed,
    given,
    report_spawn_failed,
    spawn_requested,
    started,
)

AGAIN = AgentRestarted(attempt=1, delay_seconds=1.0, cause="E2021: not ready in time")


def spawn_failed(attempt: int = 1) -> SpawnFailed:
    return SpawnFailed(code="E2021", message="not ready in time", attempt=attempt)


def test_happened_and_is_tried_again() -> None:
    after = given(*PENDING).when(report_spawn_failed()).then(spawn_failed(), AGAIN)
    assert after.state.restart_pending


def test_the_spawn_is_still_awaited() -> None:
    after = given(spawn_requested(awaited_by="c1")).when(report_spawn_failed()).then(spawn_failed(), AGAIN)
    assert after.state.spawn_awaited_by == "c1"


def test_a_permanent_failure_ends_the_agent_at_once() -> None:
    past = (spawn_requested(awaited_by="c1"), started("x1", awaited_by="x1"))
    after = (
        given(*past)
        .when(report_spawn_failed(permanent=True))
        .then(
            spawn_failed(),
            execution_failed("E2021", "not ready in time", completes=("x1",)),
            AgentFailed(code="E2021", message="not ready in time", completes=("c1",)),
        )
    )
    assert after.state.status is Status.FAILED


def test_ignored_when_already_recorded() -> None:
    given(*PENDING, spawn_failed(), AGAIN).when(report_spawn_failed()).ignored()


def test_ignored_for_a_stale_incarnation() -> None:
    given(*RESTARTING, spawn_requested(2)).when(report_spawn_failed(1)).ignored()


@pytest.mark.parametrize(
    "past", [SUSPENDED, TERMINATING, TERMINATED, FAILED], ids=["suspended", "terminating", "terminated", "failed"]
)
def test_ignored_when_no_process_is_wanted(past: tuple[Event, ...]) -> None:
    given(*past).when(report_spawn_failed()).ignored()
