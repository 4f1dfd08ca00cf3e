"""A node reads the log once for all its handlers, whatever an earlier version has left."""

from __future__ import annotations

from pathlib import Path

from nats.js.api import AckPolicy, ConsumerConfig

from l02.bus.connection.streams import EVENTS_STREAM
from l02.client import Client
from l02.node.running import Node, running_node
from l02.node.settings import Settings
from tests.runtime.conftest import worker

HANDLERS = ("executor", "sessions", "lifecycle", "state")


async def durable_consumers(node: Node) -> list[str]:
    infos = await node.parts.bus.jetstream.consumers_info(EVENTS_STREAM)
    return [info.name for info in infos if info.config.durable_name]


async def test_one_durable_consumer_a_node(data_dir: Path) -> None:
    settings = Settings(data_dir=data_dir)
    async with running_node(settings) as node:
        node_id, bus = node.parts.node_id, node.parts.bus
        assert await durable_consumers(node) == [f"node-{node_id}"]
        for name in HANDLERS:
            config = ConsumerConfig(durable_name=f"{name}-{node_id}", ack_policy=AckPolicy.EXPLICIT)
            await bus.jetstream.add_consumer(EVENTS_STREAM, config)
    async with running_node(settings) as node, Client.connect(nats_url=node.runtime["nats_url"]) as client:
        assert await durable_consumers(node) == [f"node-{node_id}"]
        await client.spawn(worker(), id="a1")
        assert (await client.execute("a1", {"steps": [["count"]]})).output == [1]
