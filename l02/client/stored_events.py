"""The event stream page by page as it is stored, readable or not, for whoever goes through all of it.

The filter is `>`, which in this stream means the same as the subject of all events: with any other filter the server
counts for each page what is left over all subjects (at 60,000 aggregates 13,000 events a second instead of 63,000).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta

from nats.aio.msg import Msg

from l02.bus.connection.bus import Bus
from l02.bus.connection.streams import EVENTS_STREAM
from l02.bus.jetstream.history import read_stored, sequence_of
from l02.bus.log.reader import last_sequence
from l02.domain.errors import ErrorCode, Failure

ALL_EVENTS = ">"
MAX_SEQUENCE = 2**63 - 1
"""The largest number that all who handle sequences can hold."""
_PAGE = 1000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# The server counts nanoseconds since 1970 in 64 bits, to 2262-04-11.
_FAR = datetime(2200, 1, 1, tzinfo=UTC)
_END = datetime(2262, 1, 1, tzinfo=UTC)


def start_of(time: datetime, path: str) -> datetime:
    """The time from which to read, as the server takes it; E2110 at `path` for one that it cannot count to."""
    try:
        start = time.astimezone(UTC)
    except OverflowError:
        start = _END
    if start >= _END:
        raise Failure(ErrorCode.COMMAND_INVALID, f"name a time before {_END:%Y-%m-%d}", path)
    return max(start, _EPOCH)


async def read_page(bus: Bus, after: int) -> list[Msg]:
    """The next events with a sequence above `after`, in order; none if there are no more. Raises as `read_stored`."""
    messages, _ = await read_stored(bus, EVENTS_STREAM, ALL_EVENTS, after=after, limit=_PAGE)
    return messages


async def stored_events(bus: Bus, until: int) -> AsyncGenerator[Msg, None]:
    """All events up to the stream sequence `until`, from the first on. Raises as `read_stored`."""
    after = 0
    while after < until and (page := await read_page(bus, after)):
        for message in page:
            after = sequence_of(message)
            if after > until:
                return
            yield message


async def sequence_at(bus: Bus, time: datetime) -> int:
    """The sequence of the last event that was in the stream at `time` (to the microsecond); 0 if there was none."""
    newest = await last_sequence(bus)
    if time < _EPOCH:
        return 0
    if time >= _FAR:
        return newest
    later, _ = await read_stored(bus, EVENTS_STREAM, ALL_EVENTS, since=time + timedelta(microseconds=1), limit=1)
    return sequence_of(later[0]) - 1 if later else newest
