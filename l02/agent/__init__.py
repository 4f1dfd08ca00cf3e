"""The agent SDK: what an agent's file imports.

It runs inside a sandbox that has nothing but Python's standard library and msgspec, in processes forked from one
that imported it before; so it imports nothing else, and importing it starts nothing.
"""

from __future__ import annotations

from l02.agent.context import Context, ToolError
from l02.agent.definition import Agent

__all__ = ["Agent", "Context", "ToolError"]
