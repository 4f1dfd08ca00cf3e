"""What has happened to an agent's session with the context-orchestrator, which the session bridge speaks to.

The agent works on whatever happens here. What could not be said to the other side is on record as such, and stays to
be said; an event that says it was said comes only after the other side has answered that. The bridge reports what came
of talking to the other side, once or again.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from msgspec.structs import replace

from l02.domain.agent.execution import THREAD, TOOL, Execution
from l02.domain.agent.messages import AgentEvent, AgentReport, refuse
from l02.domain.agent.session import SavedSnapshot, Session, SessionContext
from l02.domain.agent.state import AgentState, ErrorDetail
from l02.domain.errors import ErrorCode, Failure
from l02.domain.kernel.message import Context


def session_of(agent: AgentState, session_id: str) -> Session:
    """The session that a report is about; E2054 if it is not the agent's."""
    if agent.session is None or agent.session_id != session_id:
        raise Failure(
            ErrorCode.SESSION_NOT_FOUND, f"the agent's session is {agent.session_id}, not {session_id[:40]!r}"
        )
    return agent.session


def _own(agent: AgentState) -> Session:
    assert agent.session is not None, "a session's own events follow that of the process it belongs to"
    return agent.session


class SessionReport(AgentReport, frozen=True, kw_only=True):
    """Something that has become of an agent's session, `task_id` at the other side."""

    session_id: str
    task_id: str


class SessionStarted(SessionReport, frozen=True, kw_only=True):
    """The other side knows that the agent works on the task; `version` is the task's there."""

    type: ClassVar[str] = "agent.session.started"
    node_id: str
    version: int | str | None

    def decide(self, agent: AgentState, context: Context, /) -> list[AgentEvent]:
        """Once in an agent's life."""
        session = session_of(agent, self.session_id)
        return [] if session.is_started else [replace(self, task_id=session.task_id)]

    def evolve(self, agent: AgentState, /) -> AgentState:
        """The other side believes that the agent is at work."""
        started = _own(agent).works("start")
        session = replace(started, is_started=True, node_id=self.node_id, incarnation=agent.incarnation)
        return replace(agent, session=session)


class SessionSnapshotSaved(SessionReport, frozen=True, kw_only=True):
    """The other side has the context that belongs to a checkpoint, as `version` of the task.

    If the checkpoint has a label, the other side has one of its own too, `context_checkpoint_id`. `number` counts what
    was to be sent, `unsent` is how much of it is left.
    """

    type: ClassVar[str] = "agent.session.snapshot.saved"
    checkpoint_id: str
    label: str | None
    version: int | str | None
    context_checkpoint_id: str | None
    number: int
    unsent: int

    def decide(self, agent: AgentState, context: Context, /) -> list[AgentEvent]:
        """Also true of an entry that a newer one has taken the place of meanwhile."""
        return _arrived(self, agent)

    def evolve(self, agent: AgentState, /) -> AgentState:
        """It has arrived, and the other side's name for it is known."""
        saved = SavedSnapshot(version=self.version, context_checkpoint_id=self.context_checkpoint_id)
        arrived = _own(agent).works("snapshot").arrived(self.number)
        return replace(agent, session=arrived.with_saved(self.checkpoint_id, saved))


class SessionRolledBack(SessionReport, frozen=True, kw_only=True):
    """The other side has gone back to what it has of a checkpoint that was restored, and calls `target`."""

    type: ClassVar[str] = "agent.session.rolled_back"
    checkpoint_id: str
    target: str
    backup_checkpoint_id: str | None
    number: int
    unsent: int

    def decide(self, agent: AgentState, context: Context, /) -> list[AgentEvent]:
        """The other side is where the agent is."""
        return _arrived(self, agent)

    def evolve(self, agent: AgentState, /) -> AgentState:
        """It has arrived."""
        return replace(agent, session=_own(agent).works("rollback").arrived(self.number))


class SessionRecovered(SessionReport, frozen=True, kw_only=True):
    """The other side had named the session as interrupted; `node_id` has taken it up again."""

    type: ClassVar[str] = "agent.session.recovered"
    node_id: str
    recovery_type: str
    last_activity: str | None

    def decide(self, agent: AgentState, context: Context, /) -> list[AgentEvent]:
        """Once for each process of the agent: a node that begins anew gives it another one."""
        session = session_of(agent, self.session_id)
        is_news = session.is_open and session.incarnation < agent.incarnation
        return [replace(self, task_id=session.task_id)] if is_news else []

    def evolve(self, agent: AgentState, /) -> AgentState:
        """It belongs to the process there is now."""
        return replace(agent, session=replace(_own(agent), node_id=self.node_id, incarnation=agent.incarnation))


class SessionEnded(SessionReport, frozen=True, kw_only=True):
    """The agent has ended, and its session with it. With an `error`, the other side could not be told.

    `unsent` is how much it will never hear of.
    """

    type: ClassVar[str] = "agent.session.ended"
    reason: str
    unsent: int
    error: ErrorDetail | None

    def decide(self, agent: AgentState, context: Context, /) -> list[AgentEvent]:
        """A session that has never started needs no end."""
        session = session_of(agent, self.session_id)
        if not agent.has_ended:
            refuse(agent, "end the session of", "its session ends with it")
        reason = agent.terminating or agent.status.value
        ended = replace(self, task_id=session.task_id, reason=reason, unsent=len(session.unsent))
        return [ended] if session.is_open else []

    def evolve(self, agent: AgentState, /) -> AgentState:
        """Nothing is left to be said."""
        return replace(agent, session=Session(task_id=_own(agent).task_id, is_started=True, is_ended=True))


class SessionDegraded(SessionReport, frozen=True, kw_only=True):
    """Something could not be said to the other side: start, snapshot, rollback, recovery or heartbeat.

    It is tried again, and not recorded again while it fails in the same way. `gave_up` is set if it is not tried
    again, because the other side works and does not want it: the number of what was to be sent.
    """

    type: ClassVar[str] = "agent.session.degraded"
    operation: str
    code: str
    message: str
    gave_up: int | None

    def decide(self, agent: AgentState, context: Context, /) -> list[AgentEvent]:
        """Once for each thing that goes wrong in an outage, however often it is tried."""
        session = session_of(agent, self.session_id)
        is_news = session.is_news(self.operation, self.code, self.message)
        is_over = self.gave_up is not None and self.gave_up <= session.sent
        is_known = session.is_ended or is_over or (not is_news and self.gave_up is None)
        return [] if is_known else [replace(self, task_id=session.task_id)]

    def evolve(self, agent: AgentState, /) -> AgentState:
        """It fails, and what was given up counts as said."""
        failing = _own(agent).fails(self.operation, self.code, self.message)
        return replace(agent, session=failing if self.gave_up is None else failing.arrived(self.gave_up))


class SessionRestored(SessionReport, frozen=True, kw_only=True):
    """The other side answers again, and nothing is left to be said."""

    type: ClassVar[str] = "agent.session.restored"

    def decide(self, agent: AgentState, context: Context, /) -> list[AgentEvent]:
        """Only worth recording if something had failed."""
        session = session_of(agent, self.session_id)
        return [] if session.is_ended or not session.failures else [replace(self, task_id=session.task_id)]

    def evolve(self, agent: AgentState, /) -> AgentState:
        """Nothing fails."""
        return replace(agent, session=replace(_own(agent), failures={}, told={}))


def _arrived(report: SessionSnapshotSaved | SessionRolledBack, agent: AgentState) -> list[AgentEvent]:
    session = session_of(agent, report.session_id)
    arrived = replace(report, task_id=session.task_id, unsent=session.left_after(report.number))
    return [arrived] if session.expects(report.number) else []


def told_of_checkpoint(
    agent: AgentState, kind: Literal["snapshot", "rollback"], checkpoint_id: str, label: str | None
) -> Session | None:
    """The agent's session once it is to tell the other side of a checkpoint that was stored or brought back."""
    session = agent.session
    if session is None or session.is_ended:
        return session
    return session.queue(kind, checkpoint_id, label, _context(agent))


def _context(agent: AgentState) -> SessionContext:
    """What the agent is doing: its first execution, what it did last in it, and what holds it up."""
    under_way = list(agent.executions.values())
    blockers = [f"execution {key} needs a person: did its tool take effect?" for key in agent.held]
    if not under_way:
        return SessionContext(blockers=tuple(blockers))
    first, *others = under_way
    blockers += [
        f"waits for signal {waiting.request['name']!r}"
        for waiting in first.waiting.values()
        if waiting.kind == "signal"
    ]
    return SessionContext(
        working_on=f"execution {first.execution_id}: {SessionContext.shortened(first.input)}",
        last_action=_last_action(first),
        next_step=f"execution {others[0].execution_id}" if others else None,
        blockers=tuple(blockers),
    )


def _last_action(execution: Execution) -> str | None:
    entry = next((entry for entry in reversed(execution.journal) if entry.kind != THREAD), None)
    if entry is None:
        return None
    is_tool = entry.kind == TOOL and isinstance(entry.request, dict)
    return f"tool {entry.request.get('tool')}" if is_tool else entry.kind
