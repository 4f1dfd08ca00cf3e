"""What this node has in hand of budgets: slices, from which calls are reserved without asking anybody.

Exact reckoning, at once, without I/O. A slice belongs to one process in one term of its lease; when that is over it is
no more this node's, and what was spent from it is read from the journals.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from l02.domain.budget.lending import Settle
from l02.domain.inference import Drawn, Spending

NOTHING = Spending()


@dataclass(slots=True, eq=False)
class Hand:
    """A slice. `reserved` is for calls under way, of which there are `calls`; `used` is what others came to.

    One that is `closing` is not drawn on any more: what is not reserved of it is given back, and it is closed when the
    last call has ended. `reported` is what the budget knows of it, as of `reported_at`. Times are the event loop's.
    """

    budget: str
    slice: str
    amount: Spending
    lent_at: float
    drawn_at: float
    reported_at: float
    reported: Settle
    is_for_one: bool
    """Whether no more than one call's was to be had: what that leaves is for whoever asks next."""
    used: Spending = NOTHING
    reserved: Spending = NOTHING
    calls: int = 0
    closing: bool = False
    again_at: float = 0.0
    """Not before this it is reported, since that has failed."""

    @property
    def left(self) -> Spending:
        """What can be drawn from it."""
        return NOTHING if self.closing else self.amount - self.used - self.reserved

    def report(self) -> Settle:
        """All there is to say of it now."""
        is_closed = self.closing and not self.calls
        return Settle(slice=self.slice, used=self.used, holds=self.reserved + self.left, closed=is_closed)


@dataclass(slots=True)
class Pool:
    """The slices of one budget: the one that is drawn on, if there is one, and all. `wanted` is what calls wait for."""

    current: Hand | None = None
    hands: dict[str, Hand] = field(default_factory=dict)
    waiting: int = 0
    wanted_tokens: int = 0
    wanted_cost: int = 0

    def has(self, needed: Spending) -> bool:
        """Whether a call can draw on what is in hand."""
        return self.current is not None and self.current.left.covers(needed)

    def close(self, hand: Hand) -> None:
        """Draw on it no more."""
        hand.closing = True
        if self.current is hand:
            self.current = None


class Slices:
    """All of this node."""

    def __init__(self) -> None:
        self.pools: dict[str, Pool] = {}
        self.term = 0
        """That of the node's lease in which they were lent."""
        self.token = uuid.uuid4().hex[:12]
        """What the names of the slices of this process and term begin with."""
        self._named = 0

    def forget(self, term: int) -> None:
        """Those in hand are not this node's any more."""
        self.pools, self.term, self.token = {}, term, uuid.uuid4().hex[:12]

    def new_name(self) -> str:
        """The name of another slice."""
        self._named += 1
        return f"{self.token}-{self._named}"

    def is_own(self, name: str) -> bool:
        """Whether a slice of this node's is of this process and term."""
        return name.startswith(f"{self.token}-")

    def pool(self, budget: str) -> Pool:
        """That of a budget."""
        pool = self.pools.get(budget)
        if pool is None:
            pool = self.pools[budget] = Pool()
        return pool

    def hands(self) -> list[Hand]:
        """All that are in hand."""
        return [hand for pool in self.pools.values() for hand in pool.hands.values()]

    def short(self, levels: Sequence[str], needed: Spending) -> list[str]:
        """The levels at which more has to be lent."""
        return [level for level in levels if (pool := self.pools.get(level)) is None or not pool.has(needed)]

    def is_ready(self, levels: Sequence[str], needed: Spending) -> bool:
        """Whether a call can draw at all of them, and nobody waits who came before."""
        for level in levels:
            pool = self.pools.get(level)
            if pool is None or pool.waiting or not pool.has(needed):
                return False
        return True

    @contextmanager
    def waiting(self, levels: Sequence[str], needed: Spending) -> Iterator[None]:
        """Somebody waits for more at these levels."""
        pools = [self.pool(level) for level in levels]
        for pool in pools:
            pool.waiting += 1
            pool.wanted_tokens += needed.tokens
            pool.wanted_cost += needed.cost
        try:
            yield
        finally:
            for pool in pools:
                pool.waiting -= 1
                pool.wanted_tokens -= needed.tokens
                pool.wanted_cost -= needed.cost

    def draw(self, levels: Sequence[str], needed: Spending, now: float) -> tuple[Drawn, ...]:
        """Reserve at all levels, none of which is short."""
        drawn = []
        for level in levels:
            pool = self.pools[level]
            hand = pool.current
            assert hand is not None
            hand.reserved += needed
            hand.calls += 1
            hand.drawn_at = now
            drawn.append(Drawn(budget=level, slice=hand.slice))
            if hand.is_for_one:
                pool.close(hand)
        return tuple(drawn)

    def settle(self, drawn: Drawn, reserved: Spending, used: Spending) -> Hand | None:
        """A call has ended. Gives the slice, unless it is no more this node's."""
        pool = self.pools.get(drawn.budget)
        hand = pool.hands.get(drawn.slice) if pool is not None else None
        if hand is not None:
            hand.reserved -= reserved
            hand.used += used
            hand.calls -= 1
        return hand

    def reported(self, hand: Hand, settle: Settle, now: float) -> None:
        """The budget knows of it."""
        hand.reported, hand.reported_at = settle, now
        pool = self.pools.get(hand.budget)
        if settle.closed and pool is not None:
            pool.hands.pop(hand.slice, None)
            if not pool.hands and not pool.waiting:
                del self.pools[hand.budget]
