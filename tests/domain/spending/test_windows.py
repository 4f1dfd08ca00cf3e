"""What is spent of a limit, in its windows: held to a plain record of every call, over all orders of events."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from l02.domain.inference import Spending
from l02.domain.spending.limits import LimitName
from l02.domain.spending.windows import (
    Window,
    Windows,
    crossed,
    over,
    shortage,
    with_exceeded,
    with_reserved,
    with_reset,
    with_settled,
    with_warned,
)

HOUR, DAY, COST, TOTAL = LimitName
ALL = tuple(LimitName)


def test_a_window_begins_with_the_first_spending_in_it() -> None:
    windows = with_reserved({}, ALL, Spending(tokens=10, cost=7), 1000.0)
    assert windows == {
        HOUR: Window(reserved=10, reset_at=4600.0),
        DAY: Window(reserved=10, reset_at=87_400.0),
        COST: Window(reserved=7, reset_at=87_400.0),
        TOTAL: Window(reserved=7),
    }
    later = with_reserved(windows, ALL, Spending(tokens=1), 2000.0)
    assert later[HOUR] == Window(reserved=11, reset_at=4600.0)


def test_what_costs_nothing_begins_no_window() -> None:
    assert with_reserved({}, (COST,), Spending(tokens=10), 1000.0) == {COST: Window()}
    assert with_settled({}, (HOUR,), Spending(), Spending(), 1000.0) == {HOUR: Window()}


def test_what_is_under_way_when_a_window_is_over_is_charged_to_the_next() -> None:
    """Which begins at once."""
    call, other = Spending(tokens=60), Spending(tokens=50)
    windows = with_reserved({HOUR: Window(used=40, reset_at=100.0)}, (HOUR,), call, 99.0)
    assert over(windows, 99.9) == ()
    assert over(windows, 100.0) == (HOUR,)
    after = with_reset(windows, (HOUR,), 105.0)
    assert after == {HOUR: Window(reserved=60, reset_at=3705.0)}
    found = shortage({HOUR: 100}, after, other)
    assert found is not None
    assert (found.needed, found.used, found.left, found.reset_at) == (50, 0, 40, 3705.0)
    assert found.could_fit
    assert found.is_passing
    settled = with_settled(after, (HOUR,), call, Spending(tokens=45), 130.0)
    assert settled == {HOUR: Window(used=45, reset_at=3705.0)}
    assert shortage({HOUR: 100}, settled, other) is None


def test_what_could_never_fit_is_named_before_what_only_has_to_wait() -> None:
    windows = {HOUR: Window(used=100, reset_at=3600.0), COST: Window(used=1, reset_at=9000.0)}
    found = shortage({HOUR: 100, COST: 5}, windows, Spending(tokens=10, cost=6))
    assert found is not None
    assert (found.limit, found.amount, found.needed, found.left, found.could_fit) == (COST, 5, 6, 4, False)
    assert not found.is_passing
    held = {HOUR: Window(used=10, reserved=90, reset_at=3600.0), DAY: Window(used=95, reset_at=9000.0)}
    waits = shortage({HOUR: 100, DAY: 100}, held, Spending(tokens=10))
    assert waits is not None
    assert (waits.limit, waits.is_passing) == (DAY, False)
    nothing = shortage({HOUR: 0}, {}, Spending(tokens=1))
    assert nothing is not None
    assert not nothing.could_fit
    assert shortage({HOUR: 0}, {}, Spending(cost=5)) is None


def test_a_threshold_is_reached_once_in_a_window() -> None:
    amounts = {HOUR: 100, DAY: 1000, COST: 0}
    windows: Windows = with_settled({}, ALL, Spending(), Spending(tokens=79), 0.0)
    assert list(crossed(amounts, windows, (0.8, 0.9))) == []
    windows = with_settled(windows, ALL, Spending(), Spending(tokens=1), 1.0)
    assert list(crossed(amounts, windows, (0.8, 0.9))) == [(HOUR, 0.8)]
    windows = with_warned(windows, HOUR, 0.8)
    assert list(crossed(amounts, windows, (0.8, 0.9))) == []
    windows = with_settled(windows, ALL, Spending(), Spending(tokens=19, cost=5), 2.0)
    assert list(crossed(amounts, windows, (0.8, 0.9))) == [(HOUR, 0.9)]
    windows = with_exceeded(with_warned(windows, HOUR, 0.9), HOUR)
    assert windows[HOUR] == Window(used=99, reset_at=3600.0, warned=(0.8, 0.9), exceeded=True)
    again = with_settled(with_reset(windows, (HOUR,), 3600.0), ALL, Spending(), Spending(tokens=95), 3600.0)
    assert list(crossed(amounts, again, (0.8, 0.9))) == [(HOUR, 0.9)]
    assert again[HOUR] == Window(used=95, reset_at=7200.0)


@given(
    limit=st.integers(0, 200),
    steps=st.lists(
        st.tuples(st.sampled_from(["begin", "end", "wait"]), st.integers(0, 90), st.floats(0, 1)), max_size=60
    ),
)
def test_never_more_is_spent_and_reserved_in_a_window_than_the_limit(
    limit: int, steps: list[tuple[str, int, float]]
) -> None:
    """Beside a plain record: which calls are open, and what has settled since when the window was reset."""
    windows: Windows = {}
    open_calls: list[Spending] = []
    settled, now = 0, 0.0
    for step, amount, part in steps:
        if over(windows, now):
            windows, settled = with_reset(windows, over(windows, now), now), 0
        if step == "begin":
            call = Spending(tokens=amount)
            if shortage({HOUR: limit}, windows, call) is None:
                windows = with_reserved(windows, (HOUR,), call, now)
                open_calls.append(call)
            else:
                assert amount > limit - settled - sum(item.tokens for item in open_calls)
        elif step == "end" and open_calls:
            call = open_calls.pop(amount % len(open_calls))
            used = Spending(tokens=int(part * call.tokens))
            windows = with_settled(windows, (HOUR,), call, used, now)
            settled += used.tokens
        elif step == "wait":
            now += amount * 100
        window = windows.get(HOUR, Window())
        assert window.used == settled
        assert window.reserved == sum(item.tokens for item in open_calls)
        assert window.used + window.reserved <= limit
        assert window.reset_at is None or now - 9000 < window.reset_at <= now + 3600
        assert window.reset_at is not None or not window.used + window.reserved
        assert window.left(limit) == limit - window.used - window.reserved
