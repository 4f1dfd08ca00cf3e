"""A process that migrates until it is killed, begun by a server that has imported all it needs (in milliseconds)."""

from __future__ import annotations

import asyncio
import multiprocessing
from multiprocessing.process import BaseProcess

from l02.bus.commands.migration import migrate_streams
from l02.bus.connection.bus import connect
from tests.bus.bus_of_before import nobody
from tests.bus.toy import TABLE

_processes = multiprocessing.get_context("forkserver")


def start_migrating(url: str, replicas: int = 1) -> BaseProcess:
    """Migrate in a process of its own; its exit code is 0 when it has come to the end."""
    _processes.set_forkserver_preload([__name__])
    process = _processes.Process(target=_main, args=(url, replicas), daemon=True)
    process.start()
    return process


def _main(url: str, replicas: int) -> None:
    asyncio.run(_migrate(url, replicas))


async def _migrate(url: str, replicas: int) -> None:
    async with connect(url, name="to kill", aggregates=TABLE) as bus:
        await migrate_streams(bus, replicas, nobody)
