"""A model is asked when the node or its server dies: the endpoint's ledger and the record agree on one answer."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from l02.bus.embedded import EmbeddedNats
from l02.bus.wire.subjects import stream_subject
from l02.client.client import Client
from l02.client.discovery import NodeUnreachable
from l02.domain.agent.work.models import ModelCalled, ModelRequested
from tests.model_calls.conftest import PRICE, Heard, ask, asker, model_events
from tests.models.endpoint import Answer, Asked, ScriptedEndpoint, scripted_endpoint
from tests.models.shapes import Say
from tests.nodes.conftest import Cluster


@pytest_asyncio.fixture
async def endpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ScriptedEndpoint]:
    """One that nodes started from now on know as `small`; its ledger is what it was asked."""
    async with scripted_endpoint() as server:
        entry = {"endpoint": server.url, "model": "any", "price": PRICE, "max_output": 1000}
        config = tmp_path / "l02.yaml"
        config.write_text(json.dumps({"models": {"small": [entry], "large": [entry]}}))
        monkeypatch.setenv("L02_CONFIG", str(config))
        yield server


@pytest_asyncio.fixture
async def heard(client: Client) -> AsyncIterator[Heard]:
    """What is streamed for the agent `a1`."""
    listening = Heard()
    subscription = await client._bus.client.subscribe(stream_subject("a1", "*"), cb=listening.take)
    yield listening
    await subscription.unsubscribe()


def is_done(message: dict[str, Any]) -> bool:
    return "done" in message


async def test_the_node_is_killed_while_a_model_speaks(
    cluster: Cluster, client: Client, endpoint: ScriptedEndpoint, heard: Heard
) -> None:
    """It is asked again, both are charged, what had been heard does not count, and what was answered stands."""
    endpoint.say(Say("before", usage=(5, 1)), Say("one two three", hang_after=3), Say("four five", usage=(7, 2)))
    steps = [["emit", "a"], ask("first", stream=True), ["emit", "b"], ask(stream=True), ["emit", "c"]]
    async with cluster.node("one") as node:
        await client.spawn(asker(), id="a1")
        working = asyncio.create_task(client.execute("a1", steps))
        await heard.until(lambda message: message.get("delta") == "one")
        node.send(signal.SIGKILL)
        await (await endpoint.asked(2)).gone.wait()
    async with cluster.node("one"):
        await heard.until(is_done)
        assert [answer["text"] for answer in (await working).output] == ["before", "four five"]
        assert heard.texts() == ["a", "before", "b", "four", " five", "c"]
        assert len(endpoint.requests) == 3
        events = await model_events(client, "a1")
        assert [(type(event), event.attempt) for event in events[2:]] == [
            (ModelRequested, 1),
            (ModelCalled, 1),
            (ModelRequested, 2),
            (ModelCalled, 2),
        ]
        lost, settled = events[2], events[3]
        assert isinstance(lost, ModelRequested)
        assert isinstance(settled, ModelCalled)
        assert settled.again and settled.estimated
        assert settled.used == lost.reserved.spending
        view = await client.get("a1")
        assert view.tokens == 6 + lost.reserved.tokens + 9
        [work] = await client.executions("a1")
        assert (work.tokens, work.cost_usd) == (view.tokens, view.cost_usd)


@pytest.mark.parametrize("fresh_nats", ["synced"], indirect=True)
async def test_the_server_is_killed_while_a_model_thinks(
    cluster: Cluster, client: Client, endpoint: ScriptedEndpoint, fresh_nats: EmbeddedNats
) -> None:
    """The answer waits for it, and nobody asks twice."""

    async def script(asked: Asked) -> Answer:
        if len(endpoint.requests) == 2:
            os.kill(fresh_nats.pid, signal.SIGKILL)
        return Say(f"answer {len(endpoint.requests)}", usage=(5, 1))

    endpoint.script = script
    async with cluster.node("one"):
        await client.spawn(asker(), id="a1")
        async with asyncio.timeout(60):
            result = await client.execute("a1", [ask("1"), ask("2"), ask("3")])
        assert [answer["text"] for answer in result.output] == ["answer 1", "answer 2", "answer 3"]
        assert len(endpoint.requests) == 3
        events = await model_events(client, "a1")
        assert [(type(event), event.attempt) for event in events] == [(ModelRequested, 1), (ModelCalled, 1)] * 3
        assert (await client.get("a1")).tokens == 18


async def test_whoever_is_killed_what_is_heard_is_what_is_on_record(
    cluster: Cluster, client: Client, endpoint: ScriptedEndpoint, heard: Heard
) -> None:
    """The agent and its node are killed at random instants of a conversation that is streamed."""
    chance = random.Random(3)

    def script(asked: Asked) -> Answer:
        who = asked.body["messages"][0]["content"]
        return Say(pieces=[f"{who}.{number} " for number in range(6)], pause=0.02, usage=(5, 6))

    endpoint.script = script
    steps: list[Any] = []
    for number in range(12):
        steps += [["emit", f"own {number} "], ask(f"m{number}", stream=True)]
    up = AsyncExitStack()
    node = await up.enter_async_context(cluster.node("one"))
    try:
        limits = {"restart_delay_seconds": [0.05], "max_restart_count": 100}
        await client.spawn(asker(lifecycle=limits, resource_limits={"tokens_per_hour": None}), id="a1")
        working = asyncio.create_task(client.execute("a1", steps))
        for victim in chance.sample(["agent"] * 4 + ["node"] * 2, 6):
            await asyncio.wait({working}, timeout=chance.uniform(0.1, 0.6))
            if victim == "agent":
                with suppress(ProcessLookupError, NodeUnreachable):
                    if (pid := (await client.get("a1")).pid) is not None:
                        os.kill(pid, signal.SIGKILL)
                continue
            node.send(signal.SIGKILL)
            await node.process.wait()
            await up.aclose()
            node = await up.enter_async_context(cluster.node("one"))
        async with asyncio.timeout(120):
            answers = (await working).output
            await heard.until(is_done)
        texts = [answer["text"] for answer in answers]
        assert texts == ["".join(f"m{who}.{number} " for number in range(6)) for who in range(12)]
        said = [text for who, answer in enumerate(texts) for text in (f"own {who} ", answer)]
        assert "".join(heard.texts()) == "".join(said)
        events = await model_events(client, "a1")
        requested = [event for event in events if isinstance(event, ModelRequested)]
        called = [event for event in events if isinstance(event, ModelCalled) and not event.again]
        lost = [event for event in events if isinstance(event, ModelCalled) and event.again]
        assert all(event.estimated for event in lost)
        assert len(called) == 12
        assert len(requested) == len(called) + len(lost)
        assert len(called) <= len(endpoint.requests) <= len(requested)
        charged = sum(event.used.tokens for event in [*called, *lost])
        assert (await client.get("a1")).tokens == charged
    finally:
        await up.aclose()
