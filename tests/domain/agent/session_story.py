"""The session of the agent that the decider tests are about, and the words to tell it with."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from l02.domain.agent.saved.checkpoints import CheckpointCreated
from l02.domain.agent.saved.restoring import CheckpointRestored
from l02.domain.agent.sessions import (
    SessionDegraded,
    SessionEnded,
    SessionRecovered,
    SessionRestored,
    SessionRolledBack,
    SessionSnapshotSaved,
    SessionStarted,
)
from tests.domain.agent.story import RUNNING, TERMINATED, TERMINATING, spawn_requested, spawned, terminated


def session_started(**fields: Any) -> SessionStarted:
    return replace(SessionStarted(session_id="s1", task_id="a1", node_id="n1", version=1), **fields)


def created(checkpoint_id: str = "k1", label: str | None = None) -> CheckpointCreated:
    return CheckpointCreated(
        checkpoint_id=checkpoint_id,
        checkpoint_type="manual",
        label=label,
        storage_location="postgresql:k1",
        size_bytes=10,
        compressed_bytes=8,
        sha256="0" * 64,
        version=3,
        revision=1,
        created_at=1_767_225_600.0,
        duration_seconds=0.1,
    )


def restored(checkpoint_id: str = "k1") -> CheckpointRestored:
    return CheckpointRestored(checkpoint_id=checkpoint_id, restore_seconds=0.1, state={})


def saved(number: int = 1, checkpoint_id: str = "k1", **fields: Any) -> SessionSnapshotSaved:
    event = SessionSnapshotSaved(
        session_id="s1",
        task_id="a1",
        checkpoint_id=checkpoint_id,
        label=None,
        version=2,
        context_checkpoint_id=None,
        number=number,
        unsent=0,
    )
    return replace(event, **fields)


def degraded(operation: str = "snapshot", code: str = "E2052", gave_up: int | None = None) -> SessionDegraded:
    return SessionDegraded(
        session_id="s1", task_id="a1", operation=operation, code=code, message="it is away", gave_up=gave_up
    )


OPEN = (*RUNNING, session_started())
WITH_CHECKPOINT = (*OPEN, created())
SAVED = (*WITH_CHECKPOINT, saved())
RECOVERED_PROCESS = (*OPEN, spawn_requested(2), spawned(2))
AGENT_ENDED = (*OPEN, TERMINATING[-1], terminated())
NEVER_STARTED = TERMINATED

ROLLED_BACK = SessionRolledBack(
    session_id="s1",
    task_id="a1",
    checkpoint_id="k1",
    target="version 2",
    backup_checkpoint_id=None,
    number=2,
    unsent=0,
)
RECOVERED = SessionRecovered(
    session_id="s1", task_id="a1", node_id="n2", recovery_type="crash", last_activity="yesterday"
)
SESSION_ENDED = SessionEnded(session_id="s1", task_id="a1", reason="user_request", unsent=0, error=None)
RESTORED = SessionRestored(session_id="s1", task_id="a1")
