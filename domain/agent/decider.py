"""Whether a command makes sense for an agent as it is, and what then happens. The rules of an agent's life are here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import UNSET
from msgspec.structs import replace

from l02.domain.agent import checkpoints, executions, held, sessions
from l02.domain.agent import commands as c
from l02.domain.agent import events as e
from l02.domain.agent.executions import fail_open_executions
from l02.domain.agent.forks import begin_from
from l02.domain.agent.rules import ENDED, another_process, command_ids, counts_as_restart, is_live, refuse, resumed
from l02.domain.agent.state import IDLE, AgentState, Status
from l02.domain.errors import ErrorCode, Failure
from l02.domain.identifiers import require_id
from l02.domain.message import Command, Event
from l02.domain.specification import validate_specification
from l02.domain.values import require_state

__all__ = ["decide"]


def decide(state: AgentState, command: Command) -> list[Event]:
    """The events that follow from `command`; none if it changes nothing.

    Raises Failure (E2110, E2111, E2112) when the command is refused.
    """
    if state.status is Status.NEW and not isinstance(command, c.Spawn | c.Fork):
        raise Failure(ErrorCode.AGGREGATE_NOT_FOUND, "there is no such agent; `l02 ps` lists those that exist")
    if isinstance(command, c.ExecutorCommand) and command.node_id != state.node_id:
        raise Failure(ErrorCode.INVALID_STATE, f"the agent is not on node {command.node_id} but on {state.node_id}")
    return _DECIDE[type(command)](state, command)


def _require_new(state: AgentState) -> None:
    if state.status is not Status.NEW:
        raise Failure(ErrorCode.INVALID_STATE, f"the agent exists and is {state.status.value}; choose another id")


def _spawn(state: AgentState, command: c.Spawn) -> list[Event]:
    _require_new(state)
    validate_specification(command.spec)
    if command.fleet_id is not None:
        require_id(command.fleet_id, "$.fleet_id")
    if command.state is not UNSET:
        require_state(command.state, "$.state")
    return [
        e.SpawnRequested(
            spec=command.spec,
            requested_by=command.origin.actor,
            node_id=command.origin.node_id,
            incarnation=1,
            fleet_id=command.fleet_id or command.spec.fleet,
            awaited_by=command.awaited_by,
            state=command.state,
        )
    ]


def _fork(state: AgentState, command: c.Fork) -> list[Event]:
    _require_new(state)
    past = command.origin.past
    if past is None:
        raise Failure(
            ErrorCode.AGGREGATE_NOT_FOUND,
            f"there is no agent {command.from_agent_id[:40]!r}, or there was none yet at that point",
            "$.from_agent_id",
        )
    first = e.SpawnRequested(
        spec=past.spec,
        requested_by=command.origin.actor,
        node_id=command.origin.node_id,
        incarnation=1,
        awaited_by=command.awaited_by,
    )
    return [first, *begin_from(past, command.from_agent_id, command.checkpoint_id, command.origin.time)]


def _suspend(state: AgentState, command: c.Suspend) -> list[Event]:
    if not is_live(state):
        refuse(state, command, "it has no process to take away")
    if state.status is Status.SUSPENDED and not (state.sleeps and command.reason != IDLE):
        return []
    if not command.checkpoint:
        return [e.AgentSuspended(session_id=state.session_id, reason=command.reason)]
    return _suspended(state, command.reason, command.origin.command_id, command.origin.node_id)


def _suspend_idle(state: AgentState, command: c.SuspendIdle) -> list[Event]:
    is_idle = state.status is Status.RUNNING and not state.executions and state.restoring is None
    is_current = state.revision == command.revision and state.node_id == command.node_id
    if not is_idle or not is_live(state) or not is_current:
        return []
    return _suspended(state, IDLE, command.checkpoint_id, command.node_id)


def _suspended(state: AgentState, reason: str, checkpoint_id: str, node_id: str) -> list[Event]:
    """The process goes at once; its state is on record, and a checkpoint of it follows unless there is one."""
    unchanged = state.unchanged_since
    if unchanged is not None:
        return [e.AgentSuspended(session_id=state.session_id, reason=reason, checkpoint_id=unchanged.checkpoint_id)]
    return [
        e.CheckpointRequested(checkpoint_id=checkpoint_id, checkpoint_type="pre_suspend", node_id=node_id),
        e.AgentSuspended(session_id=state.session_id, reason=reason, checkpoint_id=checkpoint_id),
    ]


def _resume(state: AgentState, command: c.Resume) -> list[Event]:
    if not is_live(state):
        refuse(state, command, "spawn a new one")
    if command.assume is not None:
        return held.reopen(state, command)
    if command.checkpoint_id is not None:
        return checkpoints.resume_from(state, command, command.checkpoint_id)
    if state.status is not Status.SUSPENDED:
        return []
    node_id = command.origin.node_id
    return [resumed(state, node_id), *checkpoints.taken_over(state, node_id)]


def _terminate(state: AgentState, command: c.Terminate) -> list[Event]:
    if state.status is Status.FAILED:
        refuse(state, command, "it is already gone")
    if state.status is Status.TERMINATED or (state.terminating and (state.termination_forced or not command.force)):
        return []
    return [
        e.TerminationRequested(
            reason=state.terminating or command.reason,
            requested_by=command.origin.actor,
            awaited_by=command.awaited_by,
            force=True if command.force else UNSET,
        )
    ]


def _restart(state: AgentState, command: c.RestartDue) -> list[Event]:
    due = state.restart_pending and command.attempt == state.restart_attempt
    if not due or not is_live(state):
        return []
    return [another_process(state, state.node_id or command.origin.node_id, "restart policy")]


def _is_current(state: AgentState, incarnation: int) -> bool:
    wanted = state.status in (Status.PENDING, Status.RUNNING) and not state.restart_pending
    return wanted and incarnation == state.incarnation


def _report_spawned(state: AgentState, command: c.ReportSpawned) -> list[Event]:
    if not _is_current(state, command.incarnation) or state.process_ready:
        return []
    return [
        e.AgentSpawned(
            agent_id=command.agent_id,
            session_id=state.session_id or command.session_id,
            node_id=command.node_id,
            sandbox_type=command.sandbox_type,
            trust_level=command.trust_level,
            resource_limits=command.resource_limits,
            source=command.source,
            spawn_seconds=command.spawn_seconds,
            incarnation=command.incarnation,
            pid=command.pid,
            completes=command_ids(state.spawn_awaited_by),
        )
    ]


def _report_spawn_failed(state: AgentState, command: c.ReportSpawnFailed) -> list[Event]:
    if not _is_current(state, command.incarnation) or not is_live(state):
        return []
    failed = e.SpawnFailed(code=command.code, message=command.message, attempt=state.restart_attempt + 1)
    if command.permanent:
        return [failed, *_give_up(state, command.code, command.message, state.usage)]
    return [failed, *_restart_or_give_up(state, f"{command.code}: {command.message}", state.usage)]


def _report_exit(state: AgentState, command: c.ReportExit) -> list[Event]:
    if not _is_current(state, command.incarnation) or not is_live(state):
        return []
    usage = _with_tokens(state, command.usage)
    if counts_as_restart(state, command.ended_with):
        return _restart_or_give_up(state, command.cause, usage)
    return _restarted_at_once(state, state.node_id or "", command.cause, usage, "its work ended")


def _with_tokens(state: AgentState, usage: e.ResourceUsage) -> e.ResourceUsage:
    """Tokens are counted by executions: one may have completed after the node looked at the agent to add this up."""
    return replace(usage, tokens_consumed=state.usage.tokens_consumed)


def _restart_or_give_up(state: AgentState, cause: str, usage: e.ResourceUsage) -> list[Event]:
    limits = state.specification.lifecycle
    attempt = state.restart_attempt + 1
    if attempt > limits.max_restart_count:
        return _give_up(
            state,
            ErrorCode.RESTART_LIMIT_EXCEEDED.value,
            f"gave up after {limits.max_restart_count} restarts; the last cause was: {cause}",
            usage,
        )
    delays = limits.restart_delay_seconds
    delay = delays[min(attempt, len(delays)) - 1]
    return [e.AgentRestarted(attempt=attempt, delay_seconds=delay, cause=cause, usage=usage)]


def _restarted_at_once(
    state: AgentState, node_id: str, cause: str, usage: e.ResourceUsage, requested_by: str
) -> list[Event]:
    """Another process without delay; the end of this one does not count against the agent."""
    restarted = e.AgentRestarted(attempt=state.restart_attempt, delay_seconds=0.0, cause=cause, usage=usage)
    return [restarted, another_process(state, node_id, requested_by)]


def _give_up(state: AgentState, code: str, message: str, usage: e.ResourceUsage) -> list[Event]:
    return [
        *fail_open_executions(state, code, message),
        *checkpoints.give_up(state),
        e.AgentFailed(code=code, message=message, usage=usage, completes=command_ids(state.spawn_awaited_by)),
    ]


def _recover_process(state: AgentState, command: c.RecoverProcess) -> list[Event]:
    wanted = state.status in (Status.PENDING, Status.RUNNING) and is_live(state)
    # A node that has begun anew sets the timer of a restart that is due; one that takes over does not wait for that.
    waits_for_timer = state.restart_pending and command.node_id == command.lost_node_id
    asked_anew = checkpoints.taken_over(state, command.node_id, command.lost_node_id)
    if not wanted or waits_for_timer or state.node_id != command.lost_node_id:
        return asked_anew
    return [*_restarted_at_once(state, command.node_id, command.cause, state.usage, "recovery"), *asked_anew]


def _report_terminated(state: AgentState, command: c.ReportTerminated) -> list[Event]:
    if state.terminating is None or state.status in ENDED:
        return []
    return [
        *fail_open_executions(
            state, ErrorCode.INVALID_STATE.value, "the agent was terminated before the execution ended"
        ),
        *_fail_awaited_spawn(state),
        *checkpoints.give_up(state),
        e.AgentTerminated(
            session_id=state.session_id,
            reason=state.terminating,
            resource_usage=_with_tokens(state, command.usage),
            duration_seconds=command.duration_seconds,
            completes=state.termination_awaited_by,
        ),
    ]


def _fail_awaited_spawn(state: AgentState) -> list[Event]:
    if state.spawn_awaited_by is None:
        return []
    return [
        e.SpawnFailed(
            code=ErrorCode.SPAWN_FAILED.value,
            message="the agent was terminated before it ran",
            attempt=state.restart_attempt + 1,
            completes=(state.spawn_awaited_by,),
        )
    ]


_DECIDE: dict[type[Command], Callable[[AgentState, Any], list[Event]]] = {
    c.Spawn: _spawn,
    c.Execute: executions.execute,
    c.Signal: executions.signal,
    c.Checkpoint: checkpoints.checkpoint,
    c.Restore: checkpoints.restore,
    c.Fork: _fork,
    c.Suspend: _suspend,
    c.Resume: _resume,
    c.Terminate: _terminate,
    c.RestartDue: _restart,
    c.ExecutionDue: executions.execution_due,
    c.ExpireCheckpoints: checkpoints.expire_checkpoints,
    c.ReportSpawned: _report_spawned,
    c.ReportSpawnFailed: _report_spawn_failed,
    c.ReportExit: _report_exit,
    c.RecoverProcess: _recover_process,
    c.ReportTerminated: _report_terminated,
    c.RequestTool: executions.request_tool,
    c.RecordTool: executions.record_tool,
    c.RecordEffect: executions.record_effect,
    c.CompleteExecution: executions.complete_execution,
    c.FailExecution: executions.fail_execution,
    c.RequestCheckpoint: checkpoints.request_checkpoint,
    c.ReportCheckpointStored: checkpoints.report_checkpoint_stored,
    c.ReportCheckpointFailed: checkpoints.report_checkpoint_failed,
    c.ReportRestored: checkpoints.report_restored,
    c.ReportRestoreFailed: checkpoints.report_restore_failed,
    c.SuspendIdle: _suspend_idle,
    c.ReportSessionStarted: sessions.report_started,
    c.ReportSnapshotSaved: sessions.report_snapshot_saved,
    c.ReportRolledBack: sessions.report_rolled_back,
    c.ReportSessionRecovered: sessions.report_recovered,
    c.ReportSessionEnded: sessions.report_ended,
    c.ReportSessionDegraded: sessions.report_degraded,
    c.ReportSessionRestored: sessions.report_restored,
}
