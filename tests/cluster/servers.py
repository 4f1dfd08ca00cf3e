"""A cluster of three nats-servers on loopback, each of which a test can kill, pause and bring back."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from l02.bus.connection.bus import Bus
from l02.bus.connection.leader import StoredMessage, message_from_leader
from l02.bus.embedded import EmbeddedNats
from l02.bus.embedded.endpoint import HOST, Endpoint
from l02.bus.embedded.private_file import write_private
from tests.bus.toy import until


class ClusterServer(EmbeddedNats):
    """One of several."""

    def __init__(self, directory: Path, routes: Sequence[str], cluster_port: int) -> None:
        super().__init__(directory)
        self.label = directory.name
        self._routes = routes
        self._cluster_port = cluster_port

    async def _prepare(self) -> None:
        await super()._prepare()
        settings = json.loads(self._configuration.read_bytes())
        settings["server_name"] = self.label
        settings["cluster"] = {
            "name": "l02",
            "listen": f"{HOST}:{self._cluster_port}",
            "routes": list(self._routes),
            "no_advertise": True,
        }
        write_private(self._configuration, json.dumps(settings).encode())

    @property
    def is_running(self) -> bool:
        return self._process is not None

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """SIGSTOP for as long as the context lasts."""
        os.kill(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.pid, signal.SIGCONT)


class Cluster:
    """The three of them."""

    def __init__(self, directory: Path) -> None:
        password = secrets.token_hex(16)
        names = ("one", "two", "three")
        taken: set[int] = set()
        ports = [_port(directory / f"{name}-{kind}", taken) for name in names for kind in ("client", "cluster")]
        routes = [f"nats://{HOST}:{port}" for port in ports[1::2]]
        self.servers = []
        for name, port, cluster_port in zip(names, ports[::2], ports[1::2], strict=True):
            home = directory / name
            home.mkdir()
            write_private(home / "endpoint.json", msgspec.json.encode(Endpoint(port=port, password=password)))
            self.servers.append(ClusterServer(home, routes, cluster_port))

    @property
    def url(self) -> str:
        """Of all three: a client goes to another when its own is gone."""
        return ",".join(server.url for server in self.servers)

    async def start(self) -> None:
        """Start those that are down."""
        await asyncio.gather(*(server.start() for server in self.servers if not server.is_running))

    async def stop(self) -> None:
        await asyncio.gather(*(server.stop() for server in self.servers))

    async def settled(self, bus: Bus) -> None:
        """Wait until every stream has a leader, and two copies that lack nothing."""
        for stream in (await bus.api("STREAM.NAMES", {}))["streams"]:
            await until(partial(_is_whole, bus, stream), seconds=60)

    async def leader(self, bus: Bus, stream: str) -> ClusterServer:
        """The server that leads the stream now."""
        label = (await bus.api(f"STREAM.INFO.{stream}", {}))["cluster"]["leader"]
        return next(server for server in self.servers if server.label == label)

    async def hand_over(self, bus: Bus, stream: str, server: ClusterServer) -> None:
        """Have this server lead the stream."""

        async def leads() -> bool:
            leader = (await bus.api(f"STREAM.INFO.{stream}", {}))["cluster"].get("leader")
            if leader in (server.label, None):
                return leader is not None
            await bus.api(f"STREAM.LEADER.STEPDOWN.{stream}", {"placement": {"preferred": server.label}})
            return False

        await until(leads)

    async def copies(self, bus: Bus, stream: str) -> list[list[StoredMessage]]:
        """What each server has of the stream. Each leads it in turn, as only the leader says what it has itself."""
        copies = []
        for server in self.servers:
            await self.hand_over(bus, stream, server)
            found: list[StoredMessage] = []
            while message := await message_from_leader(bus, stream, **_next_after(found)):
                found.append(message)
            copies.append(found)
        return copies

    async def followers(self, bus: Bus, stream: str) -> list[ClusterServer]:
        leader = await self.leader(bus, stream)
        return [server for server in self.servers if server is not leader]


def _next_after(found: Sequence[StoredMessage]) -> dict[str, Any]:
    return {"sequence": found[-1].sequence + 1 if found else 1, "next_on": ">"}


async def _is_whole(bus: Bus, stream: str) -> bool:
    cluster = (await bus.api(f"STREAM.INFO.{stream}", {}))["cluster"]
    copies = cluster.get("replicas") or []
    return bool(cluster.get("leader")) and len(copies) == 2 and all(copy["current"] for copy in copies)


def _port(file: Path, taken: set[int]) -> int:
    while (port := Endpoint.load(file).port) in taken:
        file.unlink()
    taken.add(port)
    return port


@asynccontextmanager
async def run_cluster(directory: Path) -> AsyncIterator[Cluster]:
    cluster = Cluster(directory)
    try:
        await cluster.start()
        yield cluster
    finally:
        await cluster.stop()
