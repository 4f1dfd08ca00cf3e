"""Checkpoints through a saver for LangGraph, its own or ours: one channel that holds the state, put and got again."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver, empty_checkpoint

from benchmarks.agent_state import agent_states

Act = Callable[[], Awaitable[object]]


async def measure_saver(
    saver: BaseCheckpointSaver[Any], options: dict[str, Any], median_ms: Callable[[Act, int], Awaitable[float]]
) -> dict[str, float]:
    """The median times of a put and of a get."""
    states = itertools.cycle(agent_states(options["bytes"], options["content"]))
    configs: list[Any] = []

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
    put_ms = await median_ms(put, options["runs"])
    stored = itertools.cycle(configs)
    await median_ms(get, 10)
    return {"put_ms": put_ms, "get_ms": await median_ms(get, options["runs"])}
