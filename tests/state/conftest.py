"""Stores of checkpoints over real servers."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from handlers.state.stores.postgres import PostgresCheckpoints, open_postgres_checkpoints

LIMIT = 100 * 1024 * 1024


@pytest_asyncio.fixture
async def store(database: str) -> AsyncIterator[PostgresCheckpoints]:
    async with open_postgres_checkpoints(database, compression="gzip", limit=LIMIT) as opened:
        yield opened
