"""Requests that learn at once when the connection they went out on is lost.

nats-py lets such a request wait for its timeout, though the answer cannot come any more; after a restart of the server
that would hold up every writer for seconds. One subscription takes all answers.
"""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections.abc import Mapping, Sequence

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import NoRespondersError
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js.errors import APIError, NoStreamResponseError

from l02.bus.connection.listening import listen

Message = tuple[str, bytes, Mapping[str, str]]
"""Subject, payload, headers."""

_NO_RESPONDERS = "503"
_BATCH_SEQUENCE = "Nats-Batch-Sequence"


class AnswerLost(NatsTimeoutError):
    """The connection was lost before the answer came; whether the request was carried out is not known."""

    def __str__(self) -> str:
        return "the connection was lost before the answer came"


class PubError(msgspec.Struct, frozen=True):
    """Why JetStream did not store a message."""

    code: int = 0
    err_code: int = 0
    description: str = ""


class PubAck(msgspec.Struct, frozen=True):
    """JetStream's answer to a message: its stream sequence, or the error."""

    error: PubError | None = None
    seq: int = 0
    duplicate: bool = False


_pub_ack_decoder = msgspec.json.Decoder(PubAck)


class Requests:
    """One per connection. `start` before use; `connection_lost` when it is."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._prefix = client.new_inbox()
        self._numbers = itertools.count()
        self._open: dict[str, asyncio.Future[Msg]] = {}

    async def start(self) -> None:
        """Subscribe to the answers."""
        await listen(self._client, f"{self._prefix}.*", self._receive)

    def connection_lost(self) -> None:
        """Tell all that wait for an answer that it will not come."""
        for future in self._open.values():
            if not future.done():
                future.set_exception(AnswerLost())

    async def request(
        self, subject: str, payload: bytes, *, timeout: float, headers: Mapping[str, str] | None = None
    ) -> Msg:
        """The answer. Raises TimeoutError (as AnswerLost if the connection went), NoRespondersError."""
        loop = asyncio.get_running_loop()
        reply = f"{self._prefix}.{next(self._numbers)}"
        answer: asyncio.Future[Msg] = loop.create_future()
        self._open[reply] = answer
        timer = loop.call_later(timeout, _expire, answer)
        try:
            await self._client.publish(subject, payload, reply, dict(headers) if headers else None)
            message = await answer
        finally:
            timer.cancel()
            del self._open[reply]
        if message.headers and not message.data and message.headers.get("Status") == _NO_RESPONDERS:
            raise NoRespondersError
        return message

    async def publish(
        self, subject: str, payload: bytes, *, timeout: float, headers: Mapping[str, str] | None = None
    ) -> PubAck:
        """Store a message in the stream that listens to `subject`; when this returns it is stored.

        Raises APIError if JetStream refuses, NoStreamResponseError if no stream listens, and as `request`.
        """
        try:
            reply = await self.request(subject, payload, timeout=timeout, headers=headers)
        except NoRespondersError as error:
            raise NoStreamResponseError from error
        ack = _pub_ack_decoder.decode(reply.data)
        if ack.error is not None:
            raise APIError.from_error(msgspec.structs.asdict(ack.error))
        return ack

    async def publish_together(self, messages: Sequence[Message], *, timeout: float) -> PubAck:
        """Store messages of one stream side by side, all or none: an atomic batch, if there are several.

        The acknowledgement is that of the last one. Raises as `publish`.
        """
        *others, (subject, payload, headers) = messages
        if others:
            batch = {"Nats-Batch-Id": uuid.uuid4().hex}
            for number, (other_subject, other_payload, other_headers) in enumerate(others, start=1):
                await self._client.publish(
                    other_subject, other_payload, headers={**other_headers, **batch, _BATCH_SEQUENCE: str(number)}
                )
            headers = {**headers, **batch, _BATCH_SEQUENCE: str(len(messages)), "Nats-Batch-Commit": "1"}
        return await self.publish(subject, payload, timeout=timeout, headers=headers)

    def _receive(self, message: Msg) -> None:
        answer = self._open.get(message.subject)
        if answer is not None and not answer.done():
            answer.set_result(message)


def _expire(answer: asyncio.Future[Msg]) -> None:
    if not answer.done():
        answer.set_exception(NatsTimeoutError())
