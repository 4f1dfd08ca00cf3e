"""How far the projections of this process have come, for those who want to read what they have just written."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Protocol


class ProjectionHalted(Exception):
    """A projection cannot go on; the message says why, and what to do."""


class Observer(Protocol):
    """Someone whom a projector tells where it is."""

    async def pause(self, seconds: float) -> None:
        """Return after that time, or when somebody is in a hurry."""

    def reached(self, name: str, position: int) -> None:
        """The projection `name` reflects all events up to the stream sequence `position`."""

    def lost_sight(self, names: Iterable[str]) -> None:
        """The server of these projections is away, and may come back, or be replaced by one, with less in it."""


class Progress:
    """The positions (stream sequences) that projections have reached. One per process, shared by its projectors."""

    def __init__(self) -> None:
        self._positions: dict[str, int] = {}
        self._out_of_sight: set[str] = set()
        self._halted: dict[str, tuple[int, str]] = {}
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
        self._out_of_sight.discard(name)
        if name in self._halted and position > self._halted[name][0]:
            del self._halted[name]
        waiting = self._waiting.get(name, set())
        for entry in [entry for entry in waiting if entry[0] <= position]:
            waiting.discard(entry)
            if not entry[1].done():
                entry[1].set_result(None)

    def lost_sight(self, names: Iterable[str]) -> None:
        """Nobody who waits for these projections is told that they are there before they have been seen again."""
        self._out_of_sight.update(names)

    @property
    def positions(self) -> dict[str, int]:
        """Of all projections that have begun."""
        return dict(self._positions)

    @property
    def halted(self) -> dict[str, str]:
        """The projections that cannot go on, and why."""
        return {name: reason for name, (_, reason) in self._halted.items()}

    def halt(self, names: Iterable[str], reason: str) -> None:
        """These projections cannot go on from where they are, until they get further or `resume` is called."""
        for name in names:
            self._halted[name] = self.position(name), reason
            for _, future in self._waiting.pop(name, set()):
                if not future.done():
                    future.set_exception(ProjectionHalted(reason))

    def resume(self, names: Iterable[str]) -> None:
        """They go on."""
        for name in names:
            self._halted.pop(name, None)

    async def wait_for(self, name: str, sequence: int) -> None:
        """Return when the projection of this process has reached `sequence`. Raises ProjectionHalted."""
        if self.position(name) >= sequence and name not in self._out_of_sight:
            return
        if name in self._halted:
            raise ProjectionHalted(self._halted[name][1])
        entry = (sequence, asyncio.get_running_loop().create_future())
        waiting = self._waiting.setdefault(name, set())
        waiting.add(entry)
        self._hurry.set()
        try:
            await entry[1]
        finally:
            waiting.discard(entry)
