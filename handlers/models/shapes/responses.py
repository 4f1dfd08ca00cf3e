"""Responses, as OpenAI has them. Nothing is kept there: each request holds the whole conversation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import msgspec
from msgspec import Raw, Struct

from l02.domain.inference import FinishReason, ModelUsage
from l02.handlers.models.conversation import Checked, Message
from l02.handlers.models.endpoints.draft import Draft, Tokens
from l02.handlers.models.endpoints.untrusted import read, read_if_any
from l02.handlers.models.settings import Endpoint
from l02.handlers.models.shapes.shape import (
    NOTHING,
    Cached,
    Reasoning,
    Shape,
    bearer,
    is_strict,
    refuse_error,
    usage_of,
)

_INCOMPLETE = {"max_output_tokens": FinishReason.LENGTH, "content_filter": FinishReason.CONTENT_FILTER}


class _Part(Struct):
    type: str = ""
    text: str | None = None
    refusal: str | None = None


class _Item(Struct):
    type: str = ""
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    content: list[_Part] | None = None


class _Incomplete(Struct):
    reason: str | None = None


class _Response(Struct):
    model: str | None = None
    status: str | None = None
    output: list[_Item] | None = None
    usage: Raw = NOTHING
    error: Raw = NOTHING
    incomplete_details: _Incomplete | None = None


class _Event(Struct):
    type: str = ""
    delta: str | None = None
    output_index: int | None = None
    item: _Item | None = None
    response: _Response | None = None
    message: str | None = None
    error: Raw = NOTHING


class _Usage(Struct):
    input_tokens: Tokens
    output_tokens: Tokens = 0
    input_tokens_details: Cached | None = None
    output_tokens_details: Reasoning | None = None

    def counted(self) -> ModelUsage:
        """As we count."""
        cached, reasoning = self.input_tokens_details, self.output_tokens_details
        return usage_of(self.input_tokens, cached, self.output_tokens, reasoning)


_RESPONSES = msgspec.json.Decoder(_Response)
_EVENTS = msgspec.json.Decoder(_Event)
_USAGES = msgspec.json.Decoder(_Usage | None)


class Responses(Shape):
    """`POST /responses`."""

    path: ClassVar[str] = "/responses"

    def headers(self, key: str | None) -> dict[str, str]:
        return bearer(key)

    def body(self, endpoint: Endpoint, asked: Checked, max_tokens: int) -> dict[str, Any]:
        request = asked.request
        body: dict[str, Any] = {
            **asked.parameters,
            **endpoint.parameters,
            "model": endpoint.model,
            "input": [item for message in asked.messages for item in _items(message)],
            "max_output_tokens": max_tokens,
            "store": False,
        }
        if effort := body.pop("reasoning_effort", None):
            body["reasoning"] = {"effort": effort}
        if asked.tools:
            body["tools"] = [
                {"type": "function", "strict": False} | msgspec.to_builtins(tool.function) for tool in asked.tools
            ]
        choice = request.tool_choice
        if choice is not None:
            named = choice.get("function") if isinstance(choice, dict) else None
            body["tool_choice"] = {"type": "function"} | named if isinstance(named, dict) else choice
        if request.temperature is not None:
            body["temperature"] = request.temperature
        if (schema := request.output_schema) is not None:
            body["text"] = {
                "format": {"type": "json_schema", "name": "output", "schema": schema, "strict": is_strict(schema)}
            }
        if request.stream:
            body["stream"] = True
        return body

    def whole(self, body: bytes, draft: Draft) -> None:
        self._end(read(_RESPONSES, body), draft)

    def piece(self, data: str, draft: Draft) -> str:
        if data.strip() == "[DONE]":
            return ""
        event = read(_EVENTS, data)
        match event.type:
            case "response.output_text.delta" | "response.refusal.delta":
                draft.refused |= event.type == "response.refusal.delta"
                draft.text(event.delta or "")
                return event.delta or ""
            case "response.output_item.added" if event.item and event.item.type == "function_call":
                draft.call(event.output_index, event.item.call_id or "", event.item.name or "")
            case "response.function_call_arguments.delta":
                draft.call(event.output_index, arguments=event.delta or "")
            case "response.output_item.done" if event.item and event.item.type == "function_call":
                item = event.item
                draft.call(event.output_index, item.call_id or "", item.name or "", whole=item.arguments)
            case "response.completed" | "response.incomplete" | "response.failed" if event.response:
                return self._end(event.response, draft)
            case "error":
                refuse_error(event.error if event.error != NOTHING else Raw(msgspec.json.encode(event.message or "")))
            case kind if "reasoning" in kind:
                draft.thought()
        return ""

    def _end(self, response: _Response, draft: Draft) -> str:
        refuse_error(response.error)
        if response.status not in (None, "completed", "incomplete"):
            refuse_error(Raw(msgspec.json.encode(f"the response is {response.status}")))
        draft.model = response.model or ""
        usage: _Usage | None = read_if_any(_USAGES, response.usage)
        if usage is not None:
            draft.usage = usage.counted()
        if response.status == "incomplete":
            reason = response.incomplete_details.reason if response.incomplete_details else None
            draft.finish = _INCOMPLETE.get(reason or "", FinishReason.LENGTH)
        elif response.status == "completed":
            draft.finish = FinishReason.STOP
        draft.ended = True
        draft.answered = draft.answered or response.output is not None
        return "" if draft.shown else _output(response.output or [], draft)


def _output(items: list[_Item], draft: Draft) -> str:
    text = ""
    for at, item in enumerate(items):
        if item.type == "function_call":
            draft.call(at, item.call_id or "", item.name or "", item.arguments or "")
        elif item.type == "message":
            for part in item.content or ():
                text += (part.text if part.type == "output_text" else part.refusal) or ""
                draft.refused |= bool(part.refusal)
    draft.text(text)
    return text


def _items(message: Message) -> Iterator[dict[str, Any]]:
    """A message of chat completions as items of an input."""
    if message.role == "tool":
        output = (
            [_part(part, "user") for part in message.parts] if isinstance(message.content, list) else message.content
        )
        yield {"type": "function_call_output", "call_id": message.tool_call_id or "", "output": output or ""}
        return
    if message.parts:
        yield {"role": message.role, "content": [_part(part, message.role) for part in message.parts]}
    for call in message.tool_calls or ():
        yield {
            "type": "function_call",
            "call_id": call.id,
            "name": call.function.name,
            "arguments": call.function.arguments,
        }


def _part(part: dict[str, Any], role: str) -> dict[str, Any]:
    """What is not known here is passed on as it is."""
    match part:
        case {"type": "text", "text": text}:
            return {"type": "output_text" if role == "assistant" else "input_text", "text": text}
        case {"type": "image_url", "image_url": {"url": url} as image}:
            return {"type": "input_image", "image_url": url, "detail": image.get("detail", "auto")}
        case {"type": "file", "file": dict(file)}:
            return {"type": "input_file", **file}
    return part
