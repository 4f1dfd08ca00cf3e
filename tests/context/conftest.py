"""`l02 mcp context` as any MCP client runs it: a process, spoken to over its standard input and output."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import asyncpg
import mcp_types as mcp
import pytest
import pytest_asyncio
from mcp.client.session import ClientSession
from mcp.client.stdio import StdioServerParameters, stdio_client

from tests.conftest import new_database


class ContextServer:
    """A running server, and the database that it keeps contexts in."""

    def __init__(self, session: ClientSession, database: str) -> None:
        self.session = session
        self.database = database

    async def call(self, tool: str, **arguments: Any) -> Any:
        """The JSON that a tool answers in its one text."""
        result = await self.session.call_tool(tool, arguments)
        assert isinstance(result, mcp.CallToolResult)
        assert not result.is_error, result.content
        (content,) = result.content
        assert isinstance(content, mcp.TextContent)
        return json.loads(content.text)

    async def refused(self, tool: str, **arguments: Any) -> str:
        """What a tool says when it fails."""
        result = await self.session.call_tool(tool, arguments)
        assert isinstance(result, mcp.CallToolResult)
        assert result.is_error
        (content,) = result.content
        assert isinstance(content, mcp.TextContent)
        return content.text


@asynccontextmanager
async def serving(database: str, *options: str) -> AsyncIterator[ContextServer]:
    parameters = StdioServerParameters(
        command=sys.executable,
        args=["-m", "l02.cli", "mcp", "context", *options],
        env={"L02_POSTGRES_URL": database},
    )
    async with stdio_client(parameters) as (read, write), ClientSession(read, write) as session:
        await session.initialize()
        yield ContextServer(session, database)


@pytest.fixture
def start(database: str) -> Callable[..., AbstractAsyncContextManager[ContextServer]]:
    """Start a server on this test's database; several may run at once."""
    return lambda *options: serving(database, *options)


@pytest_asyncio.fixture(scope="package")
async def running(postgres_url: str) -> AsyncIterator[ContextServer]:
    """One server for all tests that leave its process as it is: importing the package `mcp` takes it a second."""
    started: asyncio.Future[ContextServer] = asyncio.get_running_loop().create_future()
    ended = asyncio.Event()

    async def hold() -> None:  # entered and left in one task, as anyio wants
        async with new_database(postgres_url) as database, serving(database) as server:
            started.set_result(server)
            await ended.wait()

    holding = asyncio.create_task(hold())
    await asyncio.wait((started, holding), return_when=asyncio.FIRST_COMPLETED)
    if not holding.done():
        yield started.result()
        ended.set()
    await holding


@pytest_asyncio.fixture
async def server(running: ContextServer) -> ContextServer:
    """The running server, and nothing in its tables."""
    connection = await asyncpg.connect(running.database)
    await connection.execute("TRUNCATE l02_context.tasks, l02_context.checkpoints CASCADE")
    await connection.close()
    return running
