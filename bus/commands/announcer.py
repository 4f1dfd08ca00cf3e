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

from l02.bus.background.backoff import outlasting
from l02.bus.commands.dead_letters import park
from l02.bus.commands.outcomes import completed, publish_outcome
from l02.bus.commands.partitions import OUTCOMES_PARTITION, Partition, Partitions
from l02.bus.commands.retries import answer_retries
from l02.bus.connection.bus import Bus
from l02.bus.connection.streams import EVENTS_STREAM
from l02.bus.jetstream.pull import delivery_of
from l02.bus.log.passing import is_passing
from l02.bus.log.reader import read_stream
from l02.bus.wire.codec import RecordedEvent, UnreadableEvent
from l02.bus.wire.subjects import AggregateId, events_filter
from l02.domain.errors import ErrorCode, Failure
from l02.domain.identifiers import is_id
from l02.domain.kernel.message import Completing

CONSUMER = "outcomes"
_REMEMBERED = 10_000
_RETRY_SECONDS = 0.2
_BEHIND_SECONDS = 0.05
_log = structlog.get_logger()


class OutcomeUnsaid(Failure):
    """An outcome that cannot be said, whatever one waits for (E2117)."""

    def __init__(self, message: str) -> None:
        super().__init__(ErrorCode.HANDLER_FAILED, message)


class OutcomeAnnouncer:
    """Give `announce` to the repositories' `on_recorded`, and `run` to a task."""

    def __init__(self, bus: Bus, partitions: Partitions, tasks: asyncio.TaskGroup) -> None:
        self._bus = bus
        self._partitions = partitions
        self._tasks = tasks
        self._announced: OrderedDict[tuple[AggregateId, str], asyncio.Task[str | None]] = OrderedDict()

    def announce(self, recorded: RecordedEvent) -> None:
        """Say the outcome of the commands that this event completes."""
        self._begin(recorded)

    def _begin(self, recorded: RecordedEvent) -> list[asyncio.Task[str | None]]:
        saying = []
        # What is no id is no command's, so nobody waits for it.
        event = recorded.event
        for command_id in filter(is_id, event.completes if isinstance(event, Completing) else ()):
            key = (recorded.aggregate, command_id)
            said = self._announced.get(key)
            if said is None or (said.done() and not said.cancelled() and said.result() is not None):
                said = self._announced[key] = self._tasks.create_task(self._say(recorded, command_id))
            saying.append(said)
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
            for aggregate in self._bus.aggregates.values()
            for event in aggregate.events
            if issubclass(event, Completing)
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
                    partition.take(delivery_of(message).stream_sequence)
                await asyncio.gather(*(self._see(message) for message in messages))
                for message in messages:
                    partition.done(delivery_of(message).stream_sequence)

    async def _see(self, message: Msg) -> None:
        try:
            await self._announced_all(
                self._bus.events.decode(message.data, delivery_of(message).stream_sequence, message.subject)
            )
        except (UnreadableEvent, OutcomeUnsaid) as error:
            code, reason = ErrorCode.HANDLER_FAILED.value, error.message
            await _patiently(lambda: park(self._bus, message, consumer=CONSUMER, code=code, reason=reason))

    async def _announced_all(self, recorded: RecordedEvent) -> None:
        for said in self._begin(recorded):
            reason = await asyncio.shield(said)
            if reason is not None:
                raise OutcomeUnsaid(f"sequence {recorded.sequence}: an outcome cannot be said: {reason}")

    async def _say(self, recorded: RecordedEvent, command_id: str) -> str | None:
        """Why it cannot be said, if it cannot. It is one command's matter, and so raises nothing."""

        async def say() -> None:
            sequence = self._bus.claimed.get(command_id, 0)
            await publish_outcome(self._bus, await completed(self._bus, recorded, command_id), sequence)

        return await _patiently(say)


async def _patiently(act: Callable[[], Awaitable[None]]) -> str | None:
    """Repeat what fails because JetStream is away; what else it fails with, if it does, is logged and given back."""
    try:
        await outlasting(act, is_passing, "JetStream to say an outcome", longest=_RETRY_SECONDS)
    except Exception as error:
        _log.exception("an outcome cannot be said")
        return repr(error)
    return None
