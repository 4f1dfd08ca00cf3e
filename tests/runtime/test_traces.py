"""A client's trace goes with its command through all that a node does on account of it."""

from __future__ import annotations

import os
import signal
import uuid

import msgspec

from l02.client.client import Client
from l02.domain.agent.life.spawning import AgentSpawned
from tests.runtime.conftest import Raw, pid_of, until, worker


def traceparent() -> str:
    return f"00-{uuid.uuid4().hex}-{uuid.uuid4().hex[:16]}-01"


async def test_spawn_execution_effects_checkpoint_and_restart_stand_in_the_trace_they_belong_to(
    client: Client, raw: Raw
) -> None:
    agent_id = f"a{uuid.uuid4().hex[:10]}"
    born, work, saved = traceparent(), traceparent(), traceparent()

    async def tell(verb: str, body: object, trace: str) -> None:
        subject, data = f"l02.cmd.agent.{agent_id}.{verb}", msgspec.json.encode(body)
        assert (await raw.publish(subject, data, headers={"traceparent": trace})).ok

    async def traces() -> dict[str, set[str | None]]:
        found: dict[str, set[str | None]] = {}
        async for recorded in client.events(agent_id):
            found.setdefault(recorded.event.type.removeprefix("agent."), set()).add(recorded.metadata.traceparent)
        return found

    await tell("spawn", {"spec": worker()}, born)
    await tell("execute", {"input": {"steps": [["tool", "mark", {"name": "x"}], ["now"], ["checkpoint", "c"]]}}, work)
    await tell("checkpoint", {"label": "saved"}, saved)
    pid = await pid_of(client, agent_id)
    os.kill(pid, signal.SIGKILL)
    await until(client, agent_id, lambda item: isinstance(item.event, AgentSpawned) and item.event.pid != pid)
    found = await traces()
    await client.terminate(agent_id)
    belonging = {
        "spawn.requested": {born},
        "spawned": {born},
        "restarted": {born},
        "execution.started": {work},
        "tool.requested": {work},
        "tool.called": {work},
        "execution.completed": {work},
    }
    assert {name: found[name] for name in belonging} == belonging
    assert set().union(*(value for name, value in found.items() if name.startswith("checkpoint"))) == {work, saved}
    assert None not in set().union(*found.values())
