"""The wiring table: which parts a node has, and what each of them is given. Nothing else builds them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from l02.bus.commands.announcer import OutcomeAnnouncer
from l02.bus.commands.leases import Leases
from l02.bus.commands.partitions import Partitions
from l02.bus.commands.processor import CommandProcessor
from l02.bus.commands.react import EventReader
from l02.bus.commands.service import Query
from l02.bus.connection.bus import Bus
from l02.bus.log.event_store import open_event_store
from l02.bus.log.reader import last_sequence
from l02.bus.log.repository import Repository
from l02.bus.log.snapshots import open_snapshots
from l02.domain.agent.state import AgentState
from l02.domain.aggregates import AGENT, AGGREGATES, BUDGET, NODE
from l02.handlers.executor.executor import Executor
from l02.handlers.lifecycle import Lifecycle
from l02.handlers.models.bridge import Models, open_models
from l02.handlers.nodes import Nodes
from l02.handlers.resources.actions import LimitActions
from l02.handlers.resources.budgets import Budgets, open_budgets
from l02.handlers.resources.chains import NamedBudgets
from l02.handlers.resources.defaults import LimitDefaults
from l02.handlers.resources.freeing import Freeing
from l02.handlers.resources.journals import Journals
from l02.handlers.resources.machine import MachineWatch
from l02.handlers.resources.reconciliation import Reconciliation
from l02.handlers.sandbox.processes import Processes
from l02.handlers.sandbox.sandboxes import Sandboxes
from l02.handlers.sessions import SessionBridge
from l02.handlers.state.forking import Forking
from l02.handlers.state.hot import open_hot_state
from l02.handlers.state.manager import StateManager
from l02.handlers.state.stores import open_checkpoints
from l02.handlers.tool_servers import ToolServers
from l02.node.placements import Placements
from l02.node.queries import query_table
from l02.node.session_server import open_session_bridge
from l02.node.settings import Settings
from l02.projections.projector.halting import keep_projecting
from l02.projections.projector.progress import Progress
from l02.projections.queries import ReadModel, open_read_model
from l02.projections.tables.definitions import TABLES
from l02.projections.tables.projector import TableProjector
from l02.projections.views.projector import VIEWS, ViewProjector
from l02.projections.views.rebuild import renew_views

_PRELOADED = ("l02.agent.runtime",)


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a node that run, and those that others ask."""

    node_id: str
    bus: Bus
    agents: Repository[AgentState]
    repositories: dict[str, Repository[Any]]
    """Of the aggregates that take commands from the wire, by their kind."""
    commands: CommandProcessor
    announcer: OutcomeAnnouncer
    reader: EventReader
    budgets: Budgets
    reconciliation: Reconciliation
    executor: Executor
    lifecycle: Lifecycle
    machine: MachineWatch
    state: StateManager
    sessions: SessionBridge | None
    models: Models
    nodes: Nodes
    placements: Placements
    limit_defaults: LimitDefaults
    limits: LimitActions
    freeing: Freeing
    tables: TableProjector
    views: ViewProjector
    progress: Progress
    partitions: Partitions
    read_model: ReadModel

    def query_table(self) -> dict[str, Query]:
        """The queries that the service answers."""
        return query_table(self.bus, self.read_model, self.state.newest, lambda: last_sequence(self.bus))

    def why_not_ready(self) -> list[str]:
        """What keeps the node from doing all its work now, in words."""
        halted = [f"{name} has halted: {reason}" for name, reason in self.progress.halted.items()]
        return halted if self.bus.client.is_connected else ["NATS is away", *halted]

    async def reconfigure(self, settings: Settings) -> None:
        """Go on with those of these settings that may change while the node runs."""
        self.limit_defaults.settings = settings.resources
        await self.models.set(settings.models)

    async def keep_tables(self) -> None:
        """Project into the tables until cancelled."""
        await keep_projecting(TABLES, self.tables.run, self.progress)

    async def keep_views(self) -> None:
        """Project into the live views until cancelled."""
        await renew_views(self.bus)
        await keep_projecting([VIEWS], self.views.run, self.progress)


@asynccontextmanager
async def wire(
    settings: Settings,
    bus: Bus,
    postgres_url: str,
    leases: Leases,
    partitions: Partitions,
    tasks: asyncio.TaskGroup,
) -> AsyncIterator[Parts]:
    """Build a node's parts; what they hold is given back when the context ends. `settings.data_dir` is absolute."""
    node_id, data_dir = leases.node_id, settings.data_dir
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_event_store(bus))
        snapshots = await stack.enter_async_context(open_snapshots(bus, AGENT))
        repositories = {
            aggregate.name: Repository(aggregate, store, node_id)
            for aggregate in AGGREGATES.values()
            if aggregate.takes_commands
        }
        agents = repositories[AGENT.name] = Repository(AGENT, store, node_id, snapshots)
        spent = await stack.enter_async_context(open_snapshots(bus, BUDGET))
        budgets_of_all = repositories[BUDGET.name] = Repository(BUDGET, store, node_id, spent)
        Forking(bus, agents)
        progress = Progress()
        read_model = await stack.enter_async_context(open_read_model(bus, postgres_url, progress))
        sandboxes = await stack.enter_async_context(Sandboxes(_PRELOADED))
        tool_servers = await stack.enter_async_context(ToolServers(data_dir / "tools", data_dir / "logs"))
        models = await stack.enter_async_context(open_models(settings.models))
        announcer = OutcomeAnnouncer(bus, partitions, tasks)
        for repository in repositories.values():
            repository.on_recorded(announcer.announce)
        hot = await stack.enter_async_context(open_hot_state(settings.state, bus))
        checkpoints = await stack.enter_async_context(
            open_checkpoints(settings.state, bus, postgres_url, settings.replicas)
        )
        placements = Placements(bus, read_model, progress)
        reader = EventReader(bus, agents)
        NamedBudgets(agents, budgets_of_all)
        budgets = await stack.enter_async_context(open_budgets(bus, reader, budgets_of_all, leases))
        limit_defaults = LimitDefaults(agents, budgets_of_all, models, settings.resources)
        limits = LimitActions(bus, reader, agents, budgets)
        freeing = Freeing(bus, reader, budgets_of_all, placements)
        executor = Executor(bus, reader, agents, tool_servers, leases, models, budgets, limits)
        processes = Processes(sandboxes, data_dir, models.require)
        lifecycle = Lifecycle(
            bus,
            reader,
            agents,
            processes,
            executor,
            node_id,
            settings.keep_files_days * 86_400.0,
            data_dir / "logs",
        )
        bridge = await stack.enter_async_context(
            open_session_bridge(reader, agents, settings.sessions, postgres_url, data_dir, node_id)
        )
        yield Parts(
            node_id=node_id,
            bus=bus,
            agents=agents,
            repositories=repositories,
            commands=CommandProcessor(bus, repositories, partitions),
            announcer=announcer,
            reader=reader,
            budgets=budgets,
            reconciliation=Reconciliation(
                budgets_of_all, Journals(bus, agents), leases, partitions, placements, budgets.is_own
            ),
            executor=executor,
            lifecycle=lifecycle,
            machine=MachineWatch(bus, agents, processes, settings.resources.usage_report_interval_seconds),
            state=StateManager(bus, reader, agents, checkpoints, hot, settings.state, node_id),
            sessions=bridge,
            models=models,
            nodes=Nodes(leases, partitions, Repository(NODE, store, node_id), placements, lifecycle.take_over),
            placements=placements,
            limit_defaults=limit_defaults,
            limits=limits,
            freeing=freeing,
            tables=TableProjector(bus, postgres_url, progress),
            views=ViewProjector(bus, progress),
            progress=progress,
            partitions=partitions,
            read_model=read_model,
        )
