"""Commands to a running node, many in flight, each until its outcome is there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from benchmarks.ours.contender import run
from l02.client.client import Client


async def measure(options: dict[str, Any]) -> dict[str, float]:
    specification: dict[str, Any] = {"name": "bench", "entrypoint": options["agent"]}
    async with Client.connect(data_dir=Path(options["data_dir"])) as client:
        spawned = [await client.spawn(specification) for _ in range(options["agents"])]
        ids = [result.agent_id for result in spawned]
        act: dict[str, Callable[[str], Awaitable[object]]] = {
            "signal": lambda agent_id: client.signal(agent_id, "x"),
            "execute": lambda agent_id: client.execute(agent_id, 0),
        }
        figures = {}
        for name in act:
            figures[name] = await _rate(act[name], ids, options)
        for agent_id in ids:
            await client.terminate(agent_id)
    return figures


async def _rate(act: Callable[[str], Awaitable[object]], ids: list[str], options: dict[str, Any]) -> float:
    end = time.perf_counter() + options["seconds"]

    async def send(number: int) -> int:
        count = 0
        while time.perf_counter() < end:
            await act(ids[number % len(ids)])
            count += 1
        return count

    began = time.perf_counter()
    counts = await asyncio.gather(*(send(number) for number in range(options["in_flight"])))
    return sum(counts) / (time.perf_counter() - began)


if __name__ == "__main__":
    run(measure)
