"""One agent's session, kept by the agent's node: it looks at what the other side has yet to be told, and tells it.

What is to be told follows from the agent's state, so a keeper that is cut off is replaced by one that looks again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from l02.bus.log.repository import Repository
from l02.domain.agent.session import SavedSnapshot, Session, Unsent
from l02.domain.agent.sessions import (
    SessionDegraded,
    SessionEnded,
    SessionRecovered,
    SessionRestored,
    SessionRolledBack,
    SessionSnapshotSaved,
    SessionStarted,
)
from l02.domain.agent.state import AgentState, ErrorDetail
from l02.domain.errors import ErrorCode
from l02.domain.kernel.message import Report
from l02.handlers.sessions import words
from l02.handlers.sessions.calls import CallFailed, Refused
from l02.handlers.sessions.orchestrator import Orchestrator, TaskUnknown
from l02.handlers.sessions.recovery import Recovery
from l02.handlers.sessions.settings import BridgeSettings

_CODES = {
    "start": ErrorCode.SESSION_START_FAILED,
    "heartbeat": ErrorCode.HEARTBEAT_FAILED,
    "snapshot": ErrorCode.SNAPSHOT_SAVE_FAILED,
    "rollback": ErrorCode.SNAPSHOT_SAVE_FAILED,
    "end": ErrorCode.SNAPSHOT_SAVE_FAILED,
    "recovery": ErrorCode.RECOVERY_CHECK_FAILED,
}


@dataclass(frozen=True, slots=True)
class Shared:
    """What all keepers of a node have in common."""

    agents: Repository[AgentState]
    orchestrator: Orchestrator
    recovery: Recovery
    settings: BridgeSettings
    node_id: str


@dataclass(frozen=True, slots=True)
class _Step:
    """One thing to be told; `entry` if it is one that waits in the session."""

    operation: str
    take: Callable[[], Awaitable[None]]
    entry: Unsent | None = None


@dataclass(frozen=True, slots=True)
class _Found:
    """The agent as a look has found it; without a step there is nothing to be told at present."""

    state: AgentState
    session: Session
    step: _Step | None


class SessionKeeper:
    """Use `run` as a task. `was_at_work` if the agent was so before this node began."""

    def __init__(self, shared: Shared, agent_id: str, *, was_at_work: bool) -> None:
        self._shared = shared
        self._agent_id = agent_id
        self._may_be_lost = was_at_work
        self._has_process = False
        self._has_looked = False
        self._is_over_here = False
        self._was_over = False
        self._wake = asyncio.Event()
        self._over = asyncio.Event()
        self._failures = 0
        self._refusals = 0
        self._loop = asyncio.get_running_loop()
        self._begun_at = self._heard_at = self._loop.time()

    def wake(self, *, has_process: bool = False, over: bool = False, over_here: bool = False) -> None:
        """Something has happened to the agent: this node has given it a process, it is over, this node has ended it."""
        self._wake.set()
        self._has_process |= has_process
        self._is_over_here |= over_here
        if over:
            self._over.set()

    @property
    def is_woken(self) -> bool:
        """Whether something has happened since it last looked."""
        return self._wake.is_set()

    async def run(self) -> None:
        """Until the session needs no keeper. Only one that is needed makes the session server run."""
        found = await self._look()
        if found is None:
            return
        with self._shared.orchestrator.calls.hold():
            while found is not None:
                if found.step is not None:
                    await self._try(found.step, found.state, found.session)
                else:
                    await self._rest()
                found = await self._look()

    async def _look(self) -> _Found | None:
        """How things are and what is to be done; None if the session needs no keeper."""
        self._wake.clear()
        state = (await self._shared.agents.load(self._agent_id)).state
        session = state.session
        if session is None or not self._is_needed(state, session):
            return None
        if state.has_ended and not self._was_over:
            self._was_over, self._failures = True, 0
        if not self._has_looked:
            self._has_looked = True
            self._may_be_lost |= session.is_open and session.node_id != self._shared.node_id
        step = self._next(state, session)
        if step is None and state.is_suspended:
            return None
        return _Found(state, session, step)

    def _is_needed(self, state: AgentState, session: Session) -> bool:
        if session.is_ended or (state.node_id != self._shared.node_id and not self._is_over_here):
            return False
        return session.is_started or state.is_at_work

    def _next(self, state: AgentState, session: Session) -> _Step | None:
        if state.is_at_work and not session.is_started:
            return _Step("start", lambda: self._start(state, session))
        wonders = state.is_at_work and self._may_be_lost and self._shared.settings.enable_recovery_check
        if wonders and self._has_process:
            return _Step("recovery", lambda: self._recover(state, session))
        # A snapshot that is sent before would tell the other side that the session is well.
        if session.unsent and not wonders:
            entry = session.unsent[0]
            return _Step(entry.kind, lambda: self._send(state, session, entry), entry)
        if state.has_ended:
            return _Step("end", lambda: self._end(state, session))
        if state.is_at_work and self._loop.time() >= self._heartbeat_due:
            return _Step("heartbeat", lambda: self._heartbeat(session))
        return None

    async def _try(self, step: _Step, state: AgentState, session: Session) -> None:
        try:
            await step.take()
        except CallFailed as failure:
            self._failures += 1
            self._refusals = self._refusals + 1 if isinstance(failure, Refused) else 0
            await self._note(step, state, session, failure)
            if not state.has_ended or self._failures <= self._shared.settings.max_retries:
                await self._pause()
        else:
            self._failures = self._refusals = 0
            self._heard_at = self._loop.time()

    async def _note(self, step: _Step, state: AgentState, session: Session, failure: CallFailed) -> None:
        """Record what could not be told. What an able server refuses, and what an ended agent leaves, is given up."""
        code = ErrorCode.SESSION_NOT_FOUND if isinstance(failure, TaskUnknown) else _CODES[step.operation]
        if state.has_ended and self._failures > self._shared.settings.max_retries:
            error = ErrorDetail(code=code.value, message=str(failure))
            await self._report(_ended(state, session, error))
            return
        is_unwanted = self._refusals > self._shared.settings.max_retries
        gave_up = step.entry.number if step.entry is not None and is_unwanted else None
        await self._report(
            SessionDegraded(
                session_id=_id(state),
                task_id=session.task_id,
                operation=step.operation,
                code=code.value,
                message=str(failure),
                gave_up=gave_up,
            )
        )
        if gave_up is not None:
            self._failures = self._refusals = 0

    async def _start(self, state: AgentState, session: Session) -> None:
        version = await self._shared.orchestrator.save(
            "start", session.task_id, _id(state), words.at_start(self._agent_id, state), "the agent has begun"
        )
        await self._report(
            SessionStarted(
                session_id=_id(state), task_id=session.task_id, node_id=self._shared.node_id, version=version
            )
        )
        self._may_be_lost = False

    async def _recover(self, state: AgentState, session: Session) -> None:
        """Take the session up again if the other side names it, and say so there: mark it, and be heard of."""
        orchestrator, session_id = self._shared.orchestrator, _id(state)
        lost = await self._shared.recovery.find(session_id, self._begun_at)
        if lost is not None:
            await self._report(
                SessionRecovered(
                    session_id=session_id,
                    task_id=session.task_id,
                    node_id=self._shared.node_id,
                    recovery_type=lost.recovery_type,
                    last_activity=None if lost.last_activity is None else str(lost.last_activity),
                )
            )
            await orchestrator.mark_recovered(session_id)
            updates = words.at_start(self._agent_id, state)
            await orchestrator.save("recovery", session.task_id, session_id, updates, "the agent was recovered")
        self._may_be_lost = False

    async def _send(self, state: AgentState, session: Session, entry: Unsent) -> None:
        known = session.saved.get(entry.checkpoint_id)
        report: Report
        if entry.kind == "rollback" and known is not None and known.has_name:
            report = await self._roll_back(state, session, entry, known)
        else:
            report = await self._snapshot(state, session, entry)
        await self._report(report)

    async def _roll_back(self, state: AgentState, session: Session, entry: Unsent, known: SavedSnapshot) -> Report:
        """What an able server keeps refusing, as one that has the version no more, is saved anew instead."""
        try:
            target, backup = await self._shared.orchestrator.roll_back(session.task_id, _id(state), known)
        except Refused:
            if self._refusals < self._shared.settings.max_retries:
                raise
            return await self._snapshot(state, session, entry)
        return SessionRolledBack(
            session_id=_id(state),
            task_id=session.task_id,
            checkpoint_id=entry.checkpoint_id,
            number=entry.number,
            unsent=session.left_after(entry.number),
            target=target,
            backup_checkpoint_id=backup,
        )

    async def _snapshot(self, state: AgentState, session: Session, entry: Unsent) -> Report:
        """Save what belongs to a checkpoint; also one that is restored and that the other side has never heard of."""
        orchestrator = self._shared.orchestrator
        done = "created" if entry.kind == "snapshot" else "restored"
        summary = f"checkpoint {entry.checkpoint_id} {done}"
        updates = words.at_checkpoint(self._agent_id, state, entry)
        version = await orchestrator.save(entry.kind, session.task_id, _id(state), updates, summary)
        theirs = None
        if entry.label is not None:
            theirs = await orchestrator.create_checkpoint(session.task_id, _id(state), entry.label, summary)
        return SessionSnapshotSaved(
            session_id=_id(state),
            task_id=session.task_id,
            checkpoint_id=entry.checkpoint_id,
            number=entry.number,
            unsent=session.left_after(entry.number),
            label=entry.label,
            version=version,
            context_checkpoint_id=theirs,
        )

    async def _end(self, state: AgentState, session: Session) -> None:
        updates = words.at_end(self._agent_id, state)
        await self._shared.orchestrator.save("end", session.task_id, _id(state), updates, "the agent has ended")
        await self._report(_ended(state, session, None))

    async def _heartbeat(self, session: Session) -> None:
        await self._shared.orchestrator.heartbeat(session.task_id)
        if session.failures:
            state = (await self._shared.agents.load(self._agent_id)).state
            await self._report(SessionRestored(session_id=_id(state), task_id=session.task_id))

    @property
    def _heartbeat_due(self) -> float:
        """Any answer counts as a heartbeat."""
        return self._heard_at + self._shared.settings.heartbeat_interval_seconds

    async def _rest(self) -> None:
        """Until something happens, or the next heartbeat."""
        await _wait(self._wake, self._heartbeat_due - self._loop.time())

    async def _pause(self) -> None:
        """Before the next attempt; only the end of the agent cuts it short, once."""
        already_over = self._over.is_set()
        pause = self._shared.settings.pause(self._failures)
        if already_over:
            await asyncio.sleep(pause)
        else:
            await _wait(self._over, pause)

    async def _report(self, report: Report) -> None:
        await self._shared.agents.record(self._agent_id, report)


def _ended(state: AgentState, session: Session, error: ErrorDetail | None) -> SessionEnded:
    return SessionEnded(
        session_id=_id(state),
        task_id=session.task_id,
        reason=state.terminating or state.status.value,
        unsent=len(session.unsent),
        error=error,
    )


def _id(state: AgentState) -> str:
    assert state.session_id is not None, "a session follows the agent's first process"
    return state.session_id


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(max(0.0, seconds)):
            await event.wait()
    except TimeoutError:
        return
