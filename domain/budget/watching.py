"""What is said of a budget before nothing is left of it, and then: each once in a window."""

from __future__ import annotations

from typing import ClassVar

from msgspec.structs import replace

from l02.domain.budget.messages import BudgetEvent
from l02.domain.budget.state import BudgetState
from l02.domain.spending.limits import LimitAction, LimitName
from l02.domain.spending.windows import Window, crossed, with_exceeded, with_warned


class BudgetWarning(BudgetEvent, frozen=True, kw_only=True):
    """`threshold` of a limit is spent. `amount` is all that it allows, `used` what was spent of it; tokens, or USD.

    It is reset at `reset_at` (seconds since 1970).
    """

    type: ClassVar[str] = "budget.warning"
    limit: LimitName
    threshold: float
    percent: float
    amount: int | float
    used: int | float
    reset_at: float | None

    def evolve(self, budget: BudgetState, /) -> BudgetState:
        """It is not said again in this window."""
        return replace(budget, windows=with_warned(budget.windows, self.limit, self.threshold))


class BudgetExceeded(BudgetEvent, frozen=True, kw_only=True):
    """All of a limit is spent, or so much that a call was refused, which `needed` this; `action` is what follows."""

    type: ClassVar[str] = "budget.exceeded"
    limit: LimitName
    percent: float
    amount: int | float
    used: int | float
    reserved: int | float
    reset_at: float | None
    action: LimitAction
    needed: int | float | None = None

    def evolve(self, budget: BudgetState, /) -> BudgetState:
        """It is not said again in this window."""
        return replace(budget, windows=with_exceeded(budget.windows, self.limit))


def remarks(budget: BudgetState) -> list[BudgetEvent]:
    """What is to be said of a budget after something was spent."""
    remarked: list[BudgetEvent] = [
        BudgetWarning(
            limit=limit,
            threshold=threshold,
            percent=_percent(budget, limit),
            amount=limit.said(budget.allowed[limit]),
            used=limit.said(budget.windows[limit].used),
            reset_at=budget.windows.get(limit, Window()).reset_at,
        )
        for limit, threshold in crossed(budget.allowed, budget.windows, budget.warn_at)
    ]
    for limit, amount in budget.allowed.items():
        window = budget.windows.get(limit, Window())
        if 0 < window.used >= amount and not window.exceeded:
            remarked.append(exceeded(budget, limit))
    return remarked


def exceeded(budget: BudgetState, limit: LimitName, needed: int | None = None) -> BudgetExceeded:
    """That nothing is left of a limit, or less than a call needs."""
    window = budget.windows.get(limit, Window())
    return BudgetExceeded(
        limit=limit,
        percent=_percent(budget, limit),
        amount=limit.said(budget.allowed[limit]),
        used=limit.said(window.used),
        reserved=limit.said(window.reserved),
        reset_at=budget.windows.get(limit, Window()).reset_at,
        action=budget.action,
        needed=None if needed is None else limit.said(needed),
    )


def _percent(budget: BudgetState, limit: LimitName) -> float:
    amount, used = budget.allowed[limit], budget.windows.get(limit, Window()).used
    return round(100 * used / amount, 2) if amount else 100.0
