"""DBOS: a workflow of one durable step, its system database on PostgreSQL; faster as coroutines than in threads."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

import uvloop
from dbos import DBOS, DBOSConfig

OPTIONS: dict[str, Any] = json.loads(sys.argv[1])
CONNECTIONS = 20


@DBOS.step()  # type: ignore[untyped-decorator]
async def step() -> str:
    return "done"


@DBOS.workflow()  # type: ignore[untyped-decorator]
async def workflow() -> Any:
    return await step()


async def measure() -> dict[str, float]:
    await workflow()
    end = time.perf_counter() + OPTIONS["seconds"]

    async def invoke() -> int:
        count = 0
        while time.perf_counter() < end:
            await workflow()
            count += 1
        return count

    began = time.perf_counter()
    counts = await asyncio.gather(*(invoke() for _ in range(OPTIONS["in_flight"])))
    return {"per_second": sum(counts) / (time.perf_counter() - began)}


def main() -> dict[str, float]:
    config: DBOSConfig = {
        "name": "peer",
        "system_database_url": OPTIONS["postgres"],
        "sys_db_pool_size": CONNECTIONS,
        "log_level": "ERROR",
    }
    DBOS(config=config)
    DBOS.launch()
    try:
        return uvloop.run(measure())
    finally:
        DBOS.destroy()


print(json.dumps(main()))
