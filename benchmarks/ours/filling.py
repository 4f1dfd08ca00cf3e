"""A stream full of agents' lives, stored as the runtime stores them: with expectations, in shared batches."""

from __future__ import annotations

import asyncio

from l02.bus.log.event_store import EventStore
from l02.bus.wire.subjects import AggregateId, aggregate_of
from l02.bus.wire.trail import Trail, extended
from tests.projections.history import History

_WRITERS = 500
_APPEND_EVENTS = 500


async def fill(store: EventStore, events: int, agents: int, prefix: str) -> dict[AggregateId, Trail]:
    """Store `events` events of about `agents` agents whose ids begin with `prefix`; each one's trail.

    The events of an agent are spread over the whole stream.
    """
    trails: dict[AggregateId, Trail] = {}

    async def write(number: int) -> None:
        history = History(agents=max(1, agents // _WRITERS), prefix=f"{prefix}{number}-")
        for subject, payload in history.events(events // _WRITERS):
            aggregate = aggregate_of(subject)
            assert aggregate is not None
            trail = trails.get(aggregate, ())
            sequence = await store.append(aggregate, [(subject, payload)], trail[-1] if trail else 0, trail)
            trails[aggregate] = extended(trail, sequence)

    await asyncio.gather(*(write(number) for number in range(_WRITERS)))
    return trails


async def fill_one(store: EventStore, agent_id: str, events: int) -> None:
    """Store the life of one agent, `<agent_id>0`."""
    messages = list(History(agents=1, prefix=agent_id).events(events))
    sequence = 0
    for begin in range(0, events, _APPEND_EVENTS):
        aggregate = AggregateId("agent", f"{agent_id}0")
        sequence = await store.append(aggregate, messages[begin : begin + _APPEND_EVENTS], sequence)
