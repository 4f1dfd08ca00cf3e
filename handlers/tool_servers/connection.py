"""One running tool server: its process, the MCP handshake, its tools and calls of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import structlog
from msgspec import Raw, Struct

from l02.bus.background.cancelling import end
from l02.domain.specification import RuntimeClass, ToolServer
from l02.handlers.sandbox.log import begin_log, keep_log
from l02.handlers.tool_servers.launch import start, stop, why_not_fetched
from l02.handlers.tool_servers.messages import LINE_BYTES, read
from l02.handlers.tool_servers.model import Request, ToolFailed, ToolInfo, ToolNotRun
from l02.handlers.tool_servers.results import read_result
from l02.handlers.tool_servers.rpc import METHOD_NOT_FOUND, RequestRefused, Rpc

START_SECONDS = 30.0
"""From the process's start to the list of its tools."""
LIST_SECONDS = 5.0
"""For the list of tools once more, when it has changed."""
LAST_WORDS_SECONDS = 0.5
"""For what a process that has ended left in the pipe of its log; a process of its own may hold that open."""
MAX_PAGES = 100
MAX_TOOLS = 10_000
MAX_LIST_BYTES = 2 * LINE_BYTES
PROTOCOL_VERSIONS = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
"""The revisions of MCP that begin with a handshake. What they differ in is not used here."""

_AT_ONCE_BYTES = 64 * 1024
_ANY_OBJECT = {"type": "object"}
_FAILURES = (RequestRefused, ToolFailed, ToolNotRun, ValueError)
_log = structlog.get_logger()
_T = TypeVar("_T")


class _Initialized(Struct, frozen=True):
    version: Any = msgspec.field(name="protocolVersion", default=None)


class _Page(Struct, frozen=True):
    tools: list[Raw] | None = None
    next_cursor: Any = msgspec.field(name="nextCursor", default=None)


class _Listed(Struct, frozen=True):
    name: str
    description: Any = None
    schema: Any = msgspec.field(name="inputSchema", default=None)


class Connection:
    """A server that answers."""

    def __init__(self, rpc: Rpc) -> None:
        self._rpc = rpc
        self._tools: dict[str, ToolInfo] = {}
        self._listed_at = -1
        self._turn = asyncio.Lock()

    @property
    def lost(self) -> bool:
        """Whether the connection is of no use any more."""
        return self._rpc.lost is not None

    @property
    def noise(self) -> str:
        """What the server wrote first that is no message, as an addition to a sentence; empty if nothing."""
        return "" if self._rpc.noise is None else f"; it {self._rpc.noise}"

    async def open(self) -> None:
        """The handshake, and the first list of tools. Raises one of `_FAILURES`."""
        client = {"name": "l02", "version": version("l02")}
        offer = {"protocolVersion": PROTOCOL_VERSIONS[-1], "capabilities": {}, "clientInfo": client}
        answer = read(await self._rpc.request("initialize", offer), _Initialized)
        if answer.version not in PROTOCOL_VERSIONS:
            raise ValueError(f"Unsupported protocol version from the server: {str(answer.version)[:40]}")
        self._rpc.notify("notifications/initialized", {})
        await self._list()

    async def tools(self) -> dict[str, ToolInfo]:
        """What the server offers at present; what it offered before, if it does not say."""
        async with self._turn:
            if self._listed_at != self._rpc.changes and not self.lost:
                try:
                    async with asyncio.timeout(LIST_SECONDS):
                        await self._list()
                except (TimeoutError, *_FAILURES) as error:
                    _log.warning("a tool server does not list its tools anew", server=self._rpc.name, error=str(error))
        return self._tools

    async def _list(self) -> None:
        self._listed_at = self._rpc.changes
        self._tools = await _list_tools(self._rpc)

    async def call(self, tool: str, arguments: dict[str, Any], request: Request) -> Any:
        """Call a tool; `request.sent` tells also a caller who gives up waiting whether it may have run.

        The result is not checked against the tool's output schema: a schema can make a check arbitrarily slow, and
        this runs on the node's event loop. Raises ToolNotRun and ToolFailed; ToolRefused if the server is well.
        """
        try:
            result = await self._rpc.request("tools/call", {"name": tool, "arguments": arguments}, request)
        except RequestRefused as refused:
            raise refused.refusal from refused
        try:
            return await _parsed(read_result, result)
        except ValueError as error:
            raise ToolFailed(f"{self._rpc.name} answered with what is no result of a tool: {error}") from error


async def serve(
    server: ToolServer,
    runtime_class: RuntimeClass,
    scratch: Path,
    log: Path,
    ready: asyncio.Future[Connection | ToolNotRun],
    on_lost: Callable[[str], None],
) -> None:
    """Run one server until the connection with it is lost or this is cancelled; it is gone when this returns.

    `ready` is given the connection, or why there is none. `on_lost` is called once, with the reason, if the server
    fails, in the handshake or later. Raises ToolNotRun if there is not even a process.
    """
    await asyncio.to_thread(begin_log, log)
    process = await start(server, runtime_class, scratch)
    assert process.stderr is not None
    logging = asyncio.create_task(keep_log(process.stderr, log))
    over = asyncio.Event()
    hint = why_not_fetched(server, runtime_class)

    def lost(reason: str) -> None:
        on_lost(reason if ready.done() else reason + hint)
        over.set()

    rpc = Rpc(process, f"the tool server {server.command[0]!r}", lost)
    try:
        reading = asyncio.create_task(rpc.read())
        try:
            ready.set_result(await _open(rpc, hint, log))
            await over.wait()
        finally:
            rpc.close("was stopped")
            await end(reading)
    finally:
        try:
            await stop(process, at_once=over.is_set())
            await asyncio.wait({logging}, timeout=LAST_WORDS_SECONDS)
        finally:
            await end(logging)


async def _open(rpc: Rpc, hint: str, log: Path) -> Connection | ToolNotRun:
    connection = Connection(rpc)
    try:
        async with asyncio.timeout(START_SECONDS):
            await connection.open()
    except TimeoutError:
        rpc.lose(f"did not answer the MCP handshake within {START_SECONDS:g} s{connection.noise}")
    except _FAILURES as error:
        rpc.lose(f"failed in the MCP handshake: {error}")
    return connection if rpc.lost is None else ToolNotRun(f"{rpc.name} {rpc.lost}{hint}; it logs to {log}")


async def _list_tools(rpc: Rpc) -> dict[str, ToolInfo]:
    tools: dict[str, ToolInfo] = {}
    cursor: str | None = None
    size = 0
    for _ in range(MAX_PAGES):
        try:
            raw = await rpc.request("tools/list", {} if cursor is None else {"cursor": cursor})
        except RequestRefused as refused:
            if refused.code == METHOD_NOT_FOUND:
                return tools  # a server of other things
            raise
        size += len(bytes(raw))
        page, found = await _parsed(_page, raw)
        tools |= found
        if len(tools) > MAX_TOOLS or size > MAX_LIST_BYTES:
            raise ValueError(f"its list of tools has more than {MAX_TOOLS:,} entries or {MAX_LIST_BYTES:,} bytes")
        cursor = page.next_cursor if isinstance(page.next_cursor, str) else None
        if not cursor:
            return tools
    raise ValueError(f"its list of tools has more than {MAX_PAGES} pages")


def _page(raw: Raw) -> tuple[_Page, dict[str, ToolInfo]]:
    page = read(raw, _Page)
    found = map(_tool, page.tools or [])
    return page, {tool.name: tool for tool in found if tool is not None}


async def _parsed(parse: Callable[[Raw], _T], raw: Raw) -> _T:
    """What `parse` makes of `raw`, which is the server's: in a thread if it is so much that others would wait."""
    if len(bytes(raw)) <= _AT_ONCE_BYTES:
        return parse(raw)
    return await asyncio.to_thread(parse, raw)


def _tool(entry: Raw) -> ToolInfo | None:
    """A tool; what is none is passed over, so that the others are there. Without a schema it takes any object."""
    try:
        listed = read(entry, _Listed)
    except ValueError:
        return None
    description = listed.description if isinstance(listed.description, str) else ""
    schema = listed.schema if isinstance(listed.schema, dict) and listed.schema else _ANY_OBJECT
    return ToolInfo(listed.name, description, schema)
