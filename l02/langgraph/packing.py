"""LangGraph's values as they are stored: serialized by its own serializer, then compressed and checksummed as ours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from langgraph.checkpoint.serde.base import SerializerProtocol

from l02.domain.errors import ErrorCode, Failure
from l02.handlers.state.settings import Compression
from l02.handlers.state.stores.compression import Damaged, pack, unpack
from l02.handlers.state.stores.hashed import in_thread

_Typed = tuple[str, bytes]
_decoder = msgspec.msgpack.Decoder(_Typed)


class Packing:
    """Packs and unpacks lists of values; in a thread if they are large."""

    def __init__(self, compression: Compression) -> None:
        self._compression = compression

    async def pack(self, serde: SerializerProtocol, values: Sequence[Any]) -> list[bytes]:
        """The values as bytes, with a checksum each."""
        typed = [serde.dumps_typed(value) for value in values]
        return await in_thread(sum(len(raw) for _, raw in typed), self._pack, typed)

    async def unpack(self, serde: SerializerProtocol, stored: Sequence[bytes]) -> list[Any]:
        """The values. Raises Failure (E2033) if one has changed in its store."""
        typed = await in_thread(sum(map(len, stored)), self._unpack, stored)
        return [serde.loads_typed(value) for value in typed]

    def _pack(self, typed: list[_Typed]) -> list[bytes]:
        return [pack([msgspec.msgpack.encode(value)], self._compression) for value in typed]

    def _unpack(self, stored: Sequence[bytes]) -> list[_Typed]:
        try:
            return [_decoder.decode(b"".join(unpack(raw))) for raw in stored]
        except (Damaged, msgspec.MsgspecError) as error:
            raise Failure(ErrorCode.CHECKPOINT_CORRUPTED, f"a graph's stored value is damaged: {error}") from error
