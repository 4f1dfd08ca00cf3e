"""How the built-in agent itself fails: with a code of its own, which stands beside E2005, and what to do about it."""

from __future__ import annotations

from l02.agent.context import ToolError


class ThinkingFailed(ToolError):
    """The failure of an execution. `code` is its name too."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, code, message)
        self.args = (f"{code}: {message}",)
