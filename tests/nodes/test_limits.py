"""Work that waits for a limit is still there when its node was killed, and goes on by itself when it may."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from l02.client.client import Client
from l02.domain.agent.life.suspension import AgentSuspended
from l02.domain.agent.work.blocking import BudgetGranted, BudgetWaiting
from l02.domain.agent.work.models import ModelCalled
from tests.model_calls.conftest import PRICE, ask, asker
from tests.models.endpoint import ScriptedEndpoint, scripted_endpoint
from tests.models.shapes import Say
from tests.nodes.conftest import Cluster
from tests.runtime.conftest import history, until

STEPS = [ask("one"), ask("two")]


@pytest_asyncio.fixture
async def endpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ScriptedEndpoint]:
    """That of the nodes' models."""
    async with scripted_endpoint() as server:
        server.script = lambda asked: Say("42", usage=(800, 500))
        entry = {"endpoint": server.url, "model": "any", "price": PRICE, "max_output": 1000}
        config = tmp_path / "l02.yaml"
        config.write_text(json.dumps({"models": {"small": [entry]}}))
        monkeypatch.setenv("L02_CONFIG", str(config))
        yield server


def limited(**more: Any) -> dict[str, Any]:
    return asker(models=["small"], **more)


async def suspended(client: Client, agent_id: str) -> None:
    await until(client, agent_id, lambda recorded: isinstance(recorded.event, AgentSuspended))


async def assert_asked_once(client: Client, endpoint: ScriptedEndpoint, work: asyncio.Task[Any]) -> None:
    assert [answer["text"] for answer in (await work).output] == ["42", "42"]
    assert [request.body["messages"][0]["content"] for request in endpoint.requests] == ["one", "two"]
    events = await history(client, "a1")
    assert len([event for event in events if isinstance(event, ModelCalled)]) == 2
    assert len([event for event in events if isinstance(event, BudgetWaiting)]) == 1
    assert len([event for event in events if isinstance(event, BudgetGranted)]) == 1


async def test_raised_while_its_node_is_dead_it_goes_on(
    cluster: Cluster, client: Client, endpoint: ScriptedEndpoint
) -> None:
    async with cluster.node("one") as node:
        limits = {"tokens_per_hour": 2400, "action": "suspend"}
        await client.spawn(limited(resource_limits=limits), id="a1")
        work = asyncio.create_task(client.execute("a1", STEPS))
        await suspended(client, "a1")
        await node.end()
    raised = asyncio.create_task(client.set_quota("a1", tokens_per_hour=20_000))
    async with cluster.node("one"):
        await raised
        await assert_asked_once(client, endpoint, work)


async def test_another_node_goes_on_with_it_when_its_budget_is_raised(
    cluster: Cluster, client: Client, endpoint: ScriptedEndpoint
) -> None:
    """A person was asked; the node that asked is gone for good."""
    async with cluster.node("one") as node:
        await client.configure_budget("team", tokens_per_hour=2400, action="ask")
        await client.spawn(limited(budget="team"), id="a1")
        work = asyncio.create_task(client.execute("a1", STEPS))
        await suspended(client, "a1")
        await node.end()
    async with cluster.node("two"):
        [question] = await client.questions()
        await client.grant(question.id, 10_000, how_long="always")
        await assert_asked_once(client, endpoint, work)
    [granted] = [event for event in await history(client, "a1") if isinstance(event, BudgetGranted)]
    assert (granted.granted, granted.by) == (10_000, "tests")
