"""What the sender of a command is told when an event completes it."""

from __future__ import annotations

from typing import Any

import msgspec

from l02.domain.agent import events as e
from l02.domain.errors import OwnError
from l02.domain.message import Event

__all__ = ["detail_of", "failure_of", "result_of"]

_FAILURES = (e.AgentFailed, e.SpawnFailed, e.ExecutionFailed, e.CheckpointFailed, e.RestoreFailed)


def failure_of(event: Event) -> tuple[str, str] | None:
    """Code and message if the event means that the completed command failed."""
    if isinstance(event, _FAILURES):
        return event.code, event.message
    return None


def detail_of(event: Event) -> OwnError | None:
    """What the agent itself calls its failure, if it does."""
    return event.detail if isinstance(event, e.ExecutionFailed) else None


def result_of(event: Event) -> dict[str, Any]:
    """The `result` of a good outcome."""
    match event:
        case e.ExecutionCompleted():
            return {"execution_id": event.execution_id, "output": event.output}
        case e.ExecutionStarted():
            return {"execution_id": event.execution_id}
        case e.ExecutionReopened():
            return {"execution_id": event.execution_id}
        case e.CheckpointCreated():
            fields = ("checkpoint_id", "label", "size_bytes", "compressed_bytes", "sha256")
            return {name: getattr(event, name) for name in fields}
        case e.CheckpointKept() | e.CheckpointRequested():
            return {"checkpoint_id": event.checkpoint_id}
        case e.AgentSuspended() | e.AgentResumed():
            return {} if event.checkpoint_id is None else {"checkpoint_id": event.checkpoint_id}
        case e.CheckpointRestored():
            return {"checkpoint_id": event.checkpoint_id, "restore_seconds": event.restore_seconds}
        case e.AgentForked():
            return {"from_agent_id": event.from_agent_id, "from_version": event.from_version}
        case e.AgentSpawned():
            fields = ("agent_id", "session_id", "node_id", "sandbox_type", "spawn_seconds")
            return {name: getattr(event, name) for name in fields}
        case e.AgentTerminated():
            return {
                "reason": event.reason,
                "resource_usage": msgspec.to_builtins(event.resource_usage),
                "duration_seconds": event.duration_seconds,
            }
        case _:
            return {}
