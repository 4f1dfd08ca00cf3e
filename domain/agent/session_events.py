"""What can have happened to an agent's session with the context-orchestrator, which the session bridge speaks to.

The agent works on whatever happens here. What could not be said to the other side is on record as such, and stays to
be said; an event that says it was said comes only after the other side has answered that.
"""

from __future__ import annotations

from typing import ClassVar

from l02.domain.agent.event_parts import ErrorDetail
from l02.domain.message import Event

__all__ = [
    "SESSION_EVENTS",
    "SessionDegraded",
    "SessionEnded",
    "SessionRecovered",
    "SessionRestored",
    "SessionRolledBack",
    "SessionSnapshotSaved",
    "SessionStarted",
]


class SessionStarted(Event, frozen=True, kw_only=True):
    """The other side knows that the agent works on the task; `version` is the task's there."""

    type: ClassVar[str] = "agent.session.started"
    session_id: str
    task_id: str
    node_id: str
    version: int | str | None


class SessionSnapshotSaved(Event, frozen=True, kw_only=True):
    """The other side has the context that belongs to a checkpoint, as `version` of the task.

    If the checkpoint has a label, the other side has one of its own too, `context_checkpoint_id`. `number` counts what
    was to be sent, `unsent` is how much of it is left.
    """

    type: ClassVar[str] = "agent.session.snapshot.saved"
    session_id: str
    task_id: str
    checkpoint_id: str
    label: str | None
    version: int | str | None
    context_checkpoint_id: str | None
    number: int
    unsent: int


class SessionRolledBack(Event, frozen=True, kw_only=True):
    """The other side has gone back to what it has of a checkpoint that was restored, and calls `target`."""

    type: ClassVar[str] = "agent.session.rolled_back"
    session_id: str
    task_id: str
    checkpoint_id: str
    target: str
    backup_checkpoint_id: str | None
    number: int
    unsent: int


class SessionRecovered(Event, frozen=True, kw_only=True):
    """The other side had named the session as interrupted; `node_id` has taken it up again."""

    type: ClassVar[str] = "agent.session.recovered"
    session_id: str
    task_id: str
    node_id: str
    recovery_type: str
    last_activity: str | None


class SessionEnded(Event, frozen=True, kw_only=True):
    """The agent has ended, and its session with it. With an `error`, the other side could not be told.

    `unsent` is how much it will never hear of.
    """

    type: ClassVar[str] = "agent.session.ended"
    session_id: str
    task_id: str
    reason: str
    unsent: int
    error: ErrorDetail | None


class SessionDegraded(Event, frozen=True, kw_only=True):
    """Something could not be said to the other side: start, snapshot, rollback, recovery or heartbeat.

    It is tried again, and not recorded again while it fails in the same way. `gave_up` is set if it is not tried
    again, because the other side works and does not want it: the number of what was to be sent.
    """

    type: ClassVar[str] = "agent.session.degraded"
    session_id: str
    task_id: str
    operation: str
    code: str
    message: str
    gave_up: int | None


class SessionRestored(Event, frozen=True, kw_only=True):
    """The other side answers again, and nothing is left to be said."""

    type: ClassVar[str] = "agent.session.restored"
    session_id: str
    task_id: str


SESSION_EVENTS: tuple[type[Event], ...] = (
    SessionStarted,
    SessionSnapshotSaved,
    SessionRolledBack,
    SessionRecovered,
    SessionDegraded,
    SessionRestored,
    SessionEnded,
)
