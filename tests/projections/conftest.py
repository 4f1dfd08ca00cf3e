"""A bus with empty streams, and a database with empty tables."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest_asyncio

from bus.connection import Bus, connect
from bus.embedded import EmbeddedNats
from bus.streams import ensure_streams
from projections.database import migrate


@pytest_asyncio.fixture
async def bus(fresh_nats: EmbeddedNats) -> AsyncIterator[Bus]:
    async with connect(fresh_nats.url, name="projections") as bus:
        await ensure_streams(bus)
        yield bus


@pytest_asyncio.fixture
async def tables(database: str) -> str:
    """The URL of a database that has the tables."""
    await migrate(database)
    return database


@asynccontextmanager
async def running(*projectors: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Projectors at work in the background. One that fails makes the test fail."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(projector) for projector in projectors]
        yield
        for task in tasks:
            task.cancel()
