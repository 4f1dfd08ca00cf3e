"""Keeps a server running: started on demand, brought back when it dies, ended with the node.

The node owns its servers, so nobody else would restart them. It gives up after seven tries in a row, because a
server that cannot live (a full disk, a damaged file) needs a person, who must be told.
"""

from __future__ import annotations

import asyncio
import os
import signal
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import structlog

from l02.bus.background.cancelling import cancellable
from l02.bus.embedded.endpoint import Endpoint
from l02.bus.embedded.errors import ServerError
from l02.bus.embedded.private_file import make_private_directory
from l02.bus.embedded.server_process import ServerCommand, ServerProcess, stop_leftover

_log = structlog.get_logger()
_HEALTHY_SECONDS = 60.0
# Seconds after each failed try of the first start. Another program can take a port that was free a moment ago, and
# PostgreSQL waits for the children of a killed predecessor to be gone.
_START_DELAYS = (0.2, 1.0)


class SupervisedServer(ABC):
    """A server with its files in `directory` (created, 0700). The caller holds the data directory's lock."""

    name: str
    ready_seconds: float
    # Seconds before each restart; after one that lasted a minute they begin anew.
    restart_delays: Sequence[float] = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0)

    def __init__(self, directory: Path) -> None:
        self.directory = directory.absolute()
        self._endpoint: Endpoint | None = None
        self._process: ServerProcess | None = None
        self._supervision: asyncio.Task[ServerError] | None = None

    async def start(self) -> str:
        """Start it and return its URL once it answers. Raises ServerError."""
        if self._supervision is not None:
            raise RuntimeError(f"{self.name} is started already")
        try:
            make_private_directory(self.directory)
            self._process = await self._start_first()
        except OSError as error:
            raise ServerError(f"{self.name} cannot be started: {error}") from error
        supervision = self._supervise(self._process)
        self._supervision = asyncio.create_task(supervision, name=f"{self.name} supervision")
        return self.url

    async def stop(self) -> None:
        """End it gracefully, or by force if it does not end. It may be started again."""
        supervision, self._supervision = self._supervision, None
        try:
            if supervision is not None:
                supervision.cancel()
                await asyncio.wait([supervision])
        finally:
            process, self._process = self._process, None
            if process is not None:
                await process.stop()

    def begin_anew(self) -> None:
        """Have it end; the supervision starts it again. No harm if it is down at the moment."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGTERM)

    async def wait_failed(self) -> ServerError:
        """Wait until it is down for good, after the last restart, and return why. Cancelled by `stop`."""
        if self._supervision is None:
            raise RuntimeError(f"{self.name} is not started")
        supervision = self._supervision
        await asyncio.wait([supervision])
        return supervision.result()

    @property
    def endpoint(self) -> Endpoint:
        if self._endpoint is None:
            raise RuntimeError(f"{self.name} is not started")
        return self._endpoint

    @property
    def pid(self) -> int:
        """The present process; another one after a restart."""
        if self._process is None:
            raise RuntimeError(f"{self.name} is not running")
        return self._process.pid

    @property
    @abstractmethod
    def url(self) -> str:
        """How clients reach it, with the password."""

    @abstractmethod
    async def _prepare(self) -> None:
        """Write what it needs before it can start on its endpoint; called at every `start`."""

    @abstractmethod
    def _command(self) -> ServerCommand:
        """How to run it."""

    @abstractmethod
    async def _is_ready(self) -> bool:
        """Whether it answers; False while it cannot be connected to. Raises ServerError if it never will."""

    async def _start_first(self) -> ServerProcess:
        endpoint_file = self.directory / "endpoint.json"
        self._endpoint = Endpoint.load(endpoint_file)
        if await stop_leftover(self._command()):
            _log.info("stopped the server of a killed node", server=self.name)
        for delay in _START_DELAYS:
            try:
                return await self._try_start(endpoint_file)
            except ServerError as error:
                _log.warning("embedded server does not start", server=self.name, reason=str(error))
            await asyncio.sleep(delay)
        return await self._try_start(endpoint_file)

    async def _try_start(self, endpoint_file: Path) -> ServerProcess:
        self._endpoint = self.endpoint.with_free_port(endpoint_file)
        await self._prepare()
        return await self._run()

    async def _run(self) -> ServerProcess:
        process = await ServerProcess.spawn(self._command())
        try:
            await cancellable(process.wait_ready(self._is_ready, self.ready_seconds))
        except BaseException:
            await process.stop()
            raise
        return process

    async def _supervise(self, process: ServerProcess) -> ServerError:
        loop = asyncio.get_running_loop()
        delays = iter(self.restart_delays)
        while True:
            began = loop.time()
            status = await process.wait()
            self._process = None
            error = ServerError(f"{self.name} ended by itself, status {status}: {process.last_log_lines()}")
            if loop.time() - began > _HEALTHY_SECONDS:
                delays = iter(self.restart_delays)
            restarted: ServerProcess | None = None
            while restarted is None:
                _log.warning("embedded server is down", server=self.name, reason=str(error))
                delay = next(delays, None)
                if delay is None:
                    return error
                await asyncio.sleep(delay)
                try:
                    restarted = await self._run()
                except ServerError as failed:
                    error = failed
            process = self._process = restarted
            _log.info("embedded server is back", server=self.name, pid=process.pid)
