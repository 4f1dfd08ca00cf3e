"""Ending a task for certain.

Python 3.11's `asyncio.wait_for`, which is in every request of nats-py, loses a cancellation that comes in the same
moment as the result (mended in 3.12). A task that is cancelled once and waited for may then go on for ever. So who ends
a task cancels it again (`end`), and who cannot have that done raises what was lost (`cancellable`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

T = TypeVar("T")
_AGAIN_SECONDS = 0.1


async def end(task: asyncio.Task[Any]) -> None:
    """Cancel `task` until it has ended. What it returns or raises stays in it."""
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=_AGAIN_SECONDS)


async def cancellable(request: Awaitable[T]) -> T:
    """Await `request`. A cancellation that it loses meanwhile is raised after it, whatever has come of it."""
    task = asyncio.current_task()
    assert task is not None
    before = task.cancelling()
    try:
        return await request
    finally:
        if task.cancelling() > before:
            raise asyncio.CancelledError
