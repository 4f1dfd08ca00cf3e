"""Timers on three servers: when the leader of the stream that holds them is killed, another fires them, each once."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta

import msgspec

from l02.bus.commands.timers import cancel_timer, set_timer
from l02.bus.connection.bus import Bus
from l02.bus.connection.leader import standing_of
from l02.bus.connection.streams import TIMERS_STREAM
from l02.bus.log.reader import last_sequence, read_stream
from l02.bus.wire.subjects import DUE, timer_subject
from tests.bus.faults import kill_for_good
from tests.bus.toy import Remind, toy_id, until
from tests.cluster.servers import Cluster

TIMERS = 200


async def test_timers_fire_once_when_the_leader_is_killed_before_they_are_due(cluster: Cluster, bus: Bus) -> None:
    before = await last_sequence(bus, TIMERS_STREAM)
    due = datetime.now(UTC) + timedelta(seconds=3)

    async def set_one(number: int) -> None:
        body = msgspec.json.encode({"payload": str(number)})
        name = f"t{number}"
        await set_timer(bus, toy_id("timed"), name, due=due, verb=Remind.verb, body=body, command_id=f"timed-{number}")

    await asyncio.gather(*map(set_one, range(TIMERS)))
    assert await cancel_timer(bus, toy_id("timed"), "t0")
    victim = await cluster.leader(bus, TIMERS_STREAM)
    await kill_for_good(victim)

    async def none_waits() -> bool:
        waiting = timer_subject(toy_id("timed"), "*")
        return (await standing_of(bus, TIMERS_STREAM, waiting, within=None)).messages == 0

    await until(none_waits, seconds=40)
    print(f"all fired {(datetime.now(UTC) - due).total_seconds():.1f} s after they were due", end=" ")
    await victim.start()
    newest = await last_sequence(bus, TIMERS_STREAM)
    fired: Counter[str] = Counter()
    async with read_stream(bus, TIMERS_STREAM, after=before, filters=[f"{DUE}.toy.timed.>"]) as reader:
        while fired.total() < TIMERS - 1 and reader.position < newest:
            fired.update((message.headers or {})["L02-Command-Id"] for message in await reader.next_batch())
    assert fired == {f"timed-{number}": 1 for number in range(1, TIMERS)}
