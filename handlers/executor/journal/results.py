"""What an effect came to, as its agent sees it."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, Struct

from l02.bus.wire.agent.protocol import Answer, CallError
from l02.domain.errors import ErrorCode, error_code


class Result(Struct, frozen=True):
    """What an effect came to, as the agent will see it."""

    ok: bool
    value: Any

    def answer(self, execution_id: str, call: int) -> Answer:
        """The message to the agent."""
        if self.ok:
            return Answer(execution_id=execution_id, call=call, ok=True, result=self.value)
        said = self.value if isinstance(self.value, dict) else {"message": self.value}
        code = error_code(str(said.get("code"))) or ErrorCode.TOOL_INVOCATION_FAILED
        message, content = str(said.get("message", "")), said.get("content", UNSET)
        error = CallError(code=code.value, name=code.name, message=message, content=content)
        return Answer(execution_id=execution_id, call=call, ok=False, error=error)
