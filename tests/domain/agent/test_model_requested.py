import pytest
from msgspec.structs import replace

from l02.domain.agent.execution import AskedModel, LostModelCall
from l02.domain.agent.life.termination import TerminationRequested
from l02.domain.agent.resources import ResourceExceeded
from l02.domain.agent.work.blocking import QuotaReset
from l02.domain.agent.work.own_limits import own_windows
from l02.domain.aggregates import AGENT
from l02.domain.errors import ErrorCode
from l02.domain.inference import Drawn, Spending
from l02.domain.spending.amounts import Amount
from l02.domain.spending.exhausted import Exhausted
from l02.domain.spending.limits import LimitAction, LimitName
from l02.domain.spending.windows import Shortage, Window
from tests.domain.agent.story import (
    ASKING,
    DRAWN,
    LIMITED,
    RESERVED,
    RUNNING,
    begun,
    completed,
    given,
    model_called,
    model_requested,
    updated,
)
from tests.domain.given_when_then import context

LOST = LostModelCall(call=1, attempt=1, alias="small", reserved=Amount.of(RESERVED), drawn=DRAWN)


def test_happened() -> None:
    execution = given(*ASKING).when(model_requested()).then(begun(model_requested())).state.executions["x1"]
    assert execution.asked_models == {
        1: AskedModel(attempt=1, alias="small", request="5ab1", reserved=RESERVED, drawn=DRAWN)
    }
    assert execution.spent == Spending()


def test_several_may_be_open() -> None:
    past = (*ASKING, model_requested(1), model_requested(2))
    assert given(*past).state.executions["x1"].asked_models.keys() == {1, 2}


def test_another_attempt_settles_the_lost_one_at_what_it_had_reserved() -> None:
    slices = (Drawn(budget="team-a", slice="n2-1"),)
    again = replace(model_requested(attempt=2), drawn=slices)
    after = given(*ASKING, model_requested()).when(again).then(begun(replace(again, lost=LOST))).state
    execution = after.executions["x1"]
    assert execution.spent == RESERVED
    assert (after.usage.tokens_consumed, after.usage.cost_usd) == (5_000, 0.0125)
    assert execution.asked_models[1].drawn == slices


def test_an_attempt_that_was_settled_is_not_lost() -> None:
    past = (*ASKING, model_requested(), model_called(again=True))
    again = model_requested(attempt=2)
    assert given(*past).when(again).then(begun(again)).state.executions["x1"].spent == Spending(tokens=1_280, cost=228)


def test_ignored_when_it_is_on_record() -> None:
    given(*ASKING, model_requested()).when(model_requested()).ignored()


def test_refused_when_it_is_on_record_as_another() -> None:
    other = replace(model_requested(), drawn=())
    given(*ASKING, model_requested()).when(other).fails(ErrorCode.INVALID_STATE, "call 1 is on record")
    past = (*ASKING, model_requested(), model_called())
    given(*past).when(model_requested(attempt=2)).fails(ErrorCode.INVALID_STATE, "call 1 is on record")


def test_refused_when_the_specification_does_not_name_the_model() -> None:
    request = replace(model_requested(), alias="large")
    given(*ASKING).when(request).fails(ErrorCode.NOT_AUTHORIZED, "may not ask the model 'large'")
    assert not given(*ASKING).state.executions["x1"].asked_models


def test_refused_when_the_agent_is_to_end() -> None:
    ending = TerminationRequested(reason="user_request", requested_by="alice")
    given(*ASKING, ending).when(model_requested()).fails(ErrorCode.INVALID_STATE)


def test_refused_when_the_execution_is_not_under_way() -> None:
    given(*RUNNING).when(model_requested()).fails(ErrorCode.INVALID_STATE, "x1 is not under way")
    given(*ASKING, completed()).when(model_requested()).fails(ErrorCode.INVALID_STATE, "x1 is not under way")


def test_a_window_begins_once() -> None:
    past = (*ASKING, begun(model_requested(1)))
    after = given(*past).when(model_requested(2), time=1234.0).then(model_requested(2)).state
    assert own_windows(after)[LimitName.TOKENS_PER_HOUR] == Window(reserved=10_000, reset_at=4_600.0)
    assert own_windows(after)[LimitName.COST_PER_DAY] == Window(reserved=25_000, reset_at=87_400.0)


def test_refused_when_it_does_not_fit_into_the_agents_own_limits() -> None:
    """Two calls of 5,000 beside the 1,280 that were used: it names the limit, what is needed, left, and until when."""
    open_call = model_requested(2)
    with pytest.raises(Exhausted) as caught:
        AGENT.decide(given(*LIMITED, open_call).state, model_requested(3), context())
    assert caught.value.shortage == Shortage(LimitName.TOKENS_PER_HOUR, 8_000, 5_000, 1_280, 1_720, 4_600.0)
    assert caught.value.action is LimitAction.SUSPEND
    assert "8,000 tokens has 1,720 tokens left until 1970-01-01 01:16:40 UTC" in caught.value.message


def test_an_attempt_before_it_is_spent_and_not_to_be_waited_for() -> None:
    with pytest.raises(Exhausted) as caught:
        AGENT.decide(given(*LIMITED, model_requested(2)).state, model_requested(2, attempt=2), context())
    assert (caught.value.shortage.used, caught.value.shortage.is_passing) == (6_280, False)


def test_nothing_is_in_the_way_of_one_that_is_only_warned() -> None:
    warned = updated(action=LimitAction.WARN)
    exceeded = ResourceExceeded(
        resource_type="tokens",
        limit=8_000,
        actual=11_280,
        action_taken="warn",
        code="E2072",
        name=LimitName.TOKENS_PER_HOUR,
        reset_at=4_600.0,
    )
    past = given(*LIMITED, warned, model_requested(2)).when(model_requested(3)).then(exceeded, model_requested(3))
    past.when(model_requested(4)).then(model_requested(4))


def test_a_window_that_is_over_is_reset_by_who_comes_first() -> None:
    reset = QuotaReset(limits={LimitName.TOKENS_PER_HOUR: 8_000}, usage={LimitName.TOKENS_PER_HOUR: 1_280}, reset_at={})
    request = replace(model_requested(2), reset_at={LimitName.TOKENS_PER_HOUR: 8_200.0})
    after = given(*LIMITED).when(model_requested(2), time=4_600.0).then(reset, request).state
    assert own_windows(after)[LimitName.TOKENS_PER_HOUR] == Window(reserved=5_000, reset_at=8_200.0)
    assert own_windows(after)[LimitName.TOKENS_PER_DAY] == Window(used=1_280, reserved=5_000, reset_at=87_400.0)
