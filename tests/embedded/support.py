"""Facts about processes and files that the tests here wait for or compare."""

from __future__ import annotations

import asyncio
import json
import stat
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import nats
import psutil
from asyncpg import Connection
from nats.aio.client import Client

NODE = Path(__file__).with_name("node_to_kill.py")
ROOT = NODE.parents[2]


async def until(fact: Callable[[], object], seconds: float = 20) -> None:
    """Wait for a fact that nothing announces."""
    async with asyncio.timeout(seconds):
        while not fact():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def until_gone(pid: int) -> None:
    """Wait until a process has ended that is not a child of this one."""
    await until(lambda: not alive(pid))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Client]:
    """A connection to NATS."""
    client = await nats.connect(url)
    try:
        yield client
    finally:
        await client.close()


@asynccontextmanager
async def session(url: str) -> AsyncIterator[Connection[Any]]:
    """A connection to PostgreSQL."""
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def node(
    directory: Path, *arguments: str, within: tuple[str, ...] = ()
) -> AsyncIterator[tuple[asyncio.subprocess.Process, dict[str, Any]]]:
    """A node in a process of its own (run by the command `within`), and what it says about itself once it runs."""
    process = await asyncio.create_subprocess_exec(
        *(*within, sys.executable, str(NODE), str(directory), *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60):
            facts = await _facts(process.stdout)
        yield process, facts
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _facts(said: asyncio.StreamReader) -> dict[str, Any]:
    """The first line that is an object: others before it are the log, as of what a killed node has left behind."""
    log = b""
    async for line in said:
        if line.startswith(b"{"):
            facts: dict[str, Any] = json.loads(line)
            return facts
        log += line
    raise AssertionError(f"the node ended: {log.decode()}")
