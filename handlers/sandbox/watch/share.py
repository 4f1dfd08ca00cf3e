"""Holds a process and all it has started to a share of processor time: stopped while they have had more than that.

What may be used grows with time, and not beyond half a second's worth; what was used is taken from it. One that has
used too much is stopped until that is made up for, so over some seconds it has its share, however late this comes to
look. Only who uses more than its share costs more than the look that all are given twice a second.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable

import structlog

from l02.handlers.sandbox.confinement.linux import IS_LINUX
from l02.handlers.sandbox.watch.tree import ProcessTree

_SAVED_SECONDS = 0.5
_REST_SECONDS = 0.05
"""It is stopped for so long at least, and let run for a time that fits."""
_SHORTEST_LOOK = 0.01
_LONGEST_LOOK = 0.5
_LOOKS_PER_COST = 50
"""Looking takes a fiftieth of the time at most, however many processes there are."""
_SLIP_SECONDS = 0.02
EVADED_SECONDS = 1.0
"""Of processor time, used while stopped: whoever takes so much cannot be held."""

_log = structlog.get_logger()


class Share:
    """Of one process tree. `look` is told to it twice a second, by whoever watches all."""

    def __init__(
        self, tree: ProcessTree, cpu_millis: int, evaded: Callable[[float], None], *, by_the_kernel: bool
    ) -> None:
        """Nothing is done if it is held `by_the_kernel`.

        `evaded` is told how many seconds of processors were used by what was stopped, if they are too many.
        """
        self._tree = tree
        self._share = cpu_millis / 1000
        self._can_be_exceeded = IS_LINUX and not by_the_kernel and self._share < (os.cpu_count() or 1)
        self._credit = self._most = self._share * _SAVED_SECONDS
        self._seen_at = time.monotonic()
        tree.look()
        self._seen_ns = tree.cpu_ns  # what it took to make the sandbox is not the agent's
        self._cost = 0.0
        self._evaded = 0.0
        self._tell_evaded = evaded
        self._stopped_at: float | None = None
        self._stopped_seconds = 0.0
        self._holding: asyncio.Task[None] | None = None

    @property
    def stopped_seconds(self) -> float:
        """For how long it has been stopped in all."""
        now = 0.0 if self._stopped_at is None else time.monotonic() - self._stopped_at
        return self._stopped_seconds + now

    def look(self) -> None:
        """Begin to hold it if it has used more than its share; the tree has just been looked at."""
        if not self._can_be_exceeded or self._holding is not None:
            return
        self._account()
        if self._credit < 0:
            self._holding = asyncio.create_task(self._hold(), name="holding an agent to its share")
            self._holding.add_done_callback(self._let_go)

    def close(self) -> None:
        """It has ended."""
        if self._holding is not None:
            self._holding.cancel()

    def _let_go(self, holding: asyncio.Task[None]) -> None:
        self._holding = None
        if not holding.cancelled() and (error := holding.exception()) is not None:
            _log.error("an agent is not held to its share for a moment", error=repr(error))

    async def _hold(self) -> None:
        """Until it uses less than its share by itself."""
        try:
            rate, enough = self._share, 0.9 * self._most
            while self._credit < enough:
                await self._keep_stopped()
                began, ran = time.monotonic(), self._tree.cpu_ns
                self._go_on()
                while 0 <= self._credit < enough:
                    await self._pause(self._credit / max(rate - self._share, self._share))
                    self._measure()
                rate = (self._tree.cpu_ns - ran) / 1e9 / (time.monotonic() - began)
        finally:
            self._go_on()

    async def _keep_stopped(self) -> None:
        self._stop()
        self._measure()
        before = self._evaded
        while (missing := self._share * _REST_SECONDS - self._credit) > 0:
            await self._pause(missing / self._share)
            used = self._measure()
            if used > _SLIP_SECONDS:
                self._evaded += used
                self._stop()
            if self._evaded >= EVADED_SECONDS:
                self._tell_evaded(self._evaded)
        if self._evaded == before:
            self._evaded = 0.0

    async def _pause(self, seconds: float) -> None:
        shortest = max(_SHORTEST_LOOK, self._cost * _LOOKS_PER_COST)
        await asyncio.sleep(min(max(seconds, shortest), max(shortest, _LONGEST_LOOK)))

    def _measure(self) -> float:
        """Look; the seconds of processors that were used since the look before."""
        began = time.monotonic()
        self._tree.look()
        self._cost = time.monotonic() - began
        return self._account()

    def _account(self) -> float:
        now, used = time.monotonic(), (self._tree.cpu_ns - self._seen_ns) / 1e9
        earned = self._share * (now - self._seen_at)
        self._credit = min(self._most, self._credit + earned) - used
        self._seen_at, self._seen_ns = now, self._tree.cpu_ns
        return used

    def _stop(self) -> None:
        self._tree.stop()
        if self._stopped_at is None:
            self._stopped_at = time.monotonic()

    def _go_on(self) -> None:
        if self._stopped_at is not None:
            self._tree.go_on()
            self._stopped_seconds += time.monotonic() - self._stopped_at
            self._stopped_at = None
