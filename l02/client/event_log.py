"""The audit log as people ask for it: of one agent, of one type, since a time, up to now or for ever."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from datetime import datetime

from l02.bus.connection.bus import Bus
from l02.bus.log.history import read_log_entries
from l02.bus.log.reader import last_sequence, read_events
from l02.bus.wire.codec import LogEntry, RecordedEvent, SetAside
from l02.bus.wire.subjects import AggregateId, aggregate_filter, event_subject, events_filter
from l02.client.discovery import reaching
from l02.client.stored_events import ALL_EVENTS, MAX_SEQUENCE, start_of
from l02.domain.aggregates import EVENT_TYPES
from l02.domain.errors import ErrorCode, Failure
from l02.domain.identifiers import require_id

_KIND = "agent"


async def read_log(
    bus: Bus,
    agent_id: str | None = None,
    event_type: str | None = None,
    since: int | datetime | None = None,
    *,
    follow: bool = False,
) -> AsyncGenerator[LogEntry, None]:
    """Events in their order, from sequence or time `since` on; with `follow` for ever, else to the end as it is now.

    What is no event for this version is set aside in its place. Raises Failure E2110 for an id, a type or a time that
    cannot be, NodeUnreachable if the server has no such stream.
    """
    subject = _filter(agent_id, event_type)
    if isinstance(since, int) and since > MAX_SEQUENCE:
        raise Failure(ErrorCode.COMMAND_INVALID, f"there is no event above {MAX_SEQUENCE}", "since")
    moment = start_of(since, "since") if isinstance(since, datetime) else None
    with reaching():
        newest = await last_sequence(bus)
        after = max(since, 1) - 1 if isinstance(since, int) else 0
        more = True
        while more and after < newest:
            entries, more = await read_log_entries(bus, subject, after=after, since=moment)
            for entry in entries:
                if not follow and entry.sequence > newest:
                    return
                yield entry
                after, moment = entry.sequence, None
        if not follow:
            return
        # All up to `newest` that was asked for is out, also if that was nothing.
        async with read_events(bus, after=max(after, newest), filters=[subject]) as reader:
            while True:
                for entry in await reader.next_batch():
                    yield entry


async def readable(
    entries: AsyncGenerator[LogEntry, None], unreadable: Callable[[SetAside], None]
) -> AsyncGenerator[RecordedEvent, None]:
    """The events among them; `unreadable` is told of the others."""
    async with aclosing(entries):
        async for entry in entries:
            if isinstance(entry, SetAside):
                unreadable(entry)
            else:
                yield entry


def _filter(agent_id: str | None, event_type: str | None) -> str:
    agent = AggregateId(_KIND, require_id(agent_id, "id")) if agent_id is not None else None
    if event_type is None:
        return aggregate_filter(agent) if agent else ALL_EVENTS
    pattern = type_pattern(event_type, "type")
    return event_subject(agent, pattern) if agent else events_filter(event_type=pattern)


def type_pattern(event_type: str, path: str) -> str:
    """A type as it is, a family of types (`agent.execution.*`) as NATS writes it; E2110 at `path` if there is none."""
    if event_type in EVENT_TYPES:
        return event_type
    family = event_type.removesuffix("*")
    if family.endswith(".") and any(name.startswith(family) for name in EVENT_TYPES):
        return f"{family}>"
    known = ", ".join(sorted(EVENT_TYPES))
    raise Failure(ErrorCode.COMMAND_INVALID, f"there are no events {event_type[:60]!r}; there are: {known}", path)
