"""A whole node with the context server that it brings along: checkpoints reach it, and it outlives neither."""

from __future__ import annotations

import json
import shlex
import signal
import sys
from pathlib import Path
from typing import Any

import asyncpg
import psutil

from l02.client.client import Client
from l02.domain.agent.sessions import (
    SessionEnded,
    SessionRecovered,
    SessionRolledBack,
    SessionSnapshotSaved,
    SessionStarted,
)
from tests.runtime import conftest as story
from tests.runtime.test_node import are_gone, family, runtime, up, wait_until
from tests.sessions.conftest import ORCHESTRATOR

OWN = {"L02_SESSION_SERVER": ""}
"""What a node has if it is told nothing."""

Rows = list[dict[str, Any]]


async def ask(data_dir: Path, query: str) -> Rows:
    connection = await asyncpg.connect(runtime(data_dir)["postgres_url"])
    try:
        return [dict(row) for row in await connection.fetch(query)]
    finally:
        await connection.close()


async def test_checkpoints_reach_the_server_and_a_killed_node_recovers(data_dir: Path) -> None:
    with up(data_dir, **OWN) as node:
        async with Client.connect(data_dir=data_dir, actor="test") as client:
            await client.spawn(story.worker(), id="a1")
            started = (await story.until(client, "a1", lambda item: isinstance(item.event, SessionStarted))).event
            await client.execute("a1", {"steps": [["state", "colour", "green"]]})
            kept = await client.checkpoint("a1", label="green")
            await story.until(client, "a1", lambda item: isinstance(item.event, SessionSnapshotSaved))
            await client.execute("a1", {"steps": [["state", "colour", "red"]]})
            await client.restore("a1", kept)
            back = (await story.until(client, "a1", lambda item: isinstance(item.event, SessionRolledBack))).event
            assert isinstance(back, SessionRolledBack)
            assert back.target.startswith("checkpoint ")
        (task,) = await ask(data_dir, "SELECT task_id, status FROM l02_context.tasks")
        assert task == {"task_id": "a1", "status": "in_progress"}
        (checkpoint,) = await ask(data_dir, "SELECT label FROM l02_context.checkpoints WHERE type = 'manual'")
        assert checkpoint == {"label": "green"}
        processes = family(node)
        assert any("mcp" in process.cmdline() for process in processes), "the context server is among them"
        node.send_signal(signal.SIGKILL)
        node.wait()
        context = [process for process in processes if "mcp" in _words(process)]
        wait_until(lambda: are_gone(context), "the context server has outlived its node")
        (data_dir / "l02.json").unlink()
    with up(data_dir, **OWN):
        async with Client.connect(data_dir=data_dir, actor="test") as client:
            recovered = (await story.until(client, "a1", lambda item: isinstance(item.event, SessionRecovered))).event
            assert isinstance(started, SessionStarted)
            assert isinstance(recovered, SessionRecovered)
            assert recovered.session_id == started.session_id
            await client.execute("a1", {"steps": [["count"]]})
            await client.terminate("a1", reason="completed")
            ended = (await story.until(client, "a1", lambda item: isinstance(item.event, SessionEnded))).event
            assert isinstance(ended, SessionEnded)
            assert (ended.error, ended.unsent) == (None, 0)
            view = (await client.get("a1")).session
            assert view is not None
            assert not view.is_open
        (task,) = await ask(data_dir, "SELECT status FROM l02_context.tasks")
        assert task == {"status": "completed"}
        assert await ask(data_dir, "SELECT 1 FROM l02_context.sessions WHERE at_work") == []


async def test_another_server_is_a_command_line(tmp_path: Path, data_dir: Path) -> None:
    (tmp_path / "its own").mkdir()
    (tmp_path / "its own" / "mode").write_text("good")
    command = shlex.join([sys.executable, str(ORCHESTRATOR), str(tmp_path / "its own")])
    with up(data_dir, L02_SESSION_SERVER=command) as node:
        async with Client.connect(data_dir=data_dir, actor="test") as client:
            await client.spawn(story.worker(session={"task_id": "T-7"}), id="a1")
            started = (await story.until(client, "a1", lambda item: isinstance(item.event, SessionStarted))).event
            assert isinstance(started, SessionStarted)
            assert started.task_id == "T-7"
        assert not any("mcp" in _words(process) for process in family(node))
    calls = [json.loads(line) for line in (tmp_path / "its own" / "calls").read_text().splitlines()]
    assert calls[0][0] == "save_context_snapshot"
    assert calls[0][1]["taskId"] == "T-7"


async def test_a_node_without_a_bridge(data_dir: Path) -> None:
    with up(data_dir, L02_SESSION_SERVER="off") as node:
        async with Client.connect(data_dir=data_dir, actor="test") as client:
            await client.spawn(story.worker(), id="a1")
            await client.execute("a1", {"steps": [["count"]]})
            await client.terminate("a1")
            types = [type(event) for event in await story.history(client, "a1")]
        assert not any("mcp" in _words(process) for process in family(node))
    assert not [kind for kind in types if kind.type.startswith("agent.session.")]


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []
