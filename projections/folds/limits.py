"""A limit as people see it, an agent's own or a budget's: what it allows, what is used and left, and until when."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from msgspec import Struct

from l02.domain.spending.limits import LimitName
from l02.domain.spending.money import in_millionths
from l02.domain.spending.windows import Window, Windows


class LimitView(Struct, frozen=True, kw_only=True):
    """A limit now, in tokens or USD; `amount` and `left` are null if it does not limit. It begins anew at `reset_at`.

    `reserved` is what may still be spent: of a budget, what is lent to nodes; of an agent, what its open calls may
    come to. `warned` are the thresholds that were warned of since it began.
    """

    amount: int | float | None
    used: int | float
    reserved: int | float
    left: int | float | None
    reset_at: datetime | None
    warned: tuple[float, ...] = ()
    exceeded: bool = False


Spent = dict[LimitName, LimitView]


def limit_view(limit: LimitName, window: Window, amount: int | None) -> LimitView:
    """How a window is seen."""
    return LimitView(
        amount=None if amount is None else limit.said(amount),
        used=limit.said(window.used),
        reserved=limit.said(window.reserved),
        left=None if amount is None else limit.said(window.left(amount)),
        reset_at=moment(window.reset_at),
        warned=window.warned,
        exceeded=window.exceeded,
    )


def window_of(limit: LimitName, view: LimitView) -> Window:
    """The window that is seen so."""
    return Window(
        used=_amount(limit, view.used),
        reserved=_amount(limit, view.reserved),
        reset_at=None if view.reset_at is None else view.reset_at.timestamp(),
        warned=view.warned,
        exceeded=view.exceeded,
    )


def spent_of(windows: Windows, amounts: Mapping[LimitName, int], limits: Iterable[LimitName]) -> Spent:
    """How the windows of these limits are seen: of those that limit, or of which something is spent."""
    return {
        limit: limit_view(limit, windows.get(limit, Window()), amounts.get(limit))
        for limit in limits
        if limit in amounts or windows.get(limit, Window()) != Window()
    }


def windows_of(spent: Spent) -> Windows:
    """The windows that are seen so, without those that have not begun."""
    return {limit: window for limit, view in spent.items() if (window := window_of(limit, view)) != Window()}


def moment(seconds: float | None) -> datetime | None:
    """A time in seconds since 1970, if it is one that a calendar has."""
    try:
        return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _amount(limit: LimitName, value: int | float) -> int:
    return in_millionths(value) if limit.is_money else int(value)
