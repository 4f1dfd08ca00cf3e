"""LangGraph's PostgreSQL saver."""

from __future__ import annotations

import json
import sys
from typing import Any

import uvloop
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from psycopg import AsyncConnection
from psycopg.rows import dict_row
from timing import median_ms

from benchmarks.graph_checkpoints import measure_saver

OPTIONS: dict[str, Any] = json.loads(sys.argv[1])


async def main() -> dict[str, float]:
    settings: dict[str, Any] = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
    async with await AsyncConnection.connect(OPTIONS["postgres"], **settings) as connection:
        saver = AsyncPostgresSaver(connection)
        await saver.setup()
        return await measure_saver(saver, OPTIONS, median_ms)


print(json.dumps(uvloop.run(main())))
