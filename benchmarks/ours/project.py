"""The table of agents rebuilt from event 1. With `fill`, the events are stored first and nothing is measured."""

from __future__ import annotations

import time
from typing import Any

from benchmarks.ours.contender import opened, run
from benchmarks.ours.filling import fill
from l02.bus.log.reader import last_sequence
from l02.projections.rebuild import rebuild
from l02.projections.tables.database import migrate


async def measure(options: dict[str, Any]) -> dict[str, float]:
    async with opened(options) as (bus, store):
        if options["fill"]:
            await fill(store, options["events"], options["agents"], "p")
            await migrate(options["postgres"])
            return {"events": await last_sequence(bus)}
        began = time.perf_counter()
        position = await rebuild("agents", bus, options["postgres"])
        return {"per_second": position / (time.perf_counter() - began)}


if __name__ == "__main__":
    run(measure)
