"""Requests to JetStream that outlast its absence."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog
from nats.errors import Error as NatsError

from l02.bus.background.backoff import Backoff
from l02.bus.background.cancelling import cancellable
from l02.projections.projector.passing import is_passing

_log = structlog.get_logger()
T = TypeVar("T")


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
