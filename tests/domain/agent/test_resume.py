from typing import Any, Literal

import pytest
from msgspec.structs import replace

from l02.domain.agent.execution import JournalEntry
from l02.domain.agent.life.resuming import ExecutionReopened, Resume
from l02.domain.agent.life.suspension import AgentResumed, AgentSuspended
from l02.domain.agent.state import Status
from l02.domain.agent.work.effects import RecordedStep
from l02.domain.agent.work.executions import ExecutionFailed
from l02.domain.errors import ErrorCode
from l02.domain.kernel.message import Event
from tests.domain.agent.story import (
    CHECKPOINTED,
    EXECUTING,
    FAILED,
    HELD,
    IDLE,
    PENDING,
    RESTARTING,
    RUNNING,
    SEND_MAIL,
    SPEC,
    SUSPENDED,
    TERMINATED,
    TERMINATING,
    checkpoint_requested,
    given,
    restore_requested,
    signalled,
    spawn_requested,
    spawned,
    started,
    steps_recorded,
    tool_requested,
    words_counted,
)

RESUME = Resume()


def assume(what: Literal["done", "not-done"], *, execution_id: str | None = None, result: Any = None) -> Resume:
    return Resume(assume=what, execution_id=execution_id, result=result)


def resumed_on_n2(checkpoint_id: str | None = None) -> AgentResumed:
    return AgentResumed(session_id="s1", node_id="n2", incarnation=2, checkpoint_id=checkpoint_id)


def reopened(assumed: str, result: Any, execution_id: str = "x1") -> ExecutionReopened:
    return ExecutionReopened(
        execution_id=execution_id, assumed=assumed, result=result, requested_by="alice", awaited_by="c1"
    )


def test_what_the_agent_did_itself_stands_before_what_was_assumed() -> None:
    steps = steps_recorded(words_counted(1), RecordedStep(call=2, kind="thread", after=1))
    held = ExecutionFailed(execution_id="x1", code="E2001", message="in doubt", held=True)
    past = (*EXECUTING, steps, tool_requested(2), held)
    after = given(*past).when(assume("done", result="sent"), node_id="n2").then(reopened("done", "sent"))
    assert after.state.executions["x1"].journal == (
        *(step.entry for step in steps.steps),
        JournalEntry(call=2, kind="tool", request=SEND_MAIL.request, ok=True, result="sent"),
    )
    assert after.state.executions["x1"].requested_tools == {}


def test_happened() -> None:
    after = (
        given(*SUSPENDED).when(RESUME, node_id="n2").then(AgentResumed(session_id="s1", node_id="n2", incarnation=2))
    )
    assert after.state.status is Status.PENDING
    assert after.state.node_id == "n2"


def test_its_restarts_are_forgiven() -> None:
    suspended = (*RESTARTING, AgentSuspended(session_id="s1", reason="user_request"))
    after = (
        given(*suspended).when(RESUME, node_id="n2").then(AgentResumed(session_id="s1", node_id="n2", incarnation=2))
    )
    assert after.state.restart_attempt == 0


def test_its_new_node_stores_what_the_former_one_was_to() -> None:
    asked = checkpoint_requested("k2", "pre_suspend")
    past = (*RUNNING, asked, AgentSuspended(session_id="s1", reason="user_request", checkpoint_id="k2"))
    given(*past).when(RESUME, node_id="n2").then(resumed_on_n2(), replace(asked, node_id="n2"))


def test_a_process_of_before_does_not_count() -> None:
    given(*SUSPENDED, AgentResumed(session_id="s1", node_id="n2", incarnation=2)).when(spawned(1)).ignored()


def test_what_it_goes_on_from_is_named() -> None:
    given(*IDLE).when(RESUME, node_id="n2").then(resumed_on_n2(checkpoint_id="k1"))


def test_a_checkpoint_that_holds_it_as_it_is_need_not_be_read() -> None:
    given(*IDLE).when(Resume(checkpoint_id="k1"), node_id="n2").then(resumed_on_n2(checkpoint_id="k1"))


def test_it_waits_for_another_checkpoint() -> None:
    past = (*IDLE, signalled())
    after = (
        given(*past)
        .when(Resume(checkpoint_id="k1"), node_id="n2")
        .then(restore_requested(resume=True, node_id="n2", awaited_by="c1"))
    )
    assert after.state.status is Status.SUSPENDED


def test_only_from_a_checkpoint_of_its_own() -> None:
    given(*IDLE).when(Resume(checkpoint_id="k9"), node_id="n2").fails(
        ErrorCode.RESTORE_FAILED, "no checkpoint 'k9'", "$.checkpoint_id"
    )


def test_one_with_a_process_is_not_brought_back_by_it() -> None:
    given(*CHECKPOINTED).when(Resume(checkpoint_id="k1"), node_id="n2").fails(
        ErrorCode.INVALID_STATE, "`restore` brings one back"
    )


def test_a_person_says_that_the_tool_took_effect() -> None:
    after = given(*HELD).when(assume("done", result="sent"), node_id="n2").then(reopened("done", "sent"))
    assert after.state.held == {}
    execution = after.state.executions["x1"]
    assert execution.requested_tools == {}
    assert execution.journal == (JournalEntry(call=1, kind="tool", request=SEND_MAIL.request, ok=True, result="sent"),)


def test_a_person_says_that_it_did_not() -> None:
    after = given(*HELD).when(assume("not-done"), node_id="n2").then(reopened("not-done", None))
    assert after.state.executions["x1"].journal == ()
    after.when(tool_requested()).then(tool_requested())


def test_held_work_of_a_suspended_agent_has_a_process_again() -> None:
    given(*HELD, AgentSuspended(session_id="s1", reason="night")).when(assume("done"), node_id="n2").then(
        resumed_on_n2(), reopened("done", None)
    )


def test_the_time_of_held_work_begins_anew() -> None:
    spec = replace(SPEC, resource_limits=replace(SPEC.resource_limits, execution_seconds=60.0))
    failed = ExecutionFailed(execution_id="x1", code="E2001", message="in doubt", held=True)
    past = (spawn_requested(spec=spec), spawned(), replace(started(), deadline=1060.0), tool_requested(), failed)
    after = (
        given(*past)
        .when(assume("done"), node_id="n2", time=5000.5)
        .then(replace(reopened("done", None), deadline=5060.5))
    )
    assert after.state.executions["x1"].deadline == 5060.5


def test_which_of_several_must_be_said() -> None:
    again = ExecutionFailed(execution_id="x2", code="E2001", message="in doubt", held=True)
    past = (*HELD, started("x2"), again)
    given(*past).when(assume("done"), node_id="n2").fails(ErrorCode.COMMAND_INVALID, "x1, x2", "$.execution_id")
    given(*past).when(assume("done", execution_id="x2"), node_id="n2").then(reopened("done", None, "x2"))


@pytest.mark.parametrize("execution_id", [None, "x1"])
def test_refused_if_none_is_held(execution_id: str | None) -> None:
    given(*EXECUTING).when(assume("done", execution_id=execution_id), node_id="n2").fails(
        ErrorCode.INVALID_STATE, "no such"
    )


@pytest.mark.parametrize("past", [PENDING, RUNNING, RESTARTING], ids=["pending", "running", "restarting"])
def test_ignored_by_one_that_has_a_process(past: tuple[Event, ...]) -> None:
    given(*past).when(RESUME, node_id="n2").ignored()


@pytest.mark.parametrize("past", [TERMINATING, TERMINATED, FAILED], ids=["terminating", "terminated", "failed"])
def test_refused_by_one_that_ends(past: tuple[Event, ...]) -> None:
    given(*past).when(RESUME, node_id="n2").fails(ErrorCode.INVALID_STATE, "spawn a new one")
