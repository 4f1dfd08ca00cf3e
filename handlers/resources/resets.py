"""When a window of an agent's own limits is over, a timer says: it is set before the event that begins the window."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from l02.bus.commands.timers import set_timer
from l02.bus.connection.bus import Bus
from l02.bus.wire.subjects import AggregateId
from l02.domain.agent.work.blocking import QuotaReset, QuotaResetDue
from l02.domain.agent.work.models import ModelRequested
from l02.domain.kernel.message import Event


async def set_resets(bus: Bus, agent_id: str, events: Sequence[Event]) -> None:
    """Set the timers of the windows that these events begin: one for all that end together. Raises as `set_timer`."""
    ends = {
        at
        for event in events
        if isinstance(event, ModelRequested | QuotaReset)
        for at in (event.reset_at or {}).values()
    }
    await asyncio.gather(*(_set(bus, agent_id, at) for at in ends))


async def _set(bus: Bus, agent_id: str, at: float) -> None:
    await set_timer(
        bus,
        AggregateId("agent", agent_id),
        f"{QuotaResetDue.verb}-{round(at * 1000)}",
        due=datetime.fromtimestamp(at, UTC),
        verb=QuotaResetDue.verb,
        body=msgspec.json.encode({"at": at, "wait": "accepted"}),
        command_id=uuid.uuid4().hex,
    )
