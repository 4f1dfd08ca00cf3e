"""Requests to JetStream that outlast its absence."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from l02.bus.background.backoff import outlasting
from l02.projections.projector.passing import is_passing

T = TypeVar("T")


async def until_it_works(request: Callable[[], Awaitable[T]]) -> T:
    """Repeat what fails because JetStream is away. What does not pass by itself is raised."""
    return await outlasting(request, is_passing, "JetStream to write live views")
