from l02.domain.agent.work.blocking import BudgetGranted, QuotaReset, QuotaResetDue
from l02.domain.agent.work.own_limits import own_windows
from l02.domain.spending.amounts import Amount
from l02.domain.spending.limits import LimitName
from l02.domain.spending.windows import Window
from tests.domain.agent.story import BLOCKED, LIMITED, RESERVED, TERMINATED, given, model_requested, resumed

HOUR = LimitName.TOKENS_PER_HOUR
DUE = QuotaResetDue(at=4_600.0)
GRANTED = BudgetGranted(
    execution_id="x1", call=2, budget=None, level="own", limit=HOUR, needed=Amount.of(RESERVED), granted=None, by=None
)


def test_happened() -> None:
    """Also by a clock that is behind; other windows go on."""
    reset = QuotaReset(limits={HOUR: 8_000}, usage={HOUR: 1_280}, reset_at={})
    after = given(*LIMITED).when(DUE, time=4_599.0).then(reset).state
    assert own_windows(after)[HOUR] == Window()
    assert own_windows(after)[LimitName.TOKENS_PER_DAY] == Window(used=1_280, reset_at=87_400.0)


def test_it_frees_who_waits() -> None:
    """However late it comes, as when every process was down."""
    reset = QuotaReset(limits={HOUR: 8_000}, usage={HOUR: 6_280}, reset_at={})
    after = given(*BLOCKED).when(DUE, time=70_000.0).then(reset, GRANTED, resumed()).state
    assert not after.executions["x1"].blocked
    assert after.may_act


def test_what_is_reserved_begins_the_next_window_at_once() -> None:
    reset = QuotaReset(limits={HOUR: 8_000}, usage={HOUR: 1_280}, reset_at={HOUR: 8_201.0})
    after = given(*LIMITED, model_requested(2)).when(DUE, time=4_601.0).then(reset).state
    assert own_windows(after)[HOUR] == Window(reserved=5_000, reset_at=8_201.0)


def test_several_windows_may_be_over() -> None:
    usage = {LimitName.TOKENS_PER_HOUR: 1_280, LimitName.TOKENS_PER_DAY: 1_280, LimitName.COST_PER_DAY: 0.000228}
    reset = QuotaReset(limits={HOUR: 8_000}, usage=usage, reset_at={})
    given(*LIMITED).when(QuotaResetDue(at=87_400.0), time=87_400.5).then(reset)


def test_ignored_if_somebody_was_first() -> None:
    """And another window has begun since."""
    reset = QuotaReset(limits={HOUR: 8_000}, usage={HOUR: 1_280}, reset_at={HOUR: 8_200.0})
    given(*LIMITED, reset).when(DUE, time=4_601.0).ignored()


def test_ignored_by_one_that_has_ended() -> None:
    given(*TERMINATED).when(DUE).ignored()
