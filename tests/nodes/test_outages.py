"""A server that is away for a while: nothing is lost, nothing is done twice, and all goes on by itself."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from bus.embedded import EmbeddedNats, EmbeddedPostgres
from domain.agent import events as e
from l02.client import Client
from l02.verify import verify
from tests.nodes.conftest import Cluster, events_of, has_called, until

LONG = pytest.param(30.0, marks=pytest.mark.soak, id="30 s")
SHORT = pytest.param(5.0, id="5 s")


async def work_through(client: Client, cluster: Cluster, outage: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """An execution that is under way when the outage begins, and one that is sent during it."""
    await client.spawn(cluster.agent(), id="a1")
    first = asyncio.create_task(
        client.execute(
            "a1",
            {"steps": [["tool", "note", {"text": "one"}], ["sleep", 1], ["count"], ["tool", "note", {"text": "two"}]]},
        )
    )
    await until(lambda: has_called(client, "a1", 1))
    gone = asyncio.create_task(outage())
    second = asyncio.create_task(client.execute("a1", {"steps": [["tool", "note", {"text": "three"}], ["count"]]}))
    await gone
    async with asyncio.timeout(60):
        assert (await first).output == ["noted one", None, 1, "noted two"]
        assert (await second).output == ["noted three", 2]
    assert Counter(cluster.noted()) == {"one": 1, "two": 1, "three": 1}
    assert len(await events_of(client, "a1", e.AgentSpawned)) == 1, "the agent's process is not to blame"
    differences: list[object] = []
    await verify(client._bus, cluster.postgres_url, differences.append, patience=30)
    assert differences == []


@pytest.mark.parametrize("seconds", [SHORT, LONG])
async def test_nats_is_away(fresh_nats: EmbeddedNats, cluster: Cluster, client: Client, seconds: float) -> None:
    """All that is under way waits; what was promised is there when it comes back."""

    async def outage() -> None:
        url = fresh_nats.url
        await fresh_nats.stop()
        await asyncio.sleep(seconds)
        assert await fresh_nats.start() == url

    async with cluster.node("one"):
        await work_through(client, cluster, outage)


@pytest.mark.parametrize("seconds", [SHORT, LONG])
async def test_postgres_is_away(fresh_nats: EmbeddedNats, tmp_path: Path, seconds: float) -> None:
    """Agents work on; only queries have to wait."""
    postgres = EmbeddedPostgres(tmp_path / "postgres")
    cluster = Cluster(fresh_nats.url, await postgres.start(), tmp_path)

    async def outage() -> None:
        url = postgres.url
        await postgres.stop()
        ended = asyncio.create_task(asyncio.sleep(seconds))
        async with Client.connect(nats_url=fresh_nats.url) as client:
            assert (await client.execute("a1", "meanwhile")).output == "meanwhile"
        await ended
        assert await postgres.start() == url

    try:
        async with cluster.node("one"), Client.connect(nats_url=fresh_nats.url, actor="tests") as client:
            await work_through(client, cluster, outage)
    finally:
        await postgres.stop()


def test_it_is_said_where_it_is_tested() -> None:
    """The page on operations names these tests: a change here is a change there."""
    page = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    for name in ("tests/nodes/test_outages.py", "tests/embedded/test_disk_full.py", "tests/nodes/test_takeover.py"):
        assert name in page and os.path.exists(Path(__file__).parents[2] / name)  # noqa: PTH110
