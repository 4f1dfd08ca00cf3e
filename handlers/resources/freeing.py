"""Agents that wait for a budget go on by themselves: when it allows something else, those whom that helps are told.

Each node tells them, also of what another one has recorded, and by a command that is decided where the agent is: so
they go on whoever has died. One that began to wait just when its budget changed is looked at once more.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec
from msgspec import Struct

from l02.bus.commands.react import EventReader
from l02.bus.commands.timers import send_due
from l02.bus.connection.bus import Bus
from l02.bus.log.repository import Repository
from l02.bus.wire.codec import RecordedEvent
from l02.bus.wire.subjects import AggregateId
from l02.domain.agent.work.blocking import BudgetChanged, BudgetWaiting
from l02.domain.budget.configuring import BudgetConfigured
from l02.domain.budget.granting import BudgetDenied, BudgetRaised
from l02.domain.budget.resetting import BudgetReset
from l02.domain.budget.state import BudgetState, amounts
from l02.domain.inference import Spending
from l02.domain.spending.limits import LimitAction
from l02.domain.spending.windows import shortage

_NEWS = (BudgetRaised, BudgetReset, BudgetConfigured, BudgetDenied, BudgetWaiting)


class WaitingCall(Struct, frozen=True):
    """A call that waits for a budget: what it may need, and what was to be done when it was refused."""

    agent_id: str
    needed: Spending
    action: LimitAction


class WaitingCalls(Protocol):
    """What the read model knows of them."""

    async def waiting_for(self, budget_id: str, as_of: int) -> Sequence[WaitingCall]:
        """Those that wait for this budget, as of the event with this stream sequence, or later."""


class Freeing:
    """One per node."""

    def __init__(self, bus: Bus, reader: EventReader, budgets: Repository[BudgetState], waiting: WaitingCalls) -> None:
        self._bus = bus
        self._budgets = budgets
        self._waiting = waiting
        self._listener = reader.listener("freeing", _NEWS, self._heard)

    async def run(self, ready: Callable[[], None]) -> None:
        """Hear of budgets and of who waits for them, until cancelled."""
        await self._listener.listen(ready)

    def _heard(self, recorded: RecordedEvent, recorded_here: bool) -> asyncio.Future[Any] | None:
        if recorded_here:  # it comes once more, and then is waited for
            return None
        event = recorded.event
        if isinstance(event, BudgetWaiting):
            return None if event.budget is None else asyncio.ensure_future(self._look_at(recorded, event, event.budget))
        return asyncio.ensure_future(self._changed(recorded))

    async def _changed(self, recorded: RecordedEvent) -> None:
        """Tell those whom it helps."""
        budget_id = recorded.aggregate.id
        waiting = await self._waiting.waiting_for(budget_id, recorded.sequence)
        if not waiting:
            return
        budget = (await self._budgets.known(budget_id, recorded.sequence)).state
        agents = {call.agent_id for call in waiting if _helps(budget, call.needed, call.action)}
        await asyncio.gather(*(self._tell(agent_id, _news(recorded), recorded) for agent_id in sorted(agents)))

    async def _look_at(self, recorded: RecordedEvent, event: BudgetWaiting, budget_id: str) -> None:
        """It may have changed since the call was refused, and nobody knew that it waits."""
        budget = (await self._budgets.load(budget_id)).state
        if _helps(budget, event.needed.spending, event.action):
            news = BudgetChanged(budget=budget_id, denied=budget.denied, wait="accepted")
            await self._tell(recorded.aggregate.id, news, recorded)

    async def _tell(self, agent_id: str, news: BudgetChanged, recorded: RecordedEvent) -> None:
        name = hashlib.sha256(f"{recorded.event_id}/{agent_id}".encode()).hexdigest()[:32]
        await send_due(self._bus, AggregateId("agent", agent_id), news.verb, msgspec.json.encode(news), name)


def _news(recorded: RecordedEvent) -> BudgetChanged:
    event, actor = recorded.event, recorded.metadata.actor
    added = amounts(event.amount) if isinstance(event, BudgetRaised) else {}
    return BudgetChanged(
        budget=recorded.aggregate.id,
        by=None if recorded.metadata.is_of_runtime else actor,
        granted={limit: limit.said(amount) for limit, amount in added.items()},
        denied=isinstance(event, BudgetDenied),
        wait="accepted",
    )


def _helps(budget: BudgetState, needed: Spending, action: LimitAction) -> bool:
    """Whether a call that waits fits now, or has no use in waiting on."""
    if budget.denied or budget.action is not action:
        return True
    short = shortage(budget.allowed, budget.windows, needed)
    return short is None or short.is_passing or not short.could_fit
