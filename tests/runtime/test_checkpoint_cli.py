"""The commands about checkpoints, as a person gives them."""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable
from typing import Any

from l02.client.client import Client
from l02.node.running import Node
from tests.forked_cli import forked_cli
from tests.runtime.test_checkpoints import COUNT, killed_in_mid_call

Spawn = Callable[..., Awaitable[str]]


async def l02(node: Node, *words: str) -> tuple[int, str, str]:
    """Exit code, output and errors."""
    return await forked_cli(*words, environment=os.environ | {"L02_NATS_URL": node.runtime["nats_url"]})


async def as_json(node: Node, *words: str) -> Any:
    code, output, errors = await l02(node, *words, "--json")
    assert code == 0, errors
    return json.loads(output)


async def test_take_list_go_back(node: Node, client: Client, spawn: Spawn) -> None:
    agent_id = await spawn()
    await client.execute(agent_id, COUNT)
    code, output, _ = await l02(node, "checkpoint", agent_id, "--label", "before the move")
    checkpoint_id = output.strip()
    assert code == 0
    _, output, _ = await l02(node, "checkpoints", agent_id)
    assert checkpoint_id in output
    assert "before the move" in output
    (listed,) = await as_json(node, "checkpoints", agent_id)
    assert (listed["checkpoint_id"], listed["state"]) == (checkpoint_id, "stored")
    assert "is still as it was" in (await l02(node, "restore", agent_id, checkpoint_id))[1]
    await client.execute(agent_id, COUNT)
    assert "is as it was" in (await l02(node, "restore", agent_id, checkpoint_id))[1]
    assert f"checkpoint  {checkpoint_id}" in (await l02(node, "show", agent_id))[1]
    assert (await client.execute(agent_id, COUNT)).output == [2]
    await client.suspend(agent_id)
    assert (await as_json(node, "resume", agent_id, "--checkpoint", checkpoint_id))["ok"]
    assert (await client.execute(agent_id, COUNT)).output == [2]
    code, _, errors = await l02(node, "restore", agent_id, "nothing")
    assert code == 1
    assert "E2032" in errors
    assert "l02 checkpoints" in errors


async def test_fork(node: Node, client: Client, spawn: Spawn) -> None:
    agent_id = await spawn()
    await client.execute(agent_id, COUNT)
    checkpoint_id = await client.checkpoint(agent_id)
    sequence = [recorded.sequence async for recorded in client.events(agent_id)][-1]
    for point in (str(sequence), checkpoint_id):
        forked = f"{agent_id}-{point}"[:60]
        assert "runs on" in (await l02(node, "fork", agent_id, "--at", point, "--id", forked))[1]
        assert (await client.execute(forked, COUNT)).output == [2]
        await client.terminate(forked)
    forked = (await as_json(node, "fork", agent_id))["agent_id"]
    assert forked.startswith(f"{agent_id}-")
    await client.terminate(forked)


async def test_a_person_says_what_became_of_a_call(node: Node, client: Client, spawn: Spawn) -> None:
    agent_id = await spawn()
    execution_id = await killed_in_mid_call(client, agent_id)
    assert await as_json(node, "resume", agent_id, "--assume", "done", "--result", '{"sent": true}') == {
        "execution_id": execution_id,
        "output": [{"sent": True}, 1],
    }
    await killed_in_mid_call(client, agent_id)
    code, output, _ = await l02(node, "resume", agent_id, "--assume", "not-done")
    assert code == 0
    assert json.loads(output) == [1, 2]
    code, _, errors = await l02(node, "resume", agent_id, "--assume", "not-done", "--result", "1")
    assert code == 2
    assert "--result belongs to --assume done" in errors
