"""Who reads or consumes goes on when a stream changes its leader, or the server goes that kept the consumer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

from nats.errors import Error as NatsError

from l02.bus.commands.outcomes import said_outcome
from l02.bus.connection.bus import Bus, connect
from l02.bus.connection.streams import COMMANDS_STREAM, EVENTS_STREAM
from l02.bus.log.event_store import EventStore, open_event_store
from l02.bus.log.reader import last_sequence, read_events
from l02.bus.log.repository import Repository
from l02.bus.wire.codec import RecordedEvent
from l02.bus.wire.subjects import aggregate_filter
from tests.bus.faults import kill_for_good
from tests.bus.listening import reading
from tests.bus.toy import TABLE, TOY, State, note, payloads, processing, send, toy_id, until
from tests.cluster.servers import Cluster, ClusterServer


class Follower:
    """What a reader and a durable consumer have seen of one aggregate."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.read: list[int] = []
        self.followed: list[int] = []

    async def read_on(self, bus: Bus, after: int) -> None:
        async with read_events(bus, after=after, filters=[aggregate_filter(toy_id(self.name))]) as reader:
            while True:
                self.read += payloads(await reader.next_batch())

    async def hear(self, events: Sequence[RecordedEvent]) -> None:
        self.followed += payloads([item for item in events if item.aggregate.id == self.name])

    async def have(self, number: int) -> float:
        """Seconds until both have seen the payload `number`."""
        began = time.monotonic()
        await until(lambda: number in self.read and number in self.followed, seconds=60)
        return time.monotonic() - began


@asynccontextmanager
async def following(cluster: Cluster, name: str) -> AsyncIterator[Follower]:
    follower = Follower(name)
    async with connect(cluster.url, name="follower", aggregates=TABLE) as bus:
        tasks = [asyncio.create_task(follower.read_on(bus, await last_sequence(bus)))]
        try:
            async with (
                open_event_store(bus) as store,
                reading(
                    bus, Repository(TOY, store, name), {"test": lambda recorded: follower.hear([recorded])}
                ) as task,
            ):
                tasks.append(task)
                yield follower
                assert not [task.exception() for task in tasks if task.done()]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)


async def consumer_servers(cluster: Cluster, bus: Bus, stream: str) -> list[ClusterServer]:
    """The servers that lead the stream's consumers."""
    answer = await bus.api(f"CONSUMER.LIST.{stream}", {})
    labels = {consumer["cluster"]["leader"] for consumer in answer["consumers"]}
    return [server for server in cluster.servers if server.label in labels]


async def write_until(repository: Repository[State], name: str, first: int, last: int) -> None:
    for number in range(first, last + 1):
        await repository.record(name, note(number))


async def test_subscriptions_go_on_with_another_leader(cluster: Cluster, bus: Bus, store: EventStore) -> None:
    repository = Repository(TOY, store, "n1")
    async with following(cluster, "stepdown") as follower:
        await until(lambda: consumer_servers(cluster, bus, EVENTS_STREAM))
        await write_until(repository, "stepdown", 1, 20)
        slowest = await follower.have(20)
        for last in (40, 60):
            await bus.api(f"STREAM.LEADER.STEPDOWN.{EVENTS_STREAM}", {})
            await write_until(repository, "stepdown", last - 19, last)
            slowest = max(slowest, await follower.have(last))
    assert follower.read == list(range(1, 61))
    assert list(dict.fromkeys(follower.followed)) == list(range(1, 61))
    print(f"seen {slowest:.1f} s after the last append at most", end=" ")


async def test_subscriptions_go_on_when_their_server_is_killed(cluster: Cluster, bus: Bus, store: EventStore) -> None:
    repository = Repository(TOY, store, "n1")
    async with following(cluster, "killed") as follower:
        await write_until(repository, "killed", 1, 20)
        await follower.have(20)
        victims = await consumer_servers(cluster, bus, EVENTS_STREAM)
        await kill_for_good(victims[0])
        await write_until(repository, "killed", 21, 40)
        took = await follower.have(40)
        await victims[0].start()
        await write_until(repository, "killed", 41, 60)
        await follower.have(60)
    assert follower.read == list(range(1, 61))
    assert list(dict.fromkeys(follower.followed)) == list(range(1, 61))
    print(f"seen {took:.1f} s after the last append", end=" ")


async def stored(bus: Bus, number: int) -> bool:
    """Send a command until it is acknowledged; its id makes that harmless."""
    try:
        await send(bus, "commands", f"command-{number}", number)
    except (NatsError, TimeoutError):
        return False
    return True


async def is_said(bus: Bus, number: int) -> bool:
    try:
        said = await said_outcome(bus, f"command-{number}")
    except (NatsError, TimeoutError):
        return False
    return said is not None and said.outcome is not None and said.outcome.ok


async def test_commands_are_decided_once_when_the_leader_is_killed(cluster: Cluster) -> None:
    """A client sends, a node decides; each command has led to one event, in the order they were sent."""
    async with (
        connect(cluster.url, name="node", aggregates=TABLE) as node,
        open_event_store(node) as store,
        connect(cluster.url, name="client", aggregates=TABLE) as client,
        processing(node, Repository(TOY, store, "n1")),
    ):

        async def send_up_to(first: int, last: int) -> None:
            for number in range(first, last + 1):
                await until(partial(stored, client, number), seconds=60)

        await send_up_to(1, 50)
        await until(partial(is_said, client, 50))
        victim = await cluster.leader(client, COMMANDS_STREAM)
        await kill_for_good(victim)
        began = time.monotonic()
        await send_up_to(51, 51)
        stored_after = time.monotonic() - began
        await until(partial(is_said, client, 51), seconds=40)
        print(f"stored {stored_after:.1f} s, decided {time.monotonic() - began:.1f} s after the kill", end=" ")
        await victim.start()
        await send_up_to(52, 100)
        await until(partial(is_said, client, 100), seconds=40)
        assert payloads(await store.load(toy_id("commands"))) == list(range(1, 101))
