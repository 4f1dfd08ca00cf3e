from typing import Any, Literal

import pytest
from msgspec.structs import replace

from l02.domain.agent import commands as c
from l02.domain.agent import events as e
from l02.domain.agent.state import Status
from l02.domain.errors import ErrorCode
from l02.domain.message import Event
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
    origin,
    report_spawned,
    request_tool,
    restore_requested,
    signalled,
    spawn_requested,
    spawned,
    started,
    tool_requested,
)

RESUME = c.Resume(origin=origin(node_id="n2"))


def from_checkpoint(checkpoint_id: str) -> c.Resume:
    return c.Resume(checkpoint_id=checkpoint_id, origin=origin(node_id="n2"))


def assume(what: Literal["done", "not-done"], *, execution_id: str | None = None, result: Any = None) -> c.Resume:
    return c.Resume(assume=what, execution_id=execution_id, result=result, origin=origin(node_id="n2"))


def resumed_on_n2(checkpoint_id: str | None = None) -> e.AgentResumed:
    return e.AgentResumed(session_id="s1", node_id="n2", incarnation=2, checkpoint_id=checkpoint_id)


def reopened(assumed: str, result: Any, execution_id: str = "x1") -> e.ExecutionReopened:
    return e.ExecutionReopened(
        execution_id=execution_id, assumed=assumed, result=result, requested_by="alice", awaited_by="c1"
    )


def test_happened() -> None:
    after = given(*SUSPENDED).when(RESUME).then(e.AgentResumed(session_id="s1", node_id="n2", incarnation=2))
    assert after.state.status is Status.PENDING
    assert after.state.node_id == "n2"


def test_its_restarts_are_forgiven() -> None:
    suspended = (*RESTARTING, e.AgentSuspended(session_id="s1", reason="user_request"))
    after = given(*suspended).when(RESUME).then(e.AgentResumed(session_id="s1", node_id="n2", incarnation=2))
    assert after.state.restart_attempt == 0


def test_its_new_node_stores_what_the_former_one_was_to() -> None:
    asked = checkpoint_requested("k2", "pre_suspend")
    past = (*RUNNING, asked, e.AgentSuspended(session_id="s1", reason="user_request", checkpoint_id="k2"))
    given(*past).when(RESUME).then(resumed_on_n2(), replace(asked, node_id="n2"))


def test_a_process_of_before_does_not_count() -> None:
    given(*SUSPENDED, e.AgentResumed(session_id="s1", node_id="n2", incarnation=2)).when(report_spawned(1)).ignored()


def test_what_it_goes_on_from_is_named() -> None:
    given(*IDLE).when(RESUME).then(resumed_on_n2(checkpoint_id="k1"))


def test_a_checkpoint_that_holds_it_as_it_is_need_not_be_read() -> None:
    given(*IDLE).when(from_checkpoint("k1")).then(resumed_on_n2(checkpoint_id="k1"))


def test_it_waits_for_another_checkpoint() -> None:
    past = (*IDLE, signalled())
    after = given(*past).when(from_checkpoint("k1")).then(restore_requested(resume=True, node_id="n2", awaited_by="c1"))
    assert after.state.status is Status.SUSPENDED


def test_only_from_a_checkpoint_of_its_own() -> None:
    given(*IDLE).when(from_checkpoint("k9")).fails(ErrorCode.RESTORE_FAILED, "no checkpoint 'k9'", "$.checkpoint_id")


def test_one_with_a_process_is_not_brought_back_by_it() -> None:
    given(*CHECKPOINTED).when(from_checkpoint("k1")).fails(ErrorCode.INVALID_STATE, "`restore` brings one back")


def test_a_person_says_that_the_tool_took_effect() -> None:
    after = given(*HELD).when(assume("done", result="sent")).then(reopened("done", "sent"))
    assert after.state.held == {}
    execution = after.state.executions["x1"]
    assert execution.requested_tools == {}
    assert execution.journal == (
        e.JournalEntry(call=1, kind="tool", request=SEND_MAIL.request, ok=True, result="sent"),
    )


def test_a_person_says_that_it_did_not() -> None:
    after = given(*HELD).when(assume("not-done")).then(reopened("not-done", None))
    assert after.state.executions["x1"].journal == ()
    after.when(request_tool()).then(tool_requested())


def test_held_work_of_a_suspended_agent_has_a_process_again() -> None:
    given(*HELD, e.AgentSuspended(session_id="s1", reason="night")).when(assume("done")).then(
        resumed_on_n2(), reopened("done", None)
    )


def test_the_time_of_held_work_begins_anew() -> None:
    spec = replace(SPEC, resource_limits=replace(SPEC.resource_limits, execution_seconds=60.0))
    failed = e.ExecutionFailed(execution_id="x1", code="E2001", message="in doubt", held=True)
    past = (spawn_requested(spec=spec), spawned(), replace(started(), deadline=1060.0), tool_requested(), failed)
    command = assume("done")
    command = replace(command, origin=replace(command.origin, time=5000.5))
    after = given(*past).when(command).then(replace(reopened("done", None), deadline=5060.5))
    assert after.state.executions["x1"].deadline == 5060.5


def test_which_of_several_must_be_said() -> None:
    again = e.ExecutionFailed(execution_id="x2", code="E2001", message="in doubt", held=True)
    past = (*HELD, started("x2"), again)
    given(*past).when(assume("done")).fails(ErrorCode.COMMAND_INVALID, "x1, x2", "$.execution_id")
    given(*past).when(assume("done", execution_id="x2")).then(reopened("done", None, "x2"))


@pytest.mark.parametrize("execution_id", [None, "x1"])
def test_refused_if_none_is_held(execution_id: str | None) -> None:
    given(*EXECUTING).when(assume("done", execution_id=execution_id)).fails(ErrorCode.INVALID_STATE, "no such")


@pytest.mark.parametrize("past", [PENDING, RUNNING, RESTARTING], ids=["pending", "running", "restarting"])
def test_ignored_by_one_that_has_a_process(past: tuple[Event, ...]) -> None:
    given(*past).when(RESUME).ignored()


@pytest.mark.parametrize("past", [TERMINATING, TERMINATED, FAILED], ids=["terminating", "terminated", "failed"])
def test_refused_by_one_that_ends(past: tuple[Event, ...]) -> None:
    given(*past).when(RESUME).fails(ErrorCode.INVALID_STATE, "spawn a new one")
