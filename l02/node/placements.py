"""Which agents and nodes are in need of somebody, by the read model once it has caught up with the events."""

from __future__ import annotations

from collections.abc import Collection

from l02.bus.connection.bus import Bus
from l02.bus.log.reader import last_sequence
from l02.domain.agent.state import AT_WORK
from l02.domain.node.state import NodeStatus
from l02.handlers.resources.freeing import WaitingCall
from l02.handlers.resources.reconciliation import LentSlice
from l02.projections.projector.progress import Progress
from l02.projections.queries import ReadModel


class Placements:
    """Each answer is as of all that had happened when it was asked, or later."""

    def __init__(self, bus: Bus, read_model: ReadModel, progress: Progress) -> None:
        self._bus = bus
        self._read_model = read_model
        self._progress = progress

    async def agents_of(self, node_id: str) -> list[str]:
        """The agents that have, or are to have, a process on this node."""
        await self._catch_up("agents")
        return await self._read_model.agents_of_node(node_id, AT_WORK)

    async def agents_missing(self, live: Collection[str]) -> list[tuple[str, str]]:
        """Agents that need a node which is not among `live`, each with that."""
        await self._catch_up("agents")
        return await self._read_model.agents_missing(live)

    async def nodes_missing(self, live: Collection[str]) -> list[str]:
        """Nodes that joined, have not left, and are not among `live`."""
        await self._catch_up("nodes")
        nodes = await self._read_model.list_nodes()
        return [node.node_id for node in nodes if node.state is NodeStatus.JOINED and node.node_id not in live]

    async def slices_missing(self, live: Collection[str]) -> list[LentSlice]:
        """What budgets have lent to nodes that are not among `live`."""
        await self._catch_up("budgets")
        return [
            LentSlice(budget.id, name, lent.holder, lent.sequence)
            for budget in await self._read_model.budgets_missing(live)
            for name, lent in budget.slices.items()
            if lent.holder not in live
        ]

    async def _catch_up(self, table: str) -> None:
        await self._progress.wait_for(table, await last_sequence(self._bus))

    async def waiting_for(self, budget_id: str, as_of: int) -> list[WaitingCall]:
        """The calls of agents that wait for a budget, as of this event."""
        await self._progress.wait_for("agents", as_of)
        return [
            WaitingCall(agent.id, needed.spending, wait.action)
            for agent in await self._read_model.agents_waiting_for(budget_id)
            for wait in agent.waiting
            if wait.budget == budget_id and (needed := wait.needed_amount) is not None and wait.action is not None
        ]
