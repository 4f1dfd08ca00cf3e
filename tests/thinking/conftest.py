"""A whole node whose models are a scripted endpoint, shared by the tests; each makes an agent of its own."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest_asyncio

from l02.client.client import Client
from l02.handlers.models.settings import Defaults, model_settings
from l02.handlers.state.settings import StateSettings
from l02.node.running import Node, running_node
from l02.node.settings import Settings
from tests.models.endpoint import ScriptedEndpoint, scripted_endpoint


@pytest_asyncio.fixture(scope="session")
async def endpoint() -> AsyncIterator[ScriptedEndpoint]:
    async with scripted_endpoint() as served:
        yield served


@pytest_asyncio.fixture(scope="session")
async def node(endpoint: ScriptedEndpoint, tmp_path_factory: Any) -> AsyncIterator[Node]:
    one = {"endpoint": endpoint.url, "model": "scripted", "context_window": 32_000, "max_output": 1000}
    models = {"small": [one], "responses": [one | {"api": "responses"}], "claude": [one | {"api": "anthropic"}]}
    settings = Settings(
        data_dir=tmp_path_factory.mktemp("thinking") / "data",
        state=StateSettings(auto_checkpoint_interval_seconds=0),
        models=model_settings(models, Defaults(), Path()),
    )
    async with running_node(settings) as running:
        yield running


@pytest_asyncio.fixture(scope="session")
async def client(node: Node) -> AsyncIterator[Client]:
    async with Client.connect(nats_url=node.runtime["nats_url"], actor="tests") as connected:
        yield connected


@pytest_asyncio.fixture
async def spawn(client: Client, endpoint: ScriptedEndpoint) -> AsyncIterator[Callable[..., Awaitable[str]]]:
    """Make agents of the model `small`; the endpoint has been asked nothing yet."""
    endpoint.requests.clear()
    made: list[str] = []

    async def make(model: dict[str, Any] | None = None, **more: Any) -> str:
        agent_id = f"a{uuid.uuid4().hex[:10]}"
        specification = {
            "name": "thinker",
            "model": {"alias": "small"} | (model or {}),
            "lifecycle": {"restart_delay_seconds": [0.05]},
            "resource_limits": {"tokens_per_hour": None},
        }
        await client.spawn(specification | more, id=agent_id)
        made.append(agent_id)
        return agent_id

    yield make
    for agent_id in made:
        if (await client.get(agent_id)).state.value not in ("terminated", "failed"):
            await client.terminate(agent_id)
