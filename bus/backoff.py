"""Trying again what fails: soon at first, then less often, so that what has come back is not met by a storm."""

from __future__ import annotations

import asyncio

__all__ = ["Backoff"]


class Backoff:
    """Pauses that double from `first` up to `longest` seconds; `reset` when something has worked."""

    def __init__(self, first: float = 0.05, longest: float = 2.0) -> None:
        self._first = first
        self._longest = longest
        self.seconds = first
        """The next pause."""

    async def pause(self) -> None:
        """Wait, and longer the next time."""
        await asyncio.sleep(self.seconds)
        self.seconds = min(2 * self.seconds, self._longest)

    def reset(self) -> None:
        """Begin with the shortest pause again."""
        self.seconds = self._first
