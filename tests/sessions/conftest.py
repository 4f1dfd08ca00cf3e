"""A session bridge on a bus of the test's own, and agents whose life the test tells as commands."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio

from l02.bus.background.cancelling import end
from l02.bus.commands.react import EventReader
from l02.bus.connection.bus import Bus, connect
from l02.bus.connection.streams import ensure_streams
from l02.bus.embedded import EmbeddedNats
from l02.bus.log.event_store import open_event_store
from l02.bus.log.repository import Repository
from l02.bus.wire.codec import RecordedEvent
from l02.domain.agent.life.restarts import RecoverProcess
from l02.domain.agent.life.spawning import AgentSpawned, Spawn
from l02.domain.agent.life.termination import AgentTerminated, Terminate
from l02.domain.agent.saved.checkpoints import Checkpoint, CheckpointCreated
from l02.domain.agent.saved.restoring import CheckpointRestored, Restore
from l02.domain.agent.session import Session
from l02.domain.agent.sessions import SessionDegraded, SessionRolledBack
from l02.domain.agent.state import AgentState, ResourceUsage
from l02.domain.agent.work.signals import Signal
from l02.domain.aggregates import AGENT, AGGREGATES
from l02.domain.kernel.message import Command, Event, Metadata, Report
from l02.domain.specification import AgentSpecification, RuntimeClass, SessionSettings, ToolServer
from l02.handlers.sessions import BridgeSettings, SessionBridge
from l02.handlers.tool_servers import ToolServers, connection, servers
from tests.conftest import PLAIN_PYTHON

ORCHESTRATOR = Path(__file__).with_name("servers") / "orchestrator.py"
QUICK = BridgeSettings(
    heartbeat_interval_seconds=0.2, heartbeat_timeout_seconds=1.0, max_retries=2, first_retry_seconds=0.02
)


@pytest.fixture(autouse=True)
def servers_come_back_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who fails is started anew at once, and who says nothing is given up soon."""
    monkeypatch.setattr(servers, "FIRST_DELAY_SECONDS", 0.05)
    monkeypatch.setattr(servers, "LONGEST_DELAY_SECONDS", 0.1)
    monkeypatch.setattr(connection, "START_SECONDS", 3.0)


class Server:
    """The orchestrator beside this file: how it is to behave, and what it was asked."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.specification = ToolServer(command=(*PLAIN_PYTHON, str(ORCHESTRATOR), str(directory)))
        self.behave("good")

    def behave(self, mode: str) -> None:
        draft = self.directory / "mode.new"
        draft.write_text(mode)
        draft.rename(self.directory / "mode")

    def processes(self) -> list[psutil.Process]:
        """Those of it that run, whichever node has started them."""
        family = psutil.Process().children(recursive=True)
        return [process for process in family if str(self.directory) in _words(process)]

    def names_as_lost(self, *session_ids: str) -> None:
        (self.directory / "lost").write_text(json.dumps(session_ids))

    def calls(self, *tools: str) -> list[tuple[str, dict[str, Any]]]:
        """What it was asked, of these tools or of all but those that only look."""
        path = self.directory / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        asked = [tuple(json.loads(line)) for line in lines]
        wanted = tools or ("save_context_snapshot", "create_checkpoint", "rollback_to")
        return [(tool, arguments) for tool, arguments in asked if tool in wanted]


@pytest.fixture
def server(tmp_path: Path) -> Server:
    (tmp_path / "orchestrator").mkdir()
    return Server(tmp_path / "orchestrator")


class Agents:
    """Agents without processes: what would happen to them is recorded as their node would."""

    def __init__(self, repository: Repository[AgentState]) -> None:
        self.repository = repository
        self._news = asyncio.Event()
        self.recorded: list[RecordedEvent] = []
        repository.on_recorded(self._heard)

    def _heard(self, recorded: RecordedEvent) -> None:
        self.recorded.append(recorded)
        self._news.set()

    async def tell(
        self, agent_id: str, command: Command | Report, node_id: str = "n1", command_id: str | None = None
    ) -> None:
        metadata = Metadata(causation_id=command_id or uuid.uuid4().hex, correlation_id="test", actor="alice")
        await self._at(node_id).decide(agent_id, command, metadata)

    def _at(self, node_id: str) -> Repository[AgentState]:
        if node_id == self.repository.node_id:
            return self.repository
        elsewhere = Repository(AGENT, self.repository.store, node_id)
        elsewhere.on_recorded(self._heard)
        return elsewhere

    async def spawn(self, agent_id: str = "a1", node_id: str = "n1", task_id: str | None = None) -> None:
        spec = AgentSpecification(
            name="historian", entrypoint="/agents/historian.py", session=SessionSettings(task_id=task_id)
        )
        await self.tell(agent_id, Spawn(spec=spec), node_id)
        await self.has_process(agent_id, node_id)

    async def has_process(self, agent_id: str = "a1", node_id: str = "n1") -> None:
        state = (await self.repository.load(agent_id)).state
        report = AgentSpawned(
            agent_id=agent_id,
            session_id=f"session-of-{agent_id}",
            node_id=node_id,
            sandbox_type="landlock",
            trust_level="standard",
            resource_limits=state.specification.resource_limits,
            source="cold",
            spawn_seconds=0.1,
            incarnation=state.incarnation,
            pid=4711,
        )
        await self.tell(agent_id, report)

    async def begins_anew(self, agent_id: str = "a1", node_id: str = "n1") -> None:
        """Its node was killed: it is given another process, here or elsewhere."""
        lost = (await self.repository.load(agent_id)).state.node_id or ""
        await self.tell(agent_id, RecoverProcess(lost_node_id=lost, cause="the node began anew"), node_id)
        await self.has_process(agent_id, node_id)

    async def checkpoint(self, checkpoint_id: str, label: str | None = None, agent_id: str = "a1") -> None:
        """Something has changed, and a checkpoint of it is stored."""
        await self.tell(agent_id, Signal(name="change"))
        await self.tell(agent_id, Checkpoint(label=label), command_id=checkpoint_id)
        loaded = await self.repository.load(agent_id)
        report = CheckpointCreated(
            checkpoint_id=checkpoint_id,
            checkpoint_type="manual",
            label=label,
            storage_location=f"postgresql:{checkpoint_id}",
            size_bytes=10,
            compressed_bytes=8,
            sha256="0" * 64,
            version=loaded.version,
            revision=loaded.state.revision,
            created_at=1_767_225_600.0,
            duration_seconds=0.1,
        )
        await self.tell(agent_id, report)

    async def restore(self, checkpoint_id: str, agent_id: str = "a1") -> None:
        await self.tell(agent_id, Restore(checkpoint_id=checkpoint_id))
        report = CheckpointRestored(checkpoint_id=checkpoint_id, restore_seconds=0.1, state={})
        await self.tell(agent_id, report)
        await self.has_process(agent_id)

    async def terminate(self, agent_id: str = "a1", reason: Any = "user_request") -> None:
        await self.tell(agent_id, Terminate(reason=reason))
        report = AgentTerminated(session_id=None, reason=reason, resource_usage=ResourceUsage(), duration_seconds=1.0)
        await self.tell(agent_id, report)

    async def session(self, agent_id: str = "a1") -> Session:
        session = (await self.repository.load(agent_id)).state.session
        assert session is not None
        return session

    def events(self, agent_id: str = "a1") -> list[Event]:
        """What has happened to its session."""
        return [
            item.event
            for item in self.recorded
            if item.aggregate.id == agent_id and item.event.type.startswith("agent.session.")
        ]

    async def until(self, fits: Callable[[Any], object], agent_id: str = "a1", seconds: float = 20) -> Any:
        """The first event of its session that fits, whether it has been or is to come."""
        async with asyncio.timeout(seconds):
            while True:
                self._news.clear()
                for event in self.events(agent_id):
                    if fits(event):
                        return event
                await self._news.wait()

    async def until_type(self, event_type: type[Event], agent_id: str = "a1") -> Any:
        return await self.until(lambda event: isinstance(event, event_type), agent_id)

    async def until_degraded(self, operation: str, agent_id: str = "a1") -> SessionDegraded:
        found: SessionDegraded = await self.until(
            lambda event: isinstance(event, SessionDegraded) and event.operation == operation, agent_id
        )
        return found

    async def until_rolled_back(self, checkpoint_id: str) -> None:
        await self.until(lambda event: isinstance(event, SessionRolledBack) and event.checkpoint_id == checkpoint_id)


def keepers(node_id: str = "n1") -> list[str]:
    """The tasks that keep sessions at this node. Other tests' nodes may be at work in the same process."""
    names = [task.get_name() for task in asyncio.all_tasks()]
    return [name for name in names if name.startswith("session of ") and name.endswith(f" on {node_id}")]


async def until(fact: Callable[[], object], seconds: float = 20) -> None:
    """Wait for a fact that nothing announces."""
    async with asyncio.timeout(seconds):
        while not fact():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:  # it has ended since it was listed
        return []


@pytest_asyncio.fixture
async def bus(fresh_nats: EmbeddedNats) -> AsyncIterator[Bus]:
    async with connect(fresh_nats.url, name="test", aggregates=AGGREGATES) as connected:
        await ensure_streams(connected)
        yield connected


@pytest_asyncio.fixture
async def agents(bus: Bus) -> AsyncIterator[Agents]:
    async with open_event_store(bus) as store:
        yield Agents(Repository(AGENT, store, "n1"))


class Node:
    """Starts bridges on the test's bus, as a node would."""

    def __init__(self, bus: Bus, agents: Agents, directory: Path) -> None:
        self.bus = bus
        self._agents = agents
        self._directory = directory
        self.latest: SessionBridge | None = None

    @asynccontextmanager
    async def bridge(
        self,
        server: ToolServer,
        *open_sessions: str,
        node_id: str = "n1",
        settings: BridgeSettings = QUICK,
        runtime_class: RuntimeClass = RuntimeClass.PROCESS,
        idle_seconds: float = 60,
    ) -> AsyncIterator[ToolServers]:
        directory = self._directory / node_id
        scratch, logs = directory / "session", directory / "logs"
        async with ToolServers(scratch, logs, runtime_class, idle_seconds=idle_seconds) as tool_servers:
            reader = EventReader(self.bus, self._agents.repository)
            bridge = self.latest = SessionBridge(
                reader, self._agents.repository, tool_servers, server, settings, node_id
            )
            await reader.open()
            ready = asyncio.Event()
            tasks = [asyncio.create_task(bridge.run(list(open_sessions), ready.set))]
            try:
                await ready.wait()
                tasks.append(asyncio.create_task(reader.run()))
                yield tool_servers
            finally:
                for task in reversed(tasks):
                    await end(task)


@pytest.fixture
def node(bus: Bus, agents: Agents, tmp_path: Path) -> Node:
    return Node(bus, agents, tmp_path / "nodes")
