"""How often and how long a decision is tried anew, when others were first or the event store does not answer."""

from __future__ import annotations

import asyncio

from l02.bus.log.event_store import Conflict, EventStoreSilent
from l02.domain.errors import ErrorCode, Failure

RETRY_SECONDS = 0.1
_CONFLICT_RETRIES = 10
_UNREACHABLE_SECONDS = 30.0
_CONFLICT_PAUSE_SECONDS = 0.002


class Patience:
    """That of one decision."""

    def __init__(self, subject: str) -> None:
        self._subject = subject
        self._deadline = asyncio.get_running_loop().time() + _UNREACHABLE_SECONDS
        self._conflicts = 0

    async def after(self, error: Exception) -> None:
        """Wait a moment; raises Failure when it is no use any more."""
        if isinstance(error, Conflict):
            self._conflicts += 1
            if self._conflicts > _CONFLICT_RETRIES:
                raise Failure(
                    ErrorCode.CONFLICT, f"others kept changing {self._subject}; send the command again"
                ) from error
            await asyncio.sleep(_CONFLICT_PAUSE_SECONDS * (2 ** (self._conflicts - 1) - 1))
        else:
            if asyncio.get_running_loop().time() > self._deadline:
                raise EventStoreSilent(error) from error
            await asyncio.sleep(RETRY_SECONDS)
