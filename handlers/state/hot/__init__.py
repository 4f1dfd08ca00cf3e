"""The newest state of running agents in memory, for those who look often and at once.

It is a copy: what is lost with it is taken from the checkpoints and the events, and it is filled again by the next
write. So a store of it that is away makes nobody wait and fails nothing; it says so in the log.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Protocol

from l02.bus.connection.bus import Bus
from l02.handlers.state.hot.nats import open_nats_hot_state
from l02.handlers.state.settings import StateSettings

__all__ = ["HotState", "open_hot_state"]


class HotState(Protocol):
    """The newest state of each agent by its version. An older version never takes the place of a newer one."""

    async def put(self, agent_id: str, version: int, data: bytes) -> None:
        """Keep the state of that version, unless there is one as new; not if the store is away or it is too large."""

    async def get(self, agent_id: str) -> tuple[int, bytes] | None:
        """The newest version and its state; None if there is none here, or the store is away."""

    async def delete(self, agent_id: str) -> None:
        """Forget the agent, if the store is not away."""


def open_hot_state(settings: StateSettings, bus: Bus) -> AbstractAsyncContextManager[HotState]:
    """The store that the settings choose, as long as the context lasts.

    Raises ModuleNotFoundError if they choose Redis and the extra `redis` is not installed.
    """
    if settings.hot_storage == "nats":
        return open_nats_hot_state(bus)
    from l02.handlers.state.hot.redis import open_redis_hot_state

    assert settings.redis_url is not None
    return open_redis_hot_state(settings.redis_url)
