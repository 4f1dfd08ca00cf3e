"""An event that this version cannot read: its agent stands still there and is shown so, everything else goes on."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest
from msgspec import UNSET

from l02.bus.commands.dead_letters import DeadLetter
from l02.bus.wire.codec import SetAside
from l02.client.client import Client
from l02.domain.agent.life.spawning import AgentSpawned
from l02.domain.errors import Failure
from l02.node.running import Node, running_node
from l02.node.settings import Settings
from tests.runtime.conftest import fetch, settled, until, worker


async def publish_unreadable(node: Node, client: Client) -> int:
    """An event of a2 that comes from a newer version of the runtime."""
    newest = await settled(client, "a2")
    spawned = await until(client, "a2", lambda recorded: isinstance(recorded.event, AgentSpawned))
    stored = await node.parts.bus.stored("L02_EVENTS", sequence=spawned.sequence)
    assert stored is not None
    raw = json.loads(stored.data) | {"version": newest.version + 1, "schemaversion": 9}
    ack = await node.parts.bus.publish((stored.headers or {})["Nats-Subject"], json.dumps(raw).encode())
    return ack.seq


async def parked_event(client: Client, consumer: str) -> DeadLetter:
    async with asyncio.timeout(20):
        while True:
            async for letter in client.dead_letters():
                if letter.is_event and letter.consumer == consumer:
                    return letter
            await asyncio.sleep(0.05)


async def test_the_rest_of_the_node_goes_on(data_dir: Path) -> None:
    settings = Settings(data_dir=data_dir)
    async with running_node(settings) as node, Client.connect(nats_url=node.runtime["nats_url"]) as client:
        for agent_id in ("a1", "a2"):
            await client.spawn(worker(), id=agent_id)
        assert await fetch(node, "/readyz") == (200, '{"status":"ready"}')
        sequence = await publish_unreadable(node, client)
        why = f"sequence {sequence}: agent.spawned has schema version 9, this node knows 1; upgrade this node"

        # Agents that are not concerned, and new ones, work as ever.
        assert (await client.execute("a1", {"steps": [["tool", "add", {"a": 1, "b": 2}]]})).output == [3]
        await client.spawn(worker(), id="a3")
        assert (await client.execute("a3", {"steps": [["count"]]})).output == [1]
        with pytest.raises(Failure, match="E2117.*schema version 9.*upgrade"):
            await client.signal("a2", "go")

        # The handler that would announce it has put it aside; it cannot do better until the upgrade.
        letter = await parked_event(client, "outcomes")
        assert (letter.consumer, letter.origin, letter.reason) == ("outcomes", sequence, why)
        with pytest.raises(Failure, match="E2117.*outcomes failed on event.*upgrade this node"):
            await client.retry_dead_letter(letter.sequence)
        letter = await parked_event(client, "projections")
        assert (letter.origin, letter.reason) == (sequence, why)

        # What is known of the agent is shown, and that it is not known further; so are all others as they are.
        assert (await client.get("a2")).halted_at == sequence
        assert [(view.id, view.state.value, view.halted_at) for view in await client.list()] == [
            ("a1", "running", UNSET),
            ("a2", "running", sequence),
            ("a3", "running", UNSET),
        ]
        assert await fetch(node, "/readyz") == (200, '{"status":"ready"}')
        status, page = await fetch(node, "/metrics")
        assert (status, 'agent_runtime_projection_halted{projection="agents"} 0.0' in page) == (200, True)
    async with running_node(settings) as node, Client.connect(nats_url=node.runtime["nats_url"]) as client:
        assert (await client.execute("a1", {"steps": [["count"]]})).output == [1]
        assert (await client.get("a2")).halted_at == sequence
        with pytest.raises(Failure, match="E2117.*schema version 9.*upgrade"):
            await client.terminate("a2")
        with pytest.raises(Failure, match="E2117.*schema version 9.*upgrade"):
            await client.fork("a2", id="a4")
        await client.fork("a2", id="a5", version=2)
        await client.fork("a2", id="a6", at=sequence - 1)
        for agent_id in ("a5", "a6"):
            assert (await client.execute(agent_id, {"steps": [["count"]]})).output == [1]
        told: list[SetAside] = []
        assert [recorded async for recorded in client.events("a2", since=sequence, unreadable=told.append)] == []
        assert [(aside.sequence, aside.reason) for aside in told] == [(sequence, why)]

        # Old files of agents that have ended go, and this one's stay: it may not have ended.
        agents = data_dir / "agents"
        others = [agents / f"gone{number}" for number in range(10)]
        for folder in (*others, agents / "a2"):
            folder.mkdir(exist_ok=True)
            for path in (*folder.iterdir(), folder):
                os.utime(path, (1.0, 1.0))
        await node.parts.lifecycle.remove_old_files(7 * 86_400.0)
        assert not any(folder.exists() for folder in others)
        assert (agents / "a2").is_dir()
