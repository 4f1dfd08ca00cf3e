"""A node with servers and an endpoint of its own, shared by the tests; each test makes agents of its own."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest_asyncio

from l02.bus.wire.subjects import stream_subject
from l02.client.client import Client
from l02.domain.agent.work.models import ModelCalled, ModelRequested
from l02.domain.kernel.message import Event
from l02.handlers.models.settings import Defaults, model_settings
from l02.handlers.state.settings import StateSettings
from l02.node.running import Node, running_node
from l02.node.settings import Settings
from tests.models.endpoint import ScriptedEndpoint, scripted_endpoint

AGENTS = Path(__file__).parent / "agents"
PRICE = {"input": 1.0, "output": 2.0}


def asker(**more: Any) -> dict[str, Any]:
    """The specification of an agent that asks what it is told to."""
    return {
        "name": "asker",
        "entrypoint": str(AGENTS / "asker.py"),
        "models": ["small", "large"],
        "lifecycle": {"restart_delay_seconds": [0.05]},
    } | more


def ask(text: str = "hi", model: str = "small", **request: Any) -> list[Any]:
    """A step of the agent's."""
    return ["ask", {"messages": text, "model": model, **request}]


async def have_models(node: Node, url: str) -> None:
    """Two aliases that lead to the endpoint."""
    entry = {"endpoint": url, "model": "any", "price": PRICE, "max_output": 1000}
    await node.parts.models.set(model_settings({"small": [entry], "large": [entry]}, Defaults(), Path.cwd()))


@pytest_asyncio.fixture(scope="session")
async def node(tmp_path_factory: Any) -> AsyncIterator[Node]:
    settings = Settings(
        data_dir=tmp_path_factory.mktemp("node") / "data",
        state=StateSettings(auto_checkpoint_interval_seconds=0),
    )
    async with running_node(settings) as running:
        yield running


@pytest_asyncio.fixture(scope="session")
async def client(node: Node) -> AsyncIterator[Client]:
    async with Client.connect(nats_url=node.runtime["nats_url"], actor="tests") as connected:
        yield connected


@pytest_asyncio.fixture
async def endpoint(node: Node) -> AsyncIterator[ScriptedEndpoint]:
    async with scripted_endpoint() as server:
        await have_models(node, server.url)
        yield server


@pytest_asyncio.fixture
async def spawn(client: Client) -> AsyncIterator[Callable[..., Awaitable[str]]]:
    """Make agents; those that live at the end of the test are terminated."""
    made: list[str] = []

    async def make(**more: Any) -> str:
        made.append(f"a{uuid.uuid4().hex[:10]}")
        await client.spawn(asker(**more), id=made[-1])
        return made[-1]

    yield make
    for agent_id in made:
        if (await client.get(agent_id)).state.value not in ("terminated", "failed"):
            await client.terminate(agent_id, force=True)


Spawn = Callable[..., Awaitable[str]]


async def history(client: Client, agent_id: str) -> list[Event]:
    """All that has happened to an agent."""
    return [recorded.event async for recorded in client.events(agent_id)]


async def model_events(client: Client, agent_id: str) -> list[ModelRequested | ModelCalled]:
    """What it has asked of models, and what came of it."""
    return [event for event in await history(client, agent_id) if isinstance(event, ModelRequested | ModelCalled)]


class Heard:
    """All that is streamed for an agent, as any NATS client hears it."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self._news = asyncio.Condition()

    async def take(self, message: Any) -> None:
        async with self._news:
            self.messages.append(msgspec.json.decode(message.data))
            self._news.notify_all()

    async def until(self, fits: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first that fits, waited for."""
        async with asyncio.timeout(20), self._news:
            await self._news.wait_for(lambda: any(map(fits, self.messages)))
        return next(filter(fits, self.messages))

    def texts(self) -> list[str]:
        """What counts in the end, piece by piece; numbers have no gaps, and none comes twice."""
        assert [message["n"] for message in self.messages] == [*range(len(self.messages))]
        standing: dict[int, str] = {}
        for message in self.messages:
            if "void_from" in message:
                standing = {n: text for n, text in standing.items() if n < message["void_from"]}
            elif "delta" in message:
                standing[message["n"]] = message["delta"]
        return [*standing.values()]


@pytest_asyncio.fixture
async def listen(node: Node) -> AsyncIterator[Callable[[str], Awaitable[Heard]]]:
    """Hear what is streamed for an agent from now on."""
    bus = node.parts.bus
    subscriptions = []

    async def begin(agent_id: str) -> Heard:
        heard = Heard()
        subscriptions.append(await bus.client.subscribe(stream_subject(agent_id, "*"), cb=heard.take))
        await bus.client.flush()
        return heard

    yield begin
    for subscription in subscriptions:
        await subscription.unsubscribe()


Listen = Callable[[str], Awaitable[Heard]]
