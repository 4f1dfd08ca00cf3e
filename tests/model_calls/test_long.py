"""A long conversation adds what is new in it to what is stored, and not its square."""

from __future__ import annotations

import msgspec

from l02.client.client import Client
from l02.domain.agent.work.models import ModelRequested
from l02.node.running import Node
from tests.model_calls.conftest import Spawn, model_events
from tests.models.endpoint import Answer, Asked, ScriptedEndpoint
from tests.models.shapes import Say

_ROUNDS = 100
_CHARACTERS = 8_000
"""Of each round: 200,000 tokens at the end, of four characters each."""


async def stored_bytes(node: Node) -> dict[str, int]:
    """All that JetStream keeps, objects and snapshots too."""
    return {info.config.name or "": info.state.bytes for info in await node.parts.bus.jetstream.streams_info()}


async def test_a_hundred_rounds_of_a_conversation_that_grows(
    client: Client, node: Node, spawn: Spawn, endpoint: ScriptedEndpoint
) -> None:
    def script(asked: Asked) -> Answer:
        return Say("yes", usage=(len(asked.raw) // 4, 1))

    endpoint.script = script
    agent_id = await spawn(resource_limits={"tokens_per_hour": None})
    before = await stored_bytes(node)
    steps = [["grow", _ROUNDS, _CHARACTERS], ["die once"]]
    assert (await client.execute(agent_id, steps)).output == [2 * _ROUNDS + 1]
    after = await stored_bytes(node)
    assert len(endpoint.requests) == _ROUNDS, "after the crash it is replayed"
    assert len(endpoint.requests[-1].raw) > 4 * 200_000
    added = {name: after[name] - before.get(name, 0) for name in after}
    assert sum(added.values()) < 5_000_000, added
    requested = [event for event in await model_events(client, agent_id) if isinstance(event, ModelRequested)]
    assert len(requested) == _ROUNDS
    assert max(len(msgspec.json.encode(event)) for event in requested) < _CHARACTERS + 2_000
