"""Events as the stream holds them now: a bounded number of them, in one request, without a consumer."""

from __future__ import annotations

from datetime import datetime

from l02.bus.connection.bus import Bus
from l02.bus.connection.streams import EVENTS_STREAM
from l02.bus.jetstream.history import read_stored, sequence_of, subject_of
from l02.bus.wire.codec import LogEntry, RecordedEvent


async def read_history(bus: Bus, subject_filter: str, *, after: int = 0) -> tuple[list[RecordedEvent], bool]:
    """The next events of the subjects with a stream sequence above `after`; and whether there are more.

    Raises UnreadableEvent, and as `read_stored`.
    """
    messages, more = await read_stored(bus, EVENTS_STREAM, subject_filter, after=after)
    return [bus.events.decode(message.data, sequence_of(message), subject_of(message)) for message in messages], more


async def read_log_entries(
    bus: Bus, subject_filter: str, *, after: int = 0, since: datetime | None = None, limit: int = 1000
) -> tuple[list[LogEntry], bool]:
    """The same, with what is unreadable set aside; up to `limit`, and from the time `since` on if that is given."""
    messages, more = await read_stored(bus, EVENTS_STREAM, subject_filter, after=after, since=since, limit=limit)
    return [bus.events.entry(message.data, sequence_of(message), subject_of(message)) for message in messages], more
