"""What can have happened to an agent's checkpoints: taken, brought back, expired; and agents that began as another's.

A checkpoint is asked for first and created when it is stored, so a crash in between leaves a wish on record and never
half a checkpoint. Whatever a later state depends on is in the event, by value or by reference.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from msgspec import UNSET, UnsetType

from l02.domain.agent.event_parts import Completing, JournalEntry, PendingSignal, StateChange
from l02.domain.message import Event

__all__ = [
    "AgentForked",
    "CheckpointCreated",
    "CheckpointExpired",
    "CheckpointFailed",
    "CheckpointKept",
    "CheckpointRequested",
    "CheckpointRestored",
    "CheckpointType",
    "ExecutionInherited",
    "RestoreFailed",
    "RestoreRequested",
]

CheckpointType = Literal["auto", "manual", "pre_suspend", "pre_drain"]


class CheckpointRequested(Event, frozen=True, kw_only=True):
    """A checkpoint of the agent is to be stored, by `node_id`.

    If an execution asked for it, `execution_id` and `call` say which, and `state` what it has changed so far: that is
    in the checkpoint too, though it becomes the agent's state only when the execution completes.
    """

    type: ClassVar[str] = "agent.checkpoint.requested"
    checkpoint_id: str
    checkpoint_type: CheckpointType
    node_id: str
    label: str | None = None
    execution_id: str | None = None
    call: int | None = None
    state: StateChange | UnsetType = UNSET
    awaited_by: str | None = None


class CheckpointCreated(Completing, frozen=True, kw_only=True):
    """A checkpoint is stored. It holds the agent as of its `version`; `sha256` is of what was stored.

    `size_bytes` is before and `compressed_bytes` after compression. `revision` counts what has changed of the agent:
    while it stays the same, no new checkpoint is needed. `created_at` is in seconds since 1970.
    """

    type: ClassVar[str] = "agent.checkpoint.created"
    checkpoint_id: str
    checkpoint_type: CheckpointType
    label: str | None
    storage_location: str
    size_bytes: int
    compressed_bytes: int
    sha256: str
    version: int
    revision: int
    created_at: float
    duration_seconds: float


class CheckpointKept(Event, frozen=True, kw_only=True):
    """A checkpoint was asked for, and nothing has changed since this one; `label` is its label from now on."""

    type: ClassVar[str] = "agent.checkpoint.kept"
    checkpoint_id: str
    label: str | None = None


class CheckpointFailed(Completing, frozen=True, kw_only=True):
    """A checkpoint that was asked for could not be stored."""

    type: ClassVar[str] = "agent.checkpoint.failed"
    checkpoint_id: str
    checkpoint_type: CheckpointType
    code: str
    message: str


class CheckpointExpired(Event, frozen=True, kw_only=True):
    """A checkpoint is given up; what is stored of it is deleted."""

    type: ClassVar[str] = "agent.checkpoint.expired"
    checkpoint_id: str
    storage_location: str


class RestoreRequested(Event, frozen=True, kw_only=True):
    """The agent is to be brought back to a checkpoint, by `node_id`, and then resumed if `resume` says so."""

    type: ClassVar[str] = "agent.restore.requested"
    checkpoint_id: str
    storage_location: str
    sha256: str
    node_id: str
    resume: bool
    requested_by: str
    awaited_by: str | None = None


class CheckpointRestored(Completing, frozen=True, kw_only=True):
    """The agent's durable state is `state` again, as the checkpoint holds it. What has happened since stays on record.

    Work under way had begun from another state and has failed; signals that wait stay.
    """

    type: ClassVar[str] = "agent.checkpoint.restored"
    checkpoint_id: str
    restore_seconds: float
    state: dict[str, Any]


class RestoreFailed(Completing, frozen=True, kw_only=True):
    """The agent could not be brought back, and is as it was. The message offers an older checkpoint, if one is good."""

    type: ClassVar[str] = "agent.restore.failed"
    checkpoint_id: str
    code: str
    message: str


class AgentForked(Event, frozen=True, kw_only=True):
    """This agent begins where another one was at its `from_version`, the event with stream sequence `from_sequence`."""

    type: ClassVar[str] = "agent.forked"
    from_agent_id: str
    from_version: int
    from_sequence: int
    checkpoint_id: str | None
    state: dict[str, Any]
    signals: tuple[PendingSignal, ...]


class ExecutionInherited(Event, frozen=True, kw_only=True):
    """Work that was under way where this agent was forked: it goes on here, with the answers recorded there.

    `deadline` is when it must have ended, in seconds since 1970, UTC: its time begins anew.
    """

    type: ClassVar[str] = "agent.execution.inherited"
    schema_version: ClassVar[int] = 2
    execution_id: str
    input: Any
    journal: tuple[JournalEntry, ...]
    deadline: float | UnsetType = UNSET
