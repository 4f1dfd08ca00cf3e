"""What people ask about a piece of work: what went in, what came out, what it took."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from typing import Any

from msgspec import UNSET, Struct
from msgspec.structs import replace

from l02.bus.wire.codec import RecordedEvent
from l02.domain.agent.execution import THREAD
from l02.domain.agent.life.resuming import ExecutionReopened
from l02.domain.agent.saved.forks import ExecutionInherited
from l02.domain.agent.state import ErrorDetail
from l02.domain.agent.work.effects import EffectRecorded, StepsRecorded, ToolCalled
from l02.domain.agent.work.executions import ExecutionCompleted, ExecutionFailed, ExecutionStarted, newly_spent
from l02.domain.agent.work.models import ModelCalled, ModelRequested
from l02.domain.inference import Spending
from l02.domain.kernel.message import Event
from l02.domain.spending.money import in_millionths, in_usd
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
    to end for a failed one. `tokens` and `cost_usd` are what its models have used, of one that has ended and asked none
    the tokens that went through its context. One that is `held` goes on when a person says how (`resume` with
    `assume`).
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
    cost_usd: float = 0.0
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


def _model_requested(view: ExecutionView, event: ModelRequested, time: datetime) -> Changes:
    return {} if event.lost is UNSET else _spent(view, event.lost.reserved.spending)


def _model_called(view: ExecutionView, event: ModelCalled, time: datetime) -> Changes:
    return {"calls": view.calls + (not event.again), **_spent(view, event.spent)}


def _ended(view: ExecutionView, event: ExecutionCompleted | ExecutionFailed) -> Changes:
    return {"tokens": event.tokens} if event.spent is UNSET else _spent(view, newly_spent(event))


def _spent(view: ExecutionView, spent: Spending) -> Changes:
    return {"tokens": view.tokens + spent.tokens, "cost_usd": in_usd(in_millionths(view.cost_usd) + spent.cost)}


def _effect_recorded(view: ExecutionView, event: EffectRecorded, time: datetime) -> Changes:
    return {"calls": view.calls + 1} if event.done else {}


def _completed(view: ExecutionView, event: ExecutionCompleted, time: datetime) -> Changes:
    return {
        "state": ExecutionState.COMPLETED,
        "output": event.output,
        "calls": event.calls,
        **_ended(view, event),
        "duration_seconds": event.duration_seconds,
        "ended_at": time,
    }


def _failed(view: ExecutionView, event: ExecutionFailed, time: datetime) -> Changes:
    return {
        "state": ExecutionState.FAILED,
        "error": ErrorDetail(code=event.code, message=event.message),
        **_ended(view, event),
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
    ModelRequested: _model_requested,
    ModelCalled: _model_called,
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
