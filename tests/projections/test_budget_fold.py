"""The view of a budget, event by event."""

from __future__ import annotations

from datetime import timedelta
from functools import reduce

import pytest
from msgspec.structs import replace

from l02.bus.wire.codec import RecordedEvent
from l02.bus.wire.subjects import AggregateId
from l02.domain.budget.configuring import BudgetConfigured
from l02.domain.budget.state import BudgetLimits
from l02.domain.kernel.message import Event
from l02.domain.spending.limits import LimitAction
from l02.projections.folds.budgets import BUDGET_FOLD, BudgetView
from l02.projections.folds.fold import ViewOutOfStep
from tests.projections.history import START, recorded, started

LIMITS = BudgetLimits(cost_total=5.0)
FIRST = BudgetConfigured(limits=BudgetLimits(), parent="research", action=LimitAction.ASK, warn_at=(0.5,))
SECOND = BudgetConfigured(limits=LIMITS, parent=None, action=LimitAction.WARN, warn_at=())


def of_budget(*events: Event) -> list[RecordedEvent]:
    return [replace(item, aggregate=AggregateId("budget", "b1")) for item in recorded(events)]


def test_it_is_what_was_last_said() -> None:
    view: BudgetView | None = None
    assert reduce(BUDGET_FOLD.project, of_budget(FIRST, SECOND), view) == BudgetView(
        id="b1",
        limits=LIMITS,
        parent=None,
        action=LimitAction.WARN,
        warn_at=(),
        created_at=START,
        updated_at=START + timedelta(seconds=1),
        version=2,
        sequence=2,
    )


def test_what_is_no_budgets_has_no_view() -> None:
    assert [BUDGET_FOLD.key_of(item) for item in (*recorded([started("x1")]), *of_budget(FIRST))] == [None, ("b1",)]


def test_what_does_not_follow_is_not_taken_in() -> None:
    first, second = of_budget(FIRST, SECOND)
    for view, item in ((None, second), (BUDGET_FOLD.project(None, first), first)):
        with pytest.raises(ViewOutOfStep):
            BUDGET_FOLD.project(view, item)
