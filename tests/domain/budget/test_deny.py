from l02.domain.budget.granting import BudgetDenied, Deny, Raise
from l02.domain.budget.resetting import Reset
from l02.domain.budget.state import BudgetLimits
from l02.domain.errors import ErrorCode
from l02.domain.spending.limits import LimitAction
from tests.domain.budget.lent import HOUR, configured, given, lent, raised, refused, settled

ASKS = configured(LimitAction.ASK, tokens_per_hour=100)
DENIED = BudgetDenied(by="alice")


def test_happened() -> None:
    """Whoever needs more does not wait for a person any more."""
    asks = given(ASKS)
    assert refused(asks, 101).action is LimitAction.ASK
    denied = asks.when(Deny()).then(DENIED)
    assert denied.state.denied
    assert refused(denied, 101).action is LimitAction.REFUSE


def test_ignored_twice() -> None:
    given(ASKS, DENIED).when(Deny()).ignored()


def test_refused_if_nobody_is_asked() -> None:
    given(HOUR).when(Deny()).fails(ErrorCode.INVALID_STATE, "nobody is asked")


def test_until_there_is_more() -> None:
    denied = given(ASKS, lent(100), settled(100), DENIED)
    more = BudgetLimits(tokens_per_hour=1)
    granted = denied.when(Raise(amount=more)).then(raised(more, BudgetLimits(tokens_per_hour=101)))
    assert not granted.state.denied
    assert not denied.and_then(configured()).state.denied
    assert not denied.and_then(*denied.when(Reset()).decided()).state.denied
