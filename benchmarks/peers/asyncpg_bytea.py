"""asyncpg by hand: one INSERT of the bytes as they are into a table with one bytea column, and one SELECT of them.

No hash, no compression but PostgreSQL's own, no deduplication: the least that keeping a state can cost.
"""

from __future__ import annotations

import itertools
import json
import sys
import uuid
from typing import Any

import asyncpg
import uvloop
from timing import median_ms

from benchmarks.agent_state import agent_states

OPTIONS: dict[str, Any] = json.loads(sys.argv[1])


async def main() -> dict[str, float]:
    states = itertools.cycle(agent_states(OPTIONS["bytes"], OPTIONS["content"]))
    names: list[str] = []
    connection = await asyncpg.connect(OPTIONS["postgres"])
    await connection.execute("CREATE TABLE IF NOT EXISTS bare (id text PRIMARY KEY, data bytea NOT NULL)")

    async def put() -> None:
        names.append(uuid.uuid4().hex)
        data = uuid.uuid4().bytes + next(states)
        await connection.execute("INSERT INTO bare (id, data) VALUES ($1, $2)", names[-1], data)

    async def get() -> None:
        await connection.fetchval("SELECT data FROM bare WHERE id = $1", next(stored))

    await median_ms(put, 10)
    put_ms = await median_ms(put, OPTIONS["runs"])
    stored = itertools.cycle(names)
    await median_ms(get, 10)
    get_ms = await median_ms(get, OPTIONS["runs"])
    await connection.close()
    return {"put_ms": put_ms, "get_ms": get_ms}


print(json.dumps(uvloop.run(main())))
