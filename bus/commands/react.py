"""How the handlers of a node hear of events, and all that they need not think of themselves.

What this process records they act on at once. One durable consumer a node, a little behind, brings what other processes
have recorded and what a crash kept from being acted on. So a handler hears of most events twice, of some late, and must
do no harm then: it looks at the state, it does not count events.

Each handler has its own failures. An error that passes by itself is waited out; after another it is told again, ever
later, while other events, and other handlers of this one, go on; then, and at once if this version cannot read the
event, the event is parked among the dead letters under this handler's name, and `l02 dead retry` asks it alone once
more. An event is acknowledged when it is done with, by all that want it; what is under way the server is told of.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any

import structlog
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from l02.bus.commands.dead_letters import park
from l02.bus.commands.retries import answer_retries
from l02.bus.connection.bus import Bus
from l02.bus.connection.streams import EVENTS_STREAM
from l02.bus.jetstream.pull import consumer_info, create_consumer, delivery_of, pull
from l02.bus.log.passing import is_passing
from l02.bus.log.repository import Repository
from l02.bus.wire.codec import RecordedEvent, UnreadableEvent
from l02.bus.wire.subjects import event_type_of, events_filter
from l02.domain.errors import ErrorCode
from l02.domain.kernel.message import Event

_GATHER_SECONDS = 0.05
_BATCH = 500
_RETRY_SECONDS = (0.2, 1.0, 5.0, 15.0)
"""Before a handler is told of an event the second time, the third time, and so on; then it is parked."""
_ATTEMPTS = len(_RETRY_SECONDS) + 1
_AGAIN_AFTER_SECONDS = 3.0
"""When what a process had been given comes again after its death."""
_UNDER_WAY = 10_000
"""How many events may be under way: so many have to be slow before others wait."""
_SECOND = 1_000_000_000
# Handlers look at their start at what there is (the tables, the states), so nothing is lost with a consumer that nobody
# has asked for a week; without a limit those of nodes that are gone for good would stay for ever. A node that was cut
# off for so long and lives goes on behind the last event it has seen, with a new one.
_INACTIVE_THRESHOLD = 7 * 86_400 * _SECOND
_START = ("deliver_policy", "opt_start_seq")
_log = structlog.get_logger()

Handle = Callable[[RecordedEvent, bool], asyncio.Future[Any] | None]


class Listener:
    """A handler of a node, as its reader knows it."""

    def __init__(self, aggregates: Repository[Any], name: str, events: tuple[type[Event], ...], handle: Handle) -> None:
        self.name = f"{name}-{aggregates.node_id}"
        self.types = frozenset(event.type for event in events)
        self._aggregates = aggregates
        self._handle = handle
        self._listens = asyncio.Event()

    async def listen(self, ready: Callable[[], None] = lambda: None) -> None:
        """Be told of events until cancelled."""
        with self._aggregates.listening(self._at_once):
            self._listens.set()
            try:
                ready()
                await asyncio.get_running_loop().create_future()
            finally:
                self._listens.clear()

    def _at_once(self, recorded: RecordedEvent) -> None:
        if recorded.event.type in self.types:
            self._handle(recorded, True)

    async def hear(self, recorded: RecordedEvent) -> None:
        """Be told of an event as soon as it listens, and see to it. Raises what the handler does."""
        await self._listens.wait()
        waiting = self._handle(recorded, False)
        if waiting is not None:
            await waiting


@dataclass(slots=True, eq=False)
class _UnderWay:
    message: Msg
    """Its latest delivery."""
    recorded: RecordedEvent | UnreadableEvent
    waiting_for: set[Listener]


class EventReader:
    """One per node: give it its listeners, `open` it, let them look at what there is and listen, then `run` it."""

    def __init__(self, bus: Bus, aggregates: Repository[Any]) -> None:
        self.name = f"node-{aggregates.node_id}"
        self._bus = bus
        self._aggregates = aggregates
        self._listeners: list[Listener] = []
        self._seen: int | None = None
        self._under_way: dict[int, _UnderWay] = {}

    def listener(self, name: str, events: tuple[type[Event], ...], handle: Handle) -> Listener:
        """One whose `handle` is told of every event of these types while it listens; before the reader is opened.

        It is given the event, and whether this process has recorded it just now. If it has more to do than to wake
        somebody, it begins a task and gives that back: it is waited for before the event counts as handled, and what it
        raises is a failure. `name` must never change.
        """
        listener = Listener(self._aggregates, name, events, handle)
        self._listeners.append(listener)
        return listener

    async def open(self) -> None:
        """See to it that from here on no event is missed. Raises ConsumerError and NATS' errors.

        The consumers that each handler had of its own in earlier versions go; it begins where the last of them was.
        """
        await create_consumer(self._bus, EVENTS_STREAM, await self._config())
        info = await consumer_info(self._bus, EVENTS_STREAM, self.name)
        self._seen = info["ack_floor"]["stream_seq"] if info is not None else None
        for listener in self._listeners:
            await self._bus.api(f"CONSUMER.DELETE.{EVENTS_STREAM}.{listener.name}", {})

    async def run(self) -> None:
        """Tell the listeners of every event they want at least once, in order but for those they have failed on, until
        cancelled.
        """
        async with AsyncExitStack() as stack:
            for listener in self._listeners:
                await stack.enter_async_context(answer_retries(self._bus, listener.name, listener.hear))
            source = await stack.enter_async_context(pull(self._bus, EVENTS_STREAM, self._config))
            tasks = await stack.enter_async_context(asyncio.TaskGroup())
            tasks.create_task(self._keep_from_coming_again())
            while True:
                for message in await source.next_batch(_BATCH):
                    await self._take(message, tasks)
                await asyncio.sleep(_GATHER_SECONDS)

    def lag(self, undelivered: int) -> Counter[str]:
        """How many events each listener has not been told of yet, or not done with."""
        lag = Counter({listener.name: undelivered for listener in self._listeners})
        lag.update(listener.name for event in self._under_way.values() for listener in event.waiting_for)
        return lag

    async def _config(self) -> dict[str, Any]:
        """The consumer to make. Where it begins can be said only once, so one that there is keeps its beginning."""
        found = await consumer_info(self._bus, EVENTS_STREAM, self.name)
        if found is not None:
            start = {key: found["config"][key] for key in _START if key in found["config"]}
        elif (done := await self._done_before()) is not None:
            start = {"deliver_policy": "by_start_sequence", "opt_start_seq": done + 1}
        else:
            start = {"deliver_policy": "new"}
        wanted = sorted(frozenset().union(*(listener.types for listener in self._listeners)))
        return {
            "durable_name": self.name,
            "ack_policy": "explicit",
            "ack_wait": int(_AGAIN_AFTER_SECONDS * _SECOND),
            "max_ack_pending": _UNDER_WAY,
            "filter_subjects": [events_filter(event_type=name) for name in wanted],
            "inactive_threshold": _INACTIVE_THRESHOLD,
            **start,
        }

    async def _done_before(self) -> int | None:
        """The event up to which all is done, by this process or by the consumers of earlier versions."""
        if self._seen is not None:
            return min(self._under_way, default=self._seen + 1) - 1
        before = [await consumer_info(self._bus, EVENTS_STREAM, listener.name) for listener in self._listeners]
        return min((info["ack_floor"]["stream_seq"] for info in before if info is not None), default=None)

    async def _take(self, message: Msg, tasks: asyncio.TaskGroup) -> None:
        sequence = delivery_of(message).stream_sequence
        self._seen = max(self._seen or 0, sequence)
        if (known := self._under_way.get(sequence)) is not None:
            known.message = message
            return
        try:
            recorded: RecordedEvent | UnreadableEvent = self._bus.events.decode(message.data, sequence, message.subject)
        except UnreadableEvent as error:
            recorded = error
        wanted_by = [listener for listener in self._listeners if event_type_of(message.subject) in listener.types]
        event = self._under_way[sequence] = _UnderWay(message, recorded, set(wanted_by))
        for listener in wanted_by:
            tasks.create_task(self._bring(event, listener))
        if not wanted_by:
            await self._settle(event)

    async def _bring(self, event: _UnderWay, listener: Listener) -> None:
        """Until the listener has done with it, or it is parked."""
        recorded, name, sequence = event.recorded, listener.name, delivery_of(event.message).stream_sequence
        failures = 0
        for told, pause in enumerate(chain(_RETRY_SECONDS, repeat(_RETRY_SECONDS[-1])), start=1):
            if isinstance(recorded, UnreadableEvent):
                failures, reason = _ATTEMPTS, recorded.message
            else:
                try:
                    await listener.hear(recorded)
                    break
                except Exception as error:
                    if is_passing(error):
                        _log.warning("a handler waits for JetStream", handler=name, error=repr(error))
                    else:
                        failures += 1
                        _log.exception("a handler failed", handler=name, sequence=sequence, attempt=failures)
                    what = f"{recorded.event.type} of {recorded.aggregate}, event {sequence}"
                    reason = f"handling {what} failed {failures} times: {error!r}"
            if failures >= _ATTEMPTS and await self._park(event.message, name, reason, told):
                break
            await asyncio.sleep(pause)
            self._bus.tally.redeliveries[name] += 1
        event.waiting_for.discard(listener)
        if not event.waiting_for:
            await self._settle(event)

    async def _park(self, message: Msg, name: str, reason: str, told: int) -> bool:
        try:
            await park(
                self._bus, message, consumer=name, code=ErrorCode.HANDLER_FAILED.value, reason=reason, tried=told
            )
        except (NatsError, TimeoutError) as error:
            _log.warning("an event cannot be parked yet", handler=name, reason=reason, error=repr(error))
            return False
        _log.error("event parked", handler=name, reason=reason)
        return True

    async def _settle(self, event: _UnderWay) -> None:
        del self._under_way[delivery_of(event.message).stream_sequence]
        with suppress(NatsError):  # then it comes again, and is known
            await event.message.ack()

    async def _keep_from_coming_again(self) -> None:
        while True:
            await asyncio.sleep(_AGAIN_AFTER_SECONDS / 3)
            for event in list(self._under_way.values()):
                with suppress(NatsError):  # then it comes again, and is known to be under way
                    await event.message.in_progress()
