"""What our two checkpointers for LangGraph have in common: how a checkpoint is named, and what is numbered how.

It is here because an agent's sandbox has nothing but this package; `l02.langgraph` may use it too.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import WRITES_IDX_MAP, BaseCheckpointSaver


class VersioningSaver(BaseCheckpointSaver[str]):
    """Versions of channels are texts that sort as they were made."""

    def get_next_version(self, current: str | None, channel: None) -> str:
        """Above `current`, and never the same in two branches of a thread that begin at one checkpoint."""
        number = 1 if current is None else int(str(current).split(".")[0]) + 1
        return f"{number:032}.{secrets.token_hex(8)}"


def place_of(config: RunnableConfig) -> tuple[str, str]:
    """The thread and the namespace that a configuration names."""
    place = config["configurable"]
    return str(place["thread_id"]), place.get("checkpoint_ns", "")


def config_of(thread_id: str, namespace: str, checkpoint_id: str | None) -> RunnableConfig:
    """The configuration that names a checkpoint; without an id, the latest."""
    place = {"thread_id": thread_id, "checkpoint_ns": namespace}
    return {"configurable": place | ({} if checkpoint_id is None else {"checkpoint_id": checkpoint_id})}


def numbered(writes: Sequence[tuple[str, Any]]) -> dict[int, tuple[str, Any]]:
    """A task's writes by their numbers; LangGraph gives those of some channels, below 0, which may be written again."""
    return {WRITES_IDX_MAP.get(channel, at): (channel, value) for at, (channel, value) in enumerate(writes)}
