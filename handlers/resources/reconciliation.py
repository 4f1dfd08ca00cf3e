"""A slice whose holder is gone is closed once, with what the journals say was spent from it.

Its holder may be another node whose lease is over, or this one: a process before this, or a term of its lease that is
over. Whoever has the partition of the budget's commands closes the slices of others. What is to be done follows from
the read model, the leases and the log alone, so it does no harm to look again, late or twice: a slice that is closed
stays so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from functools import partial
from typing import NamedTuple, Protocol

import structlog

from l02.bus.commands.leases import Leases
from l02.bus.commands.partitions import Partitions, command_partition
from l02.bus.log.contained import contained
from l02.bus.log.repository import Repository
from l02.bus.wire.subjects import AggregateId
from l02.domain.budget.lending import Settle
from l02.domain.budget.state import BudgetState
from l02.handlers.resources.journals import Account, Journals

_LOOK_SECONDS = 2.0
_FOLLOW_SECONDS = 8.0
"""How late it may be seen that a call has ended which was open when its node was lost."""
_LONGEST_LOOK_SECONDS = 30.0
_log = structlog.get_logger()


class LentSlice(NamedTuple):
    """A slice that is not closed; `sequence` is the event with which it was lent."""

    budget: str
    slice: str
    holder: str
    sequence: int


class LentSlices(Protocol):
    """Which slices the read model says are lent, as of all that had happened when it was asked."""

    async def slices_missing(self, live: Collection[str]) -> list[LentSlice]:
        """Those whose holder is not among `live`."""


class Reconciliation:
    """One per node."""

    def __init__(
        self,
        budgets: Repository[BudgetState],
        journals: Journals,
        leases: Leases,
        partitions: Partitions,
        lent: LentSlices,
        is_own: Callable[[str], bool],
    ) -> None:
        """`is_own` says whether a slice of this node's is in its hands."""
        self._budgets = budgets
        self._journals = journals
        self._leases = leases
        self._partitions = partitions
        self._lent = lent
        self._is_own = is_own
        self._accounts: dict[LentSlice, Account] = {}
        self._round = asyncio.Event()
        leases.on_round(self._round.set)

    async def run(self) -> None:
        """Look for such slices until cancelled."""
        seen: tuple[frozenset[str], int] | None = None
        due, pause = 0.0, _LOOK_SECONDS
        while True:
            await self._round.wait()
            self._round.clear()
            now, alive = asyncio.get_running_loop().time(), (self._leases.live, self._leases.term)
            if not self._leases.is_settled or (alive == seen and now < due):
                continue
            is_done = await contained(self._look, "closing slices of budgets", self._leases.node_id, again=False)
            longest = _FOLLOW_SECONDS if self._accounts else _LONGEST_LOOK_SECONDS
            pause = _LOOK_SECONDS if alive != seen or not is_done else min(2 * pause, longest)
            seen, due = alive, now + pause

    async def _look(self) -> None:
        orphans = [item for item in await self._missing() if self._is_to_do(item)]
        self._accounts = {item: account for item, account in self._accounts.items() if item in orphans}
        new = [item for item in orphans if item not in self._accounts]
        if new:
            _log.warning("closing slices of budgets whose holder is gone", slices=len(new))
            found = await self._journals.accounts({item.slice for item in new}, min(item.sequence for item in new))
            self._accounts.update((item, found[item.slice]) for item in new)
        for item, account in self._accounts.items():
            await contained(partial(self._close, item, account), "closing a slice", item.budget, again=False)

    async def _missing(self) -> list[LentSlice]:
        # What this node holds itself is among it, for what it held before.
        return await self._lent.slices_missing(self._leases.live - {self._leases.node_id})

    def _is_to_do(self, lent: LentSlice) -> bool:
        if lent.holder == self._leases.node_id:
            return not self._is_own(lent.slice)
        return self._partitions.has(command_partition(AggregateId("budget", lent.budget)))

    async def _close(self, lent: LentSlice, account: Account) -> None:
        await self._journals.follow(account)
        await self._budgets.record(
            lent.budget,
            Settle(slice=lent.slice, used=account.used, holds=account.reserved, closed=not account.open),
        )
