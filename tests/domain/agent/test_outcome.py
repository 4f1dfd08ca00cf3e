"""What the sender of a command hears when an event completes it."""

from __future__ import annotations

import pytest

from l02.domain.agent import events as e
from l02.domain.agent.outcome import failure_of, result_of
from l02.domain.errors import ErrorCode
from l02.domain.message import Event
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
)

FAILURES: list[Event] = [
    e.SpawnFailed(code="E2021", message="not in time", attempt=1),
    e.AgentFailed(code="E2021", message="not in time"),
    execution_failed("E2021", "not in time"),
    e.CheckpointFailed(checkpoint_id="k1", checkpoint_type="auto", code="E2021", message="not in time"),
    e.RestoreFailed(checkpoint_id="k1", code="E2021", message="not in time"),
]
RESULTS: list[tuple[Event, dict[str, object]]] = [
    (
        spawned(),
        {"agent_id": "a1", "session_id": "s1", "node_id": "n1", "sandbox_type": "landlock", "spawn_seconds": 0.1},
    ),
    (started(), {"execution_id": "x1"}),
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
    (e.CheckpointKept(checkpoint_id="k1"), {"checkpoint_id": "k1"}),
    (checkpoint_requested(), {"checkpoint_id": "k1"}),
    (e.AgentSuspended(session_id="s1", reason="user_request", checkpoint_id="k1"), {"checkpoint_id": "k1"}),
    (checkpoint_restored(), {"checkpoint_id": "k1", "restore_seconds": 0.01}),
    (
        e.ExecutionReopened(execution_id="x1", assumed="done", result=None, requested_by="alice"),
        {"execution_id": "x1"},
    ),
    (
        e.AgentForked(from_agent_id="a0", from_version=4, from_sequence=40, checkpoint_id=None, state={}, signals=()),
        {"from_agent_id": "a0", "from_version": 4},
    ),
]
WITHOUT: list[Event] = [
    spawn_requested(),
    e.AgentSuspended(session_id="s1", reason="user_request"),
    e.AgentResumed(session_id="s1", node_id="n1", incarnation=2),
    restarted(),
    e.TerminationRequested(reason="user_request", requested_by="alice"),
    tool_requested(),
    tool_called(),
    e.EffectRecorded(execution_id="x1", call=1, kind="now", request=None, result=1.0),
    signalled(),
    checkpoint_expired(),
    restore_requested(),
    e.ExecutionInherited(execution_id="x1", input=1, journal=()),
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
    assert failure_of(event) == (ErrorCode.SPAWN_TIMEOUT.value, "not in time")


@pytest.mark.parametrize(("event", "result"), RESULTS, ids=lambda value: getattr(value, "type", ""))
def test_a_result(event: Event, result: dict[str, object]) -> None:
    assert failure_of(event) is None
    assert result_of(event) == result


@pytest.mark.parametrize("event", WITHOUT, ids=lambda event: event.type)
def test_nothing_to_say_but_that_it_happened(event: Event) -> None:
    assert failure_of(event) is None
    assert result_of(event) == {}


def test_every_event_is_above() -> None:
    told = [*FAILURES, *(event for event, _ in RESULTS), *WITHOUT]
    assert {type(event) for event in told} == set(e.AGENT_EVENTS)
