"""Between an agent's socket and its execution: messages in their order, and failures of either side."""

from __future__ import annotations

import asyncio
from collections import deque

from l02.bus.wire.agent.lines import ProtocolError
from l02.bus.wire.agent.protocol import AgentMessage, Pong, TooHeavy
from l02.handlers.sandbox.channel import AgentChannel, ChannelClosed

_MESSAGES_AHEAD = 100


class Inbox:
    """Reads ahead of need, by a bounded number of messages."""

    def __init__(self, arrived: asyncio.Event | None = None) -> None:
        """`arrived` is set whenever something comes, and by others too if they wake the same reader."""
        self._items: deque[AgentMessage | TooHeavy | Exception] = deque()
        self._arrived = arrived or asyncio.Event()
        self._taken = asyncio.Event()
        self.heard_at = 0.0
        """When the last message came, by the loop's clock."""

    @property
    def is_empty(self) -> bool:
        """Whether the receiver would have to wait."""
        return not self._items

    @property
    def is_full(self) -> bool:
        """Whether no more is read for now, because what was read waits here."""
        return len(self._items) >= _MESSAGES_AHEAD

    async def fill(self, channel: AgentChannel) -> None:
        """Read until the channel ends or breaks the protocol; whoever receives is told."""
        try:
            while True:
                message = await channel.receive()
                self.heard_at = asyncio.get_running_loop().time()
                if isinstance(message, Pong):
                    continue
                while self.is_full:
                    self._taken.clear()
                    await self._taken.wait()
                self.report(message)
        except (ProtocolError, ChannelClosed) as error:
            self.report(error)

    def report(self, item: AgentMessage | TooHeavy | Exception) -> None:
        """Let whoever receives have this next; a failure is raised there."""
        self._items.append(item)
        self._arrived.set()

    async def receive(self) -> AgentMessage | TooHeavy:
        """The next message; raises the failure that was reported."""
        while not self._items:
            self._arrived.clear()
            await self._arrived.wait()
        item = self._items.popleft()
        self._taken.set()
        if isinstance(item, Exception):
            raise item
        return item


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
