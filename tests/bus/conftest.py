"""A bus with the runtime's streams on a server of the test's own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from l02.bus.connection.bus import Bus, connect
from l02.bus.connection.streams import ensure_streams
from l02.bus.embedded import EmbeddedNats
from l02.bus.log.event_store import EventStore, open_event_store
from l02.bus.log.repository import Repository
from tests.bus.toy import TABLE, TOY, State


@pytest_asyncio.fixture
async def bus(fresh_nats: EmbeddedNats) -> AsyncIterator[Bus]:
    async with connect(fresh_nats.url, name="test", aggregates=TABLE) as connected:
        await ensure_streams(connected)
        yield connected


@pytest_asyncio.fixture
async def store(bus: Bus) -> AsyncIterator[EventStore]:
    async with open_event_store(bus) as opened:
        yield opened


@pytest.fixture
def repository(store: EventStore) -> Repository[State]:
    return Repository(TOY, store, "n1")


@pytest.fixture
def patient_keeper(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server is brought back at once, however often it is killed: here that is the test's doing."""
    monkeypatch.setattr(EmbeddedNats, "restart_delays", (0.0,) * 1_000)
