"""LangGraph: a chain of nodes with the PostgreSQL checkpointer, each step on disk before the next one (`sync`).

`async` is as fast; `exit` is three times as fast, and keeps nothing of a run until it is over.
"""

from __future__ import annotations

import json
import sys
import uuid
from typing import Any, TypedDict

import uvloop
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.graph import START, StateGraph
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from benchmarks.in_flight import in_flight

OPTIONS: dict[str, Any] = json.loads(sys.argv[1])
CONNECTIONS = 20


class State(TypedDict):
    output: str


async def step(state: State) -> State:
    return {"output": "done"}


async def main() -> dict[str, float]:
    settings = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
    async with AsyncConnectionPool(
        OPTIONS["postgres"], min_size=CONNECTIONS, max_size=CONNECTIONS, kwargs=settings
    ) as pool:
        saver = AsyncPostgresSaver(pool)
        await saver.setup()
        chain = [(f"step {number}", step) for number in range(OPTIONS["steps"])]
        graph = StateGraph(State).add_sequence(chain).add_edge(START, "step 0").compile(checkpointer=saver)

        async def invoke(_: int) -> None:
            config: Any = {"configurable": {"thread_id": uuid.uuid4().hex}}
            await graph.ainvoke({"output": ""}, config, durability="sync")

        return await in_flight(invoke, OPTIONS)


print(json.dumps(uvloop.run(main())))
