"""What people ask about an agent: its whole current state, folded from its events."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from l02.bus.wire.codec import RecordedEvent
from l02.domain.agent.life.restarts import AgentFailed, AgentRestarted
from l02.domain.agent.life.resuming import ExecutionReopened
from l02.domain.agent.life.spawning import AgentSpawned, SpawnFailed, SpawnRequested
from l02.domain.agent.life.suspension import AgentResumed, AgentSuspended
from l02.domain.agent.life.termination import AgentTerminated, TerminationRequested
from l02.domain.agent.resources import ResourceUsageSeen
from l02.domain.agent.saved.checkpoints import CheckpointCreated, CheckpointFailed, CheckpointKept, CheckpointRequested
from l02.domain.agent.saved.forks import AgentForked, ExecutionInherited
from l02.domain.agent.saved.restoring import CheckpointRestored, RestoreFailed, RestoreRequested
from l02.domain.agent.sessions import (
    SessionDegraded,
    SessionEnded,
    SessionRestored,
    SessionRolledBack,
    SessionSnapshotSaved,
    SessionStarted,
)
from l02.domain.agent.state import ErrorDetail, ResourceUsage, Status
from l02.domain.agent.work.effects import StepsRecorded, ToolCalled
from l02.domain.agent.work.executions import ExecutionCompleted, ExecutionFailed, ExecutionStarted, newly_spent
from l02.domain.agent.work.models import ModelCalled, ModelRequested
from l02.domain.agent.work.quotas import QuotaUpdated
from l02.domain.inference import Spending
from l02.domain.kernel.message import Event
from l02.domain.specification import AgentSpecification, ResourceLimits
from l02.domain.spending.money import in_millionths, in_usd
from l02.projections.folds.fold import Fold, ViewOutOfStep, utc
from l02.projections.folds.limits import Spent
from l02.projections.folds.own_limits import OF_LIMITS, spent_after, spent_within
from l02.projections.folds.waiting import OF_WAITING, Waits, waits_after

# A live view travels in one message, which has to fit beside a large specification.
_MAX_MESSAGE_CHARACTERS = 2000


class SessionView(Struct, frozen=True, kw_only=True):
    """The agent's session as the context-orchestrator knows it; `owed` if it has not heard of the newest checkpoint.

    `error` is what has failed last and not been put right since.
    """

    task_id: str
    is_open: bool
    owed: bool = False
    error: ErrorDetail | None = None


class AgentView(Struct, frozen=True, kw_only=True):
    """An agent as of stream sequence `sequence`.

    `pid` is that of the process on its node, while it has one. `restarts` counts all restarts, `restart_attempt` those
    since the agent last got something done. `open_executions` holds the ids of accepted work that has not ended, with
    the time of acceptance. `tokens` and `cost_usd` are what its models have used, and of executions that have ended and
    asked none, the tokens that went through the context. `last_error` is the most recent failure of the agent, of a
    spawn or of an execution. `checkpoint_id` is the checkpoint stored last. `checkpoints_under_way` has
    the ids of those to be stored or to be gone back to, each with the node that is to do it. `halted_at` is the
    sequence of a message among its events that cannot be taken in; from there on nothing is known (`l02 dead list`).
    `spent` is what its models have used of the agent's own limits, `waiting` what its calls wait for.
    """

    id: str
    name: str
    state: Status
    spec: AgentSpecification
    fleet_id: str | None
    node_id: str | None
    session_id: str | None = None
    sandbox_type: str | None = None
    trust_level: str
    resource_limits: ResourceLimits
    source: str | None = None
    pid: int | None = None
    incarnation: int
    restarts: int = 0
    restart_attempt: int = 0
    restart_pending: bool = False
    restart_cause: str | None = None
    open_executions: dict[str, datetime] = {}
    executions_completed: int = 0
    executions_failed: int = 0
    tool_calls: int = 0
    tokens: int = 0
    cost_usd: float = 0.0
    last_error: ErrorDetail | None = None
    suspend_reason: str | None = None
    terminating: bool = False
    terminate_reason: str | None = None
    usage: ResourceUsage = ResourceUsage()
    spent: Spent = {}
    waiting: Waits = ()
    session: SessionView | None = None
    checkpoint_id: str | None = None
    checkpoints_under_way: dict[str, str] = {}
    forked_from: str | None = None
    created_at: datetime
    updated_at: datetime
    version: int
    sequence: int
    halted_at: int | UnsetType = UNSET


def project_agent(view: AgentView | None, recorded: RecordedEvent) -> AgentView:
    """The view after one more of the agent's events, which must be the next. Raises ViewOutOfStep if it is not."""
    held = view.version if view is not None else 0
    if recorded.version != held + 1:
        raise ViewOutOfStep(recorded, held)
    event = recorded.event
    time = utc(recorded.time)
    if view is None:
        if not isinstance(event, SpawnRequested):
            raise ViewOutOfStep(recorded, held)
        return _new(event, recorded, time)
    change = _CHANGES.get(type(event))
    changes = change(view, event, time) if change is not None else {}
    if view.session is not None and isinstance(event, CheckpointCreated | CheckpointKept | CheckpointRestored):
        changes["session"] = replace(view.session, owed=True)
    if isinstance(event, OF_LIMITS):
        changes["spent"] = spent_after(view.spent, event, view.spec.resource_limits)
    if isinstance(event, OF_WAITING):
        changes["waiting"] = waits_after(view.waiting, view.id, event, time)
    return replace(view, **changes, updated_at=time, version=recorded.version, sequence=recorded.sequence)


AGENT_FOLD = Fold(view=AgentView, project=project_agent, kind="agent")

Changes = dict[str, Any]
V = TypeVar("V")


def _new(event: SpawnRequested, recorded: RecordedEvent, time: datetime) -> AgentView:
    return AgentView(
        id=recorded.aggregate.id,
        name=event.spec.name,
        state=Status.PENDING,
        spec=event.spec,
        fleet_id=event.fleet_id,
        node_id=event.node_id,
        trust_level=event.spec.trust_level.value,
        resource_limits=event.spec.resource_limits,
        incarnation=event.incarnation,
        created_at=time,
        updated_at=time,
        version=recorded.version,
        sequence=recorded.sequence,
    )


def _error(code: str, message: str) -> ErrorDetail:
    return ErrorDetail(code=_shorten(code), message=_shorten(message))


def _shorten(text: str) -> str:
    return text if len(text) <= _MAX_MESSAGE_CHARACTERS else text[: _MAX_MESSAGE_CHARACTERS - 1] + "…"


def _spawn_requested(view: AgentView, event: SpawnRequested, time: datetime) -> Changes:
    return {
        "state": Status.PENDING,
        "node_id": event.node_id,
        "incarnation": event.incarnation,
        "restart_pending": False,
    }


def _spawned(view: AgentView, event: AgentSpawned, time: datetime) -> Changes:
    return {
        "state": Status.RUNNING,
        "session_id": event.session_id,
        "node_id": event.node_id,
        "sandbox_type": event.sandbox_type,
        "trust_level": event.trust_level,
        "resource_limits": event.resource_limits,
        "source": event.source,
        "pid": event.pid,
    }


def _spawn_failed(view: AgentView, event: SpawnFailed, time: datetime) -> Changes:
    return {"last_error": _error(event.code, event.message)}


def _suspended(view: AgentView, event: AgentSuspended, time: datetime) -> Changes:
    return {"state": Status.SUSPENDED, "pid": None, "restart_pending": False, "suspend_reason": _shorten(event.reason)}


def _resumed(view: AgentView, event: AgentResumed, time: datetime) -> Changes:
    return {
        "state": Status.PENDING,
        "node_id": event.node_id,
        "incarnation": event.incarnation,
        "restart_attempt": 0,
        "suspend_reason": None,
    }


def _restarted(view: AgentView, event: AgentRestarted, time: datetime) -> Changes:
    return {
        "state": Status.PENDING,
        "pid": None,
        "restarts": view.restarts + 1,
        "restart_attempt": event.attempt,
        "restart_pending": True,
        "restart_cause": _shorten(event.cause),
        "usage": event.usage,
    }


def _failed(view: AgentView, event: AgentFailed, time: datetime) -> Changes:
    return {
        "state": Status.FAILED,
        "pid": None,
        "restart_pending": False,
        "terminating": False,
        "usage": event.usage,
        "last_error": _error(event.code, event.message),
    }


def _termination_requested(view: AgentView, event: TerminationRequested, time: datetime) -> Changes:
    return {"terminating": True, "terminate_reason": event.reason}


def _terminated(view: AgentView, event: AgentTerminated, time: datetime) -> Changes:
    return {
        "state": Status.TERMINATED,
        "pid": None,
        "restart_pending": False,
        "terminating": False,
        "terminate_reason": event.reason,
        "usage": event.resource_usage,
    }


def _execution_opened(
    view: AgentView, event: ExecutionStarted | ExecutionInherited | ExecutionReopened, time: datetime
) -> Changes:
    return {"open_executions": {**view.open_executions, event.execution_id: time}}


def _under_way(view: AgentView, event: CheckpointRequested | RestoreRequested, time: datetime) -> Changes:
    return {"checkpoints_under_way": {**view.checkpoints_under_way, event.checkpoint_id: event.node_id}}


def _checkpoint_created(view: AgentView, event: CheckpointCreated, time: datetime) -> Changes:
    return {"checkpoint_id": event.checkpoint_id, **_over(view, event, time)}


def _over(
    view: AgentView,
    event: CheckpointCreated | CheckpointFailed | CheckpointRestored | RestoreFailed,
    time: datetime,
) -> Changes:
    return {"checkpoints_under_way": _without(view.checkpoints_under_way, event.checkpoint_id)}


def _forked(view: AgentView, event: AgentForked, time: datetime) -> Changes:
    return {"forked_from": event.from_agent_id}


def _tool_called(view: AgentView, event: ToolCalled, time: datetime) -> Changes:
    return {"tool_calls": view.tool_calls + 1}


def _steps_recorded(view: AgentView, event: StepsRecorded, time: datetime) -> Changes:
    return {"tool_calls": view.tool_calls + event.tool_calls}


def _execution_completed(view: AgentView, event: ExecutionCompleted, time: datetime) -> Changes:
    return {
        "open_executions": _without(view.open_executions, event.execution_id),
        "executions_completed": view.executions_completed + 1,
        **_spent(view, newly_spent(event)),
        "restart_attempt": view.restart_attempt if view.restart_pending else 0,
    }


def _execution_failed(view: AgentView, event: ExecutionFailed, time: datetime) -> Changes:
    return {
        "open_executions": _without(view.open_executions, event.execution_id),
        "executions_failed": view.executions_failed + 1,
        **_spent(view, newly_spent(event)),
        "last_error": _error(event.code, event.message),
    }


def _model_requested(view: AgentView, event: ModelRequested, time: datetime) -> Changes:
    return {} if event.lost is UNSET else _spent(view, event.lost.reserved.spending)


def _model_called(view: AgentView, event: ModelCalled, time: datetime) -> Changes:
    return _spent(view, event.spent)


def _spent(view: AgentView, spent: Spending) -> Changes:
    cost = in_usd(in_millionths(view.cost_usd) + spent.cost)
    return {"tokens": view.tokens + spent.tokens, "cost_usd": cost, "usage": view.usage.plus(spent)}


def _usage_seen(view: AgentView, event: ResourceUsageSeen, time: datetime) -> Changes:
    used = replace(view.usage, cpu_seconds=event.cpu_seconds, memory_peak_bytes=event.memory_peak_bytes)
    return {"usage": used}


def _quota_updated(view: AgentView, event: QuotaUpdated, time: datetime) -> Changes:
    return {
        "spec": replace(view.spec, resource_limits=event.limits),
        "resource_limits": event.limits,
        "spent": spent_within(view.spent, event.limits),
    }


def _without(entries: dict[str, V], name: str) -> dict[str, V]:
    return {key: value for key, value in entries.items() if key != name}


def _session_started(view: AgentView, event: SessionStarted, time: datetime) -> Changes:
    owed = view.session is not None and view.session.owed
    return {"session": SessionView(task_id=event.task_id, is_open=True, owed=owed)}


def _session_told(view: AgentView, event: SessionSnapshotSaved | SessionRolledBack, time: datetime) -> Changes:
    return {"session": SessionView(task_id=event.task_id, is_open=True, owed=event.unsent > 0)}


def _session_ended(view: AgentView, event: SessionEnded, time: datetime) -> Changes:
    return {"session": SessionView(task_id=event.task_id, is_open=False, error=event.error)}


def _session_degraded(view: AgentView, event: SessionDegraded, time: datetime) -> Changes:
    session = view.session or SessionView(task_id=event.task_id, is_open=False)
    return {"session": replace(session, error=_error(event.code, event.message))}


def _session_restored(view: AgentView, event: SessionRestored, time: datetime) -> Changes:
    return {} if view.session is None else {"session": replace(view.session, error=None)}


_CHANGES: dict[type[Event], Callable[[AgentView, Any, datetime], Changes]] = {
    SpawnRequested: _spawn_requested,
    AgentSpawned: _spawned,
    SpawnFailed: _spawn_failed,
    AgentSuspended: _suspended,
    AgentResumed: _resumed,
    AgentRestarted: _restarted,
    AgentFailed: _failed,
    TerminationRequested: _termination_requested,
    AgentTerminated: _terminated,
    ExecutionStarted: _execution_opened,
    ExecutionInherited: _execution_opened,
    ExecutionReopened: _execution_opened,
    CheckpointRequested: _under_way,
    CheckpointCreated: _checkpoint_created,
    CheckpointFailed: _over,
    RestoreRequested: _under_way,
    CheckpointRestored: _over,
    RestoreFailed: _over,
    AgentForked: _forked,
    ToolCalled: _tool_called,
    ModelRequested: _model_requested,
    ModelCalled: _model_called,
    StepsRecorded: _steps_recorded,
    ExecutionCompleted: _execution_completed,
    ExecutionFailed: _execution_failed,
    ResourceUsageSeen: _usage_seen,
    QuotaUpdated: _quota_updated,
    SessionStarted: _session_started,
    SessionSnapshotSaved: _session_told,
    SessionRolledBack: _session_told,
    SessionEnded: _session_ended,
    SessionDegraded: _session_degraded,
    SessionRestored: _session_restored,
}
