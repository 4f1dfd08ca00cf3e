"""Slices of a budget are lent to nodes, so that a call draws on one in hand and a budget of thousands is no queue.

What is lent counts as reserved until its holder reports it as spent or gives it back. A report says all that was spent
from a slice, not what is new: whoever repeats it, or reads it from the journals after the holder's death, changes
nothing. A slice is large while much is left, and as large as one call needs at the end.
"""

from __future__ import annotations

from typing import ClassVar

from msgspec.structs import replace

from l02.domain.budget.messages import BudgetEvent, BudgetUse, after
from l02.domain.budget.resetting import overdue
from l02.domain.budget.state import BudgetState, Slice
from l02.domain.budget.watching import exceeded, remarks
from l02.domain.inference import MAX_COUNT, Spending
from l02.domain.kernel.message import Context
from l02.domain.spending.amounts import Amount
from l02.domain.spending.exhausted import Exhausted
from l02.domain.spending.limits import LimitAction, LimitName
from l02.domain.spending.windows import Window, shortage

SHARE = 8
"""At most an eighth of what is left is lent at once, unless one call needs more."""


class Lend(BudgetUse, frozen=True, kw_only=True):
    """`holder` wants a slice for a call that may need `needed`, and for more calls up to `wanted`."""

    slice: str
    holder: str
    needed: Spending
    wanted: Spending
    until: float

    def decide(self, budget: BudgetState, context: Context, /) -> list[BudgetEvent]:
        """Once for each slice. Raises Exhausted if there is no room for the one call."""
        if self.slice in budget.slices:
            return []
        events = overdue(budget, context.time)
        budget = after(budget, events)
        refused = refusal(budget, context.aggregate_id, self.needed)
        if refused is not None:
            raise refused
        amount = Spending(
            tokens=_share(budget, self.needed.tokens, self.wanted.tokens, is_money=False),
            cost=_share(budget, self.needed.cost, self.wanted.cost, is_money=True),
        )
        reserved = BudgetReserved(
            slice=self.slice,
            holder=self.holder,
            amount=Amount.of(amount),
            until=self.until,
            reserved=Amount.of(budget.reserved + amount),
            at=float(int(context.time)),
        )
        return [*events, reserved]


def refusal(budget: BudgetState, budget_id: str, needed: Spending) -> Exhausted | None:
    """Why so much cannot be reserved of a budget, if it cannot."""
    short = None if budget.action is LimitAction.WARN else shortage(budget.allowed, budget.windows, needed)
    action = LimitAction.REFUSE if budget.denied else budget.action
    return None if short is None else Exhausted(short, action, budget_id)


def _share(budget: BudgetState, needed: int, wanted: int, *, is_money: bool) -> int:
    left = MAX_COUNT
    if budget.action is not LimitAction.WARN:
        for limit, amount in budget.allowed.items():
            if limit.is_money is is_money:
                left = min(left, budget.windows.get(limit, Window()).left(amount))
    return max(needed, min(wanted, left // SHARE))


class BudgetReserved(BudgetEvent, frozen=True, kw_only=True):
    """`amount` is lent to the node `holder`, which uses it until `until` or gives it back; `reserved` is all that is
    lent with it. Windows that have not begun begin `at` this time. Times are in seconds since 1970.
    """

    type: ClassVar[str] = "budget.reserved"
    slice: str
    holder: str
    amount: Amount
    until: float
    reserved: Amount
    at: float

    def evolve(self, budget: BudgetState, /) -> BudgetState:
        """There is one more slice."""
        lent = Slice(holder=self.holder, held=self.amount.spending, until=self.until)
        return budget.with_slice(self.slice, lent, self.at)


class Settle(BudgetUse, frozen=True, kw_only=True):
    """`used` was spent from a slice since it was lent; `holds` is what may yet be. `closed` if nothing more will be."""

    slice: str
    used: Spending
    holds: Spending = Spending()
    closed: bool = False

    def decide(self, budget: BudgetState, context: Context, /) -> list[BudgetEvent]:
        """What is new of it; nothing of a slice that is closed."""
        lent = budget.slices.get(self.slice)
        if lent is None:
            return []
        used = self.used - lent.used
        held = Spending() if self.closed else lent.held - (lent.held - self.holds)
        if not used and held == lent.held and not self.closed:
            return []
        events = overdue(budget, context.time)
        budget = after(budget, events)
        settled = BudgetSettled(
            slice=self.slice,
            holder=lent.holder,
            used=Amount.of(used),
            returned=Amount.of(lent.held - used - held),
            held=Amount.of(held),
            closed=self.closed,
            reserved=Amount.of(budget.reserved - (lent.held - held)),
            at=float(int(context.time)),
        )
        return [*events, settled, *remarks(settled.evolve(budget))]


class BudgetSettled(BudgetEvent, frozen=True, kw_only=True):
    """`used` more was spent from a slice, `returned` given back, and `held` is what its holder keeps of it; nothing
    once it is `closed`. It counts in the windows in which it is reported, `at` this time (seconds since 1970), and
    `reserved` is all that is lent then.
    """

    type: ClassVar[str] = "budget.settled"
    slice: str
    holder: str
    used: Amount
    returned: Amount
    held: Amount
    closed: bool
    reserved: Amount
    at: float

    def evolve(self, budget: BudgetState, /) -> BudgetState:
        """What was spent is; what was given back can be had again."""
        return budget.with_spent(self.slice, self.used.spending, self.held.spending, self.at, closed=self.closed)


class Recall(BudgetUse, frozen=True, kw_only=True):
    """`holder` was refused `needed`."""

    holder: str
    needed: Spending

    def decide(self, budget: BudgetState, context: Context, /) -> list[BudgetEvent]:
        """That all is spent is said once in a window; what others hold they are asked for, each slice once."""
        short = shortage(budget.allowed, budget.windows, self.needed)
        if short is None or not short.could_fit:
            return []
        limit, needed = short.limit, short.needed
        if not short.is_passing:
            window = budget.windows.get(limit, Window())
            return [] if window.exceeded else [exceeded(budget, limit, needed)]
        slices = tuple(
            name
            for name, lent in budget.slices.items()
            if lent.holder != self.holder and limit.of(lent.held) and not lent.recalled
        )
        if not slices:
            return []
        return [BudgetRecalled(slices=slices, limit=limit, needed=limit.said(needed), holder=self.holder)]


class BudgetRecalled(BudgetEvent, frozen=True, kw_only=True):
    """The node `holder` has a call that needs what is in these slices: what nobody uses of them is to be given back."""

    type: ClassVar[str] = "budget.recalled"
    slices: tuple[str, ...]
    limit: LimitName
    needed: int | float
    holder: str

    def evolve(self, budget: BudgetState, /) -> BudgetState:
        """Their holders are not asked again."""
        slices = {
            name: replace(lent, recalled=lent.recalled or name in self.slices) for name, lent in budget.slices.items()
        }
        return replace(budget, slices=slices)
