"""Tests of l02 mcp context, the MCP server of the session bridge."""
