from l02.domain.budget.resetting import BudgetReset, ResetDue
from l02.domain.spending.limits import LimitName
from tests.domain.budget.lent import configured, given, lent, settled

HOUR = LimitName.TOKENS_PER_HOUR
SPENT = given(configured(tokens_per_hour=10, tokens_per_day=20), lent(10), settled(10))
DUE = ResetDue(at=4600)
RESET = BudgetReset(limits=(HOUR,), used={HOUR: 10}, at=4600.0)


def test_happened() -> None:
    """What is due is reset, and only that, though this node's clock says that it is early."""
    assert SPENT.when(DUE, time=1000.0).then(RESET).state.windows[LimitName.TOKENS_PER_DAY].used == 10


def test_ignored_before_it_is_due() -> None:
    SPENT.when(ResetDue(at=4599)).ignored()


def test_ignored_if_somebody_was_first() -> None:
    SPENT.and_then(RESET).when(DUE).ignored()


def test_ignored_of_an_earlier_window() -> None:
    by_hand = BudgetReset(limits=(HOUR,), used={HOUR: 10}, at=2000.0, by="alice")
    again = SPENT.and_then(by_hand, lent(5, name="s2", at=2500.0), settled(5, name="s2", at=2500.0))
    assert again.state.windows[HOUR].reset_at == 6100.0
    again.when(DUE, time=4600.0).ignored()
