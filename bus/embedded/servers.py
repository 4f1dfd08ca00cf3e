"""Both servers of a node in its data directory, as one thing to start, watch and stop."""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType
from typing import Self

from l02.bus.background.cancelling import end
from l02.bus.embedded.data_directory import DataDirectory
from l02.bus.embedded.disk_space import watch_disk_space
from l02.bus.embedded.errors import ServerError
from l02.bus.embedded.nats_server import EmbeddedNats
from l02.bus.embedded.postgres_server import EmbeddedPostgres


class EmbeddedServers:
    """The wanted servers, running inside `async with`; entering raises ServerError and leaves none behind.

    `data` is locked by the caller: that is what makes this node the servers' owner.
    """

    def __init__(self, data: DataDirectory, *, nats: bool = True, postgres: bool = True) -> None:
        self.nats = EmbeddedNats(data.path / "nats") if nats else None
        self.postgres = EmbeddedPostgres(data.path / "postgres") if postgres else None
        self._wanted = [server for server in (self.nats, self.postgres) if server is not None]
        self._path = data.path
        self._disk: asyncio.Task[None] | None = None

    @property
    def nats_url(self) -> str:
        """Raises RuntimeError if this server is not wanted or not started."""
        if self.nats is None:
            raise RuntimeError("this node has no nats-server of its own")
        return self.nats.url

    @property
    def postgres_url(self) -> str:
        """Raises RuntimeError if this server is not wanted or not started."""
        if self.postgres is None:
            raise RuntimeError("this node has no PostgreSQL of its own")
        return self.postgres.url

    async def __aenter__(self) -> Self:
        try:
            results = await asyncio.gather(*(server.start() for server in self._wanted), return_exceptions=True)
            for result in results:
                if isinstance(result, BaseException):
                    raise result
        except BaseException:
            await self._stop()
            raise
        if self.nats is not None:
            self._disk = asyncio.create_task(watch_disk_space(self._path, self.nats.begin_anew))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop()

    async def wait_failed(self) -> ServerError:
        """Wait until a server is down for good, and return why: then the node cannot go on."""
        waits = [asyncio.create_task(server.wait_failed()) for server in self._wanted]
        try:
            if not waits:
                await asyncio.Event().wait()
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            return done.pop().result()
        finally:
            for wait in waits:
                wait.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(*waits, return_exceptions=True)

    async def _stop(self) -> None:
        if self._disk is not None:
            await end(self._disk)
        async with asyncio.TaskGroup() as group:
            for server in self._wanted:
                group.create_task(server.stop())
