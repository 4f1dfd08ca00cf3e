from msgspec.structs import replace

from l02.domain.agent.execution import AskedModel, LostModelCall
from l02.domain.agent.life.termination import TerminationRequested
from l02.domain.errors import ErrorCode
from l02.domain.inference import Drawn, Spending
from l02.domain.spending.amounts import Amount
from tests.domain.agent.story import (
    ASKING,
    DRAWN,
    RESERVED,
    RUNNING,
    completed,
    given,
    model_called,
    model_requested,
)

LOST = LostModelCall(call=1, attempt=1, alias="small", reserved=Amount.of(RESERVED), drawn=DRAWN)


def test_happened() -> None:
    execution = given(*ASKING).when(model_requested()).then(model_requested()).state.executions["x1"]
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
    after = given(*ASKING, model_requested()).when(again).then(replace(again, lost=LOST)).state
    execution = after.executions["x1"]
    assert execution.spent == RESERVED
    assert (after.usage.tokens_consumed, after.usage.cost_usd) == (5_000, 0.0125)
    assert execution.asked_models[1].drawn == slices


def test_an_attempt_that_was_settled_is_not_lost() -> None:
    past = (*ASKING, model_requested(), model_called(again=True))
    again = model_requested(attempt=2)
    assert given(*past).when(again).then(again).state.executions["x1"].spent == Spending(tokens=1_280, cost=228)


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
