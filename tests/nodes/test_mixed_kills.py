"""The agents, the node and its server are killed at random instants of work with effects of every kind.

`L02_KILLS` ("agents,others") and `L02_KILLS_SEED` choose the long run; the same seed makes the same choices.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections import Counter
from contextlib import AsyncExitStack, suppress

import pytest
from nats.errors import Error as NatsError

from l02.bus.background.cancelling import end
from l02.bus.embedded import EmbeddedNats
from l02.client.client import Client
from l02.client.discovery import NodeUnreachable
from l02.verify import verify
from tests.embedded.support import connected
from tests.nodes.conftest import Cluster, RunningNode, until
from tests.nodes.mixed_work import MixedWork

_LONG = os.environ.get("L02_KILLS") or "300,60"
_SEED = int(os.environ.get("L02_KILLS_SEED") or 1)


class Kills:
    """Who is killed, and brought back if it does not come back by itself."""

    def __init__(self, seed: int, cluster: Cluster, client: Client, nats: EmbeddedNats) -> None:
        self._chance = random.Random(seed)
        self._cluster = cluster
        self._client = client
        self._nats = nats
        self._up = AsyncExitStack()
        self._node: RunningNode | None = None
        self.done: Counter[str] = Counter()

    async def start(self) -> None:
        """Bring the node up."""
        self._node = await self._up.enter_async_context(self._cluster.node("one"))

    async def stop(self) -> None:
        """End the node."""
        await self._up.aclose()

    async def run(self, agents: int, others: int) -> None:
        """So many kills, in an order by chance."""
        kinds = ["agent"] * agents + [("node", "nats", "all")[number % 3] for number in range(others)]
        self._chance.shuffle(kinds)
        for kind in kinds:
            await asyncio.sleep(self._chance.uniform(0.0, 0.4))
            match kind:
                case "agent":
                    await self._kill_an_agent()
                case "nats":
                    self._kill_nats()
                case "node":
                    await self._kill_the_node()
                case "all":
                    self._kill_nats()
                    await self._kill_the_node()
            self.done[kind] += 1

    async def _kill_an_agent(self) -> None:
        while True:
            with suppress(NodeUnreachable, ProcessLookupError):
                pids = sorted(view.pid for view in await self._client.list() if view.pid is not None)
                if pids:
                    os.kill(self._chance.choice(pids), signal.SIGKILL)
                    return
            await asyncio.sleep(0.02)

    def _kill_nats(self) -> None:
        with suppress(RuntimeError, ProcessLookupError):  # it is just being brought back
            os.kill(self._nats.pid, signal.SIGKILL)

    async def _kill_the_node(self) -> None:
        assert self._node is not None
        self._node.send(signal.SIGKILL)
        await self._node.process.wait()
        await self._up.aclose()
        await until(self._nats_is_up)  # a node does not start without it
        await self.start()

    async def _nats_is_up(self) -> bool:
        with suppress(NatsError, OSError, TimeoutError):
            async with connected(self._nats.url):
                return True
        return False


@pytest.fixture(autouse=True)
def _never_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """However often the server dies, it comes back; said before it is started."""
    monkeypatch.setattr(EmbeddedNats, "restart_delays", (0.0,) * 10_000)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("fresh_nats", ["synced"], indirect=True)
@pytest.mark.parametrize(
    ("kills", "seed"), [("8,3", 7), pytest.param(_LONG, _SEED, marks=pytest.mark.soak)], ids=["short", "long"]
)
async def test_whoever_is_killed_each_effect_is_as_recorded(
    cluster: Cluster,
    client: Client,
    fresh_nats: EmbeddedNats,
    kills: str,
    seed: int,
) -> None:
    agents, others = map(int, kills.split(","))
    killing = Kills(seed, cluster, client, fresh_nats)
    work = MixedWork(client, cluster, seed)
    await killing.start()
    working, killer = asyncio.create_task(work.run()), asyncio.create_task(killing.run(agents, others))
    try:
        await asyncio.wait({working, killer}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():  # by itself: say why
            working.result()
        await killer
        work.is_over.set()
        async with asyncio.timeout(120):
            await working
        differences: list[object] = []
        await verify(client._bus, cluster.postgres_url, differences.append, patience=60)
    finally:
        await end(killer)
        await end(working)
        await killing.stop()
    print(f"seed {seed}: {dict(killing.done)} killed; {len(work.pieces)} pieces of work, {work.held} held")
    assert differences == []
    await work.require_all_as_recorded()
    assert len(work.pieces) > 2 * work.held
