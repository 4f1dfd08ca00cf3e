"""The state manager of a node: what agents' events ask of it is done at once, and again after a crash if need be.

It hears of what this process records at once; the node's reader brings what other nodes have recorded, and everything
that was not yet done when this node died.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

from l02.bus.background.cancelling import end
from l02.bus.commands.react import EventReader
from l02.bus.connection.bus import Bus
from l02.bus.log.contained import contained
from l02.bus.log.repository import Repository
from l02.bus.wire.codec import RecordedEvent
from l02.domain.agent.life.restarts import AgentFailed
from l02.domain.agent.life.termination import AgentTerminated
from l02.domain.agent.saved.checkpoints import CheckpointCreated, CheckpointExpired, CheckpointRequested
from l02.domain.agent.saved.restoring import RestoreRequested
from l02.domain.agent.state import AgentState, NewestState
from l02.handlers.state.checkpoint_store import CheckpointStore
from l02.handlers.state.checkpoints import Checkpoints
from l02.handlers.state.hot import HotState
from l02.handlers.state.newest import Newest
from l02.handlers.state.retention import Retention
from l02.handlers.state.settings import StateSettings
from l02.handlers.state.watch import Watch

_EVENTS = (
    CheckpointRequested,
    CheckpointCreated,
    CheckpointExpired,
    RestoreRequested,
    AgentTerminated,
    AgentFailed,
)
_REMEMBERED = 10_000


class StateManager:
    """One per node; `run` it before commands are taken."""

    def __init__(
        self,
        bus: Bus,
        reader: EventReader,
        agents: Repository[AgentState],
        store: CheckpointStore,
        hot: HotState,
        settings: StateSettings,
        node_id: str,
    ) -> None:
        self._agents = agents
        self._node_id = node_id
        self._checkpoints = Checkpoints(bus, agents, store, node_id)
        self._retention = Retention(bus, settings)
        self._watch = Watch(agents, settings, node_id)
        self._newest = Newest(agents, hot, node_id)
        self._tasks: asyncio.TaskGroup | None = None
        self._known: OrderedDict[str, asyncio.Task[None]] = OrderedDict()
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._listener = reader.listener("state", _EVENTS, self._begin)
        agents.on_recorded(self._watch.hear)
        agents.on_recorded(self._newest.hear)

    async def run(self, ready: Callable[[], None]) -> None:
        """Until cancelled; what is under way then is done when the node is there again."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            watching = (tasks.create_task(self._watch.run()), tasks.create_task(self._newest.run()))
            try:
                await self._listener.listen(ready)
            finally:
                self._tasks = None
                for task in (*watching, *self._known.values()):
                    await end(task)

    async def newest(self, agent_id: str) -> NewestState | None:
        """The agent's newest state (see `Newest.read`)."""
        return await self._newest.read(agent_id)

    def _begin(self, recorded: RecordedEvent, recorded_here: bool) -> asyncio.Task[None] | None:
        """See to an event, unless this process has or does. Of one not `recorded_here` another may have begun to."""
        assert self._tasks is not None, "only one that runs listens"
        task = self._known.get(recorded.event_id)
        if task is None:
            action = self._action(recorded, not recorded_here)
            if action is None:
                return None
            task = self._known[recorded.event_id] = self._tasks.create_task(self._in_turn(recorded, action))
        while len(self._known) > _REMEMBERED and next(iter(self._known.values())).done():
            self._known.popitem(last=False)
        return task

    def _action(self, recorded: RecordedEvent, heard_late: bool) -> Callable[[], Coroutine[Any, Any, None]] | None:
        match recorded.event:
            case CheckpointRequested(node_id=self._node_id) as event:
                return partial(self._checkpoints.take, recorded, event, perhaps_again=heard_late)
            case RestoreRequested(node_id=self._node_id) as event:
                return partial(self._checkpoints.restore, recorded, event)
            case CheckpointExpired() as event:
                return partial(self._expired, recorded, event)
            case CheckpointCreated() | AgentTerminated() | AgentFailed():
                return partial(self._look, recorded)
            case _:
                return None

    async def _expired(self, recorded: RecordedEvent, event: CheckpointExpired) -> None:
        await self._checkpoints.delete(event)
        await self._look(recorded)

    async def _look(self, recorded: RecordedEvent) -> None:
        agent_id = recorded.aggregate.id
        await self._retention.look(agent_id, (await self._agents.known(agent_id, recorded.sequence)).state)

    async def _in_turn(self, recorded: RecordedEvent, action: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """One thing at a time for each agent; what fails though it should not is tried again."""
        turn = self._turns.setdefault(recorded.aggregate.id, asyncio.Lock())
        async with turn:
            await contained(action, f"what follows on {recorded.event.type}", recorded.aggregate.id)
