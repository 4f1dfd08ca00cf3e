"""The session bridge: what a context-orchestrator, an MCP server beside the runtime, is told of the agents.

It looks at what an agent's events say the other side has yet to hear, and says it. Nothing waits for it: whatever the
server does, the agents work on, and the events say what it has heard.
"""

from l02.handlers.sessions.bridge import SessionBridge
from l02.handlers.sessions.settings import BridgeSettings

__all__ = ["BridgeSettings", "SessionBridge"]
