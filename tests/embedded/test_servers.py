"""Both servers under one node: none outlives it, however it ends, and the next node goes on with the data."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from l02.bus.embedded import DataDirectory, DataDirectoryError, EmbeddedServers, ServerError
from tests.embedded.support import alive, connected, node, session, until_gone


async def test_starts_what_is_wanted(tmp_path: Path) -> None:
    with DataDirectory(tmp_path) as directory:
        async with EmbeddedServers(directory, postgres=False) as servers:
            async with connected(servers.nats_url) as client:
                await client.flush()
            with pytest.raises(RuntimeError, match="no PostgreSQL of its own"):
                assert servers.postgres_url
            assert servers.nats is not None
            pid = servers.nats.pid
        assert not alive(pid)
        assert not (tmp_path / "postgres").exists()


async def test_when_one_fails_the_other_is_stopped(tmp_path: Path) -> None:
    with DataDirectory(tmp_path) as directory:
        (tmp_path / "postgres").write_text("a file in its place")
        servers = EmbeddedServers(directory)
        with pytest.raises(ServerError, match="PostgreSQL cannot be started"):
            async with servers:
                pytest.fail("unreachable")
        assert servers.nats is not None
        with pytest.raises(RuntimeError, match="not running"):
            assert servers.nats.pid
        assert not (tmp_path / "nats" / "server.pid").exists()


async def test_waiting_for_a_failure_can_be_cancelled(tmp_path: Path) -> None:
    with DataDirectory(tmp_path) as directory:
        async with EmbeddedServers(directory, postgres=False) as servers:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(servers.wait_failed(), 0.05)
            async with connected(servers.nats_url) as client:
                await client.flush()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the next node stops them")
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_killed_node_leaves_no_server_behind(tmp_path: Path, loop: str) -> None:
    async with node(tmp_path, loop) as (process, facts):
        assert DataDirectory.read_runtime_file(tmp_path) == facts
        async with session(facts["postgres_url"]) as connection:
            await connection.execute("CREATE TABLE kept AS SELECT 1 AS value")
        process.kill()
        await process.wait()
    for server in ("nats_pid", "postgres_pid"):
        await until_gone(facts[server])

    async with node(tmp_path, loop) as (_, again):
        assert (again["nats_url"], again["postgres_url"]) == (facts["nats_url"], facts["postgres_url"])
        async with session(again["postgres_url"]) as connection:
            assert await connection.fetchval("SELECT value FROM kept") == 1


async def test_node_started_in_the_moment_its_predecessor_is_killed(tmp_path: Path) -> None:
    urls = set()
    for _ in range(5):
        async with node(tmp_path) as (process, facts):
            urls.add((facts["nats_url"], facts["postgres_url"]))
            for pid in (facts["postgres_pid"], facts["pid"]):
                os.kill(pid, signal.SIGKILL)
            await process.wait()
    assert len(urls) == 1


async def test_directory_of_a_running_node_is_refused(tmp_path: Path) -> None:
    async with node(tmp_path) as (_, facts):
        with pytest.raises(DataDirectoryError, match=f"in use by the node with pid {facts['pid']}"):
            DataDirectory(tmp_path).acquire()
