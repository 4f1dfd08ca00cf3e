"""Work that is held until a person has said whether a tool took effect, and how it goes on."""

from __future__ import annotations

from l02.domain.agent import commands as c
from l02.domain.agent import events as e
from l02.domain.agent.rules import deadline, resumed
from l02.domain.agent.state import AgentState, Status
from l02.domain.errors import ErrorCode, Failure
from l02.domain.message import Event
from l02.domain.values import require_shallow

__all__ = ["reopen"]


def reopen(state: AgentState, command: c.Resume) -> list[Event]:
    """Let held work go on as the person says; an agent that is suspended is resumed for it."""
    assert command.assume is not None, "the decider has looked"
    require_shallow(command.result, "$.result")
    return [
        *([resumed(state, command.origin.node_id)] if state.status is Status.SUSPENDED else []),
        e.ExecutionReopened(
            execution_id=_chosen(state, command.execution_id),
            assumed=command.assume,
            result=command.result,
            requested_by=command.origin.actor,
            awaited_by=command.awaited_by,
            deadline=deadline(state.specification, command.origin.time),
        ),
    ]


def _chosen(state: AgentState, execution_id: str | None) -> str:
    if execution_id in state.held:
        return execution_id
    if not state.held or execution_id is not None:
        raise Failure(
            ErrorCode.INVALID_STATE,
            "no such execution is held; `assume` is for one that failed because a tool may have taken effect, or not",
        )
    if len(state.held) > 1:
        raise Failure(
            ErrorCode.COMMAND_INVALID, f"say which of the held executions: {', '.join(state.held)}", "$.execution_id"
        )
    return next(iter(state.held))
