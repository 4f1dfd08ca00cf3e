"""An endpoint that keeps failing is left alone for a while; then one call finds out whether it is back."""

from __future__ import annotations

import time
from enum import StrEnum


class BreakerState(StrEnum):
    """Whether an endpoint is asked: `half_open` is the one call that finds out."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Breaker:
    """Opens after `failures` in a row, for `seconds`. Each call that it admits lets go of it, and says how it went."""

    def __init__(self, failures: int, seconds: float) -> None:
        self.failures = failures
        self.seconds = seconds
        self._failed = 0
        self._opened_at = 0.0
        self._trying = False

    @property
    def state(self) -> BreakerState:
        """How it stands now."""
        if self._failed < self.failures:
            return BreakerState.CLOSED
        return BreakerState.HALF_OPEN if self._trying else BreakerState.OPEN

    @property
    def opens_in(self) -> float:
        """Seconds until a call may find out whether the endpoint is back."""
        return max(self._opened_at + self.seconds - time.monotonic(), 0.0)

    def admits(self) -> bool:
        """Whether a call may go. One that may, when the breaker is open, is the only one."""
        if self.state is BreakerState.CLOSED:
            return True
        if self._trying or self.opens_in > 0:
            return False
        self._trying = True
        return True

    def succeeded(self) -> None:
        """The endpoint works."""
        self._failed = 0

    def failed(self) -> None:
        """The endpoint does not work."""
        self._failed += 1
        if self._failed >= self.failures:
            self._opened_at = time.monotonic()

    def let_go(self) -> None:
        """The call has ended, whatever that says about the endpoint."""
        self._trying = False
