"""Telling those who wait that there is something new, and never too early for one who looks meanwhile."""

from __future__ import annotations

import asyncio


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


class News:
    """What is known of an aggregate's news: up to which stream sequence, and a pulse whenever there are some."""

    def __init__(self) -> None:
        self.sequence = 0
        self.pulse = Pulse()

    def tell(self, sequence: int) -> None:
        """There is something of this stream sequence; it was seen if there was a later one."""
        if sequence > self.sequence:
            self.sequence = sequence
            self.pulse.send()
