"""What an endpoint sends is read within bounds, so that nothing it can send keeps the node's other work waiting.

Reading JSON takes time by its values more than by its bytes: 8 MB of empty objects take seconds, of text milliseconds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any, TypeVar

import httpx2
import msgspec

from l02.handlers.models.endpoints.faults import nonsense

T = TypeVar("T")

UNREADABLE = (msgspec.MsgspecError, UnicodeError, RecursionError)
MAX_MESSAGE = 4 * 1024 * 1024
"""Bytes of an answer in one message, and of one message of a stream."""
MAX_STREAM = 256 * 1024 * 1024
"""Bytes of a whole stream: most of them are around the few of each token."""
_MAX_VALUES = 20_000
_MAX_TEXTS = 200_000
# So few bytes hold no more values than that.
_SMALL = 32 * 1024
_BREATH_SECONDS = 0.01


def read(decoder: msgspec.json.Decoder[T], message: bytes | str) -> T:
    """What the message holds. Raises one of UNREADABLE, or a Fault for one of too many values."""
    if len(message) > _SMALL and values_in(message) > _MAX_VALUES:
        raise nonsense(f"a message of more than {_MAX_VALUES} values")
    return decoder.decode(message)


def values_in(message: bytes | str) -> int:
    """How many values a JSON text has at most, outside its strings; these may be as long as they like."""
    raw = message.encode(errors="replace") if isinstance(message, str) else message
    everywhere = _values(raw)
    if everywhere <= _MAX_VALUES:
        return everywhere
    raw = raw.replace(b"\\\\", b"").replace(b'\\"', b"")
    if raw.count(b'"') > _MAX_TEXTS:
        return _MAX_TEXTS
    return _values(b"".join(raw.split(b'"')[::2]))


def _values(raw: bytes) -> int:
    return raw.count(b"{") + raw.count(b"[") + raw.count(b",")


def read_if_any(decoder: msgspec.json.Decoder[Any], raw: msgspec.Raw) -> Any:
    """The same of a part that says nothing if it cannot be read."""
    try:
        return decoder.decode(raw)
    except UNREADABLE:
        return None


class Breath:
    """Others get their turn every 10 ms of what is read without waiting."""

    def __init__(self) -> None:
        self._since = time.perf_counter()

    async def take(self) -> None:
        """If it is time."""
        if time.perf_counter() - self._since > _BREATH_SECONDS:
            await asyncio.sleep(0)
            self._since = time.perf_counter()


class Bounded(httpx2.AsyncByteStream):
    """A response's stream that ends with a Fault when it has more than `most` bytes."""

    def __init__(self, stream: httpx2.AsyncByteStream, most: int) -> None:
        self._stream = stream
        self._most = most

    async def __aiter__(self) -> AsyncIterator[bytes]:
        breath, size = Breath(), 0
        async for chunk in self._stream:
            size += len(chunk)
            if size > self._most:
                raise nonsense(f"an answer of more than {self._most} bytes")
            yield chunk
            await breath.take()

    async def aclose(self) -> None:
        """Close the response's own."""
        await self._stream.aclose()
