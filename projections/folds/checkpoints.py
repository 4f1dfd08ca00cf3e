"""What people ask about an agent's checkpoints: which there are, how large, and what became of the others."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from l02.bus.wire.codec import RecordedEvent
from l02.domain.agent.saved.checkpoints import (
    CheckpointCreated,
    CheckpointExpired,
    CheckpointFailed,
    CheckpointKept,
    CheckpointRequested,
)
from l02.domain.agent.saved.restoring import CheckpointRestored
from l02.domain.agent.state import CheckpointType, ErrorDetail
from l02.projections.folds.fold import Fold, Key, ViewOutOfStep, utc


class CheckpointState(StrEnum):
    """Where a checkpoint is. An agent can be brought back to one that is stored."""

    REQUESTED = "requested"
    STORED = "stored"
    FAILED = "failed"
    EXPIRED = "expired"


class CheckpointView(Struct, frozen=True, kw_only=True):
    """A checkpoint as of stream sequence `sequence`.

    `size_bytes` is before and `compressed_bytes` after compression, `version` the agent's version that it holds, and
    `restored` how often the agent was brought back to it.
    """

    agent_id: str
    checkpoint_id: str
    checkpoint_type: CheckpointType
    state: CheckpointState = CheckpointState.REQUESTED
    label: str | None = None
    storage_location: str | None = None
    size_bytes: int | None = None
    compressed_bytes: int | None = None
    sha256: str | None = None
    version: int | None = None
    duration_seconds: float | None = None
    error: ErrorDetail | None = None
    restored: int = 0
    requested_at: datetime
    created_at: datetime | None = None
    expired_at: datetime | None = None
    sequence: int


_EVENTS = (
    CheckpointRequested,
    CheckpointCreated,
    CheckpointKept,
    CheckpointFailed,
    CheckpointRestored,
    CheckpointExpired,
)


def project_checkpoint(view: CheckpointView | None, recorded: RecordedEvent) -> CheckpointView:
    """The view after one more of the checkpoint's events. Raises ViewOutOfStep unless the first is the request."""
    event, time = recorded.event, utc(recorded.time)
    if view is None:
        if not isinstance(event, CheckpointRequested):
            raise ViewOutOfStep(recorded, 0)
        return CheckpointView(
            agent_id=recorded.aggregate.id,
            checkpoint_id=event.checkpoint_id,
            checkpoint_type=event.checkpoint_type,
            label=event.label,
            requested_at=time,
            sequence=recorded.sequence,
        )
    return replace(view, **_changes(view, event, time), sequence=recorded.sequence)


def _changes(view: CheckpointView, event: Any, time: datetime) -> dict[str, Any]:
    match event:
        case CheckpointCreated():
            fields = (
                "label",
                "storage_location",
                "size_bytes",
                "compressed_bytes",
                "sha256",
                "version",
                "duration_seconds",
            )
            stored = {name: getattr(event, name) for name in fields}
            return {**stored, "state": CheckpointState.STORED, "created_at": time}
        case CheckpointKept():
            return {"label": event.label}
        case CheckpointFailed():
            error = ErrorDetail(code=event.code, message=event.message)
            return {"state": CheckpointState.FAILED, "error": error}
        case CheckpointRestored():
            return {"restored": view.restored + 1}
        case CheckpointExpired():
            return {"state": CheckpointState.EXPIRED, "expired_at": time}
        case _:
            return {}


def _key(recorded: RecordedEvent) -> Key | None:
    event = recorded.event
    return (recorded.aggregate.id, event.checkpoint_id) if isinstance(event, _EVENTS) else None


CHECKPOINT_FOLD = Fold(view=CheckpointView, key=_key, project=project_checkpoint)
