"""How an agent's state follows from its events: `evolve` is the only way a state comes to be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from l02.domain.agent import events as e
from l02.domain.agent.evolve_session import evolve_session
from l02.domain.agent.rules import command_ids
from l02.domain.agent.session_events import SESSION_EVENTS
from l02.domain.agent.state import (
    AgentState,
    Execution,
    JournalEntry,
    KeptCheckpoint,
    PendingCheckpoint,
    PendingRestore,
    PendingSignal,
    RequestedTool,
    Status,
    Waiting,
)
from l02.domain.message import Event

__all__ = ["MAX_HELD_EXECUTIONS", "changed", "evolve"]

MAX_HELD_EXECUTIONS = 100


def evolve(state: AgentState, event: Event) -> AgentState:
    """The state after `event`. Never fails on an event that `decide` made."""
    return evolve_session(state, _EVOLVE[type(event)](state, event), event)


def changed(data: dict[str, Any], change: e.StateChange) -> dict[str, Any]:
    """An agent's durable state after a change."""
    deleted = set(change.delete)
    return {key: value for key, value in data.items() if key not in deleted} | change.set


def _spawn_requested(state: AgentState, event: e.SpawnRequested) -> AgentState:
    return replace(
        state,
        status=Status.PENDING,
        spec=event.spec,
        fleet_id=event.fleet_id,
        node_id=event.node_id,
        incarnation=event.incarnation,
        process_ready=False,
        restart_pending=False,
        spawn_awaited_by=event.awaited_by or state.spawn_awaited_by,
        data=state.data if event.state is UNSET else event.state,
    )


def _spawned(state: AgentState, event: e.AgentSpawned) -> AgentState:
    return replace(
        state,
        status=Status.RUNNING,
        session_id=event.session_id,
        node_id=event.node_id,
        process_ready=True,
        spawn_awaited_by=None,
    )


def _spawn_failed(state: AgentState, event: e.SpawnFailed) -> AgentState:
    awaited_by = None if state.spawn_awaited_by in event.completes else state.spawn_awaited_by
    return replace(state, process_ready=False, spawn_awaited_by=awaited_by)


def _suspended(state: AgentState, event: e.AgentSuspended) -> AgentState:
    return replace(
        state,
        status=Status.SUSPENDED,
        process_ready=False,
        restart_pending=False,
        suspend_reason=event.reason,
    )


def _resumed(state: AgentState, event: e.AgentResumed) -> AgentState:
    return replace(
        state,
        status=Status.PENDING,
        node_id=event.node_id,
        incarnation=event.incarnation,
        restart_attempt=0,
        suspend_reason=None,
    )


def _restarted(state: AgentState, event: e.AgentRestarted) -> AgentState:
    return replace(
        state,
        status=Status.PENDING,
        process_ready=False,
        restart_attempt=event.attempt,
        restart_pending=True,
        usage=event.usage,
    )


def _failed(state: AgentState, event: e.AgentFailed) -> AgentState:
    return _ended(state, Status.FAILED, event.usage)


def _ended(state: AgentState, status: Status, usage: e.ResourceUsage) -> AgentState:
    return replace(
        state,
        status=status,
        process_ready=False,
        restart_pending=False,
        spawn_awaited_by=None,
        usage=usage,
        signals=(),
        held={},
        revision=state.revision + 1,
    )


def _termination_requested(state: AgentState, event: e.TerminationRequested) -> AgentState:
    return replace(
        state,
        terminating=event.reason,
        termination_awaited_by=(*state.termination_awaited_by, *command_ids(event.awaited_by)),
        termination_forced=state.termination_forced or event.force is True,
    )


def _terminated(state: AgentState, event: e.AgentTerminated) -> AgentState:
    return replace(_ended(state, Status.TERMINATED, event.resource_usage), termination_awaited_by=())


def _execution_started(state: AgentState, event: e.ExecutionStarted) -> AgentState:
    execution = Execution(
        execution_id=event.execution_id,
        input=event.input,
        awaited_by=event.awaited_by,
        deadline=_known(event.deadline),
    )
    return _with_execution(state, execution)


def _known(deadline: float | UnsetType) -> float | None:
    return None if deadline is UNSET else deadline


def _with_execution(state: AgentState, execution: Execution) -> AgentState:
    executions = {**state.executions, execution.execution_id: execution}
    return replace(state, executions=executions, revision=state.revision + 1)


def _without_execution(state: AgentState, execution_id: str) -> dict[str, Execution]:
    return {key: value for key, value in state.executions.items() if key != execution_id}


def _tool_requested(state: AgentState, event: e.ToolRequested) -> AgentState:
    execution = state.executions[event.execution_id]
    requested = RequestedTool(tool=event.tool, arguments=event.arguments)
    return _with_execution(
        state,
        replace(execution, requested_tools={**execution.requested_tools, event.call: requested}),
    )


def _tool_called(state: AgentState, event: e.ToolCalled) -> AgentState:
    execution = state.executions[event.execution_id]
    entry = JournalEntry(
        call=event.call,
        kind="tool",
        request={"tool": event.tool, "arguments": event.arguments},
        ok=event.ok,
        result=event.result,
    )
    requested = {call: tool for call, tool in execution.requested_tools.items() if call != event.call}
    return _with_execution(state, replace(execution, journal=(*execution.journal, entry), requested_tools=requested))


def _effect_recorded(state: AgentState, event: e.EffectRecorded) -> AgentState:
    execution = state.executions[event.execution_id]
    if not event.done:
        waiting = Waiting(kind=event.kind, request=event.request, deadline=event.deadline)
        return _with_execution(state, replace(execution, waiting={**execution.waiting, event.call: waiting}))
    entry = JournalEntry(call=event.call, kind=event.kind, request=event.request, ok=True, result=event.result)
    still_waiting = {call: wait for call, wait in execution.waiting.items() if call != event.call}
    revision = state.revision
    state = _with_execution(state, replace(execution, journal=(*execution.journal, entry), waiting=still_waiting))
    if event.kind == "checkpoint" and event.call not in execution.waiting:  # nothing to take another one for
        return replace(state, revision=revision)
    if event.kind == "signal" and event.result is not None:
        return replace(state, signals=_without_first_signal(state.signals, event.request["name"]))
    return state


def _without_first_signal(signals: tuple[PendingSignal, ...], name: str) -> tuple[PendingSignal, ...]:
    for index, signal in enumerate(signals):
        if signal.name == name:
            return signals[:index] + signals[index + 1 :]
    return signals


def _execution_completed(state: AgentState, event: e.ExecutionCompleted) -> AgentState:
    data = state.data if event.state is UNSET else changed(state.data, event.state)
    return replace(
        state,
        executions=_without_execution(state, event.execution_id),
        data=data,
        usage=_with_tokens(state.usage, event.tokens),
        restart_attempt=state.restart_attempt if state.restart_pending else 0,
        revision=state.revision + 1,
    )


def _execution_failed(state: AgentState, event: e.ExecutionFailed) -> AgentState:
    return replace(
        state,
        executions=_without_execution(state, event.execution_id),
        held=_with_held(state, event.execution_id) if event.held else state.held,
        usage=_with_tokens(state.usage, event.tokens),
        revision=state.revision + 1,
    )


def _with_held(state: AgentState, execution_id: str) -> dict[str, Execution]:
    held = {**state.held, execution_id: replace(state.executions[execution_id], awaited_by=None)}
    if len(held) > MAX_HELD_EXECUTIONS:
        del held[next(iter(held))]
    return held


def _execution_reopened(state: AgentState, event: e.ExecutionReopened) -> AgentState:
    execution = state.held[event.execution_id]
    journal = execution.journal
    if event.assumed == "done":
        journal += tuple(
            JournalEntry(call=call, kind="tool", request=requested.request, ok=True, result=event.result)
            for call, requested in execution.requested_tools.items()
        )
    reopened = replace(
        execution, journal=journal, requested_tools={}, awaited_by=event.awaited_by, deadline=_known(event.deadline)
    )
    held = {key: value for key, value in state.held.items() if key != event.execution_id}
    return replace(_with_execution(state, reopened), held=held)


def _with_tokens(usage: e.ResourceUsage, tokens: int) -> e.ResourceUsage:
    return replace(usage, tokens_consumed=usage.tokens_consumed + tokens)


def _signal_received(state: AgentState, event: e.SignalReceived) -> AgentState:
    signals = (*state.signals, PendingSignal(name=event.name, payload=event.payload))
    return replace(state, signals=signals, revision=state.revision + 1)


def _checkpoint_requested(state: AgentState, event: e.CheckpointRequested) -> AgentState:
    pending = PendingCheckpoint(
        checkpoint_id=event.checkpoint_id,
        checkpoint_type=event.checkpoint_type,
        node_id=event.node_id,
        label=event.label,
        execution_id=event.execution_id,
        call=event.call,
        state=None if event.state is UNSET else event.state,
        awaited_by=event.awaited_by,
        asked_before=event.checkpoint_id in state.pending_checkpoints,
    )
    return replace(state, pending_checkpoints={**state.pending_checkpoints, event.checkpoint_id: pending})


def _without_pending(state: AgentState, checkpoint_id: str) -> dict[str, PendingCheckpoint]:
    return {key: value for key, value in state.pending_checkpoints.items() if key != checkpoint_id}


def _checkpoint_created(state: AgentState, event: e.CheckpointCreated) -> AgentState:
    kept = KeptCheckpoint(
        checkpoint_id=event.checkpoint_id,
        checkpoint_type=event.checkpoint_type,
        label=event.label,
        storage_location=event.storage_location,
        sha256=event.sha256,
        version=event.version,
        revision=event.revision,
        created_at=event.created_at,
    )
    return replace(
        state,
        checkpoints={**state.checkpoints, event.checkpoint_id: kept},
        pending_checkpoints=_without_pending(state, event.checkpoint_id),
    )


def _checkpoint_kept(state: AgentState, event: e.CheckpointKept) -> AgentState:
    labelled = replace(state.checkpoints[event.checkpoint_id], label=event.label)
    return replace(state, checkpoints={**state.checkpoints, event.checkpoint_id: labelled})


def _checkpoint_failed(state: AgentState, event: e.CheckpointFailed) -> AgentState:
    return replace(state, pending_checkpoints=_without_pending(state, event.checkpoint_id))


def _checkpoint_expired(state: AgentState, event: e.CheckpointExpired) -> AgentState:
    left = {key: value for key, value in state.checkpoints.items() if key != event.checkpoint_id}
    return replace(state, checkpoints=left)


def _restore_requested(state: AgentState, event: e.RestoreRequested) -> AgentState:
    restoring = PendingRestore(
        checkpoint_id=event.checkpoint_id, node_id=event.node_id, resume=event.resume, awaited_by=event.awaited_by
    )
    return replace(state, restoring=restoring)


def _checkpoint_restored(state: AgentState, event: e.CheckpointRestored) -> AgentState:
    return replace(state, data=event.state, held={}, restoring=None, revision=state.revision + 1)


def _restore_failed(state: AgentState, event: e.RestoreFailed) -> AgentState:
    return replace(state, restoring=None)


def _forked(state: AgentState, event: e.AgentForked) -> AgentState:
    return replace(state, data=event.state, signals=event.signals, revision=state.revision + 1)


def _execution_inherited(state: AgentState, event: e.ExecutionInherited) -> AgentState:
    execution = Execution(
        execution_id=event.execution_id, input=event.input, journal=event.journal, deadline=_known(event.deadline)
    )
    return _with_execution(state, execution)


def _unchanged(state: AgentState, event: Event) -> AgentState:
    """Nothing but the session changes."""
    return state


_EVOLVE: dict[type[Event], Callable[[AgentState, Any], AgentState]] = {
    e.SpawnRequested: _spawn_requested,
    e.AgentSpawned: _spawned,
    e.SpawnFailed: _spawn_failed,
    e.AgentSuspended: _suspended,
    e.AgentResumed: _resumed,
    e.AgentRestarted: _restarted,
    e.AgentFailed: _failed,
    e.TerminationRequested: _termination_requested,
    e.AgentTerminated: _terminated,
    e.ExecutionStarted: _execution_started,
    e.ToolRequested: _tool_requested,
    e.ToolCalled: _tool_called,
    e.EffectRecorded: _effect_recorded,
    e.ExecutionCompleted: _execution_completed,
    e.ExecutionFailed: _execution_failed,
    e.SignalReceived: _signal_received,
    e.ExecutionReopened: _execution_reopened,
    e.CheckpointRequested: _checkpoint_requested,
    e.CheckpointCreated: _checkpoint_created,
    e.CheckpointKept: _checkpoint_kept,
    e.CheckpointFailed: _checkpoint_failed,
    e.CheckpointExpired: _checkpoint_expired,
    e.RestoreRequested: _restore_requested,
    e.CheckpointRestored: _checkpoint_restored,
    e.RestoreFailed: _restore_failed,
    e.AgentForked: _forked,
    e.ExecutionInherited: _execution_inherited,
    **dict.fromkeys(SESSION_EVENTS, _unchanged),
}
