"""Slices are lent when there is not enough in hand, reported while they are drawn on, given back when they are not."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import partial

import structlog

from l02.bus.log.contained import contained
from l02.bus.log.repository import Repository
from l02.domain.budget.lending import Lend, Recall, Settle, refusal
from l02.domain.budget.state import BudgetState
from l02.domain.errors import ErrorCode, Failure
from l02.domain.inference import MAX_COUNT, Spending
from l02.domain.kernel.message import Command
from l02.domain.spending.exhausted import Exhausted
from l02.handlers.resources.slices import Hand, Pool, Slices

SLICE_SECONDS = 30.0
"""How long a slice is drawn on: so much of the log is read when its holder is lost."""
IDLE_SECONDS = 5.0
"""After which what nobody draws on is given back."""
REPORT_SECONDS = 4.0
"""How old what is known of a budget may be."""
_TICK_SECONDS = 0.25
_CALLS_AHEAD = 8
"""A first slice is to last for so many calls like the one that wants it."""
_log = structlog.get_logger()


class Borrower:
    """One per node."""

    def __init__(self, budgets: Repository[BudgetState], slices: Slices) -> None:
        self._budgets = budgets
        self._slices = slices
        self._due = asyncio.Event()
        self._under_way: set[asyncio.Task[None]] = set()

    async def borrow(self, levels: Sequence[str], needed: Spending) -> None:
        """Have a new slice lent at each level, all in one append. Raises Exhausted.

        Whoever wanted it may be gone before it comes: then it is there for others.
        """
        task = asyncio.create_task(self._borrow(levels, needed))
        self._under_way.add(task)
        task.add_done_callback(self._ended)
        await asyncio.shield(task)

    def report_soon(self) -> None:
        """There is news of a slice that is closing."""
        self._due.set()

    async def keep(self) -> None:
        """Report, and give back what is not used, until cancelled."""
        while True:
            try:
                async with asyncio.timeout(_TICK_SECONDS):
                    await self._due.wait()
            except TimeoutError:
                pass
            self._due.clear()
            now = self._now()
            for hand in self._slices.hands():
                if now - hand.drawn_at > IDLE_SECONDS or now - hand.lent_at > SLICE_SECONDS:
                    self._slices.pool(hand.budget).close(hand)
            await self._report(hand for hand in self._slices.hands() if self._is_news(hand, now))

    async def give_back(self) -> None:
        """Close all that is in hand. What calls under way have reserved is left to the journals."""
        while self._under_way:
            await asyncio.wait(self._under_way)
        for hand in self._slices.hands():
            self._slices.pool(hand.budget).close(hand)
        await self._report(self._slices.hands())

    async def _borrow(self, levels: Sequence[str], needed: Spending) -> None:
        """In the same append the slices in hand are given back, but for what calls under way have reserved of them."""
        token, now = self._slices.token, self._now()
        until = float(round(time.time() + SLICE_SECONDS))
        told: list[tuple[Hand, Settle]] = []
        lends: dict[str, Lend] = {}
        reports: dict[str, list[Command]] = {}
        for level in levels:
            pool = self._slices.pool(level)
            lends[level] = Lend(
                slice=self._slices.new_name(),
                holder=self._budgets.node_id,
                needed=needed,
                wanted=self._wanted(pool, needed, now),
                until=until,
            )
            if pool.current is not None:
                pool.close(pool.current)
            news = [(hand, hand.report()) for hand in pool.hands.values()]
            told += news
            reports[level] = [*(settle for hand, settle in news if settle != hand.reported), lends[level]]
        try:
            await self._record(reports)
        except Exhausted as refused:
            # Nothing of that is stored; whoever looks at the budget is to see what it was refused for.
            await self._report(hand for hand, settle in told if settle != hand.reported)
            refused = self._never(levels, needed) or refused
            if refused.budget is not None:
                await self._budgets.record(refused.budget, Recall(holder=self._budgets.node_id, needed=needed))
            raise refused from None
        except asyncio.CancelledError:
            # It may be stored or not: what is lent under these names is left to the journals.
            if token == self._slices.token:
                self._slices.forget(self._slices.term)
            raise
        if token != self._slices.token:
            return
        now = self._now()
        for hand, settle in told:
            self._slices.reported(hand, settle, now)
        for level, lend in lends.items():
            self._take(level, lend, now)
        self._due.set()

    def _never(self, levels: Sequence[str], needed: Spending) -> Exhausted | None:
        """One who can never have it at some level need not wait at another."""
        for level in levels:
            known = self._budgets.in_memory(level)
            refused = refusal(known.state, level, needed) if known is not None else None
            if refused is not None and not refused.shortage.could_fit:
                return refused
        return None

    async def _record(self, reports: Mapping[str, Sequence[Command]]) -> None:
        """However often others are first, or the event store does not answer."""
        while True:
            try:
                await self._budgets.record_together(reports)
                return
            except Failure as failure:
                if failure.code is not ErrorCode.CONFLICT:
                    raise

    def _take(self, level: str, lend: Lend, now: float) -> None:
        lent = self._budgets.in_memory(level)
        assert lent is not None and lend.slice in lent.state.slices
        amount, needed = lent.state.slices[lend.slice].held, lend.needed
        hand = Hand(
            budget=level,
            slice=lend.slice,
            amount=amount,
            lent_at=now,
            drawn_at=now,
            reported_at=now,
            reported=Settle(slice=lend.slice, used=Spending(), holds=amount),
            is_for_one=0 < needed.tokens == amount.tokens or 0 < needed.cost == amount.cost,
        )
        pool = self._slices.pool(level)
        if pool.current is not None:
            pool.close(pool.current)
        pool.current = pool.hands[hand.slice] = hand

    def _wanted(self, pool: Pool, needed: Spending, now: float) -> Spending:
        """What is to last for those who wait; twice the one before if that did not last."""
        tokens = max(needed.tokens * _CALLS_AHEAD, pool.wanted_tokens)
        cost = max(needed.cost * _CALLS_AHEAD, pool.wanted_cost)
        before = pool.current
        if before is not None and now - before.lent_at < REPORT_SECONDS:
            drawn = before.used + before.reserved
            tokens, cost = max(tokens, 2 * drawn.tokens), max(cost, 2 * drawn.cost)
        return Spending(tokens=min(tokens, MAX_COUNT), cost=min(cost, MAX_COUNT))

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, Exhausted):
            _log.warning("no slice was lent", error=repr(error))

    @staticmethod
    def _is_news(hand: Hand, now: float) -> bool:
        if now < hand.again_at:
            return False
        if hand.closing:
            return hand.report() != hand.reported
        return hand.used != hand.reported.used and now - hand.reported_at > REPORT_SECONDS

    async def _report(self, hands: Iterable[Hand]) -> None:
        told: defaultdict[str, list[tuple[Hand, Settle]]] = defaultdict(list)
        for hand in hands:
            told[hand.budget].append((hand, hand.report()))
        await asyncio.gather(*(self._report_of(budget, items) for budget, items in told.items()))

    async def _report_of(self, budget: str, items: list[tuple[Hand, Settle]]) -> None:
        settles = [settle for _, settle in items]
        record = partial(self._budgets.record_all, budget, settles)
        is_told = await contained(record, "reporting what was spent", budget, again=False)
        now = self._now()
        for hand, settle in items:
            if is_told:
                self._slices.reported(hand, settle, now)
            else:
                hand.again_at = now + REPORT_SECONDS

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
