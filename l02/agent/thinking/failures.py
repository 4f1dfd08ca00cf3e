"""How the built-in agent itself fails: with a code of its own, which stands beside E2005, and what to do about it."""

from __future__ import annotations

from l02.agent.context import ToolError


def failure(code: str, message: str) -> ToolError:
    """The failure of an execution."""
    return ToolError(code, code, message)
