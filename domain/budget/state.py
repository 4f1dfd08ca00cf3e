"""What a budget is, folded from its events, and how its limits are said."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from l02.domain.spending.limits import DEFAULT_THRESHOLDS, LimitAction, LimitName, Tokens
from l02.domain.spending.money import Usd, in_millionths, in_usd, require_millionths


class BudgetLimits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The most that may be spent in an hour, in a day and ever: tokens, and costs in USD, to a millionth.

    One that is null or left out does not limit; 0 allows nothing.
    """

    tokens_per_hour: Tokens | None = None
    tokens_per_day: Tokens | None = None
    cost_per_day: Usd | None = None
    cost_total: Usd | None = None


class BudgetState(Struct, frozen=True, kw_only=True):
    """All that decisions about a budget are made from. `limits` holds tokens, and millionths of a dollar."""

    exists: bool = False
    limits: dict[LimitName, int] = {}
    parent: str | None = None
    action: LimitAction = LimitAction.SUSPEND
    warn_at: tuple[float, ...] = DEFAULT_THRESHOLDS


def amounts(limits: BudgetLimits) -> dict[LimitName, int]:
    """The limits there are, in tokens and in the nearest millionths of a dollar."""
    return {
        limit: in_millionths(value) if limit.is_money else value
        for limit in LimitName
        if (value := getattr(limits, limit)) is not None
    }


def limits_of(amounts: dict[LimitName, int]) -> BudgetLimits:
    """The same as they are said on the wire."""
    said: dict[str, Any] = {limit: in_usd(item) if limit.is_money else item for limit, item in amounts.items()}
    return BudgetLimits(**said)


def require_exact(limits: BudgetLimits, path: str) -> None:
    """Raise E2110 for a cost that is finer than a millionth of a dollar."""
    for limit in LimitName:
        cost = getattr(limits, limit)
        if limit.is_money and cost is not None:
            require_millionths(cost, f"{path}.{limit}")
