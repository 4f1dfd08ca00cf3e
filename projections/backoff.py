"""Waiting for a server that is away: soon at first, then less often, so that its return is not met by a storm."""

from __future__ import annotations

import asyncio

__all__ = ["Backoff"]

_FIRST_SECONDS = 0.05
_LONGEST_SECONDS = 2.0


class Backoff:
    """Pauses that double up to two seconds; `reset` when something has worked."""

    def __init__(self) -> None:
        self._next = _FIRST_SECONDS

    async def pause(self) -> None:
        """Wait, and longer the next time."""
        await asyncio.sleep(self._next)
        self._next = min(2 * self._next, _LONGEST_SECONDS)

    def reset(self) -> None:
        """Begin with the shortest pause again."""
        self._next = _FIRST_SECONDS
