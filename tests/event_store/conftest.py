"""The event store in memory and the one on a server, each under the same tests; `not server` leaves out the latter."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import pytest_asyncio

from l02.bus.connection.bus import Bus
from l02.bus.connection.streams import ensure_streams
from l02.bus.embedded import EmbeddedNats
from l02.bus.log.event_store import EventStore
from l02.bus.log.repository import Repository
from tests.bus.toy import TOY, State, another_process
from tests.event_store.memory import MemoryEventStore, MemoryLog

Put = Callable[[str, bytes], Awaitable[object]]


@pytest_asyncio.fixture
async def on_server(fresh_nats: EmbeddedNats) -> AsyncIterator[tuple[Bus, EventStore]]:
    async with another_process(fresh_nats.url) as (bus, store):
        await ensure_streams(bus)
        yield bus, store


@pytest_asyncio.fixture
async def other_on_server(
    fresh_nats: EmbeddedNats, on_server: tuple[Bus, EventStore]
) -> AsyncIterator[tuple[Bus, EventStore]]:
    async with another_process(fresh_nats.url) as other:
        yield other


@pytest.fixture(params=["memory", pytest.param("server", marks=pytest.mark.server)])
def store(request: pytest.FixtureRequest) -> EventStore:
    """Empty, of this test alone."""
    return MemoryEventStore(MemoryLog()) if request.param == "memory" else request.getfixturevalue("on_server")[1]


@pytest.fixture
def other_store(request: pytest.FixtureRequest, store: EventStore) -> EventStore:
    """That of another process, which shares nothing with `store` but the log."""
    if isinstance(store, MemoryEventStore):
        return MemoryEventStore(store.log)
    other: EventStore = request.getfixturevalue("other_on_server")[1]
    return other


@pytest.fixture
def put(request: pytest.FixtureRequest, store: EventStore) -> Put:
    """Put anything into the log, as who may publish below `l02.evt` can."""
    if not isinstance(store, MemoryEventStore):
        bus: Bus = request.getfixturevalue("on_server")[0]
        return bus.publish
    log = store.log

    async def into_memory(subject: str, payload: bytes) -> int:
        return log.put(subject, payload)

    return into_memory


@pytest.fixture
def repository(store: EventStore) -> Repository[State]:
    return Repository(TOY, store, "n1")


@pytest.fixture
def other(other_store: EventStore) -> Repository[State]:
    """The repository of another process."""
    return Repository(TOY, other_store, "n1")
