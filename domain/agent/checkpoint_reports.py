"""What the state manager and the executor tell an agent of its checkpoints, and ask for in the runtime's own name."""

from __future__ import annotations

from typing import Any, ClassVar

from l02.domain.agent.checkpoint_events import CheckpointType
from l02.domain.agent.event_parts import StateChange
from l02.domain.message import Command

__all__ = [
    "ReportCheckpointFailed",
    "ReportCheckpointStored",
    "ReportRestoreFailed",
    "ReportRestored",
    "RequestCheckpoint",
    "SuspendIdle",
]


class RequestCheckpoint(Command, frozen=True, kw_only=True):
    """The runtime: store a checkpoint. One that an execution asks for names it, its call and what it has changed."""

    verb: ClassVar[str] = "request-checkpoint"
    checkpoint_id: str
    checkpoint_type: CheckpointType
    node_id: str
    label: str | None = None
    execution_id: str | None = None
    call: int | None = None
    state: StateChange = StateChange()


class ReportCheckpointStored(Command, frozen=True, kw_only=True):
    """The state manager: the checkpoint is stored; it holds the agent as of `version` and `revision`."""

    verb: ClassVar[str] = "report-checkpoint-stored"
    checkpoint_id: str
    storage_location: str
    size_bytes: int
    compressed_bytes: int
    sha256: str
    version: int
    revision: int
    created_at: float
    duration_seconds: float


class ReportCheckpointFailed(Command, frozen=True, kw_only=True):
    """The state manager: the checkpoint cannot be stored."""

    verb: ClassVar[str] = "report-checkpoint-failed"
    checkpoint_id: str
    code: str
    message: str


class ReportRestored(Command, frozen=True, kw_only=True):
    """The state manager: this is the state that the checkpoint holds."""

    verb: ClassVar[str] = "report-restored"
    checkpoint_id: str
    restore_seconds: float
    state: dict[str, Any]


class ReportRestoreFailed(Command, frozen=True, kw_only=True):
    """The state manager: the checkpoint cannot be read."""

    verb: ClassVar[str] = "report-restore-failed"
    checkpoint_id: str
    code: str
    message: str


class SuspendIdle(Command, frozen=True, kw_only=True):
    """The state manager: nothing has been asked of the agent for long, and it was at `revision` all the while."""

    verb: ClassVar[str] = "suspend-idle"
    revision: int
    checkpoint_id: str
    node_id: str
