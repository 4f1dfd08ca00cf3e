"""LangGraph's checkpoints in an agent's own state: a graph runs as an agent without network, database or change.

    @agent.on_message
    async def handle(ctx, message):
        graph = builder.compile(checkpointer=StateSaver(ctx.state))
        return await graph.ainvoke(message, {"configurable": {"thread_id": "1"}})

What is in `ctx.state` is durable as the agent is: it is in its checkpoints, is rolled back and forked with it, and
moves to another node with it. So only the latest checkpoint of a thread is kept here: the past is l02's. Within an
execution that is run again after a crash, the graph begins where the execution began; what its nodes ask of `ctx` is
answered as it was.
"""

from __future__ import annotations

import json
import re
import threading
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Iterator, MutableMapping, Sequence
from typing import Any, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    get_checkpoint_id,
    get_checkpoint_metadata,
)

from l02.agent.graph_checkpoints import VersioningSaver, config_of, numbered, place_of

__all__ = ["StateSaver"]

_KEY = "langgraph"
_WRITE = "write"
_WRITES_BEFORE = "writes"
"""Where an earlier version kept all writes together; they are read, and go with the next checkpoint."""
_NUMBER = re.compile(r"-?[0-9]{1,9}")
_turn = threading.RLock()
"""Nodes run in threads, each hands in its writes by itself, and several savers may be over one state."""


class StateSaver(VersioningSaver):
    """Keeps the latest checkpoint of each thread and namespace in `ctx.state`, each channel under a key of its own."""

    def __init__(self, state: MutableMapping[str, Any]) -> None:
        super().__init__()
        self._state = state

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Takes the place of the checkpoint before. Raises ValueError for a graph that needs more than the latest."""
        if metadata.get("counters_since_delta_snapshot"):
            raise ValueError("a DeltaChannel needs checkpoints of the past, and here is only the latest: use another")
        thread, namespace = place_of(config)
        values = checkpoint["channel_values"]
        with _turn:
            for channel in new_versions:
                if channel in values:
                    self._state[_key(thread, namespace, "value", channel)] = self._dump(values[channel])
                else:
                    self._state.pop(_key(thread, namespace, "value", channel), None)
            self._state[_key(thread, namespace, "checkpoint")] = {
                "id": checkpoint["id"],
                "checkpoint": self._dump({**checkpoint, "channel_values": {}}),
                "metadata": self._dump(get_checkpoint_metadata(config, metadata)),
                "channels": sorted(values),
            }
            for key in self._writes_of(thread, namespace):
                if self._behind(key) != checkpoint["id"]:
                    del self._state[key]
        return config_of(thread, namespace, checkpoint["id"])

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """What a task has written behind the latest checkpoint, or one still to come; of those before, nothing is kept.

        LangGraph hands in a checkpoint beside the nodes that follow it, in any order: ids sort as they were made.
        """
        thread, namespace = place_of(config)
        behind = config["configurable"]["checkpoint_id"]
        with _turn:
            latest = self._state.get(_key(thread, namespace, "checkpoint"))
            if latest is not None and behind < latest["id"]:
                return
            for index, (channel, value) in numbered(writes).items():
                key = _key(thread, namespace, _WRITE, task_id, str(index))
                if index < 0 or key not in self._state:
                    self._state[key] = [task_path, channel, self._dump(value), behind]

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """The latest checkpoint; None if there is none, or `config` names another."""
        thread, namespace = place_of(config)
        with _turn:
            latest = self._state.get(_key(thread, namespace, "checkpoint"))
            if latest is None or get_checkpoint_id(config) not in (None, latest["id"]):
                return None
            writes = sorted(self._written(thread, namespace, latest["id"]))
            values = {
                channel: self._load(self._state[_key(thread, namespace, "value", channel)])
                for channel in latest["channels"]
            }
        return CheckpointTuple(
            config=config_of(thread, namespace, latest["id"]),
            checkpoint=cast(Checkpoint, self._load(latest["checkpoint"]) | {"channel_values": values}),
            metadata=self._load(latest["metadata"]),
            pending_writes=[(task_id, channel, self._load(value)) for _, task_id, _, channel, value in writes],
        )

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """The latest checkpoints that fit."""
        place = config["configurable"] if config else {}
        found: list[CheckpointTuple] = []
        for thread, namespace in self._threads():
            wanted = (place.get("thread_id", thread), place.get("checkpoint_ns", namespace))
            latest = self.get_tuple(config_of(thread, namespace, get_checkpoint_id(config) if config else None))
            if (thread, namespace) != wanted or latest is None:
                continue
            limits = get_checkpoint_id(before) if before else None
            if limits is not None and latest.checkpoint["id"] >= limits:
                continue
            if all(cast(dict[str, Any], latest.metadata).get(key) == value for key, value in (filter or {}).items()):
                found.append(latest)
        found.sort(key=lambda latest: latest.checkpoint["id"], reverse=True)
        return iter(found[:limit])

    def delete_thread(self, thread_id: str) -> None:
        """Forget a thread."""
        with _turn:
            for key in self._keys_below(str(thread_id)):
                del self._state[key]

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        return self.put(config, checkpoint, metadata, new_versions)

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        self.put_writes(config, writes, task_id, task_path)

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        return self.get_tuple(config)

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        for latest in self.list(config, filter=filter, before=before, limit=limit):
            yield latest

    async def adelete_thread(self, thread_id: str) -> None:
        self.delete_thread(thread_id)

    def _writes_of(self, thread: str, namespace: str) -> Sequence[str]:
        """The keys of what is written behind the latest checkpoint, and those that are still to come."""
        together = _key(thread, namespace, _WRITES_BEFORE)
        each = self._keys_below(thread, namespace, _WRITE)
        return [together, *each] if together in self._state else each

    def _keys_below(self, *parts: str) -> Sequence[str]:
        beginning = _key(*parts).removesuffix("]") + ","
        return [key for key in [*self._state] if key.startswith(beginning) and _parts(key)]

    def _behind(self, key: str) -> str | None:
        """The checkpoint that a write is behind; None for what an earlier version wrote, behind the latest."""
        match self._state[key]:
            case [_, _, _, str() as behind] if _parts(key)[2] == _WRITE:
                return behind
        return None

    def _written(self, thread: str, namespace: str, latest: str) -> Iterator[tuple[str, str, int, str, Sequence[str]]]:
        """Task path, task, number, channel and value of each that is behind the latest checkpoint."""
        for key in self._writes_of(thread, namespace):
            match _parts(key):
                case [_, _, _, task_id, index]:
                    path, channel, value = self._state[key][:3]
                    if self._behind(key) in (None, latest):
                        yield path, task_id, int(index), channel, value
                case _:
                    for task_id, number, path, channel, value in self._state[key]:
                        yield path, task_id, number, channel, value

    def _threads(self) -> Iterator[tuple[str, str]]:
        for key in [*self._state]:
            match _parts(key):
                case [thread, namespace, "checkpoint"]:
                    yield thread, namespace

    def _dump(self, value: Any) -> Sequence[str]:
        kind, raw = self.serde.dumps_typed(value)
        return [kind, b64encode(raw).decode()]

    def _load(self, stored: Sequence[str]) -> Any:
        kind, raw = stored
        return self.serde.loads_typed((kind, b64decode(raw)))


def _key(*parts: str) -> str:
    return f"{_KEY} {json.dumps(parts)}"


def _parts(key: str) -> Sequence[str]:
    """What `_key` made it of, if it is one of the saver's; nothing if it is the agent's own, whatever it is."""
    name, _, rest = key.partition(" ")
    if name != _KEY:
        return []
    try:
        parts = json.loads(rest)
    except (ValueError, RecursionError):
        return []
    match parts:
        case [str(), str(), "checkpoint" | "writes"] | [str(), str(), "value", str()]:
            pass
        case [str(), str(), "write", str(), str() as index] if _NUMBER.fullmatch(index):
            pass
        case _:
            return []
    return parts if key == _key(*parts) else []
