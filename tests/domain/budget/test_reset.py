import pytest

from l02.bus.wire.incoming import read_command
from l02.bus.wire.subjects import AggregateId, CommandAddress
from l02.domain.aggregates import AGGREGATES
from l02.domain.budget.resetting import BudgetReset, Reset
from l02.domain.errors import ErrorCode, Failure
from l02.domain.spending.limits import LimitName
from tests.domain.budget.lent import HOUR, configured, given, lent, settled

DAY = LimitName.TOKENS_PER_DAY


def test_happened() -> None:
    """All begins anew, but for what is lent."""
    budget = given(HOUR, lent(500), settled(400, held=100, closed=False, reserved=100))
    reset = BudgetReset(
        limits=tuple(limit for limit in LimitName if not limit.is_money),
        used={limit: 400 for limit in LimitName if not limit.is_money},
        at=1000.0,
        by="alice",
    )
    budget = budget.when(Reset()).then(reset)
    window = budget.state.windows[LimitName.TOKENS_PER_HOUR]
    assert (window.used, window.reserved, window.reset_at) == (0, 100, 4600.0)


def test_only_what_is_named() -> None:
    spent = given(configured(tokens_per_hour=10, tokens_per_day=20), lent(10), settled(10))
    reset = BudgetReset(limits=(DAY,), used={DAY: 10}, at=1000.0, by="alice")
    budget = spent.when(Reset(limits=(DAY,))).then(reset)
    assert budget.state.windows[LimitName.TOKENS_PER_HOUR].used == 10
    assert budget.state.windows[DAY].used == 0


def test_ignored_if_nothing_is_spent() -> None:
    given(HOUR).when(Reset()).ignored()
    reset = given(HOUR, lent(500), settled(400, held=100, closed=False, reserved=100))
    reset.and_then(*reset.when(Reset()).decided()).when(Reset()).ignored()
    given(HOUR, lent(10), settled(10)).when(Reset(limits=(LimitName.COST_TOTAL,))).ignored()


def test_refused_if_there_is_no_such_limit() -> None:
    address = CommandAddress(AggregateId("budget", "b1"), "reset")
    with pytest.raises(Failure) as refused:
        read_command(AGGREGATES, address, b'{"limits": ["tokens_per_day", "tokens_per_week"]}', {}, command_id="c1")
    assert (refused.value.code, refused.value.path) == (ErrorCode.COMMAND_INVALID, "$.limits[1]")
