"""The wiring table: which parts a node has, and what each of them is given. Nothing else builds them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bus.announcer import OutcomeAnnouncer
from bus.commands import CommandProcessor
from bus.connection import Bus
from bus.event_store import open_event_store
from bus.reader import last_sequence
from bus.repository import Repository
from bus.service import Query
from bus.snapshots import open_snapshots
from domain.agent.state import AgentState, Status
from domain.aggregates import AGENT
from handlers.executor.executor import Executor
from handlers.lifecycle import Lifecycle
from handlers.processes import Processes
from handlers.sandbox.sandboxes import Sandboxes
from handlers.sessions import SessionBridge
from handlers.state.forking import Forking
from handlers.state.manager import StateManager
from handlers.state.settings import StateSettings
from handlers.state.stores import open_checkpoints
from handlers.tool_servers import ToolServers
from l02.queries import query_table
from l02.session_server import SessionSettings, open_session_bridge
from projections.progress import Progress
from projections.queries import ReadModel, open_read_model
from projections.table_projector import TableProjector
from projections.views import ViewProjector

__all__ = ["Parts", "wire"]

_PRELOADED = ("l02.agent.runtime",)


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a node that run, and those that others ask."""

    node_id: str
    bus: Bus
    agents: Repository[AgentState]
    commands: CommandProcessor
    announcer: OutcomeAnnouncer
    executor: Executor
    lifecycle: Lifecycle
    state: StateManager
    sessions: SessionBridge | None
    tables: TableProjector
    views: ViewProjector
    progress: Progress
    read_model: ReadModel

    @property
    def repositories(self) -> dict[str, Repository[Any]]:
        """By the kind of their aggregates."""
        return {AGENT.name: self.agents}

    def query_table(self, nodes: list[dict[str, Any]]) -> dict[str, Query]:
        """The queries that the service answers."""
        return query_table(self.bus, self.read_model, nodes, lambda: self.agents.newest_sequence)

    async def agents_to_recover(self) -> list[str]:
        """The agents that this node kept before, once the tables know all that had happened by now."""
        newest = await last_sequence(self.bus)
        await self.progress.wait_for("agents", newest)
        return await self.read_model.agents_of_node(self.node_id, [Status.PENDING, Status.RUNNING])


@asynccontextmanager
async def wire(
    bus: Bus,
    postgres_url: str,
    data_dir: Path,
    node_id: str,
    tasks: asyncio.TaskGroup,
    state: StateSettings,
    sessions: SessionSettings,
    replicas: int,
) -> AsyncIterator[Parts]:
    """Build a node's parts; what they hold is given back when the context ends."""
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_event_store(bus))
        snapshots = await stack.enter_async_context(open_snapshots(bus, AGENT))
        agents = Repository(AGENT, store, snapshots)
        Forking(bus, agents)
        progress = Progress()
        read_model = await stack.enter_async_context(open_read_model(bus, postgres_url, progress))
        sandboxes = await stack.enter_async_context(Sandboxes(_PRELOADED))
        tool_servers = await stack.enter_async_context(ToolServers(data_dir / "tools", log_dir=data_dir / "logs"))
        announcer = OutcomeAnnouncer(bus, tasks)
        agents.on_recorded(announcer.announce)
        checkpoints = await stack.enter_async_context(open_checkpoints(state, bus, postgres_url, replicas))
        executor = Executor(bus, agents, tool_servers, node_id)
        lifecycle = Lifecycle(bus, agents, Processes(sandboxes, data_dir), executor, node_id)
        bridge = await stack.enter_async_context(
            open_session_bridge(bus, agents, sessions, postgres_url, data_dir, node_id)
        )
        yield Parts(
            node_id=node_id,
            bus=bus,
            agents=agents,
            commands=CommandProcessor(bus, {AGENT.name: agents}, node_id),
            announcer=announcer,
            executor=executor,
            lifecycle=lifecycle,
            state=StateManager(bus, agents, checkpoints, state, node_id),
            sessions=bridge,
            tables=TableProjector(bus, postgres_url, progress),
            views=ViewProjector(bus, progress),
            progress=progress,
            read_model=read_model,
        )
