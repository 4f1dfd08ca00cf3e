"""An agent's newest state, for those who look often; and the hot copy of it for the agents that have a process here.

The copy is written when a state has changed, and gone with the process. Several changes while one is written are one
write, and what is written is the agent as it then is. Nothing waits for it, and nothing is lost with it.
"""

from __future__ import annotations

import asyncio

import msgspec
import structlog
from msgspec import UNSET

from l02.bus.log.loaded import Loaded
from l02.bus.log.repository import Repository
from l02.bus.wire.codec import UNDECODABLE, RecordedEvent
from l02.domain.agent.life.restarts import AgentFailed
from l02.domain.agent.life.spawning import AgentSpawned
from l02.domain.agent.life.suspension import AgentSuspended
from l02.domain.agent.life.termination import AgentTerminated
from l02.domain.agent.saved.restoring import CheckpointRestored
from l02.domain.agent.state import AgentState, NewestState
from l02.domain.agent.work.executions import ExecutionCompleted
from l02.domain.kernel.message import Event
from l02.handlers.state.hot import HotState

_log = structlog.get_logger()
_encoder = msgspec.json.Encoder()


class Newest:
    """One per node."""

    def __init__(self, agents: Repository[AgentState], hot: HotState, node_id: str) -> None:
        self._agents = agents
        self._hot = hot
        self._node_id = node_id
        self._waiting: dict[str, int] = {}
        self._some_wait = asyncio.Event()

    async def read(self, agent_id: str) -> NewestState | None:
        """The agent's state, None if there is no such agent: the copy, or what this node knows if that is newer.

        So who has heard from this node that work is done finds what it has changed; of an agent that runs on another
        node that may take a moment. Without a copy it is folded from its events. Failure E2117 if it has halted.
        """
        copy = await self._copy(agent_id)
        loaded = self._agents.in_memory(agent_id) if copy is not None else await self._agents.load(agent_id)
        if loaded is None or (copy is not None and copy.version >= loaded.version):
            return copy
        return _newest(loaded) if loaded.version else None

    async def _copy(self, agent_id: str) -> NewestState | None:
        found = await self._hot.get(agent_id)
        try:
            return None if found is None else msgspec.json.decode(found[1], type=NewestState)
        except UNDECODABLE as error:
            _log.warning("the hot state is none", agent_id=agent_id, error=repr(error))
            return None

    def hear(self, recorded: RecordedEvent) -> None:
        """Of an event that this node has recorded."""
        if _changes(recorded.event):
            self._waiting[recorded.aggregate.id] = recorded.sequence
            self._some_wait.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._some_wait.wait()
            self._some_wait.clear()
            while self._waiting:
                agent_id = next(iter(self._waiting))
                sequence = self._waiting.pop(agent_id)
                try:
                    await self._write(agent_id, sequence)
                except Exception:
                    _log.exception("hot state not written; the next change will be", agent_id=agent_id)

    async def _write(self, agent_id: str, sequence: int) -> None:
        loaded = await self._agents.known(agent_id, sequence)
        state = loaded.state
        if state.is_at_work_on(self._node_id):
            await self._hot.put(agent_id, loaded.version, _encoder.encode(_newest(loaded)))
        else:
            await self._hot.delete(agent_id)


def _newest(loaded: Loaded[AgentState]) -> NewestState:
    return NewestState(version=loaded.version, revision=loaded.state.revision, state=loaded.state.data)


def _changes(event: Event) -> bool:
    match event:
        case ExecutionCompleted(state=change):
            return change is not UNSET and bool(change.set or change.delete)
        case AgentSpawned() | CheckpointRestored() | AgentSuspended() | AgentTerminated() | AgentFailed():
            return True
        case _:
            return False
