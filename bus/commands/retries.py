"""A handler is asked to handle an event once more: what `l02 dead retry` does with an event that was parked.

Publishing the event again would put another one into the log. So whoever asks sends the event's sequence, and the
handler reads the event where it is.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import structlog
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from l02.bus.connection.bus import Bus
from l02.bus.connection.streams import EVENTS_STREAM
from l02.bus.jetstream.history import subject_of
from l02.bus.wire.codec import RecordedEvent, UnreadableEvent
from l02.bus.wire.subjects import retry_subject

_log = structlog.get_logger()


@asynccontextmanager
async def answer_retries(
    bus: Bus, handler: str, handle: Callable[[RecordedEvent], Awaitable[None]]
) -> AsyncIterator[None]:
    """Call `handle` when asked to, as long as the context lasts; where several nodes have the handler, at one of them.

    The answer is empty if the event was handled, and says else why it was not.
    """

    async def retry(request: Msg) -> None:
        try:
            sequence = int(request.data)
            stored = await bus.stored(EVENTS_STREAM, sequence=sequence)
            if stored is None:
                raise ValueError(f"there is no event {sequence}")
            await handle(bus.events.decode(stored.data, sequence, subject_of(stored)))
            answer = ""
        except Exception as error:
            _log.exception("a handler failed on an event it was asked to handle again", handler=handler)
            answer = error.message if isinstance(error, UnreadableEvent) else repr(error)
        with suppress(NatsError):  # then who asked hears nothing, and the letter stays
            await request.respond(answer.encode())

    subscription = await bus.client.subscribe(retry_subject(handler), queue=handler, cb=retry)
    try:
        yield
    finally:
        if not bus.client.is_closed:
            await subscription.unsubscribe()
