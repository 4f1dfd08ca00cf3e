"""What a person who is asked can say: that there is more, or that there is not."""

from __future__ import annotations

from typing import ClassVar, Literal

from msgspec import field
from msgspec.structs import replace

from l02.domain.budget.messages import BudgetCommand, BudgetEvent
from l02.domain.budget.state import BudgetLimits, BudgetState, amounts, limits_of, require_exact
from l02.domain.errors import ErrorCode, Failure
from l02.domain.inference import MAX_COUNT
from l02.domain.kernel.message import Context
from l02.domain.spending.limits import LimitAction

HowLong = Literal["window", "always"]


class Raise(BudgetCommand, frozen=True, kw_only=True):
    """Add `amount` to limits: until they are reset (`window`), or until the budget is configured anew (`always`)."""

    verb: ClassVar[str] = "raise"
    amount: BudgetLimits
    how_long: HowLong = field(default="window", name="for")

    def decide(self, budget: BudgetState, context: Context, /) -> list[BudgetEvent]:
        """E2110 for a limit that there is none of, since nothing is to be added to that."""
        require_exact(self.amount, "$.amount")
        added = {limit: amount for limit, amount in amounts(self.amount).items() if amount}
        for limit, amount in added.items():
            path = f"$.amount.{limit}"
            if limit not in budget.limits:
                limits = ", ".join(budget.limits) or "none"
                raise Failure(ErrorCode.COMMAND_INVALID, f"there is no such limit to raise; there are: {limits}", path)
            if budget.allowed[limit] + amount > MAX_COUNT:
                raise Failure(ErrorCode.COMMAND_INVALID, "it would be more than any budget can be", path)
        if not added:
            return []
        raised = BudgetRaised(amount=limits_of(added), how_long=self.how_long, by=context.actor, limits=BudgetLimits())
        return [replace(raised, limits=limits_of(raised.evolve(budget).allowed))]


class BudgetRaised(BudgetEvent, frozen=True, kw_only=True):
    """`by` has added `amount`. `limits` is all that is allowed with it."""

    type: ClassVar[str] = "budget.raised"
    amount: BudgetLimits
    how_long: HowLong = field(name="for")
    by: str
    limits: BudgetLimits

    def evolve(self, budget: BudgetState, /) -> BudgetState:
        """There is more."""
        held = budget.limits if self.how_long == "always" else budget.raised
        more = {limit: held.get(limit, 0) + amount for limit, amount in amounts(self.amount).items()}
        return budget.with_other_limits(**{"limits" if self.how_long == "always" else "raised": held | more})


class Deny(BudgetCommand, frozen=True, kw_only=True):
    """Say no to all who ask for more, until a limit is reset or raised, or the budget is configured anew."""

    verb: ClassVar[str] = "deny"

    def decide(self, budget: BudgetState, context: Context, /) -> list[BudgetEvent]:
        """E2112 if this budget asks nobody."""
        if budget.action is not LimitAction.ASK:
            raise Failure(
                ErrorCode.INVALID_STATE, f"nobody is asked for more of this budget, its action is {budget.action!s}"
            )
        return [] if budget.denied else [BudgetDenied(by=context.actor)]


class BudgetDenied(BudgetEvent, frozen=True, kw_only=True):
    """`by` has said no."""

    type: ClassVar[str] = "budget.denied"
    by: str

    def evolve(self, budget: BudgetState, /) -> BudgetState:
        """Who wants more than there is, is refused."""
        return replace(budget, denied=True)
