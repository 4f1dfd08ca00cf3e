"""What was spent from slices whose holder is gone, read from the agents' journals.

Every call that draws on a slice is on record before it leaves (`agent.model.requested`), and so is what came of it
(`agent.model.called`). One of which nobody will ever say that, since its work has ended or it was made again, was spent
as it was reserved.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from l02.bus.connection.bus import Bus
from l02.bus.log.history import read_log_entries
from l02.bus.log.repository import Repository
from l02.bus.wire.codec import RecordedEvent
from l02.bus.wire.subjects import AggregateId, event_subject, events_filter
from l02.domain.agent.state import AgentState
from l02.domain.agent.work.models import ModelCalled, ModelRequested
from l02.domain.inference import Spending


class Call(NamedTuple):
    """An attempt to ask a model."""

    agent_id: str
    execution_id: str
    call: int
    attempt: int


@dataclass(slots=True)
class Account:
    """What was spent from a slice, and what the calls on it that are still open have reserved, with their sequences."""

    used: Spending = field(default_factory=Spending)
    open: dict[Call, tuple[Spending, int]] = field(default_factory=dict)

    @property
    def reserved(self) -> Spending:
        """By the calls that are open."""
        total = Spending()
        for reserved, _ in self.open.values():
            total += reserved
        return total


class Journals:
    """Those of all agents."""

    def __init__(self, bus: Bus, agents: Repository[AgentState]) -> None:
        self._bus = bus
        self._agents = agents

    async def accounts(self, slices: Iterable[str], since: int) -> dict[str, Account]:
        """What the journals say of these slices from stream sequence `since` on. Raises as `read_log_entries`."""
        accounts = {name: Account() for name in slices}
        async for recorded in self._events(events_filter(event_type=ModelRequested.type), since - 1):
            event = recorded.event
            if isinstance(event, ModelRequested):
                for drawn in event.drawn:
                    if (account := accounts.get(drawn.slice)) is not None:
                        account.open[_call(recorded, event)] = (event.reserved.spending, recorded.sequence)
        async for recorded in self._events(events_filter(event_type=ModelCalled.type), since - 1):
            event = recorded.event
            if isinstance(event, ModelCalled):
                for drawn in event.drawn:
                    account = accounts.get(drawn.slice)
                    if account is not None and account.open.pop(_call(recorded, event), None) is not None:
                        account.used += event.used
        return accounts

    async def follow(self, account: Account) -> None:
        """Take in what has become of the calls that were open. Raises UnreadableEvent, and as `read_log_entries`."""
        for call, (reserved, sequence) in list(account.open.items()):
            if await self._is_open(call):
                continue
            came = await self._what_came_of(call, sequence)
            account.used += reserved if came is None else came.used
            del account.open[call]

    async def _is_open(self, call: Call) -> bool:
        execution = (await self._agents.load(call.agent_id)).state.executions.get(call.execution_id)
        asked = execution.asked_models.get(call.call) if execution is not None else None
        return asked is not None and asked.attempt == call.attempt and asked.reserved is not None

    async def _what_came_of(self, call: Call, sequence: int) -> ModelCalled | None:
        subject = event_subject(AggregateId("agent", call.agent_id), ModelCalled.type)
        async for recorded in self._events(subject, sequence):
            if isinstance(recorded.event, ModelCalled) and _call(recorded, recorded.event) == call:
                return recorded.event
        return None

    async def _events(self, subject: str, after: int) -> AsyncIterator[RecordedEvent]:
        more = True
        while more:
            entries, more = await read_log_entries(self._bus, subject, after=after)
            for entry in entries:
                after = entry.sequence
                if isinstance(entry, RecordedEvent):
                    yield entry


def _call(recorded: RecordedEvent, event: ModelRequested | ModelCalled) -> Call:
    return Call(recorded.aggregate.id, event.execution_id, event.call, event.attempt)
