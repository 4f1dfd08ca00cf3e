"""What a node says of itself on /metrics, over HTTP, while it works."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from l02.bus.embedded import EmbeddedNats
from l02.client.client import Client
from l02.domain.errors import Failure
from l02.handlers.state.settings import StateSettings
from l02.node.running import Node, running_node
from l02.node.session_server import OFF, SessionSettings
from l02.node.settings import Settings
from l02.projections.tables.definitions import TABLES
from tests.runtime.conftest import fetch, misbehaving, pid_of, worker

Samples = dict[tuple[str, tuple[str, ...]], float]


OwnNode = Callable[..., AbstractAsyncContextManager[tuple[Node, Client]]]


@pytest.fixture
def own_node(fresh_nats: EmbeddedNats, database: str, tmp_path: Path) -> OwnNode:
    """Start a node that has counted nothing yet."""
    servers = Settings(
        data_dir=tmp_path / "data",
        nats_url=fresh_nats.url,
        postgres_url=database,
        sessions=SessionSettings(server=OFF),
    )

    @asynccontextmanager
    async def start(**settings: Any) -> AsyncIterator[tuple[Node, Client]]:
        async with (
            running_node(replace(servers, **settings)) as node,
            Client.connect(nats_url=node.runtime["nats_url"], actor="tests") as client,
        ):
            yield node, client

    return start


async def samples(node: Node) -> Samples:
    """By name, and the values of the labels in the order of their names."""
    status, text = await fetch(node, "/metrics")
    assert status == 200
    return {
        (sample.name, tuple(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def until(node: Node, fits: Callable[[Samples], bool]) -> Samples:
    """The metrics, once they fit: some follow a little behind."""
    async with asyncio.timeout(20):
        while True:
            seen = await samples(node)
            if fits(seen):
                return seen
            await asyncio.sleep(0.05)


async def test_what_became_of_agents(own_node: OwnNode) -> None:
    async with own_node() as (node, client):
        await client.spawn(worker(), id="a1")
        await client.spawn(worker(trust_level="trusted"), id="a2")
        with pytest.raises(Failure, match="E2020"):
            await client.spawn(worker(entrypoint="/no/such/agent.py"), id="a3")
        await client.execute("a1", {"steps": [["count"]]})
        await client.execute("a2", {"steps": [["count"]]})
        tokens = "agent_runtime_tokens_consumed_total"
        active = "agent_runtime_active_agents"
        wanted = {
            (active, ("running", "standard")),
            (active, ("running", "trusted")),
            (tokens, ("a1", "")),
            (tokens, ("a2", "")),
        }
        seen = await until(node, lambda seen: wanted <= seen.keys())
        assert seen[active, ("running", "standard")] == 1
        assert seen["agent_runtime_spawns_total", ("landlock", "success", "standard")] == 1
        assert seen["agent_runtime_spawns_total", ("process", "success", "trusted")] == 1
        assert seen["agent_runtime_spawns_total", ("landlock", "failure", "standard")] == 1
        assert seen["agent_runtime_spawn_duration_seconds_count", ("cold",)] == 2
        assert seen["agent_runtime_terminations_total", ("failed",)] == 1
        assert seen[tokens, ("a1", "")] == (await client.get("a1")).tokens > 0
        assert seen[active, ("running", "trusted")] == 1
        assert not any(name == active and "failed" in labels for name, labels in seen)
        await client.terminate("a1")
        seen = await until(node, lambda seen: (active, ("running", "standard")) not in seen)
        assert seen["agent_runtime_terminations_total", ("user_request",)] == 1
        assert (tokens, ("a1", "")) not in seen, "an agent's series goes with it"
        assert (tokens, ("a2", "")) in seen


async def test_checkpoints(own_node: OwnNode) -> None:
    small = StateSettings(max_size_mb=1, auto_checkpoint_interval_seconds=0)
    async with own_node(state=small) as (node, client):
        await client.spawn(worker(), id="a1")
        await client.execute("a1", {"steps": [["count"]]})
        await client.checkpoint("a1")
        assert await client.checkpoint("a1"), "nothing has changed: the same one again"
        await client.execute("a1", {"steps": [["bytes", "raw", 100_000]]})
        await client.suspend("a1")
        await client.resume("a1")
        await client.execute("a1", {"steps": [["bytes", "raw", 2 * 1024 * 1024]]})
        with pytest.raises(Failure, match="E2031"):
            await client.checkpoint("a1")
        views = await client.checkpoints("a1")
        total, seconds, size = (
            f"agent_runtime_checkpoint{rest}" for rest in ("s_total", "_duration_seconds", "_size_bytes")
        )
        seen = await until(node, lambda seen: seen.get((f"{size}_count", ())) == 2)
        assert {labels: value for (name, labels), value in seen.items() if name == total} == {
            ("success", "manual"): 1,
            ("success", "pre_suspend"): 1,
            ("failure", "manual"): 1,
        }
        assert seen[f"{size}_sum", ()] == sum(view.size_bytes or 0 for view in views) > 100_000
        assert seen[f"{seconds}_count", ()] == 2
        assert 0 < seen[f"{seconds}_sum", ()] < 60


async def test_processes_that_are_not_ready_yet(own_node: OwnNode) -> None:
    depth = ("agent_runtime_spawn_queue_depth", ())
    async with own_node() as (node, client):
        assert (await samples(node))[depth] == 0
        for agent_id in ("a1", "a2"):
            await client.spawn(misbehaving("says-nothing"), id=agent_id, wait="accepted")
        await client.spawn(worker(), id="a3")
        await until(node, lambda seen: seen[depth] == 2)
        with pytest.raises(Failure, match="E2020"):
            await client.spawn(worker(entrypoint="/no/such/agent.py"), id="a4")
        assert (await samples(node))[depth] == 2


async def test_agents_need_not_be_told_apart(own_node: OwnNode) -> None:
    async with own_node(metrics_agent_labels=False) as (node, client):
        await client.spawn(worker(), id="a1")
        await client.execute("a1", {"steps": [["count"]]})
        used = (await client.get("a1")).tokens
        await client.terminate("a1")
        assert (await samples(node))["agent_runtime_tokens_consumed_total", ("",)] == used


async def test_commands_handlers_and_projections(node: Node, client: Client) -> None:
    """The shared node, so only what these commands add is known."""
    kept = ("agent_runtime_dead_letters_kept", ())
    refused = ("agent_runtime_command_outcomes_total", ("E2111",))
    before = {refused: 0.0} | await samples(node)
    with pytest.raises(Failure, match="E2111"):
        await client.execute("nobody", 1)
    await node.parts.bus.publish("l02.cmd.agent.nobody.signal", b"not JSON", {"Nats-Msg-Id": "unreadable"})
    seen = await until(node, lambda seen: all(seen.get(name, 0.0) > before[name] for name in (kept, refused)))

    def added(name: str, *labels: str) -> float:
        return seen[name, labels] - before.get((name, labels), 0)

    assert added("agent_runtime_command_outcomes_total", "E2111") == 1
    assert added("agent_runtime_dead_letters_total", "commands") == 1
    seen = await until(
        node,
        lambda seen: all(value == 0 for (name, _), value in seen.items() if name.endswith(("_lag", "_halted"))),
    )
    of = {name: {labels[0] for found, labels in seen if found == name and labels} for name, _ in seen}
    assert of["agent_runtime_consumer_lag"] == {
        "commands",
        "dues",
        "outcomes",
        "lifecycle",
        "executor",
        "state",
        "sessions",
        "budgets",
        "limits",
        "freeing",
    }
    assert of["agent_runtime_projection_lag"] == {*TABLES, "views"}
    assert of["agent_runtime_projection_halted"] == {*TABLES, "views"}
    assert seen["agent_runtime_command_outcomes_total", ("E2110",)] >= 1


async def test_two_nodes_in_one_process_count_apart(own_node: OwnNode, node: Node, client: Client) -> None:
    async with own_node() as (other, other_client):
        await other_client.spawn(worker(), id="a1")
        assert await pid_of(other_client, "a1")
        # An outcome is counted when the server has acknowledged it; who waits for it may have it already.
        ok = ("agent_runtime_command_outcomes_total", ("ok",))
        seen = await until(other, lambda seen: ok in seen)
        assert seen[ok] == 1
        assert ("process_cpu_seconds_total", ()) in seen


async def test_every_metric_is_described(node: Node, client: Client) -> None:
    page = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
    described = set(re.findall(r"^\| `(\w+)`", page, re.MULTILINE))
    await client.configure_budget("described", tokens_per_hour=1)
    await client.budgets()
    _, text = await fetch(node, "/metrics")
    shown = set(re.findall(r"^# HELP (agent_runtime_\w+)", text, re.MULTILINE))
    assert shown - {name for name in shown if name.endswith("_created")} == described
