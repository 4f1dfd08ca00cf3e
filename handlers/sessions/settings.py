"""What the session bridge can be told; the names are those of the configuration."""

from __future__ import annotations

from msgspec import Struct


class BridgeSettings(Struct, frozen=True, kw_only=True):
    """Seconds and counts. A call that fails is made again after `first_retry_seconds`, then after twice as long.

    When it has failed `max_retries` times more, it waits for the next heartbeat.
    """

    heartbeat_interval_seconds: float = 30.0
    heartbeat_timeout_seconds: float = 5.0
    max_retries: int = 3
    first_retry_seconds: float = 1.0
    enable_recovery_check: bool = True

    def pause(self, failures: int) -> float:
        """Seconds after so many failures in a row."""
        if failures > self.max_retries:
            return self.heartbeat_interval_seconds
        return min(self.first_retry_seconds * 2.0 ** (failures - 1), self.heartbeat_interval_seconds)
