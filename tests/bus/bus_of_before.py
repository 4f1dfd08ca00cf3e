"""A bus as the version before has left it, and what it is to be when it is migrated."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from nats.js.api import KeyValueConfig

from l02.bus.commands.migration import BEFORE_STREAM, migrate_streams
from l02.bus.commands.outcomes import failed, publish_outcome
from l02.bus.commands.partitions import COMMAND_PARTITIONS
from l02.bus.connection.bus import Bus
from l02.bus.connection.leader import message_from_leader, standing_of
from l02.bus.connection.streams import COMMANDS_STREAM, TIMERS_STREAM, ensure_stream, ensure_streams, stream_configs
from l02.bus.log.event_store import open_event_store
from l02.bus.log.reader import last_sequence
from l02.bus.log.repository import Repository
from l02.bus.wire.subjects import PARTITIONS_BUCKET, partition_subject
from l02.domain.errors import ErrorCode, Failure
from tests.bus.toy import TOY, outcome, payloads, processing, send, send_raw, toy_id, until

OLD: dict[str, Any] = {
    "name": COMMANDS_STREAM,
    "subjects": ["l02.cmd.>", "l02.timer.>"],
    "retention": "limits",
    "storage": "file",
    "num_replicas": 1,
    "discard": "old",
    "allow_atomic": True,
    "max_age": 7 * 86_400 * 1_000_000_000,
    "duplicate_window": 100_000_000,
    "allow_msg_schedules": True,
    "allow_msg_ttl": True,
    "allow_direct": True,
}
HANDLED = 3


async def nobody() -> list[str]:
    return []


async def somebody() -> list[str]:
    return ["n7"]


async def leave_bus_of_before(bus: Bus, replicas: int = 1) -> int:
    """Three commands that are handled, and what is not: one without an id, one answered just before the end, one to an
    address that is none, a timer that has fired, two that wait, and one that somebody has aimed at another's toy.

    Gives the last sequence.
    """
    for config in stream_configs(replicas):
        if config["name"] not in (COMMANDS_STREAM, TIMERS_STREAM):
            await ensure_stream(bus, config)
    await ensure_stream(bus, OLD | {"num_replicas": replicas})
    await bus.jetstream.create_key_value(
        KeyValueConfig(bucket=PARTITIONS_BUCKET, history=1, direct=True, replicas=replicas)
    )
    for number in range(HANDLED):
        await send(bus, "a1", f"c{number}", number)
    for name in COMMAND_PARTITIONS:
        record = msgspec.json.encode({"owner": "gone", "position": HANDLED})
        await bus.publish(partition_subject(name), record)
    await send(bus, "a1", "c3", 3)
    answered = await send(bus, "a1", "said", "never")
    await publish_outcome(bus, failed("said", Failure(ErrorCode.INVALID_STATE, "no")), answered)
    await send_raw(bus, "l02.cmd.toy.a1.note", b'{"name":"add","payload":4}')
    await send_raw(bus, "l02.cmd.nobody", b"{}", {"Nats-Msg-Id": "lost"})
    past, far = datetime.now(UTC) - timedelta(hours=1), datetime.now(UTC) + timedelta(hours=1)
    await _timer(bus, "toy.a1.remind", past, b'{"payload":"fired"}')

    async def has_fired() -> bool:
        return (await standing_of(bus, COMMANDS_STREAM, "l02.timer.>")).messages == 0

    await until(has_fired)
    await _timer(bus, "toy.a2.remind", far, b'{"payload":"waits"}')
    await _timer(bus, "agent.a3.restart", far, b'{"attempt":1}')
    await _timer(bus, "agent.a4.terminate", far, b"{}")
    await send(bus, "a1", "c5", 5)
    return await last_sequence(bus, COMMANDS_STREAM)


async def _timer(bus: Bus, address: str, due: datetime, body: bytes) -> None:
    headers = {
        "Nats-Schedule": f"@at {due:%Y-%m-%dT%H:%M:%SZ}",
        "Nats-Schedule-Target": f"l02.cmd.{address}",
        "Nats-TTL": "never",
        "L02-Command-Id": address.replace(".", "-"),
        "L02-Actor": "timer",
    }
    await bus.publish(f"l02.timer.{address}", body, headers)


async def assert_migrated(bus: Bus, last: int, replicas: int = 1) -> None:
    """Nothing of what `leave_bus_of_before` has left, up to sequence `last`, is lost or doubled."""
    await ensure_streams(bus, replicas)
    await migrate_streams(bus, replicas, somebody)  # nothing is left to do, so nobody is in the way
    # Each attempt at a copy has put one more message at the end.
    last += (await standing_of(bus, BEFORE_STREAM, BEFORE_STREAM.lower())).messages
    info = await bus.api(f"STREAM.INFO.{COMMANDS_STREAM}", {})
    assert info["state"]["first_seq"] == last + 1 and info["state"]["messages"] == 4
    assert info["config"]["subjects"] == ["l02.cmd.>"]
    assert info["config"]["subject_transform"] == {"src": "l02.restored.>", "dest": "l02.cmd.>"}
    kept = await bus.api(f"STREAM.INFO.{BEFORE_STREAM}", {})
    assert (kept["state"]["first_seq"], kept["state"]["last_seq"]) == (1, last) and "mirror" not in kept["config"]
    for subject, target, command_id in (
        ("l02.timer.toy.a2.remind", "l02.due.toy.a2.remind", "toy-a2-remind"),
        ("l02.timer.agent.a3.restart-due", "l02.due.agent.a3.restart-due", "agent-a3-restart-due"),
        ("l02.timer.agent.a4.terminate", "l02.due.agent.a4.terminate", "agent-a4-terminate"),
    ):
        timer = await message_from_leader(bus, TIMERS_STREAM, last_on=subject)
        assert timer is not None and timer.headers["Nats-Schedule-Target"] == target
        assert timer.headers["L02-Command-Id"] == command_id
    assert (await standing_of(bus, TIMERS_STREAM, "l02.timer.>")).messages == 3
    async with open_event_store(bus) as store:
        async with processing(bus, Repository(TOY, store, "n1")):
            assert (await outcome(bus, "c5")).ok and (await outcome(bus, "toy-a1-remind")).ok
            assert not (await outcome(bus, "lost")).ok
        found = payloads(await store.load(toy_id("a1")))
        assert [one for one in found if one != "fired"] == [3, 4, 5] and found.count("fired") == 1
