"""The frame of every contender of ours: uvloop as in a node, a connection, the streams, the event store."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import uvloop

from l02.bus.connection.bus import Bus, connect
from l02.bus.connection.streams import ensure_streams
from l02.bus.log.event_store import EventStore, open_event_store
from l02.domain.aggregates import AGGREGATES

Options = dict[str, Any]


def run(measure: Callable[[Options], Awaitable[dict[str, float]]]) -> None:
    """Measure with the options of the command line and print the figures."""
    options = json.loads(sys.argv[1])

    async def main() -> dict[str, float]:
        return await measure(options)

    print(json.dumps(uvloop.run(main())))


@asynccontextmanager
async def opened(options: Options) -> AsyncIterator[tuple[Bus, EventStore]]:
    """The bus with its streams, and the event store on it."""
    async with connect(options["nats"], name="bench", aggregates=AGGREGATES) as bus:
        await ensure_streams(bus)
        async with open_event_store(bus) as store:
            yield bus, store


async def median_ms(acts: list[Callable[[], Awaitable[object]]]) -> float:
    """The median time of the acts, one after another."""
    taken = []
    for act in acts:
        began = time.perf_counter()
        await act()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken) * 1000
