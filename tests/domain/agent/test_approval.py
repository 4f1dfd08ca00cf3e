import pytest
from msgspec.structs import replace

from l02.domain.agent.work.approvals import ApprovalAnswered, ApprovalRequested, Approve
from l02.domain.errors import ErrorCode, Failure
from l02.domain.kernel.message import Event
from tests.domain.agent.story import (
    EXECUTING,
    RUNNING,
    SUSPENDED,
    TERMINATED,
    TERMINATING,
    completed,
    given,
    past_after,
    tool_called,
    tool_requested,
)

ASKED = ApprovalRequested(execution_id="x1", call=1, server="mail", tool="send_mail", arguments={"to": "bob"})
YES = Approve(execution_id="x1", call=1)
NO = Approve(execution_id="x1", call=1, granted=False, reason="not today")
WAITING = (*EXECUTING, ASKED)


def answered(command: Approve, by: str = "alice") -> ApprovalAnswered:
    return ApprovalAnswered(execution_id="x1", call=1, granted=command.granted, reason=command.reason, answered_by=by)


def test_a_person_is_asked() -> None:
    after = given(*EXECUTING).when(ASKED).then(ASKED).state
    assert after.executions["x1"].approvals[1].granted is None
    assert after.executions["x1"].has_run


def test_asked_once() -> None:
    given(*WAITING).when(ASKED).ignored()
    given(*WAITING, answered(NO)).when(ASKED).ignored()
    given(*WAITING, answered(YES), tool_called()).when(ASKED).ignored()


@pytest.mark.parametrize("other", [{"arguments": {"to": "eve"}}, {"tool": "send_money"}, {"server": "bank"}])
def test_a_yes_is_for_that_call_alone(other: dict[str, object]) -> None:
    given(*WAITING, answered(YES)).when(replace(ASKED, **other)).fails(ErrorCode.NONDETERMINISTIC_AGENT, "send_mail")


@pytest.mark.parametrize("command", [YES, NO], ids=["yes", "no"])
def test_somebody_answers(command: Approve) -> None:
    approval = given(*WAITING).when(command).then(answered(command)).state.executions["x1"].approvals[1]
    assert (approval.granted, approval.reason, approval.by) == (command.granted, command.reason, "alice")
    if command.granted:
        approval.require_granted()
    else:
        with pytest.raises(Failure, match="E2114.*alice has denied the call of tool 'send_mail': not today"):
            approval.require_granted()


def test_whoever_says_the_same_again_is_ignored_and_the_opposite_refused() -> None:
    given(*WAITING, answered(YES)).when(YES).ignored()
    given(*WAITING, answered(NO)).when(NO).ignored()
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


def test_a_fork_asks_for_itself() -> None:
    (inherited,) = past_after(*WAITING, answered(YES)).executions
    assert not hasattr(inherited, "approvals") or not inherited.approvals
