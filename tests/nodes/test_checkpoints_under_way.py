"""A node dies (-9) while it stores an agent's checkpoint, or brings it back to one: another node does it, once.

Whoever has asked is told how it ended, the agent goes on, and nothing is left to be done by a node that is gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from l02.client.client import Client
from l02.domain.agent.life.spawning import AgentSpawned
from l02.domain.agent.life.suspension import AgentSuspended
from l02.domain.agent.saved.checkpoints import CheckpointCreated
from l02.domain.agent.saved.restoring import CheckpointRestored
from l02.domain.agent.state import Status
from l02.verify import verify
from tests.nodes.conftest import Cluster, RunningNode, _falls_to, both_share, events_of, until
from tests.stored_checkpoints import stored_checkpoints

Spawn = Callable[[int], Awaitable[dict[str, str]]]
COUNT: dict[str, Any] = {"steps": [["count"]]}
STORING = pytest.mark.parametrize("place", ["before it is stored", "before it is reported"])


@asynccontextmanager
async def one_that_dies(cluster: Cluster, client: Client, spawn: Spawn, place: str) -> AsyncIterator[Any]:
    """An agent that has counted to one on a node that will die there, and the node that will be left."""
    async with cluster.node("one", dies=place) as one, cluster.node("two") as two:
        await until(lambda: both_share(client))
        (agent_id,) = (agent_id for agent_id, node_id in (await spawn(1)).items() if node_id == one.node_id)
        assert (await client.execute(agent_id, COUNT)).output == [1]
        yield agent_id, one, two
        differences: list[object] = []
        await verify(client._bus, cluster.postgres_url, differences.append, patience=30)
        assert differences == []


async def is_dead(node: RunningNode) -> None:
    async with asyncio.timeout(30):
        await node.process.wait()


async def settled(client: Client, agent_id: str, state: Status, node_id: str | None = None) -> None:
    """Wait until the agent is in this state, on this node, and nothing is to be done for it."""

    async def is_so() -> bool:
        view = await client.get(agent_id)
        return view.state is state and node_id in (None, view.node_id) and not view.checkpoints_under_way

    await until(is_so)


async def stored(cluster: Cluster, agent_id: str) -> list[str]:
    """What PostgreSQL has of the agent's checkpoints, each version of each."""
    return await stored_checkpoints(cluster.postgres_url, agent_id)


@STORING
async def test_a_checkpoint(cluster: Cluster, client: Client, spawn: Spawn, place: str) -> None:
    async with one_that_dies(cluster, client, spawn, place) as (agent_id, one, two):
        asked = asyncio.create_task(client.checkpoint(agent_id, command_id="k1"))
        await is_dead(one)
        async with asyncio.timeout(30):
            assert await asked == "k1"
        await settled(client, agent_id, Status.RUNNING, two.node_id)
        await until(lambda: _is(stored(cluster, agent_id), ["k1"]))
        assert (await client.execute(agent_id, COUNT)).output == [2]
        await client.restore(agent_id, "k1")
        assert (await client.execute(agent_id, COUNT)).output == [2]
        assert len(await events_of(client, agent_id, CheckpointCreated)) == 1


@STORING
async def test_a_suspended_agent(cluster: Cluster, client: Client, spawn: Spawn, place: str) -> None:
    """It has no process that would be missed, but a checkpoint that is to be stored, and somebody who waits for one."""
    async with one_that_dies(cluster, client, spawn, place) as (agent_id, one, two):
        suspended = asyncio.create_task(client.suspend(agent_id, command_id="k1"))
        asked = asyncio.create_task(client.checkpoint(agent_id, command_id="k2"))
        await is_dead(one)
        async with asyncio.timeout(30):
            assert (await suspended).ok
            named = await asked
        await settled(client, agent_id, Status.SUSPENDED)
        assert named in await stored(cluster, agent_id)
        (event,) = await events_of(client, agent_id, AgentSuspended)
        assert event.checkpoint_id in await stored(cluster, agent_id)
        assert len(await events_of(client, agent_id, AgentSpawned)) == 1
        await client.resume(agent_id)
        assert (await client.execute(agent_id, COUNT)).output == [2]
        await settled(client, agent_id, Status.RUNNING, two.node_id)


@pytest.mark.parametrize("state", [Status.RUNNING, Status.SUSPENDED])
async def test_going_back(cluster: Cluster, client: Client, spawn: Spawn, state: Status) -> None:
    async with one_that_dies(cluster, client, spawn, "before it is read") as (agent_id, one, two):
        checkpoint_id = await client.checkpoint(agent_id)
        assert (await client.execute(agent_id, COUNT)).output == [2]
        if state is Status.SUSPENDED:
            await client.suspend(agent_id)
            await settled(client, agent_id, Status.SUSPENDED)
        asked = asyncio.create_task(client.restore(agent_id, checkpoint_id))
        await is_dead(one)
        async with asyncio.timeout(30):
            assert (await asked).events == ["agent.checkpoint.restored"]
        await settled(client, agent_id, state)
        if state is Status.SUSPENDED:
            await client.resume(agent_id)
        assert (await client.execute(agent_id, COUNT)).output == [2]
        await settled(client, agent_id, Status.RUNNING, two.node_id)
        assert len(await events_of(client, agent_id, CheckpointRestored)) == 1


async def test_a_resume_from_a_checkpoint(cluster: Cluster, client: Client, spawn: Spawn) -> None:
    async with one_that_dies(cluster, client, spawn, "before it is read") as (agent_id, one, two):
        checkpoint_id = await client.checkpoint(agent_id)
        assert (await client.execute(agent_id, COUNT)).output == [2]
        await client.suspend(agent_id)
        await settled(client, agent_id, Status.SUSPENDED)
        asked = asyncio.create_task(client.resume(agent_id, checkpoint_id=checkpoint_id))
        await is_dead(one)
        async with asyncio.timeout(30):
            assert (await asked).ok
        await settled(client, agent_id, Status.RUNNING, two.node_id)
        assert (await client.execute(agent_id, COUNT)).output == [2]


async def test_an_agent_of_a_node_that_lives(cluster: Cluster, client: Client) -> None:
    """Its commands have gone to a node that came later, and dies: the agent itself is not touched."""
    async with cluster.node("two") as two:
        ids = [f"a{number}" for number in range(40)]
        await asyncio.gather(*(client.spawn(cluster.agent(), id=agent_id) for agent_id in ids))
        async with cluster.node("one", dies="before it is stored") as one:
            await until(lambda: both_share(client))
            agent_id = next(name for name in ids if _falls_to(name, [one.node_id, two.node_id]) == one.node_id)
            asked = asyncio.create_task(client.checkpoint(agent_id, command_id="k1"))
            await is_dead(one)
        async with asyncio.timeout(30):
            assert await asked == "k1"
        await settled(client, agent_id, Status.RUNNING, two.node_id)
        assert len(await events_of(client, agent_id, AgentSpawned)) == 1


async def _is(found: Awaitable[object], wanted: object) -> bool:
    return await found == wanted
