"""Reading what a stream holds now: a bounded number of messages, in one request, without a consumer."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any

import msgspec
from nats.aio.msg import Msg
from nats.errors import TimeoutError as NatsTimeoutError

from l02.bus.connection.bus import Bus, direct_get
from l02.bus.connection.listening import listen
from l02.bus.connection.requests import AnswerLost

_SILENCE_SECONDS = 5.0
# A stock NATS server cuts a connection off that has 64 MiB to be sent, whoever has asked for that.
_MAX_BYTES = 4 * 1024 * 1024
_AT_ONCE = 8
_READS = "reads of what is stored"


class HistoryUnreadable(Exception):
    """The server answered a read with an error; 503 if nobody listens: it starts, or there is no such stream."""

    def __init__(self, message: str, status: str | None = None) -> None:
        super().__init__(message)
        self.status = status


class _Answer:
    """The messages of one answer, until the one that says it is complete."""

    def __init__(self) -> None:
        self.messages: list[Msg] = []
        self.complete: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()

    def receive(self, message: Msg) -> None:
        if message.headers and "Status" in message.headers and "Nats-Sequence" not in message.headers:
            if not self.complete.done():
                self.complete.set_result(message)
        else:
            self.messages.append(message)

    def lost(self) -> None:
        if not self.complete.done():
            self.complete.set_exception(AnswerLost())

    async def wait(self) -> Msg:
        """The end of the answer, however long it is; TimeoutError if nothing more comes."""
        received = -1
        while received != len(self.messages):
            received = len(self.messages)
            done, _ = await asyncio.wait([self.complete], timeout=_SILENCE_SECONDS)
            if done:
                return self.complete.result()
        raise NatsTimeoutError


async def read_stored(
    bus: Bus, stream: str, subject_filter: str, *, after: int = 0, since: datetime | None = None, limit: int = 1000
) -> tuple[list[Msg], bool]:
    """Up to `limit` messages (4 MiB) on the subjects with a stream sequence above `after`; and whether there are more.

    `since` begins at a time instead. Raises HistoryUnreadable, and TimeoutError if the server does not answer, or the
    connection goes.
    """
    start: dict[str, Any] = {"seq": after + 1} if since is None else {"start_time": since}
    request = {**start, "next_by_subj": subject_filter, "batch": limit, "max_bytes": _MAX_BYTES}
    inbox = bus.client.new_inbox()
    answer = _Answer()
    turns = bus.shared.setdefault(_READS, asyncio.Semaphore(_AT_ONCE))
    async with turns, bus.on_disconnect(answer.lost):
        subscription = await listen(bus.client, inbox, answer.receive)
        try:
            await bus.client.publish(direct_get(stream), msgspec.json.encode(request), reply=inbox)
            end = await answer.wait()
        finally:
            if not bus.client.is_closed:
                await subscription.unsubscribe()
    headers = end.headers or {}
    match headers.get("Status"):
        case "404":
            return [], False
        case "204":
            return answer.messages, int(headers.get("Nats-Num-Pending", "0")) > 0
        case status:
            raise HistoryUnreadable(f"{subject_filter}: {status} {headers.get('Description')}", status)


def sequence_of(message: Msg) -> int:
    """The stream sequence of what `read_stored` gave."""
    assert message.headers is not None
    return int(message.headers["Nats-Sequence"])


def subject_of(message: Msg) -> str:
    """The subject on which what `read_stored` gave is stored."""
    assert message.headers is not None
    return message.headers["Nats-Subject"]
