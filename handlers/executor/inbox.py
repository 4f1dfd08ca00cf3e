"""Between an agent's socket and its execution: messages in their order, and failures of either side."""

from __future__ import annotations

import asyncio

from l02.bus.wire.agent.lines import ProtocolError
from l02.bus.wire.agent.protocol import AgentMessage, Pong, TooHeavy
from l02.handlers.sandbox.channel import AgentChannel, ChannelClosed

_MESSAGES_AHEAD = 100


class Inbox:
    """Reads ahead of need, by a bounded number of messages."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[AgentMessage | TooHeavy | Exception] = asyncio.Queue(_MESSAGES_AHEAD)
        self.heard_at = 0.0
        """When the last message came, by the loop's clock."""

    @property
    def is_full(self) -> bool:
        """Whether no more is read for now, because what was read waits here."""
        return self._queue.full()

    async def fill(self, channel: AgentChannel) -> None:
        """Read until the channel ends or breaks the protocol; whoever receives is told."""
        try:
            while True:
                message = await channel.receive()
                self.heard_at = asyncio.get_running_loop().time()
                if not isinstance(message, Pong):
                    await self._queue.put(message)
        except (ProtocolError, ChannelClosed) as error:
            await self._queue.put(error)

    async def report(self, error: Exception) -> None:
        """Let whoever receives fail with `error`."""
        await self._queue.put(error)

    async def receive(self) -> AgentMessage | TooHeavy:
        """The next message; raises the failure that was reported."""
        message = await self._queue.get()
        if isinstance(message, Exception):
            raise message
        return message


class Pulse:
    """Wakes all that wait, now or from the moment they took `next`; a later waiter cannot undo it."""

    def __init__(self) -> None:
        self._next = asyncio.Event()

    def next(self) -> asyncio.Event:
        """What the next pulse sets. Take it before looking at what the pulse tells of."""
        return self._next

    def send(self) -> None:
        """Wake them."""
        self._next.set()
        self._next = asyncio.Event()
