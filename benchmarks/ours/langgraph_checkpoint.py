"""Our saver for LangGraph."""

from __future__ import annotations

from typing import Any

from benchmarks.graph_checkpoints import Act, measure_saver
from benchmarks.ours.contender import median_ms, run
from l02.langgraph import L02Saver


async def measure(options: dict[str, Any]) -> dict[str, float]:
    async def median(act: Act, runs: int) -> float:
        return await median_ms([act] * runs)

    async with L02Saver.from_url(options["postgres"]) as saver:
        return await measure_saver(saver, options, median)


if __name__ == "__main__":
    run(measure)
