"""Following events with a durable consumer, a little behind those who hear of them at once.

What a process records, its handlers hear of directly (`Repository.on_recorded`). The durable consumer brings what
other processes have recorded and what a crash kept from being acted on; most of what it brings is known already. So it
gathers what comes within a moment, and acknowledges it in one go.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, Literal

from nats.errors import Error as NatsError

from bus.codec import RecordedEvent, decode_event
from bus.connection import Bus
from bus.pull import pull
from bus.streams import EVENTS_STREAM
from bus.subjects import events_filter
from domain.message import Event

__all__ = ["follow_events"]

_GATHER_SECONDS = 0.05
_BATCH = 500


async def follow_events(
    bus: Bus,
    durable_name: str,
    event_types: Iterable[type[Event]],
    handle: Callable[[Sequence[RecordedEvent]], Awaitable[None]],
    *,
    begin: Literal["all", "new"],
    ready: Callable[[], None] = lambda: None,
    again_after_seconds: float = 60.0,
) -> None:
    """Give `handle` every event of the types, in order and at least once, until cancelled.

    The consumer is made at the stream's first event or behind its last one (`begin`); its name must never change. What
    a process had been given when it died comes again after `again_after_seconds`.
    """

    async def config() -> dict[str, Any]:
        return {
            "durable_name": durable_name,
            "ack_policy": "all",
            "ack_wait": int(again_after_seconds * 1_000_000_000),
            "deliver_policy": begin,
            "filter_subjects": [events_filter(event_type=event.type) for event in event_types],
        }

    async with pull(bus, EVENTS_STREAM, config) as source:
        ready()
        while True:
            messages = await source.next_batch(_BATCH)
            await handle([decode_event(item.data, item.metadata.sequence.stream) for item in messages])
            with suppress(NatsError):  # then they come again, and are known
                await messages[-1].ack()
            await asyncio.sleep(_GATHER_SECONDS)
