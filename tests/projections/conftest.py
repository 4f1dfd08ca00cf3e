"""A bus with empty streams, and a database with empty tables."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest_asyncio

from l02.bus.connection.bus import Bus, connect
from l02.bus.connection.streams import ensure_streams
from l02.bus.embedded import EmbeddedNats
from l02.domain.aggregates import AGGREGATES
from l02.projections.projector.progress import Progress
from l02.projections.tables.database import migrate
from l02.projections.tables.definitions import TABLES
from l02.projections.views.projector import VIEWS
from tests.projections import history as h

CATCHING_UP_SECONDS = 60


@pytest_asyncio.fixture
async def bus(fresh_nats: EmbeddedNats) -> AsyncIterator[Bus]:
    async with connect(fresh_nats.url, name="projections", aggregates=AGGREGATES) as bus:
        await ensure_streams(bus)
        yield bus


@pytest_asyncio.fixture
async def tables(database: str) -> str:
    """The URL of a database that has the tables."""
    await migrate(database)
    return database


async def caught_up(progress: Progress, sequence: int) -> None:
    async with asyncio.timeout(CATCHING_UP_SECONDS):
        for name in (*TABLES, VIEWS):
            await progress.wait_for(name, sequence)


@asynccontextmanager
async def load(bus: Bus) -> AsyncIterator[None]:
    """Events all the time, by a writer that repeats what was not acknowledged."""

    async def write() -> None:
        history = h.History(agents=30)
        while True:
            await h.append(bus, [*history.events(20)])

    writing = asyncio.create_task(write())
    try:
        yield
    finally:
        writing.cancel()
        await asyncio.wait({writing})
    assert writing.cancelled(), "the writer has failed"


@asynccontextmanager
async def running(*projectors: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Projectors at work in the background. One that fails makes the test fail."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(projector) for projector in projectors]
        yield
        for task in tasks:
            task.cancel()
