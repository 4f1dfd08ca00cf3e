"""DBOS: a workflow of durable steps, its system database on PostgreSQL; faster as coroutines than in threads."""

from __future__ import annotations

import json
import sys
from typing import Any

import uvloop
from dbos import DBOS, DBOSConfig

from benchmarks.in_flight import in_flight

OPTIONS: dict[str, Any] = json.loads(sys.argv[1])
CONNECTIONS = 20


@DBOS.step()  # type: ignore[untyped-decorator]
async def step() -> str:
    return "done"


@DBOS.workflow()  # type: ignore[untyped-decorator]
async def workflow() -> Any:
    for _ in range(OPTIONS["steps"]):
        output = await step()
    return output


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
        return uvloop.run(in_flight(lambda _: workflow(), OPTIONS))
    finally:
        DBOS.destroy()


print(json.dumps(main()))
