"""One running tool server and the MCP session with it.

The only file that imports `mcp`; others import this file when the first server is wanted, in a thread. The package's
own stdio transport is not used: it gathers a line without bound, in time quadratic to its length, and cannot tell
whether a request went out before the connection was lost.
"""

from __future__ import annotations

import asyncio
import signal
from asyncio.subprocess import Process
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import anyio
import mcp_types as mcp
from mcp.client.session import ClientSession
from mcp.shared.exceptions import MCPError
from mcp.shared.message import SessionMessage

from domain.specification import RuntimeClass, ToolServer
from handlers.tool_servers.launch import CHUNK_BYTES, start, stop
from handlers.tool_servers.model import Request, ToolFailed, ToolInfo, ToolNotRun, ToolRefused

__all__ = ["LINE_BYTES", "START_SECONDS", "Connection", "serve"]

START_SECONDS = 30.0
"""From the process's start to the list of its tools."""
LINE_BYTES = 8 * 1024 * 1024
"""The longest message of a server: half of what an agent's socket takes, as JSON may grow when it is written again."""
UNREAD_BYTES = 1024 * 1024
"""Answers and cancellations that a server leaves unread in its pipe beyond this are dropped; requests wait instead."""
MAX_PAGES = 100
_SHOWN_CHARACTERS = 100


_request: ContextVar[Request | None] = ContextVar("tool request", default=None)


class _Stream:
    """What the MCP session expects of a stream besides its messages."""

    async def aclose(self) -> None:
        """Nothing: the process's owner closes the pipes."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


class _Incoming(_Stream):
    """The server's messages, until the connection is lost; `lost` then says why, and `on_lost` has been called."""

    def __init__(self, process: Process, on_lost: Callable[[], None]) -> None:
        assert process.stdout is not None
        self.lost: str | None = None
        self._process = process
        self._stdout = process.stdout
        self._on_lost = on_lost
        self._begun = bytearray()
        self._lines: deque[bytes] = deque()

    def lose(self, reason: str) -> None:
        """Give the connection up. The first reason counts."""
        if self.lost is None:
            self.lost = reason
            self._on_lost()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SessionMessage:
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    async def receive(self) -> SessionMessage:
        """The next request or response. Notifications are passed over: nothing here depends on one."""
        while self.lost is None:
            line = await self._line()
            if not line or line.isspace():
                continue
            try:
                message = mcp.jsonrpc_message_adapter.validate_json(line, by_name=False)
            except ValueError:
                shown = line[: 4 * _SHOWN_CHARACTERS].decode(errors="replace")[:_SHOWN_CHARACTERS]
                self.lose(f"wrote on its standard output what is no MCP message: {shown!r}")
            else:
                if not isinstance(message, mcp.JSONRPCNotification):
                    return SessionMessage(message)
        raise anyio.EndOfStream

    async def _line(self) -> bytes:
        """The next line without its newline; empty when the connection is lost."""
        while not self._lines:
            chunk = await self._stdout.read(CHUNK_BYTES)
            if not chunk:
                self.lose(await self._ending())
                return b""
            first, *others = chunk.split(b"\n")
            self._begun += first
            if len(self._begun) > LINE_BYTES:
                self._begun.clear()
                self.lose(f"wrote a message of more than {LINE_BYTES:,} bytes")
                return b""
            if others:
                self._lines.append(bytes(self._begun))
                self._lines.extend(others[:-1])
                self._begun = bytearray(others[-1])
        return self._lines.popleft()

    async def _ending(self) -> str:
        code = await self._process.wait()
        return f"exited with code {code}" if code >= 0 else f"was killed by {signal.Signals(-code).name}"


class _Outgoing(_Stream):
    """Messages to the server. Requests wait until it has read what was written before; others never wait."""

    def __init__(self, process: Process) -> None:
        assert process.stdin is not None
        self._stdin = process.stdin
        self._turn = asyncio.Lock()

    async def send(self, message: SessionMessage, /) -> None:
        """Write a message; raises BrokenResourceError, as the session expects, if that is not possible any more."""
        if isinstance(message.message, mcp.JSONRPCRequest):
            async with self._turn:
                try:
                    await self._stdin.drain()
                except OSError as error:
                    raise anyio.BrokenResourceError from error
                self._write(message)
                request = _request.get()
                if request is not None:
                    request.sent = True
        elif self._stdin.transport.get_write_buffer_size() <= UNREAD_BYTES:
            self._write(message)

    def _write(self, message: SessionMessage) -> None:
        if self._stdin.is_closing():
            raise anyio.BrokenResourceError
        self._stdin.write(message.message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n")


class Connection:
    """A server that answers. `tools` is what it offered when it started."""

    def __init__(self, name: str, session: ClientSession, incoming: _Incoming, tools: dict[str, ToolInfo]) -> None:
        self.tools = tools
        self._name = name
        self._session = session
        self._incoming = incoming

    @property
    def lost(self) -> bool:
        """Whether the connection is of no use any more."""
        return self._incoming.lost is not None

    async def call(self, tool: str, arguments: dict[str, Any], request: Request) -> Any:
        """Call a tool; `request.sent` tells also a caller who gives up waiting whether it may have run.

        The result is not checked against the tool's output schema: a schema can make a check arbitrarily slow, and
        this runs on the node's event loop. Raises ToolNotRun and ToolFailed; ToolRefused if the server is well.
        """
        message = mcp.CallToolRequest(params=mcp.CallToolRequestParams(name=tool, arguments=arguments))
        token = _request.set(request)
        try:
            result = await self._session.send_request(message, mcp.CallToolResult)
        except MCPError as error:
            if not request.sent:
                raise ToolNotRun(f"{self._name} {self._incoming.lost or 'closed its standard input'}") from error
            if error.code == mcp.CONNECTION_CLOSED and self._incoming.lost is not None:
                raise ToolFailed(f"{self._name} {self._incoming.lost} before it answered") from error
            raise ToolRefused(error.message) from error
        except ValueError as error:
            if not request.sent:
                raise ToolFailed(f"the arguments cannot be written as JSON: {error}") from error
            raise ToolFailed(f"{self._name} answered with what is no result of a tool: {error}") from error
        finally:
            _request.reset(token)
        if result.is_error:
            texts = [block.text for block in result.content if isinstance(block, mcp.TextContent)]
            raise ToolRefused("\n".join(texts) or "the tool failed without a message")
        return _value(result)


async def serve(
    server: ToolServer,
    runtime_class: RuntimeClass,
    scratch: Path,
    log: Path,
    ready: asyncio.Future[Connection | ToolNotRun],
    on_lost: Callable[[], None],
) -> None:
    """Run one server until the connection with it is lost or this is cancelled; it is gone when this returns.

    `ready` is given the connection, or why there is none. `on_lost` is called once if the server fails, in the
    handshake or later. Raises ToolNotRun if there is not even a process.
    """
    process = await start(server, runtime_class, scratch, log)
    name = f"the tool server {server.command[0]!r}"
    over = asyncio.Event()

    def lost() -> None:
        on_lost()
        over.set()

    incoming = _Incoming(process, lost)
    client = mcp.Implementation(name="l02", version=version("l02"))
    try:
        async with ClientSession(incoming, _Outgoing(process), client_info=client) as session:
            try:
                tools = await _handshake(session, incoming)
                if incoming.lost is None:
                    ready.set_result(Connection(name, session, incoming, tools))
                else:
                    ready.set_result(ToolNotRun(f"{name} {incoming.lost}; it logs to {log}"))
                await over.wait()
            finally:
                incoming.lost = incoming.lost or "was stopped"
    finally:
        await stop(process, at_once=over.is_set())


async def _handshake(session: ClientSession, incoming: _Incoming) -> dict[str, ToolInfo]:
    try:
        async with asyncio.timeout(START_SECONDS):
            await session.initialize()
            return await _list_tools(session)
    except TimeoutError:
        incoming.lose(f"did not answer the MCP handshake within {START_SECONDS:g} s")
    except (MCPError, RuntimeError, ValueError) as error:
        incoming.lose(f"failed in the MCP handshake: {error}")
    return {}


async def _list_tools(session: ClientSession) -> dict[str, ToolInfo]:
    tools: dict[str, ToolInfo] = {}
    cursor: str | None = None
    for _ in range(MAX_PAGES):
        page = await session.list_tools(params=mcp.PaginatedRequestParams(cursor=cursor) if cursor else None)
        for tool in page.tools:
            tools[tool.name] = ToolInfo(tool.name, tool.description or "", tool.input_schema)
        cursor = page.next_cursor
        if not cursor:
            return tools
    raise ValueError(f"its list of tools has more than {MAX_PAGES} pages")


def _value(result: mcp.CallToolResult) -> Any:
    if result.structured_content is not None:
        return result.structured_content
    blocks = [
        block.text
        if isinstance(block, mcp.TextContent)
        else block.model_dump(mode="json", by_alias=True, exclude_none=True)
        for block in result.content
    ]
    if len(blocks) > 1:
        return blocks
    return blocks[0] if blocks else None
