"""Checkpoints in PostgreSQL through the state manager's store, each of a state that has not been seen before."""

from __future__ import annotations

import itertools
import uuid
from typing import Any

from benchmarks.agent_state import agent_states
from benchmarks.ours.contender import median_ms, run
from l02.handlers.state.checkpoint_store import Saved
from l02.handlers.state.stores.postgres import open_postgres_checkpoints


async def measure(options: dict[str, Any]) -> dict[str, float]:
    states = itertools.cycle(agent_states(options["bytes"], options["content"]))
    saved: list[Saved] = []
    async with open_postgres_checkpoints(
        options["postgres"], compression=options["compression"], limit=options["bytes"] * 2
    ) as store:

        async def put() -> None:
            # An own first line makes it new; what follows compresses as it does.
            parts = {"conversation": uuid.uuid4().bytes + next(states)}
            saved.append(await store.save("bench", uuid.uuid4().hex, parts))

        async def get() -> None:
            checkpoint = next(stored)
            await store.load(checkpoint.storage_location, checkpoint.sha256)

        await median_ms([put] * 10)
        put_ms = await median_ms([put] * options["runs"])
        stored = itertools.cycle(saved)
        await median_ms([get] * 10)
        return {"put_ms": put_ms, "get_ms": await median_ms([get] * options["runs"])}


if __name__ == "__main__":
    run(measure)
