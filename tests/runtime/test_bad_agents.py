"""Agents that break the protocol: each has its code, its cause on record, and harms nobody else."""

from __future__ import annotations

import time
import uuid

import pytest

from l02.client.client import Client
from l02.domain.agent.life.restarts import AgentFailed, AgentRestarted
from l02.domain.agent.life.spawning import SpawnFailed
from l02.domain.errors import Failure
from tests.runtime.conftest import history, misbehaving, worker


@pytest.mark.parametrize(
    ("how", "code", "text"),
    [
        ("exits-at-once", "E2020", "exited with code 3; its log ends: I am leaving"),
        ("garbage-first", "E2020", "broke the protocol"),
        ("says-nothing", "E2021", "spawn_timeout_seconds"),
    ],
)
async def test_one_that_never_gets_ready(client: Client, how: str, code: str, text: str) -> None:
    agent_id = uuid.uuid4().hex
    with pytest.raises(Failure, match="E2025"):
        await client.spawn(misbehaving(how, spawn_timeout_seconds=1.0), id=agent_id)
    events = await history(client, agent_id)
    failures = [event for event in events if isinstance(event, SpawnFailed)]
    assert [(event.code, event.attempt) for event in failures] == [(code, 1), (code, 2)]
    assert all(text in event.message for event in failures)
    assert isinstance(events[-1], AgentFailed)


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ("garbage", "not a message"),
        ("long-line", "longer than 16,777,216 bytes"),
        ("unknown-type", "not a message"),
        ("wrong-number", "not the one under way"),
        ("closes", "closed its socket"),
    ],
)
async def test_one_that_breaks_the_protocol_at_work(client: Client, how: str, text: str) -> None:
    agent_id = uuid.uuid4().hex
    await client.spawn(misbehaving(how), id=agent_id)
    with pytest.raises(Failure, match="E2025"):
        await client.execute(agent_id, 1)
    restarts = [event for event in await history(client, agent_id) if isinstance(event, AgentRestarted)]
    assert len(restarts) == 1
    assert text in restarts[0].cause


async def test_one_that_is_out_of_memory(client: Client) -> None:
    agent_id = uuid.uuid4().hex
    await client.spawn(worker(resource_limits={"memory": "64Mi"}), id=agent_id)
    with pytest.raises(Failure, match="memory"):
        await client.execute(agent_id, {"steps": [["tool", "large", {"size": 500_000_000}]]})


async def test_backoff_grows_and_ends(client: Client) -> None:
    agent_id = uuid.uuid4().hex
    began = time.monotonic()
    with pytest.raises(Failure, match="E2025.*gave up after 3 restarts"):
        await client.spawn(
            misbehaving("exits-at-once", restart_delay_seconds=[0.5, 1, 2], max_restart_count=3), id=agent_id
        )
    restarts = [event for event in await history(client, agent_id) if isinstance(event, AgentRestarted)]
    assert [(event.attempt, event.delay_seconds) for event in restarts] == [(1, 0.5), (2, 1.0), (3, 2.0)]
    assert time.monotonic() - began >= 3.5


async def test_values_that_cannot_be_kept(client: Client) -> None:
    agent_id = uuid.uuid4().hex
    await client.spawn(worker(), id=agent_id)
    deep: list[object] = []
    for _ in range(150):
        deep = [deep]
    with pytest.raises(Failure, match="E2110.*nested"):
        await client.execute(agent_id, deep)
    pretender = {"$object": "x", "sha256": "y", "size": 1}
    assert (await client.execute(agent_id, pretender)).output == pretender
    result = await client.execute(agent_id, {"steps": [["state", "key", pretender], ["count"]]})
    assert result.output == [1]
    assert (await client.execute(agent_id, {"steps": [["count"]]})).output == [2]
