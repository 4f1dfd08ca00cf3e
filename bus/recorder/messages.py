"""Messages of any stream as they are: one, a page, or all that follow. Reads wait for a server that is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from eventsourcing.persistence import OperationalError
from nats.errors import Error as NatsError
from nats.js.errors import APIError

from l02.bus.connection.bus import Bus
from l02.bus.connection.leader import StoredMessage, message_from_leader
from l02.bus.jetstream.history import HistoryUnreadable, read_stored, sequence_of, subject_of
from l02.bus.log.reader import StreamReader, read_stream

PAGE_MESSAGES = 1000
_RETRY_SECONDS = 0.1
_NOT_ANSWERED = "503"


class MessageReader:
    """Reads one stream."""

    def __init__(self, bus: Bus, stream: str) -> None:
        self._bus = bus
        self._stream = stream

    async def last(self, subject_filter: str) -> StoredMessage | None:
        """The newest message, from the stream's leader."""
        return await self._from_leader(last_on=subject_filter)

    async def next_from(self, sequence: int, subject_filter: str) -> StoredMessage | None:
        """The first message at or above a sequence, from the stream's leader."""
        return await self._from_leader(sequence=sequence, next_on=subject_filter)

    async def page(
        self, subject_filter: str, *, after: int, limit: int = PAGE_MESSAGES
    ) -> tuple[list[StoredMessage], bool]:
        """Up to `limit` messages (16 MiB) with a sequence above `after`, and whether there are more.

        It is read until it is answered: the caller sets the time limit.
        """
        limit = min(limit, PAGE_MESSAGES)
        while True:
            try:
                found, more = await read_stored(self._bus, self._stream, subject_filter, after=after, limit=limit)
                return [
                    StoredMessage(subject_of(message), sequence_of(message), message.headers or {}, message.data)
                    for message in found
                ], more
            except HistoryUnreadable as error:
                if error.status != _NOT_ANSWERED:
                    raise OperationalError(f"reading stream {self._stream}: {error}") from error
            except (NatsError, TimeoutError):
                if self._bus.client.is_closed:
                    raise
            await asyncio.sleep(_RETRY_SECONDS)

    async def _from_leader(self, **wanted: Any) -> StoredMessage | None:
        try:
            return await message_from_leader(self._bus, self._stream, **wanted, within=None)
        except APIError as error:
            raise OperationalError(f"stream {self._stream}: {error.description}") from error


class Follower:
    """A position in a stream that moves forward, with no message left out or given twice."""

    def __init__(self, reader: StreamReader) -> None:
        self._reader = reader

    async def next_batch(self) -> list[StoredMessage]:
        """The next messages, at least one; waits for it."""
        return [
            StoredMessage(message.subject, message.metadata.sequence.stream, message.headers or {}, message.data)
            for message in await self._reader.next_batch(PAGE_MESSAGES)
        ]


@asynccontextmanager
async def follow(bus: Bus, stream: str, *, after: int, filters: Sequence[str]) -> AsyncIterator[Follower]:
    """Messages with a sequence above `after`, also those to come, through restarts of the server."""
    async with read_stream(bus, stream, after=after, filters=filters) as reader:
        yield Follower(reader)
