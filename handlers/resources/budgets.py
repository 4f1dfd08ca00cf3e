"""Calls draw on budgets: on slices in hand while there is enough, else more is lent, at all levels at once."""

from __future__ import annotations

import asyncio
import math
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import structlog

from l02.bus.commands.leases import Leases
from l02.bus.commands.react import EventReader
from l02.bus.connection.bus import Bus
from l02.bus.log.repository import Repository
from l02.bus.log.turns import Turn, turn_of
from l02.bus.wire.codec import RecordedEvent
from l02.bus.wire.subjects import AggregateId
from l02.domain.budget.configuring import BudgetConfigured
from l02.domain.budget.granting import BudgetDenied, BudgetRaised
from l02.domain.budget.lending import BudgetRecalled, BudgetSettled
from l02.domain.budget.messages import BudgetEvent, after
from l02.domain.budget.resetting import BudgetReset, ResetDue
from l02.domain.budget.state import BudgetState
from l02.domain.inference import Drawn, Spending
from l02.domain.kernel.message import Event
from l02.domain.spending.exhausted import Exhausted
from l02.handlers.resources.borrowing import Borrower
from l02.handlers.resources.chains import Lineage, levels_of
from l02.handlers.resources.resets import set_timers
from l02.handlers.resources.slices import Slices

_RECALLED_SECONDS = 1.0
"""How long is waited for what other nodes hold and do not use."""
_LEAVE_SECONDS = 2.0
_HEARD = (BudgetConfigured, BudgetRaised, BudgetReset, BudgetDenied, BudgetSettled, BudgetRecalled)
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Refusal:
    """That so much could not be had: true while there is no news of the level, and nothing of it is reset (`until`)."""

    exhausted: Exhausted
    needed: Spending
    until: float


class Budgets:
    """One per node; made by `open_budgets`."""

    def __init__(self, bus: Bus, reader: EventReader, budgets: Repository[BudgetState], leases: Leases) -> None:
        self._bus = bus
        self._budgets = budgets
        self._leases = leases
        self._slices = Slices()
        self._borrower = Borrower(budgets, self._slices)
        self._chains: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._turns: dict[str, Turn] = {}
        self._news: defaultdict[str, int] = defaultdict(int)
        """How often there may have come to be more of a budget."""
        self._told: dict[str, asyncio.Event] = {}
        self._configured: dict[str, int] = {}
        self._refusals: dict[str, _Refusal] = {}
        self._as_of: WeakKeyDictionary[Exhausted, int] = WeakKeyDictionary()
        """What news of the level there had been when somebody was refused."""
        self._listener = reader.listener("budgets", _HEARD, self._hear)
        budgets.on_recorded(self._recorded)
        budgets.before_storing(self._set_timers)
        Lineage(budgets)

    async def reserve(self, budgets: tuple[str, ...], spending: Spending) -> tuple[Drawn, ...]:
        """Take so much from a slice of each of these budgets, and of all that they are parts of.

        Waits for the node's lease, for its turn, and while more is lent. Raises Exhausted if a level has not got it.
        """
        levels = self._chains.get(budgets)
        if levels is not None and self._is_in_term and self._slices.is_ready(levels, spending):
            return self._slices.draw(levels, spending, self._now())
        return await self._reserve(budgets, spending) if budgets else ()

    def settle(self, drawn: Sequence[Drawn], reserved: Spending, used: Spending) -> None:
        """A call that had `reserved` has ended and `used` so much; to be said once for each that was reserved."""
        for item in drawn:
            hand = self._slices.settle(item, reserved, used)
            if hand is None:
                continue
            if hand.closing:
                self._borrower.report_soon()
            elif item.budget in self._refusals or item.budget in self._told:
                self._tell(item.budget)

    def holds(self, drawn: Sequence[Drawn]) -> bool:
        """Whether these slices are still this node's: if not, the call on them is not made, and reserves again.

        To be asked when the call is on record and the lease is held, right before it leaves.
        """
        return not drawn or (self._is_in_term and all(self._slices.is_own(item.slice) for item in drawn))

    def is_own(self, slice_name: str) -> bool:
        """Whether a slice lent to this node is this process's, in this term of its lease."""
        return self._slices.is_own(slice_name)

    async def room(self, refused: Exhausted) -> None:
        """Wait until the level that has refused may have more: it is raised, reset, configured anew, or given back to.

        That is said too often rather than too seldom: reserve again.
        """
        level = refused.budget or ""
        while self._news[level] == self._as_of.get(refused):
            await self._told.setdefault(level, asyncio.Event()).wait()

    async def run(self, ready: Callable[[], None]) -> None:
        """Hear of budgets, and keep slices in order, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._borrower.keep())
            await self._listener.listen(ready)

    async def give_back(self) -> None:
        """Close what is in hand."""
        await self._borrower.give_back()

    async def _reserve(self, budgets: tuple[str, ...], spending: Spending) -> tuple[Drawn, ...]:
        patience = self._now() + _RECALLED_SECONDS
        while True:
            await self._in_term()
            levels = self._chains[budgets] = await levels_of(self._budgets, budgets, self._configured)
            try:
                return await self._draw(levels, spending)
            except Exhausted as refused:
                if not await self._is_given_back(refused, patience):
                    raise

    async def _draw(self, levels: Sequence[str], spending: Spending) -> tuple[Drawn, ...]:
        short = self._slices.short(levels, spending)
        while True:
            with self._slices.waiting(short, spending):
                async with AsyncExitStack() as turns:
                    for level in sorted(short):  # in one order, so that nobody waits in a circle
                        await turns.enter_async_context(turn_of(self._turns, level))
                    await self._in_term()
                    still = self._slices.short(levels, spending)
                    if still and still == short:  # else others need not wait for what is there by now
                        self._refuse_as_before(still, spending)
                        await self._borrow(still, spending)
                        still = self._slices.short(levels, spending)
                    if not still:
                        return self._slices.draw(levels, spending, self._now())
            short = still

    async def _borrow(self, levels: Sequence[str], spending: Spending) -> None:
        news = {level: self._news[level] for level in levels}
        try:
            await self._borrower.borrow(levels, spending)
        except Exhausted as refused:
            if (level := refused.budget) is not None:
                known = self._budgets.in_memory(level)
                until = min(known.state.reset_times, default=math.inf) if known is not None else 0.0
                self._as_of[refused] = news[level]
                self._refusals[level] = _Refusal(refused, spending, until)
            raise

    def _refuse_as_before(self, levels: Sequence[str], spending: Spending) -> None:
        """Who wants as much as one who was refused just now is refused, without asking the log again."""
        for level in levels:
            before = self._refusals.get(level)
            if before is None:
                continue
            if self._as_of[before.exhausted] != self._news[level] or time.time() >= before.until:
                del self._refusals[level]
            elif spending.covers(before.needed):
                raise before.exhausted

    async def _is_given_back(self, refused: Exhausted, patience: float) -> bool:
        """Whether other nodes have given back in time what they held; they were asked to."""
        known = self._budgets.in_memory(refused.budget or "")
        slices = known.state.slices.values() if known is not None else ()
        if not refused.shortage.is_passing or all(
            lent.holder == self._leases.node_id or not lent.held for lent in slices
        ):
            return False
        try:
            async with asyncio.timeout(max(patience - self._now(), 0)):
                await self.room(refused)
        except TimeoutError:
            return False
        return True

    @property
    def _is_in_term(self) -> bool:
        return self._leases.is_held and self._leases.term == self._slices.term

    async def _in_term(self) -> None:
        """Wait for the lease. What was lent in a term before is not this node's any more."""
        term = await self._leases.held()
        if term != self._slices.term:
            self._slices.forget(term)

    def _recorded(self, recorded: RecordedEvent) -> None:
        if isinstance(recorded.event, _HEARD):
            self._hear(recorded, True)

    def _hear(self, recorded: RecordedEvent, at_once: bool) -> None:
        """At once what was recorded here, all the rest by the node's reader."""
        if not at_once and recorded.metadata.actor == f"node/{self._leases.node_id}":
            return
        budget, event = recorded.aggregate.id, recorded.event
        pool = self._slices.pools.get(budget)
        if isinstance(event, BudgetConfigured):
            self._configured[budget] = recorded.sequence
            self._chains.clear()
            if pool is not None and pool.current is not None:
                pool.close(pool.current)
        if isinstance(event, BudgetRecalled):
            for name in event.slices if pool is not None else ():
                if pool is not None and name in pool.hands:
                    pool.close(pool.hands[name])
            self._borrower.report_soon()
        else:
            self._tell(budget)

    def _tell(self, budget: str) -> None:
        self._news[budget] += 1
        told = self._told.pop(budget, None)
        if told is not None:
            told.set()

    async def _set_timers(self, budget_id: str, events: Sequence[Event]) -> None:
        """Before they are stored, so that no crash comes in between: a timer that nobody wants does no harm."""
        known = self._budgets.in_memory(budget_id)
        before = known.state if known is not None else BudgetState()
        then = after(before, [event for event in events if isinstance(event, BudgetEvent)])
        ends = then.reset_times - before.reset_times
        await set_timers(self._bus, AggregateId("budget", budget_id), ResetDue, ends)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


@asynccontextmanager
async def open_budgets(
    bus: Bus, reader: EventReader, budgets: Repository[BudgetState], leases: Leases
) -> AsyncIterator[Budgets]:
    """What a node has in hand of budgets; given back when the context ends, if the event store answers."""
    opened = Budgets(bus, reader, budgets, leases)
    try:
        yield opened
    finally:
        try:
            async with asyncio.timeout(_LEAVE_SECONDS):
                await opened.give_back()
        except TimeoutError:
            _log.warning("slices of budgets are left to the journals: JetStream does not answer")
