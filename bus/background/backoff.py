"""Trying again what fails: soon at first, then less often, so that what has come back is not met by a storm.

What is tried for a while only, or a number of times, is `stamina`'s. It counts every attempt under a label of its own,
which for what waits without end would have no end either, so that is `outlasting`. Three know more than either: a
`Backoff` is begun again when something has worked, `Setbacks` tell what is news, and a repository's patience is
another for a conflict than for a server that is away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from l02.bus.background.cancelling import cancellable

_log = structlog.get_logger()
T = TypeVar("T")


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


async def outlasting(
    act: Callable[[], Awaitable[T]], passes: Callable[[Exception], bool], what: str, *, longest: float = 2.0
) -> T:
    """What comes of `act`, which is done again while it fails with what `passes`, however long that takes.

    What does not pass by itself is raised. The log says that `what` is waited for; `longest` is a pause in seconds.
    """
    backoff = Backoff(longest=longest)
    while True:
        try:
            return await cancellable(act())
        except Exception as error:
            if not passes(error):
                raise
            _log.warning(f"waiting for {what}", error=repr(error))
        await backoff.pause()


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
