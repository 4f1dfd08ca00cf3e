"""Limits begin anew: when their window is over, by a timer or whoever comes first; or because somebody says so."""

from __future__ import annotations

from typing import ClassVar

from l02.domain.budget.messages import BudgetCommand, BudgetEvent
from l02.domain.budget.state import BudgetState
from l02.domain.kernel.message import Context, TimerCommand
from l02.domain.spending.limits import LimitName
from l02.domain.spending.windows import Window


class Reset(BudgetCommand, frozen=True, kw_only=True):
    """Begin anew with these limits now, or with all of them. What is lent stays reserved."""

    verb: ClassVar[str] = "reset"
    limits: tuple[LimitName, ...] = tuple(LimitName)

    def decide(self, budget: BudgetState, context: Context, /) -> list[BudgetEvent]:
        """If anything of them is spent, or was added to them."""
        wanted = tuple(
            limit
            for limit in LimitName
            if limit in self.limits and (budget.windows.get(limit, Window()).used or limit in budget.raised)
        )
        return [_reset(budget, wanted, context.time, context.actor)] if wanted else []


class ResetDue(TimerCommand, frozen=True, kw_only=True):
    """The windows that end `at` this time (seconds since 1970) are over."""

    verb: ClassVar[str] = "reset-due"
    at: float

    def decide(self, budget: BudgetState, context: Context, /) -> list[BudgetEvent]:
        """If nobody has come first. The timer is believed, whatever this node's clock says."""
        return overdue(budget, max(self.at, context.time))


class BudgetReset(BudgetEvent, frozen=True, kw_only=True):
    """Nothing is spent of these limits any more; `used` is what was. `by` has done it, if it was not due.

    `at` is in seconds since 1970: the windows of what is lent begin anew then, others with the next spend.
    """

    type: ClassVar[str] = "budget.reset"
    limits: tuple[LimitName, ...]
    used: dict[LimitName, int | float]
    at: float
    by: str | None = None

    def evolve(self, budget: BudgetState, /) -> BudgetState:
        """What is lent is charged to the windows in which it is reported."""
        return budget.without_windows(self.limits, self.at)


def overdue(budget: BudgetState, at: float) -> list[BudgetEvent]:
    """What has to be reset by this time, if anything has."""
    limits = budget.over(at)
    return [_reset(budget, limits, at, None)] if limits else []


def _reset(budget: BudgetState, limits: tuple[LimitName, ...], at: float, by: str | None) -> BudgetReset:
    used = {limit: limit.said(budget.windows.get(limit, Window()).used) for limit in limits}
    return BudgetReset(limits=limits, used=used, at=float(int(at)), by=by)
