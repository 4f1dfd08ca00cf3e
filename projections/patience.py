"""Requests to JetStream that outlast its absence, and that end when their task is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog
from nats.errors import Error as NatsError

from projections.backoff import Backoff
from projections.passing import is_passing

__all__ = ["cancellable", "until_it_works"]

_log = structlog.get_logger()
T = TypeVar("T")


async def cancellable(request: Awaitable[T]) -> T:
    """Await a request of nats-py so that a cancellation is never lost.

    nats-py waits with `asyncio.wait_for`, which up to Python 3.11 forgets a cancellation that arrives together with
    the answer.
    """
    task = asyncio.current_task()
    assert task is not None
    before = task.cancelling()
    answer = await request
    if task.cancelling() > before:
        raise asyncio.CancelledError
    return answer


async def until_it_works(request: Callable[[], Awaitable[T]]) -> T:
    """Repeat what fails because JetStream is away. What does not pass by itself is raised."""
    backoff = Backoff()
    while True:
        try:
            return await cancellable(request())
        except (NatsError, OSError, TimeoutError) as error:
            if not is_passing(error):
                raise
            _log.warning("live views wait for JetStream", error=repr(error))
        await backoff.pause()
