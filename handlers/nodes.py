"""Nodes come and go: this one says so of itself, notices when others are gone, and takes over what they kept.

Whoever has the partition of an agent's commands takes the agent over, so that its commands are decided where it runs.
What is to be done follows from the read model and the leases alone, so it does no harm to look again, late or twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from functools import partial
from typing import Protocol

import structlog

from l02.bus.commands.leases import Leases
from l02.bus.commands.partitions import Partitions, command_partition
from l02.bus.log.contained import contained
from l02.bus.log.repository import Repository
from l02.bus.wire.subjects import AggregateId
from l02.domain.kernel.message import Command, Report
from l02.domain.node.membership import Leave, NodeJoined, ReportLost
from l02.domain.node.state import NodeState

_LOOK_AGAIN_SECONDS = 5.0
# Mostly it is a node's coming or going that makes it look; this is for what was not to be done then.
_LOOK_SECONDS = 30.0
_AT_ONCE = 32
_log = structlog.get_logger()


class Placements(Protocol):
    """Where the read model says that things are, as of all that had happened when it was asked."""

    async def nodes_missing(self, live: Collection[str]) -> list[str]:
        """Nodes that joined, have not left, and are not among `live`."""

    async def agents_missing(self, live: Collection[str]) -> list[tuple[str, str]]:
        """Agents that need a node which is not among `live`, each with that."""


class Nodes:
    """One per node."""

    def __init__(
        self,
        leases: Leases,
        partitions: Partitions,
        nodes: Repository[NodeState],
        placements: Placements,
        take_over: Callable[[str, str], Awaitable[None]],
    ) -> None:
        """`take_over` is given an agent and the node that had something to do for it."""
        self._leases = leases
        self._partitions = partitions
        self._nodes = nodes
        self._placements = placements
        self._take_over = take_over
        self._round = asyncio.Event()
        self._slots = asyncio.Semaphore(_AT_ONCE)
        leases.on_round(self._round.set)

    async def run(self, join: NodeJoined, ready: Callable[[], None]) -> None:
        """Join, and look after the others, until cancelled."""
        await self._report(self._leases.node_id, join)
        ready()
        seen: frozenset[str] = frozenset()
        due = 0.0
        while True:
            await self._round.wait()
            self._round.clear()
            now = asyncio.get_running_loop().time()
            if not self._leases.is_settled or (self._leases.live == seen and now < due):
                continue
            seen = self._leases.live
            try:
                is_quiet = await self._look(join)
            except Exception:
                _log.exception("looking after other nodes failed; trying again")
                is_quiet = False
            due = now + (_LOOK_SECONDS if is_quiet else _LOOK_AGAIN_SECONDS)

    async def leave(self) -> None:
        """Say that this node stops. Its agents have no process any more."""
        await self._report(self._leases.node_id, Leave())

    async def _look(self, join: NodeJoined) -> bool:
        """Take over what falls to this node; whether there was nothing for any node."""
        live = self._leases.live
        await contained(partial(self._join_again, join), "reporting a node", join.node_id, again=False)
        for node_id in await self._placements.nodes_missing(live):
            _log.warning("a node is lost", node_id=node_id)
            await self._report(node_id, ReportLost(reported_by=self._leases.node_id))
        all_missing = await self._placements.agents_missing(live)
        missing = [
            (agent_id, node_id)
            for agent_id, node_id in all_missing
            if self._partitions.has(command_partition(AggregateId("agent", agent_id)))
        ]
        if missing:
            _log.warning("taking agents over", agents=len(missing))
        async with asyncio.TaskGroup() as tasks:
            for agent_id, node_id in missing:
                tasks.create_task(self._take(agent_id, node_id))
        return not all_missing

    async def _take(self, agent_id: str, node_id: str) -> None:
        async with self._slots:
            await contained(partial(self._take_over, agent_id, node_id), "taking an agent over", agent_id, again=False)

    async def _join_again(self, join: NodeJoined) -> None:
        if not (await self._nodes.load(join.node_id)).state.is_there:
            await self._nodes.record(join.node_id, join)

    async def _report(self, node_id: str, report: Command | Report) -> None:
        """Record it; a node of which the log has something that cannot be read is there, or gone, none the less."""
        await contained(partial(self._nodes.record, node_id, report), "reporting a node", node_id, again=False)
