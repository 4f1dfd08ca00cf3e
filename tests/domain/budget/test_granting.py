"""More is granted, denied, or begun anew: happened, ignored, and what is wrong."""

from __future__ import annotations

import msgspec
import pytest

from l02.bus.wire.incoming import read_command
from l02.bus.wire.subjects import AggregateId, CommandAddress
from l02.domain.aggregates import AGGREGATES
from l02.domain.budget.configuring import Configure
from l02.domain.budget.granting import BudgetDenied, BudgetRaised, Deny, Raise
from l02.domain.budget.lending import Settle
from l02.domain.budget.resetting import BudgetReset, Reset, ResetDue
from l02.domain.budget.state import BudgetLimits
from l02.domain.errors import ErrorCode
from l02.domain.spending.limits import LimitAction, LimitName
from tests.domain.budget.lent import configured, given, lend, lent, settled, tokens

HOUR = configured(tokens_per_hour=1000)
ASKS = configured(LimitAction.ASK, tokens_per_hour=100)


def raised(amount: BudgetLimits, limits: BudgetLimits, *, always: bool = False) -> BudgetRaised:
    return BudgetRaised(amount=amount, how_long="always" if always else "window", by="alice", limits=limits)


def test_raised_for_a_window_until_it_is_reset() -> None:
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


def test_raised_for_good_until_it_is_configured_anew() -> None:
    more, all_of_it = BudgetLimits(cost_total=0.25), BudgetLimits(cost_total=1.25)
    first = configured(cost_total=1.0)
    budget = given(first).when(Raise(amount=more, how_long="always")).then(raised(more, all_of_it, always=True))
    assert budget.state.allowed == {LimitName.COST_TOTAL: 1_250_000}
    assert budget.when(Configure(limits=BudgetLimits(cost_total=1.0))).then(first).state.allowed == {
        LimitName.COST_TOTAL: 1_000_000
    }


def test_raising_by_nothing_is_ignored() -> None:
    given(HOUR).when(Raise(amount=BudgetLimits(tokens_per_hour=0))).ignored()


@pytest.mark.parametrize(
    ("amount", "saying", "path"),
    [
        (BudgetLimits(cost_total=1.0), "there are: tokens_per_hour", "$.amount.cost_total"),
        (BudgetLimits(tokens_per_hour=10**15), "more than any budget", "$.amount.tokens_per_hour"),
        (BudgetLimits(cost_per_day=1e-7), "at most 6 decimals", "$.amount.cost_per_day"),
    ],
)
def test_what_cannot_be_raised(amount: BudgetLimits, saying: str, path: str) -> None:
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


def test_denied_until_there_is_more() -> None:
    budget = given(ASKS).when(Deny()).then(BudgetDenied(by="alice"))
    budget.when(Deny()).ignored()
    assert budget.state.denied
    more = BudgetLimits(tokens_per_hour=1)
    granted = budget.when(Raise(amount=more)).then(raised(more, BudgetLimits(tokens_per_hour=101)))
    assert not granted.state.denied
    assert not budget.and_then(configured()).state.denied
    given(HOUR).when(Deny()).fails(ErrorCode.INVALID_STATE, "nobody is asked")


def test_reset_by_hand_begins_anew_and_leaves_what_is_lent() -> None:
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
    budget.when(Reset()).ignored()
    given(HOUR).when(Reset()).ignored()


def test_a_timer_resets_what_is_due_and_only_that() -> None:
    budget = given(configured(tokens_per_hour=10, tokens_per_day=20), lent(10), settled(10))
    early, hour = (ResetDue(at=second) for second in (4599, 4600))
    budget.when(early).ignored()
    budget = budget.when(hour).then(
        BudgetReset(limits=(LimitName.TOKENS_PER_HOUR,), used={LimitName.TOKENS_PER_HOUR: 10}, at=4600.0)
    )
    budget.when(hour).ignored()
    assert budget.state.windows[LimitName.TOKENS_PER_DAY].used == 10


def test_nobody_is_lent_anything_of_what_is_not_there() -> None:
    given().when(lend(1)).fails(ErrorCode.AGGREGATE_NOT_FOUND)
    for command in (Raise(amount=BudgetLimits()), Deny(), Reset()):
        given().when(command).fails(ErrorCode.AGGREGATE_NOT_FOUND)


def test_configuring_a_running_budget_acts_at_once() -> None:
    budget = given(HOUR, lent(500), settled(500)).and_then(configured(tokens_per_hour=400))
    budget.when(lend(1, name="s2")).fails(
        ErrorCode.TOKEN_BUDGET_EXCEEDED, "its tokens_per_hour of 400 tokens has 0 tokens left"
    )
    budget.and_then(configured(tokens_per_hour=501)).when(lend(1, name="s2")).then(lent(1, name="s2"))
    counted = budget.and_then(configured(tokens_per_day=501))
    counted.when(lend(2, name="s2")).fails(
        ErrorCode.TOKEN_BUDGET_EXCEEDED, "its tokens_per_day of 501 tokens has 1 tokens left"
    )
