"""Decisions about an agent's session: the bridge reports what came of talking to the other side, once or again."""

from __future__ import annotations

from typing import Any

from msgspec.structs import asdict

from l02.domain.agent import events as e
from l02.domain.agent import session_reports as r
from l02.domain.agent.rules import ENDED, refuse
from l02.domain.agent.session import Session
from l02.domain.agent.state import AgentState
from l02.domain.errors import ErrorCode, Failure
from l02.domain.message import Event

__all__ = [
    "report_degraded",
    "report_ended",
    "report_recovered",
    "report_restored",
    "report_rolled_back",
    "report_snapshot_saved",
    "report_started",
]


def _session(state: AgentState, report: r.SessionReport) -> Session:
    """The session that a report is about; E2054 if it is not the agent's."""
    if state.session is None or state.session_id != report.session_id:
        raise Failure(
            ErrorCode.SESSION_NOT_FOUND, f"the agent's session is {state.session_id}, not {report.session_id[:40]!r}"
        )
    return state.session


def _said(event: type[Event], session: Session, report: r.SessionReport, **more: Any) -> list[Event]:
    """The event has what its report has, and the session's task."""
    return [event(**{**asdict(report), "task_id": session.task_id, **more})]


def report_started(state: AgentState, command: r.ReportSessionStarted) -> list[Event]:
    """A session starts once in an agent's life."""
    session = _session(state, command)
    return [] if session.is_started else _said(e.SessionStarted, session, command)


def report_snapshot_saved(state: AgentState, command: r.ReportSnapshotSaved) -> list[Event]:
    """The other side has what belongs to a checkpoint."""
    return _arrived(e.SessionSnapshotSaved, state, command)


def report_rolled_back(state: AgentState, command: r.ReportRolledBack) -> list[Event]:
    """The other side is where the agent is."""
    return _arrived(e.SessionRolledBack, state, command)


def _arrived(event: type[Event], state: AgentState, command: r.ReportSnapshotSaved | r.ReportRolledBack) -> list[Event]:
    """Also true of an entry that a newer one has taken the place of meanwhile."""
    session = _session(state, command)
    if not session.is_open or command.number <= session.sent:
        return []
    return _said(event, session, command, unsent=len(session.arrived(command.number).unsent))


def report_recovered(state: AgentState, command: r.ReportSessionRecovered) -> list[Event]:
    """Once for each process of the agent: a node that begins anew gives it another one."""
    session = _session(state, command)
    if not session.is_open or session.incarnation >= state.incarnation:
        return []
    return _said(e.SessionRecovered, session, command)


def report_ended(state: AgentState, command: r.ReportSessionEnded) -> list[Event]:
    """A session that has never started needs no end."""
    session = _session(state, command)
    if state.status not in ENDED:
        refuse(state, command, "its session ends with it")
    if not session.is_open:
        return []
    reason = state.terminating or state.status.value
    return _said(e.SessionEnded, session, command, reason=reason, unsent=len(session.unsent))


def report_degraded(state: AgentState, command: r.ReportSessionDegraded) -> list[Event]:
    """Once for each thing that goes wrong in an outage, however often it is tried."""
    session = _session(state, command)
    is_news = session.is_news(command.operation, command.code, command.message)
    is_over = command.gave_up is not None and command.gave_up <= session.sent
    if session.is_ended or is_over or (not is_news and command.gave_up is None):
        return []
    return _said(e.SessionDegraded, session, command)


def report_restored(state: AgentState, command: r.ReportSessionRestored) -> list[Event]:
    """Only worth recording if something had failed."""
    session = _session(state, command)
    if session.is_ended or not session.failures:
        return []
    return _said(e.SessionRestored, session, command)
