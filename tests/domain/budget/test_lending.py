"""Slices: lent while there is room, reported as often as one likes, closed once."""

from __future__ import annotations

import pytest

from l02.domain.budget.lending import BudgetRecalled, Recall, Settle
from l02.domain.budget.resetting import BudgetReset
from l02.domain.budget.state import BudgetState
from l02.domain.budget.watching import BudgetExceeded, BudgetWarning
from l02.domain.errors import ErrorCode
from l02.domain.inference import Spending
from l02.domain.spending.exhausted import Exhausted
from l02.domain.spending.limits import LimitAction, LimitName
from tests.domain.budget.lent import configured, given, lend, lent, of_tokens, settled, tokens
from tests.domain.given_when_then import Given

HOUR = configured(tokens_per_hour=1000)


def left(budget: Given[BudgetState], limit: LimitName = LimitName.TOKENS_PER_HOUR) -> int:
    state = budget.state
    return state.windows[limit].left(state.allowed[limit])


def refused(budget: Given[BudgetState], needed: int, *, time: float = 1000.0) -> Exhausted:
    with pytest.raises(Exhausted) as caught:
        budget.when(lend(needed, name="s9"), time=time).ignored()
    assert caught.value.code is ErrorCode.TOKEN_BUDGET_EXCEEDED
    assert caught.value.budget == "a1"
    return caught.value


def test_an_eighth_of_what_is_left_and_one_calls_worth_at_the_end() -> None:
    budget = given(HOUR).when(lend(10, 500)).then(lent(125))
    assert left(budget) == 875
    budget = budget.when(lend(10, 50, "s2")).then(lent(50, 175, "s2"))
    budget.when(lend(800, 5000, "s3")).then(lent(800, 975, "s3"))


def test_each_kind_by_its_own_limits() -> None:
    budget = given(configured(tokens_per_hour=800, tokens_per_day=400, cost_total=1.0)).when(lend(1, 1000))
    assert budget.then(lent(50)).state.windows[LimitName.TOKENS_PER_DAY].left(400) == 350


def test_lent_once_under_a_name() -> None:
    given(HOUR, lent(125)).when(lend(10)).ignored()


def test_refused_names_what_is_short() -> None:
    failure = refused(given(HOUR, lent(125), settled(0, held=125, closed=False, reserved=125)), 900)
    assert (failure.shortage.limit, failure.shortage.needed, failure.shortage.left) == ("tokens_per_hour", 900, 875)
    assert (failure.shortage.reset_at, failure.action, failure.shortage.is_passing) == (4600.0, "suspend", True)
    assert failure.shortage.could_fit
    used = refused(given(HOUR, lent(500), settled(500)), 501)
    assert not used.shortage.is_passing and used.shortage.could_fit
    assert "1970-01-01 01:16:40 UTC" in used.message


def test_what_can_never_fit_is_told_apart_whatever_was_spent() -> None:
    assert not refused(given(HOUR), 1001).shortage.could_fit
    assert not refused(given(configured(cost_total=0.0, tokens_per_hour=1)), 2).shortage.could_fit
    given(configured(tokens_per_hour=0)).when(lend(0)).then(lent(0))


def test_warn_has_no_wall() -> None:
    budget = given(configured(LimitAction.WARN, tokens_per_hour=10), lent(10), settled(10))
    budget.when(lend(1000, 4000, "s2")).then(lent(4000, name="s2"))


def test_a_report_says_all_so_repeating_it_changes_nothing() -> None:
    budget = given(HOUR, lent(400))
    report = Settle(slice="s1", used=tokens(100), holds=tokens(300))
    budget = budget.when(report).then(settled(100, held=300, closed=False, reserved=300))
    budget.when(report).ignored()
    budget = budget.when(Settle(slice="s1", used=tokens(150), holds=tokens(50))).then(
        settled(50, returned=200, held=50, closed=False, reserved=50)
    )
    budget.when(report).ignored()
    budget = budget.when(Settle(slice="s1", used=tokens(170), closed=True)).then(settled(20, returned=30))
    assert left(budget) == 830
    budget.when(Settle(slice="s1", used=tokens(900), closed=True)).ignored()


def test_more_than_was_lent_is_spent_all_the_same() -> None:
    budget = given(HOUR, lent(100)).when(Settle(slice="s1", used=tokens(700), closed=True)).then(settled(700))
    assert left(budget) == 300


def test_a_slice_held_over_the_end_of_a_window_is_charged_to_that_in_which_it_is_reported() -> None:
    reset = BudgetReset(limits=(LimitName.TOKENS_PER_HOUR,), used={LimitName.TOKENS_PER_HOUR: 300}, at=4600.0)
    budget = given(HOUR, lent(400), settled(300, held=100, closed=False, reserved=100))
    assert refused(budget, 901, time=4600.0).shortage.is_passing  # what is held stays reserved, also in the new window
    budget = budget.when(Settle(slice="s1", used=tokens(360), holds=tokens(40)), time=4600.5).then(
        reset, settled(60, held=40, closed=False, reserved=40, at=4600.0)
    )
    assert budget.state.windows[LimitName.TOKENS_PER_HOUR].reset_at == 8200.0
    assert left(budget) == 900


def test_warned_and_exceeded_once_in_a_window() -> None:
    def warning(threshold: float, used: int) -> BudgetWarning:
        return BudgetWarning(
            limit=LimitName.TOKENS_PER_HOUR,
            threshold=threshold,
            percent=used / 10,
            amount=1000,
            used=used,
            reset_at=4600.0,
        )

    def report(used: int) -> Settle:
        return Settle(slice="s1", used=tokens(used), holds=tokens(1000 - used))

    def told(used: int, before: int) -> object:
        return settled(used - before, held=1000 - used, closed=False, reserved=1000 - used)

    budget = given(HOUR, lent(1000))
    budget = budget.when(report(799)).then(told(799, 0))  # type: ignore[arg-type]
    budget = budget.when(report(800)).then(told(800, 799), warning(0.8, 800))  # type: ignore[arg-type]
    budget = budget.when(report(850)).then(told(850, 800))  # type: ignore[arg-type]
    budget = budget.when(report(950)).then(told(950, 850), warning(0.9, 950))  # type: ignore[arg-type]
    events = budget.when(report(1000)).decided()
    assert [event.type for event in events] == ["budget.settled", "budget.exceeded"]
    budget = budget.and_then(*events)
    assert isinstance(events[1], BudgetExceeded)
    assert (events[1].used, events[1].percent, events[1].action) == (1000, 100.0, "suspend")
    budget.when(Recall(holder="n1", needed=tokens(1))).ignored()


def test_others_are_asked_once_for_what_they_hold() -> None:
    budget = given(HOUR, lent(500), lent(400, 900, "s2", "n2"), lent(100, 1000, "s3"))
    recall = Recall(holder="n2", needed=tokens(200))
    recalled = BudgetRecalled(slices=("s1", "s3"), limit=LimitName.TOKENS_PER_HOUR, needed=200, holder="n2")
    budget = budget.when(recall).then(recalled)
    budget.when(recall).ignored()
    given(HOUR, lent(500)).when(recall).ignored()  # there is room by now


def test_a_call_that_is_refused_for_what_is_spent_exceeds_it() -> None:
    budget = given(HOUR, lent(900), settled(900))
    [exceeded] = budget.when(Recall(holder="n2", needed=tokens(200))).decided()
    assert isinstance(exceeded, BudgetExceeded)
    assert (exceeded.used, exceeded.needed, exceeded.percent) == (900, 200, 90.0)
    budget.and_then(exceeded).when(Recall(holder="n2", needed=tokens(200))).ignored()


def test_costs_are_exact() -> None:
    budget = given(configured(cost_total=0.3))
    for number in range(3):
        [event] = budget.when(
            lend(0, name=f"s{number}").__class__(
                slice=f"s{number}",
                holder="n1",
                needed=Spending(cost=100_000),
                wanted=Spending(cost=100_000),
                until=lent(0).until,
            )
        ).decided()
        budget = budget.and_then(event)
    assert left(budget, LimitName.COST_TOTAL) == 0
    assert of_tokens(0).spending == Spending()
