"""What people ask about a piece of work: what went in, what came out, what it took."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from l02.bus.wire.codec import RecordedEvent
from l02.domain.agent.execution import THREAD
from l02.domain.agent.life.resuming import ExecutionReopened
from l02.domain.agent.saved.forks import ExecutionInherited
from l02.domain.agent.state import ErrorDetail
from l02.domain.agent.work.effects import EffectRecorded, StepsRecorded, ToolCalled
from l02.domain.agent.work.executions import ExecutionCompleted, ExecutionFailed, ExecutionStarted
from l02.domain.kernel.message import Event
from l02.projections.folds.fold import Fold, Key, ViewOutOfStep, utc


class ExecutionState(StrEnum):
    """Where an execution is. One that waits in its agent's queue counts as running."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"


class ExecutionView(Struct, frozen=True, kw_only=True):
    """An execution as of stream sequence `sequence`.

    Its id is the id of its command and unique within its agent. `input` and `output` may be references to the object
    store (see `values`). `calls` counts recorded effects, `tool_calls` the tools among them; `inherited_calls` are
    those that a fork took over. `duration_seconds` is the executor's figure for a completed execution, and acceptance
    to end for a failed one. One that is `held` goes on when a person says how (`resume` with `assume`).
    """

    agent_id: str
    execution_id: str
    state: ExecutionState = ExecutionState.RUNNING
    input: Any
    output: Any = None
    error: ErrorDetail | None = None
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
    if isinstance(event, ExecutionStarted):
        return ExecutionView(
            agent_id=recorded.aggregate.id,
            execution_id=event.execution_id,
            input=event.input,
            started_at=time,
            sequence=recorded.sequence,
        )
    if isinstance(event, ExecutionInherited):
        return ExecutionView(
            agent_id=recorded.aggregate.id,
            execution_id=event.execution_id,
            input=event.input,
            inherited_calls=sum(entry.kind != THREAD for entry in event.journal),
            started_at=time,
            sequence=recorded.sequence,
        )
    if view is None:
        raise ViewOutOfStep(recorded, 0)
    change = _CHANGES.get(type(event))
    changes = change(view, event, time) if change is not None else {}
    return replace(view, **changes, sequence=recorded.sequence)


Changes = dict[str, Any]


def _tool_called(view: ExecutionView, event: ToolCalled, time: datetime) -> Changes:
    return {"calls": view.calls + 1, "tool_calls": view.tool_calls + 1}


def _steps_recorded(view: ExecutionView, event: StepsRecorded, time: datetime) -> Changes:
    return {"calls": view.calls + event.calls, "tool_calls": view.tool_calls + event.tool_calls}


def _effect_recorded(view: ExecutionView, event: EffectRecorded, time: datetime) -> Changes:
    return {"calls": view.calls + 1} if event.done else {}


def _completed(view: ExecutionView, event: ExecutionCompleted, time: datetime) -> Changes:
    return {
        "state": ExecutionState.COMPLETED,
        "output": event.output,
        "calls": event.calls,
        "tokens": event.tokens,
        "duration_seconds": event.duration_seconds,
        "ended_at": time,
    }


def _failed(view: ExecutionView, event: ExecutionFailed, time: datetime) -> Changes:
    return {
        "state": ExecutionState.FAILED,
        "error": ErrorDetail(code=event.code, message=event.message),
        "tokens": event.tokens,
        "duration_seconds": (time - view.started_at).total_seconds(),
        "ended_at": time,
        "held": event.held,
    }


def _reopened(view: ExecutionView, event: ExecutionReopened, time: datetime) -> Changes:
    return {
        "state": ExecutionState.RUNNING,
        "error": None,
        "duration_seconds": None,
        "ended_at": None,
        "held": False,
    }


_CHANGES: dict[type[Event], Callable[[ExecutionView, Any, datetime], Changes]] = {
    ToolCalled: _tool_called,
    StepsRecorded: _steps_recorded,
    EffectRecorded: _effect_recorded,
    ExecutionCompleted: _completed,
    ExecutionFailed: _failed,
    ExecutionReopened: _reopened,
}


def _key(recorded: RecordedEvent) -> Key | None:
    execution_id = getattr(recorded.event, "execution_id", None)
    if execution_id is None or recorded.aggregate.kind != "agent":
        return None
    return recorded.aggregate.id, execution_id


EXECUTION_FOLD = Fold(view=ExecutionView, key=_key, project=project_execution)
