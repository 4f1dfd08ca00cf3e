"""What an agent prints is bounded while it runs, and its files go some time after it has ended."""

from __future__ import annotations

import os
import sys
import uuid
from pathlib import Path

import pytest

from l02.client.client import Client
from l02.domain.agent.life.spawning import SpawnRequested
from l02.domain.agent.sessions import SessionEnded
from l02.domain.errors import Failure
from l02.handlers.sandbox import log
from l02.handlers.sandbox.processes import Processes
from l02.handlers.sandbox.sandboxes import Sandboxes
from l02.handlers.tool_servers.launch import name_of
from l02.node.running import Node
from tests.runtime.conftest import history, settled, until, worker

FLOOD = (
    "import json, os, sys; node = os.fdopen(int(os.environ['L02_FD']), 'r+b', buffering=0);"
    "[sys.stdout.write('x' * 1023 + '\\n') for _ in range(20_000)];"
    "sys.stdout.write('the last words'); sys.stdout.flush();"
    'node.write(b\'{"type":"hello","protocol":1,"name":"flood","tools":[]}\\n\'); node.read(1)'
)


def files_of(node: Node, agent_id: str) -> Path:
    return Path(node.parts.lifecycle._processes._agents_dir) / agent_id


async def test_a_flood_is_bounded(client: Client, node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "LOG_BYTES", 1 << 20)
    monkeypatch.setattr(log, "_PAUSE_SECONDS", 0.01)
    flood = {"name": "flood", "command": [sys.executable, "-c", FLOOD]}
    agent_id = (await client.spawn(flood, id=uuid.uuid4().hex)).agent_id
    await client.terminate(agent_id)
    logs = sorted(path.name for path in files_of(node, agent_id).glob("log*"))
    assert logs == ["log", "log.1"]
    sizes = {path.stat().st_size for path in files_of(node, agent_id).iterdir()}
    assert max(sizes) <= (1 << 20) + log.CHUNK_BYTES
    assert (files_of(node, agent_id) / "log").read_text().endswith("the last words")


async def test_the_last_words_are_told(client: Client) -> None:
    dying = {
        "name": "dying",
        "command": [sys.executable, "-c", "print('y' * 100_000); print('no key')"],
        "lifecycle": {"max_restart_count": 0},
    }
    with pytest.raises(Failure) as failed:
        await client.spawn(dying, id=uuid.uuid4().hex)
    assert "no key" in failed.value.message
    assert len(failed.value.message) < 1000


async def test_files_go_when_they_are_old_and_the_agent_is_gone(client: Client, node: Node) -> None:
    lifecycle = node.parts.lifecycle
    gone, alive = uuid.uuid4().hex, uuid.uuid4().hex
    for agent_id in (gone, alive):
        await client.spawn(worker(), id=agent_id)
    await settled(client, gone)
    await client.terminate(gone)
    await until(client, gone, lambda recorded: isinstance(recorded.event, SessionEnded))
    await lifecycle.remove_old_files(7 * 86_400.0)
    assert files_of(node, gone).is_dir()
    for agent_id in (gone, alive):
        folder = files_of(node, agent_id)
        for path in (*folder.iterdir(), folder):
            os.utime(path, (1.0, 1.0))
    await lifecycle.remove_old_files(7 * 86_400.0)
    assert not files_of(node, gone).exists()
    assert files_of(node, alive).is_dir()
    ends = [event.type for event in (await history(client, gone))[-2:]]
    assert ends == ["agent.terminated", "agent.session.ended"]
    await client.terminate(alive)


async def test_logs_of_tool_servers_go_when_they_are_old(client: Client, node: Node) -> None:
    logs = node.parts.lifecycle._server_logs
    code = "import sys; sys.exit('no server')"
    tools = {"broken": {"command": [sys.executable, "-c", code], "start": "eager"}}
    agent_id = (await client.spawn(worker(tools=tools), id=uuid.uuid4().hex)).agent_id
    with pytest.raises(Failure, match="exited with code 1"):
        await client.execute(agent_id, {"steps": [["tool", "broken.any", {}]]})
    await client.terminate(agent_id)
    (spec,) = (event.spec for event in await history(client, agent_id) if isinstance(event, SpawnRequested))
    log_of_server = logs / f"{name_of(spec.tools['broken'])}.log"
    earlier, notes = log_of_server.with_name(f"{log_of_server.name}.1"), logs / "notes.txt"
    for path in (earlier, notes):
        path.write_text("of long ago")
        os.utime(path, (1.0, 1.0))
    await node.parts.lifecycle.remove_old_files(7 * 86_400.0)
    assert log_of_server.exists() and not earlier.exists() and notes.exists()
    os.utime(log_of_server, (1.0, 1.0))
    await node.parts.lifecycle.remove_old_files(7 * 86_400.0)
    assert not log_of_server.exists() and notes.exists()
    notes.unlink()


async def test_what_is_no_agents_is_left(tmp_path: Path) -> None:
    (tmp_path / "agents" / "not an id").mkdir(parents=True)
    assert await Processes(Sandboxes(()), tmp_path).unused_since(1e12) == []
    assert await Processes(Sandboxes(()), tmp_path / "none").unused_since(1e12) == []
