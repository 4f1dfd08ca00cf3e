"""A node that dies, stops or hangs is noticed by its lease; its agents go on elsewhere, and nothing is done twice."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from l02.client.client import Client
from l02.domain.agent.life.spawning import AgentSpawned
from l02.domain.errors import ErrorCode, Failure
from l02.domain.kernel.message import Event
from l02.domain.node.state import NodeStatus
from l02.verify import verify
from tests.effects import effects
from tests.nodes.conftest import Cluster, are_running, both_share, events_of, has_called, nodes_by_state, until

Spawn = Callable[..., Awaitable[dict[str, str]]]
EACH = 5


def steps(agent_id: str) -> dict[str, Any]:
    """Two notes in the ledger, with a pause between them in which a node can die."""
    return {
        "steps": [
            ["tool", "note", {"text": f"{agent_id} one"}],
            ["random"],
            ["sleep", 4],
            ["tool", "add", {"a": 1, "b": 2}],
            ["tool", "note", {"text": f"{agent_id} two"}],
        ]
    }


async def assert_as_if_nothing_had_happened(
    client: Client, cluster: Cluster, agent_ids: list[str], outputs: list[Any]
) -> None:
    for agent_id, output in zip(agent_ids, outputs, strict=True):
        [random] = [entry.result for entry in effects(await events_of(client, agent_id, Event), "random")]
        assert output == [f"noted {agent_id} one", random, None, 3, f"noted {agent_id} two"]
    expected = [f"{agent_id} {number}" for agent_id in agent_ids for number in ("one", "two")]
    assert Counter(cluster.noted()) == dict.fromkeys(expected, 1)
    differences: list[object] = []
    await verify(client._bus, cluster.postgres_url, differences.append)
    assert differences == []


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "told to stop"])
async def test_agents_of_a_node_that_is_gone_go_on_elsewhere(
    cluster: Cluster, client: Client, spawn: Spawn, how: signal.Signals
) -> None:
    async with cluster.node("one") as one, cluster.node("two") as two:
        await until(lambda: both_share(client))
        spawned = await spawn(EACH)
        ids = list(spawned)
        work = [asyncio.create_task(client.execute(agent_id, steps(agent_id))) for agent_id in ids]
        for agent_id in ids:
            await until(lambda agent_id=agent_id: has_called(client, agent_id, 1))  # type: ignore[misc]
        one.send(how)
        began = asyncio.get_running_loop().time()
        outputs = [result.output for result in await asyncio.gather(*work)]
        assert asyncio.get_running_loop().time() - began < 30
        assert await are_running(client, ids, two.node_id)
        gone = NodeStatus.LOST if how is signal.SIGKILL else NodeStatus.LEFT
        assert await nodes_by_state(client) == {one.node_id: gone, two.node_id: NodeStatus.JOINED}
        await assert_as_if_nothing_had_happened(client, cluster, ids, outputs)


async def test_a_node_that_was_taken_for_dead_and_goes_on_can_write_nothing(
    cluster: Cluster, client: Client, spawn: Spawn
) -> None:
    async with cluster.node("one") as one, cluster.node("two") as two:
        await until(lambda: both_share(client))
        spawned = await spawn(EACH)
        ids = list(spawned)
        work = [asyncio.create_task(client.execute(agent_id, steps(agent_id))) for agent_id in ids]
        for agent_id in ids:
            await until(lambda agent_id=agent_id: has_called(client, agent_id, 1))  # type: ignore[misc]
        one.send(signal.SIGSTOP)
        moved = [agent_id for agent_id, node_id in spawned.items() if node_id == one.node_id]
        await until(lambda: are_running(client, moved, two.node_id))
        one.send(signal.SIGCONT)
        outputs = [result.output for result in await asyncio.gather(*work)]
        await until(lambda: both_share(client))
        await assert_as_if_nothing_had_happened(client, cluster, ids, outputs)
        # What it had believed to own, it has let go of: the processes of agents that moved are gone.
        for agent_id in moved:
            first, *_ = await events_of(client, agent_id, AgentSpawned)
            await until(lambda pid=first.pid: _is_gone(pid))  # type: ignore[misc]


async def test_a_call_that_a_node_was_about_to_make_when_it_was_taken_for_dead_is_not_made(
    cluster: Cluster, client: Client, spawn: Spawn
) -> None:
    """It waits for its turn, which comes when the node goes on."""
    async with cluster.node("one") as one, cluster.node("two") as two:
        await until(lambda: both_share(client))
        spawned = await spawn(1, executor={"max_concurrent_tools": 1})
        [agent_id] = [agent_id for agent_id, node_id in spawned.items() if node_id == one.node_id]
        notes = [["note", {"text": "first", "seconds": 3}], ["note", {"text": "second"}]]
        work = asyncio.create_task(client.execute(agent_id, {"steps": [["gather", *notes]]}))
        await until(lambda: _is_noted(cluster, "first"))
        one.send(signal.SIGSTOP)
        with pytest.raises(Failure, match="not declared idempotent"):
            await work
        await until(lambda: are_running(client, [agent_id], two.node_id))
        one.send(signal.SIGCONT)
        first, *_ = await events_of(client, agent_id, AgentSpawned)
        await until(lambda: _is_gone(first.pid))
        await until(lambda: both_share(client))
    assert cluster.noted() == ["first"]


async def test_a_call_under_way_that_must_not_be_made_twice_asks_a_person(
    cluster: Cluster, client: Client, spawn: Spawn
) -> None:
    async with cluster.node("one") as one:
        [agent_id] = await spawn(1)
        work = asyncio.create_task(
            client.execute(agent_id, {"steps": [["tool", "note", {"text": "mail", "seconds": 3600}]]})
        )
        await until(lambda: _is_noted(cluster, "mail"))
        async with cluster.node("two") as two:
            await until(lambda: both_share(client))
            one.send(signal.SIGKILL)
            with pytest.raises(Failure, match="not declared idempotent") as caught:
                await work
            assert caught.value.code is ErrorCode.TOOL_INVOCATION_FAILED
            assert await are_running(client, [agent_id], two.node_id)
            assert (await client.execute(agent_id, "and now?")).output == "and now?"
    assert cluster.noted() == ["mail"]


async def test_an_agent_that_was_to_end_is_ended_by_who_takes_it_over(
    cluster: Cluster, client: Client, spawn: Spawn
) -> None:
    async with cluster.node("one") as one, cluster.node("two"):
        await until(lambda: both_share(client))
        spawned = await spawn(EACH)
        ids = [agent_id for agent_id, node_id in spawned.items() if node_id == one.node_id]
        one.send(signal.SIGSTOP)
        ending = [asyncio.create_task(client.terminate(agent_id)) for agent_id in ids]
        one.send(signal.SIGKILL)
        await asyncio.gather(*ending)
        for agent_id in ids:
            assert (await client.get(agent_id)).state.value == "terminated"


async def test_a_node_that_comes_back_does_its_share_again(cluster: Cluster, client: Client, spawn: Spawn) -> None:
    async with cluster.node("two") as two:
        async with cluster.node("one") as one:
            await until(lambda: both_share(client))
            spawned = await spawn(EACH)
        await until(lambda: are_running(client, list(spawned), two.node_id))
        async with cluster.node("one") as again:
            assert again.node_id == one.node_id
            await until(lambda: both_share(client))
            results = await asyncio.gather(*(client.execute(agent_id, agent_id) for agent_id in spawned))
            assert [result.output for result in results] == list(spawned)

            async def has_work() -> bool:
                agent_id = f"b{os.urandom(4).hex()}"
                return (await client.spawn(cluster.agent(), id=agent_id)).node_id == again.node_id

            await until(has_work)


async def _is_noted(cluster: Cluster, text: str) -> bool:
    return text in cluster.noted()


async def _is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False
