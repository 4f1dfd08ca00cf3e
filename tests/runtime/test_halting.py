"""An event that this version cannot read: the read models stand still and say so, everything else goes on."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from bus.dead_letters import DeadLetter
from domain.agent import events as e
from domain.errors import Failure
from l02.client import Client
from l02.node import Node, running_node
from l02.settings import NodeFailed, Settings
from projections.tables import TABLES
from tests.runtime.conftest import fetch, settled, until, worker


async def until_halted(node: Node, why: str) -> None:
    """Wait until the node says so of all its projections."""
    wanted = {f"{name} has halted: {why}" for name in (*TABLES, "views")}
    async with asyncio.timeout(20):
        while True:
            status, body = await fetch(node, "/readyz")
            said = json.loads(body)
            if wanted == set(said.get("reasons", ())):
                assert (status, said["status"]) == (503, "not ready")
                return
            await asyncio.sleep(0.05)


async def publish_unreadable(node: Node, client: Client) -> int:
    """An event of a2 that comes from a newer version of the runtime."""
    newest = await settled(client, "a2")
    spawned = await until(client, "a2", lambda recorded: isinstance(recorded.event, e.AgentSpawned))
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


async def test_the_rest_of_the_node_goes_on(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    async with running_node(settings) as node, Client.connect(nats_url=node.runtime["nats_url"]) as client:
        for agent_id in ("a1", "a2"):
            await client.spawn(worker(), id=agent_id)
        assert await fetch(node, "/readyz") == (200, '{"status":"ready"}')
        sequence = await publish_unreadable(node, client)
        why = f"sequence {sequence}: agent.spawned has schema version 9, this node knows 1; upgrade this node"
        await until_halted(node, why)
        assert node.parts.progress.position("agents") == sequence - 1, "what comes before it is projected"

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

        # Nobody is shown an old state as if it were the present one, and nothing is projected past the event.
        with pytest.raises(Failure, match="the read model has halted: .*schema version 9"):
            await client.get("a1")
        assert node.parts.progress.position("agents") == sequence - 1
        assert (await fetch(node, "/healthz"))[0] == 200
        status, page = await fetch(node, "/metrics")
        assert (status, 'agent_runtime_projection_halted{projection="agents"} 1.0' in page) == (200, True)
    with pytest.raises(NodeFailed, match="schema version 9.*upgrade this node"):
        async with running_node(settings):
            pass
