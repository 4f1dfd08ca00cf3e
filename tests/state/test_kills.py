"""Whatever is killed in the middle of a save: what was acknowledged is there whole, and the rest can be swept."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from l02.bus.connection import bus as connection
from l02.bus.embedded import EmbeddedNats, EmbeddedPostgres
from l02.bus.objects import bucket as object_bucket
from l02.domain.errors import ErrorCode, Failure
from l02.handlers.state.checkpoint_store import CheckpointStore, Saved
from tests.conftest import started_before
from tests.state.conftest import Servers
from tests.state.contents import conversation

ROOT = Path(__file__).parents[2]
BACK_SECONDS = 60


@asynccontextmanager
async def saver(servers: Servers, name: str, run: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.state.saver_to_kill", name, servers.postgres, servers.nats, run),
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def said(process: asyncio.subprocess.Process) -> tuple[int, Saved] | None:
    """What the saver says next; None of a save that failed."""
    assert process.stdout is not None
    line = await asyncio.wait_for(process.stdout.readline(), BACK_SECONDS)
    assert line, "the saver has ended by itself"
    number, _, saved = line.partition(b" ")
    if not saved:
        assert number.strip() == ErrorCode.CHECKPOINT_FAILED.value.encode()
        return None
    return int(number), msgspec.json.decode(saved, type=Saved)


async def whole(store: CheckpointStore, kept: list[tuple[int, Saved]]) -> None:
    for number, saved in kept:
        assert (await store.load(saved.storage_location, saved.sha256))["number"] == b"%d" % number


async def test_the_node_is_killed(servers: Servers, store: CheckpointStore, name: str) -> None:
    chance = random.Random(3)
    kept: list[tuple[int, Saved]] = []
    for run in range(4):
        async with saver(servers, name, str(run)) as process:
            for _ in range(chance.randint(1, 4)):
                saved = await said(process)
                assert saved is not None
                kept.append(saved)
            # While it is at work on the next one.
            await asyncio.sleep(chance.uniform(0, 0.15))
            process.kill()
    await whole(store, kept)
    # One may have been stored whole, and nobody was told.
    assert {saved.storage_location for _, saved in kept} <= set(await store.locations("a1"))
    for location in await store.locations("a1"):
        await store.delete(location)
    await store.sweep(timedelta(0))
    assert await servers.pieces(name) == []


Killable = Callable[[], AbstractAsyncContextManager[tuple[Servers, EmbeddedPostgres | EmbeddedNats]]]


@pytest.fixture
def server_to_kill(name: str, initialized_postgres: Path, tmp_path: Path) -> Killable:
    """Start the server that the store is on; there is no other."""

    @asynccontextmanager
    async def start() -> AsyncIterator[tuple[Servers, EmbeddedPostgres | EmbeddedNats]]:
        server: EmbeddedPostgres | EmbeddedNats
        if name == "postgres":
            server = EmbeddedPostgres(started_before(tmp_path / "postgres", initialized_postgres))
        else:
            server = EmbeddedNats(tmp_path / "nats")
        url = await server.start()
        try:
            yield Servers(url, url), server
        finally:
            await server.stop()

    return start


async def test_the_server_is_killed(server_to_kill: Killable, name: str) -> None:
    chance = random.Random(5)
    kept: list[tuple[int, Saved]] = []
    async with server_to_kill() as (servers, server):
        async with saver(servers, name, "0") as process:
            for _ in range(4):
                kept += await next_saved(process)
                await asyncio.sleep(chance.uniform(0, 0.1))
                killed = server.pid
                os.kill(killed, signal.SIGKILL)
                await started_again(server, killed)
            kept += await next_saved(process)
            kept += await next_saved(process)
        async with servers.opened(name) as store:
            await whole(store, kept)
            await store.sweep(timedelta(0))
            await whole(store, kept)


async def next_saved(process: asyncio.subprocess.Process) -> list[tuple[int, Saved]]:
    while (saved := await said(process)) is None:
        continue
    return [saved]


async def started_again(server: EmbeddedPostgres | EmbeddedNats, killed: int) -> None:
    async with asyncio.timeout(BACK_SECONDS):
        while True:
            try:
                if server.pid != killed:
                    return
            except RuntimeError:
                pass  # it is down
            await asyncio.sleep(0.01)


async def test_a_server_that_is_away_is_said_and_is_used_when_it_is_back(
    server_to_kill: Killable, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "_JETSTREAM_SECONDS", 0.5)
    monkeypatch.setattr(object_bucket, "_TIMEOUT_SECONDS", 0.5)
    parts = {"conversation": conversation(2_000_000)}
    async with server_to_kill() as (servers, server), servers.opened(name) as store:
        saved = await store.save("a1", "c1", parts)
        await server.stop()
        for failing, code in (
            (store.save("a1", "c2", parts), ErrorCode.CHECKPOINT_FAILED),
            (store.load(saved.storage_location, saved.sha256), ErrorCode.RESTORE_FAILED),
            (store.delete(saved.storage_location), ErrorCode.CHECKPOINT_FAILED),
            (store.locations("a1"), ErrorCode.RESTORE_FAILED),
            (store.sweep(), ErrorCode.CHECKPOINT_FAILED),
        ):
            with pytest.raises(Failure) as failure:
                await failing
            assert failure.value.code is code
        await server.start()
        async with asyncio.timeout(BACK_SECONDS):
            while True:
                try:
                    assert await store.load(saved.storage_location, saved.sha256) == parts
                    break
                except Failure as away:
                    assert away.code is ErrorCode.RESTORE_FAILED
                    await asyncio.sleep(0.05)
