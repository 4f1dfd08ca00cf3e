"""Between an agent's socket and its execution: messages in their order, and failures of either side."""

from __future__ import annotations

import asyncio
from collections import deque

from l02.bus.wire.agent.lines import ProtocolError
from l02.bus.wire.agent.protocol import AgentMessage, Pong, TooHeavy
from l02.handlers.executor.loop_share import Account, LoopShare
from l02.handlers.sandbox.channel import AgentChannel, ChannelClosed

_MESSAGES_AHEAD = 100
_BYTES_AHEAD = 4 * 1024 * 1024
"""Of memory, or one message."""


class Inbox:
    """Reads ahead of need, by a bounded number of messages, and of bytes."""

    def __init__(self, arrived: asyncio.Event | None = None) -> None:
        """`arrived` is set whenever something comes, and by others too if they wake the same reader."""
        self._items: deque[tuple[AgentMessage | TooHeavy | Exception, int]] = deque()
        self._bytes = 0
        self._arrived = arrived or asyncio.Event()
        self._taken = asyncio.Event()
        self._is_held = False
        self.footprint = 0
        """About the bytes of memory that the message received last takes."""
        self.heard_at = 0.0
        """When the last message came, by the loop's clock."""

    @property
    def is_empty(self) -> bool:
        """Whether the receiver would have to wait."""
        return not self._items

    @property
    def is_full(self) -> bool:
        """Whether no more is read for now, because what was read waits here."""
        return self._is_held or self._has_enough

    @property
    def _has_enough(self) -> bool:
        return len(self._items) >= _MESSAGES_AHEAD or self._bytes >= _BYTES_AHEAD

    async def fill(self, channel: AgentChannel, share: LoopShare) -> None:
        """Read until the channel ends or breaks the protocol; whoever receives is told."""
        account = Account(share)
        try:
            while True:
                message = await channel.receive()
                self.heard_at = asyncio.get_running_loop().time()
                if not isinstance(message, Pong):
                    while self._has_enough:
                        self._taken.clear()
                        await self._taken.wait()
                    self._put(message, channel.footprint)
                self._is_held = True
                await account.charge(channel.seconds)
                self._is_held = False
        except (ProtocolError, ChannelClosed) as error:
            self.report(error)

    def report(self, item: AgentMessage | TooHeavy | Exception) -> None:
        """Let whoever receives have this next; a failure is raised there."""
        self._put(item, 0)

    def _put(self, item: AgentMessage | TooHeavy | Exception, footprint: int) -> None:
        self._items.append((item, footprint))
        self._bytes += footprint
        self._arrived.set()

    async def receive(self) -> AgentMessage | TooHeavy:
        """The next message; raises the failure that was reported."""
        while not self._items:
            self._arrived.clear()
            await self._arrived.wait()
        item, self.footprint = self._items.popleft()
        self._bytes -= self.footprint
        self._taken.set()
        if isinstance(item, Exception):
            raise item
        return item
