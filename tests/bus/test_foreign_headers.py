"""Whatever headers and requests a client sends to the stream of commands, it takes nobody else's away."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from nats.js.errors import APIError

from l02.bus.connection.bus import Bus
from l02.bus.connection.leader import standing_of
from l02.bus.connection.streams import COMMANDS_STREAM, TIMERS_STREAM
from l02.bus.log.event_store import EventStore
from l02.bus.log.repository import Repository
from l02.bus.wire.subjects import AggregateId
from l02.domain.aggregates import AGENT
from l02.domain.kernel.aggregate import Aggregate
from tests.bus.toy import TOY, State, outcome, processing, send, send_raw

NOTE = "l02.cmd.toy.a2.note"
REFUSED = [
    {"Nats-Rollup": "all"},
    {"Nats-Rollup": "sub"},
    {"Nats-TTL": "1s"},
    {"Nats-Schedule": "@at 2020-01-01T00:00:00Z", "Nats-Schedule-Target": "l02.cmd.toy.a1.clear"},
    {"Nats-Schedule": "@every 1s", "Nats-Schedule-Target": "l02.due.toy.a1.remind", "Nats-TTL": "never"},
    {"Nats-Scheduler": "l02.cmd.toy.a1.note", "Nats-Schedule-Next": "purge"},
    {"Nats-Batch-Id": "b", "Nats-Batch-Sequence": "1"},
]


@pytest.mark.parametrize("headers", REFUSED, ids=str)
async def test_it_is_refused_and_the_others_stay(bus: Bus, headers: dict[str, str]) -> None:
    for number in range(5):
        await send(bus, "a1", f"c{number}", number)
    with pytest.raises(APIError):
        await send_raw(bus, NOTE, b'{"name":"add"}', headers)
    for request in ({}, {"filter": "l02.cmd.toy.a1.>"}):
        assert (await bus.api(f"STREAM.PURGE.{COMMANDS_STREAM}", request))["error"]
    assert (await bus.api(f"STREAM.MSG.DELETE.{COMMANDS_STREAM}", {"seq": 1}))["error"]
    assert (await standing_of(bus, COMMANDS_STREAM, "l02.cmd.>")).messages == 5
    assert (await standing_of(bus, TIMERS_STREAM, ">")).messages == 0


async def test_batches_left_open_hold_up_no_command(bus: Bus, repository: Repository[State]) -> None:
    for number in range(50):
        await bus.client.publish(NOTE, b"{}", headers={"Nats-Batch-Id": f"b{number}", "Nats-Batch-Sequence": "1"})
    async with processing(bus, repository):
        await asyncio.gather(*(send(bus, "a1", f"c{number}", number) for number in range(100)))
        for number in range(100):
            assert (await outcome(bus, f"c{number}")).ok


@pytest.mark.parametrize(
    "aggregate, due, body, other",
    [
        (TOY, "remind", b'{"payload":"k"}', "note"),
        (AGENT, "restart-due", b'{"attempt":1}', "signal"),
        (AGENT, "expire-checkpoints", b'{"checkpoint_ids":["k"]}', "signal"),
    ],
)
async def test_what_only_timers_send_is_refused_from_others(
    bus: Bus, store: EventStore, aggregate: Aggregate[Any], due: str, body: bytes, other: str
) -> None:
    address = f"{aggregate.name}.a1"
    async with processing(bus, Repository(aggregate, store, "n1")):
        await send_raw(bus, f"l02.cmd.{address}.{due}", body, {"Nats-Msg-Id": "c1"})
        said = await outcome(bus, "c1")
        assert said.error and said.error.code == "E2110" and "timers only" in said.error.message
        await send_raw(bus, f"l02.due.{address}.{other}", b'{"name":"add","payload":1}', {"Nats-Msg-Id": "c2"})
        assert not (await outcome(bus, "c2")).ok
    assert await store.load(AggregateId(aggregate.name, "a1")) == []
