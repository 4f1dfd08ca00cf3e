"""Given some events of an execution, then this is what its view says."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest

from l02.domain.agent.execution import JournalEntry
from l02.domain.agent.life.resuming import ExecutionReopened
from l02.domain.agent.saved.forks import ExecutionInherited
from l02.domain.agent.state import ErrorDetail
from l02.domain.agent.work.effects import ToolRequested
from l02.domain.agent.work.executions import ExecutionFailed
from l02.domain.agent.work.signals import SignalReceived
from l02.domain.kernel.message import Event
from l02.projections.folds.executions import EXECUTION_FOLD, ExecutionState, ExecutionView, project_execution
from l02.projections.folds.fold import ViewOutOfStep, encode_view
from tests.projections import history as h


def view_of(*events: Event) -> ExecutionView:
    view: ExecutionView | None = None
    for recorded in h.recorded(events):
        view = project_execution(view, recorded)
    assert view is not None
    return view


def test_started() -> None:
    assert view_of(h.started("x1")) == ExecutionView(
        agent_id="a1", execution_id="x1", input="how many commits?", started_at=h.START, sequence=1
    )


def test_effects_are_counted_when_they_are_done() -> None:
    asked = ToolRequested(execution_id="x1", call=0, tool="git_log", arguments={})
    view = view_of(h.started("x1"), asked, h.tool_called("x1", 0), h.slept("x1", 1, False))
    assert (view.calls, view.tool_calls, view.sequence) == (1, 1, 4)
    view = view_of(h.started("x1"), h.tool_called("x1", 0), h.slept("x1", 1, False), h.slept("x1", 1, True))
    assert (view.calls, view.tool_calls, view.state) == (2, 1, ExecutionState.RUNNING)


def test_each_step_of_the_agents_own_is_counted() -> None:
    view = view_of(h.started("x1"), h.tool_called("x1", 0), h.steps_recorded("x1", 1), h.slept("x1", 4, True))
    assert (view.calls, view.tool_calls, view.sequence) == (5, 3, 4)


def test_completed() -> None:
    view = view_of(h.started("x1"), h.tool_called("x1", 0), h.completed("x1", {"commits": 5}, calls=3))
    assert view == ExecutionView(
        agent_id="a1",
        execution_id="x1",
        state=ExecutionState.COMPLETED,
        input="how many commits?",
        output={"commits": 5},
        calls=3,
        tool_calls=1,
        tokens=30,
        duration_seconds=1.75,
        started_at=h.START,
        ended_at=h.START + timedelta(seconds=2),
        sequence=3,
    )


def test_failed() -> None:
    view = view_of(h.started("x1"), h.tool_called("x1", 0), h.failed("x1"))
    assert view.state is ExecutionState.FAILED
    assert view.error == ErrorDetail(code="E2002", message="git_log took too long")
    assert (view.output, view.duration_seconds, view.ended_at) == (None, 2.0, h.START + timedelta(seconds=2))


def test_an_end_without_a_beginning_is_refused() -> None:
    with pytest.raises(ViewOutOfStep):
        view_of(h.completed("x1"))


def test_executions_are_told_apart_by_agent_too() -> None:
    one, other = (h.recorded([h.started("same")], agent_id)[0] for agent_id in ("a1", "a2"))
    assert EXECUTION_FOLD.key(one) == ("a1", "same")
    assert EXECUTION_FOLD.key(other) == ("a2", "same")


@pytest.mark.parametrize("event", [h.spawn_requested(), h.spawned(), SignalReceived(name="x", payload=1)])
def test_other_events_belong_to_no_execution(event: Event) -> None:
    assert EXECUTION_FOLD.key(h.recorded([event])[0]) is None


@pytest.mark.parametrize("value", [None, 0, 1.0, 2**64 - 1, 10**25, "\0 \u2028 é 😀", [[]], {"a": {"b": [1, None]}}])
def test_any_value_survives_a_round_trip(value: object) -> None:
    encoded = encode_view(view_of(h.started("x1", value), h.completed("x1", value)))
    assert encode_view(msgspec.json.decode(encoded, type=ExecutionView)) == encoded


def test_held_work_goes_on() -> None:
    held = ExecutionFailed(execution_id="x1", code="E2001", message="in doubt", held=True)
    reopened = ExecutionReopened(execution_id="x1", assumed="done", result=None, requested_by="alice")
    failed = view_of(h.started("x1"), held)
    open_again = view_of(h.started("x1"), held, reopened)
    assert (failed.state, failed.held) == (ExecutionState.FAILED, True)
    assert (open_again.state, open_again.held, open_again.error) == (ExecutionState.RUNNING, False, None)
    assert open_again.ended_at is None


def test_inherited_work_counts_what_it_took_over_apart() -> None:
    entry = JournalEntry(call=1, kind="random", request={}, ok=True, result=0.5)
    thread = JournalEntry(call=1, kind="thread", request={}, ok=True, result=None, after=1)
    inherited = ExecutionInherited(execution_id="x1", input="how many?", journal=(entry, thread))
    view = view_of(inherited)
    assert (view.input, view.inherited_calls, view.calls) == ("how many?", 1, 0)
