"""Streamed output of an execution, from whatever piece on: in order, without gaps and none twice.

An execution that runs again after a crash streams its pieces again with their old numbers, and the stream itself is
kept in memory only; so pieces are told apart by their number and never by their place in the stream.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, Self

import msgspec
from msgspec import Struct
from nats.aio.msg import Msg
from nats.js.errors import NotFoundError

from l02.bus.background.cancelling import end
from l02.bus.connection.bus import Bus
from l02.bus.connection.streams import TOKENS_STREAM
from l02.bus.jetstream.pull import ConsumerError, Pull, pull
from l02.bus.wire.codec import UNDECODABLE
from l02.bus.wire.subjects import stream_subject
from l02.domain.errors import ErrorCode, Failure

_BATCH = 500
_ASK_AGAIN_SECONDS = 1.0
_RETRY_SECONDS = 0.2


class TakenBack(str):
    """An empty text that says: the pieces from number `first` on do not count; what was to be said is said again."""

    __slots__ = ("first",)
    first: int

    @classmethod
    def since(cls, first: int) -> Self:
        """From that number on."""
        taken_back = cls()
        taken_back.first = first
        return taken_back


class _Piece(Struct, frozen=True):
    n: int
    delta: str | None = None
    done: bool = False
    void_from: int | None = None

    @property
    def text(self) -> str:
        return (self.delta or "") if self.void_from is None else TakenBack.since(self.void_from)


_decoder = msgspec.json.Decoder(_Piece)


def _piece(raw: bytes) -> _Piece | None:
    """What anybody may have published there and is no piece is passed over."""
    try:
        return _decoder.decode(raw)
    except UNDECODABLE:
        return None


async def read_tokens(
    bus: Bus, agent_id: str, execution_id: str, *, start: int = 0, ended: asyncio.Future[Any] | None = None
) -> AsyncGenerator[str, None]:
    """The pieces from number `start` on, until the last; when `ended` is done, what is stored by then is all.

    One that is `TakenBack` says that pieces before it do not count.

    Raises Failure E2004 if a piece is gone (the stream keeps them for ten minutes, and not over a server's restart).
    """
    subject = stream_subject(agent_id, execution_id)

    async def config() -> dict[str, Any]:
        return {
            "ack_policy": "none",
            "deliver_policy": "all",
            "filter_subject": subject,
            "inactive_threshold": 60_000_000_000,
            "mem_storage": True,
            "num_replicas": 1,
        }

    expected = start
    async with pull(bus, TOKENS_STREAM, config) as source:
        batches = _Batches(bus, subject, source, ended)
        try:
            while (batch := await batches.next_batch(expected)) is not None:
                for piece in batch:
                    if piece.n < expected:
                        continue
                    if piece.n > expected:
                        raise _gone(expected, piece.n)
                    if piece.done:
                        return
                    yield piece.text
                    expected += 1
        finally:
            await batches.close()


def _gone(expected: int, found: int) -> Failure:
    return Failure(
        ErrorCode.STREAMING_ERROR,
        f"pieces {expected} to {found - 1} are no longer kept; the whole output comes with the execution's outcome",
    )


class _Batches:
    """Waits for pieces or for the end, whichever is first."""

    def __init__(self, bus: Bus, subject: str, source: Pull, ended: asyncio.Future[Any] | None) -> None:
        self._bus = bus
        self._subject = subject
        self._source = source
        self._ended = ended
        self._fetch: asyncio.Task[list[Msg]] | None = None

    async def next_batch(self, expected: int) -> list[_Piece] | None:
        """The next pieces; None if the execution has ended and none from `expected` on is stored."""
        while True:
            self._fetch = self._fetch or asyncio.create_task(self._source.next_batch(_BATCH))
            if self._ended is not None:
                either: set[asyncio.Future[Any]] = {self._fetch, self._ended}
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
                while not self._fetch.done():
                    if not await self._is_stored(expected):
                        return None
                    await asyncio.wait({self._fetch}, timeout=_ASK_AGAIN_SECONDS)
            try:
                messages = await self._fetch
            except ConsumerError:
                self._fetch = None
                # A stream in memory is gone when its server restarts, until a node makes it anew.
                if self._ended is not None and self._ended.done():
                    return None
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                self._fetch = None
                return [piece for message in messages if (piece := _piece(message.data)) is not None]

    async def _is_stored(self, n: int) -> bool:
        """Whether piece `n` or a later one is in the stream, or may be because the server does not answer now."""
        try:
            message = await self._bus.jetstream.get_last_msg(TOKENS_STREAM, self._subject)
        except NotFoundError:
            return False
        except TimeoutError:
            return True
        last = _piece(message.data or b"")
        return last is not None and last.n >= n

    async def close(self) -> None:
        if self._fetch is not None:
            await end(self._fetch)
