"""How much has gone through an execution's context, and when it is full: both ends count, and count the same."""

from __future__ import annotations

from operator import is_
from typing import Any

import msgspec

from l02.domain.errors import ErrorCode, Failure
from l02.domain.values import as_reference

_BYTES_PER_TOKEN = 4
MAX_VALUE_BYTES = 8 * 1024 * 1024
"""Bytes of one value, as JSON."""

_MAX_BLOCKS = 10_000


class ContextMeter:
    """Counts tokens as a quarter of the JSON's bytes: the usual rule of thumb for English text and code.

    The bytes of images, sound and other blobs in the content of an MCP result are not counted: they are no text.

    A model's own count replaces it where a model was asked; this one needs no model.
    """

    def __init__(self, window_tokens: int, tokens: int = 0, *, compacted: bool = False) -> None:
        """`compacted` if the agent makes room by itself: then each value has to fit for itself alone."""
        self.tokens = tokens
        self._compacted = compacted
        self._window = window_tokens

    def add(self, value: Any) -> None:
        """Count a value that enters the context; Failure E2003 or E2115, and it does not enter, if it is too large."""
        size, tokens = _measure(value)
        require_size(size)
        used = 0 if self._compacted else self.tokens
        if used + tokens > self._window:
            raise Failure(
                ErrorCode.CONTEXT_OVERFLOW,
                f"{tokens} more tokens do not fit: {used} of {self._window} (context_window_tokens) are in use",
            )
        self.tokens += tokens

    def entered(self, value: Any) -> None:
        """Count a value that has entered the context already."""
        self.tokens += _measure(value)[1]


def require_size(size: int) -> None:
    """Failure E2115 if a value of so many bytes is too large."""
    if size > MAX_VALUE_BYTES:
        raise Failure(
            ErrorCode.PAYLOAD_TOO_LARGE, f"the value has {size} bytes, at most {MAX_VALUE_BYTES} can be passed on"
        )


def is_counted(ok: bool, result: Any) -> bool:
    """Whether a recorded result counts towards the agent's context: the message of a failure alone does not."""
    return ok or (isinstance(result, dict) and "content" in result)


def _measure(value: Any) -> tuple[int, int]:
    """Its bytes as JSON, and the tokens of those that are text."""
    reference = as_reference(value)
    size = len(msgspec.json.encode(value)) if reference is None else reference.size
    text = without_binary(value)
    text_size = size if text is value else len(msgspec.json.encode(text))
    return size, -(-text_size // _BYTES_PER_TOKEN)


def without_binary(value: Any) -> Any:
    """A tool's value without the bytes of images, sound and other blobs in its content; itself if there are none."""
    if isinstance(value, list):
        if len(value) > _MAX_BLOCKS:
            return value
        blocks = [_without_binary(block) for block in value]
        return value if all(map(is_, blocks, value)) else blocks
    if isinstance(value, dict) and isinstance(value.get("content"), list):
        content = without_binary(value["content"])
        return value if content is value["content"] else value | {"content": content}
    return _without_binary(value)


def _without_binary(block: Any) -> Any:
    match block:
        case {"type": "image" | "audio", "data": str()}:
            return block | {"data": ""}
        case {"type": "resource", "resource": {"blob": str()} as resource}:
            return block | {"resource": resource | {"blob": ""}}
    return block
