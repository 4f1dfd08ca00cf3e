"""When tool servers start, are shared, come back and end."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import psutil
import pytest

from l02.domain.specification import ToolServer
from l02.handlers.sandbox import log
from l02.handlers.tool_servers import ToolFailed, ToolNotRun, ToolServers, connection
from l02.handlers.tool_servers import servers as module
from l02.handlers.tool_servers.launch import specification_key
from tests.tools.conftest import ROGUE, WORKSHOP, landlock_only, running, specification, until

pytestmark = landlock_only


async def pid(servers: ToolServers, server: ToolServer = ROGUE) -> int:
    """The process of a server. It is the rogue, which starts in a tenth of the time of one with the package `mcp`."""
    text = await servers.call(server, "pid", {}, timeout=60)
    assert isinstance(text, str)
    return int(text)


async def echo(servers: ToolServers, server: ToolServer = ROGUE, timeout: float = 60) -> object:
    return await servers.call(server, "echo", {"text": "x"}, timeout=timeout)


async def test_equal_specifications_share_a_server(servers: ToolServers) -> None:
    server = msgspec.structs.replace(ROGUE, environment={"COLOUR": "green"})
    equal = msgspec.json.decode(msgspec.json.encode(server), type=ToolServer)
    other = msgspec.structs.replace(ROGUE, environment={"COLOUR": "red"})
    pids = await asyncio.gather(*(pid(servers, one) for one in (server, equal, server, other)))
    assert pids[0] == pids[1] == pids[2] != pids[3]


async def test_a_server_that_died_comes_back(servers: ToolServers) -> None:
    first = await pid(servers)
    others = await pid(servers, specification("rogue", "", "another"))
    with pytest.raises(ToolFailed, match="exited with code 7 before it answered"):
        await servers.call(ROGUE, "leave", {"code": 7}, timeout=60)
    assert await pid(servers) != first
    assert await pid(servers, specification("rogue", "", "another")) == others


async def test_a_server_that_was_killed_while_idle_comes_back(servers: ToolServers) -> None:
    first = await pid(servers)
    psutil.Process(first).kill()
    while True:
        try:
            second = await pid(servers)
        except (ToolNotRun, ToolFailed):
            continue  # its death was not noticed yet
        break
    assert second != first


async def test_calls_under_way_end_when_the_server_dies(servers: ToolServers) -> None:
    arguments = {"seconds": 600, "name": "n"}
    await servers.tools(WORKSHOP)
    calls = [asyncio.create_task(servers.call(WORKSHOP, "slow", arguments, timeout=60)) for _ in range(20)]
    state = await servers.call(WORKSHOP, "state", {}, timeout=60)
    psutil.Process(state["pid"]).terminate()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(result, ToolFailed) and "SIGTERM" in str(result) for result in results), results


async def test_restarts_are_spaced(servers: ToolServers, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = specification("rogue", "exit")
    began = time.monotonic()
    for _ in range(3):
        with pytest.raises(ToolNotRun, match="exited with code 3"):
            await echo(servers, broken)
    assert time.monotonic() - began >= module.FIRST_DELAY_SECONDS * 3, "0.5 s and 1 s lie between three starts"
    with pytest.raises(ToolNotRun, match=r"was not ready within 0\.1 s"):
        await echo(servers, broken, timeout=0.1)


async def test_concurrent_calls_share_one_failing_start(servers: ToolServers) -> None:
    broken = specification("rogue", "exit")
    results = await asyncio.gather(*(echo(servers, broken) for _ in range(50)), return_exceptions=True)
    assert all(isinstance(result, ToolNotRun) for result in results)
    assert servers._shared[specification_key(broken)]._failures == 1


async def test_an_answer_ends_the_spacing(servers: ToolServers) -> None:
    for _ in range(4):
        assert await echo(servers) == "x"
        with pytest.raises(ToolFailed, match="SIGTERM"):
            await servers.call(ROGUE, "leave", {}, timeout=60)
    assert servers._shared[specification_key(ROGUE)].delay <= module.FIRST_DELAY_SECONDS


async def test_what_runs_with_an_agent_is_there_before_it_is_called(tmp_path: Path) -> None:
    server = specification("rogue", "", "eager-one")
    eager = msgspec.structs.replace(server, start="eager")
    broken = specification("rogue", "exit", "broken-one", start="eager")
    async with ToolServers(tmp_path / "scratch", tmp_path / "logs", idle_seconds=0.1) as servers:
        with servers.running([eager, broken]):
            await until(lambda: servers._shared[specification_key(eager)].instance)
            instance = servers._shared[specification_key(eager)].instance
            assert instance is not None
            assert isinstance(await instance.ready, connection.Connection)
            await until(lambda: servers.is_failing(broken))
            assert await echo(servers, server) == "x", "when it starts makes no other server of it"
            assert servers._shared[specification_key(server)].instance is instance
        await until(lambda: not running("eager-one"))
        assert not servers._shared


async def test_an_idle_server_is_stopped_and_comes_back(tmp_path: Path) -> None:
    held, idle = specification("rogue", "", "held-one"), specification("rogue", "", "idle-one")
    async with ToolServers(tmp_path / "scratch", tmp_path / "logs", idle_seconds=0.3) as servers:
        servers.acquire(held)
        first = await pid(servers, held)
        assert await echo(servers, idle) == "x"
        await until(lambda: not running("idle-one"))
        assert psutil.pid_exists(first)
        servers.release(held)
        await until(lambda: not running("held-one"))
        assert not servers._shared
        await until(lambda: not list((tmp_path / "scratch").iterdir()))
        assert await pid(servers, held) != first
        with pytest.raises(KeyError):
            servers.release(held)


async def test_all_end_with_the_node(tmp_path: Path) -> None:
    busy, stubborn, silent = (
        specification("workshop", "ending-1"),
        specification("rogue", "stubborn", "ending-2"),
        specification("rogue", "silent", "ending-3"),
    )
    async with ToolServers(tmp_path / "scratch", tmp_path / "logs") as servers:
        await asyncio.gather(servers.tools(busy), servers.tools(stubborn))
        assert running("ending-1")
        assert running("ending-2")
        under_way = asyncio.create_task(servers.call(busy, "slow", {"seconds": 600, "name": "n"}, timeout=60))
        starting = asyncio.create_task(servers.tools(silent))
        await until(lambda: running("ending-3"))
    assert not running("ending-")
    assert not list((tmp_path / "scratch").iterdir())
    with pytest.raises(ToolNotRun, match="was stopped"):
        await starting
    with pytest.raises(ToolFailed, match="was stopped before it answered"):
        await under_way
    with pytest.raises(ToolNotRun, match="the node is stopping"):
        await servers.tools(busy)


async def test_a_cancelled_node_leaves_nothing(tmp_path: Path) -> None:
    ready = asyncio.Event()

    async def node() -> None:
        async with ToolServers(tmp_path / "scratch", tmp_path / "logs") as servers:
            await servers.tools(specification("rogue", "stubborn", "cancelled-one"))
            ready.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(node())
    await ready.wait()
    task.cancel()
    await asyncio.wait([task], timeout=0.5)
    assert running("cancelled-one"), "it is stubborn"
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: not running("cancelled-one"))


async def test_a_killed_node_leaves_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.tools.node_to_kill", str(tmp_path)]
    with subprocess.Popen(  # noqa: ASYNC220 - a fork takes milliseconds
        command, stdout=subprocess.PIPE, text=True
    ) as node:
        assert node.stdout is not None
        assert await asyncio.to_thread(node.stdout.readline) == "ready\n"
        below = psutil.Process(node.pid).children(recursive=True)
        assert len(below) >= 6, "a guard, a supervisor and a program for each"
        node.send_signal(signal.SIGKILL)
        node.wait()
    await until(lambda: not any(process.is_running() for process in below))


async def test_scratch_of_a_killed_node_is_removed(tmp_path: Path) -> None:
    left = tmp_path / "scratch" / "git-123"
    left.mkdir(parents=True)
    (left / "file").write_text("left over")
    async with ToolServers(tmp_path / "scratch", tmp_path / "logs"):
        assert not left.exists()


async def test_a_large_log_gives_way(tmp_path: Path, servers: ToolServers) -> None:
    await servers.tools(ROGUE)
    (path,) = (tmp_path / "logs").iterdir()
    with path.open("r+") as file:
        file.truncate(100 << 20)
    with pytest.raises(ToolFailed):
        await servers.call(ROGUE, "leave", {}, timeout=60)
    await servers.tools(ROGUE)
    assert path.stat().st_size < 1000
    assert path.with_suffix(".log.1").stat().st_size >= 100 << 20


async def test_a_log_is_bounded_while_its_server_runs(
    tmp_path: Path, servers: ToolServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "LOG_BYTES", 1 << 20)
    monkeypatch.setattr(log, "_PAUSE_SECONDS", 0.01)
    assert await servers.call(WORKSHOP, "rant", {"megabytes": 20}, timeout=60) is None
    files = list((tmp_path / "logs").iterdir())
    assert {file.suffix for file in files} == {".log", ".1"}
    assert all(file.stat().st_size <= (1 << 20) + log.CHUNK_BYTES for file in files)
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in files)


async def test_a_process_of_no_use_is_replaced(servers: ToolServers) -> None:
    server = specification("rogue", "", "replaced-one")
    await servers.tools(server)
    deaf = asyncio.create_task(servers.call(server, "deaf", {}, timeout=60))
    await asyncio.sleep(0)
    servers.replace(server)
    with pytest.raises((ToolFailed, ToolNotRun), match="was stopped"):
        await deaf
    assert await echo(servers, server) == "x"


async def test_who_waits_for_a_process_that_is_stopped_before_it_begins_is_told(servers: ToolServers) -> None:
    waiting = asyncio.create_task(servers.tools(ROGUE))
    await asyncio.sleep(0)  # the task of the process exists now, and has not taken its first step
    servers.replace(ROGUE)
    with pytest.raises(ToolNotRun, match="was stopped"):
        await waiting


DEEP = """
import os, sys
for _ in range(3000):
    os.mkdir("d")
    os.chdir("d")
sys.exit(3)
"""


async def test_a_scratch_directory_may_be_deep(deep_path: Path) -> None:
    async with ToolServers(deep_path / "scratch", deep_path / "logs") as servers:
        with pytest.raises(ToolNotRun, match="exited with code 3"):
            await servers.tools(ToolServer(command=(sys.executable, "-c", DEEP)))
        await until(lambda: not list((deep_path / "scratch").iterdir()))
        assert await echo(servers) == "x"


async def test_a_deep_scratch_directory_that_a_killed_node_left_is_removed_at_the_start(deep_path: Path) -> None:
    left = deep_path / "scratch" / "left"
    left.mkdir(parents=True)
    making = await asyncio.create_subprocess_exec(sys.executable, "-c", DEEP, cwd=left)
    assert await making.wait() == 3
    async with ToolServers(deep_path / "scratch", deep_path / "logs") as servers:
        assert list((deep_path / "scratch").iterdir()) == []
        assert await echo(servers) == "x"
