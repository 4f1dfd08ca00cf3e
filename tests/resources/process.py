"""A node that does nothing but draw on a budget for calls of models, until it is killed.

Arguments: the server's URL, the node's id, the budget, and how many callers; without any it lives on. Its calls stand
in agents' journals as real ones do, and take a moment each. What a node reads of PostgreSQL is folded here from the
log.
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass

from l02.bus.background.cancelling import end
from l02.bus.commands.leases import Leases, hold_lease
from l02.bus.commands.partitions import open_partitions
from l02.bus.commands.react import EventReader
from l02.bus.connection.bus import Bus, connect
from l02.bus.log.event_store import open_event_store
from l02.bus.log.history import read_log_entries
from l02.bus.log.repository import Repository
from l02.bus.wire.codec import RecordedEvent
from l02.bus.wire.subjects import events_filter
from l02.domain.agent.life.spawning import Spawn
from l02.domain.agent.state import AgentState
from l02.domain.agent.work.executions import Execute
from l02.domain.agent.work.models import ModelCalled, ModelRequested
from l02.domain.aggregates import AGENT, AGGREGATES, BUDGET
from l02.domain.budget.state import BudgetState
from l02.domain.inference import Drawn, FinishReason, Spending
from l02.domain.specification import AgentSpecification
from l02.domain.spending.amounts import Amount
from l02.domain.spending.exhausted import Exhausted
from l02.handlers.resources.budgets import Budgets, open_budgets
from l02.handlers.resources.journals import Journals
from l02.handlers.resources.reconciliation import LentSlice, Reconciliation
from l02.projections.folds.budgets import BUDGET_FOLD, BudgetView

SPECIFICATION = AgentSpecification(name="caller", entrypoint="callers:agent", models=("small",))
AGENTS = 20
RESERVED = Spending(tokens=100, cost=50)
_CALLS = 4
_WAIT_SECONDS = 1.5


class LogViews:
    """Budgets as the log has them."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._after = 0
        self.views: dict[str, BudgetView] = {}
        self.history: list[BudgetView] = []

    async def look(self) -> None:
        more = True
        while more:
            entries, more = await read_log_entries(self._bus, events_filter("budget"), after=self._after)
            for entry in entries:
                assert isinstance(entry, RecordedEvent)
                self._after = entry.sequence
                view = BUDGET_FOLD.project(self.views.get(entry.aggregate.id), entry)
                self.views[view.id] = view
                self.history.append(view)

    async def slices_missing(self, live: Collection[str]) -> list[LentSlice]:
        await self.look()
        return [
            LentSlice(view.id, name, lent.holder, lent.sequence)
            for view in self.views.values()
            for name, lent in view.slices.items()
            if lent.holder not in live
        ]


@dataclass
class Part:
    """What a caller needs of a node."""

    bus: Bus
    leases: Leases
    agents: Repository[AgentState]
    repository: Repository[BudgetState]
    budgets: Budgets


@asynccontextmanager
async def node(url: str, node_id: str) -> AsyncIterator[Part]:
    """The part of a node that has to do with budgets."""
    async with (
        connect(url, name=node_id, aggregates=AGGREGATES) as bus,
        asyncio.TaskGroup() as tasks,
        hold_lease(bus, node_id, node_id, tasks) as leases,
        open_partitions(bus, leases, tasks) as partitions,
        open_event_store(bus) as store,
    ):
        agents, budgets = Repository(AGENT, store, node_id), Repository(BUDGET, store, node_id)
        reader = EventReader(bus, agents)
        async with open_budgets(bus, reader, budgets, leases) as opened:
            reconciliation = Reconciliation(
                budgets, Journals(bus, agents), leases, partitions, LogViews(bus), opened.is_own
            )
            await reader.open()
            running = [
                tasks.create_task(work) for work in (opened.run(lambda: None), reader.run(), reconciliation.run())
            ]
            yield Part(bus, leases, agents, budgets, opened)
            for task in running:
                await end(task)


async def call(part: Part, agent_id: str, number: int, budget: str, chance: random.Random) -> bool:
    """As the executor does it; whether there was enough in time."""
    drawn: tuple[Drawn, ...] = ()
    try:
        async with asyncio.timeout(_WAIT_SECONDS):
            while not drawn:
                try:
                    drawn = await part.budgets.reserve((budget,), RESERVED)
                except Exhausted as refused:
                    await part.budgets.room(refused)
    except TimeoutError:
        return False
    execution_id, reserved = f"x-{agent_id}", Amount.of(RESERVED)
    requested = ModelRequested(
        execution_id=execution_id,
        call=number,
        attempt=1,
        alias="small",
        sha256="0",
        request={},
        reserved=reserved,
        drawn=drawn,
        budgets=tuple(item.budget for item in drawn),
    )
    await part.agents.record(agent_id, requested)
    await part.leases.held()
    assert part.budgets.holds(drawn)
    await asyncio.sleep(chance.choice([0.0, 0.05, 0.5]))
    called = ModelCalled(
        execution_id=execution_id,
        call=number,
        attempt=1,
        alias="small",
        sha256="0",
        model="m",
        endpoint="e",
        input_tokens=chance.randint(0, 60),
        cached_tokens=0,
        output_tokens=chance.randint(0, 40),
        reasoning_tokens=0,
        estimated=False,
        cost_usd=chance.randint(0, 50) / 1e6,
        price=None,
        duration_seconds=0.1,
        attempts=1,
        finish_reason=FinishReason.STOP,
        ok=True,
        result={"text": ""},
        reserved=reserved,
        drawn=drawn,
    )
    await part.agents.record(agent_id, called)
    part.budgets.settle(drawn, RESERVED, called.used)
    return True


async def main(url: str, node_id: str, budget: str, callers: str) -> None:
    async with node(url, node_id) as part:
        for place in range(AGENTS):
            agent_id = f"{node_id}-{place}"
            await part.agents.record(agent_id, Spawn(spec=SPECIFICATION))
            await part.agents.record(agent_id, Execute(input=1), f"x-{agent_id}")
        print("ready", flush=True)

        async def caller(place: int) -> None:
            chance = random.Random(place)
            for number in range(place * _CALLS, (place + 1) * _CALLS):
                if not await call(part, f"{node_id}-{place % AGENTS}", number + 1, budget, chance):
                    return

        async with asyncio.TaskGroup() as tasks:
            for place in range(int(callers)):
                tasks.create_task(caller(place))
        if callers == "0":
            await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
