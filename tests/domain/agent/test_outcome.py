"""What the sender of a command hears when an event completes it."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from l02.domain.agent.life.restarts import AgentFailed
from l02.domain.agent.life.resuming import ExecutionReopened
from l02.domain.agent.life.spawning import SpawnFailed
from l02.domain.agent.life.suspension import AgentResumed, AgentSuspended
from l02.domain.agent.life.termination import TerminationRequested
from l02.domain.agent.saved.checkpoints import CheckpointFailed, CheckpointKept
from l02.domain.agent.saved.forks import AgentForked, ExecutionInherited
from l02.domain.agent.saved.restoring import RestoreFailed
from l02.domain.agent.work.effects import EffectRecorded
from l02.domain.aggregates import AGENT
from l02.domain.errors import ErrorCode, OwnError
from l02.domain.kernel.message import Event, Refused
from tests.domain.agent.session_story import (
    RECOVERED,
    RESTORED,
    ROLLED_BACK,
    SESSION_ENDED,
    degraded,
    saved,
    session_started,
)
from tests.domain.agent.story import (
    RESETS,
    USED,
    checkpoint_created,
    checkpoint_expired,
    checkpoint_requested,
    checkpoint_restored,
    completed,
    execution_failed,
    restarted,
    restore_requested,
    signalled,
    spawn_requested,
    spawned,
    started,
    terminated,
    tool_called,
    tool_requested,
    updated,
)

FAILURES: list[Event] = [
    SpawnFailed(code="E2021", message="not in time", attempt=1),
    AgentFailed(code="E2021", message="not in time"),
    execution_failed("E2021", "not in time"),
    CheckpointFailed(checkpoint_id="k1", checkpoint_type="auto", code="E2021", message="not in time"),
    RestoreFailed(checkpoint_id="k1", code="E2021", message="not in time"),
]
RESULTS: list[tuple[Event, dict[str, object]]] = [
    (
        spawned(),
        {"agent_id": "a1", "session_id": "s1", "node_id": "n1", "sandbox_type": "landlock", "spawn_seconds": 0.1},
    ),
    (started(), {"execution_id": "x1"}),
    (
        updated(),
        {
            "limits": {"cpu": "2", "memory": "2Gi", "tokens_per_hour": 8_000, "processes": 64},
            "usage": USED,
            "reset_at": RESETS,
        },
    ),
    (completed(), {"execution_id": "x1", "output": "42"}),
    (
        terminated(),
        {
            "reason": "user_request",
            "resource_usage": {"cpu_seconds": 1.5, "memory_peak_bytes": 1024, "tokens_consumed": 0},
            "duration_seconds": 60.0,
        },
    ),
]
CHECKPOINT: dict[str, object] = {
    "checkpoint_id": "k1",
    "label": None,
    "size_bytes": 100,
    "compressed_bytes": 50,
    "sha256": "9f86d081",
}
RESULTS += [
    (checkpoint_created(), CHECKPOINT),
    (CheckpointKept(checkpoint_id="k1"), {"checkpoint_id": "k1"}),
    (checkpoint_requested(), {"checkpoint_id": "k1"}),
    (AgentSuspended(session_id="s1", reason="user_request", checkpoint_id="k1"), {"checkpoint_id": "k1"}),
    (checkpoint_restored(), {"checkpoint_id": "k1", "restore_seconds": 0.01}),
    (
        ExecutionReopened(execution_id="x1", assumed="done", result=None, requested_by="alice"),
        {"execution_id": "x1"},
    ),
    (
        AgentForked(from_agent_id="a0", from_version=4, from_sequence=40, checkpoint_id=None, state={}, signals=()),
        {"from_agent_id": "a0", "from_version": 4},
    ),
]
WITHOUT: list[Event] = [
    spawn_requested(),
    AgentSuspended(session_id="s1", reason="user_request"),
    AgentResumed(session_id="s1", node_id="n1", incarnation=2),
    restarted(),
    TerminationRequested(reason="user_request", requested_by="alice"),
    tool_requested(),
    tool_called(),
    EffectRecorded(execution_id="x1", call=1, kind="now", request=None, result=1.0),
    signalled(),
    checkpoint_expired(),
    restore_requested(),
    ExecutionInherited(execution_id="x1", input=1, journal=()),
    session_started(),
    saved(),
    ROLLED_BACK,
    RECOVERED,
    SESSION_ENDED,
    degraded(),
    RESTORED,
]


@pytest.mark.parametrize("event", FAILURES, ids=lambda event: event.type)
def test_a_failure_has_its_code(event: Event) -> None:
    assert event.outcome() == Refused(code=ErrorCode.SPAWN_TIMEOUT.value, message="not in time")


def test_a_failure_has_what_the_agent_calls_it() -> None:
    own = OwnError(code="R17", name="NO_SUCH_COMMIT")
    failed = replace(execution_failed("E2005", "no"), detail=own)
    assert failed.outcome() == Refused(code="E2005", message="no", detail=own)


@pytest.mark.parametrize(("event", "result"), RESULTS, ids=lambda value: getattr(value, "type", ""))
def test_a_result(event: Event, result: dict[str, object]) -> None:
    assert event.outcome() == result


@pytest.mark.parametrize("event", WITHOUT, ids=lambda event: event.type)
def test_nothing_to_say_but_that_it_happened(event: Event) -> None:
    assert event.outcome() == {}


def test_every_event_that_says_something_is_above() -> None:
    told = [*FAILURES, *(event for event, _ in RESULTS), *WITHOUT]
    assert {type(event) for event in told} >= {event for event in AGENT.events if event.outcome is not Event.outcome}
