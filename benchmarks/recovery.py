"""How long agents are away after a crash, and what it costs to keep many that do nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
import time
import uuid
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import uvloop

from benchmarks.measure import Figure
from benchmarks.node import AGENT_FILE, idle_figures, node_process
from l02.bus.connection.bus import connect
from l02.bus.connection.streams import ensure_streams
from l02.bus.embedded import DataDirectory, EmbeddedServers
from l02.bus.log.event_store import open_event_store
from l02.bus.wire.codec import encode_event
from l02.bus.wire.subjects import AggregateId, event_subject
from l02.client.client import Client
from l02.domain.agent.life.restarts import AgentRestarted
from l02.domain.agent.life.spawning import AgentSpawned, SpawnRequested
from l02.domain.agent.life.suspension import AgentSuspended
from l02.domain.aggregates import AGGREGATES
from l02.domain.kernel.message import Event, Metadata
from l02.domain.node.membership import NodeLost
from l02.domain.specification import AgentSpecification, LifecycleLimits

_KILLS = 20
_AGENTS_OF_A_NODE = 200
_SUSPENDED = 10_000
# A node looks for what others have left at its start and every 30 s; and PostgreSQL counts rows it has just been given.
_SETTLE_SECONDS, _IDLE_SECONDS = 20.0, 120.0
_RESTART_DELAY = 0.01


def measure_recovery() -> list[Figure]:
    """All figures of this file."""
    return [*uvloop.run(_one_agent()), *uvloop.run(_a_node()), *_suspended()]


def _specification(directory: Path) -> dict[str, Any]:
    agent_file = directory / "bench.py"
    agent_file.write_text(AGENT_FILE)
    return {
        "name": "bench",
        "entrypoint": str(agent_file),
        "lifecycle": {"restart_delay_seconds": [_RESTART_DELAY], "max_restart_count": 1000},
    }


async def _one_agent() -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="l02-bench-") as directory, node_process(Path(directory) / "data"):
        async with Client.connect(data_dir=Path(directory) / "data") as client:
            agent_id = (await client.spawn(_specification(Path(directory)))).agent_id
            taken = []
            events = client.events(agent_id, follow=True)
            pid = 0
            async for recorded in events:
                if isinstance(recorded.event, AgentRestarted):
                    seen = time.perf_counter()
                if isinstance(recorded.event, AgentSpawned):
                    if pid:
                        taken.append(time.perf_counter() - seen)
                    pid = recorded.event.pid
                    if len(taken) == _KILLS:
                        break
                    assert (await client.execute(agent_id, 1)).output == "done"
                    os.kill(pid, signal.SIGKILL)
    name = f"one agent killed: from agent.restarted to agent.spawned (delay {_RESTART_DELAY * 1000:.0f} ms), p50"
    return [Figure(name, median(taken) * 1000, "ms", "<= 300")]


async def _a_node() -> list[Figure]:
    """Two nodes on the first one's servers; the second dies."""
    with tempfile.TemporaryDirectory(prefix="l02-bench-") as directory, ExitStack() as stack:
        root = Path(directory)
        stack.enter_context(node_process(root / "one"))
        runtime = DataDirectory.read_runtime_file(root / "one")
        urls = {"L02_NATS_URL": runtime["nats_url"], "L02_POSTGRES_URL": runtime["postgres_url"]}
        dying = stack.enter_context(node_process(root / "two", urls))
        dying_id = DataDirectory.read_runtime_file(root / "two")["node_id"]
        specification = _specification(root)
        async with Client.connect(data_dir=root / "one") as client:
            there: list[str] = []
            while len(there) < _AGENTS_OF_A_NODE:
                spawned = await asyncio.gather(*(client.spawn(specification) for _ in range(20)))
                there += [agent.agent_id for agent in spawned if agent.node_id == dying_id]
            began = datetime.now(UTC)
            dying.kill()
            waiting, lost, last = set(there), began, began
            async for recorded in client.events(since=began, follow=True):
                if isinstance(recorded.event, NodeLost):
                    lost = recorded.time
                if isinstance(recorded.event, AgentSpawned):
                    waiting.discard(recorded.aggregate.id)
                    last = recorded.time
                    if not waiting:
                        break
    return [
        Figure("a node killed: until node.lost", (lost - began).total_seconds(), "s", "<= 6"),
        Figure(
            f"  then until the last of {len(there)} agents has spawned", (last - lost).total_seconds(), "s", "<= 10"
        ),
    ]


def _suspended() -> list[Figure]:
    """A node with nothing, and the same node when it has many suspended agents."""
    with tempfile.TemporaryDirectory(prefix="l02-bench-") as directory:
        data_dir = Path(directory) / "data"
        with node_process(data_dir) as process:
            none = idle_figures(process, settle=_SETTLE_SECONDS, seconds=_IDLE_SECONDS)
        uvloop.run(_fill(data_dir))
        with node_process(data_dir):
            uvloop.run(_all_projected(data_dir))
        with node_process(data_dir) as process:
            many = idle_figures(process, settle=_SETTLE_SECONDS, seconds=_IDLE_SECONDS)
    cpu, memory = (many[index].value - none[index].value for index in (0, 1))
    return [
        Figure(f"{_SUSPENDED:,} suspended agents, CPU more than with none", cpu, "% of a core", "< 1"),
        Figure(f"{_SUSPENDED:,} suspended agents, memory (PSS) more than with none", memory, "MB", "< 100"),
    ]


async def _fill(data_dir: Path) -> None:
    """Their events, as they would have been recorded."""
    specification = AgentSpecification(name="bench", entrypoint="/bench.py", lifecycle=LifecycleLimits())
    with DataDirectory(data_dir) as directory:
        async with (
            EmbeddedServers(directory, postgres=False) as servers,
            connect(servers.nats_url, name="bench", aggregates=AGGREGATES) as bus,
            open_event_store(bus) as store,
        ):
            await ensure_streams(bus)
            for start in range(0, _SUSPENDED, 500):
                agents = [AggregateId("agent", f"s{number}") for number in range(start, start + 500)]
                await asyncio.gather(*(store.append(agent, _life(agent, specification), 0) for agent in agents))


def _life(agent: AggregateId, specification: AgentSpecification) -> list[tuple[str, bytes]]:
    events: list[Event] = [
        SpawnRequested(spec=specification, requested_by="bench", node_id="elsewhere", incarnation=1),
        AgentSuspended(session_id=None, reason="user_request"),
    ]
    cause = Metadata(causation_id="bench", correlation_id="bench", actor="bench")
    return [
        (
            event_subject(agent, event.type),
            encode_event(
                event,
                aggregate=agent,
                event_id=uuid.uuid4().hex,
                version=version,
                time=datetime.now(UTC),
                metadata=cause,
            ),
        )
        for version, event in enumerate(events, start=1)
    ]


async def _all_projected(data_dir: Path) -> None:
    async with Client.connect(data_dir=data_dir) as client:
        async for view in client.watch(f"s{_SUSPENDED - 1}"):
            if view.state.value == "suspended":
                return


if __name__ == "__main__":
    for figure in measure_recovery():
        print(figure, flush=True)
