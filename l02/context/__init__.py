"""A small context-orchestrator: the MCP server that the session bridge speaks to where no other is configured.

It runs as a process of its own (`l02 mcp context`) and knows nothing of the node, so whatever happens to it the agents
work on. It keeps tasks, the versions of their contexts, checkpoints of these and the sessions that work on them in
schema `l02_context` of PostgreSQL.
"""
