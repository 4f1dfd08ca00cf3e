"""`l02 mcp context` as any MCP client runs it: a process, spoken to over its standard input and output."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import mcp_types as mcp
import pytest
from mcp.client.session import ClientSession
from mcp.client.stdio import StdioServerParameters, stdio_client


class ContextServer:
    """A running server."""

    def __init__(self, session: ClientSession) -> None:
        self.session = session

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
        yield ContextServer(session)


@pytest.fixture
def start(database: str) -> Callable[..., AbstractAsyncContextManager[ContextServer]]:
    """Start a server on this test's database; several may run at once."""
    return lambda *options: serving(database, *options)
