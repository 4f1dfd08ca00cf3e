"""Handlers hear of events through durable consumers, one each, a little behind those who hear of them at once.

What a process records, its handlers hear of directly (`Repository.on_recorded`). The durable consumer brings what
other processes have recorded and what a crash kept from being acted on; most of what it brings is known already. So it
gathers what comes within a moment.

What becomes of an event depends on the error: one that passes by itself is waited out; another is tried again a few
times, ever later, while other events go on; then, and at once if this version cannot read the event, it is parked among
the dead letters. An event that was handled is acknowledged, one that is tried again is given back (nak), one that is
parked is ended (term): each by itself, since another node may hold others of the same consumer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, Literal

import structlog
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from l02.bus.commands.dead_letters import park
from l02.bus.commands.retries import answer_retries
from l02.bus.connection.bus import Bus
from l02.bus.connection.streams import EVENTS_STREAM
from l02.bus.jetstream.pull import consumer_info, delivery_of, pull, times_delivered
from l02.bus.log.passing import is_passing
from l02.bus.wire.codec import RecordedEvent, UnreadableEvent
from l02.bus.wire.subjects import events_filter
from l02.domain.errors import ErrorCode
from l02.domain.kernel.message import Event

_GATHER_SECONDS = 0.05
_BATCH = 500
_RETRY_SECONDS = (0.2, 1.0, 5.0, 15.0)
"""Before an event is delivered the second time, the third time, and so on; then it is parked."""
_ATTEMPTS = len(_RETRY_SECONDS) + 1
_SECOND = 1_000_000_000
# A handler of one node looks at its start at what there is (the tables, the states), so nothing is lost with a consumer
# that nobody has asked for a week; without a limit those of nodes that are gone for good would stay for ever. A node
# that was cut off for so long and lives goes on behind the last event it has seen, with a new one.
_INACTIVE_THRESHOLD = 7 * 86_400 * _SECOND
_START = ("deliver_policy", "opt_start_seq")
_log = structlog.get_logger()

Handle = Callable[[Sequence[RecordedEvent]], Awaitable[None]]


async def follow_events(
    bus: Bus,
    durable_name: str,
    event_types: Iterable[type[Event]],
    handle: Handle,
    *,
    begin: Literal["all", "new"],
    ready: Callable[[], None] = lambda: None,
    again_after_seconds: float = 30.0,
) -> None:
    """Give `handle` every event of the types at least once, in order but for those it has failed on, until cancelled.

    The consumer is made at the stream's first event or behind its last one (`begin`); its name must never change.
    `new` is for a handler of one node that begins by looking at what there is; its consumer goes when it has not been
    used for a week. What a process had been given when it died comes again after `again_after_seconds`.
    """
    handler = _Handler(bus, durable_name, handle, again_after_seconds)
    filters = [events_filter(event_type=event.type) for event in event_types]
    async with (
        answer_retries(bus, durable_name, handler.handle_again),
        pull(bus, EVENTS_STREAM, lambda: handler.config(filters, begin)) as source,
    ):
        ready()
        while True:
            await handler.take(await source.next_batch(_BATCH))
            await asyncio.sleep(_GATHER_SECONDS)


class _Handler:
    """What is known of a handler's way through the events."""

    def __init__(self, bus: Bus, name: str, handle: Handle, again_after_seconds: float) -> None:
        self._bus = bus
        self._name = name
        self._handle = handle
        self._ack_wait = int(again_after_seconds * _SECOND)
        self._turn = asyncio.Lock()
        self._seen = 0
        self._given_back: set[int] = set()

    async def config(self, filters: list[str], begin: str) -> dict[str, Any]:
        """The consumer to make. Where it begins can be said only once, so one that there is keeps its beginning."""
        found = await consumer_info(self._bus, EVENTS_STREAM, self._name)
        if found is not None:
            start = {key: found["config"][key] for key in _START if key in found["config"]}
        elif self._seen:
            done = min(self._given_back, default=self._seen + 1) - 1
            start = {"deliver_policy": "by_start_sequence", "opt_start_seq": done + 1}
        else:
            start = {"deliver_policy": begin}
        return {
            "durable_name": self._name,
            "ack_policy": "explicit",
            "ack_wait": self._ack_wait,
            "filter_subjects": filters,
            **({"inactive_threshold": _INACTIVE_THRESHOLD} if begin == "new" else {}),
            **start,
        }

    async def take(self, messages: Sequence[Msg]) -> None:
        """Handle what has been delivered: new events together, others each alone, so that none fails with another."""
        async with self._turn:
            new: list[tuple[Msg, RecordedEvent]] = []
            for message in messages:
                sequence = delivery_of(message).stream_sequence
                self._seen = max(self._seen, sequence)
                try:
                    item = message, self._bus.events.decode(message.data, sequence, message.subject)
                except UnreadableEvent as error:
                    await self._park(message, error.message)
                    continue
                if times_delivered(message) == 1:
                    new.append(item)
                else:
                    await self._attempt([item])
            if new:
                await self._attempt(new)

    async def _attempt(self, items: list[tuple[Msg, RecordedEvent]]) -> None:
        try:
            await self._handle([recorded for _, recorded in items])
        except Exception as error:
            if is_passing(error):
                _log.warning("a handler waits for JetStream", handler=self._name, error=repr(error))
                for message, _ in items:
                    await self._give_back(message)
            elif len(items) > 1:
                for item in items:
                    await self._attempt([item])
            else:
                await self._failed(*items[0], error)
        else:
            for message, _ in items:
                await self._settle(message, message.ack)

    async def _failed(self, message: Msg, recorded: RecordedEvent, error: Exception) -> None:
        attempt = times_delivered(message)
        _log.exception("a handler failed", handler=self._name, sequence=recorded.sequence, attempt=attempt)
        if attempt < _ATTEMPTS:
            await self._give_back(message)
        else:
            what = f"{recorded.event.type} of {recorded.aggregate}, event {recorded.sequence}"
            await self._park(message, f"handling {what} failed {attempt} times: {error!r}")

    async def _give_back(self, message: Msg) -> None:
        self._given_back.add(delivery_of(message).stream_sequence)
        delay = _RETRY_SECONDS[min(times_delivered(message), len(_RETRY_SECONDS)) - 1]
        with suppress(NatsError):  # then it comes again when the server misses its acknowledgement
            await message.nak(delay=delay)

    async def _park(self, message: Msg, reason: str) -> None:
        sequence = delivery_of(message).stream_sequence
        try:
            await park(self._bus, message, consumer=self._name, code=ErrorCode.HANDLER_FAILED.value, reason=reason)
        except (NatsError, TimeoutError) as error:
            _log.warning("an event cannot be parked yet", handler=self._name, sequence=sequence, error=repr(error))
            await self._give_back(message)
        else:
            _log.error("event parked", handler=self._name, sequence=sequence, reason=reason)
            await self._settle(message, message.term)

    async def _settle(self, message: Msg, settle: Callable[[], Awaitable[None]]) -> None:
        self._given_back.discard(delivery_of(message).stream_sequence)
        with suppress(NatsError):  # then it comes again, and is known
            await settle()

    async def handle_again(self, recorded: RecordedEvent) -> None:
        """Handle one that was parked."""
        async with self._turn:
            await self._handle([recorded])
