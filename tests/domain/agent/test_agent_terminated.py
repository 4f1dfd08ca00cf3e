import pytest
from msgspec.structs import replace

from l02.domain.agent.life.spawning import SpawnFailed
from l02.domain.agent.life.termination import TerminationRequested
from l02.domain.agent.state import Status
from l02.domain.kernel.message import Event
from tests.domain.agent.story import (
    FAILED,
    PENDING,
    RUNNING,
    SUSPENDED,
    TERMINATED,
    TERMINATING,
    USAGE,
    completed,
    execution_failed,
    given,
    spawn_requested,
    started,
    terminated,
)

ASKED = TerminationRequested(reason="user_request", requested_by="alice", awaited_by="c9")


def test_happened() -> None:
    after = given(*RUNNING, ASKED).when(terminated()).then(terminated(completes=("c9",)))
    assert after.state.status is Status.TERMINATED
    assert after.state.usage == USAGE


def test_a_suspended_agent_needs_no_process_to_end() -> None:
    given(*SUSPENDED, ASKED).when(terminated()).then(terminated(completes=("c9",)))


def test_open_executions_fail() -> None:
    past = (*RUNNING, started("x1", awaited_by="x1"), started("x2"), ASKED)
    message = "the agent was terminated before the execution ended"
    after = (
        given(*past)
        .when(terminated())
        .then(
            execution_failed("E2112", message, completes=("x1",)),
            execution_failed("E2112", message, execution_id="x2"),
            terminated(completes=("c9",)),
        )
    )
    assert after.state.executions == {}


def test_a_spawn_still_awaited_fails() -> None:
    never_ran = SpawnFailed(
        code="E2020", message="the agent was terminated before it ran", attempt=1, completes=("c1",)
    )
    after = (
        given(spawn_requested(awaited_by="c1"), ASKED)
        .when(terminated())
        .then(never_ran, terminated(session_id=None, completes=("c9",)))
    )
    assert after.state.spawn_awaited_by is None


def test_tokens_are_counted_by_executions() -> None:
    used = replace(USAGE, tokens_consumed=7)
    given(*RUNNING, started(), completed(), TERMINATING[-1]).when(terminated()).then(
        replace(terminated(), resource_usage=used)
    )


def test_ignored_when_already_recorded() -> None:
    given(*TERMINATED).when(terminated()).ignored()


@pytest.mark.parametrize(
    "past", [PENDING, RUNNING, SUSPENDED, FAILED], ids=["pending", "running", "suspended", "failed"]
)
def test_ignored_when_nobody_asked_for_it(past: tuple[Event, ...]) -> None:
    given(*past).when(terminated()).ignored()


def test_nobody_waits_for_an_end_that_was_only_accepted() -> None:
    given(*TERMINATING).when(terminated()).then(terminated())
