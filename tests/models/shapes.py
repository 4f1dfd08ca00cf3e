"""How the scripted endpoint speaks: the answers and streams of each kind, as its provider documents them."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Call:
    """A tool call that the model wants."""

    name: str
    arguments: str = "{}"
    id: str = "call_a"


@dataclass
class Say:
    """An answer. `usage` is input and output, and if there are more cached and reasoning; None: not said.

    A stream has a piece for each of `pieces`, else for each word; it waits `pause` seconds between any two events, and
    is broken or hangs after so many of them.
    """

    text: str = ""
    calls: list[Call] = field(default_factory=list)
    usage: tuple[int, ...] | None = (10, 5)
    finish: str | None = None
    pieces: list[str] | None = None
    model: str = "scripted-1"
    pause: float = 0.0
    break_after: int | None = None
    hang_after: int | None = None
    headers: dict[str, str] = field(default_factory=dict)

    def in_pieces(self) -> list[str]:
        """The text as a stream has it."""
        if self.pieces is not None:
            return self.pieces
        words = self.text.split(" ")
        return [word if not at else f" {word}" for at, word in enumerate(words)] if self.text else []

    @property
    def whole(self) -> str:
        """The text."""
        return "".join(self.in_pieces())

    def tokens(self) -> tuple[int, int, int, int]:
        """Input, output, cached, reasoning."""
        given = (*(self.usage or ()), 0, 0, 0, 0)
        return given[0], given[1], given[2], given[3]


def _event(data: Any, name: str | None = None) -> bytes:
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {data if isinstance(data, str) else json.dumps(data)}\n\n".encode()


class Shape(ABC):
    """One kind of endpoint."""

    @abstractmethod
    def whole(self, say: Say, asked: dict[str, Any]) -> dict[str, Any]:
        """The answer in one message."""

    @abstractmethod
    def events(self, say: Say, asked: dict[str, Any]) -> Iterator[bytes]:
        """The answer as a stream."""

    def error(self, status: int, message: str) -> dict[str, Any]:
        """What is said with a status that is no success."""
        return {"error": {"message": message, "type": "scripted_error", "param": None, "code": None}}


class Chat(Shape):
    """Chat completions."""

    def _frame(self, say: Say, kind: str) -> dict[str, Any]:
        return {"id": "chatcmpl-1", "object": kind, "created": 1_700_000_000, "model": say.model}

    def _finish(self, say: Say) -> str:
        return say.finish or ("tool_calls" if say.calls else "stop")

    def _usage(self, say: Say) -> dict[str, Any] | None:
        if say.usage is None:
            return None
        read, written, cached, reasoning = say.tokens()
        return {
            "prompt_tokens": read,
            "completion_tokens": written,
            "total_tokens": read + written,
            "prompt_tokens_details": {"cached_tokens": cached},
            "completion_tokens_details": {"reasoning_tokens": reasoning},
        }

    def _call(self, call: Call) -> dict[str, Any]:
        return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}

    def whole(self, say: Say, asked: dict[str, Any]) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": say.whole or None, "refusal": None}
        if say.calls:
            message["tool_calls"] = [self._call(call) for call in say.calls]
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self._finish(say)}
        return self._frame(say, "chat.completion") | {"choices": [choice], "usage": self._usage(say)}

    def events(self, say: Say, asked: dict[str, Any]) -> Iterator[bytes]:
        def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
            choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
            return _event(self._frame(say, "chat.completion.chunk") | {"choices": [choice]})

        yield chunk({"role": "assistant", "content": ""})
        for piece in say.in_pieces():
            yield chunk({"content": piece})
        for at, call in enumerate(say.calls):
            begun = self._call(call) | {"index": at}
            begun["function"] = {"name": call.name, "arguments": ""}
            yield chunk({"tool_calls": [begun]})
            for half in (call.arguments[: len(call.arguments) // 2], call.arguments[len(call.arguments) // 2 :]):
                yield chunk({"tool_calls": [{"index": at, "function": {"arguments": half}}]})
        yield chunk({}, self._finish(say))
        if say.usage is not None and (asked.get("stream_options") or {}).get("include_usage"):
            yield _event(self._frame(say, "chat.completion.chunk") | {"choices": [], "usage": self._usage(say)})
        yield _event("[DONE]")


SHAPES: dict[str, Shape] = {"chat": Chat()}
