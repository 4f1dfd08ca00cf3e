"""Ending a task for certain.

Python 3.11's `asyncio.wait_for`, which is in every request of nats-py, loses a cancellation that comes in the same
moment as the result (mended in 3.12). A task that is cancelled once and waited for may then go on for ever.
"""

from __future__ import annotations

import asyncio
from typing import Any

__all__ = ["end"]

_AGAIN_SECONDS = 0.1


async def end(task: asyncio.Task[Any]) -> None:
    """Cancel `task` until it has ended. What it returns or raises stays in it."""
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=_AGAIN_SECONDS)
