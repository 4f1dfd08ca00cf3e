import pytest
from msgspec.structs import replace

from l02.domain.agent.execution import CountedInput, JournalEntry, LostModelCall
from l02.domain.agent.life.resuming import ExecutionReopened
from l02.domain.agent.resources import ResourceWarned
from l02.domain.agent.saved.forks import past_of
from l02.domain.agent.work.blocking import QuotaReset
from l02.domain.agent.work.executions import ExecutionCompleted, ExecutionFailed
from l02.domain.agent.work.own_limits import own_windows
from l02.domain.errors import ErrorCode
from l02.domain.inference import Spending
from l02.domain.kernel.message import Event
from l02.domain.spending.amounts import Amount
from l02.domain.spending.limits import LimitName
from l02.domain.spending.windows import Window
from tests.domain.agent.story import (
    ASKING,
    DRAWN,
    LIMITED,
    RESERVED,
    TERMINATION,
    begun,
    completed,
    given,
    model_called,
    model_requested,
    terminated,
    updated,
)

OPEN = (*ASKING, model_requested())
LOST = (LostModelCall(call=1, attempt=1, alias="small", reserved=Amount.of(RESERVED), drawn=DRAWN),)


def test_happened() -> None:
    after = given(*OPEN).when(model_called()).then(model_called()).state
    execution = after.executions["x1"]
    assert execution.journal == (
        JournalEntry(
            call=1,
            kind="model",
            request={"alias": "small", "sha256": "5ab1"},
            ok=True,
            result={"text": "42", "model": "qwen3:8b", "finish_reason": "stop"},
            counted=CountedInput(tokens=1_200, model="qwen3:8b"),
        ),
    )
    assert not execution.asked_models
    assert execution.spent == Spending(tokens=1_280, cost=228)
    assert (after.usage.tokens_consumed, after.usage.cost_usd) == (1_280, 0.000228)


def test_costs_add_up_to_the_millionth() -> None:
    past: tuple[Event, ...] = ASKING
    for call in range(1, 11):
        past = (*past, model_requested(call), replace(model_called(call), cost_usd=0.1))
    assert given(*past).state.usage.cost_usd == 1.0


def test_one_that_is_made_again_is_no_answer() -> None:
    again = model_called(again=True)
    execution = given(*OPEN).when(again).then(again).state.executions["x1"]
    assert not execution.journal
    assert execution.asked_models[1].reserved is None
    assert execution.spent == Spending(tokens=1_280, cost=228)
    given(*OPEN, again).when(again).ignored()


def test_ignored_when_it_is_on_record() -> None:
    given(*OPEN, model_called()).when(model_called()).ignored()


def test_refused_when_another_answer_is_on_record() -> None:
    other = replace(model_called(), result={"text": "43", "model": "qwen3:8b", "finish_reason": "stop"})
    given(*OPEN, model_called()).when(other).fails(ErrorCode.NONDETERMINISTIC_AGENT, "call 1 is on record")


def test_refused_of_an_attempt_that_is_not_under_way() -> None:
    given(*ASKING).when(model_called()).fails(ErrorCode.INVALID_STATE, "attempt 1 of call 1 is not under way")
    past = (*OPEN, model_requested(attempt=2))
    given(*past).when(model_called()).fails(ErrorCode.INVALID_STATE, "attempt 1 of call 1 is not under way")


def test_refused_when_the_execution_is_not_under_way() -> None:
    given(*OPEN, completed()).when(model_called()).fails(ErrorCode.INVALID_STATE, "x1 is not under way")


def test_the_end_says_what_the_models_have_used_and_what_is_lost() -> None:
    past = (*ASKING, model_requested(2), model_called(2), model_requested())
    after = (
        given(*past)
        .when(completed())
        .then(replace(completed(), tokens=6_280, spent=Amount(tokens=6_280, cost_usd=0.012728), lost=LOST))
        .state
    )
    assert (after.usage.tokens_consumed, after.usage.cost_usd) == (6_280, 0.012728)


def test_an_end_without_a_model_says_what_went_through_the_context() -> None:
    after = given(*ASKING).when(completed()).then(completed()).state
    assert (after.usage.tokens_consumed, after.usage.cost_usd or 0) == (7, 0)


def test_the_end_of_the_agent_settles_what_was_open() -> None:
    failed, ended = given(*OPEN, TERMINATION).when(terminated()).decided()
    assert isinstance(failed, ExecutionFailed)
    assert (failed.tokens, failed.lost) == (5_000, LOST)
    after = given(*OPEN, TERMINATION, failed, ended).state
    assert after.usage.tokens_consumed == 5_000


@pytest.mark.parametrize("answered", [True, False])
def test_work_that_is_held_and_goes_on_counts_once(answered: bool) -> None:
    past = (*OPEN, model_called()) if answered else OPEN
    spent = 1_280 if answered else 5_000
    held = ExecutionFailed(execution_id="x1", code="E2001", message="in doubt", held=True)
    [failed] = given(*past).when(held).decided()
    reopened = ExecutionReopened(execution_id="x1", assumed="not-done", result=None, requested_by="alice")
    middle = given(*past, failed, reopened)
    assert middle.state.usage.tokens_consumed == spent
    [end] = middle.when(completed()).decided()
    assert isinstance(end, ExecutionCompleted)
    assert end.tokens == 0
    assert middle.and_then(end).state.usage.tokens_consumed == spent
    if not answered:
        again = model_requested(attempt=2)
        middle.when(again).then(begun(again))


def test_a_fork_asks_anew_for_what_had_no_answer_and_is_charged_for_nothing_else() -> None:
    past = past_of(given(*OPEN, model_requested(2), model_called(2)).state, 6, 60)
    [execution] = past.executions
    assert [entry.call for entry in execution.journal] == [2]


def test_one_that_was_refused_before_it_was_requested_is_an_answer_too() -> None:
    refused = replace(model_called(attempt=0), ok=False, result={"code": "E2114", "message": "not allowed"})
    [entry] = given(*ASKING).when(refused).then(refused).state.executions["x1"].journal
    assert (entry.call, entry.ok, entry.result["code"]) == (1, False, "E2114")


def test_one_that_is_refused_settles_the_attempt_that_was_lost() -> None:
    refused = replace(model_called(attempt=0), ok=False, input_tokens=0, output_tokens=0, cost_usd=0.0)
    execution = given(*OPEN).when(refused).then(replace(refused, lost=LOST[0])).state.executions["x1"]
    assert execution.spent == RESERVED
    assert not execution.asked_models


def test_it_warns_of_a_threshold_once_in_a_window() -> None:
    """The answers have 1,280 tokens each, of 1,600."""
    past = (*ASKING, updated(tokens_per_hour=1_600), begun(model_requested()))
    warning = ResourceWarned(
        resource_type="tokens",
        current_usage=1_280,
        limit=1_600,
        threshold_percent=80,
        name=LimitName.TOKENS_PER_HOUR,
        reset_at=4_600.0,
    )
    after = given(*past).when(model_called()).then(model_called(), warning)
    second = replace(model_called(2), input_tokens=50, output_tokens=50)
    after.and_then(model_requested(2)).when(second).then(second)
    third = replace(model_called(2), input_tokens=100, output_tokens=60)
    told = replace(warning, current_usage=1_440, threshold_percent=90)
    after.and_then(model_requested(2)).when(third).then(third, told)


def test_one_that_is_under_way_when_a_window_is_over_is_charged_to_the_next() -> None:
    """Which begins at once, with what is reserved."""
    hour = LimitName.TOKENS_PER_HOUR
    reset = QuotaReset(limits={hour: 8_000}, usage={hour: 1_280}, reset_at={hour: 8_300.0})
    called = model_called(2)
    after = given(*LIMITED, model_requested(2)).when(called, time=4_700.0).then(reset, called).state
    assert own_windows(after)[hour] == Window(used=1_280, reset_at=8_300.0)
    assert own_windows(after)[LimitName.TOKENS_PER_DAY] == Window(used=2_560, reset_at=87_400.0)


def test_what_is_lost_with_the_execution_is_used() -> None:
    lost = model_requested(2)
    [failed] = given(*LIMITED, lost).when(ExecutionFailed(execution_id="x1", code="E2005", message="no")).decided()
    after = given(*LIMITED, lost, failed).state
    assert after.windows[LimitName.TOKENS_PER_HOUR] == Window(used=6_280, reset_at=4_600.0)
    assert after.windows[LimitName.COST_PER_DAY] == Window(used=228 + RESERVED.cost, reset_at=87_400.0)
