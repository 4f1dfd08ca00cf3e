"""A checkpointer for LangGraph over the state manager's PostgreSQL, in which no stored bit changes unnoticed.

    async with L02Saver.from_url("postgresql://…") as saver:
        graph = builder.compile(checkpointer=saver)
        await graph.ainvoke(…, {"configurable": {"thread_id": "1"}})

It is for graphs that run outside of l02, beside its database; a graph that runs as an agent has no network and keeps
its checkpoints in the agent's state (`l02.agent.langgraph`). The methods without `await` are for other threads than the
one it was opened in.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar, cast

import msgspec
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    get_checkpoint_id,
    get_checkpoint_metadata,
)
from langgraph.checkpoint.serde.base import SerializerProtocol

from l02.agent.graph_checkpoints import VersioningSaver, config_of, numbered, place_of
from l02.handlers.state.settings import Compression
from l02.handlers.state.stores.database import Database, open_database, sql
from l02.langgraph.packing import Packing

if TYPE_CHECKING:
    from asyncpg import Record

T = TypeVar("T")
_ROWS_AT_ONCE = 20


class L02Saver(VersioningSaver):
    """Made by `from_url`. Its methods raise asyncpg's errors if PostgreSQL is away, Failure (E2033) for damage."""

    def __init__(
        self, database: Database, *, compression: Compression = "gzip", serde: SerializerProtocol | None = None
    ):
        super().__init__(serde=serde)
        self._database = database
        self._packing = Packing(compression)
        self._loop = asyncio.get_running_loop()

    @classmethod
    @asynccontextmanager
    async def from_url(cls, url: str, *, compression: Compression = "gzip") -> AsyncIterator[L02Saver]:
        """One over the database at `url`; its tables are made if they are not there."""
        async with open_database(url, "langgraph") as database:
            yield cls(database, compression=compression)

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint, and the values that are new in it; where it is."""
        thread_id, namespace = place_of(config)
        values = checkpoint["channel_values"]
        new = {channel: version for channel, version in new_versions.items() if channel in values}
        rest = {**checkpoint, "channel_values": {}}
        packed = await self._packing.pack(self.serde, [rest, *(values[channel] for channel in new)])
        await self._database.execute(
            sql("langgraph_put"),
            *(thread_id, namespace, checkpoint["id"], get_checkpoint_id(config), packed[0]),
            _json(get_checkpoint_metadata(config, metadata)),
            _json({channel: str(version) for channel, version in checkpoint["channel_versions"].items()}),
            *([*new], [str(version) for version in new.values()], packed[1:]),
        )
        return config_of(thread_id, namespace, checkpoint["id"])

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Store what a task has written behind a checkpoint; once, if it is told again."""
        by_number = numbered(writes)
        await self._database.execute(
            sql("langgraph_put_writes"),
            *(*place_of(config), config["configurable"]["checkpoint_id"], task_id, task_path),
            *([*by_number], [channel for channel, _ in by_number.values()]),
            await self._packing.pack(self.serde, [value for _, value in by_number.values()]),
        )

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """The checkpoint that `config` names, or the latest of its thread and namespace; None if there is none."""
        key = [*place_of(config)]
        condition = "WHERE thread_id = $1 AND checkpoint_ns = $2"
        if checkpoint_id := get_checkpoint_id(config):
            condition, key = f"{condition} AND checkpoint_id = $3", [*key, checkpoint_id]
        statement = f"{sql('langgraph_get')} {condition} ORDER BY checkpoint_id DESC LIMIT 1"
        row = await self._database.fetchrow(statement, *key)
        return None if row is None else await self._tuple(row)

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """The checkpoints that fit, the latest first. `filter` is what their metadata has."""
        place = config["configurable"] if config else {}
        wanted = {
            "thread_id = {}": str(place["thread_id"]) if "thread_id" in place else None,
            "checkpoint_ns = {}": place.get("checkpoint_ns"),
            "checkpoint_id = {}": get_checkpoint_id(config) if config else None,
            "checkpoint_id < {}": get_checkpoint_id(before) if before else None,
            "metadata @> {}::jsonb": _json(filter) if filter else None,
        }
        asked = [(condition, value) for condition, value in wanted.items() if value is not None]
        conditions = [condition.format(f"${number}") for number, (condition, _) in enumerate(asked, start=1)]
        statement = " ".join(
            [
                sql("langgraph_get"),
                f"WHERE {' AND '.join(conditions)}" if conditions else "",
                "ORDER BY checkpoint_id DESC",
                f"LIMIT {int(limit)}" if limit is not None else "",
            ]
        )
        async with self._database.connection() as connection, connection.transaction(readonly=True):
            async for row in connection.cursor(statement, *(value for _, value in asked), prefetch=_ROWS_AT_ONCE):
                yield await self._tuple(row)

    async def adelete_thread(self, thread_id: str) -> None:
        """Forget all of a thread."""
        await self._delete([str(thread_id)])

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Forget the checkpoints that these runs have made, in all threads."""
        async with self._database.connection() as connection, connection.transaction():
            rows = await connection.fetch(sql("langgraph_delete_runs"), [*run_ids])
            await connection.execute(sql("langgraph_clean"), [row["thread_id"] for row in rows])

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Make another thread with the same past."""
        async with self._database.connection() as connection, connection.transaction():
            for table in ("checkpoints", "values", "writes"):
                statement = sql(f"langgraph_copy_{table}")
                await connection.execute(statement, str(source_thread_id), str(target_thread_id))

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Of each thread keep only the latest checkpoint of each namespace (`keep_latest`), or nothing (`delete`).

        A thread that has a DeltaChannel is kept whole by `keep_latest`. Raises ValueError for another strategy.
        """
        threads = [str(thread_id) for thread_id in thread_ids]
        if strategy == "delete":
            await self._delete(threads)
        elif strategy == "keep_latest":
            async with self._database.connection() as connection, connection.transaction():
                await connection.execute(sql("langgraph_prune"), threads)
                await connection.execute(sql("langgraph_clean"), threads)
        else:
            raise ValueError(f"{strategy!r} is no strategy; there are 'keep_latest' and 'delete'")

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        return self._wait(self.aput(config, checkpoint, metadata, new_versions))

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        self._wait(self.aput_writes(config, writes, task_id, task_path))

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        return self._wait(self.aget_tuple(config))

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        async def collect() -> Sequence[CheckpointTuple]:
            return [found async for found in self.alist(config, filter=filter, before=before, limit=limit)]

        return iter(self._wait(collect()))

    def delete_thread(self, thread_id: str) -> None:
        self._wait(self.adelete_thread(thread_id))

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        self._wait(self.adelete_for_runs(run_ids))

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        self._wait(self.acopy_thread(source_thread_id, target_thread_id))

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        self._wait(self.aprune(thread_ids, strategy=strategy))

    async def _delete(self, threads: Sequence[str]) -> None:
        await self._database.execute(sql("langgraph_delete"), threads)

    async def _tuple(self, row: Record) -> CheckpointTuple:
        channels = [(channel, data) for channel, data in row["channels"] if data is not None]
        stored = [row["checkpoint"], *(data for _, data in channels), *(data for *_, data in row["writes"])]
        checkpoint, *values = await self._packing.unpack(self.serde, stored)
        names, written = [channel for channel, _ in channels], values[len(channels) :]
        parent_id = row["parent_id"]
        return CheckpointTuple(
            config=config_of(row["thread_id"], row["checkpoint_ns"], row["checkpoint_id"]),
            checkpoint=cast(Checkpoint, checkpoint | {"channel_values": dict(zip(names, values, strict=False))}),
            metadata=cast(CheckpointMetadata, msgspec.json.decode(row["metadata"])),
            parent_config=config_of(row["thread_id"], row["checkpoint_ns"], parent_id) if parent_id else None,
            pending_writes=[
                (task_id, channel, value) for (task_id, channel, _), value in zip(row["writes"], written, strict=True)
            ],
        )

    def _wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        if running is self._loop:
            coroutine.close()
            raise RuntimeError("this would wait for itself: in the thread of its event loop, use the async methods")
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()


def _json(value: Any) -> str:
    """JSON as PostgreSQL takes it: it has no NUL."""
    return msgspec.json.encode(value).decode().replace("\\u0000", "")
