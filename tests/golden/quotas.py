"""Samples of what is said of an agent's limits and of calls that wait for one, every field set."""

from __future__ import annotations

from l02.domain.agent.work.blocking import (
    BudgetChanged,
    BudgetDenied,
    BudgetGranted,
    BudgetWaiting,
    QuotaReset,
    QuotaResetDue,
)
from l02.domain.agent.work.quotas import LimitChanges, QuotaUpdated, SetQuota
from l02.domain.inference import Spending
from l02.domain.specification import ResourceLimits
from l02.domain.spending.amounts import Amount
from l02.domain.spending.limits import LimitAction, LimitName

HOUR, DAY, COST = LimitName.TOKENS_PER_HOUR, LimitName.TOKENS_PER_DAY, LimitName.COST_PER_DAY
_NEEDED = Amount.of(Spending(tokens=5200, cost=780))

QUOTAS = (
    BudgetWaiting(
        execution_id="x1",
        call=4,
        budget="team-a",
        level="budget",
        limit=COST,
        needed=_NEEDED,
        action=LimitAction.ASK,
        reset_at=1_767_268_800.5,
    ),
    BudgetDenied(
        execution_id="x1", call=4, budget="team-a", level="budget", limit=COST, by="alice", reason="not for that"
    ),
    BudgetGranted(
        execution_id="x1", call=4, budget="team-a", level="budget", limit=COST, needed=_NEEDED, granted=2.5, by="alice"
    ),
    QuotaReset(limits={HOUR: 50_000}, usage={HOUR: 49_000, COST: 0.000228}, reset_at={HOUR: 1_767_272_400.5}),
    QuotaUpdated(
        limits=ResourceLimits(
            cpu="500m",
            memory="512Mi",
            tokens_per_hour=None,
            tokens_per_day=900_000,
            cost_per_day=12.5,
            action=LimitAction.THROTTLE,
            warn_at=(0.5,),
            processes=8,
            execution_seconds=60.0,
        ),
        usage={HOUR: 49_000, COST: 0.000228},
        reset_at={HOUR: 1_767_272_400.5},
        by="alice",
    ),
)

QUOTA_COMMANDS = (
    SetQuota(limits=LimitChanges(tokens_per_hour=200_000, cost_per_day=None), action=LimitAction.ASK),
    QuotaResetDue(at=1_767_268_800.5),
    BudgetChanged(budget="team-a", by="alice", granted={COST: 2.5}, denied=False),
)
