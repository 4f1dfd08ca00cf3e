"""An honest MCP server, written with the package `mcp`, whose tools try what a test wants tried."""

from __future__ import annotations

import asyncio
import os
import runpy
import socket
import sys
from pathlib import Path
from typing import Any

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import CallToolResult, ImageContent, TextContent

server = MCPServer("workshop")
running: set[str] = set()


@server.tool(structured_output=False)
def echo(text: str) -> str:
    """Answer with the same text."""
    return text


@server.tool()
def add(a: int, b: int) -> dict[str, int]:
    return {"sum": a + b}


@server.tool(structured_output=False)
def several() -> CallToolResult:
    image = ImageContent(type="image", data="AAAA", mime_type="image/png")
    return CallToolResult(content=[TextContent(type="text", text="one"), image])


@server.tool(structured_output=False)
def nothing() -> None:
    return None


@server.tool(structured_output=False)
def fail(message: str) -> str:
    raise ToolError(message)


@server.tool(structured_output=False)
async def slow(seconds: float, name: str) -> str:
    running.add(name)
    try:
        await asyncio.sleep(seconds)
    finally:
        running.discard(name)
    return name


@server.tool()
def state() -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "running": sorted(running),
        "cwd": str(Path.cwd()),
        "environment": dict(os.environ),
    }


@server.tool(structured_output=False)
def leave(code: int) -> None:
    os._exit(code)


@server.tool(structured_output=False)
def complain(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@server.tool(structured_output=False)
def rant(megabytes: int) -> None:
    for _ in range(megabytes):
        os.write(2, b"x" * 999_999 + b"\n")


@server.tool()
def attempt(what: str, target: str) -> dict[str, Any]:
    """Say what came of reading or writing a file, or connecting to a port."""
    try:
        if what == "read":
            return {"done": Path(target).read_text()}
        if what == "write":
            Path(target).write_text("written")
        else:
            socket.create_connection(("127.0.0.1", int(target)), timeout=5).close()
    except OSError as error:
        return {"refused": type(error).__name__}
    return {"done": True}


@server.tool()
def reach(script: str, targets: dict[str, Any]) -> dict[str, Any]:
    """Say what of a script's attempts to reach a peer succeeded."""
    return {"reached": runpy.run_path(script)["reached"](targets)}


server.run()
