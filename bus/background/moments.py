"""Waiting for a moment of the clock on the wall, and never for less: the loop's own timers may be early by a little,
and its clock is another one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


async def reached(moment: float) -> None:
    """Wait until `moment` (seconds since 1970)."""
    with suppress(TimeoutError):
        async with before(moment):
            await asyncio.Event().wait()


@asynccontextmanager
async def before(moment: float | None) -> AsyncIterator[asyncio.Timeout]:
    """As `asyncio.timeout`, up to `moment` (seconds since 1970); None is never."""
    loop = asyncio.get_running_loop()
    alarm: asyncio.TimerHandle | None = None

    def look(due: float) -> None:
        nonlocal alarm
        left = due - time.time()
        if left > 0:
            alarm = loop.call_later(left, look, due)
        elif not limit.expired():
            limit.reschedule(loop.time())

    async with asyncio.timeout(None) as limit:
        if moment is not None:
            look(moment)
        try:
            yield limit
        finally:
            if alarm is not None:
                alarm.cancel()
