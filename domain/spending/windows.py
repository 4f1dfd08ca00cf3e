"""What has been spent of a limit: in fixed windows that begin with the first spending in them and are over at a time.

One arithmetic for an agent's own limits and for budgets. Nothing here reads a clock: whoever decides says the time, and
whoever folds takes it from the event. Times are in seconds since 1970, UTC; amounts are tokens, or millionths of a
dollar.

What is reserved when a window is over stays reserved, begins the next one at once, and is charged to the window in
which it settles: so there is never more spent and reserved than the limit, in this window or the next.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from l02.domain.inference import MAX_COUNT, Spending
from l02.domain.spending.limits import LimitName


class Window(Struct, frozen=True, kw_only=True):
    """What is `used` and `reserved` of a limit. `reset_at` is when it is over: None until it begins, or if it never is.

    `warned` are the thresholds that were warned of in it, `exceeded` whether it was said that it is at its limit.
    """

    used: int = 0
    reserved: int = 0
    reset_at: float | None = None
    warned: tuple[float, ...] = ()
    exceeded: bool = False

    def left(self, amount: int) -> int:
        """What is still to be had of a limit of this amount."""
        return max(0, amount - self.used - self.reserved)


Windows = dict[LimitName, Window]


class Shortage(NamedTuple):
    """The limit that is in the way of a spending: its `amount`, what is `needed` and what is `left` of it.

    `used` is what is gone of it; what is neither used nor left is reserved.
    """

    limit: LimitName
    amount: int
    needed: int
    used: int
    left: int
    reset_at: float | None

    @property
    def could_fit(self) -> bool:
        """Whether it would, if nothing had been spent."""
        return self.needed <= self.amount

    @property
    def is_passing(self) -> bool:
        """Whether it would, if all that is reserved came back unused."""
        return self.needed <= self.amount - self.used


def shortage(amounts: Mapping[LimitName, int], windows: Windows, needed: Spending) -> Shortage | None:
    """What is in the way of reserving `needed`; None if all limits allow it.

    What can never fit comes first, and what has to wait for a reset before what only has to wait for others to settle.
    """
    found = []
    for limit, amount in amounts.items():
        window, wanted = windows.get(limit, _NEW), limit.of(needed)
        if wanted > window.left(amount):
            found.append(Shortage(limit, amount, wanted, window.used, window.left(amount), window.reset_at))
    return min(found, key=lambda item: (item.could_fit, item.is_passing), default=None)


def beginning(windows: Windows, limits: Iterable[LimitName], at: float) -> dict[LimitName, float]:
    """The limits whose window has not begun and would with a spending at that time, each with when it is over."""
    return {
        limit: at + limit.seconds
        for limit in limits
        if limit.seconds is not None and windows.get(limit, _NEW).reset_at is None
    }


def with_begun(windows: Windows, begins: Mapping[LimitName, float]) -> Windows:
    """With these windows begun."""
    return {**windows, **{limit: replace(windows.get(limit, _NEW), reset_at=at) for limit, at in begins.items()}}


def with_reserved(windows: Windows, limits: Iterable[LimitName], needed: Spending, at: float | None = None) -> Windows:
    """After a reservation. It begins the windows that have not begun; without a time, they have."""
    after = dict(windows)
    for limit in limits:
        amount = limit.of(needed)
        window = _begun(limit, windows.get(limit, _NEW), amount, at)
        after[limit] = replace(window, reserved=window.reserved + amount)
    return after


def with_settled(
    windows: Windows, limits: Iterable[LimitName], reserved: Spending, used: Spending, at: float | None = None
) -> Windows:
    """After a spending: what was `reserved` for it comes back, and what it `used` is gone. Without a time, the windows
    have begun.
    """
    after = dict(windows)
    for limit in limits:
        amount = limit.of(used)
        window = _begun(limit, windows.get(limit, _NEW), amount, at)
        after[limit] = replace(window, used=window.used + amount, reserved=max(0, window.reserved - limit.of(reserved)))
    return after


def over(windows: Windows, at: float) -> tuple[LimitName, ...]:
    """The limits whose window is over by then."""
    return tuple(limit for limit, window in windows.items() if window.reset_at is not None and window.reset_at <= at)


def with_reset(windows: Windows, limits: Iterable[LimitName], at: float) -> Windows:
    """With new windows for these. One of which something is reserved begins at once, the others when it is spent."""
    after = dict(windows)
    for limit in limits:
        reserved = windows.get(limit, _NEW).reserved
        after[limit] = _begun(limit, Window(reserved=reserved), reserved, at)
    return after


def crossed(
    amounts: Mapping[LimitName, int], windows: Windows, thresholds: Sequence[float]
) -> Iterator[tuple[LimitName, float]]:
    """The thresholds that what is used has reached, and of which, or of a higher one, nobody was warned in this window:
    of each limit the highest. A limit of nothing has no threshold.
    """
    for limit, amount in amounts.items():
        window = windows.get(limit, _NEW)
        reached = [part for part in thresholds if amount and window.used >= part * amount]
        if reached and reached[-1] > max(window.warned, default=0.0):
            yield limit, reached[-1]


def with_warned(windows: Windows, limit: LimitName, threshold: float) -> Windows:
    """After a warning."""
    window = windows.get(limit, _NEW)
    return {**windows, limit: replace(window, warned=(*window.warned, threshold))}


def with_other_amounts(windows: Windows, amounts: Mapping[LimitName, int]) -> Windows:
    """After the limits were changed: what was said of one may be said again, where it holds no more."""
    return {
        limit: replace(
            window,
            warned=tuple(part for part in window.warned if window.used >= part * amounts.get(limit, MAX_COUNT)),
            exceeded=window.exceeded and window.used >= amounts.get(limit, MAX_COUNT),
        )
        for limit, window in windows.items()
    }


def with_exceeded(windows: Windows, limit: LimitName) -> Windows:
    """After it was said that a limit is in the way."""
    return {**windows, limit: replace(windows.get(limit, _NEW), exceeded=True)}


_NEW = Window()


def _begun(limit: LimitName, window: Window, amount: int, at: float | None) -> Window:
    if not amount or at is None or window.reset_at is not None or limit.seconds is None:
        return window
    return replace(window, reset_at=at + limit.seconds)
