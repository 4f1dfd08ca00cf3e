import msgspec
import pytest

from l02.bus.wire.incoming import read_command
from l02.bus.wire.subjects import AggregateId, CommandAddress
from l02.domain.aggregates import AGGREGATES
from l02.domain.budget.configuring import Configure
from l02.domain.budget.granting import Raise
from l02.domain.budget.lending import Settle
from l02.domain.budget.resetting import BudgetReset, ResetDue
from l02.domain.budget.state import BudgetLimits
from l02.domain.errors import ErrorCode
from l02.domain.spending.limits import LimitName
from tests.domain.budget.lent import HOUR, configured, given, lend, lent, raised, settled, tokens


def test_happened_for_a_window_until_it_is_reset() -> None:
    more, all_of_it = BudgetLimits(tokens_per_hour=500), BudgetLimits(tokens_per_hour=1500)
    budget = given(HOUR, lent(1000), settled(1000)).when(Raise(amount=more)).then(raised(more, all_of_it))
    budget = budget.when(lend(500, name="s2")).then(lent(500, name="s2"))
    budget = budget.when(Settle(slice="s2", used=tokens(500), closed=True)).then(
        *budget.when(Settle(slice="s2", used=tokens(500), closed=True)).decided()
    )
    budget = budget.when(ResetDue(at=4600)).then(
        BudgetReset(limits=(LimitName.TOKENS_PER_HOUR,), used={LimitName.TOKENS_PER_HOUR: 1500}, at=4600.0)
    )
    assert budget.state.allowed == {LimitName.TOKENS_PER_HOUR: 1000}


def test_happened_for_good_until_it_is_configured_anew() -> None:
    more, all_of_it = BudgetLimits(cost_total=0.25), BudgetLimits(cost_total=1.25)
    first = configured(cost_total=1.0)
    budget = given(first).when(Raise(amount=more, how_long="always")).then(raised(more, all_of_it, always=True))
    assert budget.state.allowed == {LimitName.COST_TOTAL: 1_250_000}
    assert budget.when(Configure(limits=BudgetLimits(cost_total=1.0))).then(first).state.allowed == {
        LimitName.COST_TOTAL: 1_000_000
    }


def test_ignored_if_it_is_by_nothing() -> None:
    given(HOUR).when(Raise(amount=BudgetLimits(tokens_per_hour=0))).ignored()


@pytest.mark.parametrize(
    ("amount", "saying", "path"),
    [
        (BudgetLimits(cost_total=1.0), "there are: tokens_per_hour", "$.amount.cost_total"),
        (BudgetLimits(tokens_per_hour=10**15), "more than any budget", "$.amount.tokens_per_hour"),
        (BudgetLimits(cost_per_day=1e-7), "at most 6 decimals", "$.amount.cost_per_day"),
    ],
)
def test_refused(amount: BudgetLimits, saying: str, path: str) -> None:
    given(HOUR).when(Raise(amount=amount)).fails(ErrorCode.COMMAND_INVALID, saying, path)


def test_over_the_wire_it_says_for() -> None:
    address = CommandAddress(AggregateId("budget", "b1"), "raise")
    body = b'{"amount": {"tokens_per_hour": 5}, "for": "always"}'
    assert read_command(AGGREGATES, address, body, {}, command_id="c1").command == Raise(
        amount=BudgetLimits(tokens_per_hour=5), how_long="always"
    )
    event = raised(BudgetLimits(), BudgetLimits())
    assert msgspec.json.decode(msgspec.json.encode(event))["for"] == "window"


def test_a_warning_is_due_again_when_there_is_more() -> None:
    budget = given(HOUR, lent(1000)).when(Settle(slice="s1", used=tokens(800), holds=tokens(200)))
    spent = given(HOUR, lent(1000), *budget.decided())
    assert spent.state.windows[LimitName.TOKENS_PER_HOUR].warned == (0.8,)
    more = BudgetLimits(tokens_per_hour=1000)
    wider = spent.when(Raise(amount=more)).then(raised(more, BudgetLimits(tokens_per_hour=2000)))
    assert wider.state.windows[LimitName.TOKENS_PER_HOUR].warned == ()
