"""Whatever headers and requests a client sends to the stream of commands, it takes nobody else's away."""

from __future__ import annotations

import asyncio

import pytest
from nats.js.errors import APIError

from l02.bus.connection.bus import Bus
from l02.bus.connection.leader import standing_of
from l02.bus.connection.streams import COMMANDS_STREAM, TIMERS_STREAM
from l02.bus.log.repository import Repository
from tests.bus.toy import State, agent, outcome, payloads, processing, send, send_raw

SIGNAL = "l02.cmd.agent.a2.signal"
REFUSED = [
    {"Nats-Rollup": "all"},
    {"Nats-Rollup": "sub"},
    {"Nats-TTL": "1s"},
    {"Nats-Schedule": "@at 2020-01-01T00:00:00Z", "Nats-Schedule-Target": "l02.cmd.agent.a1.terminate"},
    {"Nats-Schedule": "@every 1s", "Nats-Schedule-Target": "l02.due.agent.a1.restart-due", "Nats-TTL": "never"},
    {"Nats-Scheduler": "l02.cmd.agent.a1.signal", "Nats-Schedule-Next": "purge"},
    {"Nats-Batch-Id": "b", "Nats-Batch-Sequence": "1"},
]


@pytest.mark.parametrize("headers", REFUSED, ids=str)
async def test_it_is_refused_and_the_others_stay(bus: Bus, headers: dict[str, str]) -> None:
    for number in range(5):
        await send(bus, "a1", f"c{number}", number)
    with pytest.raises(APIError):
        await send_raw(bus, SIGNAL, b'{"name":"add"}', headers)
    for request in ({}, {"filter": "l02.cmd.agent.a1.>"}):
        assert (await bus.api(f"STREAM.PURGE.{COMMANDS_STREAM}", request))["error"]
    assert (await bus.api(f"STREAM.MSG.DELETE.{COMMANDS_STREAM}", {"seq": 1}))["error"]
    assert (await standing_of(bus, COMMANDS_STREAM, "l02.cmd.>")).messages == 5
    assert (await standing_of(bus, TIMERS_STREAM, ">")).messages == 0


async def test_batches_left_open_hold_up_no_command(bus: Bus, repository: Repository[State]) -> None:
    for number in range(50):
        await bus.client.publish(SIGNAL, b"{}", headers={"Nats-Batch-Id": f"b{number}", "Nats-Batch-Sequence": "1"})
    async with processing(bus, repository):
        await asyncio.gather(*(send(bus, "a1", f"c{number}", number) for number in range(100)))
        for number in range(100):
            assert (await outcome(bus, f"c{number}")).ok


@pytest.mark.parametrize(
    "verb, body", [("restart-due", b'{"attempt":1}'), ("expire-checkpoints", b'{"checkpoint_ids":["k"]}')]
)
async def test_what_only_timers_send_is_refused_from_others(
    bus: Bus, repository: Repository[State], verb: str, body: bytes
) -> None:
    async with processing(bus, repository):
        await send_raw(bus, f"l02.cmd.agent.a1.{verb}", body, {"Nats-Msg-Id": "c1"})
        said = await outcome(bus, "c1")
        assert said.error and said.error.code == "E2110" and "timers only" in said.error.message
        await send_raw(bus, "l02.due.agent.a1.signal", b'{"name":"add","payload":1}', {"Nats-Msg-Id": "c2"})
        assert not (await outcome(bus, "c2")).ok
    assert payloads(await repository.store.load(agent("a1"))) == []
