"""Says the outcome of commands whose effect takes time, when the event that completes them is recorded.

What a node records it announces at once; one node sees every such event again, a little later, and says what a crash
left unsaid.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable

import structlog
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from bus.codec import RecordedEvent, UnreadableEvent, decode_event
from bus.connection import Bus
from bus.dead_letters import park
from bus.outcomes import completed, publish_outcome
from bus.partitions import OUTCOMES_PARTITION, Partition, Partitions
from bus.reader import read_stream
from bus.retries import answer_retries
from bus.streams import EVENTS_STREAM
from bus.subjects import events_filter
from domain.aggregates import EVENT_TYPES
from domain.errors import ErrorCode

__all__ = ["CONSUMER", "OutcomeAnnouncer"]

CONSUMER = "outcomes"
_REMEMBERED = 10_000
_RETRY_SECONDS = 0.2
_BEHIND_SECONDS = 0.05
_log = structlog.get_logger()


class OutcomeAnnouncer:
    """Give `announce` to the repositories' `on_recorded`, and `run` to a task."""

    def __init__(self, bus: Bus, partitions: Partitions, tasks: asyncio.TaskGroup) -> None:
        self._bus = bus
        self._partitions = partitions
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
        """See every completing event while this node is the one to do that, until cancelled."""
        await self._partitions.work([OUTCOMES_PARTITION], self._follow)

    async def _follow(self, partitions: list[Partition]) -> None:
        [partition] = partitions
        completing = [
            events_filter(event_type=event.type)
            for event in EVENT_TYPES.values()
            if "completes" in event.__struct_fields__
        ]
        async with (
            answer_retries(self._bus, CONSUMER, self._announced_all),
            read_stream(self._bus, EVENTS_STREAM, after=partition.read_up_to, filters=completing) as reader,
        ):
            while True:
                messages = await reader.next_batch()
                self._bus.tally.unread[CONSUMER] = reader.behind
                # Who has recorded them announces them; it is given the time for that.
                await asyncio.sleep(_BEHIND_SECONDS)
                for message in messages:
                    partition.take(message.metadata.sequence.stream)
                await asyncio.gather(*(self._see(message) for message in messages))
                for message in messages:
                    partition.done(message.metadata.sequence.stream)

    async def _see(self, message: Msg) -> None:
        try:
            recorded = decode_event(message.data, message.metadata.sequence.stream)
        except UnreadableEvent as error:
            code, reason = ErrorCode.HANDLER_FAILED.value, str(error)
            await _patiently(lambda: park(self._bus, message, consumer=CONSUMER, code=code, reason=reason))
            return
        await self._announced_all(recorded)

    async def _announced_all(self, recorded: RecordedEvent) -> None:
        for said in self._begin(recorded):
            await asyncio.shield(said)

    async def _say(self, recorded: RecordedEvent, command_id: str) -> None:
        async def say() -> None:
            await publish_outcome(self._bus, await completed(self._bus, recorded, command_id))

        await _patiently(say)


async def _patiently(act: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            await act()
            return
        except (NatsError, TimeoutError) as error:
            _log.info("waiting for JetStream to say an outcome", error=repr(error))
            await asyncio.sleep(_RETRY_SECONDS)
