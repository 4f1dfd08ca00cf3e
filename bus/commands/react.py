"""How a handler hears of events, and all that it need not think of itself.

What this process records a handler acts on at once; a durable consumer, a little behind, brings what other processes
have recorded and what a crash kept from being acted on. So a handler hears of most events twice, of some late, and must
do no harm then: it looks at the state, it does not count events. One that fails on an event is asked again, ever later,
while others go on; then the event is parked among the dead letters under the handler's name, and `l02 dead retry` asks
that handler once more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from l02.bus.commands.follow import follow_events
from l02.bus.connection.bus import Bus
from l02.bus.log.repository import Repository
from l02.bus.wire.codec import RecordedEvent
from l02.domain.kernel.message import Event

Handle = Callable[[RecordedEvent, bool], asyncio.Future[Any] | None]


async def react(
    bus: Bus,
    aggregates: Repository[Any],
    name: str,
    events: tuple[type[Event], ...],
    handle: Handle,
    *,
    ready: Callable[[], None] = lambda: None,
    again_after_seconds: float = 30.0,
) -> None:
    """Tell `handle` of every event of these types, until cancelled; begin by looking at what there is.

    It is given the event, and whether this process has recorded it just now. If it has more to do than to wake
    somebody, it begins a task and gives that back: it is waited for before the event counts as handled, and what it
    raises is a failure. `name` must never change. What this process had been given when it died comes again after
    `again_after_seconds`.
    """

    def at_once(recorded: RecordedEvent) -> None:
        if isinstance(recorded.event, events):
            handle(recorded, True)

    async def behind(batch: Sequence[RecordedEvent]) -> None:
        more = [waiting for recorded in batch if (waiting := handle(recorded, False)) is not None]
        await asyncio.gather(*more)

    with aggregates.listening(at_once):
        await follow_events(
            bus,
            f"{name}-{aggregates.node_id}",
            events,
            behind,
            begin="new",
            ready=ready,
            again_after_seconds=again_after_seconds,
        )
