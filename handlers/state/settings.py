"""What the state manager can be told, with the defaults that the documentation names."""

from __future__ import annotations

from msgspec import Struct

__all__ = ["StateSettings"]


class StateSettings(Struct, frozen=True, kw_only=True):
    """`keep_checkpoints` newest ones of an agent are kept however old they are."""

    auto_checkpoint_interval_seconds: float = 60.0
    retention_days: float = 30.0
    keep_checkpoints: int = 10
