"""Says the outcome of commands whose effect takes time, when the event that completes them is recorded.

What this process records it announces at once; a durable consumer sees every such event again and says what a crash
left unsaid.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence

import structlog
from nats.errors import Error as NatsError

from bus.codec import RecordedEvent
from bus.connection import Bus
from bus.follow import follow_events
from bus.outcomes import completed, publish_outcome
from domain.aggregates import EVENT_TYPES

__all__ = ["CONSUMER", "OutcomeAnnouncer"]

CONSUMER = "outcomes"
_REMEMBERED = 10_000
_RETRY_SECONDS = 0.2
_log = structlog.get_logger()


class OutcomeAnnouncer:
    """Give `announce` to the repositories' `on_recorded`, and `run` to a task."""

    def __init__(self, bus: Bus, tasks: asyncio.TaskGroup) -> None:
        self._bus = bus
        self._tasks = tasks
        self._announced: OrderedDict[str, asyncio.Task[None]] = OrderedDict()

    def announce(self, recorded: RecordedEvent) -> None:
        """Say the outcome of the commands that this event completes."""
        self._begin(recorded)

    def _begin(self, recorded: RecordedEvent) -> list[asyncio.Task[None]]:
        saying = []
        for command_id in getattr(recorded.event, "completes", ()):
            if command_id not in self._announced:
                self._announced[command_id] = self._tasks.create_task(self._say(recorded, command_id))
            saying.append(self._announced[command_id])
        while len(self._announced) > _REMEMBERED and next(iter(self._announced.values())).done():
            self._announced.popitem(last=False)
        return saying

    async def run(self) -> None:
        """See every completing event, until cancelled."""
        completing = [event for event in EVENT_TYPES.values() if "completes" in event.__struct_fields__]
        await follow_events(self._bus, CONSUMER, completing, self._say_all, begin="all")

    async def _say_all(self, events: Sequence[RecordedEvent]) -> None:
        for recorded in events:
            for said in self._begin(recorded):
                await asyncio.shield(said)

    async def _say(self, recorded: RecordedEvent, command_id: str) -> None:
        while True:
            try:
                await publish_outcome(self._bus, await completed(self._bus, recorded, command_id))
                return
            except (NatsError, TimeoutError) as error:
                _log.info("waiting for JetStream to say an outcome", command_id=command_id, error=repr(error))
                await asyncio.sleep(_RETRY_SECONDS)
