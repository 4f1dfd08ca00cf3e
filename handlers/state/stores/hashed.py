"""What every store does with a content beside storing it: cutting, hashing, packing, and checking it on its way back.

All of that is work for a processor, so it is done in a thread and a few chunks at a time: the node goes on, and memory
is bounded whatever the state's size.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from itertools import islice
from typing import NamedTuple, TypeVar

from l02.domain.errors import ErrorCode, Failure
from l02.handlers.state.settings import Compression
from l02.handlers.state.stores.chunks import chunks_of
from l02.handlers.state.stores.compression import Damaged, pack, unpack
from l02.handlers.state.stores.content import PartsReader, pieces_of, size_of

CHUNKS_AT_ONCE = 16
# Up to here a content is one chunk: it is stored with one statement, and searching for cuts would take longer.
_ONE_CHUNK_BYTES = 1280 * 1024
# Going to a thread and back takes 0.1 ms; less than this is hashed and packed as fast.
_NO_THREAD_BYTES = 128 * 1024

T = TypeVar("T")


class Chunk(NamedTuple):
    """A piece of content, and the hash by which it is stored: of the piece, or of its packed form if it is that."""

    sha256: bytes
    content: bytes
    is_packed: bool = False


class HashedContent:
    """A content on its way into a store."""

    def __init__(self, parts: Mapping[str, bytes], limit: int) -> None:
        """Raises Failure (E2031) if the parts are larger than `limit` bytes."""
        self.size = size_of(parts, limit)
        self._parts = parts
        self._whole = hashlib.sha256()

    @property
    def is_one_chunk(self) -> bool:
        """Whether it is small enough to be stored at once."""
        return self.size <= _ONE_CHUNK_BYTES

    @property
    def sha256(self) -> bytes:
        """Of all that `groups` has given, or of the one chunk as it is stored."""
        return self._whole.digest()

    async def only_chunk(self, compression: Compression) -> Chunk:
        """The one chunk, packed; `sha256` is then its hash too."""
        return await in_thread(self.size, self._pack, compression)

    async def groups(self, compression: Compression) -> AsyncIterator[list[Chunk]]:
        """Its chunks in their order, at most CHUNKS_AT_ONCE at a time, and at least one."""
        if self.is_one_chunk:
            yield [await self.only_chunk(compression)]
            return
        chunks = chunks_of(pieces_of(self._parts))
        while group := await in_thread(self.size, self._hash, islice(chunks, CHUNKS_AT_ONCE)):
            yield group

    def _pack(self, compression: Compression) -> Chunk:
        packed = pack(pieces_of(self._parts), compression)
        self._whole.update(packed)
        return Chunk(self.sha256, packed, is_packed=True)

    def _hash(self, chunks: Iterable[bytes]) -> list[Chunk]:
        group = []
        for chunk in chunks:
            self._whole.update(chunk)
            group.append(Chunk(hashlib.sha256(chunk).digest(), chunk))
        return group


async def pack_all(chunks: list[Chunk], compression: Compression) -> list[bytes]:
    """The chunks as they are stored."""

    def pack_each() -> list[bytes]:
        return [chunk.content if chunk.is_packed else pack([chunk.content], compression) for chunk in chunks]

    return await in_thread(_NO_THREAD_BYTES + 1, pack_each)


class ContentReader:
    """A content on its way back."""

    def __init__(self, location: str) -> None:
        self._location = location
        self._whole = hashlib.sha256()
        self._reader = PartsReader()

    async def take(self, stored: list[bytes]) -> None:
        """The next chunks, as they were stored. Raises Failure (E2033)."""
        try:
            await in_thread(sum(map(len, stored)), self._take, stored)
        except (Damaged, ValueError) as error:
            raise self.damaged(str(error)) from error

    async def take_only(self, stored: bytes) -> None:
        """The one chunk, whose hash as it is stored is the content's. Raises Failure (E2033)."""
        size = len(stored)
        try:
            if size <= _NO_THREAD_BYTES:
                self._whole.update(stored)
                self._unpack(stored)
            else:
                await asyncio.gather(in_thread(size, self._whole.update, stored), in_thread(size, self._unpack, stored))
        except (Damaged, ValueError) as error:
            raise self.damaged(str(error)) from error

    def parts(self, sha256: str) -> dict[str, bytes]:
        """The parts, if their content has the hash it is to have. Raises Failure (E2033)."""
        if self._whole.hexdigest() != sha256:
            raise self.damaged("it does not fit its hash")
        try:
            return self._reader.parts()
        except ValueError as error:
            raise self.damaged(str(error)) from error

    def damaged(self, what: str) -> Failure:
        """A Failure (E2033) that says so."""
        return Failure(ErrorCode.CHECKPOINT_CORRUPTED, f"the checkpoint at {self._location} is damaged: {what}")

    def _unpack(self, stored: bytes) -> None:
        for piece in unpack(stored):
            self._reader.feed(piece)

    def _take(self, stored: list[bytes]) -> None:
        for packed in stored:
            for piece in unpack(packed):
                self._whole.update(piece)
                self._reader.feed(piece)


async def in_thread(size: int, work: Callable[..., T], *arguments: object) -> T:
    """What `work` gives, done in a thread if it is for so many bytes that others would wait."""
    return work(*arguments) if size <= _NO_THREAD_BYTES else await asyncio.to_thread(work, *arguments)
