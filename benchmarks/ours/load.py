"""Aggregates loaded into an empty memory, and appends, on a stream of a given size."""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from itertools import cycle
from typing import Any

from benchmarks.ours.contender import median_ms, opened, run
from benchmarks.ours.filling import fill, fill_one
from l02.bus.log.event_store import EventStore
from l02.bus.log.repository import Repository
from l02.bus.log.snapshots import Snapshots, open_snapshots
from l02.bus.wire.subjects import AggregateId
from l02.bus.wire.trail import Trail, extended
from l02.domain.agent.state import AgentState
from l02.domain.aggregates import AGENT

_SHORT_EVENTS = 20
_AGENTS = 100
_WRITERS = 256
_SECONDS = 3.0


async def measure(options: dict[str, Any]) -> dict[str, float]:
    async with opened(options) as (bus, store), open_snapshots(bus, AGENT) as snapshots:
        run_id = uuid.uuid4().hex[:8]
        known = await fill(store, options["events"], options["agents"], f"fill-{run_id}-")
        if options["long_events"]:
            return await _lengths(store, snapshots, run_id, options["long_events"])
        return await _stream(store, known)


async def _lengths(
    store: EventStore, snapshots: Snapshots[AgentState], run_id: str, long_events: int
) -> dict[str, float]:
    """Aggregates of few and of many events; of these every fifth is of a command, which is remembered for ever."""
    for number in range(_AGENTS):
        await fill_one(store, f"short-{run_id}-{number}-", _SHORT_EVENTS)
    await fill_one(store, f"long-{run_id}-", long_events)
    short, long = [f"short-{run_id}-{number}-0" for number in range(_AGENTS)], [f"long-{run_id}-0"]
    without = await _cold(store, long)
    await Repository(AGENT, store, "n1", snapshots).load(long[0])
    await snapshots.settled()
    return {
        "short_ms": await _cold(store, short, snapshots),
        "long_ms": await _cold(store, long * _AGENTS, snapshots),
        "long_without_ms": without,
    }


async def _stream(store: EventStore, trails: dict[AggregateId, Trail]) -> dict[str, float]:
    """Whatever might cost more the more the stream holds."""
    aggregates = list(trails)
    random.Random(0).shuffle(aggregates)
    scattered = await _cold(store, [aggregate.id for aggregate in aggregates[:_AGENTS]])

    async def append(aggregate: AggregateId) -> None:
        trail = trails[aggregate]
        sequence = await store.append(aggregate, [_message(aggregate)], trail[-1], trail)
        trails[aggregate] = extended(trail, sequence)

    alone = await median_ms([lambda aggregate=aggregate: append(aggregate) for aggregate in aggregates[:_AGENTS]])  # type: ignore[misc]
    return {
        "scattered_ms": scattered,
        "append_ms": alone,
        "to_new_per_second": await _appends(store, {}),
        "to_old_per_second": await _appends(store, {aggregate: trails[aggregate] for aggregate in aggregates}),
    }


async def _cold(store: EventStore, agent_ids: list[str], snapshots: Snapshots[AgentState] | None = None) -> float:
    async def load(agent_id: str) -> None:
        loaded = await Repository(AGENT, store, "n1", snapshots).load(agent_id)
        assert loaded.version

    return await median_ms([lambda agent_id=agent_id: load(agent_id) for agent_id in agent_ids])  # type: ignore[misc]


async def _appends(store: EventStore, trails: dict[AggregateId, Trail]) -> float:
    """Appends per second to these aggregates in turn, whose last events may be far back; if none, to ever new ones."""
    end = time.perf_counter() + _SECONDS
    aggregates = list(trails)

    async def write(number: int) -> int:
        own = cycle(aggregates[number::_WRITERS])
        count = 0
        while time.perf_counter() < end:
            aggregate = next(own, None) or AggregateId("bench", uuid.uuid4().hex)
            trail = trails.get(aggregate, ())
            sequence = await store.append(aggregate, [_message(aggregate)], trail[-1] if trail else 0, trail)
            if aggregates:
                trails[aggregate] = extended(trail, sequence)
            count += 1
        return count

    began = time.perf_counter()
    counts = await asyncio.gather(*(write(number) for number in range(_WRITERS)))
    return sum(counts) / (time.perf_counter() - began)


def _message(aggregate: AggregateId) -> tuple[str, bytes]:
    return f"l02.evt.{aggregate.kind}.{aggregate.id}.happened", b"x" * 500


if __name__ == "__main__":
    run(measure)
