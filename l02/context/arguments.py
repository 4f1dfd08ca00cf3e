"""What the tools take: names, types and defaults as every context-orchestrator has them, and the words shown for each.

The JSON schema that a client sees is generated from these types, and arguments are read by them, so the two agree.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

Id = Annotated[str, Meta(min_length=1, max_length=256, pattern=r"^[^\x00]*$")]
Text = Annotated[str, Meta(max_length=100_000, pattern=r"^[^\x00]*$")]
Status = Literal["pending", "in_progress", "completed", "blocked", "archived"]
CheckpointType = Literal["manual", "milestone", "pre_migration", "recovery_point", "auto"]


class Arguments(Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """Those of one tool."""


class ImmediateUpdates(Arguments, frozen=True, kw_only=True):
    """What is being done right now; a field that is left out stays as it was."""

    working_on: str | UnsetType | None = UNSET
    last_action: str | UnsetType | None = UNSET
    next_step: str | UnsetType | None = UNSET
    blockers: list[str] | UnsetType = UNSET


class Updates(Arguments, frozen=True, kw_only=True):
    """What changes of a task's context; a field that is left out stays as it was."""

    current_phase: str | UnsetType | None = UNSET
    iteration: int | UnsetType = UNSET
    score: float | UnsetType | None = UNSET
    status: Status | UnsetType = UNSET
    immediate_context: ImmediateUpdates | UnsetType = UNSET
    key_files: list[Any] | UnsetType = UNSET
    technical_decisions: list[Any] | UnsetType = UNSET
    resume_prompt: str | UnsetType | None = UNSET
    locked_elements: list[Any] | UnsetType = UNSET


class GetUnifiedContext(Arguments, frozen=True, kw_only=True):
    """The project's context and, if a task is named, the task's. This server keeps no relations between tasks."""

    task_id: Id | None = None
    include_relationships: bool = True
    include_version_history: bool = False
    max_versions: Annotated[int, Meta(ge=1, le=1000)] = 5


class SaveContextSnapshot(Arguments, frozen=True, kw_only=True):
    """Change a task's context; that makes a new version of it. A session's first snapshot makes its task known."""

    task_id: Id
    updates: Updates = Updates()
    change_summary: Text | None = None
    session_id: Id | None = None
    sync_to_file: bool = True


class CreateCheckpoint(Arguments, frozen=True, kw_only=True):
    """Give the present version of tasks a name to come back to: those named, or all that are not archived."""

    label: Annotated[str, Meta(min_length=1, max_length=1000, pattern=r"^[^\x00]*$")]
    description: Text | None = None
    task_id: Id | None = None
    checkpoint_type: CheckpointType = "manual"
    include_tasks: list[Id] = []
    session_id: Id | None = None


class ToVersion(Struct, frozen=True, tag="version", tag_field="type", forbid_unknown_fields=True):
    """A version of the task."""

    version: Annotated[int, Meta(ge=1, le=2**62)]


class ToCheckpoint(Struct, frozen=True, tag="checkpoint", tag_field="type", rename="camel", forbid_unknown_fields=True):
    """The version that a checkpoint holds of the task."""

    checkpoint_id: Id


class RollbackTo(Arguments, frozen=True, kw_only=True):
    """Take a task back to what it was. History is kept: that makes a new version with the old content."""

    task_id: Id
    target: ToVersion | ToCheckpoint
    create_backup: bool = True
    session_id: Id | None = None


class CheckRecovery(Arguments, frozen=True, kw_only=True):
    """The sessions that were at work and have not been heard of since this server started. One may be marked first."""

    mark_recovered: Id | None = None
    include_history: bool = False


class SwitchTask(Arguments, frozen=True, kw_only=True):
    """Leave a task, saving what changed of it, and take up another that is known."""

    from_task_id: Id | None = None
    to_task_id: Id
    save_current_state: bool = True
    current_task_updates: Updates = Updates()
    session_id: Id | None = None


TOOLS: dict[str, type[Arguments]] = {
    "get_unified_context": GetUnifiedContext,
    "save_context_snapshot": SaveContextSnapshot,
    "create_checkpoint": CreateCheckpoint,
    "rollback_to": RollbackTo,
    "check_recovery": CheckRecovery,
    "switch_task": SwitchTask,
}
