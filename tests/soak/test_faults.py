"""Agents at work while all under them is killed: in the end all is as the log says, and each effect happened once.

`L02_SOAK_SEED` and `L02_SOAK_SECONDS` choose the run; the seed is printed, and the same seed makes the same choices.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections import Counter
from pathlib import Path

import pytest

from l02.bus.embedded import EmbeddedNats, EmbeddedPostgres
from l02.client.client import Client
from l02.client.discovery import NodeUnreachable
from l02.domain.errors import Failure
from l02.verify import verify
from tests.nodes.conftest import Cluster
from tests.soak.faults import Faults

AGENTS = 8
NODES = ["one", "two", "three"]


class Workload:
    """Agents that write into the ledger, each piece of work under a name of its own."""

    def __init__(self, client: Client, cluster: Cluster) -> None:
        self._client = client
        self._cluster = cluster
        self.is_over = asyncio.Event()
        self.completed: list[str] = []
        self.doubtful: list[str] = []

    async def run(self) -> None:
        """Work with all agents until `is_over`."""
        specification = self._cluster.agent() | {
            "lifecycle": {"restart_delay_seconds": [0.1], "max_restart_count": 999}
        }
        async with asyncio.TaskGroup() as tasks:
            for number in range(AGENTS):
                await self._client.spawn(specification, id=f"a{number}", command_id=f"spawn-{number}")
                tasks.create_task(self._work_with(f"a{number}"))

    async def _work_with(self, agent_id: str) -> None:
        number = 0
        while not self.is_over.is_set():
            number += 1
            await self._execute(agent_id, f"{agent_id}-{number}")

    async def _execute(self, agent_id: str, name: str) -> None:
        steps = [
            ["tool", "note", {"text": f"{name} one"}],
            ["random"],
            ["tool", "add", {"a": 1, "b": 2}],
            ["sleep", 0.2],
            ["count"],
            ["tool", "note", {"text": f"{name} two"}],
        ]
        while True:
            try:
                result = await self._client.execute(agent_id, {"steps": steps}, command_id=name)
            except NodeUnreachable:
                continue
            except Failure as failure:
                assert "not declared idempotent" in failure.message or "E2001" in str(failure), failure
                self.doubtful.append(name)
                return
            noted, random, three, nothing, count, again = result.output
            assert (noted, three, nothing, again) == (f"noted {name} one", 3, None, f"noted {name} two")
            assert 0 <= random < 1 and count >= 1
            self.completed.append(name)
            return


@pytest.mark.soak
async def test_nothing_is_lost_and_nothing_happens_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EmbeddedNats, "restart_delays", (0.0,) * 10_000)
    monkeypatch.setattr(EmbeddedPostgres, "restart_delays", (0.0,) * 10_000)
    seed = int(os.environ.get("L02_SOAK_SEED") or secrets.randbits(32))
    seconds = float(os.environ.get("L02_SOAK_SECONDS") or 240)
    print(f"L02_SOAK_SEED={seed} L02_SOAK_SECONDS={seconds:g}")
    nats, postgres = EmbeddedNats(tmp_path / "nats"), EmbeddedPostgres(tmp_path / "postgres")
    cluster = Cluster(await nats.start(), await postgres.start(), tmp_path)
    faults = Faults(seed, cluster, NODES, nats, postgres)
    try:
        await faults.start()
        async with Client.connect(nats_url=cluster.nats_url, actor="soak") as client:
            workload = Workload(client, cluster)
            working = asyncio.create_task(workload.run())
            await faults.run(asyncio.get_running_loop().time() + seconds)
            workload.is_over.set()
            async with asyncio.timeout(120):
                await working
            differences: list[object] = []
            summary = await verify(client._bus, cluster.postgres_url, differences.append, patience=60)
    finally:
        await faults.stop()
        await postgres.stop()
        await nats.stop()
    print(
        f"{sum(faults.done.values())} faults: {dict(faults.done)}; {len(workload.completed)} pieces of work completed, "
        f"{len(workload.doubtful)} asked a person; {summary.events} events"
    )
    assert differences == []
    noted = Counter(cluster.noted())
    for name in workload.completed:
        assert (noted.pop(f"{name} one"), noted.pop(f"{name} two")) == (1, 1)
    for name in workload.doubtful:
        assert noted.pop(f"{name} one", 0) <= 1 and noted.pop(f"{name} two", 0) <= 1
    assert not noted, "something was noted that nobody had asked for"
    assert len(workload.completed) > len(workload.doubtful)
