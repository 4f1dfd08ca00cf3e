"""Tool servers of the node under test, and specifications of the servers in `servers/`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio

from l02.domain.specification import ToolServer
from l02.handlers.tool_servers import ToolServers
from tests.conftest import PLAIN_PYTHON

landlock_only = pytest.mark.skipif(sys.platform != "linux", reason="Landlock is a part of Linux")

SERVERS = Path(__file__).with_name("servers")


def specification(name: str, *arguments: str, **fields: Any) -> ToolServer:
    """A specification of one of the servers beside this file."""
    read = (str(SERVERS), *fields.pop("read", ()))
    python = PLAIN_PYTHON if name != "workshop" else (sys.executable,)
    return ToolServer(command=(*python, str(SERVERS / f"{name}.py"), *arguments), read=read, **fields)


WORKSHOP = specification("workshop", environment={"COLOUR": "green"})
ROGUE = specification("rogue")


def running(argument: str) -> list[psutil.Process]:
    """The processes below this one, alive, with this argument or this among their policy's words."""
    return [process for process in psutil.Process().children(recursive=True) if _has_argument(process, argument)]


def _has_argument(process: psutil.Process, argument: str) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE and any(argument in word for word in process.cmdline())
    except psutil.NoSuchProcess:
        return False


async def until(fact: Callable[[], object], seconds: float = 20) -> None:
    """Wait for a fact that nothing announces."""
    async with asyncio.timeout(seconds):
        while not fact():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


@pytest_asyncio.fixture(scope="package")
async def shared_servers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ToolServers]:
    """One node's tool servers for all tests that leave them as they found them."""
    root = tmp_path_factory.mktemp("tools")
    async with ToolServers(root / "scratch", root / "logs") as servers:
        yield servers


@pytest_asyncio.fixture
async def servers(tmp_path: Path) -> AsyncIterator[ToolServers]:
    async with ToolServers(tmp_path / "scratch", tmp_path / "logs") as servers:
        yield servers
