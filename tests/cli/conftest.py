"""A bus with the runtime's streams and no node: what a client meets when every node is down."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime

import pytest
import pytest_asyncio

from l02.bus.connection.bus import Bus, connect
from l02.bus.connection.streams import ensure_streams
from l02.bus.embedded import EmbeddedNats
from l02.bus.wire.codec import encode_event
from l02.bus.wire.subjects import AggregateId, event_subject
from l02.client.client import Client
from l02.domain.agent.life.spawning import SpawnRequested
from l02.domain.aggregates import AGGREGATES
from l02.domain.kernel.message import Event, Metadata
from l02.domain.specification import AgentSpecification

Append = Callable[..., Awaitable[None]]
SPECIFICATION = AgentSpecification(name="historian", entrypoint="/agents/historian.py")
REQUESTED = SpawnRequested(spec=SPECIFICATION, requested_by="test", node_id="n1", incarnation=1)


@pytest_asyncio.fixture
async def bus(fresh_nats: EmbeddedNats) -> AsyncIterator[Bus]:
    async with connect(fresh_nats.url, name="test", aggregates=AGGREGATES) as connected:
        await ensure_streams(connected)
        yield connected


@pytest.fixture
def client(bus: Bus) -> Client:
    return Client(bus, actor="test")


@pytest.fixture
def append(bus: Bus) -> Append:
    """Put events of an agent in the log."""

    async def append(agent_id: str, *events: Event) -> None:
        for event in events:
            aggregate = AggregateId("agent", agent_id)
            metadata = Metadata(causation_id="c", correlation_id="c", actor="test")
            now = datetime.now(UTC)
            raw = encode_event(event, aggregate=aggregate, event_id="e", version=1, time=now, metadata=metadata)
            await bus.jetstream.publish(event_subject(aggregate, event.type), raw)

    return append
