"""Budgets with a past, and the words to tell it with."""

from __future__ import annotations

from typing import Any

import pytest

from l02.domain.aggregates import BUDGET
from l02.domain.budget.configuring import BudgetConfigured
from l02.domain.budget.granting import BudgetRaised
from l02.domain.budget.lending import BudgetReserved, BudgetSettled, Lend
from l02.domain.budget.state import BudgetLimits, BudgetState
from l02.domain.errors import ErrorCode
from l02.domain.inference import Spending
from l02.domain.kernel.message import Event
from l02.domain.spending.amounts import Amount
from l02.domain.spending.exhausted import Exhausted
from l02.domain.spending.limits import LimitAction, LimitName
from tests.domain.given_when_then import Given

UNTIL = 1_800_000_030.0


def configured(action: LimitAction = LimitAction.SUSPEND, **limits: Any) -> BudgetConfigured:
    return BudgetConfigured(limits=BudgetLimits(**limits), parent=None, action=action, warn_at=(0.8, 0.9))


HOUR = configured(tokens_per_hour=1000)


def given(*past: Event) -> Given[BudgetState]:
    return Given(BUDGET, past)


def tokens(amount: int) -> Spending:
    return Spending(tokens=amount)


def of_tokens(amount: int) -> Amount:
    return Amount(tokens=amount, cost_usd=0.0)


def lend(needed: int, wanted: int = 0, name: str = "s1", holder: str = "n1") -> Lend:
    return Lend(slice=name, holder=holder, needed=tokens(needed), wanted=tokens(max(wanted, needed)), until=UNTIL)


def lent(
    amount: int, reserved: int | None = None, name: str = "s1", holder: str = "n1", at: float = 1000.0
) -> BudgetReserved:
    return BudgetReserved(
        slice=name,
        holder=holder,
        amount=of_tokens(amount),
        until=UNTIL,
        reserved=of_tokens(amount if reserved is None else reserved),
        at=at,
    )


def settled(
    used: int,
    *,
    returned: int = 0,
    held: int = 0,
    closed: bool = True,
    reserved: int = 0,
    name: str = "s1",
    holder: str = "n1",
    at: float = 1000.0,
) -> BudgetSettled:
    return BudgetSettled(
        slice=name,
        holder=holder,
        used=of_tokens(used),
        returned=of_tokens(returned),
        held=of_tokens(held),
        closed=closed,
        reserved=of_tokens(reserved),
        at=at,
    )


def raised(amount: BudgetLimits, limits: BudgetLimits, *, always: bool = False) -> BudgetRaised:
    return BudgetRaised(amount=amount, how_long="always" if always else "window", by="alice", limits=limits)


def left(budget: Given[BudgetState], limit: LimitName = LimitName.TOKENS_PER_HOUR) -> int:
    state = budget.state
    return state.windows[limit].left(state.allowed[limit])


def refused(budget: Given[BudgetState], needed: int, *, time: float = 1000.0) -> Exhausted:
    with pytest.raises(Exhausted) as caught:
        budget.when(lend(needed, name="s9"), time=time).ignored()
    assert caught.value.code is ErrorCode.TOKEN_BUDGET_EXCEEDED
    assert caught.value.budget == "a1"
    return caught.value
