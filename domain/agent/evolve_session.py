"""How an agent's session follows from its events: its own, and those of the agent that the other side is to hear of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from l02.domain.agent import events as e
from l02.domain.agent.session import SavedSnapshot, Session, SessionContext
from l02.domain.agent.state import AgentState, Execution
from l02.domain.message import Event

__all__ = ["evolve_session"]


def evolve_session(before: AgentState, after: AgentState, event: Event) -> AgentState:
    """The state after `event` once the session has taken note of it too."""
    step = _EVOLVE.get(type(event))
    if step is None:
        return after
    session = step(before, event)
    return after if session is before.session else replace(after, session=session)


def _spawned(state: AgentState, event: e.AgentSpawned) -> Session:
    return state.session or Session(task_id=state.specification.session.task_id or event.agent_id)


def _checkpoint_created(state: AgentState, event: e.CheckpointCreated) -> Session | None:
    return _queue(state, "snapshot", event.checkpoint_id, event.label)


def _checkpoint_kept(state: AgentState, event: e.CheckpointKept) -> Session | None:
    """Only a label that is new is news to the other side."""
    if event.label == state.checkpoints[event.checkpoint_id].label:
        return state.session
    return _queue(state, "snapshot", event.checkpoint_id, event.label)


def _checkpoint_restored(state: AgentState, event: e.CheckpointRestored) -> Session | None:
    return _queue(state, "rollback", event.checkpoint_id, None)


def _queue(state: AgentState, kind: Any, checkpoint_id: str, label: str | None) -> Session | None:
    session = state.session
    if session is None or session.is_ended:
        return session
    return session.queue(kind, checkpoint_id, label, _context(state))


def _context(state: AgentState) -> SessionContext:
    """What the agent is doing: its first execution, what it did last in it, and what holds it up."""
    under_way = list(state.executions.values())
    blockers = [f"execution {key} needs a person: did its tool take effect?" for key in state.held]
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
    if not execution.journal:
        return None
    entry = execution.journal[-1]
    return f"tool {entry.request['tool']}" if entry.kind == "tool" else entry.kind


def _own(step: Callable[[Session, Any, AgentState], Session]) -> Callable[[AgentState, Any], Session]:
    def of_state(state: AgentState, event: Any) -> Session:
        assert state.session is not None, "a session's own events follow that of the process it belongs to"
        return step(state.session, event, state)

    return of_state


def _started(session: Session, event: e.SessionStarted, state: AgentState) -> Session:
    return replace(session.works("start"), is_started=True, node_id=event.node_id, incarnation=state.incarnation)


def _snapshot_saved(session: Session, event: e.SessionSnapshotSaved, state: AgentState) -> Session:
    saved = SavedSnapshot(version=event.version, context_checkpoint_id=event.context_checkpoint_id)
    return session.works("snapshot").arrived(event.number).with_saved(event.checkpoint_id, saved)


def _rolled_back(session: Session, event: e.SessionRolledBack, state: AgentState) -> Session:
    return session.works("rollback").arrived(event.number)


def _recovered(session: Session, event: e.SessionRecovered, state: AgentState) -> Session:
    return replace(session, node_id=event.node_id, incarnation=state.incarnation)


def _ended(session: Session, event: e.SessionEnded, state: AgentState) -> Session:
    return Session(task_id=session.task_id, is_started=True, is_ended=True)


def _degraded(session: Session, event: e.SessionDegraded, state: AgentState) -> Session:
    failing = session.fails(event.operation, event.code, event.message)
    return failing if event.gave_up is None else failing.arrived(event.gave_up)


def _restored(session: Session, event: e.SessionRestored, state: AgentState) -> Session:
    return replace(session, failures={}, told={})


_EVOLVE: dict[type[Event], Callable[[AgentState, Any], Session | None]] = {
    e.AgentSpawned: _spawned,
    e.CheckpointCreated: _checkpoint_created,
    e.CheckpointKept: _checkpoint_kept,
    e.CheckpointRestored: _checkpoint_restored,
    e.SessionStarted: _own(_started),
    e.SessionSnapshotSaved: _own(_snapshot_saved),
    e.SessionRolledBack: _own(_rolled_back),
    e.SessionRecovered: _own(_recovered),
    e.SessionEnded: _own(_ended),
    e.SessionDegraded: _own(_degraded),
    e.SessionRestored: _own(_restored),
}
