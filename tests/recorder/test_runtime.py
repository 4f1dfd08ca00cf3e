"""The library reads the runtime's own stream, and cannot write it."""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from eventsourcing.application import Application
from eventsourcing.persistence import DataError, MapperDeserialisationError, NotSupportedError, StoredEvent
from eventsourcing.projection import ApplicationSubscription

from l02.bus.connection.bus import Bus, connect
from l02.bus.connection.streams import ensure_streams
from l02.bus.embedded import EmbeddedNats
from l02.domain.agent.life.spawning import AgentSpawned
from l02.domain.aggregates import AGGREGATES
from l02.eventsourcing import RuntimeEvent
from tests.projections.history import History, append, append_events, spawn_requested, spawned

EXAMPLE = Path(__file__).parents[2] / "examples" / "eventsourcing_projection.py"


@pytest_asyncio.fixture
async def bus(fresh_nats: EmbeddedNats) -> AsyncIterator[Bus]:
    async with connect(fresh_nats.url, name="test", aggregates=AGGREGATES) as connected:
        await ensure_streams(connected)
        yield connected


class L02(Application[str]):
    pass


@pytest.fixture
def runtime(fresh_nats: EmbeddedNats, bus: Bus) -> Iterator[L02]:
    with L02({"L02_PERSISTENCE_MODULE": "l02.eventsourcing", "L02_NATS_URL": fresh_nats.url}) as application:
        yield application


async def counts(nats_url: str, database: Path) -> Counter[str]:
    """What the example prints."""
    program = await asyncio.create_subprocess_exec(
        sys.executable,
        str(EXAMPLE),
        str(database),
        env=os.environ | {"L02_NATS_URL": nats_url},
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await program.communicate()
    assert program.returncode == 0
    lines = (line.split() for line in output.decode().splitlines())
    return Counter({event_type: int(events) for events, event_type in lines})


def types(messages: list[tuple[str, bytes]]) -> Counter[str]:
    return Counter("agent." + subject.split(".", 4)[4] for subject, _ in messages)


async def test_the_example_counts_each_event_once(fresh_nats: EmbeddedNats, bus: Bus, tmp_path: Path) -> None:
    history = History(agents=7)
    first, second = list(history.events(60)), list(history.events(40))
    await append(bus, first)
    assert await counts(fresh_nats.url, tmp_path / "counts.db") == types(first)
    await append(bus, second)
    assert await counts(fresh_nats.url, tmp_path / "counts.db") == types(first + second)


async def test_events_of_one_aggregate(bus: Bus, runtime: L02) -> None:
    await append_events(bus, [spawn_requested(), spawned("a1")], "a1")
    await append_events(bus, [spawn_requested()], "a2")
    events: list[Any] = await asyncio.to_thread(lambda: list(runtime.events.get("agent/a1", gt=1)))
    (event,) = events
    assert isinstance(event, RuntimeEvent)
    assert (event.originator_id, event.originator_version, event.type) == ("agent/a1", 2, "agent.spawned")
    assert isinstance(event.event, AgentSpawned) and event.event.node_id == "n1"
    assert await asyncio.to_thread(lambda: list(runtime.events.get("agent/a3"))) == []
    newest: list[Any] = await asyncio.to_thread(lambda: list(runtime.events.get("agent/a1", desc=True, limit=1)))
    assert newest == events
    with pytest.raises(DataError, match="is not an aggregate like"):
        await asyncio.to_thread(lambda: list(runtime.events.get("agent/>")))


async def test_a_subscription_is_sent_the_topics_it_names(bus: Bus, runtime: L02) -> None:
    await append_events(bus, [spawn_requested(), spawned("a1")], "a1")

    def first_two() -> list[tuple[Any, int]]:
        topics = ("agent.spawned", "agent.terminated", "agent.spawned")
        with ApplicationSubscription(runtime, topics=topics) as subscription:
            return [(event, tracking.notification_id) for event, tracking in islice(subscription, 2)]

    received = asyncio.create_task(asyncio.to_thread(first_two))
    await append_events(bus, [spawn_requested(), spawned("a2")], "a2")
    assert [(event.originator_id, event.type, sequence) for event, sequence in await received] == [
        ("agent/a1", "agent.spawned", 2),
        ("agent/a2", "agent.spawned", 4),
    ]
    log = await asyncio.to_thread(lambda: runtime.notification_log.select(1, 10, topics=["agent.spawned"]))
    assert [notification.id for notification in log] == [2, 4]


async def test_an_event_of_an_unknown_type_is_refused(bus: Bus, runtime: L02) -> None:
    await append_events(bus, [spawn_requested()], "a1")
    newest = await bus.stored("L02_EVENTS", sequence=1)
    assert newest is not None
    await bus.publish("l02.evt.agent.a1.flown", newest.data.replace(b"agent.spawn.requested", b"agent.flown"))

    def read_all() -> None:
        with ApplicationSubscription(runtime) as subscription:
            next(subscription)
            next(subscription)

    with pytest.raises(MapperDeserialisationError, match="unknown type 'agent.flown'"):
        await asyncio.to_thread(read_all)


async def test_it_is_only_read(bus: Bus, runtime: L02) -> None:
    event = StoredEvent("agent/a1", 1, "agent.spawned", b"{}")
    operations = [
        lambda: runtime.recorder.insert_events([event]),
        lambda: runtime.factory.tracking_recorder(),
        lambda: runtime.factory.process_recorder(),
        lambda: runtime.factory.aggregate_recorder("snapshots"),
    ]
    for operation in operations:
        with pytest.raises(NotSupportedError, match="only read"):
            await asyncio.to_thread(operation)
    assert runtime.save() == []
    assert await asyncio.to_thread(runtime.recorder.max_notification_id) is None
