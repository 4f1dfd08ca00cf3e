"""One at a time for each key, first come first served; nothing is kept of a key that nobody waits for."""

from __future__ import annotations

import asyncio


class Turn:
    """`async with` it. What `contextlib` would make of this costs each command three times as much."""

    __slots__ = ("_key", "_lock", "_turns", "_users")

    def __init__(self, turns: dict[str, Turn], key: str) -> None:
        self._turns = turns
        self._key = key
        self._lock = asyncio.Lock()
        self._users = 0
        turns[key] = self

    async def __aenter__(self) -> None:
        self._users += 1
        try:
            await self._lock.acquire()
        except BaseException:
            self._leave()
            raise

    async def __aexit__(self, *_: object) -> None:
        self._lock.release()
        self._leave()

    def _leave(self) -> None:
        self._users -= 1
        if not self._users:
            del self._turns[self._key]


def turn_of(turns: dict[str, Turn], key: str) -> Turn:
    """The turn of those who use the key; `turns` holds one for each that somebody uses."""
    turn = turns.get(key)
    return turn if turn is not None else Turn(turns, key)
