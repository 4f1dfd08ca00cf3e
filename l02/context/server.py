"""The MCP side of the context server: which tools there are, and how a call is read, done and answered."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib.metadata import version
from inspect import cleandoc
from typing import Any

import mcp_types as mcp
import msgspec
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from mcp.shared.exceptions import MCPError

from l02.bus.connection.postgres import UNANSWERED
from l02.context.arguments import TOOLS, Arguments
from l02.context.checkpoints import create_checkpoint, rollback_to
from l02.context.model import ToolRefused
from l02.context.recovery import check_recovery
from l02.context.store import Store
from l02.context.tasks import Project, get_unified_context, save_context_snapshot, switch_task

Tool = Callable[[Store, Any], Awaitable[dict[str, Any]]]
_REFERENCE = "#/$defs/{name}"


async def serve(store: Store, project: Project) -> None:
    """Answer on standard input and output until the client closes them."""

    async def get_context(store: Store, arguments: Any) -> dict[str, Any]:
        return await get_unified_context(store, arguments, project)

    tools: dict[str, Tool] = {
        "get_unified_context": get_context,
        "save_context_snapshot": save_context_snapshot,
        "create_checkpoint": create_checkpoint,
        "rollback_to": rollback_to,
        "check_recovery": check_recovery,
        "switch_task": switch_task,
    }

    async def call(context: ServerRequestContext[Any], params: mcp.CallToolRequestParams) -> mcp.CallToolResult:
        return await _call(store, tools, params.name, params.arguments or {})

    server = Server("l02-context", version=version("l02"), on_list_tools=_list, on_call_tool=call)
    async with stdio_server() as (incoming, outgoing):
        await server.run(incoming, outgoing, server.create_initialization_options())


async def _list(context: ServerRequestContext[Any], params: mcp.PaginatedRequestParams | None) -> mcp.ListToolsResult:
    return mcp.ListToolsResult(tools=[_described(name, arguments) for name, arguments in TOOLS.items()])


def _described(name: str, arguments: type[Arguments]) -> mcp.Tool:
    (reference,), definitions = msgspec.json.schema_components([arguments], ref_template=_REFERENCE)
    own = definitions.pop(reference["$ref"].rpartition("/")[2])
    description = cleandoc(own.pop("description"))
    return mcp.Tool(name=name, description=description, input_schema={**own, "$defs": definitions})


async def _call(store: Store, tools: dict[str, Tool], name: str, given: dict[str, Any]) -> mcp.CallToolResult:
    """A refusal is the tool's answer, marked as an error; that PostgreSQL is away is an error of the protocol."""
    tool = tools.get(name)
    if tool is None:
        raise MCPError(mcp.INVALID_PARAMS, f"there is no tool {name!r}; there are {', '.join(tools)}")
    try:
        answer = await tool(store, msgspec.convert(given, TOOLS[name]))
    except (ToolRefused, msgspec.ValidationError) as error:
        return _text(str(error), is_error=True)
    except UNANSWERED as error:
        raise MCPError(mcp.INTERNAL_ERROR, f"PostgreSQL does not do it: {error or type(error).__name__}") from error
    return _text(msgspec.json.encode(answer).decode())


def _text(text: str, *, is_error: bool = False) -> mcp.CallToolResult:
    return mcp.CallToolResult(content=[mcp.TextContent(type="text", text=text)], is_error=is_error)
