"""Decisions about an agent's session: the bridge reports what came of talking to the other side, once or again."""

from __future__ import annotations

from domain.agent import events as e
from domain.agent import session_reports as r
from domain.agent.rules import ENDED, refuse
from domain.agent.session import Session
from domain.agent.state import AgentState
from domain.errors import ErrorCode, Failure
from domain.message import Event

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


def report_started(state: AgentState, command: r.ReportSessionStarted) -> list[Event]:
    """A session starts once in an agent's life."""
    session = _session(state, command)
    if session.is_started:
        return []
    return [
        e.SessionStarted(
            session_id=command.session_id, task_id=session.task_id, node_id=command.node_id, version=command.version
        )
    ]


def report_snapshot_saved(state: AgentState, command: r.ReportSnapshotSaved) -> list[Event]:
    """Also true of one that a newer one has taken the place of meanwhile."""
    session = _session(state, command)
    if not session.is_open or command.number <= session.sent:
        return []
    return [
        e.SessionSnapshotSaved(
            session_id=command.session_id,
            task_id=session.task_id,
            checkpoint_id=command.checkpoint_id,
            label=command.label,
            version=command.version,
            context_checkpoint_id=command.context_checkpoint_id,
            number=command.number,
            unsent=len(session.arrived(command.number).unsent),
        )
    ]


def report_rolled_back(state: AgentState, command: r.ReportRolledBack) -> list[Event]:
    """The other side is where the agent is."""
    session = _session(state, command)
    if not session.is_open or command.number <= session.sent:
        return []
    return [
        e.SessionRolledBack(
            session_id=command.session_id,
            task_id=session.task_id,
            checkpoint_id=command.checkpoint_id,
            target=command.target,
            backup_checkpoint_id=command.backup_checkpoint_id,
            number=command.number,
            unsent=len(session.arrived(command.number).unsent),
        )
    ]


def report_recovered(state: AgentState, command: r.ReportSessionRecovered) -> list[Event]:
    """Once for each process of the agent: a node that begins anew gives it another one."""
    session = _session(state, command)
    if not session.is_open or session.incarnation >= state.incarnation:
        return []
    return [
        e.SessionRecovered(
            session_id=command.session_id,
            task_id=session.task_id,
            node_id=command.node_id,
            recovery_type=command.recovery_type,
            last_activity=command.last_activity,
        )
    ]


def report_ended(state: AgentState, command: r.ReportSessionEnded) -> list[Event]:
    """A session that has never started needs no end."""
    session = _session(state, command)
    if state.status not in ENDED:
        refuse(state, command, "its session ends with it")
    if not session.is_open:
        return []
    return [
        e.SessionEnded(
            session_id=command.session_id,
            task_id=session.task_id,
            reason=state.terminating or state.status.value,
            unsent=len(session.unsent),
            error=command.error,
        )
    ]


def report_degraded(state: AgentState, command: r.ReportSessionDegraded) -> list[Event]:
    """Once for each outage, however often it is tried."""
    session = _session(state, command)
    is_known = session.failures.get(command.operation) == command.code
    is_over = command.gave_up is not None and command.gave_up <= session.sent
    if session.is_ended or is_over or (is_known and command.gave_up is None):
        return []
    return [
        e.SessionDegraded(
            session_id=command.session_id,
            task_id=session.task_id,
            operation=command.operation,
            code=command.code,
            message=command.message,
            gave_up=command.gave_up,
        )
    ]


def report_restored(state: AgentState, command: r.ReportSessionRestored) -> list[Event]:
    """Only worth recording if something had failed."""
    session = _session(state, command)
    if session.is_ended or not session.failures:
        return []
    return [e.SessionRestored(session_id=command.session_id, task_id=session.task_id)]
