"""How the peers of checkpoints are timed: as ours are."""

from __future__ import annotations

import statistics
import time
from collections.abc import Awaitable, Callable


async def median_ms(act: Callable[[], Awaitable[object]], runs: int) -> float:
    """The median time of the runs, one after another."""
    taken = []
    for _ in range(runs):
        began = time.perf_counter()
        await act()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken) * 1000
