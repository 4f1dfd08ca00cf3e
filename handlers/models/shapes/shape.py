"""What differs between the kinds of endpoints: where they are asked, how, and how their answers read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import msgspec
from msgspec import Struct

from l02.domain.errors import ErrorCode
from l02.domain.inference import ModelUsage
from l02.handlers.models.conversation import Checked
from l02.handlers.models.endpoints.draft import Draft, Tokens
from l02.handlers.models.endpoints.faults import Fault, message_of
from l02.handlers.models.settings import Endpoint

NOTHING = msgspec.Raw(b"null")


class Shape(ABC):
    """One kind of endpoint. What it reads raises one of UNREADABLE, or a Fault."""

    path: ClassVar[str]

    @abstractmethod
    def headers(self, key: str | None) -> dict[str, str]:
        """Those that say who asks."""

    @abstractmethod
    def body(self, endpoint: Endpoint, asked: Checked, max_tokens: int) -> dict[str, Any]:
        """The request as the endpoint reads it; `max_tokens` of output at most."""

    @abstractmethod
    def whole(self, body: bytes, draft: Draft) -> None:
        """Take an answer that came in one message."""

    @abstractmethod
    def piece(self, data: str, draft: Draft) -> str:
        """Take one message of a stream; gives the text in it."""


def bearer(key: str | None) -> dict[str, str]:
    """The usual header for a key."""
    return {} if key is None else {"authorization": f"Bearer {key}"}


def refuse_error(error: msgspec.Raw) -> None:
    """Raises Fault if the endpoint says within an answer that it failed; it may be well the next time."""
    if error != NOTHING:
        message = message_of(b'{"error":%b}' % bytes(error))
        raise Fault(ErrorCode.INFERENCE_FAILED, message, again=True, charged=True, unwell=True)


class Cached(Struct):
    """A part of the input."""

    cached_tokens: Tokens | None = None


class Reasoning(Struct):
    """A part of the output."""

    reasoning_tokens: Tokens | None = None


def usage_of(read: int, cached: Cached | None, written: int, reasoning: Reasoning | None) -> ModelUsage:
    """What was used; a part is never more than its whole."""
    return ModelUsage(
        input_tokens=read,
        cached_tokens=min((cached and cached.cached_tokens) or 0, read),
        output_tokens=written,
        reasoning_tokens=min((reasoning and reasoning.reasoning_tokens) or 0, written),
    )


def is_strict(schema: dict[str, Any]) -> bool:
    """Whether it is one that OpenAI can hold an answer to: every object has all its properties, and no others."""
    left: list[Any] = [schema]
    while left:
        each = left.pop()
        if isinstance(each, list):
            left.extend(each)
        elif isinstance(each, dict):
            properties, required = each.get("properties"), each.get("required")
            if isinstance(properties, dict):
                complete = isinstance(required, list) and all(name in required for name in properties)
                if not complete or each.get("additionalProperties") is not False:
                    return False
            left.extend(each.values())
    return True
