"""Decisions about an agent's checkpoints: whether one is needed, what follows when it is stored, going back to one."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET

from l02.domain.agent import commands as c
from l02.domain.agent import events as e
from l02.domain.agent.executions import fail_open_executions
from l02.domain.agent.rules import another_process, command_ids, is_live, refuse, resumed
from l02.domain.agent.state import AgentState, KeptCheckpoint, PendingCheckpoint, Status
from l02.domain.errors import ErrorCode, Failure
from l02.domain.message import Event

__all__ = [
    "MAX_CHECKPOINTS",
    "MAX_PENDING_CHECKPOINTS",
    "checkpoint",
    "expire_checkpoints",
    "give_up",
    "report_checkpoint_failed",
    "report_checkpoint_stored",
    "report_restore_failed",
    "report_restored",
    "request_checkpoint",
    "restore",
    "resume_from",
    "taken_over",
]

MAX_CHECKPOINTS = 500
MAX_PENDING_CHECKPOINTS = 20
_HOLDS_MORE = -1  # no revision of the agent: the checkpoint has what an execution had changed and not yet committed
_ENDED = "the agent ended before it was done"


def checkpoint(state: AgentState, command: c.Checkpoint) -> list[Event]:
    """Have a checkpoint stored, unless the newest one holds the agent as it is."""
    if not is_live(state):
        refuse(state, command, "its last checkpoints can be forked")
    kept = _still_good(state, command.label)
    if kept is not None:
        return [kept]
    _require_room(state)
    return [
        e.CheckpointRequested(
            checkpoint_id=command.origin.command_id,
            checkpoint_type="manual",
            node_id=command.origin.node_id,
            label=command.label,
            awaited_by=command.awaited_by,
        )
    ]


def _still_good(state: AgentState, label: str | None) -> e.CheckpointKept | None:
    """The newest checkpoint will do if nothing has changed since, and it has not been given another name."""
    newest = state.unchanged_since
    if newest is None or (newest.label is not None and label not in (None, newest.label)):
        return None
    return e.CheckpointKept(checkpoint_id=newest.checkpoint_id, label=newest.label or label)


def _require_room(state: AgentState) -> None:
    if len(state.pending_checkpoints) >= MAX_PENDING_CHECKPOINTS:
        raise Failure(
            ErrorCode.INVALID_STATE,
            f"{MAX_PENDING_CHECKPOINTS} checkpoints of the agent wait to be stored; see whether the store answers",
        )


def request_checkpoint(state: AgentState, command: c.RequestCheckpoint) -> list[Event]:
    """The same for the runtime itself: at an interval, before it ends a process, or for an execution."""
    if command.execution_id is not None:
        return _for_execution(state, command)
    if not is_live(state) or state.node_id != command.node_id or not state.revision:
        return []
    if state.unchanged_since is not None or state.pending_checkpoints:
        return []
    return [_requested(command)]


def _for_execution(state: AgentState, command: c.RequestCheckpoint) -> list[Event]:
    if command.execution_id not in state.executions:
        raise Failure(ErrorCode.INVALID_STATE, f"execution {command.execution_id} is not under way any more")
    if command.node_id != state.node_id:
        raise Failure(ErrorCode.INVALID_STATE, f"the agent is not on node {command.node_id} but on {state.node_id}")
    if command.checkpoint_id in state.pending_checkpoints or _is_answered(state, command.execution_id, command.call):
        return []
    unchanged = command.state == e.StateChange()
    kept = _still_good(state, command.label) if unchanged else None
    if kept is not None:
        return [kept, *_answers(state, command, {"checkpoint_id": kept.checkpoint_id})]
    if len(state.pending_checkpoints) >= MAX_PENDING_CHECKPOINTS:
        message = f"{MAX_PENDING_CHECKPOINTS} checkpoints of the agent wait to be stored"
        return _answers(state, command, {"code": ErrorCode.CHECKPOINT_FAILED.value, "message": message})
    return [_requested(command)]


def _requested(command: c.RequestCheckpoint) -> e.CheckpointRequested:
    return e.CheckpointRequested(
        checkpoint_id=command.checkpoint_id,
        checkpoint_type=command.checkpoint_type,
        node_id=command.node_id,
        label=command.label,
        execution_id=command.execution_id,
        call=command.call,
        state=UNSET if command.state == e.StateChange() else command.state,
    )


def _is_answered(state: AgentState, execution_id: str | None, call: int | None) -> bool:
    execution = state.executions.get(execution_id or "")
    return execution is None or any(entry.call == call for entry in execution.journal)


def _answers(state: AgentState, asked: PendingCheckpoint | c.RequestCheckpoint, result: dict[str, Any]) -> list[Event]:
    """The execution that asked for a checkpoint, if one did and is still under way, has its answer on record."""
    if asked.execution_id is None or asked.call is None or _is_answered(state, asked.execution_id, asked.call):
        return []
    return [
        e.EffectRecorded(
            execution_id=asked.execution_id,
            call=asked.call,
            kind="checkpoint",
            request={"label": asked.label},
            result=result,
        )
    ]


def report_checkpoint_stored(state: AgentState, command: c.ReportCheckpointStored) -> list[Event]:
    """The checkpoint exists from now on; an agent has only so many, and the oldest make room."""
    pending = state.pending_checkpoints.get(command.checkpoint_id)
    if pending is None:
        return []
    stored = list(state.checkpoints.values())
    return [
        e.CheckpointCreated(
            checkpoint_id=pending.checkpoint_id,
            checkpoint_type=pending.checkpoint_type,
            label=pending.label,
            storage_location=command.storage_location,
            size_bytes=command.size_bytes,
            compressed_bytes=command.compressed_bytes,
            sha256=command.sha256,
            version=command.version,
            revision=command.revision if pending.state is None else _HOLDS_MORE,
            created_at=command.created_at,
            duration_seconds=command.duration_seconds,
            completes=command_ids(pending.awaited_by),
        ),
        *_answers(state, pending, {"checkpoint_id": pending.checkpoint_id}),
        *_expired(_displaced(stored)),
    ]


def _displaced(stored: list[KeptCheckpoint]) -> list[KeptCheckpoint]:
    """What makes room for one more: one that was taken at an interval sooner than one that somebody wanted."""
    at_intervals = [item for item in stored if item.checkpoint_type == "auto"]
    return (at_intervals or stored)[: max(0, len(stored) + 1 - MAX_CHECKPOINTS)]


def _expired(checkpoints: list[KeptCheckpoint]) -> list[Event]:
    return [
        e.CheckpointExpired(checkpoint_id=item.checkpoint_id, storage_location=item.storage_location)
        for item in checkpoints
    ]


def report_checkpoint_failed(state: AgentState, command: c.ReportCheckpointFailed) -> list[Event]:
    """There is no such checkpoint, and whoever waits for it is told."""
    pending = state.pending_checkpoints.get(command.checkpoint_id)
    return [] if pending is None else _failed(state, pending, command.code, command.message)


def _failed(state: AgentState, pending: PendingCheckpoint, code: str, message: str) -> list[Event]:
    return [
        e.CheckpointFailed(
            checkpoint_id=pending.checkpoint_id,
            checkpoint_type=pending.checkpoint_type,
            code=code,
            message=message,
            completes=command_ids(pending.awaited_by),
        ),
        *_answers(state, pending, {"code": code, "message": message}),
    ]


def expire_checkpoints(state: AgentState, command: c.ExpireCheckpoints) -> list[Event]:
    """Give up those named that are not among the newest."""
    stored = list(state.checkpoints.values())
    spared = stored[max(0, len(stored) - command.keep) :]
    wanted = set(command.checkpoint_ids) - {item.checkpoint_id for item in spared}
    return _expired([item for item in stored if item.checkpoint_id in wanted])


def restore(state: AgentState, command: c.Restore) -> list[Event]:
    """Have the agent brought back to a checkpoint; nothing is to be done if it still is as that holds it."""
    if not is_live(state):
        refuse(state, command, "fork it instead")
    wanted = _known(state, command.checkpoint_id)
    if wanted.revision == state.revision and state.restoring is None:
        return []
    return _request_restore(state, wanted, command, resume=False)


def resume_from(state: AgentState, command: c.Resume, checkpoint_id: str) -> list[Event]:
    """Give a suspended agent a process when it has been brought back to a checkpoint."""
    if state.status is not Status.SUSPENDED:
        refuse(state, command, "`restore` brings one back that has a process")
    wanted = _known(state, checkpoint_id)
    if wanted.revision == state.revision and state.restoring is None:
        return [resumed(state, command.origin.node_id, checkpoint_id)]
    return _request_restore(state, wanted, command, resume=True)


def _known(state: AgentState, checkpoint_id: str) -> KeptCheckpoint:
    found = state.checkpoints.get(checkpoint_id)
    if found is None:
        raise Failure(
            ErrorCode.RESTORE_FAILED,
            f"the agent has no checkpoint {checkpoint_id[:40]!r}; `l02 checkpoints ID` lists those it has. "
            "What another agent has can only be forked",
            "$.checkpoint_id",
        )
    return found


def _request_restore(
    state: AgentState, wanted: KeptCheckpoint, command: c.Restore | c.Resume, *, resume: bool
) -> list[Event]:
    return [
        *_restore_failed(state, ErrorCode.RESTORE_FAILED.value, "another one was asked for before it was done"),
        e.RestoreRequested(
            checkpoint_id=wanted.checkpoint_id,
            storage_location=wanted.storage_location,
            sha256=wanted.sha256,
            node_id=command.origin.node_id,
            resume=resume,
            requested_by=command.origin.actor,
            awaited_by=command.awaited_by,
        ),
    ]


def _restore_failed(state: AgentState, code: str, message: str) -> list[Event]:
    if state.restoring is None:
        return []
    return [
        e.RestoreFailed(
            checkpoint_id=state.restoring.checkpoint_id,
            code=code,
            message=message,
            completes=command_ids(state.restoring.awaited_by),
        )
    ]


def report_restored(state: AgentState, command: c.ReportRestored) -> list[Event]:
    """The agent is as it was: work under way began from another state, and its process has seen that too."""
    restoring = state.restoring
    if restoring is None or restoring.checkpoint_id != command.checkpoint_id or not is_live(state):
        return []
    events: list[Event] = [
        *fail_open_executions(
            state,
            ErrorCode.INVALID_STATE.value,
            f"the agent was brought back to checkpoint {command.checkpoint_id} meanwhile; send the work again",
        ),
        e.CheckpointRestored(
            checkpoint_id=command.checkpoint_id,
            restore_seconds=command.restore_seconds,
            state=command.state,
            completes=command_ids(restoring.awaited_by),
        ),
    ]
    if state.status is not Status.SUSPENDED and not state.restart_pending:
        return [*events, another_process(state, state.node_id or restoring.node_id, "restore")]
    if restoring.resume and state.status is Status.SUSPENDED:
        return [*events, resumed(state, restoring.node_id, command.checkpoint_id)]
    return events


def report_restore_failed(state: AgentState, command: c.ReportRestoreFailed) -> list[Event]:
    """The agent stays as it is, and whoever waits is told."""
    if state.restoring is None or state.restoring.checkpoint_id != command.checkpoint_id:
        return []
    return _restore_failed(state, command.code, command.message)


def taken_over(state: AgentState, node_id: str, lost_node_id: str | None = None) -> list[Event]:
    """What the lost node, or any other one, was to store for the agent or to bring it back to, is asked of this."""
    if not is_live(state):
        return []

    def moves(asked_of: str) -> bool:
        return asked_of != node_id and lost_node_id in (None, asked_of)

    asked: list[Event] = [
        e.CheckpointRequested(
            checkpoint_id=pending.checkpoint_id,
            checkpoint_type=pending.checkpoint_type,
            node_id=node_id,
            label=pending.label,
            execution_id=pending.execution_id,
            call=pending.call,
            state=UNSET if pending.state is None else pending.state,
            awaited_by=pending.awaited_by,
        )
        for pending in state.pending_checkpoints.values()
        if moves(pending.node_id)
    ]
    restoring = state.restoring
    if restoring is None or not moves(restoring.node_id):
        return asked
    kept = state.checkpoints.get(restoring.checkpoint_id)
    if kept is None:
        message = f"checkpoint {restoring.checkpoint_id} has expired before it was read"
        return [*asked, *_restore_failed(state, ErrorCode.RESTORE_FAILED.value, message)]
    return [
        *asked,
        e.RestoreRequested(
            checkpoint_id=kept.checkpoint_id,
            storage_location=kept.storage_location,
            sha256=kept.sha256,
            node_id=node_id,
            resume=restoring.resume,
            requested_by="recovery",
            awaited_by=restoring.awaited_by,
        ),
    ]


def give_up(state: AgentState) -> list[Event]:
    """The agent ends: what is still to be stored or brought back will not be."""
    return [
        *(
            event
            for pending in state.pending_checkpoints.values()
            for event in _failed(state, pending, ErrorCode.CHECKPOINT_FAILED.value, _ENDED)
            if not isinstance(event, e.EffectRecorded)
        ),
        *_restore_failed(state, ErrorCode.RESTORE_FAILED.value, _ENDED),
    ]
