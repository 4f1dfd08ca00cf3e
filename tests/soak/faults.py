"""What a fault run does to a system, chosen by a seeded generator, and the system it does it to."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress

import psutil

from l02.bus.embedded import EmbeddedNats, EmbeddedPostgres
from tests.nodes.conftest import Cluster, RunningNode

_PAUSE_SECONDS = (0.2, 3.0)
# A lease lasts 3 s: some stops are shorter than that, some longer.
_STOP_SECONDS = (0.5, 8.0)
_DOWN_SECONDS = (0.0, 8.0)


class Faults:
    """Kills and stops nodes, agents' processes and servers, and brings back what does not come back by itself."""

    def __init__(
        self, seed: int, cluster: Cluster, nodes: list[str], nats: EmbeddedNats, postgres: EmbeddedPostgres
    ) -> None:
        self._chance = random.Random(seed)
        self._cluster = cluster
        self._names = nodes
        self._servers = {"nats": nats, "postgres": postgres}
        self._running: dict[str, tuple[AsyncExitStack, RunningNode]] = {}
        self.done: Counter[str] = Counter()

    async def start(self) -> None:
        """Bring all nodes up."""
        for name in self._names:
            await self._bring_up(name)

    async def stop(self) -> None:
        """End all nodes."""
        for stack, _ in self._running.values():
            await stack.aclose()

    async def run(self, until: float) -> None:
        """One fault after another, until that time of the loop's clock; then wait until all is up again."""
        loop = asyncio.get_running_loop()
        kinds: list[Callable[[], Awaitable[str]]] = [
            self._kill_agents,
            self._kill_agents,
            self._kill_a_node,
            self._stop_a_node_for_a_while,
            self._kill_nats,
            self._kill_postgres,
        ]
        while loop.time() < until:
            await asyncio.sleep(self._chance.uniform(*_PAUSE_SECONDS))
            self.done[await self._chance.choice(kinds)()] += 1

    async def _bring_up(self, name: str) -> None:
        stack = AsyncExitStack()
        self._running[name] = (stack, await stack.enter_async_context(self._cluster.node(name)))

    async def _kill_a_node(self) -> str:
        name = self._chance.choice(self._names)
        stack, node = self._running[name]
        node.send(signal.SIGKILL)
        await node.process.wait()
        await stack.aclose()
        await asyncio.sleep(self._chance.uniform(*_DOWN_SECONDS))
        await self._bring_up(name)
        return "node killed"

    async def _stop_a_node_for_a_while(self) -> str:
        _, node = self._running[self._chance.choice(self._names)]
        node.send(signal.SIGSTOP)
        seconds = self._chance.uniform(*_STOP_SECONDS)
        await asyncio.sleep(seconds)
        node.send(signal.SIGCONT)
        return "node stopped beyond its lease" if seconds > 4 else "node stopped for a moment"

    async def _kill_agents(self) -> str:
        """Some of the processes that serve agents, whichever node they belong to."""
        below = [
            process
            for _, node in self._running.values()
            for process in psutil.Process(node.process.pid).children(recursive=True)
        ]
        agents = [process for process in below if not process.children()]
        for process in self._chance.sample(agents, min(2, len(agents))):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        return "agents or tool servers killed"

    async def _kill_nats(self) -> str:
        return self._kill_server("nats")

    async def _kill_postgres(self) -> str:
        return self._kill_server("postgres")

    def _kill_server(self, name: str) -> str:
        with suppress(RuntimeError):  # it is just being brought back
            os.kill(self._servers[name].pid, signal.SIGKILL)
        return f"{name} killed"
