"""How a node keeps the state of its agents."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Compression = Literal["gzip", "zstd"]
Storage = Literal["postgres", "objects"]
HotStorage = Literal["nats", "redis"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StateSettings:
    """Checkpoints go away when they are older than `retention_days`, but an agent's last `keep_last` stay.

    One is taken every `auto_checkpoint_interval_seconds` of an agent that has changed; never, if that is 0.
    """

    storage: Storage = "postgres"
    compression: Compression = "gzip"
    max_size_mb: int = 100
    retention_days: float = 30
    keep_last: int = 10
    auto_checkpoint_interval_seconds: float = 60
    hot_storage: HotStorage = "nats"
    redis_url: str | None = field(default=None, repr=False)

    @property
    def max_bytes(self) -> int:
        """The most that a checkpoint may have before compression."""
        return self.max_size_mb * 1024 * 1024
