"""Tools outside of agents: MCP servers over stdio, each in a sandbox of its own and shared by all agents of a node.

The package `mcp` takes half a second and 50 MB to import, so only `connection` imports it, and only once a server is
wanted.
"""

from handlers.tool_servers.model import ToolFailed, ToolInfo, ToolNotRun, ToolRefused
from handlers.tool_servers.servers import ToolServers

__all__ = ["ToolFailed", "ToolInfo", "ToolNotRun", "ToolRefused", "ToolServers"]
