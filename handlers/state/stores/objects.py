"""Checkpoints in NATS' object store, for those who run no PostgreSQL worth the name or want them beside the events.

Chunks and manifests are objects of one bucket. There are no transactions, so it goes by order: chunks, then the
manifest that names them. A save notes that it uses a chunk which has not been used for a while, and the sweep removes
only what no manifest names and nobody has used since long before: so neither needs to know of the other.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta

import msgspec
import structlog
from nats.errors import Error as NatsError

from l02.bus.connection.bus import Bus
from l02.bus.connection.streams import CHECKPOINTS_BUCKET, ensure_object_bucket
from l02.bus.jetstream.history import HistoryUnreadable
from l02.bus.objects.bucket import ObjectBucket, ObjectDamaged
from l02.domain.errors import ErrorCode, Failure
from l02.handlers.state.checkpoint_store import Saved
from l02.handlers.state.settings import Compression
from l02.handlers.state.stores.compression import Damaged, pack, unpack
from l02.handlers.state.stores.hashed import CHUNKS_AT_ONCE, Chunk, ContentReader, HashedContent, pack_all
from l02.handlers.state.stores.location import Location
from l02.handlers.state.stores.memory import keep_freed_memory

_STORE = "objects"
_CHUNK, _CHECKPOINT = "chunk", "checkpoint"
# A chunk used within that time is as good as new to a save; it is less than half of what a sweep waits for.
_FRESH = timedelta(minutes=20)


class _Manifest(msgspec.Struct, frozen=True, array_like=True):
    """The chunks of a checkpoint in their order, by their hashes."""

    chunks: list[bytes]


_log = structlog.get_logger()
_manifest_decoder = msgspec.msgpack.Decoder(_Manifest)


class ObjectCheckpoints:
    """A `CheckpointStore`."""

    def __init__(self, bus: Bus, compression: Compression, limit: int) -> None:
        self._bucket = ObjectBucket(bus, CHECKPOINTS_BUCKET)
        self._compression = compression
        self._limit = limit

    async def save(self, agent_id: str, checkpoint_id: str, parts: Mapping[str, bytes]) -> Saved:
        content = HashedContent(parts, self._limit)
        order, compressed = [], 0
        with _answered(ErrorCode.CHECKPOINT_FAILED, f"checkpoint {checkpoint_id} of {agent_id} is not stored"):
            async for chunks in content.groups(self._compression):
                order += [chunk.sha256 for chunk in chunks]
                compressed += await self._store(agent_id, chunks)
            location = Location(_STORE, agent_id, checkpoint_id, content.sha256.hex())
            manifest = pack([msgspec.msgpack.encode(_Manifest(order))], self._compression)
            await self._bucket.put(_manifest_name(location), manifest)
        return Saved(str(location), content.size, compressed, location.sha256)

    async def load(self, storage_location: str, sha256: str) -> dict[str, bytes]:
        location = Location.parse(storage_location, _STORE)
        reader = ContentReader(storage_location)
        with _answered(ErrorCode.RESTORE_FAILED, f"{storage_location} cannot be read"):
            try:
                manifest = await self._manifest(_manifest_name(location))
                if manifest is None:
                    raise Failure(ErrorCode.RESTORE_FAILED, f"there is no checkpoint at {storage_location}")
                if [chunk.hex() for chunk in manifest.chunks] == [location.sha256]:
                    if (only := await self._bucket.get(_chunk_name(location.agent_id, manifest.chunks[0]))) is not None:
                        await reader.take_only(only)
                    return reader.parts(sha256)
                for first in range(0, len(manifest.chunks), CHUNKS_AT_ONCE):
                    names = [_chunk_name(location.agent_id, sha) for sha in manifest.chunks[first:][:CHUNKS_AT_ONCE]]
                    stored = await asyncio.gather(*map(self._bucket.get, names))
                    await reader.take([raw for raw in stored if raw is not None])
            except (Damaged, ObjectDamaged) as error:
                raise reader.damaged(str(error)) from error
        return reader.parts(sha256)

    async def delete(self, storage_location: str) -> None:
        location = Location.parse(storage_location, _STORE)
        with _answered(ErrorCode.CHECKPOINT_FAILED, f"{storage_location} is not deleted"):
            await self._bucket.delete(_manifest_name(location))

    async def locations(self, agent_id: str) -> list[str]:
        with _answered(ErrorCode.RESTORE_FAILED, f"the checkpoints of {agent_id} cannot be listed"):
            names = [item.name async for item in self._bucket.objects()]
        found = [name.split("/")[2:] for name in names if name.startswith(f"{agent_id}/{_CHECKPOINT}/")]
        return [str(Location(_STORE, agent_id, checkpoint_id, sha256)) for checkpoint_id, sha256 in found]

    async def sweep(self, unused_for: timedelta = timedelta(hours=1)) -> int:
        before, removed = datetime.now(UTC) - unused_for, 0
        with _answered(ErrorCode.CHECKPOINT_FAILED, "unused chunks are not removed"):
            # The old chunks first, and only then what is needed: a manifest written since then has used all of its own.
            found = [item async for item in self._bucket.objects()]
            needed, unreadable = await self._needed([item.name async for item in self._bucket.objects()])
            for item in found:
                agent_id, kind, *_ = item.name.split("/")
                old = kind == _CHUNK and item.used_at < before and agent_id not in unreadable
                if old and item.name not in needed and await self._bucket.remove(item):
                    removed += item.size
            await self._bucket.remove_nameless(before)
        return removed

    async def _needed(self, names: list[str]) -> tuple[set[str], set[str]]:
        """The names of the chunks that manifests need, and the agents with one that cannot be read."""
        needed: set[str] = set()
        unreadable: set[str] = set()
        for name in names:
            agent_id, kind, *_ = name.split("/")
            if kind == _CHECKPOINT:
                try:
                    manifest = await self._manifest(name)
                except (Damaged, ObjectDamaged) as error:
                    _log.warning("a damaged manifest: nothing of its agent is swept", name=name, reason=str(error))
                    unreadable.add(agent_id)
                else:
                    needed |= {_chunk_name(agent_id, sha) for sha in (manifest.chunks if manifest else ())}
        return needed, unreadable

    async def _manifest(self, name: str) -> _Manifest | None:
        raw = await self._bucket.get(name)
        if raw is None:
            return None
        try:
            return _manifest_decoder.decode(b"".join(unpack(raw)))
        except msgspec.MsgspecError as error:
            raise Damaged(f"its manifest cannot be read: {error}") from error

    async def _store(self, agent_id: str, chunks: list[Chunk]) -> int:
        """Store those chunks that are not there; the bytes that all of them take."""
        by_name = {_chunk_name(agent_id, chunk.sha256): chunk for chunk in chunks}
        sizes = dict(zip(by_name, await asyncio.gather(*map(self._use, by_name)), strict=True))
        new = [name for name, size in sizes.items() if size is None]
        packed = dict(zip(new, await pack_all([by_name[name] for name in new], self._compression), strict=True))
        await asyncio.gather(*(self._bucket.put(name, raw) for name, raw in packed.items()))
        return sum(len(packed[name]) if size is None else size for name, size in sizes.items())

    async def _use(self, name: str) -> int | None:
        """The bytes of a chunk that is there and that no sweep will remove for a while; None if there is none."""
        found = await self._bucket.find(name)
        if found is None:
            return None
        fresh = datetime.now(UTC) - found.used_at < _FRESH
        return found.size if fresh or await self._bucket.use(found) else None


@asynccontextmanager
async def open_object_checkpoints(
    bus: Bus, *, compression: Compression, limit: int, replicas: int = 1
) -> AsyncIterator[ObjectCheckpoints]:
    """The checkpoints in the bucket, none larger than `limit` bytes; it is made if need be. Raises NATS' errors."""
    keep_freed_memory()
    await ensure_object_bucket(bus, CHECKPOINTS_BUCKET, replicas)
    yield ObjectCheckpoints(bus, compression, limit)


def _chunk_name(agent_id: str, sha256: bytes) -> str:
    return f"{agent_id}/{_CHUNK}/{sha256.hex()}"


def _manifest_name(location: Location) -> str:
    return f"{location.agent_id}/{_CHECKPOINT}/{location.checkpoint_id}/{location.sha256}"


@contextmanager
def _answered(code: ErrorCode, what: str) -> Iterator[None]:
    """Say what NATS' errors mean for a checkpoint."""
    try:
        yield
    except (NatsError, HistoryUnreadable, OSError, TimeoutError) as error:
        raise Failure(code, f"{what}: {error or type(error).__name__}") from error
