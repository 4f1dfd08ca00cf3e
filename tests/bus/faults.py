"""What tests do to a server, and how they see whether it has held."""

from __future__ import annotations

import os
import signal
from collections import Counter

from l02.bus.connection.bus import Bus
from l02.bus.embedded import EmbeddedNats
from l02.bus.log.reader import last_sequence, read_events
from l02.bus.log.repository import Repository
from l02.bus.wire.codec import RecordedEvent
from tests.bus import toy
from tests.bus.toy import State, until

Acknowledged = dict[str, list[str]]


async def kill(server: EmbeddedNats) -> None:
    """SIGKILL, and wait until its keeper has brought up another."""
    before = server.pid
    os.kill(before, signal.SIGKILL)
    await until(lambda: _pid(server) not in (None, before))


async def kill_for_good(server: EmbeddedNats) -> None:
    """SIGKILL; it stays down until it is started."""
    os.kill(server.pid, signal.SIGKILL)
    await server.stop()


def _pid(server: EmbeddedNats) -> int | None:
    try:
        return server.pid
    except RuntimeError:
        return None


async def write_for_ever(repository: Repository[State], name: str, acknowledged: Acknowledged) -> None:
    number = 0
    while True:
        number += 1
        command = "two" if number % 5 == 0 else "add"
        decision = await repository.record(name, toy.note(number, command))
        assert decision.events, "every command has led to events of its own"
        acknowledged.setdefault(name, []).extend(item.event_id for item in decision.events)


async def all_events(bus: Bus) -> Acknowledged:
    """The ids of all events by aggregate, as a reader of the stream sees them."""
    found: Acknowledged = {}
    versions: Counter[str] = Counter()
    newest = await last_sequence(bus)
    async with read_events(bus) as reader:
        while reader.position < newest:
            for item in await reader.next_batch():
                assert isinstance(item, RecordedEvent)
                versions[item.aggregate.id] += 1
                assert item.version == versions[item.aggregate.id]
                found.setdefault(item.aggregate.id, []).append(item.event_id)
    return found
