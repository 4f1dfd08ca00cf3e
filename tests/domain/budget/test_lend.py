from msgspec.structs import replace

from l02.domain.budget.resetting import BudgetReset
from l02.domain.inference import Spending
from l02.domain.spending.limits import LimitAction, LimitName
from tests.domain.budget.lent import HOUR, configured, given, left, lend, lent, of_tokens, refused, settled


def test_happened() -> None:
    """An eighth of what is left, and one call's worth at the end."""
    budget = given(HOUR).when(lend(10, 500)).then(lent(125))
    assert left(budget) == 875
    budget = budget.when(lend(10, 50, "s2")).then(lent(50, 175, "s2"))
    budget.when(lend(800, 5000, "s3")).then(lent(800, 975, "s3"))


def test_each_kind_by_its_own_limits() -> None:
    budget = given(configured(tokens_per_hour=800, tokens_per_day=400, cost_total=1.0)).when(lend(1, 1000))
    assert budget.then(lent(50)).state.windows[LimitName.TOKENS_PER_DAY].left(400) == 350


def test_ignored_when_it_is_lent() -> None:
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


def test_a_window_that_is_over_is_reset_by_who_comes_first() -> None:
    reset = BudgetReset(limits=(LimitName.TOKENS_PER_HOUR,), used={LimitName.TOKENS_PER_HOUR: 1000}, at=4600.0)
    spent = given(HOUR, lent(1000), settled(1000))
    assert refused(spent, 1, time=4599.0).shortage.left == 0
    budget = spent.when(lend(1000, name="s2"), time=4600.0).then(reset, lent(1000, name="s2", at=4600.0))
    assert budget.state.windows[LimitName.TOKENS_PER_HOUR].reset_at == 8200.0


def test_warn_has_no_wall() -> None:
    budget = given(configured(LimitAction.WARN, tokens_per_hour=10), lent(10), settled(10))
    budget.when(lend(1000, 4000, "s2")).then(lent(4000, name="s2"))


def test_costs_are_exact() -> None:
    budget = given(configured(cost_total=0.3))
    for number in range(3):
        [event] = budget.when(
            replace(lend(0, name=f"s{number}"), needed=Spending(cost=100_000), wanted=Spending(cost=100_000))
        ).decided()
        budget = budget.and_then(event)
    assert left(budget, LimitName.COST_TOTAL) == 0
    assert of_tokens(0).spending == Spending()
