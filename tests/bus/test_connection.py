"""JetStream is asked again while it cannot answer; a client may be given several servers; and a connection ends."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from nats.errors import Error as NatsError

from l02.bus.connection.bus import Bus, BusUnreachable, connect
from l02.bus.connection.streams import EVENTS_STREAM
from l02.bus.embedded import EmbeddedNats
from tests.bus.faults import kill_for_good
from tests.bus.toy import TABLE, until


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
    async with connect(f"nats://u:p@127.0.0.1:1,{fresh_nats.url}", name="test", aggregates=TABLE) as bus:
        assert bus.client.is_connected


async def test_no_password_is_in_what_is_said(fresh_nats: EmbeddedNats) -> None:
    with pytest.raises(BusUnreachable) as unreachable:
        async with connect(
            "nats://u:secret@127.0.0.1:1,nats://u:secret@127.0.0.1:2", name="test", aggregates=TABLE, timeout=0.5
        ):
            pass
    assert "nats://127.0.0.1:1,nats://127.0.0.1:2;" in str(unreachable.value)
    assert "secret" not in str(unreachable.value)


@pytest.mark.parametrize("rounds", range(5))
async def test_closing_while_it_reconnects_cancels_nobody(fresh_nats: EmbeddedNats, rounds: int) -> None:
    async with connect(fresh_nats.url, name="test", aggregates=TABLE) as bus:
        await bus.client.flush()
        await bus.client.force_reconnect()
        for _ in range(rounds):
            await asyncio.sleep(0)
    assert bus.client.is_closed


async def publish_twice(bus: Bus) -> None:
    for _ in range(2):
        await bus.client.publish("nobody", bytes(7_000_000))


@asynccontextmanager
async def hanging(server: EmbeddedNats, bus: Bus) -> AsyncIterator[None]:
    """The server hangs; the connection to it holds more than the system takes for it, and the client has still more."""
    os.kill(server.pid, signal.SIGSTOP)
    try:
        await publish_twice(bus)
        await until(lambda: bus.client._transport._io_writer.transport.get_write_buffer_size())  # type: ignore
        await publish_twice(bus)
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


async def test_from_a_server_that_hangs_it_goes_to_another(
    fresh_nats: EmbeddedNats, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("l02.bus.connection.client._CLOSE_SECONDS", 0.2)
    servers = [fresh_nats, EmbeddedNats(tmp_path / "other")]
    await servers[1].start()
    async with connect(f"{fresh_nats.url},{servers[1].url}", name="test", aggregates=TABLE) as bus:

        def is_at(server: EmbeddedNats) -> bool:
            address = bus.client.connected_url
            return address is not None and address.port == urlsplit(server.url).port

        first, second = sorted(servers, key=is_at, reverse=True)
        async with hanging(first, bus):
            await bus.client.force_reconnect()
            await until(lambda: is_at(second))
    await servers[1].stop()


async def test_a_server_that_hangs_does_not_hold_up_its_end(
    fresh_nats: EmbeddedNats, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("l02.bus.connection.client._CLOSE_SECONDS", 0.2)
    connection = connect(fresh_nats.url, name="test", aggregates=TABLE)
    bus = await connection.__aenter__()
    async with hanging(fresh_nats, bus):
        closing = asyncio.create_task(connection.__aexit__(None, None, None))
        await asyncio.wait({closing}, timeout=5)
        assert closing.done()
    await closing
