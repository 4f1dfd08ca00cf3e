"""A server that is away for a while: nothing is lost, nothing is done twice, and all goes on by itself."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from l02.bus.embedded import EmbeddedNats, EmbeddedPostgres
from l02.client.client import Client
from l02.domain.agent.life.spawning import AgentSpawned
from l02.domain.errors import ErrorCode, Failure
from l02.verify import verify
from tests.conftest import in_containers, started_before
from tests.nodes.conftest import Cluster, events_of, has_called, until
from tests.replication import replicated

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
    assert len(await events_of(client, "a1", AgentSpawned)) == 1, "the agent's process is not to blame"
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
async def test_postgres_is_away(
    fresh_nats: EmbeddedNats, initialized_postgres: Path, tmp_path: Path, seconds: float
) -> None:
    """Agents work on; only queries have to wait."""
    postgres = EmbeddedPostgres(started_before(tmp_path / "postgres", initialized_postgres))
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


@pytest.mark.skipif(in_containers(), reason="the standby is a copy of the embedded server")
@pytest.mark.parametrize("loses", [False, True], ids=["standby has it all", "standby lacks the last transactions"])
async def test_postgres_fails_over(fresh_nats: EmbeddedNats, tmp_path: Path, loses: bool) -> None:
    """Its machine is gone for good; another takes its place."""
    async with replicated(tmp_path) as pair:
        cluster = Cluster(fresh_nats.url, pair.url, tmp_path)

        async def outage() -> None:
            await pair.caught_up()
            if loses:
                await pair.cut_off()
                async with Client.connect(nats_url=fresh_nats.url) as client:
                    assert (await client.execute("a1", "lost")).output == "lost"
                    assert (await client.get("a1")).executions_completed
            await pair.kill_primary()
            async with Client.connect(nats_url=fresh_nats.url) as client:
                assert (await client.execute("a1", "meanwhile")).output == "meanwhile"
            await pair.promote()

        async with cluster.node("one"), Client.connect(nats_url=fresh_nats.url, actor="tests") as client:
            await work_through(client, cluster, outage)


@pytest.mark.skipif(in_containers(), reason="the standby is a copy of the embedded server")
async def test_a_checkpoint_that_postgres_has_lost_is_said_to_be_lost(fresh_nats: EmbeddedNats, tmp_path: Path) -> None:
    """The events know of it, the standby had not got it: an older one is offered, and the next ones are good."""
    count = {"steps": [["count"]]}
    async with replicated(tmp_path) as pair:
        cluster = Cluster(fresh_nats.url, pair.url, tmp_path)
        async with cluster.node("one"), Client.connect(nats_url=fresh_nats.url, actor="tests") as client:
            await client.spawn(cluster.agent(), id="a1")
            await client.execute("a1", {"steps": [["bytes", "raw", 1 << 20], ["count"]]})
            kept = await client.checkpoint("a1")
            await pair.caught_up()
            await pair.cut_off()
            await client.execute("a1", {"steps": [["bytes", "more", 1 << 21], ["count"]]})
            lost = await client.checkpoint("a1")
            await pair.kill_primary()
            await pair.promote()
            assert (await client.execute("a1", count)).output == [3]
            with pytest.raises(Failure, match=f"the next older good one is {kept}") as caught:
                await client.restore("a1", lost)
            assert caught.value.code is ErrorCode.RESTORE_FAILED
            again = await client.checkpoint("a1")
            await client.restore("a1", kept)
            assert (await client.execute("a1", count)).output == [2]
            await client.restore("a1", again)
            assert (await client.execute("a1", count)).output == [4]
            differences: list[object] = []
            await verify(client._bus, pair.url, differences.append, patience=30)
            assert differences == []


def test_it_is_said_where_it_is_tested() -> None:
    """The page on operations names these tests: a change here is a change there."""
    page = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    for name in (
        "tests/nodes/test_outages.py",
        "tests/embedded/test_disk_full.py",
        "tests/nodes/test_takeover.py",
        "tests/projections/test_failover.py",
    ):
        assert name in page and os.path.exists(Path(__file__).parents[2] / name)  # noqa: PTH110
