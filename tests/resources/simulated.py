"""Nodes, calls, deaths and what people say of budgets, over a log in memory and a clock that jumps.

The real classes that lend, draw, report and close, with nothing of NATS or PostgreSQL: so thousands of orders in which
things can happen take seconds. `test_two_nodes.py` has the same with processes that are killed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, cast

from l02.bus.commands.leases import Leases
from l02.bus.commands.partitions import Partitions
from l02.bus.commands.react import EventReader
from l02.bus.connection.bus import Bus
from l02.bus.log.repository import Repository
from l02.bus.wire.codec import EventDecoder, RecordedEvent
from l02.domain.aggregates import AGGREGATES, BUDGET
from l02.domain.budget.lending import BudgetReserved
from l02.domain.budget.state import BudgetState
from l02.domain.inference import Drawn, Spending
from l02.domain.spending.exhausted import Exhausted
from l02.handlers.resources.budgets import Budgets
from l02.handlers.resources.journals import Account, Call, Journals
from l02.handlers.resources.reconciliation import LentSlice, Reconciliation
from tests.event_store.memory import MemoryEventStore, MemoryLog


class JumpingLoop(asyncio.SelectorEventLoop):
    """Nobody waits: when nothing else is to be done, it is the time at which something is."""

    def __init__(self) -> None:
        self._at = 0.0
        super().__init__()

    def time(self) -> float:
        return self._at

    def _run_once(self) -> None:
        loop = cast(Any, self)
        if not loop._ready and loop._scheduled:
            self._at = max(self._at, loop._scheduled[0]._when)
        cast(Any, super())._run_once()


def run(work: Coroutine[Any, Any, None]) -> None:
    """Do it on such a clock."""
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        runner.run(work)


class _Silence:
    """A bus on which nothing needs to be said, and a reader that is not asked."""

    async def publish(self, *_: Any, **__: Any) -> None:
        """A timer."""

    def listener(self, *_: Any) -> None:
        """The world tells of events."""


class Lease:
    """A node's, in the world's hands."""

    def __init__(self, node_id: str, world: World) -> None:
        self.node_id = node_id
        self.world = world
        self.term = 1
        self.is_settled = True
        self._held = asyncio.Event()
        self._held.set()

    @property
    def is_held(self) -> bool:
        return self._held.is_set()

    @property
    def live(self) -> frozenset[str]:
        return frozenset(node_id for node_id, node in self.world.nodes.items() if node.lease.is_held)

    async def held(self) -> int:
        await self._held.wait()
        return self.term

    def lose(self) -> None:
        """The node is away, and does not know that yet."""
        self._held.clear()

    def take(self) -> None:
        """It is back."""
        if not self.is_held:
            self.term += 1
            self._held.set()

    def on_round(self, _: Callable[[], None]) -> None:
        """It is looked when the world wants it."""


@dataclass(eq=False)
class Journal:
    """What agents have on record: calls that are open, and what was spent by those that are not."""

    open: dict[Call, tuple[tuple[Drawn, ...], Spending]] = field(default_factory=dict)
    spent: list[tuple[tuple[Drawn, ...], Spending]] = field(default_factory=list)
    ended: dict[Call, Spending] = field(default_factory=dict)
    """What came of calls, where that is on record."""

    async def accounts(self, slices: Collection[str], since: int) -> dict[str, Account]:
        found = {name: Account() for name in slices}
        for drawn, used in self.spent:
            for item in drawn:
                if item.slice in found:
                    found[item.slice].used += used
        for call, (drawn, reserved) in self.open.items():
            for item in drawn:
                if item.slice in found:
                    found[item.slice].open[call] = (reserved, 0)
        return found

    async def follow(self, account: Account) -> None:
        await asyncio.sleep(0)
        for call, (reserved, _) in list(account.open.items()):
            if call not in self.open:
                account.used += self.ended.get(call, reserved)
                del account.open[call]

    def end(self, call: Call, used: Spending) -> None:
        """What came of it is on record."""
        drawn, _ = self.open.pop(call)
        self.ended[call] = used
        self.spent.append((drawn, used))

    def lose(self, call: Call) -> None:
        """Nobody knows what came of it: it was spent as it was reserved."""
        drawn, reserved = self.open.pop(call)
        self.spent.append((drawn, reserved))

    def spent_of(self, budget: str) -> Spending:
        used = [used for drawn, used in self.spent if any(item.budget == budget for item in drawn)]
        return reduce(Spending.__add__, used, Spending())

    def open_of(self, budget: str) -> Spending:
        held = [held for drawn, held in self.open.values() if any(item.budget == budget for item in drawn)]
        return reduce(Spending.__add__, held, Spending())


class Node:
    """A process."""

    def __init__(self, world: World, node_id: str) -> None:
        self.node_id = node_id
        self.world = world
        self.lease = Lease(node_id, world)
        self.repository = Repository(BUDGET, MemoryEventStore(world.log), node_id)
        silence = _Silence()
        leases = cast(Leases, self.lease)
        self.budgets = Budgets(cast(Bus, silence), cast(EventReader, silence), self.repository, leases)
        self.reconciliation = Reconciliation(
            self.repository,
            cast(Journals, world.journal),
            leases,
            cast(Partitions, _AllPartitions()),
            world,
            self.budgets.is_own,
        )
        self.tasks = {asyncio.create_task(self.budgets._borrower.keep())}

    def begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    def kill(self) -> None:
        """Nothing of it happens any more; what it has sent may arrive."""
        for task in [*self.tasks, *self.budgets._borrower._under_way]:
            task.cancel()

    async def call(
        self, budgets: tuple[str, ...], reserved: Spending, used: Spending, hesitates: float, seconds: float
    ) -> None:
        """As the executor does it: reserve, on record, made if the slices are still ours, on record, settle."""
        journal = self.world.journal
        self.world.calls += 1
        call = Call("a", self.node_id, self.world.calls, 1)
        try:
            drawn = await self.budgets.reserve(budgets, reserved)
        except Exhausted:
            self.world.refused += 1
            return
        self.world.reserved += 1
        await asyncio.sleep(hesitates)  # the append of what is asked; it may die here
        journal.open[call] = (drawn, reserved)
        await self.lease.held()
        if not self.budgets.holds(drawn):
            # It has not left: nothing was spent, and the record of that says so.
            journal.end(call, Spending())
            self.budgets.settle(drawn, reserved, Spending())
            return
        await asyncio.sleep(seconds)
        journal.end(call, used)
        await asyncio.sleep(0)
        self.budgets.settle(drawn, reserved, used)


class _AllPartitions:
    def has(self, _: str) -> bool:
        return True


class World:
    """The log, the nodes that are alive, and what must hold after each event."""

    def __init__(self, *node_ids: str) -> None:
        self.log = MemoryLog(EventDecoder(AGGREGATES.values()))
        self.journal = Journal()
        self.states: dict[str, BudgetState] = {}
        self.lent_at: dict[str, int] = {}
        self.nodes: dict[str, Node] = {}
        self.calls = 0
        self.refused = 0
        self.reserved = 0
        self._seen = 0
        self.outside = Repository(BUDGET, MemoryEventStore(self.log), "people")
        for node_id in node_ids:
            self.nodes[node_id] = Node(self, node_id)
        self._watching = asyncio.create_task(self._watch())

    async def close(self) -> None:
        for node in self.nodes.values():
            node.kill()
        self._watching.cancel()

    def kill(self, node_id: str) -> Node:
        node = self.nodes.pop(node_id)
        node.kill()
        return node

    def start(self, node_id: str) -> None:
        self.nodes[node_id] = Node(self, node_id)

    async def slices_missing(self, live: Collection[str]) -> list[LentSlice]:
        self.look()
        return [
            LentSlice(budget, name, lent.holder, self.lent_at[name])
            for budget, state in self.states.items()
            for name, lent in state.slices.items()
            if lent.holder not in live
        ]

    def look(self) -> None:
        """Take in what is new in the log; every event must leave the budget within its limits."""
        while self._seen < self.log.last:
            self._seen += 1
            recorded = self.log.at(self._seen)
            self._check(recorded)
            for node in self.nodes.values():
                node.budgets._hear(recorded, False)

    def _check(self, recorded: RecordedEvent) -> None:
        budget = recorded.aggregate.id
        before = self.states.get(budget, BudgetState())
        state = self.states[budget] = BUDGET.evolve(before, recorded.event)
        if isinstance(recorded.event, BudgetReserved):
            self.lent_at[recorded.event.slice] = recorded.sequence
            for limit, amount in state.allowed.items():
                window = state.windows[limit]
                assert window.used + window.reserved <= amount, (budget, limit, window, amount)
        for limit, window in state.windows.items():
            assert window.reserved == limit.of(state.reserved), (budget, limit, window, state.slices)

    async def _watch(self) -> None:
        while True:
            self.look()
            await asyncio.sleep(0.2)
