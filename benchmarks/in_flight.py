"""Pieces of work again and again, many in flight: the same loop for ours and for every peer, so it imports neither."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any


async def in_flight(work: Callable[[int], Awaitable[object]], options: dict[str, Any]) -> dict[str, float]:
    """Steps per second, and milliseconds of a piece divided by its `steps` (median), once each has done one unmeasured.

    `in_flight` callers, each with its number, have one piece after another done for `seconds`.
    """
    taken: list[float] = []

    async def caller(number: int) -> None:
        while (began := time.perf_counter()) < end:
            await work(number)
            taken.append(time.perf_counter() - began)

    callers = range(options["in_flight"])
    await asyncio.gather(*(work(number) for number in callers))
    began = time.perf_counter()
    end = began + options["seconds"]
    await asyncio.gather(*(caller(number) for number in callers))
    steps = options["steps"]
    return {
        "per_second": steps * len(taken) / (time.perf_counter() - began),
        "step_ms": statistics.median(taken) * 1000 / steps,
    }
