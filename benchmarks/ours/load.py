"""Aggregates loaded into an empty memory, and appends, on a stream of a given size."""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import Any

from benchmarks.ours.contender import median_ms, opened, run
from benchmarks.ours.filling import fill, fill_one
from bus.event_store import EventStore
from bus.repository import Repository
from bus.subjects import AggregateId
from domain.aggregates import AGENT

_SHORT_EVENTS = 20
_SHORT_AGENTS = 100
_WRITERS = 256
_SECONDS = 3.0


async def measure(options: dict[str, Any]) -> dict[str, float]:
    async with opened(options) as (_, store):
        await fill(store, options["events"], options["agents"], "l")
        run_id = uuid.uuid4().hex[:8]
        for number in range(_SHORT_AGENTS):
            await fill_one(store, f"short-{run_id}-{number}-", _SHORT_EVENTS)
        figures = {
            "load_short_ms": await _cold(store, [f"short-{run_id}-{number}-0" for number in range(_SHORT_AGENTS)]),
            "appends_per_second": await _appends(store),
        }
        if options["long_events"]:
            await fill_one(store, f"long-{run_id}-", options["long_events"])
            figures["load_long_ms"] = await _cold(store, [f"long-{run_id}-0"] * 5)
        return figures


async def _cold(store: EventStore, agent_ids: list[str]) -> float:
    async def load(agent_id: str) -> None:
        loaded = await Repository(AGENT, store).load(agent_id)
        assert loaded.version

    return await median_ms([lambda agent_id=agent_id: load(agent_id) for agent_id in agent_ids])  # type: ignore[misc]


async def _appends(store: EventStore) -> float:
    """New events of new aggregates, which the wildcard expectation has to look for in the whole stream."""
    end = time.perf_counter() + _SECONDS

    async def write() -> int:
        aggregate = AggregateId("bench", uuid.uuid4().hex)
        count = sequence = 0
        while time.perf_counter() < end:
            message = (f"l02.evt.bench.{aggregate.id}.happened", b"x" * 500)
            sequence = await store.append(aggregate, [message], sequence)
            count += 1
            if count % 10 == 0:
                aggregate, sequence = AggregateId("bench", uuid.uuid4().hex), 0
        return count

    began = time.perf_counter()
    counts = await asyncio.gather(*(write() for _ in range(_WRITERS)))
    return sum(counts) / (time.perf_counter() - began)


if __name__ == "__main__":
    run(measure)
