import pytest
from msgspec.structs import replace

from l02.domain.agent.life.suspension import AgentSuspended, Suspend
from l02.domain.agent.life.termination import TerminationRequested
from l02.domain.agent.resources import ResourceExceeded
from l02.domain.agent.work.blocking import BlockCall, BudgetWaiting, QuotaReset
from l02.domain.agent.work.executions import Execute, ExecutionDue, ExecutionFailed
from l02.domain.errors import ErrorCode
from l02.domain.inference import Spending
from l02.domain.kernel.message import Event
from l02.domain.spending.limits import LimitAction, LimitName
from l02.domain.spending.windows import Shortage
from tests.domain.agent.story import (
    BLOCKED,
    LIMITED,
    MORE,
    MORE_USED,
    RESERVED,
    RUNNING,
    budget_waiting,
    for_budget,
    given,
    model_requested,
    resumed,
    started,
    updated,
)

HOUR = LimitName.TOKENS_PER_HOUR
BLOCK = BlockCall(execution_id="x1", call=2, needed=RESERVED)
SHORT = Shortage(HOUR, 8_000, 5_000, 6_280, 1_720, 4_600.0)


def exceeded(action: LimitAction = LimitAction.SUSPEND) -> ResourceExceeded:
    return ResourceExceeded(
        resource_type="tokens",
        limit=8_000,
        actual=11_280,
        action_taken=action.value,
        code="E2072",
        name=HOUR,
        reset_at=4_600.0,
    )


def past_with(action: LimitAction) -> tuple[Event, ...]:
    return (*MORE_USED, updated(MORE, action=action))


def test_happened() -> None:
    """By default the agent is suspended, with a checkpoint; its work stays, with what is on record of it."""
    after = given(*MORE_USED).when(BLOCK).then(exceeded(), budget_waiting(), *for_budget()).state
    assert after.waits_for_budget
    assert after.executions["x1"].blocked.keys() == {2}
    assert len(after.executions["x1"].journal) == 2


def test_asking_is_the_same_and_a_person_is_asked() -> None:
    ask = LimitAction.ASK
    after = given(*past_with(ask)).when(BLOCK).then(exceeded(ask), budget_waiting(action=ask), *for_budget()).state
    assert after.executions["x1"].blocked[2].asks


def test_a_throttled_call_waits_and_its_agent_stays() -> None:
    slow = LimitAction.THROTTLE
    after = given(*past_with(slow)).when(BLOCK).then(exceeded(slow), budget_waiting(action=slow)).state
    assert after.may_act
    assert not after.executions["x1"].blocked[2].asks


def test_terminating_is_asked_for() -> None:
    asked = TerminationRequested(reason="resource_exceeded", requested_by="limit/tokens_per_hour")
    given(*past_with(LimitAction.TERMINATE)).when(BLOCK).then(exceeded(LimitAction.TERMINATE), asked)


def test_refusing_makes_nobody_wait() -> None:
    given(*past_with(LimitAction.REFUSE)).when(BLOCK).then(exceeded(LimitAction.REFUSE))


@pytest.mark.parametrize("action", LimitAction)
def test_what_can_never_fit_waits_for_nothing_whatever_the_action_is(action: LimitAction) -> None:
    for tokens in (0, 4_999):
        past = (*LIMITED, updated(action=action, tokens_per_hour=tokens))
        waits = [event for event in given(*past).when(BLOCK).decided() if not isinstance(event, ResourceExceeded)]
        assert not waits


def test_it_is_said_once_in_a_window_that_a_limit_is_in_the_way() -> None:
    past = (*past_with(LimitAction.REFUSE), exceeded(LimitAction.REFUSE))
    given(*past).when(BLOCK).ignored()


def test_ignored_if_there_is_room_by_now() -> None:
    given(*LIMITED).when(BLOCK).ignored()
    given(*past_with(LimitAction.WARN)).when(BLOCK).ignored()


def test_ignored_while_only_what_is_reserved_is_in_the_way() -> None:
    given(*LIMITED, model_requested(3)).when(BLOCK).ignored()


def test_ignored_if_the_window_is_over() -> None:
    """The reset is on record; then there is room."""
    reset = QuotaReset(limits={HOUR: 8_000}, usage={HOUR: 6_280}, reset_at={})
    given(*MORE_USED).when(BLOCK, time=4_600.0).then(reset)


def test_one_that_waits_already_is_not_said_to_wait_again() -> None:
    """A person has resumed the agent meanwhile: it is suspended again."""
    again = for_budget("c2")
    past = (*MORE_USED, exceeded(), budget_waiting(), *for_budget("c1"), resumed())
    [suspended] = given(*past).when(BLOCK, command_id="c2").decided()[-1:]
    assert suspended == again[-1]
    assert not [event for event in given(*past).when(BLOCK).decided() if isinstance(event, BudgetWaiting)]


def test_a_second_call_waits_beside_the_first() -> None:
    """The agent is suspended already."""
    past = (*MORE_USED, exceeded(), budget_waiting(), *for_budget())
    after = given(*past).when(replace(BLOCK, call=4)).then(budget_waiting(4)).state
    assert after.executions["x1"].blocked.keys() == {2, 4}


def test_a_budget_is_what_it_says_it_is() -> None:
    block = replace(BLOCK, budget="team-a", shortage=SHORT, action=LimitAction.ASK)
    waiting = budget_waiting(action=LimitAction.ASK, budget="team-a")
    given(*LIMITED).when(block).then(waiting, *for_budget())
    refused = replace(block, action=LimitAction.REFUSE)
    given(*LIMITED).when(refused).ignored()
    never = replace(block, shortage=replace_needed(SHORT, 8_001))
    given(*LIMITED).when(never).ignored()
    given(*LIMITED).when(replace(block, shortage=None)).ignored()


def replace_needed(short: Shortage, needed: int) -> Shortage:
    return short._replace(needed=needed)


def test_refused_if_the_work_is_over() -> None:
    given(*RUNNING).when(BLOCK).fails(ErrorCode.INVALID_STATE, "x1 is not under way")


def test_a_new_attempt_of_a_call_does_not_wait_for_itself() -> None:
    """What its lost attempt had reserved is used."""
    lost = (*LIMITED, model_requested(2))
    events = given(*lost).when(BLOCK).decided()
    assert [type(event).__name__ for event in events][:2] == ["ResourceExceeded", "BudgetWaiting"]


def test_one_that_is_suspended_for_it_takes_work() -> None:
    """Which waits, too; when the work that is in the way has no time left, it begins."""
    [begun] = given(*BLOCKED).when(Execute(input="more"), command_id="x2").decided()
    assert getattr(begun, "execution_id") == "x2"  # noqa: B009
    late = replace(started("x1"), deadline=1060.0)
    past = [late if event == started("x1") else event for event in (*BLOCKED, begun)]
    [failed, again] = given(*past).when(ExecutionDue(execution_id="x1", deadline=1060.0)).decided()
    assert isinstance(failed, ExecutionFailed)
    assert again == resumed()
    [alone] = given(*past[:-1]).when(ExecutionDue(execution_id="x1", deadline=1060.0)).decided()
    rest = given(*past[:-1], alone)
    assert rest.state.sleeps, "the next work has it resumed"
    assert rest.when(Execute(input="more"), command_id="x2").decided()[0] == resumed()


def test_a_person_may_suspend_it_for_good() -> None:
    after = given(*BLOCKED).when(Suspend(reason="lunch")).decided()[-1]
    assert isinstance(after, AgentSuspended)
    assert after.reason == "lunch"
    given(*BLOCKED).when(Suspend(reason="budget")).ignored()


def test_nothing_needed_always_fits() -> None:
    given(*MORE_USED).when(replace(BLOCK, needed=Spending())).ignored()
