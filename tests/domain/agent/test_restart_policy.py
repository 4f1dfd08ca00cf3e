"""How often and when an agent that keeps ending is started again. Over several commands, so no file of one of them."""

import pytest
from msgspec.structs import replace

from l02.domain.agent.life.restarts import AgentFailed, AgentRestarted, RestartDue
from l02.domain.agent.life.spawning import SpawnFailed
from l02.domain.agent.state import AgentState, Status
from l02.domain.kernel.message import Event
from l02.domain.specification import AgentSpecification
from tests.domain.agent.story import (
    EXECUTING,
    RUNNING,
    SPEC,
    USAGE,
    completed,
    execution_failed,
    given,
    report_exit,
    report_spawn_failed,
    restarting_at_most,
    spawn_requested,
    spawned,
    started,
)
from tests.domain.given_when_then import Given


def crashed(past: Given[AgentState], attempt: int, delay: float) -> Given[AgentState]:
    """The process ended, and the next one is running."""
    ended = past.when(report_exit(past.state.incarnation)).then(
        AgentRestarted(
            attempt=attempt,
            delay_seconds=delay,
            cause="killed by signal 9",
            usage=replace(USAGE, tokens_consumed=past.state.usage.tokens_consumed),
        )
    )
    incarnation = ended.state.incarnation + 1
    again = spawn_requested(incarnation, spec=ended.state.specification, requested_by="restart policy")
    begun = ended.when(RestartDue(attempt=attempt)).then(again)
    return begun.and_then(spawned(incarnation))


def test_five_restarts_each_after_twice_the_time_then_the_end() -> None:
    agent = given(*RUNNING, started("x1", awaited_by="x1"))
    for attempt, delay in enumerate((1.0, 2.0, 4.0, 8.0, 16.0), start=1):
        agent = crashed(agent, attempt, delay)
    message = "gave up after 5 restarts; the last cause was: killed by signal 9"
    after = agent.when(report_exit(6)).then(
        execution_failed("E2025", message, completes=("x1",)),
        AgentFailed(code="E2025", message=message, usage=USAGE),
    )
    assert after.state.status is Status.FAILED
    assert after.state.executions == {}


def test_a_completed_execution_makes_a_fresh_start() -> None:
    agent = crashed(crashed(given(*EXECUTING), 1, 1.0), 2, 2.0)
    crashed(agent.when(completed()).then(completed()), 1, 1.0)


def test_failed_spawns_and_exits_count_together() -> None:
    agent = crashed(given(*RUNNING), 1, 1.0)
    agent.when(report_spawn_failed(2)).then(
        SpawnFailed(code="E2021", message="not ready in time", attempt=2),
        AgentRestarted(attempt=2, delay_seconds=2.0, cause="E2021: not ready in time", usage=agent.state.usage),
    )


def test_a_spawn_that_never_succeeds_fails_the_command() -> None:
    given(spawn_requested(spec=restarting_at_most(0, 1.0), awaited_by="c1")).when(report_spawn_failed()).then(
        SpawnFailed(code="E2021", message="not ready in time", attempt=1),
        AgentFailed(
            code="E2025",
            message="gave up after 0 restarts; the last cause was: E2021: not ready in time",
            completes=("c1",),
        ),
    )


def test_the_last_delay_is_used_on_and_on() -> None:
    agent = given(spawn_requested(spec=restarting_at_most(3, 0.5, 2.5)), spawned())
    for attempt, delay in enumerate((0.5, 2.5, 2.5), start=1):
        agent = crashed(agent, attempt, delay)


@pytest.mark.parametrize(("spec", "times"), [(SPEC, 5), (restarting_at_most(0, 1.0), 0)], ids=["default", "never"])
def test_the_bound_is_the_specifications(spec: AgentSpecification, times: int) -> None:
    past: tuple[Event, ...] = (spawn_requested(spec=spec), spawned())
    delays = spec.lifecycle.restart_delay_seconds
    agent = given(*past)
    for attempt in range(1, times + 1):
        agent = crashed(agent, attempt, delays[attempt - 1])
    agent.when(report_exit(times + 1)).then(
        AgentFailed(
            code="E2025",
            message=f"gave up after {times} restarts; the last cause was: killed by signal 9",
            usage=USAGE,
        )
    )
