"""How far the projections of this process have come, for those who want to read what they have just written."""

from __future__ import annotations

import asyncio
from typing import Protocol

__all__ = ["Observer", "Progress"]


class Observer(Protocol):
    """Someone whom a projector tells where it is."""

    async def pause(self, seconds: float) -> None:
        """Return after that time, or when somebody is in a hurry."""

    def reached(self, name: str, position: int) -> None:
        """The projection `name` reflects all events up to the stream sequence `position`."""


class Progress:
    """The positions (stream sequences) that projections have reached. One per process, shared by its projectors."""

    def __init__(self) -> None:
        self._positions: dict[str, int] = {}
        self._waiting: dict[str, set[tuple[int, asyncio.Future[None]]]] = {}
        self._hurry = asyncio.Event()

    async def pause(self, seconds: float) -> None:
        """Wait that long, or until somebody waits for a projection."""
        self._hurry.clear()
        if any(self._waiting.values()):
            return
        try:
            async with asyncio.timeout(seconds):
                await self._hurry.wait()
        except TimeoutError:
            return

    def position(self, name: str) -> int:
        """All events up to this sequence are in the projection; 0 before its projector has begun."""
        return self._positions.get(name, 0)

    def reached(self, name: str, position: int) -> None:
        """The projector says where it is. It may have to go back, when PostgreSQL has lost what was not on disk."""
        self._positions[name] = position
        waiting = self._waiting.get(name, set())
        for entry in [entry for entry in waiting if entry[0] <= position]:
            waiting.discard(entry)
            if not entry[1].done():
                entry[1].set_result(None)

    async def wait_for(self, name: str, sequence: int) -> None:
        """Return when the projection of this process has reached `sequence`."""
        if self.position(name) >= sequence:
            return
        entry = (sequence, asyncio.get_running_loop().create_future())
        waiting = self._waiting.setdefault(name, set())
        waiting.add(entry)
        self._hurry.set()
        try:
            await entry[1]
        finally:
            waiting.discard(entry)
