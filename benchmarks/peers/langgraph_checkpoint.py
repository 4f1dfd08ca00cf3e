"""LangGraph's PostgreSQL saver: a checkpoint with one channel that holds the state, put and got again."""

from __future__ import annotations

import itertools
import json
import sys
import uuid
from typing import Any

import uvloop
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from psycopg import AsyncConnection
from psycopg.rows import dict_row
from timing import median_ms

from benchmarks.agent_state import agent_states

OPTIONS: dict[str, Any] = json.loads(sys.argv[1])


async def main() -> dict[str, float]:
    states = itertools.cycle(agent_states(OPTIONS["bytes"], OPTIONS["content"]))
    configs: list[Any] = []
    settings: dict[str, Any] = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
    async with await AsyncConnection.connect(OPTIONS["postgres"], **settings) as connection:
        saver = AsyncPostgresSaver(connection)
        await saver.setup()

        async def put() -> None:
            version = uuid.uuid4().hex
            checkpoint = empty_checkpoint()
            checkpoint["channel_values"] = {"conversation": uuid.uuid4().bytes + next(states)}
            checkpoint["channel_versions"] = {"conversation": version}
            config: Any = {"configurable": {"thread_id": "bench", "checkpoint_ns": ""}}
            configs.append(await saver.aput(config, checkpoint, {}, {"conversation": version}))

        async def get() -> None:
            assert await saver.aget_tuple(next(stored)) is not None

        await median_ms(put, 10)
        put_ms = await median_ms(put, OPTIONS["runs"])
        stored = itertools.cycle(configs)
        await median_ms(get, 10)
        return {"put_ms": put_ms, "get_ms": await median_ms(get, OPTIONS["runs"])}


print(json.dumps(uvloop.run(main())))
