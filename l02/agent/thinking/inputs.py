"""What an execution's input means to a model: a text is what its user says, messages are taken as they are."""

from __future__ import annotations

from typing import Any

import msgspec

from l02.agent.thinking.conversation import Message, user
from l02.agent.thinking.failures import ThinkingFailed

_ROLES = ("user", "assistant", "system")


def messages_of(given: Any) -> list[Message]:
    """A text, `{messages: […]}`, or any other JSON value, which the model gets as JSON. Raises `ToolError`."""
    if isinstance(given, str):
        return [user(given)]
    if isinstance(given, dict) and given.keys() == {"messages"}:
        return _messages(given["messages"])
    return [user(msgspec.json.encode(given).decode())]


def _messages(given: Any) -> list[Message]:
    if not isinstance(given, list) or not given:
        raise _wrong("`messages` is a list of at least one message")
    return [_message(number, message) for number, message in enumerate(given)]


def _message(number: int, given: Any) -> Message:
    if not isinstance(given, dict) or given.keys() != {"role", "content"}:
        raise _wrong(f"messages[{number}] is not an object of `role` and `content`")
    if given["role"] not in _ROLES:
        raise _wrong(f"the role of messages[{number}] is none of {', '.join(_ROLES)}")
    content = given["content"]
    parts = content if isinstance(content, list) else []
    if not isinstance(content, str) and not (parts and all(isinstance(part, dict) for part in parts)):
        raise _wrong(f"the content of messages[{number}] is neither a text nor a list of parts")
    return given


def _wrong(what: str) -> Exception:
    return ThinkingFailed(
        "INPUT_INVALID", f"{what}; give a text, {{messages: [{{role, content}}]}}, or any other JSON value"
    )
