"""Given some events of an agent, then this is what its view says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest

from l02.domain.agent.life.restarts import AgentFailed, AgentRestarted
from l02.domain.agent.life.spawning import SpawnFailed
from l02.domain.agent.life.suspension import AgentResumed, AgentSuspended
from l02.domain.agent.life.termination import TerminationRequested
from l02.domain.agent.state import ErrorDetail, ResourceUsage, Status
from l02.domain.agent.work.signals import SignalReceived
from l02.domain.aggregates import AGENT
from l02.domain.kernel.message import Event
from l02.projections.folds.agents import AgentView, project_agent
from l02.projections.folds.fold import ViewOutOfStep, encode_view
from tests.projections import history as h


def view_of(*events: Event) -> AgentView:
    view: AgentView | None = None
    for recorded in h.recorded(events):
        view = project_agent(view, recorded)
    assert view is not None
    return view


def assert_fields(view: AgentView, **expected: Any) -> None:
    assert {name: getattr(view, name) for name in expected} == expected


BORN = (h.spawn_requested(), h.spawned())


def test_spawn_requested() -> None:
    assert_fields(
        view_of(h.spawn_requested()),
        id="a1",
        name="historian",
        state=Status.PENDING,
        spec=h.specification(),
        fleet_id="archive",
        node_id="n1",
        session_id=None,
        trust_level="standard",
        incarnation=1,
        created_at=h.START,
        updated_at=h.START,
        version=1,
        sequence=1,
    )


def test_spawned() -> None:
    assert_fields(
        view_of(*BORN),
        state=Status.RUNNING,
        session_id="s-a1",
        sandbox_type="landlock",
        source="cold",
        pid=4711,
        created_at=h.START,
        updated_at=h.START + timedelta(seconds=1),
        version=2,
        sequence=2,
    )


def test_spawn_failed() -> None:
    view = view_of(h.spawn_requested(), SpawnFailed(code="E2020", message="no such file", attempt=1))
    assert_fields(view, state=Status.PENDING, last_error=ErrorDetail(code="E2020", message="no such file"))


def test_suspended_and_resumed() -> None:
    suspended = AgentSuspended(session_id="s-a1", reason="lunch")
    resumed = AgentResumed(session_id="s-a1", node_id="n2", incarnation=2)
    assert_fields(view_of(*BORN, suspended), state=Status.SUSPENDED, suspend_reason="lunch", pid=None)
    assert_fields(
        view_of(*BORN, suspended, resumed), state=Status.PENDING, node_id="n2", incarnation=2, suspend_reason=None
    )
    again = view_of(*BORN, suspended, resumed, h.spawned(node_id="n2", incarnation=2))
    assert_fields(again, state=Status.RUNNING, node_id="n2", session_id="s-a1", pid=4711)


def test_restarted() -> None:
    usage = ResourceUsage(cpu_seconds=2.0, memory_peak_bytes=10, tokens_consumed=3)
    restarts = [AgentRestarted(attempt=n, delay_seconds=1.0, cause="killed", usage=usage) for n in (1, 2)]
    view = view_of(*BORN, *restarts)
    assert_fields(
        view, state=Status.PENDING, restarts=2, restart_attempt=2, restart_cause="killed", usage=usage, pid=None
    )
    view = view_of(*BORN, *restarts, h.spawn_requested("n2", 2), h.spawned(node_id="n2", incarnation=2))
    assert_fields(view, state=Status.RUNNING, restarts=2, restart_attempt=2, node_id="n2", incarnation=2)
    assert view.created_at == h.START


def test_work_done_ends_a_row_of_restarts() -> None:
    restarted = AgentRestarted(attempt=1, delay_seconds=1.0, cause="killed")
    pending = view_of(*BORN, h.started("x1"), restarted, h.completed("x1"))
    assert_fields(pending, restarts=1, restart_attempt=1)
    back = view_of(*BORN, h.started("x1"), restarted, h.spawn_requested(incarnation=2), h.completed("x1"))
    assert_fields(back, restarts=1, restart_attempt=0)


def test_failed() -> None:
    view = view_of(*BORN, AgentFailed(code="E2025", message="gave up"))
    assert_fields(view, state=Status.FAILED, last_error=ErrorDetail(code="E2025", message="gave up"), pid=None)


def test_terminated() -> None:
    requested = TerminationRequested(reason="user_request", requested_by="someone")
    assert_fields(view_of(*BORN, requested), state=Status.RUNNING, terminating=True, terminate_reason="user_request")
    ended = h.terminated()
    assert_fields(
        view_of(*BORN, requested, ended),
        state=Status.TERMINATED,
        terminating=False,
        terminate_reason="user_request",
        usage=ended.resource_usage,
        pid=None,
    )


def test_executions_are_open_until_they_end() -> None:
    began = h.START + timedelta(seconds=2)
    view = view_of(*BORN, h.started("x1"), h.started("x2"), h.tool_called("x1", 0), h.slept("x1", 1, True))
    assert_fields(view, open_executions={"x1": began, "x2": began + timedelta(seconds=1)}, tool_calls=1)
    assert_fields(view_of(*BORN, h.started("x1"), h.tool_called("x1", 0), h.steps_recorded("x1", 1)), tool_calls=3)
    view = view_of(*BORN, h.started("x1"), h.started("x2"), h.completed("x1"))
    assert_fields(view, executions_completed=1, tokens=30, usage=ResourceUsage(tokens_consumed=30), last_error=None)
    assert list(view.open_executions) == ["x2"]
    view = view_of(*BORN, h.started("x1"), h.failed("x1"))
    assert_fields(
        view,
        open_executions={},
        executions_failed=1,
        tokens=0,
        last_error=ErrorDetail(code="E2002", message="git_log took too long"),
    )


def test_other_events_only_move_it_on() -> None:
    before, after = view_of(*BORN), view_of(*BORN, SignalReceived(name="approve", payload=True))
    assert after == msgspec.structs.replace(before, updated_at=h.START + timedelta(seconds=2), version=3, sequence=3)


def test_a_long_message_is_shortened() -> None:
    view = view_of(h.spawn_requested(), SpawnFailed(code="E2020", message="x" * 100_000, attempt=1))
    assert view.last_error is not None
    assert view.last_error.message == "x" * 1999 + "…"


def test_times_are_written_in_utc() -> None:
    recorded = h.recorded([h.spawn_requested()])[0]
    elsewhere = datetime(2026, 1, 1, 2, 30, tzinfo=timezone(timedelta(hours=2)))
    view = project_agent(None, msgspec.structs.replace(recorded, time=elsewhere))
    assert b'"created_at":"2026-01-01T00:30:00Z"' in encode_view(view)


def test_the_json_survives_a_round_trip() -> None:
    view = view_of(*BORN, h.started("x1"), h.tool_called("x1", 0), h.failed("x1"), h.started("x2"))
    encoded = encode_view(view)
    decoded = msgspec.json.decode(encoded, type=AgentView)
    assert decoded == view
    assert decoded.created_at.tzinfo is UTC
    assert encode_view(decoded) == encoded


@pytest.mark.parametrize("kept", [[], [0], [0, 1]])
def test_an_event_out_of_step_is_refused(kept: list[int]) -> None:
    events = h.recorded([*BORN, h.started("x1"), h.completed("x1")])
    view: AgentView | None = None
    for index in kept:
        view = project_agent(view, events[index])
    with pytest.raises(ViewOutOfStep, match="cannot go on"):
        project_agent(view, events[3])


@pytest.mark.parametrize("event_type", AGENT.events, ids=lambda event_type: event_type.type)
def test_every_agent_event_can_be_projected(event_type: type[Event]) -> None:
    """A new kind of event must not stop the projection, whether or not it changes what the view shows."""
    event = msgspec.convert(_sample(msgspec.inspect.type_info(event_type)), event_type)
    before = view_of(*BORN)
    after = project_agent(before, msgspec.structs.replace(h.recorded([event])[0], version=3, sequence=100))
    assert (after.id, after.version, after.sequence) == ("a1", 3, 100)


def _sample(kind: msgspec.inspect.Type) -> Any:
    """The least value of a type."""
    match kind:
        case msgspec.inspect.StructType():
            return {field.encode_name: _sample(field.type) for field in kind.fields if field.required}
        case msgspec.inspect.LiteralType():
            return kind.values[0]
        case msgspec.inspect.EnumType():
            return next(iter(kind.cls)).value
        case msgspec.inspect.UnionType():
            return _sample(kind.types[0])
        case msgspec.inspect.IntType() | msgspec.inspect.FloatType():
            return 1
        case msgspec.inspect.BoolType():
            return True
        case msgspec.inspect.DictType():
            return {}
        case msgspec.inspect.CollectionType():
            return []
        case _:
            return "x"
