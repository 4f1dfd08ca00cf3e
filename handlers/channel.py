"""The node's end of an agent's socket: typed messages in and out, and an end when the agent breaks the protocol."""

from __future__ import annotations

import asyncio
import socket
from collections import deque

from l02.agent.protocol import (
    AgentMessage,
    LineBuffer,
    NodeMessage,
    ProtocolError,
    decode_agent_message,
    encode,
)

__all__ = ["AgentChannel", "ChannelClosed", "ProtocolError"]

_CHUNK_BYTES = 256 * 1024


class ChannelClosed(Exception):
    """The agent's process has closed its socket, or is gone."""


class AgentChannel:
    """Messages of one agent's process, in order."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._lines = LineBuffer()
        self._received: deque[AgentMessage] = deque()

    @classmethod
    async def open(cls, connection: socket.socket) -> AgentChannel:
        """Take over the node's end of the socket."""
        reader, writer = await asyncio.open_connection(sock=connection, limit=_CHUNK_BYTES)
        return cls(reader, writer)

    async def receive(self) -> AgentMessage:
        """The next message. Raises ProtocolError for what is none, ChannelClosed at the end."""
        while not self._received:
            try:
                data = await self._reader.read(_CHUNK_BYTES)
            except OSError as error:
                raise ChannelClosed from error
            if not data:
                raise ChannelClosed
            self._received.extend(decode_agent_message(line) for line in self._lines.feed(data))
        return self._received.popleft()

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
