"""Commands to a running node, each until its outcome is there, and an agent for each that is in flight.

The `act` is a signal, or an execution that makes `calls` calls of the agent's own tool.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from benchmarks.in_flight import in_flight
from benchmarks.ours.contender import run
from l02.client.client import Client


async def measure(options: dict[str, Any]) -> dict[str, float]:
    specification: dict[str, Any] = {
        "name": "bench",
        "entrypoint": options["agent"],
        "trust_level": "standard",
    }
    async with Client.connect(data_dir=Path(options["data_dir"])) as client:
        spawned = [await client.spawn(specification) for _ in range(options["in_flight"])]
        ids = [result.agent_id for result in spawned]
        acts: dict[str, Callable[[int], Awaitable[object]]] = {
            "signal": lambda number: client.signal(ids[number], "x"),
            "execute": lambda number: client.execute(ids[number], options["calls"]),
        }
        figures = await in_flight(acts[options["act"]], options)
        for agent_id in ids:
            await client.terminate(agent_id)
    return figures


if __name__ == "__main__":
    run(measure)
