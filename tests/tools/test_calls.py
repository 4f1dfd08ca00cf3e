"""Calling tools: what comes back, and many at once."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from l02.domain.specification import ToolServer
from l02.handlers.tool_servers import ToolFailed, ToolServers
from tests.tools.conftest import ROGUE, WORKSHOP, landlock_only

pytestmark = landlock_only


async def test_tools_are_described(shared_servers: ToolServers) -> None:
    tools = await shared_servers.tools(WORKSHOP)
    assert tools["echo"].description == "Answer with the same text."
    assert tools["echo"].schema["required"] == ["text"]
    assert tools["add"].schema["properties"]["a"]["type"] == "integer"
    paged = await shared_servers.tools(ROGUE)
    assert {"echo", "deaf"} <= paged.keys(), "a list in pages is read to its end"


@pytest.mark.parametrize(
    ("tool", "arguments", "value"),
    [
        ("echo", {"text": '{"a": 1}'}, '{"a": 1}'),
        ("echo", {"text": "ŝanĝo\nline \x00 \U0001f600"}, "ŝanĝo\nline \x00 \U0001f600"),
        ("echo", {"text": "x" * 3_000_000}, "x" * 3_000_000),
        ("add", {"a": 40, "b": 2}, {"sum": 42}),
        ("several", {}, ["one", {"type": "image", "data": "AAAA", "mimeType": "image/png"}]),
        ("nothing", {}, None),
    ],
    ids=["text stays text", "unicode", "3 MB", "structured", "several blocks", "no block"],
)
async def test_values(shared_servers: ToolServers, tool: str, arguments: dict[str, object], value: object) -> None:
    assert await shared_servers.call(WORKSHOP, tool, arguments, timeout=60) == value


@pytest.mark.parametrize(
    ("tool", "arguments", "message"),
    [
        ("fail", {"message": "the moon is not full"}, "the moon is not full"),
        ("no such tool", {}, "no such tool"),
        ("add", {"a": "x"}, "valid integer"),
        ("echo", {"text": "\ud800"}, "cannot be written as JSON"),
    ],
)
async def test_failures(shared_servers: ToolServers, tool: str, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ToolFailed, match=message):
        await shared_servers.call(WORKSHOP, tool, arguments, timeout=60)


async def test_calls_are_multiplexed(shared_servers: ToolServers) -> None:
    arrived: list[str] = []

    async def call(seconds: float, name: str) -> None:
        arrived.append(await shared_servers.call(WORKSHOP, "slow", {"seconds": seconds, "name": name}, timeout=60))

    await asyncio.gather(call(1.5, "slow one"), *(call(0.2, f"n{n}") for n in range(50)))
    assert len(arrived) == 51
    assert arrived[-1] == "slow one", "a slow call holds up no other"


async def test_too_late_is_a_timeout_and_the_call_is_cancelled(shared_servers: ToolServers) -> None:
    await shared_servers.tools(WORKSHOP)  # it has to run: that alone takes a second
    call = shared_servers.call(WORKSHOP, "slow", {"seconds": 600, "name": "late"}, timeout=1)
    with pytest.raises(TimeoutError, match="slow did not answer within 1 s"):
        await call
    state = await shared_servers.call(WORKSHOP, "state", {}, timeout=60)
    assert "late" not in state["running"]


async def test_a_cancelled_caller_cancels_the_call(shared_servers: ToolServers) -> None:
    async def is_running() -> bool:
        state = await shared_servers.call(WORKSHOP, "state", {}, timeout=60)
        return "left" in state["running"]

    arguments = {"seconds": 600, "name": "left"}
    caller = asyncio.create_task(shared_servers.call(WORKSHOP, "slow", arguments, timeout=60))
    async with asyncio.timeout(30):
        while not await is_running():
            pass
        caller.cancel()
        while await is_running():
            pass
    with pytest.raises(asyncio.CancelledError):
        await caller


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    path = tmp_path / "repository"
    path.mkdir()
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "GIT_CONFIG_NOSYSTEM": "1"}
    for who in ("AUTHOR", "COMMITTER"):
        environment |= {f"GIT_{who}_NAME": "A", f"GIT_{who}_EMAIL": "a@example.org"}
    for arguments in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "first"]):
        subprocess.run(["git", *arguments], cwd=path, env=environment, check=True)
    (path / "new.txt").write_text("new")
    return path


@pytest.mark.conformance
async def test_a_git_server_from_pypi(shared_servers: ToolServers, repository: Path) -> None:
    command = ("mcp-server-git", "--repository", str(repository))
    server = ToolServer(command=command, read=(str(repository),))
    assert {"git_log", "git_status"} <= (await shared_servers.tools(server)).keys()
    log = await shared_servers.call(server, "git_log", {"repo_path": str(repository)}, timeout=60)
    assert "Message: first" in log
    status = await shared_servers.call(server, "git_status", {"repo_path": str(repository)}, timeout=60)
    assert "new.txt" in status
    with pytest.raises(ToolFailed):
        await shared_servers.call(server, "git_add", {"repo_path": str(repository), "files": ["new.txt"]}, timeout=60)


def test_importing_does_not_import_mcp() -> None:
    code = "import sys, handlers.tool_servers; sys.exit('mcp' in sys.modules or 'anyio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
