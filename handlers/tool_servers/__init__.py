"""Tools outside of agents: MCP servers over stdio, each in a sandbox of its own and shared by all agents of a node."""

from l02.handlers.tool_servers.model import ToolFailed, ToolInfo, ToolNotRun, ToolRefused
from l02.handlers.tool_servers.servers import ToolServers

__all__ = ["ToolFailed", "ToolInfo", "ToolNotRun", "ToolRefused", "ToolServers"]
