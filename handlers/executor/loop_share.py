"""What agents' messages may take of a node's event loop, so that others are served whatever some agents say.

An agent may use a part of the loop as it likes. One that wants more is not read for as long as its messages have taken,
and those that are not read for that reason take turns: together they have no more than half of the loop.
"""

from __future__ import annotations

import asyncio

_FREE_SHARE = 0.25
"""Of the loop that an agent may use."""
_ALL_IN_ALL = 6
"""A message's work takes about so many times what it takes to build it: it is checked, recorded and answered too."""
_SHORTEST_REST_SECONDS = 0.01


class LoopShare:
    """One per node."""

    def __init__(self) -> None:
        self._turns = asyncio.Lock()

    async def rest(self, seconds: float) -> None:
        """Let others have so many seconds, once it is one's turn: first come, first served."""
        async with self._turns:
            await asyncio.sleep(seconds)


class Account:
    """What one agent's messages have taken, beyond what they may."""

    def __init__(self, share: LoopShare) -> None:
        self._share = share
        self._owed = 0.0
        self._charged_at = 0.0

    async def charge(self, seconds: float) -> None:
        """A message took so many seconds of processor time to build; waits when that has become too much."""
        now = asyncio.get_running_loop().time()
        free = (now - self._charged_at) * _FREE_SHARE
        self._charged_at = now
        self._owed = max(0.0, self._owed - free) + seconds * _ALL_IN_ALL
        if self._owed >= _SHORTEST_REST_SECONDS:
            await self._share.rest(self._owed)
            self._owed = 0.0
            self._charged_at = asyncio.get_running_loop().time()
