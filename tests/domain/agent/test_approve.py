import pytest

from l02.domain.agent.work.approvals import Approve
from l02.domain.agent.work.blocking import BudgetDenied
from l02.domain.errors import ErrorCode, Failure
from l02.domain.kernel.message import Event
from l02.domain.spending.limits import LimitAction
from tests.domain.agent.approvals import NO, WAITING, YES, answered
from tests.domain.agent.story import (
    BLOCKED,
    EXECUTING,
    RUNNING,
    SUSPENDED,
    TERMINATED,
    TERMINATING,
    budget_waiting,
    completed,
    for_budget,
    given,
    resumed,
    tool_called,
    tool_requested,
)
from tests.domain.agent.test_block_call import BLOCK, HOUR, exceeded, past_with


@pytest.mark.parametrize("command", [YES, NO], ids=["yes", "no"])
def test_happened(command: Approve) -> None:
    approval = given(*WAITING).when(command).then(answered(command)).state.executions["x1"].approvals[1]
    assert (approval.granted, approval.reason, approval.by) == (command.granted, command.reason, "alice")
    if command.granted:
        approval.require_granted()
    else:
        with pytest.raises(Failure, match="E2114.*alice has denied the call of tool 'send_mail': not today"):
            approval.require_granted()


def test_ignored_when_the_same_is_said_again() -> None:
    given(*WAITING, answered(YES)).when(YES).ignored()
    given(*WAITING, answered(NO)).when(NO).ignored()


def test_refused_when_the_opposite_was_said() -> None:
    given(*WAITING, answered(NO)).when(YES).fails(ErrorCode.INVALID_STATE, "denied by alice already")


@pytest.mark.parametrize(
    "past",
    [RUNNING, EXECUTING, (*WAITING, answered(YES), tool_called()), (*WAITING, completed())],
    ids=["no work", "not asked", "called", "over"],
)
def test_refused_when_nothing_waits(past: tuple[Event, ...]) -> None:
    given(*past).when(YES).fails(ErrorCode.INVALID_STATE, "`l02 approve list`")


@pytest.mark.parametrize("past", [TERMINATING, TERMINATED], ids=["terminating", "terminated"])
def test_refused_by_one_that_ends(past: tuple[Event, ...]) -> None:
    given(*past).when(YES).fails(ErrorCode.INVALID_STATE, "nothing of it waits")


def test_an_agent_that_rests_is_told_when_it_goes_on() -> None:
    asked_before = (*WAITING, *SUSPENDED[-1:])
    after = given(*asked_before).when(YES).then(answered(YES)).state
    assert after.is_suspended
    assert after.executions["x1"].approvals[1].granted


def test_the_yes_stays_until_the_call_is_on_record() -> None:
    under_way = given(*WAITING, answered(YES), tool_requested()).state
    assert under_way.executions["x1"].approvals[1].granted
    assert given(*WAITING, answered(YES), tool_requested(), tool_called()).state.executions["x1"].approvals == {}


def test_no_to_a_call_that_waits_for_a_limit() -> None:
    asked = (*past_with(LimitAction.ASK), budget_waiting(action=LimitAction.ASK), *for_budget())
    no = Approve(execution_id="x1", call=2, granted=False, reason="not for that")
    denied = BudgetDenied(
        execution_id="x1", call=2, budget=None, level="own", limit=HOUR, by="alice", reason="not for that"
    )
    after = given(*asked).when(no).then(denied, resumed())
    after.when(no).ignored()
    [remark] = after.when(BLOCK).decided()
    assert remark == exceeded(LimitAction.ASK), "it waits no more, and is told so"
    yes = Approve(execution_id="x1", call=2)
    given(*asked).when(yes).fails(ErrorCode.COMMAND_INVALID, "say how much, by `l02 set-quota`", "$.granted")


def test_refused_when_a_call_only_waits() -> None:
    no = Approve(execution_id="x1", call=2, granted=False)
    given(*BLOCKED).when(no).fails(ErrorCode.INVALID_STATE, "waits for nobody")
