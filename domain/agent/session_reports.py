"""What the session bridge tells an agent of its session, when the other side has answered or has not."""

from __future__ import annotations

from typing import ClassVar

from l02.domain.agent.event_parts import ErrorDetail
from l02.domain.message import Command

__all__ = [
    "ReportRolledBack",
    "ReportSessionDegraded",
    "ReportSessionEnded",
    "ReportSessionRecovered",
    "ReportSessionRestored",
    "ReportSessionStarted",
    "ReportSnapshotSaved",
    "SessionReport",
]


class SessionReport(Command, frozen=True, kw_only=True):
    """Every report names the session that it is about."""

    verb: ClassVar[str]
    session_id: str


class ReportSessionStarted(SessionReport, frozen=True, kw_only=True):
    """The session bridge: the other side knows of the session."""

    verb: ClassVar[str] = "report-session-started"
    node_id: str
    version: int | str | None = None


class ReportSnapshotSaved(SessionReport, frozen=True, kw_only=True):
    """The session bridge: the other side has the context of this checkpoint."""

    verb: ClassVar[str] = "report-snapshot-saved"
    checkpoint_id: str
    number: int
    label: str | None = None
    version: int | str | None = None
    context_checkpoint_id: str | None = None


class ReportRolledBack(SessionReport, frozen=True, kw_only=True):
    """The session bridge: the other side has gone back to this checkpoint, which it calls `target`."""

    verb: ClassVar[str] = "report-rolled-back"
    checkpoint_id: str
    number: int
    target: str
    backup_checkpoint_id: str | None = None


class ReportSessionRecovered(SessionReport, frozen=True, kw_only=True):
    """The session bridge: the other side has named the session as interrupted, and this node has taken it up."""

    verb: ClassVar[str] = "report-session-recovered"
    node_id: str
    recovery_type: str
    last_activity: str | None = None


class ReportSessionEnded(SessionReport, frozen=True, kw_only=True):
    """The session bridge: the other side knows that the agent has ended, or cannot be told."""

    verb: ClassVar[str] = "report-session-ended"
    error: ErrorDetail | None = None


class ReportSessionDegraded(SessionReport, frozen=True, kw_only=True):
    """The session bridge: this could not be said to the other side; `gave_up` if it will not be tried again."""

    verb: ClassVar[str] = "report-session-degraded"
    operation: str
    code: str
    message: str
    gave_up: int | None = None


class ReportSessionRestored(SessionReport, frozen=True, kw_only=True):
    """The session bridge: the other side answers, and nothing is left to be said."""

    verb: ClassVar[str] = "report-session-restored"
