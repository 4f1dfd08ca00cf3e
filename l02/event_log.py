"""The audit log as people ask for it: of one agent, of one type, since a time, up to now or for ever."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import datetime

from bus.codec import RecordedEvent
from bus.connection import Bus
from bus.history import read_history
from bus.reader import last_sequence, read_events
from bus.subjects import AggregateId, aggregate_filter, event_subject, events_filter
from domain.aggregates import EVENT_TYPES
from domain.errors import ErrorCode, Failure
from domain.identifiers import require_id
from l02.discovery import reaching
from l02.stored_events import ALL_EVENTS

__all__ = ["read_log"]

_KIND = "agent"


async def read_log(
    bus: Bus,
    agent_id: str | None = None,
    event_type: str | None = None,
    since: int | datetime | None = None,
    *,
    follow: bool = False,
) -> AsyncGenerator[RecordedEvent, None]:
    """Events in their order, from sequence or time `since` on; with `follow` for ever, else to the end as it is now.

    Raises Failure E2110 for an id or type that cannot be, NodeUnreachable if the server has no such stream.
    """
    subject = _filter(agent_id, event_type)
    with reaching():
        newest = await last_sequence(bus)
        after, moment = (0, since) if isinstance(since, datetime) else (max(since or 1, 1) - 1, None)
        more = True
        while more and after < newest:
            events, more = await read_history(bus, subject, after=after, since=moment)
            for recorded in events:
                if not follow and recorded.sequence > newest:
                    return
                yield recorded
                after, moment = recorded.sequence, None
        if not follow:
            return
        # All up to `newest` that was asked for is out, also if that was nothing.
        async with read_events(bus, after=max(after, newest), filters=[subject]) as reader:
            while True:
                for recorded in await reader.next_batch():
                    yield recorded


def _filter(agent_id: str | None, event_type: str | None) -> str:
    agent = AggregateId(_KIND, require_id(agent_id, "id")) if agent_id is not None else None
    if event_type is None:
        return aggregate_filter(agent) if agent else ALL_EVENTS
    pattern = _pattern(event_type)
    return event_subject(agent, pattern) if agent else events_filter(event_type=pattern)


def _pattern(event_type: str) -> str:
    """A type as it is, a family of types (`agent.execution.*`) as NATS writes it."""
    if event_type in EVENT_TYPES:
        return event_type
    family = event_type.removesuffix("*")
    if family.endswith(".") and any(name.startswith(family) for name in EVENT_TYPES):
        return f"{family}>"
    known = ", ".join(sorted(EVENT_TYPES))
    raise Failure(ErrorCode.COMMAND_INVALID, f"there are no events {event_type[:60]!r}; there are: {known}", "type")
