"""The node's end of an agent's socket: typed messages in and out, and an end when the agent breaks the protocol."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Iterator

from l02.bus.wire.agent.lines import LineBuffer, decode_agent_message, decode_envelope, encode
from l02.bus.wire.agent.protocol import AgentMessage, NodeMessage, TooHeavy
from l02.domain.weight import footprint, steps_of_weighing

_CHUNK_BYTES = 256 * 1024
_LINES_A_TURN = 100


class ChannelClosed(Exception):
    """The agent's process has closed its socket, or is gone."""


class AgentChannel:
    """Messages of one agent's process, in order."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._lines = LineBuffer()
        self._received: Iterator[bytes] = iter(())
        self._next: bytes | None = None
        self._taken = 0
        self.footprint = 0
        """About the bytes of memory that the last message takes."""
        self.seconds = 0.0
        """Of processor time that it took to build it."""

    @classmethod
    async def open(cls, connection: socket.socket) -> AgentChannel:
        """Take over the node's end of the socket."""
        reader, writer = await asyncio.open_connection(sock=connection, limit=_CHUNK_BYTES)
        return cls(reader, writer)

    async def receive(self) -> AgentMessage | TooHeavy:
        """The next message. Raises ProtocolError for what is none, ChannelClosed at the end."""
        line = await self._line()
        decode: Callable[[bytes], AgentMessage | TooHeavy] = decode_agent_message
        for too_heavy in steps_of_weighing(line):
            await asyncio.sleep(0)  # a turn for others after each step
            if too_heavy:
                decode = decode_envelope
        self._next = None
        self.footprint = footprint(line)
        began = time.thread_time()
        try:
            return decode(line)
        finally:
            self.seconds = time.thread_time() - began

    async def _line(self) -> bytes:
        """The line that has not been taken yet; it is kept for whoever asks again, if this one is cancelled."""
        while self._next is None:
            self._next = next(self._received, None)
            if self._next is None:
                try:
                    data = await self._reader.read(_CHUNK_BYTES)
                except OSError as error:
                    raise ChannelClosed from error
                if not data:
                    raise ChannelClosed
                self._received = self._lines.feed(data)
            else:
                self._taken += 1
                if self._taken % _LINES_A_TURN == 0:
                    await asyncio.sleep(0)  # however many there are
        return self._next

    async def send(self, message: NodeMessage) -> None:
        """Send a message; waits while the agent does not read. Raises ChannelClosed."""
        try:
            self._writer.write(encode(message))
            await self._writer.drain()
        except OSError as error:
            raise ChannelClosed from error

    def close(self) -> None:
        """Close the socket."""
        self._writer.close()
