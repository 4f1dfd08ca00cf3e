"""A sample of every event of a budget, each of which may follow on those before."""

from __future__ import annotations

from l02.domain.budget.configuring import BudgetConfigured
from l02.domain.budget.granting import BudgetDenied, BudgetRaised
from l02.domain.budget.lending import BudgetRecalled, BudgetReserved, BudgetSettled
from l02.domain.budget.resetting import BudgetReset
from l02.domain.budget.state import BudgetLimits
from l02.domain.budget.watching import BudgetExceeded, BudgetWarning
from l02.domain.kernel.message import Event
from l02.domain.spending.amounts import Amount
from l02.domain.spending.limits import LimitAction, LimitName

_UNTIL = 1_800_000_030.0

BUDGETS: tuple[Event, ...] = (
    BudgetConfigured(
        limits=BudgetLimits(tokens_per_hour=100_000, tokens_per_day=0, cost_per_day=12.5, cost_total=0.000001),
        parent="research",
        action=LimitAction.ASK,
        warn_at=(0.5, 0.95),
    ),
    BudgetRaised(
        amount=BudgetLimits(cost_per_day=1.5),
        how_long="window",
        by="alice",
        limits=BudgetLimits(tokens_per_hour=100_000, tokens_per_day=0, cost_per_day=14.0, cost_total=0.000001),
    ),
    BudgetDenied(by="alice"),
    BudgetReset(
        limits=(LimitName.TOKENS_PER_HOUR, LimitName.COST_TOTAL),
        used={LimitName.TOKENS_PER_HOUR: 90_000, LimitName.COST_TOTAL: 0.000001},
        at=1_800_000_000.0,
        by="alice",
    ),
    BudgetReserved(
        slice="3f9a-1",
        holder="n1",
        amount=Amount(tokens=12_000, cost_usd=0.25),
        until=_UNTIL,
        reserved=Amount(tokens=12_000, cost_usd=0.25),
        at=1_800_000_000.0,
    ),
    BudgetSettled(
        slice="3f9a-1",
        holder="n1",
        used=Amount(tokens=1_234, cost_usd=0.012345),
        returned=Amount(tokens=8_766, cost_usd=0.137655),
        held=Amount(tokens=2_000, cost_usd=0.1),
        closed=False,
        reserved=Amount(tokens=2_000, cost_usd=0.1),
        at=1_800_000_002.0,
    ),
    BudgetRecalled(slices=("3f9a-1",), limit=LimitName.COST_PER_DAY, needed=0.5, holder="n2"),
    BudgetWarning(
        limit=LimitName.TOKENS_PER_HOUR,
        threshold=0.8,
        percent=81.5,
        amount=100_000,
        used=81_500,
        reset_at=_UNTIL,
    ),
    BudgetExceeded(
        limit=LimitName.COST_PER_DAY,
        percent=99.2,
        amount=14.0,
        used=13.888,
        reserved=0.1,
        reset_at=_UNTIL,
        action=LimitAction.SUSPEND,
        needed=0.125,
    ),
)
