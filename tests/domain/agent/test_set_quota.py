from typing import Any

import msgspec
import pytest
from msgspec import UNSET

from l02.domain.agent.life.suspension import AgentSuspended
from l02.domain.agent.resources import ResourceWarned
from l02.domain.agent.saved.forks import past_of
from l02.domain.agent.work.blocking import BudgetDenied, BudgetGranted, QuotaReset
from l02.domain.agent.work.own_limits import own_windows
from l02.domain.agent.work.quotas import LimitChanges, QuotaUpdated, SetQuota
from l02.domain.errors import ErrorCode
from l02.domain.spending.amounts import Amount
from l02.domain.spending.limits import LimitAction, LimitName
from tests.domain.agent.story import (
    BLOCKED,
    LIMITED,
    MORE,
    MORE_USED,
    RESERVED,
    RUNNING,
    TERMINATED,
    TERMINATION,
    budget_waiting,
    given,
    resumed,
    updated,
)

HOUR = LimitName.TOKENS_PER_HOUR


def set_quota(action: LimitAction | Any = UNSET, **limits: Any) -> SetQuota:
    return SetQuota(limits=LimitChanges(**limits), action=action)


def granted(by: str | None = "alice", amount: float | None = None) -> BudgetGranted:
    return BudgetGranted(
        execution_id="x1",
        call=2,
        budget=None,
        level="own",
        limit=HOUR,
        needed=Amount.of(RESERVED),
        granted=amount,
        by=by,
    )


def test_happened() -> None:
    """What is said is merged with what there is; null takes a limit away."""
    changed = updated(tokens_per_day=90_000, cost_per_day=2.5)
    after = given(*LIMITED).when(set_quota(tokens_per_day=90_000, cost_per_day=2.5)).then(changed)
    assert after.state.specification.resource_limits.amounts == {
        HOUR: 8_000,
        LimitName.TOKENS_PER_DAY: 90_000,
        LimitName.COST_PER_DAY: 2_500_000,
    }
    without = updated(tokens_per_day=90_000, cost_per_day=2.5, tokens_per_hour=None)
    free = after.when(set_quota(tokens_per_hour=None)).then(without).state
    assert HOUR not in free.specification.resource_limits.amounts
    assert past_of(free, 1, 1).spec.resource_limits == without.limits, "forks have them too"


def test_an_agent_that_has_asked_no_model_has_used_nothing() -> None:
    changed = QuotaUpdated(limits=updated(tokens_per_hour=7).limits, usage={}, reset_at={}, by="alice")
    given(*RUNNING).when(set_quota(tokens_per_hour=7)).then(changed)


def test_time_and_machine_can_be_changed_as_well() -> None:
    changed = updated(cpu="500m", memory="1Gi", execution_seconds=60.0)
    after = given(*LIMITED).when(set_quota(cpu="500m", memory="1Gi", execution_seconds=60.0)).then(changed)
    after.when(set_quota(execution_seconds=None)).then(updated(cpu="500m", memory="1Gi"))


def test_ignored_if_it_says_the_same() -> None:
    given(*LIMITED).when(set_quota(tokens_per_hour=8_000)).ignored()
    given(*LIMITED).when(set_quota()).ignored()


def test_refused_of_one_that_has_ended() -> None:
    for past in (TERMINATED, (*RUNNING, TERMINATION)):
        given(*past).when(set_quota(tokens_per_hour=7)).fails(ErrorCode.QUOTA_UPDATE_FAILED, "spawn a new one")


def test_refused_if_limits_do_not_fit_each_other() -> None:
    given(*LIMITED).when(set_quota(tokens_per_day=7_999)).fails(
        ErrorCode.QUOTA_UPDATE_FAILED, "make the daily limit the larger one", "$.limits.tokens_per_hour"
    )


@pytest.mark.parametrize(
    ("limits", "path"),
    [({"cpu": "a lot"}, "$.limits.cpu"), ({"cost_per_day": 0.0000001}, "$.limits.cost_per_day")],
)
def test_refused_if_it_is_no_limit(limits: dict[str, Any], path: str) -> None:
    given(*LIMITED).when(set_quota(**limits)).fails(ErrorCode.COMMAND_INVALID, path=path)


@pytest.mark.parametrize("body", [{"limits": {"tokens_per_week": 1}}, {"limits": {"tokens_per_hour": -1}}, {"x": 1}])
def test_refused_if_it_cannot_be_read(body: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(body, SetQuota)


def test_raising_frees_who_waits() -> None:
    after = (
        given(*BLOCKED)
        .when(set_quota(tokens_per_hour=20_000))
        .then(updated(MORE, tokens_per_hour=20_000), granted(amount=12_000), resumed())
    )
    assert not after.state.executions["x1"].blocked
    assert not after.state.is_suspended


def test_what_does_not_help_frees_nobody() -> None:
    given(*BLOCKED).when(set_quota(tokens_per_hour=9_000)).then(updated(MORE, tokens_per_hour=9_000))


def test_what_can_never_fit_any_more_waits_no_longer() -> None:
    """It is told so when it is tried again."""
    warning = ResourceWarned(
        resource_type="tokens",
        current_usage=6_280,
        limit=4_000,
        threshold_percent=90,
        name=HOUR,
        reset_at=4_600.0,
    )
    given(*BLOCKED).when(set_quota(tokens_per_hour=4_000)).then(
        updated(MORE, tokens_per_hour=4_000), warning, granted(amount=0), resumed()
    )


def test_another_action_has_it_tried_again() -> None:
    changed = updated(MORE, action=LimitAction.REFUSE)
    given(*BLOCKED).when(set_quota(LimitAction.REFUSE)).then(changed, granted(amount=0), resumed())


def test_who_was_denied_does_not_wait() -> None:
    denied = BudgetDenied(execution_id="x1", call=2, budget=None, level="own", limit=HOUR, by="bob", reason=None)
    [changed] = given(*BLOCKED, denied).when(set_quota(tokens_per_hour=20_000)).decided()
    assert isinstance(changed, QuotaUpdated)


def test_lowering_acts_at_once() -> None:
    """A warning is due of what is used already; and what was said of the limit as it was may be said again."""
    warning = ResourceWarned(
        resource_type="tokens",
        current_usage=1_280,
        limit=1_400,
        threshold_percent=90,
        name=HOUR,
        reset_at=4_600.0,
    )
    after = given(*LIMITED).when(set_quota(tokens_per_hour=1_400)).then(updated(tokens_per_hour=1_400), warning)
    assert own_windows(after.state)[HOUR].warned == (0.9,)
    higher = after.when(set_quota(tokens_per_hour=1_500)).then(
        updated(tokens_per_hour=1_500), ResourceWarned(**{**_fields(warning), "limit": 1_500, "threshold_percent": 80})
    )
    assert own_windows(higher.state)[HOUR].warned == (0.8,)


def test_a_window_that_is_over_is_reset_first() -> None:
    reset = QuotaReset(limits={HOUR: 8_000}, usage={HOUR: 1_280}, reset_at={})
    [first, changed] = given(*LIMITED).when(set_quota(tokens_per_hour=9_000), time=5_000.0).decided()
    assert first == reset
    assert isinstance(changed, QuotaUpdated)
    assert (changed.usage[HOUR], changed.reset_at) == (0, dict.fromkeys(list(LimitName)[1:3], 87400.0))


def test_one_that_is_suspended_for_something_else_stays_so() -> None:
    """A person has taken it away meanwhile."""
    suspended = AgentSuspended(session_id="s1", reason="lunch")
    [*_, last] = given(*MORE_USED, budget_waiting(), suspended).when(set_quota(tokens_per_hour=20_000)).decided()
    assert isinstance(last, BudgetGranted)


def _fields(event: ResourceWarned) -> dict[str, Any]:
    return {name: getattr(event, name) for name in event.__struct_fields__}
