"""Checkpoints in PostgreSQL, the default: a small one is one statement, a large one stores what has changed.

A checkpoint is a list of chunks. That a chunk is there as long as a checkpoint needs it is held by a foreign key, so
neither a crash between two statements nor two nodes at once can break that; what is left over is swept.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta

import asyncpg

from l02.bus.connection.postgres import UNANSWERED
from l02.domain.errors import ErrorCode, Failure
from l02.handlers.state.checkpoint_store import Saved
from l02.handlers.state.settings import Compression
from l02.handlers.state.stores.database import Database, open_database, sql
from l02.handlers.state.stores.hashed import CHUNKS_AT_ONCE, Chunk, ContentReader, HashedContent, pack_all
from l02.handlers.state.stores.location import Location

_STORE = "postgres"
_ATTEMPTS = 3


class PostgresCheckpoints:
    """A `CheckpointStore`. Its sizes are in bytes."""

    def __init__(self, database: Database, compression: Compression, limit: int) -> None:
        self._database = database
        self._compression = compression
        self._limit = limit

    async def save(self, agent_id: str, checkpoint_id: str, parts: Mapping[str, bytes]) -> Saved:
        with _answered(ErrorCode.CHECKPOINT_FAILED, f"checkpoint {checkpoint_id} of {agent_id} is not stored"):
            for _ in range(_ATTEMPTS - 1):
                try:
                    return await self._save(agent_id, checkpoint_id, parts)
                except asyncpg.ForeignKeyViolationError:
                    continue  # a chunk that was there when we looked has been swept since; now it is stored again
            return await self._save(agent_id, checkpoint_id, parts)

    async def load(self, storage_location: str, sha256: str) -> dict[str, bytes]:
        location = Location.parse(storage_location, _STORE)
        key, reader, position = _key(location), ContentReader(storage_location), 0
        with _answered(ErrorCode.RESTORE_FAILED, f"{storage_location} cannot be read"):
            if chunk := await self._database.fetchval(sql("load_small"), *key):
                await reader.take_only(chunk)
                return reader.parts(sha256)
            while rows := await self._database.fetch(sql("load"), *key, position, CHUNKS_AT_ONCE):
                position = rows[-1]["position"]
                # A chunk that is gone is missing in the content's hash.
                await reader.take([row["data"] for row in rows if row["data"] is not None])
                if len(rows) < CHUNKS_AT_ONCE:
                    break
        if not position:
            raise Failure(ErrorCode.RESTORE_FAILED, f"there is no checkpoint at {storage_location}")
        return reader.parts(sha256)

    async def delete(self, storage_location: str) -> None:
        location = Location.parse(storage_location, _STORE)
        with _answered(ErrorCode.CHECKPOINT_FAILED, f"{storage_location} is not deleted"):
            await self._database.execute(
                "DELETE FROM state_checkpoints WHERE agent_id = $1 AND checkpoint_id = $2 AND sha256 = $3",
                *_key(location),
            )

    async def locations(self, agent_id: str) -> list[str]:
        with _answered(ErrorCode.RESTORE_FAILED, f"the checkpoints of {agent_id} cannot be listed"):
            rows = await self._database.fetch(
                "SELECT checkpoint_id, sha256 FROM state_checkpoints WHERE agent_id = $1 ORDER BY stored_at", agent_id
            )
        return [str(Location(_STORE, agent_id, row["checkpoint_id"], row["sha256"].hex())) for row in rows]

    async def sweep(self, unused_for: timedelta = timedelta(hours=1)) -> int:
        removed = 0
        with _answered(ErrorCode.CHECKPOINT_FAILED, "unused chunks are not removed"):
            before = await self._database.fetchval("SELECT now()") - unused_for
            for row in await self._database.fetch(
                "SELECT DISTINCT agent_id FROM state_chunks WHERE stored_at < $1", before
            ):
                try:
                    removed += await self._database.fetchval(sql("sweep"), row["agent_id"], before)
                except asyncpg.ForeignKeyViolationError:
                    continue  # a save has begun to use one at this moment: the next sweep looks again
        return removed

    async def _save(self, agent_id: str, checkpoint_id: str, parts: Mapping[str, bytes]) -> Saved:
        content = HashedContent(parts, self._limit)
        if content.is_one_chunk:
            chunk = await content.only_chunk(self._compression)
            await self._database.execute(sql("save_small"), agent_id, checkpoint_id, chunk.sha256, chunk.content)
            compressed = len(chunk.content)
        else:
            order, compressed = [], 0
            async for chunks in content.groups(self._compression):
                order += [chunk.sha256 for chunk in chunks]
                compressed += await self._store(agent_id, chunks)
            await self._database.execute(sql("save_large"), agent_id, checkpoint_id, content.sha256, order)
        location = Location(_STORE, agent_id, checkpoint_id, content.sha256.hex())
        return Saved(str(location), content.size, compressed, location.sha256)

    async def _store(self, agent_id: str, chunks: list[Chunk]) -> int:
        """Store those chunks that are not there; the bytes that all of them take."""
        rows = await self._database.fetch(sql("known"), agent_id, [chunk.sha256 for chunk in chunks])
        known: dict[bytes, int] = {row["sha256"]: row["octet_length"] for row in rows}
        new = {chunk.sha256: chunk for chunk in chunks if chunk.sha256 not in known}
        packed = await pack_all([*new.values()], self._compression)
        if new:
            await self._database.execute(sql("store"), agent_id, [*new], packed)
        known |= zip(new, map(len, packed), strict=True)
        return sum(known.values())


@asynccontextmanager
async def open_postgres_checkpoints(
    url: str, *, compression: Compression, limit: int
) -> AsyncIterator[PostgresCheckpoints]:
    """The checkpoints in the database at `url`, none larger than `limit` bytes; their tables are made if need be.

    Raises asyncpg's errors, OSError or TimeoutError if the database is away.
    """
    async with open_database(url, "state") as database:
        yield PostgresCheckpoints(database, compression, limit)


def _key(location: Location) -> tuple[str, str, bytes]:
    try:
        return location.agent_id, location.checkpoint_id, bytes.fromhex(location.sha256)
    except ValueError as error:
        raise Failure(ErrorCode.RESTORE_FAILED, f"{str(location)!r} is not a checkpoint's location") from error


@contextmanager
def _answered(code: ErrorCode, what: str) -> Iterator[None]:
    """Say what PostgreSQL's errors mean for a checkpoint."""
    try:
        yield
    except UNANSWERED as error:
        raise Failure(code, f"{what}: {error or type(error).__name__}") from error
