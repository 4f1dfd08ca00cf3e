"""A whole node with its embedded servers, every write synced: commands, spawns, idleness."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sysconfig
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import uvloop

from benchmarks.measure import Figure, median_milliseconds
from l02.client.client import Client
from l02.domain.agent.life.spawning import AgentSpawned

_IDLE_SECONDS = 10.0
AGENT_FILE = """
from l02.agent import Agent
agent = Agent("bench")

@agent.tool(idempotent=True)
def nothing() -> None: ...

@agent.on_message
async def handle(ctx, message):
    for _ in range(message):
        await ctx.tool("nothing")
    return "done"
"""


def measure_node() -> list[Figure]:
    """All figures of this file."""
    with tempfile.TemporaryDirectory(prefix="l02-bench-") as directory:
        data_dir = Path(directory) / "data"
        with node_process(data_dir) as process:
            figures = idle_figures(process)
            figures += uvloop.run(_commands(data_dir, Path(directory)))
    return [*figures, _help()]


@contextmanager
def running_node() -> Iterator[tuple[Path, Path]]:
    """A node with nothing in it yet: its data directory, and one for the caller's files."""
    with tempfile.TemporaryDirectory(prefix="l02-bench-") as directory:
        data_dir = Path(directory) / "data"
        with node_process(data_dir):
            yield data_dir, Path(directory)


@contextmanager
def node_process(data_dir: Path, environment: Mapping[str, str] = {}) -> Iterator[psutil.Process]:
    """`l02 up` as a process of its own, as users run it."""
    command = [_l02(), "up", "--data-dir", str(data_dir)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, env=os.environ | environment) as process:
        try:
            while not (data_dir / "l02.json").exists():
                assert process.poll() is None, "the node did not start"
                time.sleep(0.02)
            yield psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait()


def _l02() -> str:
    return str(Path(sysconfig.get_path("scripts")) / "l02")


def idle_figures(node: psutil.Process, *, settle: float = 2.0, seconds: float = _IDLE_SECONDS) -> list[Figure]:
    """The node, its zygote and its servers together, when nothing happens: for `seconds`, `settle` after its start."""
    time.sleep(settle)
    before = _cpu_seconds(node)
    time.sleep(seconds)
    used = _cpu_seconds(node) - before
    memory = [process.memory_full_info().pss / 1e6 for process in [node, *node.children(recursive=True)]]
    return [
        Figure("idle node, CPU of node and servers", 100 * used / seconds, "% of a core", "< 2"),
        Figure("idle node, memory (PSS) of node and servers", sum(memory), "MB", "< 200"),
        Figure("  of it the node's own process", memory[0], "MB", ""),
    ]


def _cpu_seconds(node: psutil.Process) -> float:
    """User and system time of all its processes, also of those that have come and gone: PostgreSQL's autovacuum."""
    return sum(sum(process.cpu_times()[:4]) for process in [node, *node.children(recursive=True)])


async def _commands(data_dir: Path, directory: Path) -> list[Figure]:
    agent_file = directory / "bench.py"
    agent_file.write_text(AGENT_FILE)
    specification: dict[str, Any] = {"name": "bench", "entrypoint": str(agent_file)}
    async with Client.connect(data_dir=data_dir) as client:
        spawned = await client.spawn(specification)
        agent_id = spawned.agent_id
        decided = await median_milliseconds(lambda: client.signal(agent_id, "x"), 500)
        executed = await median_milliseconds(lambda: client.execute(agent_id, 0), 300)
        with_calls = await median_milliseconds(lambda: client.execute(agent_id, 10), 50)
        landlock = await _spawns(client, specification)
        process = await _spawns(client, specification | {"trust_level": "trusted"})
    return [
        Figure("command published to outcome received, at the decision (signal), p50", decided, "ms", "<= 4"),
        Figure("command published to outcome received, whole execution, p50", executed, "ms", "<= 4"),
        Figure("one journalled tool call within an execution, p50", (with_calls - executed) / 10, "ms", ""),
        Figure("spawn published to agent.spawned received, landlock, cold, p50", landlock, "ms", "<= 150"),
        Figure("spawn published to agent.spawned received, process, cold, p50", process, "ms", ""),
    ]


async def _spawns(client: Client, specification: dict[str, Any]) -> float:
    """From the command's publication until a subscriber sees the event; milliseconds."""
    taken = []
    for _ in range(20):
        agent_id = uuid.uuid4().hex
        seen = asyncio.create_task(_seen(client, agent_id))
        await asyncio.sleep(0.1)
        began = time.perf_counter()
        await client.spawn(specification, id=agent_id, wait="accepted")
        taken.append((await seen) - began)
        await client.terminate(agent_id)
    return median(taken) * 1000


async def _seen(client: Client, agent_id: str) -> float:
    async for recorded in client.events(agent_id, follow=True):
        if isinstance(recorded.event, AgentSpawned):
            return time.perf_counter()
    raise AssertionError("the events never end")


def _help() -> Figure:
    taken = []
    for _ in range(10):
        began = time.perf_counter()
        subprocess.run([_l02(), "--help"], stdout=subprocess.DEVNULL, check=True)
        taken.append(time.perf_counter() - began)
    return Figure("l02 --help, whole process, median of 10", median(taken) * 1000, "ms", "<= 250")
