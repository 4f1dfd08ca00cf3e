"""Tools under names that providers take, and back: theirs are 1 to 64 letters, digits, `_` and `-`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

from l02.bus.wire.agent.protocol import OfferedTool

_LONGEST = 64
_OTHER = re.compile(r"[^a-zA-Z0-9_-]")


class Names:
    """What a model is offered. A tool has its own name where no other has it, else that of its server before it."""

    def __init__(self, tools: Iterable[OfferedTool]) -> None:
        tools = list(tools)
        short = {tool.name: _short(tool) for tool in tools}
        times = Counter(short.values())
        self._tools: dict[str, OfferedTool] = {}
        for tool in tools:
            wished = short[tool.name] if times[short[tool.name]] == 1 else _fitting(tool.name)
            self._tools[self._free(wished)] = tool

    def offered(self) -> list[dict[str, Any]]:
        """The tools as a model's request has them."""
        return [
            {
                "type": "function",
                "function": {"name": name, "description": tool.description, "parameters": tool.schema},
            }
            for name, tool in self._tools.items()
        ]

    def tool(self, name: str) -> OfferedTool | None:
        """What a model means by a name."""
        return self._tools.get(name)

    def __iter__(self) -> Any:
        return iter(self._tools)

    def _free(self, wished: str) -> str:
        name, number = wished, 1
        while name in self._tools:
            number += 1
            end = f"_{number}"
            name = wished[: _LONGEST - len(end)] + end
        return name


def _short(tool: OfferedTool) -> str:
    return _fitting(tool.name.removeprefix(f"{tool.server}.") if tool.server else tool.name)


def _fitting(name: str) -> str:
    return _OTHER.sub("_", name)[:_LONGEST] or "_"
