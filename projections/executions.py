"""What people ask about a piece of work: what went in, what came out, what it took."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from bus.codec import RecordedEvent
from domain.agent import events as e
from projections.fold import Fold, Key, ViewOutOfStep, utc

__all__ = ["EXECUTION_FOLD", "ExecutionState", "ExecutionView", "project_execution"]


class ExecutionState(StrEnum):
    """Where an execution is. One that waits in its agent's queue counts as running."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"


class ExecutionView(Struct, frozen=True, kw_only=True):
    """An execution as of stream sequence `sequence`.

    Its id is the id of its command and unique within its agent. `input` and `output` may be references to the object
    store (`domain.values`). `calls` counts recorded effects, `tool_calls` the tools among them; `inherited_calls` are
    those that a fork took over. `duration_seconds` is the executor's figure for a completed execution, and acceptance
    to end for a failed one. One that is `held` goes on when a person says how (`resume` with `assume`).
    """

    agent_id: str
    execution_id: str
    state: ExecutionState = ExecutionState.RUNNING
    input: Any
    output: Any = None
    error: e.ErrorDetail | None = None
    calls: int = 0
    tool_calls: int = 0
    inherited_calls: int = 0
    held: bool = False
    tokens: int = 0
    duration_seconds: float | None = None
    started_at: datetime
    ended_at: datetime | None = None
    sequence: int


def project_execution(view: ExecutionView | None, recorded: RecordedEvent) -> ExecutionView:
    """The view after one more of the execution's events. Raises ViewOutOfStep unless the first is its start."""
    event = recorded.event
    time = utc(recorded.time)
    if isinstance(event, e.ExecutionStarted):
        return ExecutionView(
            agent_id=recorded.aggregate.id,
            execution_id=event.execution_id,
            input=event.input,
            started_at=time,
            sequence=recorded.sequence,
        )
    if isinstance(event, e.ExecutionInherited):
        return ExecutionView(
            agent_id=recorded.aggregate.id,
            execution_id=event.execution_id,
            input=event.input,
            inherited_calls=len(event.journal),
            started_at=time,
            sequence=recorded.sequence,
        )
    if view is None:
        raise ViewOutOfStep(recorded, 0)
    return replace(view, **_changes(view, event, time), sequence=recorded.sequence)


def _changes(view: ExecutionView, event: Any, time: datetime) -> dict[str, Any]:
    match event:
        case e.ToolCalled():
            return {"calls": view.calls + 1, "tool_calls": view.tool_calls + 1}
        case e.EffectRecorded(done=True):
            return {"calls": view.calls + 1}
        case e.ExecutionCompleted():
            return {
                "state": ExecutionState.COMPLETED,
                "output": event.output,
                "calls": event.calls,
                "tokens": event.tokens,
                "duration_seconds": event.duration_seconds,
                "ended_at": time,
            }
        case e.ExecutionFailed():
            return {
                "state": ExecutionState.FAILED,
                "error": e.ErrorDetail(code=event.code, message=event.message),
                "tokens": event.tokens,
                "duration_seconds": (time - view.started_at).total_seconds(),
                "ended_at": time,
                "held": event.held,
            }
        case e.ExecutionReopened():
            return {
                "state": ExecutionState.RUNNING,
                "error": None,
                "duration_seconds": None,
                "ended_at": None,
                "held": False,
            }
        case _:
            return {}


def _key(recorded: RecordedEvent) -> Key | None:
    execution_id = getattr(recorded.event, "execution_id", None)
    if execution_id is None or recorded.aggregate.kind != "agent":
        return None
    return recorded.aggregate.id, execution_id


EXECUTION_FOLD = Fold(view=ExecutionView, key=_key, project=project_execution)
