"""What a budget is, folded from its events, and how its limits are said."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from l02.domain.inference import MAX_COUNT, Spending
from l02.domain.spending.limits import DEFAULT_THRESHOLDS, LimitAction, LimitName, Tokens
from l02.domain.spending.money import Usd, in_millionths, require_millionths
from l02.domain.spending.windows import (
    Window,
    Windows,
    over,
    with_other_amounts,
    with_reserved,
    with_reset,
    with_settled,
)


class BudgetLimits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The most that may be spent in an hour, in a day and ever: tokens, and costs in USD, to a millionth.

    One that is null or left out does not limit; 0 allows nothing.
    """

    tokens_per_hour: Tokens | None = None
    tokens_per_day: Tokens | None = None
    cost_per_day: Usd | None = None
    cost_total: Usd | None = None


class Slice(Struct, frozen=True, kw_only=True):
    """A part of a budget that is lent to a node, `holder`. `used` is all that was reported as spent from it, and `held`
    what may still be, which counts as reserved.
    """

    holder: str
    until: float
    held: Spending
    used: Spending = Spending()
    recalled: bool = False


class BudgetState(Struct, frozen=True, kw_only=True):
    """All that decisions about a budget are made from. `limits` holds tokens, and millionths of a dollar.

    `raised` is what was added to limits until they are reset. What is spent is counted for every limit, so that one
    which is set later holds for what was spent before. `denied`: a person who was asked has said no.
    """

    exists: bool = False
    limits: dict[LimitName, int] = {}
    parent: str | None = None
    action: LimitAction = LimitAction.SUSPEND
    warn_at: tuple[float, ...] = DEFAULT_THRESHOLDS
    raised: dict[LimitName, int] = {}
    windows: Windows = {}
    slices: dict[str, Slice] = {}
    denied: bool = False

    @property
    def allowed(self) -> dict[LimitName, int]:
        """The limits as they are now."""
        return {limit: min(amount + self.raised.get(limit, 0), MAX_COUNT) for limit, amount in self.limits.items()}

    @property
    def reserved(self) -> Spending:
        """What is lent and not spent yet."""
        return reduce(Spending.__add__, (lent.held for lent in self.slices.values()), Spending())

    @property
    def reset_times(self) -> set[float]:
        """When something is to be reset, in seconds since 1970."""
        return {at for limit in self.limits if (at := self.windows.get(limit, Window()).reset_at) is not None}

    def with_other_limits(self, **changes: Any) -> BudgetState:
        """With these changes of what it allows: what was said of a limit may be said again where that is higher now."""
        after = replace(self, **changes, denied=False)
        return replace(after, windows=with_other_amounts(after.windows, after.allowed))

    def with_slice(self, name: str, lent: Slice, at: float) -> BudgetState:
        """With one more slice."""
        windows = with_reserved(self.windows, LimitName, lent.held, at)
        return replace(self, slices=self.slices | {name: lent}, windows=windows)

    def with_spent(self, name: str, used: Spending, held: Spending, at: float, *, closed: bool) -> BudgetState:
        """With so much more spent of a slice, of which its holder keeps `held`, or nothing if it is closed."""
        slices = dict(self.slices)
        lent = slices.pop(name)
        if not closed:
            slices[name] = replace(lent, held=held, used=lent.used + used)
        windows = with_settled(self.windows, LimitName, lent.held - held, used, at)
        return replace(self, slices=slices, windows=windows)

    def without_windows(self, limits: tuple[LimitName, ...], at: float) -> BudgetState:
        """With new windows for these limits. What was added to one until then is gone; what is lent stays so."""
        raised = {limit: amount for limit, amount in self.raised.items() if limit not in limits}
        return replace(self, windows=with_reset(self.windows, limits, at), raised=raised, denied=False)

    def over(self, at: float) -> tuple[LimitName, ...]:
        """The limits whose windows are over by then."""
        return over(self.windows, at)


def amounts(limits: BudgetLimits) -> dict[LimitName, int]:
    """The limits there are, in tokens and in the nearest millionths of a dollar."""
    return {
        limit: in_millionths(value) if limit.is_money else value
        for limit in LimitName
        if (value := getattr(limits, limit)) is not None
    }


def limits_of(amounts: Mapping[LimitName, int]) -> BudgetLimits:
    """The same as they are said on the wire."""
    return BudgetLimits(**{str(limit): limit.said(item) for limit, item in amounts.items()})  # type: ignore[arg-type]


def require_exact(limits: BudgetLimits, path: str) -> None:
    """Raise E2110 for a cost that is finer than a millionth of a dollar."""
    for limit in LimitName:
        cost = getattr(limits, limit)
        if limit.is_money and cost is not None:
            require_millionths(cost, f"{path}.{limit}")
