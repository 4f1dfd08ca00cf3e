"""A whole node with servers of its own, shared by the tests; each test makes agents of its own."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import msgspec
import pytest_asyncio

from l02.bus.commands.outcomes import Outcome
from l02.bus.wire.codec import RecordedEvent
from l02.client.client import Client
from l02.domain.agent.life.spawning import AgentSpawned
from l02.domain.agent.sessions import SessionStarted
from l02.domain.kernel.message import Event
from l02.handlers.state.settings import StateSettings
from l02.node.running import Node, running_node
from l02.node.settings import Settings
from tests.conftest import PLAIN_PYTHON

AGENTS = Path(__file__).parent / "agents"
Specification = dict[str, Any]


def worker(**more: Any) -> Specification:
    """The specification of an agent that does what it is told; restarts come fast."""
    return {
        "name": "worker",
        "entrypoint": str(AGENTS / "worker.py"),
        "lifecycle": {"restart_delay_seconds": [0.05]},
    } | more


def misbehaving(how: str, **lifecycle: Any) -> Specification:
    """The specification of a program that breaks the protocol."""
    return {
        "name": "misbehaving",
        "command": [*PLAIN_PYTHON, str(AGENTS / "misbehaving.py"), how],
        "files": {"read": [str(AGENTS / "misbehaving.py")]},
        "lifecycle": {"restart_delay_seconds": [0.05], "max_restart_count": 1} | lifecycle,
    }


def talker(*hello: str) -> Specification:
    """The specification of a program that says the lines of its input; `$ID` in them is the execution's id."""
    return {
        "name": "talker",
        "command": [*PLAIN_PYTHON, str(AGENTS / "talker.py"), *hello],
        "files": {"read": [str(AGENTS / "talker.py")]},
        "lifecycle": {"restart_delay_seconds": [0.05], "max_restart_count": 0},
    }


@pytest_asyncio.fixture(scope="session")
async def node(tmp_path_factory: Any) -> AsyncIterator[Node]:
    settings = Settings(
        data_dir=tmp_path_factory.mktemp("node") / "data",
        state=StateSettings(auto_checkpoint_interval_seconds=0),  # so that all checkpoints are those a test asks for
    )
    async with running_node(settings) as running:
        yield running


@pytest_asyncio.fixture(scope="session")
async def client(node: Node) -> AsyncIterator[Client]:
    async with Client.connect(nats_url=node.runtime["nats_url"], actor="tests") as connected:
        yield connected


class Raw:
    """Commands as any NATS client would send them: bytes on a subject."""

    def __init__(self, node: Node) -> None:
        self._client = node.parts.bus.client

    async def publish(
        self, subject: str, body: bytes, command_id: str | None = None, headers: dict[str, str] | None = None
    ) -> Outcome:
        """Publish a command and wait for its outcome, without any of our own client code."""
        command_id = command_id or uuid.uuid4().hex
        subscription = await self._client.subscribe(f"l02.out.{command_id}")
        try:
            await self._client.publish(subject, body, headers={"Nats-Msg-Id": command_id, **(headers or {})})
            message = await subscription.next_msg(timeout=20)
        finally:
            await subscription.unsubscribe()
        return msgspec.json.decode(message.data, type=Outcome)

    async def request(self, verb: str, body: Any, timeout: float = 20) -> dict[str, Any]:
        """A request to the micro service."""
        data = body if isinstance(body, bytes) else msgspec.json.encode(body)
        reply = await self._client.request(f"l02.api.{verb}", data, timeout=timeout)
        answer: dict[str, Any] = msgspec.json.decode(reply.data)
        return answer


@pytest_asyncio.fixture
async def raw(node: Node) -> Raw:
    return Raw(node)


@pytest_asyncio.fixture
async def spawn(client: Client) -> AsyncIterator[Callable[..., Awaitable[str]]]:
    """Make agents; those that live at the end of the test are terminated."""
    made: list[str] = []

    async def make(specification: Specification | None = None, **more: Any) -> str:
        agent_id = f"a{uuid.uuid4().hex[:10]}"
        made.append(agent_id)
        await client.spawn(specification or worker(**more), id=agent_id)
        return agent_id

    yield make
    for agent_id in made:
        state = (await client.get(agent_id)).state.value
        if state not in ("terminated", "failed"):
            await client.terminate(agent_id)


async def history(client: Client, agent_id: str) -> list[Event]:
    """All that has happened to an agent."""
    return [recorded.event async for recorded in client.events(agent_id)]


async def until(
    client: Client, agent_id: str, fits: Callable[[RecordedEvent], bool], timeout: float = 20
) -> RecordedEvent:
    """The first event of the agent that fits, whether it has been or is to come."""
    async with asyncio.timeout(timeout):
        async for recorded in client.events(agent_id, follow=True):
            if fits(recorded):
                return recorded
    raise AssertionError("unreachable")


async def settled(client: Client, agent_id: str) -> RecordedEvent:
    """The newest event of an agent that was spawned and has nothing to do. Its session starts a while after it, sooner
    if the session server runs already; from then on nothing happens by itself.
    """
    return await until(client, agent_id, lambda recorded: isinstance(recorded.event, SessionStarted))


async def pid_of(client: Client, agent_id: str) -> int:
    """The agent's newest process."""
    return [event.pid for event in await history(client, agent_id) if isinstance(event, AgentSpawned)][-1]


async def fetch(node: Node, path: str) -> tuple[int, str]:
    """What a node answers to GET."""

    def get() -> tuple[int, str]:
        try:
            with urlopen(f"{node.runtime['http_url']}{path}", timeout=20) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            return error.code, error.read().decode()

    return await asyncio.to_thread(get)
