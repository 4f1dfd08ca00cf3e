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


class Responses(Shape):
    """Responses, with every event that OpenAI sends."""

    def _response(self, say: Say, asked: dict[str, Any], status: str, output: list[dict[str, Any]]) -> dict[str, Any]:
        usage = None
        if status != "in_progress" and say.usage is not None:
            read, written, cached, reasoning = say.tokens()
            usage = {
                "input_tokens": read,
                "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
                "output_tokens": written,
                "output_tokens_details": {"reasoning_tokens": reasoning},
                "total_tokens": read + written,
            }
        tools = [{"description": None, "parameters": None, "strict": False} | tool for tool in asked.get("tools", [])]
        return {
            "id": "resp_1",
            "object": "response",
            "created_at": 1_700_000_000,
            "completed_at": None if status == "in_progress" else 1_700_000_001,
            "background": False,
            "frequency_penalty": 0.0,
            "max_output_tokens": asked.get("max_output_tokens"),
            "max_tool_calls": None,
            "presence_penalty": 0.0,
            "previous_response_id": None,
            "prompt_cache_key": None,
            "reasoning": None,
            "safety_identifier": None,
            "service_tier": "default",
            "store": asked.get("store", True),
            "text": {"format": {"type": "text"}},
            "top_logprobs": 0,
            "truncation": "disabled",
            "status": status,
            "error": None,
            "incomplete_details": {"reason": say.finish} if status == "incomplete" else None,
            "instructions": None,
            "metadata": {},
            "model": say.model,
            "output": output,
            "parallel_tool_calls": True,
            "temperature": 1.0,
            "tool_choice": asked.get("tool_choice", "auto"),
            "tools": tools,
            "top_p": 1.0,
            "usage": usage,
        }

    def _part(self, text: str) -> dict[str, Any]:
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}

    def _items(self, say: Say, status: str) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = []
        if say.whole or not say.calls:
            content = [self._part(say.whole)] if status == "completed" else []
            items.append({"id": "msg_1", "type": "message", "role": "assistant", "status": status, "content": content})
        for at, call in enumerate(say.calls):
            item = {"id": f"fc_{at}", "type": "function_call", "status": status, "call_id": call.id, "name": call.name}
            items.append(item | {"arguments": call.arguments if status == "completed" else ""})
        return items

    def _status(self, say: Say) -> str:
        return "incomplete" if say.finish else "completed"

    def whole(self, say: Say, asked: dict[str, Any]) -> dict[str, Any]:
        return self._response(say, asked, self._status(say), self._items(say, "completed"))

    def events(self, say: Say, asked: dict[str, Any]) -> Iterator[bytes]:
        number = -1

        def event(kind: str, **data: Any) -> bytes:
            nonlocal number
            number += 1
            return _event({"type": kind, "sequence_number": number} | data, kind)

        begun = self._response(say, asked, "in_progress", [])
        yield event("response.created", response=begun)
        yield event("response.in_progress", response=begun)
        done = self._items(say, "completed")
        for at, item in enumerate(self._items(say, "in_progress")):
            where = {"output_index": at, "item_id": item["id"]}
            yield event("response.output_item.added", output_index=at, item=item)
            if item["type"] == "message":
                where["content_index"] = 0
                yield event("response.content_part.added", **where, part=self._part(""))
                for piece in say.in_pieces():
                    yield event("response.output_text.delta", **where, delta=piece, logprobs=[])
                yield event("response.output_text.done", **where, text=say.whole, logprobs=[])
                yield event("response.content_part.done", **where, part=self._part(say.whole))
            else:
                arguments = done[at]["arguments"]
                for half in (arguments[: len(arguments) // 2], arguments[len(arguments) // 2 :]):
                    yield event("response.function_call_arguments.delta", **where, delta=half)
                yield event("response.function_call_arguments.done", **where, name=item["name"], arguments=arguments)
            yield event("response.output_item.done", output_index=at, item=done[at])
        yield event(f"response.{self._status(say)}", response=self.whole(say, asked))


class Anthropic(Shape):
    """Messages. Of its usage, `cached` was read from the cache; input is the rest."""

    def _usage(self, say: Say, *, begun: bool = False) -> dict[str, Any]:
        read, written, cached, _ = say.tokens()
        return {
            "input_tokens": read - cached,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": cached,
            "output_tokens": 1 if begun else written,
            "output_tokens_details": None,
            "cache_creation": None,
            "inference_geo": None,
            "server_tool_use": None,
            "service_tier": "standard",
        }

    def _message(self, say: Say, content: list[dict[str, Any]], stop: str | None, usage: Any) -> dict[str, Any]:
        frame: dict[str, Any] = {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": say.model,
            "content": content,
            "stop_reason": stop,
            "stop_sequence": None,
            "stop_details": None,
            "container": None,
        }
        return frame | ({"usage": usage} if say.usage is not None else {})

    def _call(self, call: Call) -> dict[str, Any]:
        return {"type": "tool_use", "id": call.id, "name": call.name, "input": {}, "caller": {"type": "direct"}}

    def _stop(self, say: Say) -> str:
        return say.finish or ("tool_use" if say.calls else "end_turn")

    def whole(self, say: Say, asked: dict[str, Any]) -> dict[str, Any]:
        text = {"type": "text", "text": say.whole, "citations": None}
        content: list[dict[str, Any]] = [text] if say.whole else []
        for call in say.calls:
            arguments = json.loads(call.arguments)
            content.append(self._call(call) | {"input": arguments})
        return self._message(say, content, self._stop(say), self._usage(say))

    def events(self, say: Say, asked: dict[str, Any]) -> Iterator[bytes]:
        def event(name: str, **data: Any) -> bytes:
            return _event({"type": name} | data, name)

        yield event("message_start", message=self._message(say, [], None, self._usage(say, begun=True)))
        at = 0
        if say.whole:
            yield event("content_block_start", index=0, content_block={"type": "text", "text": ""})
            yield event("ping")
            for piece in say.in_pieces():
                yield event("content_block_delta", index=0, delta={"type": "text_delta", "text": piece})
            yield event("content_block_stop", index=0)
            at = 1
        for index, call in enumerate(say.calls, at):
            yield event("content_block_start", index=index, content_block=self._call(call))
            for half in (call.arguments[: len(call.arguments) // 2], call.arguments[len(call.arguments) // 2 :]):
                yield event(
                    "content_block_delta", index=index, delta={"type": "input_json_delta", "partial_json": half}
                )
            yield event("content_block_stop", index=index)
        usage: dict[str, Any] = {} if say.usage is None else {"usage": self._usage(say)}
        yield event("message_delta", delta={"stop_reason": self._stop(say), "stop_sequence": None}, **usage)
        yield event("message_stop")

    def error(self, status: int, message: str) -> dict[str, Any]:
        kinds = {400: "invalid_request_error", 401: "authentication_error", 404: "not_found_error"}
        kinds |= {429: "rate_limit_error", 529: "overloaded_error"}
        return {"type": "error", "error": {"type": kinds.get(status, "api_error"), "message": message}}


SHAPES: dict[str, Shape] = {"chat": Chat(), "responses": Responses(), "anthropic": Anthropic()}
