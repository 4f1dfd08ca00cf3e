"""The view of a budget, event by event."""

from __future__ import annotations

from datetime import timedelta
from functools import reduce

import msgspec
import pytest
from msgspec.structs import replace

from l02.bus.wire.codec import RecordedEvent
from l02.bus.wire.subjects import AggregateId
from l02.domain.aggregates import BUDGET
from l02.domain.budget.configuring import BudgetConfigured
from l02.domain.budget.state import BudgetLimits
from l02.domain.kernel.message import Event
from l02.domain.spending.limits import LimitAction, LimitName
from l02.domain.spending.windows import Window
from l02.projections.folds.budgets import BUDGET_FOLD, BudgetView, _state
from l02.projections.folds.fold import ViewOutOfStep
from l02.projections.folds.limits import LimitView
from tests.golden.samples import SAMPLES
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
        spent={LimitName.COST_TOTAL: LimitView(amount=5.0, used=0.0, reserved=0.0, left=5.0, reset_at=None)},
    )


def test_what_is_no_budgets_has_no_view() -> None:
    assert [BUDGET_FOLD.key_of(item) for item in (*recorded([started("x1")]), *of_budget(FIRST))] == [None, ("b1",)]


def test_what_does_not_follow_is_not_taken_in() -> None:
    first, second = of_budget(FIRST, SECOND)
    for view, item in ((None, second), (BUDGET_FOLD.project(None, first), first)):
        with pytest.raises(ViewOutOfStep):
            BUDGET_FOLD.project(view, item)


def test_what_was_spent_is_as_in_the_state_that_is_decided_upon() -> None:
    view: BudgetView | None = None
    state = BUDGET.initial_state()
    for item in of_budget(*(SAMPLES[event.type].event for event in BUDGET.events)):
        view = BUDGET_FOLD.decode(msgspec.json.encode(BUDGET_FOLD.project(view, item)))
        state = BUDGET.evolve(state, item.event)
        begun = {limit: window for limit, window in state.windows.items() if window != Window()}
        assert _state(view) == replace(state, windows=begun), item.event.type
    assert view is not None
    limit = view.spent[LimitName.COST_PER_DAY]
    assert (limit.amount, limit.used, limit.reserved, limit.left) == (14.0, 0.012345, 0.1, 13.887655)
    [lent] = view.slices.values()
    assert (lent.holder, lent.used.cost_usd, lent.held.tokens, lent.sequence) == ("n1", 0.012345, 2000, 5)
    assert lent.recalled
