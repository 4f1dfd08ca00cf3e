"""The consumer of commands, which at each new start begins after the last command below which all are done.

Otherwise a command that was under way would come again only when the server misses its acknowledgement, and later ones
of its aggregate would overtake it. A consumer's start cannot be changed, so two take turns: the new one is made before
the old one is deleted, and a crash in between loses no position.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from bus.connection import Bus
from bus.pull import ConsumerError, Pull, create_consumer, pull
from bus.streams import COMMANDS_STREAM
from bus.subjects import COMMANDS

__all__ = ["CommandConsumer"]

_NOT_FOUND = 10014


class CommandConsumer:
    """Consumes the stream of commands as `<name>-a` or `<name>-b`."""

    def __init__(self, bus: Bus, name: str, *, max_ack_pending: int) -> None:
        self._bus = bus
        self._names = (f"{name}-a", f"{name}-b")
        self._max_ack_pending = max_ack_pending
        self._newest_at_start = 0

    def may_repeat(self, sequence: int) -> bool:
        """Whether the command with this stream sequence may have been handled before the present start."""
        return sequence <= self._newest_at_start

    @asynccontextmanager
    async def pull(self, *, window: int) -> AsyncIterator[Pull]:
        """Consume, as long as the context lasts."""
        async with pull(self._bus, COMMANDS_STREAM, self._begin_anew, window=window) as source:
            yield source

    async def _begin_anew(self) -> dict[str, Any]:
        floors = {name: floor for name in self._names if (floor := await self._done_up_to(name)) is not None}
        done = max(floors.values(), default=0)
        former = max(floors, key=lambda name: floors[name], default=None)
        following = self._names[0] if former != self._names[0] else self._names[1]
        config = self._config(following, done + 1)
        if following in floors:
            await self._delete(following)
        await create_consumer(self._bus, COMMANDS_STREAM, config)
        if former is not None:
            await self._delete(former)
        self._newest_at_start = await self._newest()
        return config

    def _config(self, name: str, start: int) -> dict[str, Any]:
        return {
            "durable_name": name,
            "ack_policy": "explicit",
            "ack_wait": 60_000_000_000,
            "max_ack_pending": self._max_ack_pending,
            "filter_subject": f"{COMMANDS}.>",
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": start,
        }

    async def _done_up_to(self, name: str) -> int | None:
        """The stream sequence up to which all commands are done; None if there is no such consumer."""
        info = await self._bus.api(f"CONSUMER.INFO.{COMMANDS_STREAM}.{name}", {})
        if error := info.get("error"):
            if error.get("err_code") == _NOT_FOUND:
                return None
            raise ConsumerError(f"consumer {name}: {error.get('description')}")
        return max(int(info["ack_floor"]["stream_seq"]), int(info["config"]["opt_start_seq"]) - 1)

    async def _delete(self, name: str) -> None:
        answer = await self._bus.api(f"CONSUMER.DELETE.{COMMANDS_STREAM}.{name}", {})
        if (error := answer.get("error")) and error.get("err_code") != _NOT_FOUND:
            raise ConsumerError(f"consumer {name}: {error.get('description')}")

    async def _newest(self) -> int:
        info = await self._bus.api(f"STREAM.INFO.{COMMANDS_STREAM}", {})
        if error := info.get("error"):
            raise ConsumerError(f"stream {COMMANDS_STREAM}: {error.get('description')}")
        return int(info["state"]["last_seq"])
