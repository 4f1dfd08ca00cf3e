"""The session bridge of a node: a keeper for each agent whose session has something to tell, or to be kept alive.

Events only wake keepers. One that is lost, late or doubled does no harm; a node that begins anew looks at the sessions
that were open.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from l02.bus.background.backoff import Setbacks
from l02.bus.commands.react import EventReader
from l02.bus.log.repository import Repository
from l02.bus.wire.codec import RecordedEvent
from l02.domain.agent.life.restarts import AgentFailed
from l02.domain.agent.life.spawning import AgentSpawned
from l02.domain.agent.life.termination import AgentTerminated
from l02.domain.agent.saved.checkpoints import CheckpointCreated, CheckpointKept
from l02.domain.agent.saved.restoring import CheckpointRestored
from l02.domain.agent.state import AgentState
from l02.domain.specification import ToolServer
from l02.handlers.sessions.calls import Calls
from l02.handlers.sessions.keeper import SessionKeeper, Shared
from l02.handlers.sessions.orchestrator import Orchestrator
from l02.handlers.sessions.recovery import Recovery
from l02.handlers.sessions.settings import BridgeSettings
from l02.handlers.tool_servers import ToolServers

_log = structlog.get_logger()
_FIRST_RETRY_SECONDS = 1.0
_LONGEST_RETRY_SECONDS = 60.0
_ENDINGS = (AgentTerminated, AgentFailed)
_WAKING_EVENTS = (
    AgentSpawned,
    CheckpointCreated,
    CheckpointKept,
    CheckpointRestored,
    *_ENDINGS,
)


class SessionBridge:
    """One per node. `servers` is for the session server alone: its sandbox is that of the runtime's own programs."""

    def __init__(
        self,
        reader: EventReader,
        agents: Repository[AgentState],
        servers: ToolServers,
        server: ToolServer,
        settings: BridgeSettings,
        node_id: str,
    ) -> None:
        self._listener = reader.listener("sessions", _WAKING_EVENTS, self._heard)
        orchestrator = Orchestrator(Calls(servers, server, settings.heartbeat_timeout_seconds))
        self._shared = Shared(agents, orchestrator, Recovery(orchestrator), settings, node_id)
        self.latency = orchestrator.calls.latency
        self._keepers: dict[str, SessionKeeper] = {}
        self._tasks: asyncio.TaskGroup | None = None

    async def run(self, open_sessions: list[str], ready: Callable[[], None]) -> None:
        """Take up the sessions of these agents, which were open when the node began; keep all until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                tasks.create_task(self._shared.orchestrator.calls.start_when_held())
                for agent_id in open_sessions:
                    self._keeper(agent_id, was_at_work=True)
                await self._listener.listen(ready)
        finally:
            self._tasks = None
            self._keepers.clear()

    def _heard(self, recorded: RecordedEvent, recorded_here: bool) -> None:
        event = recorded.event
        has_process = isinstance(event, AgentSpawned)
        if isinstance(event, AgentSpawned) and event.node_id != self._shared.node_id:
            return
        over = isinstance(event, _ENDINGS)
        # The node that ends an agent of a lost one ends its session too.
        self._keeper(recorded.aggregate.id).wake(has_process=has_process, over=over, over_here=over and recorded_here)

    def _keeper(self, agent_id: str, *, was_at_work: bool = False) -> SessionKeeper:
        assert self._tasks is not None, "only a bridge that runs has keepers"
        keeper = self._keepers.get(agent_id)
        if keeper is None:
            keeper = self._keepers[agent_id] = SessionKeeper(self._shared, agent_id, was_at_work=was_at_work)
            name = f"session of {agent_id} on {self._shared.node_id}"
            self._tasks.create_task(self._keep(agent_id, keeper), name=name)
        return keeper

    async def _keep(self, agent_id: str, keeper: SessionKeeper) -> None:
        """Until the session needs no keeper. What fails for long, as on an agent that this node cannot read, is tried
        seldom, and told in full only when it is news.
        """
        setbacks = Setbacks(_FIRST_RETRY_SECONDS, _LONGEST_RETRY_SECONDS)
        while True:
            setbacks.begin()
            try:
                await keeper.run()
            except Exception as error:
                if setbacks.is_news(error):
                    _log.exception("keeping a session failed", agent_id=agent_id, again_in=setbacks.seconds)
                else:
                    _log.info(
                        "keeping a session still fails",
                        agent_id=agent_id,
                        error=repr(error),
                        again_in=setbacks.seconds,
                    )
                await setbacks.pause()
                continue
            if not keeper.is_woken:
                del self._keepers[agent_id]
                return
