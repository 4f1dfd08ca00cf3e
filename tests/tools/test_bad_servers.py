"""Tool servers that break the rules: each gets its own clear error, and harms nobody else."""

from __future__ import annotations

import asyncio
import shutil
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from l02.domain.specification import RuntimeClass, ToolServer
from l02.handlers.tool_servers import ToolFailed, ToolNotRun, ToolServers, connection
from tests.tools.conftest import ROGUE, landlock_only, running, specification, until

pytestmark = landlock_only


@asynccontextmanager
async def others_undisturbed(servers: ToolServers) -> AsyncIterator[None]:
    """Call another server all the while: each answer comes, and within two seconds."""
    other = specification("rogue", "a good one")

    async def call(number: int) -> float:
        began = time.monotonic()
        assert await servers.call(other, "echo", {"text": str(number)}, timeout=30) == str(number)
        return time.monotonic() - began

    await call(0)
    slowest = 0.0
    done = asyncio.Event()

    async def keep_calling() -> None:
        nonlocal slowest
        number = 1
        while not done.is_set():
            slowest = max(slowest, await call(number))
            number += 1

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(keep_calling())
        try:
            yield
        finally:
            done.set()
    assert slowest < 2.0


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        ("exit", "exited with code 3"),
        ("huge", "wrote a message of more than 8,388,608 bytes"),
        ("ancient", "failed in the MCP handshake: Unsupported protocol version"),
        ("endless", "failed in the MCP handshake: its list of tools has more than 100 pages"),
        ("silent", "did not answer the MCP handshake within 5 s"),
    ],
)
async def test_at_the_start(
    shared_servers: ToolServers, monkeypatch: pytest.MonkeyPatch, mode: str, message: str
) -> None:
    if mode == "silent":
        monkeypatch.setattr(connection, "START_SECONDS", 5.0)
    async with others_undisturbed(shared_servers):
        with pytest.raises(ToolNotRun, match=message):
            await shared_servers.call(specification("rogue", mode, "bad-one"), "echo", {}, timeout=60)
    await until(lambda: not running("bad-one"))


@pytest.mark.parametrize(
    ("tool", "message"),
    [
        ("huge", "wrote a message of more than 8,388,608 bytes before it answered"),
        ("wrong", "answered with what is no result of a tool"),
        ("error", "^out of order$"),
        ("leave", "was killed by SIGTERM before it answered"),
    ],
)
async def test_while_a_tool_runs(shared_servers: ToolServers, tool: str, message: str) -> None:
    before = psutil.Process().memory_info().rss
    async with others_undisturbed(shared_servers):
        with pytest.raises(ToolFailed, match=message):
            await shared_servers.call(ROGUE, tool, {}, timeout=60)
        assert psutil.Process().memory_info().rss - before < 40 << 20
        assert await shared_servers.call(ROGUE, "echo", {"text": "again"}, timeout=60) == "again"


async def test_notifications_and_requests_of_a_server(shared_servers: ToolServers) -> None:
    async with others_undisturbed(shared_servers):
        answers = await shared_servers.call(ROGUE, "chatter", {}, timeout=60)
    assert answers == '[["p1", false], ["s1", true]]', "a ping is answered, sampling refused"


async def test_a_server_that_does_not_read(servers: ToolServers) -> None:
    async def call(tool: str, arguments: dict[str, Any]) -> object:
        return await servers.call(ROGUE, tool, arguments, timeout=2)

    await servers.tools(ROGUE)
    text = "x" * 1_000_000
    before = psutil.Process().memory_info().rss
    results = await asyncio.gather(
        call("deaf", {}), *(call("echo", {"text": text}) for _ in range(100)), return_exceptions=True
    )
    assert isinstance(results[0], TimeoutError)
    kinds = {type(result) for result in results[1:]}
    assert kinds == {TimeoutError, ToolNotRun}, "most requests never went out"
    assert sum(isinstance(result, TimeoutError) for result in results) < 5
    assert psutil.Process().memory_info().rss - before < 50 << 20


@pytest.mark.parametrize(
    ("server", "message"),
    [
        (ToolServer(command=("no-such-program",)), "'no-such-program' is neither on PATH"),
        (ToolServer(command=("./server",)), "'./server' is a relative path"),
        (ToolServer(command=("/bin/cat", "\0")), "exited with code 1"),
        (ToolServer(command=("/bin/cat",), read=("/no/such/place",)), "names '/no/such/place', which does not exist"),
        (ToolServer(command=("/bin/cat",), environment={"A=B": "c"}), "environment variable 'A=B' cannot be set"),
        (ToolServer(command=("/bin/cat",), network=("no port",)), "exited with code"),
    ],
    ids=["missing", "relative", "NUL", "missing path", "variable", "network"],
)
async def test_specifications_that_cannot_be_met(shared_servers: ToolServers, server: ToolServer, message: str) -> None:
    with pytest.raises(ToolNotRun, match=message):
        await shared_servers.call(server, "echo", {}, timeout=60)


FETCHERS = {
    "npx": ("-y", "some-server"),
    "npm": ("exec", "some-server"),
    "pnpm": ("dlx", "some-server"),
    "bunx": ("some-server",),
    "uvx": ("some-server",),
    "uv": ("tool", "run", "some-server"),
    "pipx": ("run", "some-server"),
}
HINT = "has no `network`: install the package"


def launcher(path: Path, script: str) -> str:
    """A program of that name that does as the script says."""
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o700)
    return str(path)


@pytest.mark.parametrize("name", FETCHERS)
async def test_a_server_that_cannot_be_fetched_is_told_so(
    shared_servers: ToolServers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("l02.handlers.tool_servers.servers.FIRST_DELAY_SECONDS", 30.0)
    program = launcher(tmp_path / name, "env | sort >&2; exit 1")
    server = ToolServer(command=(program, *FETCHERS[name]), environment={"UV_OFFLINE": "0"})
    with pytest.raises(ToolNotRun, match=f"exited with code 1.*; {name} fetches what is not installed.*{HINT}") as told:
        await shared_servers.tools(server)
    with pytest.raises(ToolNotRun, match=f"{HINT}.*; it may be started again in"):
        await shared_servers.offered(server)
    log = Path(str(told.value).rpartition("it logs to ")[2]).read_text().splitlines()
    assert {"npm_config_offline=true", "UV_OFFLINE=0"} <= {*log}, (
        "it gives up at once; a specification has the last word"
    )


@pytest.mark.parametrize(
    ("name", "arguments", "more"),
    [
        ("npx", ("-y", "some-server"), {"network": ("registry.example:443",)}),
        ("npm", ("start",), {}),
        ("server", ("run",), {}),
    ],
)
async def test_others_that_do_not_start_are_not_told_to_have_a_network(
    shared_servers: ToolServers, tmp_path: Path, name: str, arguments: tuple[str, ...], more: dict[str, Any]
) -> None:
    server = ToolServer(command=(launcher(tmp_path / name, "exit 1"), *arguments), **more)
    with pytest.raises(ToolNotRun) as told:
        await shared_servers.tools(server)
    assert HINT not in str(told.value)


async def test_a_server_that_need_not_be_fetched_runs(shared_servers: ToolServers, tmp_path: Path) -> None:
    program = launcher(tmp_path / "npx", f'shift; exec {sys.executable} "$@"')
    rogue = ROGUE.command[1:]
    server = ToolServer(command=(program, "-y", *rogue), read=ROGUE.read)
    assert await shared_servers.call(server, "echo", {"text": "x"}, timeout=60) == "x"


async def test_a_server_without_walls_has_a_network(tmp_path: Path) -> None:
    program = launcher(tmp_path / "npx", "env >&2; exit 1")
    async with ToolServers(tmp_path / "scratch", tmp_path / "logs", RuntimeClass.PROCESS) as servers:
        with pytest.raises(ToolNotRun, match="exited with code 1") as told:
            await servers.tools(ToolServer(command=(program, "-y", "some-server")))
    assert HINT not in str(told.value)
    (log,) = (tmp_path / "logs").iterdir()
    assert "npm_config_offline" not in log.read_text()


@pytest.mark.skipif(shutil.which("npx") is None, reason="npx is not installed")
async def test_npx_itself_fails_fast(shared_servers: ToolServers) -> None:
    with pytest.raises(ToolNotRun, match=f"exited with code 1.*{HINT}"):
        await shared_servers.tools(ToolServer(command=("npx", "-y", "l02-no-such-server")))


async def test_nothing_is_left_of_a_server_that_could_not_be_started(tmp_path: Path) -> None:
    async with ToolServers(tmp_path / "scratch", tmp_path / "logs") as servers:
        with pytest.raises(ToolNotRun):
            await servers.tools(specification("rogue", "exit", "gone-one"))
        await until(lambda: not list((tmp_path / "scratch").iterdir()))
        assert not running("gone-one")
