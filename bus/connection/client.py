"""nats-py's client, mended: where it stops reading, waits without an end, or spends most of what a message costs."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import structlog
from nats.aio.client import Client, Srv
from nats.aio.msg import Msg
from nats.aio.transport import TcpTransport

from l02.bus.connection.listening import Receiver
from l02.bus.connection.parser import Parser
from l02.bus.wire.headers import LazyHeaders, header_block, parse_header_lines

_log = structlog.get_logger()
# How long a server may take what it was sent last, before the connection is ended without that.
_CLOSE_SECONDS = 2.0
_ANSWERED = (b"_INBOX.", b"_R_.")
_PLAIN_HEADERS = b"NATS/1.0\r\n"  # without a status
# In a subject it would be the end of it, or another command.
_WHITE = re.compile(r"[ \t\r\n]")


class _Transport(TcpTransport):
    """nats-py waits for the end of a connection in two tasks, on one future, and without an end if the server hangs.

    Its closing cancels its reconnecting, and with that the future both may wait for, and so itself. And from a server
    that hangs and does not take what it was sent, it would neither go to another nor away.
    """

    def __bool__(self) -> bool:
        return True  # nats-py asks whether it has to make one

    def abort(self) -> None:
        """End the connection without sending what is left."""
        if self._io_writer is not None:
            self._io_writer.transport.abort()

    async def wait_closed(self) -> None:
        with after_seconds(self.abort):
            await asyncio.shield(super().wait_closed())  # type: ignore[no-untyped-call]


@contextmanager
def after_seconds(abort: Callable[[], None]) -> Iterator[None]:
    """Call `abort` if what is done in the context takes longer than a server may."""
    timer = asyncio.get_running_loop().call_later(_CLOSE_SECONDS, abort)
    try:
        yield
    finally:
        timer.cancel()


class SwiftClient(Client):
    """nats-py stops reading for good at a message whose headers or subject it cannot decode, and anyone may send one.

    Its reading of headers, letter by letter, is also the half of what receiving an event costs, and its writing of them
    the half of what storing one does.
    """

    def __init__(self) -> None:
        super().__init__()
        self._ps = Parser(self)

    async def _connect_to_server(self, s: Srv) -> None:
        if self._transport is None and s.uri.scheme in ("nats", "tls"):
            self._transport = _Transport()  # type: ignore[no-untyped-call]
        await super()._connect_to_server(s)

    def abort(self) -> None:
        """End the connection without sending what is left."""
        if isinstance(self._transport, _Transport):
            self._transport.abort()

    async def publish(
        self, subject: str, payload: bytes = b"", reply: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        """What is not plain is nats-py's: it says what is wrong, or keeps it while there is no connection."""
        block = header_block(headers) if headers else b""
        is_plain = subject and _WHITE.search(subject + reply) is None
        if block is None or not is_plain or self._status != Client.CONNECTED or len(payload) > self._max_payload:
            await super().publish(subject, payload, reply, dict(headers) if headers else None)
            return
        sizes = f"{len(block)} {len(block) + len(payload)}" if block else f"{len(payload)}"
        lead = f"{'HPUB' if block else 'PUB'} {subject} {reply} {sizes}"
        self.stats["out_msgs"] += 1
        self.stats["out_bytes"] += len(payload)
        command = b"".join((lead.encode(), b"\r\n", block, payload, b"\r\n"))
        self._pending.append(command)
        self._pending_data_size += len(command)
        await self._flush_pending(force_flush=self._pending_data_size > self._max_pending_size)

    async def _flush_pending(self, force_flush: bool = False) -> Any:
        """What is to be written soon is written with what is so already."""
        is_writing = self._flusher_task is not None and not self._flusher_task.done()
        if force_flush or not is_writing or self._flush_queue is None or self._status != Client.CONNECTED:
            return await super()._flush_pending(force_flush)
        if self._flush_queue.empty():
            self._flush_queue.put_nowait(asyncio.get_running_loop().create_future())
        return None

    def receive(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes | None) -> bool:
        """Pass a message on to who listens for it (see `listening`); False if it is for nats-py to do."""
        subscription = self._subs.get(sid)
        if subscription is None or not isinstance(receiver := subscription._future, Receiver):
            return False
        if headers and not headers.startswith(_PLAIN_HEADERS):
            return False
        self.stats["in_msgs"] += 1
        self.stats["in_bytes"] += len(data)
        receiver.set_result(self._build_message(sid, subject, reply, data, LazyHeaders(headers) if headers else None))
        return True

    async def _process_headers(self, headers: bytes) -> dict[str, str] | None:
        if headers and headers.startswith(_PLAIN_HEADERS):
            return LazyHeaders(headers)  # type: ignore[return-value]  # a mapping will do
        try:
            return await super()._process_headers(headers)
        except (IndexError, UnicodeDecodeError) as error:
            _log.warning("a message has unreadable headers; they are left out", error=repr(error))
            return None

    @staticmethod
    def _parse_header_lines(raw: bytes) -> dict[str, str]:
        return parse_header_lines(raw)

    def _reply(self, sid: int, reply: bytes) -> str:
        """Where a message may be answered: one that anybody may have sent, in an inbox only.

        The server checks the subject of what is published, and not its reply. So the reply of a request could name what
        only the runtime may write, the log of events first of all, and its answer would stand there.
        """
        subscription = self._subs.get(sid)
        from_anybody = subscription is None or not subscription.subject.startswith("_INBOX.")
        return "" if from_anybody and not reply.startswith(_ANSWERED) else reply.decode(errors="replace")

    def _build_message(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: Mapping[str, str] | None
    ) -> Msg:
        reply_to = self._reply(sid, reply) if reply else ""
        text = subject.decode(errors="replace")
        return self.msg_class(self, text, reply_to, data, headers, None, False, sid)  # type: ignore[arg-type]
