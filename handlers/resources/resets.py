"""When a window of a limit is over, an agent's or a budget's, a timer says: set before the event that begins it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Collection, Sequence
from datetime import UTC, datetime

import msgspec

from l02.bus.commands.timers import set_timer
from l02.bus.connection.bus import Bus
from l02.bus.wire.subjects import AggregateId
from l02.domain.agent.work.blocking import QuotaReset, QuotaResetDue
from l02.domain.agent.work.models import ModelRequested
from l02.domain.budget.resetting import ResetDue
from l02.domain.kernel.message import Event


async def set_resets(bus: Bus, agent_id: str, events: Sequence[Event]) -> None:
    """Set the timers of the windows that these events begin: one for all that end together. Raises as `set_timer`."""
    ends = {
        at
        for event in events
        if isinstance(event, ModelRequested | QuotaReset)
        for at in (event.reset_at or {}).values()
    }
    await set_timers(bus, AggregateId("agent", agent_id), QuotaResetDue, ends)


async def set_timers(
    bus: Bus, aggregate: AggregateId, command: type[QuotaResetDue | ResetDue], ends: Collection[float]
) -> None:
    """Have the aggregate told at each of these times, in seconds since 1970. Raises as `set_timer`."""
    await asyncio.gather(*(_set(bus, aggregate, command.verb, at) for at in ends))


async def _set(bus: Bus, aggregate: AggregateId, verb: str, at: float) -> None:
    await set_timer(
        bus,
        aggregate,
        f"{verb}.{round(at * 1000)}",
        due=datetime.fromtimestamp(at, UTC),
        verb=verb,
        body=msgspec.json.encode({"at": at, "wait": "accepted"}),
        command_id=uuid.uuid4().hex,
    )
