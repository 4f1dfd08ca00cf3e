"""The last rounds of a model's conversation, as people read them."""

from __future__ import annotations

from typing import Any

import msgspec

from l02.agent.context import ToolError
from l02.agent.thinking.conversation import messages_in

_ROUNDS = 3
_CHARACTERS = 300


def last_rounds(state: dict[str, Any]) -> str:
    """What was said since the user's last messages but some, of the agent with this state; empty if nothing.

    What is wrong with the state, if it is that of something else.
    """
    try:
        messages = messages_in(state)
    except ToolError as error:
        return error.message
    begins = [place for place, message in enumerate(messages) if message.get("role") == "user"]
    first = begins[-_ROUNDS] if len(begins) >= _ROUNDS else 0
    lines = [f"({first} messages before)"] if first else []
    return "\n".join([*lines, *(line for message in messages[first:] for line in _lines(message))])


def _lines(message: dict[str, Any]) -> list[str]:
    said = _short(message.get("content"))
    if message.get("role") == "tool":
        return [f"    → {said}"]
    calls = message.get("tool_calls")
    lines = [f"{message.get('role')}: {said}"] if said else []
    for call in calls if isinstance(calls, list) else ():
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict):
            lines.append(f"  calls {_short(function.get('name'))} {_short(function.get('arguments'))}")
    return lines


def _short(content: Any) -> str:
    text = content if isinstance(content, str) else msgspec.json.encode(content).decode() if content else ""
    text = " ".join(text.split())
    return text if len(text) <= _CHARACTERS else f"{text[:_CHARACTERS]}… ({len(text) - _CHARACTERS:,} characters more)"
