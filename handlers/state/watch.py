"""Watches the agents that have a process here: checkpoints at an interval, and suspension of those with nothing to do.

It hears what this node records, which is all that such an agent does; what others have decided meanwhile, the agent's
own decision takes into account. Nothing is lost with it: a new process is watched anew.
"""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass

import structlog

from l02.bus.log.repository import Repository
from l02.bus.wire.codec import RecordedEvent
from l02.domain.agent.life.restarts import AgentFailed
from l02.domain.agent.life.spawning import AgentSpawned
from l02.domain.agent.life.suspension import AgentSuspended, SuspendIdle
from l02.domain.agent.life.termination import AgentTerminated
from l02.domain.agent.saved.checkpoints import CheckpointRequested
from l02.domain.agent.saved.restoring import CheckpointRestored
from l02.domain.agent.state import AgentState
from l02.domain.agent.work.effects import EffectRecorded, StepsRecorded, ToolCalled
from l02.domain.agent.work.executions import ExecutionCompleted, ExecutionFailed
from l02.domain.agent.work.signals import SignalReceived
from l02.handlers.state.settings import StateSettings

_LOOK_SECONDS = 0.5
_GONE = (AgentSuspended, AgentTerminated, AgentFailed)
_WORK = (
    ExecutionCompleted,
    ExecutionFailed,
    ToolCalled,
    EffectRecorded,
    StepsRecorded,
    SignalReceived,
    CheckpointRestored,
)
_log = structlog.get_logger()


@dataclass(slots=True)
class _Watched:
    last_heard: float
    changed_since: float | None
    idle_after: float | None = None
    """Seconds, by its specification; None before that was looked up. 0: never."""

    def has_changed(self, now: float, interval: float) -> bool:
        """Whether it is time for a checkpoint."""
        return bool(interval) and self.changed_since is not None and now - self.changed_since >= interval

    def is_idle(self, now: float) -> bool:
        """Whether nothing has been heard of it for long."""
        return bool(self.idle_after) and now - self.last_heard >= (self.idle_after or 0.0)


class Watch:
    """One per node."""

    def __init__(self, agents: Repository[AgentState], settings: StateSettings, node_id: str) -> None:
        self._agents = agents
        self._settings = settings
        self._node_id = node_id
        self._watched: dict[str, _Watched] = {}

    def hear(self, recorded: RecordedEvent) -> None:
        """Of an event that this node has recorded."""
        event, agent_id = recorded.event, recorded.aggregate.id
        now = asyncio.get_running_loop().time()
        if isinstance(event, AgentSpawned):
            if event.node_id == self._node_id:
                self._watched[agent_id] = _Watched(last_heard=now, changed_since=now)
        elif isinstance(event, _GONE):
            self._watched.pop(agent_id, None)
        elif isinstance(event, _WORK):
            watched = self._watched.get(agent_id)
            if watched is not None:
                watched.last_heard = now
                if watched.changed_since is None:
                    watched.changed_since = now

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            now = asyncio.get_running_loop().time()
            interval = self._settings.auto_checkpoint_interval_seconds
            due = [
                (agent_id, watched)
                for agent_id, watched in self._watched.items()
                if watched.idle_after is None or watched.has_changed(now, interval) or watched.is_idle(now)
            ]
            for agent_id, watched in due:
                try:
                    await self._look(agent_id, watched, now)
                except Exception:
                    _log.exception("watching an agent failed; it is tried again", agent_id=agent_id)

    async def _look(self, agent_id: str, watched: _Watched, now: float) -> None:
        state = (await self._agents.known(agent_id, 0)).state
        if not state.is_at_work_on(self._node_id):
            self._watched.pop(agent_id, None)
            return
        if watched.idle_after is None:
            watched.idle_after = state.specification.lifecycle.suspend_idle_after_seconds or 0.0
        if watched.has_changed(now, self._settings.auto_checkpoint_interval_seconds):
            watched.changed_since = None
            await self._agents.record(
                agent_id,
                CheckpointRequested(checkpoint_id=uuid.uuid4().hex, checkpoint_type="auto", node_id=self._node_id),
            )
        if watched.is_idle(now):
            watched.last_heard = now
            if not state.executions:
                await self._agents.record(
                    agent_id,
                    SuspendIdle(revision=state.revision, checkpoint_id=uuid.uuid4().hex),
                )
