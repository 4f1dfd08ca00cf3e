"""The places where checkpoints are kept: PostgreSQL or NATS' object store, and what both of them do alike."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from l02.bus.connection.bus import Bus
from l02.handlers.state.checkpoint_store import CheckpointStore
from l02.handlers.state.settings import StateSettings
from l02.handlers.state.stores.objects import open_object_checkpoints
from l02.handlers.state.stores.postgres import open_postgres_checkpoints

__all__ = ["open_checkpoints"]


def open_checkpoints(
    settings: StateSettings, bus: Bus, postgres_url: str, replicas: int = 1
) -> AbstractAsyncContextManager[CheckpointStore]:
    """The store that the settings choose, as long as the context lasts; `replicas` are those of NATS' buckets.

    Opening it raises asyncpg's or NATS' errors, OSError or TimeoutError if its server is away.
    """
    if settings.storage == "postgres":
        return open_postgres_checkpoints(postgres_url, compression=settings.compression, limit=settings.max_bytes)
    return open_object_checkpoints(bus, compression=settings.compression, limit=settings.max_bytes, replicas=replicas)
