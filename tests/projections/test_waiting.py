"""What an agent waits for, and what is left of its limits, as its view says after its events."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st
from msgspec.structs import replace

from l02.domain.agent.work.approvals import ApprovalAnswered, ApprovalRequested
from l02.domain.agent.work.blocking import BudgetDenied, BudgetGranted, BudgetWaiting, QuotaReset
from l02.domain.agent.work.effects import EffectRecorded, ToolCalled, ToolRequested
from l02.domain.agent.work.executions import ExecutionFailed
from l02.domain.agent.work.own_limits import own_windows
from l02.domain.kernel.message import Event
from l02.domain.spending.limits import LimitAction, LimitName
from l02.projections.folds.agents import AgentView, project_agent
from l02.projections.folds.limits import LimitView, window_of
from l02.projections.folds.usage import USAGE_FOLD
from l02.projections.folds.waiting import MAX_WAITS, WaitView, questions_of
from tests.domain.agent.story import (
    LIMITED,
    MORE,
    RESERVED,
    begun,
    budget_waiting,
    given,
    model_called,
    model_requested,
    started,
    updated,
)
from tests.projections.history import START, recorded

HOUR, DAY, COST, _ = LimitName
NOW = START + timedelta(seconds=len(LIMITED))


def view_of(*events: Event) -> AgentView:
    view: AgentView | None = None
    for item in recorded(events):
        view = project_agent(view, item)
    assert view is not None
    return view


def waiting(*events: Event) -> list[WaitView]:
    return list(view_of(*LIMITED, *events).waiting)


def wait(kind: Any, call: int = 2, **more: Any) -> WaitView:
    return WaitView(execution_id="x1", call=call, kind=kind, since=NOW, **more)


def effect(kind: str, request: Any, *, done: bool, deadline: float | None = None) -> EffectRecorded:
    return EffectRecorded(
        execution_id="x1", call=2, kind=kind, request=request, result=None, done=done, deadline=deadline
    )


TOOL = ToolCalled(
    execution_id="x1", call=2, tool="push", arguments={}, ok=True, result=1, attempts=1, duration_seconds=1.0
)
ASKED = ApprovalRequested(execution_id="x1", call=2, server="git", tool="push", arguments={"to": "main"})
ANSWERED = ApprovalAnswered(execution_id="x1", call=2, granted=True, reason=None, answered_by="alice")
GRANTED = BudgetGranted(
    execution_id="x1",
    call=2,
    budget=None,
    level="own",
    limit=HOUR,
    needed=budget_waiting().needed,
    granted=None,
    by=None,
)
DENIED = BudgetDenied(execution_id="x1", call=2, budget=None, level="own", limit=HOUR, by="alice", reason=None)
NEEDED = {"tokens": RESERVED.tokens, "cost_usd": RESERVED.cost / 1_000_000}
RESET_AT = datetime(1970, 1, 1, 1, 16, 40, tzinfo=UTC)


@pytest.mark.parametrize(
    ("begins", "seen", "ends"),
    [
        (
            effect("signal", {"name": "go", "timeout": 9}, done=False, deadline=60.0),
            wait("signal", name="go", until=datetime(1970, 1, 1, 0, 1, tzinfo=UTC)),
            effect("signal", {"name": "go", "timeout": 9}, done=True),
        ),
        (effect("signal", {"name": "go"}, done=False), wait("signal", name="go"), effect("signal", {}, done=True)),
        (
            effect("sleep", {"seconds": 1e300}, done=False, deadline=1e300),
            wait("sleep"),
            effect("sleep", {"seconds": 1e300}, done=True),
        ),
        (ToolRequested(execution_id="x1", call=2, tool="push", arguments={}), wait("tool", name="push"), TOOL),
        (
            ASKED,
            wait("person", name="git.push", question="a1/x1/2", needed={"to": "main"}),
            ANSWERED,
        ),
        (
            replace(ASKED, arguments="x" * 3000),
            wait("person", name="git.push", question="a1/x1/2"),
            ANSWERED,
        ),
        (model_requested(2), wait("model", name="small"), model_called(2)),
        (
            budget_waiting(),
            wait(
                "budget",
                name="tokens_per_hour",
                until=RESET_AT,
                limit=HOUR,
                needed=NEEDED,
                action=LimitAction.SUSPEND,
            ),
            GRANTED,
        ),
        (
            budget_waiting(action=LimitAction.ASK, budget="team-a"),
            wait(
                "budget",
                name="tokens_per_hour",
                question="a1/x1/2",
                until=RESET_AT,
                budget="team-a",
                limit=HOUR,
                needed=NEEDED,
                action=LimitAction.ASK,
            ),
            DENIED,
        ),
    ],
)
def test_it_waits_until_that_is_over(begins: Event, seen: WaitView, ends: Event) -> None:
    assert waiting(begins) == [seen]
    assert waiting(begins, ends) == []
    assert waiting(begins, ExecutionFailed(execution_id="x1", code="E2005", message="no")) == []
    other = ExecutionFailed(execution_id="x2", code="E2005", message="no")
    assert waiting(begins, started("x2"), other) == [seen]


def test_a_call_waits_for_one_thing_after_another() -> None:
    """And one that is made again waits on for its model."""
    again = model_called(2, again=True)
    assert [one.kind for one in waiting(budget_waiting(), GRANTED, model_requested(2))] == ["model"]
    assert waiting(budget_waiting(), GRANTED, model_requested(2), again) == []


def test_so_many_are_seen() -> None:
    waits = waiting(*(effect_of(call) for call in range(2, MAX_WAITS + 12)))
    assert [one.call for one in waits] == [*range(2, MAX_WAITS + 2)]


def effect_of(call: int) -> EffectRecorded:
    return replace(effect("signal", {"name": "go"}, done=False), call=call)


def test_what_a_person_is_asked() -> None:
    view = view_of(*LIMITED, ASKED, replace(budget_waiting(3, action=LimitAction.ASK, budget="team-a")))
    tool, budget = questions_of("a1", view.waiting)
    assert (tool.id, tool.kind, tool.what, tool.needed) == ("a1/x1/2", "tool", "git.push", {"to": "main"})
    assert (budget.id, budget.kind, budget.what) == ("a1/x1/3", "budget", "budget/team-a tokens_per_hour")
    assert questions_of("a1", view_of(*LIMITED, budget_waiting()).waiting) == []


def test_what_is_left_of_its_limits() -> None:
    view = view_of(*LIMITED, model_requested(2))
    assert view.spent == {
        HOUR: LimitView(amount=8_000, used=1_280, reserved=5_000, left=1_720, reset_at=RESET_AT),
        DAY: LimitView(
            amount=None, used=1_280, reserved=5_000, left=None, reset_at=datetime(1970, 1, 2, 0, 16, 40, tzinfo=UTC)
        ),
        COST: LimitView(
            amount=None, used=0.000228, reserved=0.0125, left=None, reset_at=datetime(1970, 1, 2, 0, 16, 40, tzinfo=UTC)
        ),
    }
    other = view_of(*LIMITED, updated(tokens_per_hour=None, cost_per_day=1.0))
    assert (other.spent[HOUR].amount, other.spent[COST].left) == (None, 0.999772)
    assert other.resource_limits == other.spec.resource_limits == updated(tokens_per_hour=None, cost_per_day=1.0).limits


steps = st.lists(
    st.sampled_from(
        [
            model_requested(2),
            model_called(2),
            model_requested(3),
            replace(model_called(3), again=True),
            QuotaReset(limits={}, usage={HOUR: 0}, reset_at={HOUR: 9000.0}),
            updated(MORE, tokens_per_hour=4_000),
            ExecutionFailed(execution_id="x1", code="E2005", message="no"),
        ]
    ),
    max_size=12,
)


@for_all(steps)
def test_it_is_what_decisions_are_made_from(done: list[Event]) -> None:
    """The view has the same windows as the agent's state, whatever happens."""
    past = given(*LIMITED[:3], begun(model_requested()), model_called())
    for step in done:
        try:
            [*events] = past.when(step).decided() if hasattr(step, "decide") else [step]  # type: ignore[arg-type]
        except Exception:  # what cannot happen now
            continue
        past = past.and_then(*events)
    view = view_of(*past.past)
    seen = {limit: window_of(limit, item) for limit, item in view.spent.items()}
    known = own_windows(past.state)
    assert {limit: window for limit, window in seen.items() if limit in known} == known


def test_usage_is_counted_by_agent_budget_model_and_hour() -> None:
    events = (*LIMITED, model_requested(2), model_called(2), model_requested(3))
    lost = replace(model_requested(3, attempt=2), lost=given(*events).state.executions["x1"].asked_models[3].lost(3))
    rows: dict[Any, Any] = {}
    for item in recorded((*events, lost)):
        key = USAGE_FOLD.key_of(item)
        if key is not None:
            rows[key] = USAGE_FOLD.project(rows.get(key), item)
    known, gone = (
        rows[("a1", "team-a", "qwen3:8b", "2026-01-01T00Z")],
        rows[("a1", "team-a", "small", "2026-01-01T00Z")],
    )
    assert (known.calls, known.input_tokens, known.output_tokens, known.cost_usd) == (2, 2_400, 160, 0.000456)
    assert (gone.calls, gone.lost, gone.input_tokens, gone.cost_usd) == (1, 1, 5_000, 0.0125)
    assert len(rows) == 2
    refused = replace(model_called(4), attempt=0, input_tokens=0, output_tokens=0, cost_usd=0.0)
    assert all(USAGE_FOLD.key_of(item) is None for item in recorded((refused, BudgetWaitingAgain)))


BudgetWaitingAgain: BudgetWaiting = budget_waiting()
