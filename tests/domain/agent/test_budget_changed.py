from msgspec.structs import replace

from l02.domain.agent.work.blocking import BudgetChanged, BudgetDenied, BudgetGranted
from l02.domain.spending.amounts import Amount
from l02.domain.spending.limits import LimitAction, LimitName
from tests.domain.agent.story import BLOCKED, LIMITED, RESERVED, TERMINATED, budget_waiting, for_budget, given, resumed

HOUR = LimitName.TOKENS_PER_HOUR
CHANGED = BudgetChanged(budget="team-a", by="bob", granted={HOUR: 9_000})
ASKED = budget_waiting(action=LimitAction.ASK, budget="team-a")
GRANTED = BudgetGranted(
    execution_id="x1",
    call=2,
    budget="team-a",
    level="budget",
    limit=HOUR,
    needed=Amount.of(RESERVED),
    granted=9_000,
    by="bob",
)


def test_happened() -> None:
    after = given(*LIMITED, ASKED, *for_budget()).when(CHANGED).then(GRANTED, resumed()).state
    assert not after.executions["x1"].blocked
    assert after.may_act


def test_one_that_is_throttled_has_its_process() -> None:
    throttled = budget_waiting(action=LimitAction.THROTTLE, budget="team-a")
    given(*LIMITED, throttled).when(CHANGED).then(GRANTED)


def test_after_a_reset_nobody_has_given_anything() -> None:
    past = given(*LIMITED, ASKED, *for_budget())
    past.when(BudgetChanged(budget="team-a")).then(replace(GRANTED, granted=None, by=None), resumed())


def test_a_no_is_an_answer_to_who_has_asked() -> None:
    no = BudgetChanged(budget="team-a", by="bob", denied=True)
    denied = BudgetDenied(execution_id="x1", call=2, budget="team-a", level="budget", limit=HOUR, by="bob", reason=None)
    after = given(*LIMITED, ASKED, *for_budget()).when(no).then(denied, resumed())
    after.when(no).ignored()
    after.when(CHANGED).ignored()
    given(*LIMITED, budget_waiting(budget="team-a"), *for_budget()).when(no).ignored()


def test_ignored_by_who_waits_for_something_else() -> None:
    other = budget_waiting(budget="team-b")
    given(*LIMITED, other, *for_budget()).when(CHANGED).ignored()
    given(*BLOCKED).when(CHANGED).ignored()
    given(*LIMITED).when(CHANGED).ignored()


def test_ignored_by_one_that_has_ended() -> None:
    given(*TERMINATED).when(CHANGED).ignored()
