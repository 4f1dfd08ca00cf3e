"""What a budget allows, whom it belongs to, and what happens at its limits: said as a whole, each time."""

from __future__ import annotations

from typing import ClassVar

from l02.domain.budget.messages import BudgetCommand, BudgetEvent
from l02.domain.budget.state import BudgetLimits, BudgetState, amounts, limits_of, require_exact
from l02.domain.errors import ErrorCode, Failure
from l02.domain.identifiers import require_id
from l02.domain.kernel.message import Context
from l02.domain.spending.limits import DEFAULT_THRESHOLDS, LimitAction, Thresholds, require_ascending


class Configure(BudgetCommand, frozen=True, kw_only=True):
    """Make a budget, or say anew what one allows: what is left out is not kept from before, but at its default.

    `parent` is the budget that it is a part of, which need not exist yet. `warn_at` are the parts of a limit, above 0
    and below 1 and ascending, at which a warning is due; at the whole of it `action` is taken.
    """

    verb: ClassVar[str] = "configure"
    begins: ClassVar[bool] = True
    limits: BudgetLimits
    parent: str | None = None
    action: LimitAction = LimitAction.SUSPEND
    warn_at: Thresholds = DEFAULT_THRESHOLDS

    def decide(self, budget: BudgetState, context: Context, /) -> list[BudgetEvent]:
        """It replaces what was configured before, if it says anything else."""
        if self.parent is not None:
            require_id(self.parent, "$.parent")
        if self.parent == context.aggregate_id:
            raise Failure(ErrorCode.COMMAND_INVALID, "a budget cannot be a part of itself", "$.parent")
        require_ascending(self.warn_at, "$.warn_at")
        require_exact(self.limits, "$.limits")
        limits = limits_of(amounts(self.limits))
        configured = BudgetConfigured(limits=limits, parent=self.parent, action=self.action, warn_at=self.warn_at)
        return [] if configured.evolve(budget) == budget else [configured]


class BudgetConfigured(BudgetEvent, frozen=True, kw_only=True):
    """This is what the budget allows from now on. `limits` has every limit, null where there is none."""

    type: ClassVar[str] = "budget.configured"
    limits: BudgetLimits
    parent: str | None
    action: LimitAction
    warn_at: Thresholds

    def evolve(self, budget: BudgetState, /) -> BudgetState:
        """What was configured before does not matter any more; what was spent, and added for a window, does."""
        return budget.with_other_limits(
            exists=True,
            limits=amounts(self.limits),
            parent=self.parent,
            action=self.action,
            warn_at=self.warn_at,
        )
