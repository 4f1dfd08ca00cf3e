"""A budget is what was last said of it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given as hypothesis_given
from hypothesis import strategies as st

from l02.bus.wire.incoming import read_command
from l02.bus.wire.subjects import AggregateId, CommandAddress
from l02.domain.aggregates import AGGREGATES, BUDGET
from l02.domain.budget.configuring import BudgetConfigured, Configure
from l02.domain.budget.state import BudgetLimits, BudgetState
from l02.domain.errors import ErrorCode, Failure
from l02.domain.spending.limits import LimitAction, LimitName
from tests.domain.budget.lent import HOUR, configured, given, lend, lent, settled

LIMITS = BudgetLimits(tokens_per_hour=1000, cost_per_day=2.5)
CONFIGURED = BudgetConfigured(limits=LIMITS, parent=None, action=LimitAction.SUSPEND, warn_at=(0.8, 0.9))
ADDRESS = CommandAddress(AggregateId("budget", "b1"), "configure")


def read(**fields: Any) -> Configure:
    """The command as it comes over the wire."""
    incoming = read_command(AGGREGATES, ADDRESS, msgspec.json.encode(fields), {}, command_id="c1")
    assert isinstance(incoming.command, Configure)
    return incoming.command


def test_happened() -> None:
    budget = given().when(Configure(limits=LIMITS)).then(CONFIGURED).state
    assert budget.exists
    assert budget.limits == {LimitName.TOKENS_PER_HOUR: 1000, LimitName.COST_PER_DAY: 2_500_000}
    assert budget.action is LimitAction.SUSPEND


def test_it_replaces_all_that_was_said_before() -> None:
    whole = Configure(limits=LIMITS, parent="research", action=LimitAction.ASK, warn_at=())
    then = BudgetConfigured(limits=LIMITS, parent="research", action=LimitAction.ASK, warn_at=())
    configured = given(CONFIGURED).when(whole).then(then)
    nothing = BudgetConfigured(limits=BudgetLimits(), parent=None, action=LimitAction.SUSPEND, warn_at=(0.8, 0.9))
    assert configured.when(Configure(limits=BudgetLimits())).then(nothing).state.limits == {}


@pytest.mark.parametrize("limits", [LIMITS, BudgetLimits(tokens_per_hour=1000, cost_per_day=2.5, cost_total=None)])
def test_ignored_if_it_changes_nothing(limits: BudgetLimits) -> None:
    given(CONFIGURED).when(Configure(limits=limits)).ignored()


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


def test_0_is_not_the_same_as_no_limit() -> None:
    free = (
        given()
        .when(Configure(limits=BudgetLimits()))
        .then(BudgetConfigured(limits=BudgetLimits(), parent=None, action=LimitAction.SUSPEND, warn_at=(0.8, 0.9)))
    )
    nothing = BudgetLimits(cost_total=0.0)
    closed = BudgetConfigured(limits=nothing, parent=None, action=LimitAction.SUSPEND, warn_at=(0.8, 0.9))
    assert free.when(Configure(limits=nothing)).then(closed).state.limits == {LimitName.COST_TOTAL: 0}


@pytest.mark.parametrize(
    ("command", "saying", "path"),
    [
        (Configure(limits=LIMITS, parent="a1"), "a part of itself", "$.parent"),
        (Configure(limits=LIMITS, parent="a.b"), "is not an id", "$.parent"),
        (Configure(limits=LIMITS, warn_at=(0.9, 0.8)), "must ascend", "$.warn_at"),
        (Configure(limits=LIMITS, warn_at=(0.5, 0.5)), "must ascend", "$.warn_at"),
        (Configure(limits=BudgetLimits(cost_per_day=0.0000001)), "at most 6 decimals", "$.limits.cost_per_day"),
        (Configure(limits=BudgetLimits(cost_total=1.0000001)), "at most 6 decimals", "$.limits.cost_total"),
    ],
)
def test_refused(command: Configure, saying: str, path: str) -> None:
    """The budget is `a1`, as whatever is decided in these tests."""
    given(CONFIGURED).when(command).fails(ErrorCode.COMMAND_INVALID, saying, path)


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({}, "$"),
        ({"limits": None}, "$.limits"),
        ({"limits": {"tokens_per_hour": -1}}, "$.limits.tokens_per_hour"),
        ({"limits": {"tokens_per_day": 1.5}}, "$.limits.tokens_per_day"),
        ({"limits": {"tokens_per_day": 10**15 + 1}}, "$.limits.tokens_per_day"),
        ({"limits": {"cost_per_day": -0.01}}, "$.limits.cost_per_day"),
        ({"limits": {"cost_total": 1e300}}, "$.limits.cost_total"),
        ({"limits": {"cost_total": "12"}}, "$.limits.cost_total"),
        ({"limits": {"tokens_per_week": 1}}, "$.limits"),
        ({"limits": {}, "action": "pray"}, "$.action"),
        ({"limits": {}, "warn_at": [0]}, "$.warn_at[0]"),
        ({"limits": {}, "warn_at": [0.5, 1]}, "$.warn_at[1]"),
        ({"limits": {}, "parent": 1}, "$.parent"),
        ({"limits": {}, "owner": "me"}, "$"),
    ],
)
def test_what_cannot_be_is_refused_by_its_place(fields: dict[str, Any], path: str) -> None:
    with pytest.raises(Failure) as refused:
        read(**fields)
    assert refused.value.code is ErrorCode.COMMAND_INVALID
    assert refused.value.path == path


def test_what_is_left_out_is_the_default() -> None:
    assert read(limits={"cost_total": 5}) == Configure(
        limits=BudgetLimits(cost_total=5.0), action=LimitAction.SUSPEND, warn_at=(0.8, 0.9)
    )


@hypothesis_given(st.integers(0, 10**15))
def test_no_millionth_is_lost_on_the_wire(millionths: int) -> None:
    dollars, rest = divmod(millionths, 1_000_000)
    command = read_command(
        AGGREGATES, ADDRESS, b'{"limits":{"cost_total":%d.%06d}}' % (dollars, rest), {}, command_id="c1"
    ).command
    [configured] = BUDGET.decide(BudgetState(), command, given().when(command)._context)
    stored = msgspec.json.decode(msgspec.json.encode(configured), type=BudgetConfigured)
    assert BUDGET.evolve(BudgetState(), stored).limits == {LimitName.COST_TOTAL: millionths}
