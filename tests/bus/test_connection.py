"""JetStream is asked again while it cannot answer; and a client may be given several servers."""

from __future__ import annotations

import asyncio

import pytest
from nats.errors import Error as NatsError

from bus.connection import Bus, BusUnreachable, connect
from bus.embedded import EmbeddedNats
from bus.streams import EVENTS_STREAM
from tests.bus.faults import kill_for_good


async def test_it_is_asked_again_until_the_server_is_back(fresh_nats: EmbeddedNats, bus: Bus) -> None:
    await kill_for_good(fresh_nats)
    asked = [asyncio.create_task(bus.api(f"STREAM.INFO.{EVENTS_STREAM}", {})) for _ in range(3)]
    await asyncio.sleep(2.5)
    assert not any(task.done() for task in asked)
    await fresh_nats.start()
    for info in await asyncio.gather(*asked):
        assert info["config"]["name"] == EVENTS_STREAM


async def test_it_is_asked_for_so_long_and_no_longer(fresh_nats: EmbeddedNats, bus: Bus) -> None:
    await kill_for_good(fresh_nats)
    with pytest.raises((NatsError, TimeoutError)):
        async with asyncio.timeout(3):
            await bus.api(f"STREAM.INFO.{EVENTS_STREAM}", {}, within=0.5)


async def test_an_error_is_an_answer(bus: Bus) -> None:
    assert (await bus.api("STREAM.INFO.NONE", {}))["error"]["code"] == 404


async def test_a_client_goes_to_another_server_when_one_is_away(fresh_nats: EmbeddedNats) -> None:
    async with connect(f"nats://u:p@127.0.0.1:1,{fresh_nats.url}", name="test") as bus:
        assert bus.client.is_connected


async def test_no_password_is_in_what_is_said(fresh_nats: EmbeddedNats) -> None:
    with pytest.raises(BusUnreachable) as unreachable:
        async with connect("nats://u:secret@127.0.0.1:1,nats://u:secret@127.0.0.1:2", name="test", timeout=0.5):
            pass
    assert "nats://127.0.0.1:1,nats://127.0.0.1:2;" in str(unreachable.value)
    assert "secret" not in str(unreachable.value)
