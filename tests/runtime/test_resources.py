"""What an agent takes of the machine is seen: live, on the record where it has moved, and before a limit strikes."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from l02.bus.connection.leader import message_from_leader
from l02.bus.connection.streams import VIEWS_STREAM
from l02.bus.wire.subjects import usage_subject
from l02.client.client import Client
from l02.domain.agent.life.restarts import AgentRestarted
from l02.domain.agent.resources import LiveUsage, ResourceExceeded, ResourceUsageSeen, ResourceWarned
from l02.domain.agent.work.executions import ExecutionFailed
from l02.domain.errors import ErrorCode, Failure
from l02.domain.specification import ResourceLimits, validate_limits
from l02.handlers.resources.machine import LIVE_SECONDS
from l02.node.running import Node
from tests.runtime.conftest import fetch, history, until

Spawn = Callable[..., Awaitable[str]]


async def shown(node: Node, agent_id: str) -> LiveUsage | None:
    stored = await message_from_leader(node.parts.bus, VIEWS_STREAM, last_on=usage_subject(agent_id))
    return None if stored is None or not stored.data else msgspec.json.decode(stored.data, type=LiveUsage)


async def metrics(node: Node, agent_id: str) -> dict[str, float]:
    """What the node's page says of what the agent uses."""
    families = text_string_to_metric_families((await fetch(node, "/metrics"))[1])
    samples = [sample for family in families for sample in family.samples if "usage" in sample.name]
    return {sample.name: sample.value for sample in samples if sample.labels.get("agent_id") == agent_id}


async def of_type(client: Client, agent_id: str, *types: type[Any]) -> list[Any]:
    return [event for event in await history(client, agent_id) if isinstance(event, types)]


async def test_usage_is_shown_while_a_process_runs_and_recorded_when_it_has_moved(
    client: Client, node: Node, spawn: Spawn
) -> None:
    agent_id, machine = await spawn(resource_limits={"memory": "256Mi"}), node.parts.machine
    await machine.look(is_due=False)
    begun = await shown(node, agent_id)
    assert begun is not None
    assert (begun.id, begun.node_id, begun.incarnation) == (agent_id, node.parts.node_id, 1)
    assert begun.memory_bytes > 1 << 20
    assert await of_type(client, agent_id, ResourceUsageSeen) == []

    watched_by_the_node(node, agent_id)
    await machine.look(is_due=True)
    await machine.look(is_due=True)
    [first] = await of_type(client, agent_id, ResourceUsageSeen)
    assert first.memory_bytes > 1 << 20

    await client.execute(agent_id, {"steps": [["hold", 64], ["burn", 0.2]]})
    watched_by_the_node(node, agent_id)
    await machine.look(is_due=True)
    second = (await of_type(client, agent_id, ResourceUsageSeen))[-1]
    assert second.memory_bytes >= first.memory_bytes + (60 << 20)
    assert second.cpu_seconds >= first.cpu_seconds + 0.2
    now = await shown(node, agent_id)
    assert now is not None
    assert (now.memory_bytes, now.tokens) == (second.memory_bytes, second.tokens_consumed)
    assert now.tokens > 0
    assert (await client.get(agent_id)).usage.memory_peak_bytes >= second.memory_bytes
    assert await metrics(node, agent_id) == {
        "agent_runtime_memory_usage_bytes": second.memory_bytes,
        "agent_runtime_cpu_usage_seconds_total": now.cpu_seconds,
    }

    await client.terminate(agent_id)
    await machine.look(is_due=False)
    assert await shown(node, agent_id) is None
    assert await metrics(node, agent_id) == {}


async def test_an_agent_that_starts_during_a_look_does_not_end_it(node: Node, spawn: Spawn) -> None:
    await spawn()
    running = iter(node.parts.machine._processes.running)
    assert next(running)
    later = await spawn()
    assert later not in [*running], "what a look goes through does not change under its hands"


async def test_what_a_killed_node_has_left_standing_is_hidden_when_it_begins_anew(node: Node) -> None:
    bus, mine = node.parts.bus, node.parts.node_id
    ghosts = [
        LiveUsage(
            id=name,
            node_id=node_id,
            incarnation=1,
            at="",
            cpu_cores=0,
            cpu_seconds=0,
            memory_bytes=0,
            memory_peak_bytes=0,
            tokens=0,
            tokens_per_minute=0,
        )
        for name, node_id in (("ghost", mine), ("guest", "another"))
    ]
    for ghost in ghosts:
        await bus.jetstream.publish(usage_subject(ghost.id), msgspec.json.encode(ghost))
    await bus.jetstream.publish(usage_subject("noise"), b"\xff")
    await node.parts.machine._hide_those_of_before()
    assert await shown(node, "ghost") is None
    assert await shown(node, "guest") == ghosts[1]


async def test_a_look_at_two_thousand_at_rest_takes_little_of_a_core(node: Node, spawn: Spawn) -> None:
    await spawn()
    machine, looks = node.parts.machine, []
    await machine.look(is_due=False)
    for _ in range(100):
        began = time.thread_time()
        await machine.look(is_due=False)
        looks.append((time.thread_time() - began) / len(machine.live))
    assert 2_000 * sorted(looks)[50] / LIVE_SECONDS < 0.03


def watched_by_the_node(node: Node, agent_id: str) -> None:
    """What the watch does twice a second, now."""
    node.parts.machine._processes.running[agent_id]._sandboxed.watch()


async def test_memory_is_warned_of_once_for_each_threshold_and_then_ends_the_process(
    client: Client, node: Node, spawn: Spawn
) -> None:
    agent_id = await spawn(resource_limits={"memory": "200Mi"}, trust_level="trusted")
    warned: list[ResourceWarned] = []
    for _ in range(60):
        await client.execute(agent_id, {"steps": [["hold", 4]]})
        watched_by_the_node(node, agent_id)
        watched_by_the_node(node, agent_id)
        warned = await of_type(client, agent_id, ResourceWarned)
        if len(warned) == 2:
            break
    assert [event.threshold_percent for event in warned] == [80, 90]
    assert {(event.resource_type, event.limit) for event in warned} == {("memory", 200 << 20)}
    assert all(event.current_usage >= event.limit * event.threshold_percent / 100 for event in warned)
    await client.execute(agent_id, {"steps": [["hold", 60], ["signal", "never", None]]}, wait="accepted")
    ended = await until(client, agent_id, lambda recorded: isinstance(recorded.event, AgentRestarted))
    assert isinstance(ended.event, AgentRestarted)
    assert "E2071" in ended.event.cause and "limit of 200Mi" in ended.event.cause and "peak was" in ended.event.cause
    [exceeded] = await of_type(client, agent_id, ResourceExceeded)
    assert (exceeded.resource_type, exceeded.code, exceeded.limit) == ("memory", "E2071", 200 << 20)
    assert exceeded.actual > exceeded.limit


async def test_time_is_warned_of_before_it_is_over(client: Client, spawn: Spawn) -> None:
    agent_id = await spawn(resource_limits={"execution_seconds": 1.5})
    with pytest.raises(Failure) as failed:
        await client.execute(agent_id, {"steps": [["signal", "never", None]]})
    assert failed.value.code is ErrorCode.EXECUTION_TIMEOUT
    told = await of_type(client, agent_id, ResourceWarned, ExecutionFailed)
    assert [getattr(event, "threshold_percent", event.type) for event in told] == [80, 90, "agent.execution.failed"]
    assert [event.current_usage for event in told[:2]] == [1.2, 1.35]
    assert {event.resource_type for event in told[:2]} == {"execution_seconds"}


async def test_work_that_fills_the_disk_fails_and_the_next_can_make_room(client: Client, spawn: Spawn) -> None:
    agent_id = await spawn(resource_limits={"disk": "10Mi"}, lifecycle={"max_restart_count": 0})
    for files in (4, 6):  # the process of the second has begun with four
        fills = [["fill", f"file{number}", 4] for number in range(files)]
        with pytest.raises(Failure) as failed:
            await client.execute(agent_id, {"steps": [*fills, ["signal", "never", None]]})
        assert failed.value.code is ErrorCode.DISK_LIMIT_EXCEEDED
        assert "disk quota of 10Mi (resource_limits.disk): its workspace took" in failed.value.message
        assert (await client.execute(agent_id, {"steps": [["empty", "file0"], ["count"]]})).output
    exceeded = await of_type(client, agent_id, ResourceExceeded)
    assert [(event.code, event.limit) for event in exceeded] == [("E2074", 10 << 20)] * 2


def test_disk_is_an_amount_of_bytes() -> None:
    assert ResourceLimits().disk_bytes == 1 << 30
    assert ResourceLimits(disk="3Mi").disk_bytes == 3 << 20
    with pytest.raises(Failure) as refused:
        validate_limits(ResourceLimits(disk="3M"), "$.limits")
    assert (refused.value.code, refused.value.path) == (ErrorCode.COMMAND_INVALID, "$.limits.disk")
