"""Trying again what fails: soon at first, then less often, so that what has come back is not met by a storm."""

from __future__ import annotations

import asyncio


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


class Setbacks(Backoff):
    """The same for long work that is begun again when it fails, and which failure is news: `begin` each attempt."""

    def __init__(self, first: float, longest: float) -> None:
        super().__init__(first, longest)
        self._told: str | None = None
        self._began = 0.0

    def begin(self) -> None:
        """An attempt begins."""
        self._began = asyncio.get_running_loop().time()

    def is_news(self, error: Exception) -> bool:
        """Whether the attempt failed otherwise than the one before, or after it had worked for a while."""
        if asyncio.get_running_loop().time() - self._began > self._longest:
            self.reset()
            self._told = None
        before, self._told = self._told, repr(error)
        return self._told != before
