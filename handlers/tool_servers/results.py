"""How the result of an MCP tool becomes a value for the agent and the log: `docs/tools.md` says it for users."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct

from l02.handlers.tool_servers.messages import read
from l02.handlers.tool_servers.model import ToolRefused

MESSAGE_CHARACTERS = 8192
"""The longest message of a failed tool; what is more stands in its content."""
_NO_MESSAGE = "the tool failed without a message"


class _Result(Struct, frozen=True):
    content: list[dict[str, Any]] | None = None
    structured: Any = msgspec.field(name="structuredContent", default=None)
    is_error: bool | None = msgspec.field(name="isError", default=None)
    meta: dict[str, Any] | None = msgspec.field(name="_meta", default=None)


class _Error(Struct, frozen=True):
    code: Any = None
    message: Any = None
    data: Any = UNSET


def read_result(raw: Raw) -> Any:
    """The value of a result. Raises ToolRefused if it says that the tool failed, ValueError if it is no result."""
    result = read(raw, _Result)
    blocks = [_block(block) for block in result.content or []]
    value = _value(result, blocks)
    if result.is_error:
        texts = [block["text"] for block in result.content or [] if block["type"] == "text"]
        is_all = value is None or value == "\n".join(texts) or value == texts
        raise _refused("\n".join(texts), UNSET if is_all else value)
    return value


def read_error(raw: Raw) -> tuple[Any, ToolRefused]:
    """The code of a JSON-RPC error, and what is told of it. Raises ValueError if it is none."""
    error = read(raw, _Error)
    message = error.message if isinstance(error.message, str) else msgspec.json.encode(error.message).decode()
    if error.data is UNSET:
        return error.code, _refused(message, UNSET)
    return error.code, _refused(message, {"code": error.code, "message": error.message, "data": error.data})


def main_part(value: Any) -> Any:
    """Of a value the part that a program reads: its structured content, else its first text or block."""
    match value:
        case {"structuredContent": structured}:
            return structured
        case {"content": [first, *_]} | [first, *_]:
            return main_part(first)
        case {"type": "text", "text": str() as text}:
            return text
    return value


def _block(block: dict[str, Any]) -> Any:
    """A block of text that has nothing else counts as its string."""
    kind, text = block.get("type"), block.get("text")
    if not isinstance(kind, str):
        raise ValueError("a block of its content has no type")
    if kind == "text" and not isinstance(text, str):
        raise ValueError("a block of text has none")
    return text if block.keys() == {"type", "text"} else block


def _value(result: _Result, blocks: list[Any]) -> Any:
    has_structure = result.structured is not None
    if not result.meta and (not has_structure or _is_copy(blocks, result.structured)):
        if has_structure:
            return result.structured
        return blocks if len(blocks) > 1 else blocks[0] if blocks else None
    parts = {"structuredContent": result.structured, "content": result.content or None, "_meta": result.meta or None}
    return {name: part for name, part in parts.items() if part is not None}


def _is_copy(blocks: list[Any], structured: Any) -> bool:
    """Whether the text beside structured content only repeats it, as MCP asks servers to do for older clients."""
    if not all(isinstance(block, str) for block in blocks):
        return False
    if not blocks:
        return True
    said = [_said(text) for text in blocks]
    meant = structured["result"] if isinstance(structured, dict) and structured.keys() == {"result"} else structured
    return meant in (said, blocks) or (len(blocks) == 1 and (said[0] in (structured, meant) or blocks[0] == meant))


def _said(text: str) -> Any:
    try:
        return read(Raw(text.encode()), object)
    except ValueError:
        return text


def _refused(message: str, content: Any) -> ToolRefused:
    if len(message) > MESSAGE_CHARACTERS:
        content = message if content is UNSET else content
        message = message[: MESSAGE_CHARACTERS - 1] + "…"
    return ToolRefused(message or _NO_MESSAGE, content)
