"""Nodes as processes on shared servers, and agents that have something to do on them."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import shlex
import sys
from asyncio.subprocess import Process
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from l02.bus.commands.partitions import COMMAND_PARTITIONS, _owner, command_partition
from l02.bus.connection.streams import PARTITIONS_STREAM
from l02.bus.embedded import EmbeddedNats
from l02.bus.wire.subjects import AggregateId, partition_subject
from l02.client.client import Client
from l02.domain.agent.state import Status
from l02.domain.agent.work.effects import ToolCalled
from l02.domain.node.state import NodeStatus
from tests.conftest import PLAIN_PYTHON
from tests.runtime.conftest import worker
from tests.sessions.conftest import ORCHESTRATOR

LEDGER = Path(__file__).with_name("ledger.py")


class RunningNode:
    """A node's process."""

    def __init__(self, process: Process, runtime: dict[str, Any], data_dir: Path) -> None:
        self.process = process
        self.node_id: str = runtime["node_id"]
        self.data_dir = data_dir

    def send(self, signal_number: int) -> None:
        os.kill(self.process.pid, signal_number)

    async def end(self) -> None:
        """Kill it, if it still runs."""
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()


class Cluster:
    """Nodes on one pair of servers, and a client."""

    def __init__(self, nats_url: str, postgres_url: str, root: Path) -> None:
        self.nats_url = nats_url
        self.postgres_url = postgres_url
        self.ledger = root / "ledger.txt"
        self.ledger.touch()
        self._root = root
        sessions = root / "sessions"
        sessions.mkdir()
        (sessions / "mode").write_text("good")
        # Not the runtime's own, whose start takes more of the processor than all else here: see tests/sessions.
        self._session_server = shlex.join([*PLAIN_PYTHON, str(ORCHESTRATOR), str(sessions)])

    @asynccontextmanager
    async def node(self, name: str, *, dies: str | None = None) -> AsyncIterator[RunningNode]:
        """Start a node in the data directory `name`, and wait until it is ready.

        `dies`: it will kill itself at this place (`tests.state.dying_node`).
        """
        data_dir = self._root / name
        runtime_file = data_dir / "l02.json"
        program = (
            ("l02.cli", "up", "--data-dir", str(data_dir))
            if dies is None
            else ("tests.state.dying_node", dies, str(data_dir))
        )
        with (self._root / f"{name}.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", *program),
                env=os.environ
                | {"L02_NATS_URL": self.nats_url, "L02_POSTGRES_URL": self.postgres_url}
                | {"L02_SESSION_SERVER": self._session_server},
                stderr=log,
            )
        async with asyncio.timeout(30):
            while _pid_in(runtime_file) != process.pid:
                assert process.returncode is None, (self._root / f"{name}.log").read_text()
                await asyncio.sleep(0.02)
        node = RunningNode(process, json.loads(runtime_file.read_text()), data_dir)
        try:
            yield node
        finally:
            await node.end()

    def noted(self) -> list[str]:
        """What the ledger's tool was told, in order."""
        return self.ledger.read_text().splitlines()

    def agent(self, **more: Any) -> dict[str, Any]:
        """The specification of an agent that can write into the ledger, a call that must not be repeated."""
        server = {
            "command": [sys.executable, str(LEDGER), str(self.ledger)],
            "read": [str(LEDGER)],
            "write": [str(self._root)],
        }
        return worker(tools={"ledger": server}, **more)


def _pid_in(runtime_file: Path) -> int | None:
    """The process that the file is of. Its predecessor's goes at any moment."""
    try:
        pid: int = json.loads(runtime_file.read_text())["pid"]
    except FileNotFoundError:
        return None
    return pid


@pytest_asyncio.fixture
async def cluster(fresh_nats: EmbeddedNats, database: str, tmp_path: Path) -> Cluster:
    return Cluster(fresh_nats.url, database, tmp_path)


@pytest_asyncio.fixture
async def client(cluster: Cluster) -> AsyncIterator[Client]:
    async with Client.connect(nats_url=cluster.nats_url, actor="tests") as connected:
        yield connected


@pytest.fixture
def spawn(client: Client, cluster: Cluster) -> Callable[..., Awaitable[dict[str, str]]]:
    """Make that many agents on each node, with more in their specification; on which node each is."""

    async def make(each: int, **more: Any) -> dict[str, str]:
        joined = await _joined(client)
        ids: list[str] = []
        for node_id in joined:
            names = (f"a{number}" for number in itertools.count())
            ids += itertools.islice((name for name in names if _falls_to(name, joined) == node_id), each)
        results = await asyncio.gather(*(client.spawn(cluster.agent(**more), id=agent_id) for agent_id in ids))
        spawned = {result.agent_id: result.node_id or "" for result in results}
        assert Counter(spawned.values()) == dict.fromkeys(joined, each)
        return spawned

    return make


def _falls_to(agent_id: str, joined: list[str]) -> str:
    return _owner(command_partition(AggregateId("agent", agent_id)), joined)


async def until(fact: Callable[[], Awaitable[Any]], seconds: float = 30) -> Any:
    """Wait for a fact, and give it."""
    async with asyncio.timeout(seconds):
        while True:
            with suppress(ConnectionError):
                if value := await fact():
                    return value
            await asyncio.sleep(0.05)


async def nodes_by_state(client: Client) -> dict[str, NodeStatus]:
    return {node.node_id: node.state for node in await client.nodes()}


async def _joined(client: Client) -> list[str]:
    return [node_id for node_id, state in (await nodes_by_state(client)).items() if state is NodeStatus.JOINED]


async def both_share(client: Client) -> bool:
    """Whether two nodes are there, and each partition is where it falls to."""
    joined = await _joined(client)
    for name in COMMAND_PARTITIONS:
        record = await client._bus.stored(PARTITIONS_STREAM, last_on=partition_subject(name))
        if record is None or json.loads(record.data)["owner"] != _owner(name, joined):
            return False
    return len(joined) == 2


async def events_of(client: Client, agent_id: str, kind: type[Any]) -> list[Any]:
    return [recorded.event async for recorded in client.events(agent_id) if isinstance(recorded.event, kind)]


async def are_running(client: Client, agent_ids: list[str], node_id: str) -> bool:
    """Whether all of them run on this node."""
    views = [await client.get(agent_id) for agent_id in agent_ids]
    return all((view.state, view.node_id) == (Status.RUNNING, node_id) for view in views)


async def has_called(client: Client, agent_id: str, calls: int) -> bool:
    return len(await events_of(client, agent_id, ToolCalled)) >= calls
