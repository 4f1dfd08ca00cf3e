"""Messages of any stream as they are: one, a page, or all that follow. Reads wait for a server that is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import msgspec
from eventsourcing.persistence import OperationalError
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.errors import APIError

from l02.bus.connection.bus import Bus
from l02.bus.connection.leader import StoredMessage as Message
from l02.bus.connection.leader import message_from_leader
from l02.bus.connection.requests import AnswerLost
from l02.bus.log.reader import StreamReader, read_stream

__all__ = ["Follower", "Message", "MessageReader", "follow"]

PAGE_MESSAGES = 1000
_PAGE_BYTES = 16 * 1024 * 1024
_ANSWER_SECONDS = 2.0
_RETRY_SECONDS = 0.1
_NO_RESPONDERS = "503"

_T = TypeVar("_T")


class _NotAnswered(NatsError):
    """Nobody listens where the stream's messages are asked for: the server starts, or there is no such stream."""


class MessageReader:
    """Reads one stream."""

    def __init__(self, bus: Bus, stream: str) -> None:
        self._bus = bus
        self._stream = stream

    async def last(self, subject_filter: str) -> Message | None:
        """The newest message, from the stream's leader."""
        return await self._from_leader({"last_by_subj": subject_filter})

    async def next_from(self, sequence: int, subject_filter: str) -> Message | None:
        """The first message at or above a sequence, from the stream's leader."""
        return await self._from_leader({"seq": sequence, "next_by_subj": subject_filter})

    async def page(self, subject_filter: str, *, after: int, limit: int = PAGE_MESSAGES) -> tuple[list[Message], bool]:
        """Up to `limit` messages (16 MiB) with a sequence above `after`, and whether there are more."""
        return await _patiently(self._bus, lambda: self._page(subject_filter, after, min(limit, PAGE_MESSAGES)))

    async def _from_leader(self, wanted: Mapping[str, Any]) -> Message | None:
        try:
            return await message_from_leader(self._bus, self._stream, wanted, within=None)
        except APIError as error:
            raise OperationalError(f"stream {self._stream}: {error.description}") from error

    async def _page(self, subject_filter: str, after: int, limit: int) -> tuple[list[Message], bool]:
        request = {"seq": after + 1, "next_by_subj": subject_filter, "batch": limit, "max_bytes": _PAGE_BYTES}
        answer = _Answer()
        inbox = self._bus.client.new_inbox()
        async with self._bus.on_disconnect(answer.lost):
            subscription = await self._bus.client.subscribe(
                inbox, cb=answer.receive, pending_msgs_limit=-1, pending_bytes_limit=-1
            )
            try:
                await self._bus.client.publish(
                    f"$JS.API.DIRECT.GET.{self._stream}", msgspec.json.encode(request), reply=inbox
                )
                end = await answer.wait()
            finally:
                if not self._bus.client.is_closed:
                    await subscription.unsubscribe()
        match end.get("Status"):
            case "404":
                return [], False
            case "204":
                return answer.messages, int(end.get("Nats-Num-Pending", "0")) > 0
            case status if status == _NO_RESPONDERS:
                raise _NotAnswered(f"stream {self._stream} does not answer")
            case status:
                raise OperationalError(f"reading stream {self._stream}: {status} {end.get('Description')}")


class _Answer:
    """The messages of one page, until the one that says it is complete."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._end: asyncio.Future[Mapping[str, str]] = asyncio.get_running_loop().create_future()

    async def receive(self, message: Msg) -> None:
        headers = message.headers or {}
        if "Nats-Sequence" in headers:
            self.messages.append(Message(headers["Nats-Subject"], int(headers["Nats-Sequence"]), headers, message.data))
        elif not self._end.done():
            self._end.set_result(headers)

    def lost(self) -> None:
        if not self._end.done():
            self._end.set_exception(AnswerLost())

    async def wait(self) -> Mapping[str, str]:
        """The headers of the end, however long the answer; TimeoutError if nothing more comes."""
        received = -1
        while received != len(self.messages):
            received = len(self.messages)
            done, _ = await asyncio.wait([self._end], timeout=_ANSWER_SECONDS)
            if done:
                return self._end.result()
        raise TimeoutError


class Follower:
    """A position in a stream that moves forward, with no message left out or given twice."""

    def __init__(self, reader: StreamReader) -> None:
        self._reader = reader

    async def next_batch(self) -> list[Message]:
        """The next messages, at least one; waits for it."""
        return [
            Message(message.subject, message.metadata.sequence.stream, message.headers or {}, message.data)
            for message in await self._reader.next_batch(PAGE_MESSAGES)
        ]


@asynccontextmanager
async def follow(bus: Bus, stream: str, *, after: int, filters: Sequence[str]) -> AsyncIterator[Follower]:
    """Messages with a sequence above `after`, also those to come, through restarts of the server."""
    async with read_stream(bus, stream, after=after, filters=filters) as reader:
        yield Follower(reader)


async def _patiently(bus: Bus, read: Callable[[], Awaitable[_T]]) -> _T:
    """Read until it is answered; the caller sets the time limit."""
    while True:
        try:
            return await read()
        except (NatsError, TimeoutError):
            if bus.client.is_closed:
                raise
            await asyncio.sleep(_RETRY_SECONDS)
