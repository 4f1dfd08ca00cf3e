"""How much has gone through an execution's context, and when it is full."""

from __future__ import annotations

from typing import Any

import msgspec

from l02.domain.errors import ErrorCode, Failure
from l02.domain.values import as_reference
from l02.handlers.tool_servers.results import without_binary

_BYTES_PER_TOKEN = 4
_MAX_VALUE_BYTES = 8 * 1024 * 1024


class ContextMeter:
    """Counts tokens as a quarter of the JSON's bytes: the usual rule of thumb for English text and code.

    The bytes of images, sound and other blobs in the content of an MCP result are not counted: they are no text.

    A model's own count replaces it where a model was asked; this one needs no model.
    """

    def __init__(self, window_tokens: int) -> None:
        self.tokens = 0
        self._window = window_tokens

    def add(self, value: Any) -> None:
        """Count a value that enters the context; Failure E2003 or E2115, and it does not enter, if it is too large."""
        reference = as_reference(value)
        size = len(msgspec.json.encode(value)) if reference is None else reference.size
        if size > _MAX_VALUE_BYTES:
            raise Failure(
                ErrorCode.PAYLOAD_TOO_LARGE, f"the value has {size} bytes, at most {_MAX_VALUE_BYTES} can be passed on"
            )
        text = without_binary(value)
        text_size = size if text is value else len(msgspec.json.encode(text))
        tokens = -(-text_size // _BYTES_PER_TOKEN)
        if self.tokens + tokens > self._window:
            raise Failure(
                ErrorCode.CONTEXT_OVERFLOW,
                f"{tokens} more tokens do not fit: {self.tokens} of {self._window} (context_window_tokens) are in use",
            )
        self.tokens += tokens
