"""Decisions about an agent's executions: work accepted, effects recorded, work ended; and the signals it waits for."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET

from l02.domain.agent import commands as c
from l02.domain.agent import events as e
from l02.domain.agent.rules import ENDED, command_ids, deadline, is_live, refuse, resumed
from l02.domain.agent.state import AgentState, Execution, Status
from l02.domain.errors import ErrorCode, Failure
from l02.domain.message import Event
from l02.domain.values import require_shallow

__all__ = [
    "MAX_PENDING_SIGNALS",
    "complete_execution",
    "execute",
    "execution_due",
    "fail_execution",
    "fail_open_executions",
    "overdue",
    "record_effect",
    "record_tool",
    "request_tool",
    "signal",
]

MAX_PENDING_SIGNALS = 1000


def execute(state: AgentState, command: c.Execute) -> list[Event]:
    """Accept a piece of work."""
    if not is_live(state):
        refuse(state, command, "spawn a new one")
    if state.status is Status.SUSPENDED and not state.sleeps:
        refuse(state, command, "resume it first")
    limit = state.specification.executor.max_queued_executions
    if len(state.executions) >= limit:
        raise Failure(
            ErrorCode.INVALID_STATE,
            f"the agent has {limit} executions under way (max_queued_executions); try again when some have ended",
        )
    require_shallow(command.input, "$.input")
    started = e.ExecutionStarted(
        execution_id=command.origin.command_id,
        input=command.input,
        awaited_by=command.awaited_by,
        deadline=deadline(state.specification, command.origin.time),
    )
    return [*_woken(state, command), started]


def _woken(state: AgentState, command: c.WireCommand) -> list[Event]:
    """One that was suspended for idleness is resumed by what gives it work."""
    return [resumed(state, command.origin.node_id)] if state.sleeps else []


def signal(state: AgentState, command: c.Signal) -> list[Event]:
    """Keep a signal for who waits for it."""
    if not is_live(state):
        refuse(state, command, "nobody is left to hear it")
    if len(state.signals) >= MAX_PENDING_SIGNALS:
        raise Failure(
            ErrorCode.INVALID_STATE,
            f"{MAX_PENDING_SIGNALS} signals wait to be taken; the agent does not read them",
        )
    require_shallow(command.payload, "$.payload")
    payload = True if command.payload is None else command.payload  # null is what a wait that timed out gives
    return [*_woken(state, command), e.SignalReceived(name=command.name, payload=payload)]


def _open_execution(state: AgentState, execution_id: str) -> Execution:
    execution = state.executions.get(execution_id)
    if execution is None or state.status in ENDED:
        raise Failure(ErrorCode.INVALID_STATE, f"execution {execution_id} is not under way any more")
    return execution


def _is_recorded(execution: Execution, call: int) -> bool:
    return any(entry.call == call for entry in execution.journal)


def request_tool(state: AgentState, command: c.RequestTool) -> list[Event]:
    """Note that a tool which must not be called twice is about to be called."""
    execution = _open_execution(state, command.execution_id)
    if command.call in execution.requested_tools or _is_recorded(execution, command.call):
        return []
    return [
        e.ToolRequested(
            execution_id=command.execution_id,
            call=command.call,
            tool=command.tool,
            arguments=command.arguments,
        )
    ]


def record_tool(state: AgentState, command: c.RecordTool) -> list[Event]:
    """Record what came of a tool call, once."""
    execution = _open_execution(state, command.execution_id)
    if _is_recorded(execution, command.call):
        return []
    return [
        e.ToolCalled(
            execution_id=command.execution_id,
            call=command.call,
            tool=command.tool,
            arguments=command.arguments,
            ok=command.ok,
            result=command.result,
            attempts=command.attempts,
            duration_seconds=command.duration_seconds,
        )
    ]


def record_effect(state: AgentState, command: c.RecordEffect) -> list[Event]:
    """Record another effect, once; a wait when it begins and when it is over."""
    execution = _open_execution(state, command.execution_id)
    begun = not command.done and command.call in execution.waiting
    if begun or _is_recorded(execution, command.call):
        return []
    if command.kind == "signal" and not _names_a_signal(command.request):
        raise Failure(ErrorCode.COMMAND_INVALID, "say by name which signal is waited for", "$.request.name")
    return [
        e.EffectRecorded(
            execution_id=command.execution_id,
            call=command.call,
            kind=command.kind,
            request=command.request,
            result=command.result,
            done=command.done,
            deadline=command.deadline,
        )
    ]


def _names_a_signal(request: Any) -> bool:
    return isinstance(request, dict) and isinstance(request.get("name"), str)


def complete_execution(state: AgentState, command: c.CompleteExecution) -> list[Event]:
    """End an execution well."""
    execution = state.executions.get(command.execution_id)
    if execution is None:
        return []
    return [
        e.ExecutionCompleted(
            execution_id=command.execution_id,
            output=command.output,
            tokens=command.tokens,
            duration_seconds=command.duration_seconds,
            calls=command.calls,
            state=command.state,
            completes=command_ids(execution.awaited_by),
        )
    ]


def fail_execution(state: AgentState, command: c.FailExecution) -> list[Event]:
    """End an execution badly."""
    execution = state.executions.get(command.execution_id)
    if execution is None:
        return []
    return [
        e.ExecutionFailed(
            execution_id=command.execution_id,
            code=command.code,
            message=command.message,
            tokens=command.tokens,
            held=command.held,
            detail=command.detail,
            completes=command_ids(execution.awaited_by),
        )
    ]


def execution_due(state: AgentState, command: c.ExecutionDue) -> list[Event]:
    """End work that has no time left, whatever the agent's state is.

    Which deadline the timer was set for is compared, no clocks: the server's may be ahead of those of the nodes.
    """
    execution = state.executions.get(command.execution_id)
    if execution is None or execution.deadline is None or execution.deadline > command.deadline:
        return []
    failure = overdue(state)
    return [
        e.ExecutionFailed(
            execution_id=execution.execution_id,
            code=failure.code.value,
            message=failure.message,
            completes=command_ids(execution.awaited_by),
        )
    ]


def overdue(state: AgentState) -> Failure:
    """Why work ends that has no time left (E2006)."""
    seconds = state.specification.resource_limits.execution_seconds
    limit = "in time" if seconds is UNSET else f"within {seconds:g} s"
    return Failure(ErrorCode.EXECUTION_TIMEOUT, f"not ended {limit} (resource_limits.execution_seconds)")


def fail_open_executions(state: AgentState, code: str, message: str) -> list[Event]:
    """End all executions that are under way, because the agent ends."""
    return [
        e.ExecutionFailed(
            execution_id=execution.execution_id,
            code=code,
            message=message,
            completes=command_ids(execution.awaited_by),
        )
        for execution in state.executions.values()
    ]
