"""What can be read: live views, tables, queries, event streams and streamed output."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import asyncpg
import msgspec

from l02.client.client import Client, ExecutionResult
from l02.domain.agent.life.spawning import SpawnRequested
from l02.domain.agent.work.effects import EffectRecorded
from l02.node.running import Node
from tests.runtime.conftest import Raw, history, settled, until

Spawn = Callable[..., Awaitable[str]]


async def test_streamed_output_also_for_who_comes_late(client: Client, spawn: Spawn) -> None:
    agent_id = await spawn()
    steps = [["emit", "one "], ["emit", "two "], ["sleep", 0.1], ["emit", "three"]]
    pieces = [piece async for piece in client.stream(agent_id, {"steps": steps})]
    assert pieces[:-1] == ["one ", "two ", "three"]
    result = pieces[-1]
    assert isinstance(result, ExecutionResult)
    assert [piece async for piece in client.tokens(agent_id, result.execution_id)] == ["one ", "two ", "three"]
    assert [piece async for piece in client.tokens(agent_id, result.execution_id, start=2)] == ["three"]


async def test_streamed_output_is_not_doubled_by_a_crash(client: Client, spawn: Spawn) -> None:
    import os
    import signal

    from tests.runtime.conftest import pid_of

    agent_id = await spawn()
    steps = [["emit", "one "], ["emit", "two "], ["sleep", 1], ["emit", "three"]]
    pieces: list[str | ExecutionResult] = []

    async def read() -> None:
        async for piece in client.stream(agent_id, {"steps": steps}):
            pieces.append(piece)

    reading = asyncio.create_task(read())
    await until(client, agent_id, lambda recorded: isinstance(recorded.event, EffectRecorded))
    os.kill(await pid_of(client, agent_id), signal.SIGKILL)
    await reading
    assert pieces[:-1] == ["one ", "two ", "three"]


async def test_views_are_the_tables(client: Client, node: Node, spawn: Spawn) -> None:
    agent_id = await spawn()
    await settled(client, agent_id)
    await client.execute(agent_id, {"steps": [["count"], ["tool", "add", {"a": 1, "b": 1}]]})
    newest = [recorded.sequence async for recorded in client.events(agent_id)][-1]
    for name in ("agents", "executions", "views"):
        await node.parts.read_model.wait_for(name, newest)
    bucket = await node.parts.bus.jetstream.key_value("l02_views")
    live = (await bucket.get(f"agent.{agent_id}")).value
    connection = await asyncpg.connect(node.runtime["postgres_url"])
    try:
        table = await connection.fetchval("SELECT view::text FROM l02.agents WHERE id = $1", agent_id)
        executions = await connection.fetchval("SELECT count(*) FROM l02.executions WHERE agent_id = $1", agent_id)
    finally:
        await connection.close()
    assert live is not None
    assert live.decode() == table
    assert executions == 1
    assert msgspec.json.decode(live)["sequence"] == newest


async def test_events_are_cloud_events(node: Node, client: Client, spawn: Spawn) -> None:
    agent_id = await spawn()
    message = await node.parts.bus.jetstream.get_last_msg("L02_EVENTS", f"l02.evt.agent.{agent_id}.spawned")
    event = msgspec.json.decode(message.data or b"")
    assert event["specversion"] == "1.0"
    assert event["source"] == "l02-agent-runtime"
    assert event["type"] == "agent.spawned"
    assert event["subject"] == f"agent/{agent_id}"
    assert (event["version"], event["schemaversion"], event["datacontenttype"]) == (2, 1, "application/json")
    requested = (await history(client, agent_id))[0]
    assert isinstance(requested, SpawnRequested)
    assert requested.requested_by == "tests"


async def test_queries(raw: Raw, spawn: Spawn) -> None:
    agent_id = await spawn()
    got = await raw.request("agent.get", {"id": agent_id})
    assert (got["ok"], got["result"]["id"], got["result"]["state"]) == (True, agent_id, "running")
    missing = await raw.request("agent.get", {"id": "nobody"})
    assert missing["error"]["code"] == "E2111"
    listed = await raw.request("agent.list", {"state": "running", "limit": 1000})
    assert agent_id in [view["id"] for view in listed["result"]]
    nodes = await raw.request("node.list", {})
    assert len(nodes["result"]) == 1
    read = await raw.request("events.read", {"id": agent_id})
    types = [event["type"] for event in read["result"]["events"]]
    assert types[:2] == ["agent.spawn.requested", "agent.spawned"]
    assert set(types[2:]) <= {"agent.session.started"}, "which comes by itself, soon"
    read = await raw.request("events.read", {"type": "agent.spawned", "after": 0, "limit": 1})
    assert len(read["result"]["events"]) == 1


async def test_the_audit_stream_cannot_be_emptied(node: Node) -> None:
    for operation in ("PURGE", "MSG.DELETE"):
        reply = await node.parts.bus.client.request(f"$JS.API.STREAM.{operation}.L02_EVENTS", b'{"seq": 1}')
        assert "error" in msgspec.json.decode(reply.data)


async def test_a_watcher_sees_the_state_change(client: Client, spawn: Spawn) -> None:
    agent_id = await spawn()
    seen: list[str] = []

    async def watch() -> None:
        async for view in client.watch(agent_id):
            seen.append(view.state.value)
            if view.state.value == "suspended":
                return

    watching = asyncio.create_task(watch())
    await client.suspend(agent_id)
    async with asyncio.timeout(10):
        await watching
    assert seen[-1] == "suspended"
