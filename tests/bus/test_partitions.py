"""Several nodes share the commands: each aggregate's in order and once, whoever comes, goes, dies or comes back."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l02.bus.commands.partitions import (
    _STREAMS,
    COMMAND_PARTITIONS,
    OUTCOMES_PARTITION,
    Partition,
    _owner,
    _Record,
    _Stored,
    command_partition,
)
from l02.bus.connection.bus import Bus, connect
from l02.bus.connection.streams import COMMANDS_STREAM
from l02.bus.embedded import EmbeddedNats
from l02.bus.log.event_store import EventStore
from l02.bus.log.reader import last_sequence
from l02.bus.log.repository import Repository
from l02.bus.wire.subjects import AggregateId, lease_subject, partition_subject
from tests.bus.toy import TABLE, TOY, State, outcomes, partitions_of, payloads, processing, send, toy_id, until

ROOT = Path(__file__).parents[2]
LANES, LENGTH = 24, 60


@asynccontextmanager
async def process(url: str, node_id: str) -> AsyncIterator[Process]:
    """A node's command side in a process of its own."""
    started = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.bus.process_to_kill", url, node_id),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        assert started.stdout is not None
        await started.stdout.readline()
        yield started
    finally:
        if started.returncode is None:
            started.kill()
        await started.wait()


async def send_all(bus: Bus, first: int, count: int) -> None:
    for number in range(first, first + count):
        await asyncio.gather(*(send(bus, f"a{lane}", f"c{lane}-{number}", number) for lane in range(LANES)))


async def assert_all_once_and_in_order(bus: Bus, store: EventStore, length: int) -> None:
    async def are_answered() -> bool:
        return all([await outcomes(bus, f"c{lane}-{length - 1}") for lane in range(LANES)])

    await until(are_answered)
    for lane in range(LANES):
        assert payloads(await store.load(toy_id(f"a{lane}"))) == list(range(length))
        for number in range(length):
            said = await outcomes(bus, f"c{lane}-{number}")
            assert [one.version for one in said] == [number + 1]


async def test_nodes_come_and_go_while_commands_are_handled(
    fresh_nats: EmbeddedNats, bus: Bus, repository: Repository[State], store: EventStore
) -> None:
    async with processing(bus, repository) as first:
        sending = asyncio.create_task(send_all(bus, 0, LENGTH // 2))
        async with connect(fresh_nats.url, name="second", aggregates=TABLE) as other:
            second = Repository(TOY, EventStore(other), "n2")
            async with processing(other, second, "n2") as joined:
                await until(lambda: len(joined._partitions._held) > 0)
                await until(lambda: not first._partitions._held.keys() & joined._partitions._held.keys())
                await sending
                await send_all(bus, LENGTH // 2, LENGTH // 2)
                await assert_all_once_and_in_order(bus, store, LENGTH)
                assert second._loaded, "the second had something to do"


@pytest.mark.parametrize("died", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
async def test_what_an_owner_had_in_hand_goes_on_elsewhere_within_seconds(
    fresh_nats: EmbeddedNats, bus: Bus, repository: Repository[State], store: EventStore, died: signal.Signals
) -> None:
    """A stopped process that goes on believes for a moment that all is still its own: nothing may come of that."""
    async with process(fresh_nats.url, "n2") as other, processing(bus, repository) as survivor:
        await until(lambda: survivor._partitions._held)
        await send_all(bus, 0, LENGTH // 2)
        sending = asyncio.create_task(send_all(bus, LENGTH // 2, LENGTH // 2))
        other.send_signal(died)
        began = asyncio.get_running_loop().time()
        await until(lambda: len(survivor._partitions._held) == len(_STREAMS))
        assert asyncio.get_running_loop().time() - began < 6
        if died is signal.SIGSTOP:
            os.kill(other.pid, signal.SIGCONT)
        await sending
        await assert_all_once_and_in_order(bus, store, LENGTH)


async def test_a_node_that_is_alone_takes_all_at_once(bus: Bus) -> None:
    async with partitions_of(bus) as partitions:
        assert all(partitions.has(name) for name in COMMAND_PARTITIONS)


async def test_partitions_without_commands_do_not_fall_behind(
    bus: Bus, repository: Repository[State], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the next start would read all that was ever sent to others."""
    monkeypatch.setattr("l02.bus.commands.partitions._STORE_BEHIND", 100)
    async with processing(bus, repository) as processor:
        for number in range(200):
            await send(bus, "a1", f"c{number}", number)
        newest = await last_sequence(bus, COMMANDS_STREAM)
        held = processor._partitions._held
        await until(lambda: all(held[name]._stored.record.position > newest - 101 for name in COMMAND_PARTITIONS))


numbers = st.lists(st.integers(1, 50), unique=True, min_size=1).map(sorted)


@given(numbers, st.data())
def test_the_position_is_behind_all_that_is_done_and_before_all_that_is_not(
    sequences: list[int], data: st.DataObject
) -> None:
    partition = Partition("p", _Stored(_Record(), 0), 0)
    assert all(partition.take(sequence) for sequence in sequences)
    assert not any(partition.take(sequence) for sequence in sequences)
    done = data.draw(st.sets(st.sampled_from(sequences)))
    for sequence in done:
        partition.done(sequence)
    open_ones = [sequence for sequence in sequences if sequence not in done]
    assert partition.position == (open_ones[0] - 1 if open_ones else sequences[-1])


@given(st.sets(st.text("abc123", min_size=1), min_size=2, max_size=6))
def test_who_leaves_changes_nothing_for_the_others(live: set[str]) -> None:
    gone = min(live)
    for name in COMMAND_PARTITIONS:
        before, after = _owner(name, live), _owner(name, live - {gone})
        assert after == before or before == gone


def test_an_aggregate_stays_in_its_partition() -> None:
    """Were this to change, commands of one aggregate could be handled by two nodes during an upgrade."""
    assert [command_partition(AggregateId("agent", f"a{number}")) for number in range(4)] == [
        "commands-00",
        "commands-12",
        "commands-14",
        "commands-04",
    ]


@pytest.mark.parametrize("put", [b"", b"\xff", b"[]", b'{"owner": 7}', b"[" * 5000])
async def test_records_that_somebody_else_has_overwritten(bus: Bus, put: bytes) -> None:
    """Neither a partition nor a lease is lost with them; what was done before may be done again."""
    for name in (*COMMAND_PARTITIONS, OUTCOMES_PARTITION):
        await bus.publish(partition_subject(name), put)
    await bus.publish(lease_subject("n1"), put)
    async with partitions_of(bus) as partitions:
        assert all(partitions.has(name) for name in (*COMMAND_PARTITIONS, OUTCOMES_PARTITION))
        await bus.publish(lease_subject("n1"), put)
        await partitions.settle()
        assert partitions._leases.is_held
