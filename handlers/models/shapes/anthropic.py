"""Messages, as Anthropic has them: the system's text apart, and what stays the same marked for the provider's cache."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec
from msgspec import Raw, Struct

from l02.domain.inference import FinishReason, ModelUsage
from l02.handlers.models.conversation import Checked, Message, Tool
from l02.handlers.models.endpoints.draft import Draft, Tokens
from l02.handlers.models.endpoints.untrusted import read, read_if_any
from l02.handlers.models.settings import Endpoint
from l02.handlers.models.shapes.shape import NOTHING, Shape, refuse_error

_VERSION = "2023-06-01"
_FINISH = {
    "max_tokens": FinishReason.LENGTH,
    "model_context_window_exceeded": FinishReason.LENGTH,
    "tool_use": FinishReason.TOOL_CALLS,
    "refusal": FinishReason.CONTENT_FILTER,
}
_UP_TO_HERE = {"cache_control": {"type": "ephemeral"}}


class _Block(Struct):
    type: str = ""
    text: str | None = None
    id: str | None = None
    name: str | None = None
    input: Raw = NOTHING


class _Message(Struct):
    model: str | None = None
    content: list[_Block] | None = None
    stop_reason: str | None = None
    usage: Raw = NOTHING
    error: Raw = NOTHING


class _Delta(Struct):
    type: str = ""
    text: str | None = None
    partial_json: str | None = None
    stop_reason: str | None = None


class _Event(Struct):
    type: str = ""
    index: int | None = None
    message: _Message | None = None
    content_block: _Block | None = None
    delta: _Delta | None = None
    usage: Raw = NOTHING
    error: Raw = NOTHING


class _Thinking(Struct):
    thinking_tokens: Tokens | None = None


class _Usage(Struct):
    input_tokens: Tokens | None = None
    output_tokens: Tokens | None = None
    cache_read_input_tokens: Tokens | None = None
    cache_creation_input_tokens: Tokens | None = None
    output_tokens_details: _Thinking | None = None


_MESSAGES = msgspec.json.Decoder(_Message)
_EVENTS = msgspec.json.Decoder(_Event)
_USAGES = msgspec.json.Decoder(_Usage | None)


class Anthropic(Shape):
    """`POST /messages`."""

    path: ClassVar[str] = "/messages"

    def headers(self, key: str | None) -> dict[str, str]:
        return {"anthropic-version": _VERSION} | ({} if key is None else {"x-api-key": key})

    def body(self, endpoint: Endpoint, asked: Checked, max_tokens: int) -> dict[str, Any]:
        request = asked.request
        given = dict(asked.parameters)
        stop, parallel = given.pop("stop", None), given.pop("parallel_tool_calls", True)
        body: dict[str, Any] = {
            **given,
            **endpoint.parameters,
            "model": endpoint.model,
            "max_tokens": max_tokens,
            "messages": _turns(asked.messages),
        }
        if stop is not None:
            body["stop_sequences"] = stop if isinstance(stop, list) else [stop]
        if asked.tools:
            body["tools"] = [_tool(tool) for tool in asked.tools]
            choice = _choice(request.tool_choice)
            if choice is not None or not parallel:
                body["tool_choice"] = (choice or {"type": "auto"}) | (
                    {} if parallel else {"disable_parallel_tool_use": True}
                )
        system = [part for message in asked.messages if _is_system(message) for part in map(_part, message.parts)]
        if system:
            body["system"] = system
        # The prefix that the next request has too: the tools, the system's text, and what has been said.
        for prefix in (
            system or body.get("tools"),
            body["messages"][-1]["content"] if len(body["messages"]) > 1 else None,
        ):
            if prefix:
                prefix[-1] |= _UP_TO_HERE
        if request.temperature is not None:
            body["temperature"] = request.temperature
        if request.output_schema is not None:
            body["output_config"] = {"format": {"type": "json_schema", "schema": request.output_schema}}
        if request.stream:
            body["stream"] = True
        return body

    def whole(self, body: bytes, draft: Draft) -> None:
        message = read(_MESSAGES, body)
        refuse_error(message.error)
        for at, block in enumerate(message.content or ()):
            _begin(block, at, draft)
            if block.type == "tool_use" and block.input != NOTHING:
                draft.call(at, arguments=bytes(block.input).decode())
        self._note(draft, message.model, message.usage, message.stop_reason)
        draft.answered = draft.ended = message.content is not None

    def piece(self, data: str, draft: Draft) -> str:
        event = read(_EVENTS, data)
        delta = event.delta or _Delta()
        match event.type:
            case "message_start" if event.message:
                self._note(draft, event.message.model, event.message.usage, None)
            case "content_block_start" if event.content_block:
                return _begin(event.content_block, event.index, draft)
            case "content_block_delta" if delta.type == "text_delta":
                draft.text(delta.text or "")
                return delta.text or ""
            case "content_block_delta" if delta.type == "input_json_delta":
                draft.call(event.index, arguments=delta.partial_json or "")
            case "content_block_delta":
                draft.thought()
            case "message_delta":
                self._note(draft, None, event.usage, delta.stop_reason)
            case "message_stop":
                draft.answered = draft.ended = True
            case "error":
                refuse_error(event.error)
        return ""

    def _note(self, draft: Draft, model: str | None, raw: Raw, stop_reason: str | None) -> None:
        draft.model = draft.model or model or ""
        if stop_reason:
            draft.finish = _FINISH.get(stop_reason, FinishReason.STOP)
        usage: _Usage | None = read_if_any(_USAGES, raw)
        if usage is not None:
            draft.usage = _usage(usage, draft.usage or ModelUsage())


def _begin(block: _Block, at: int | None, draft: Draft) -> str:
    if block.type == "tool_use":
        draft.call(at, block.id or "", block.name or "")
    elif block.type == "text":
        draft.text(block.text or "")
        return block.text or ""
    else:
        draft.thought()
    return ""


def _usage(usage: _Usage, before: ModelUsage) -> ModelUsage:
    """Anthropic's figures grow in a stream, and its input leaves out what its cache read or wrote."""
    cached = before.cached_tokens if usage.cache_read_input_tokens is None else usage.cache_read_input_tokens
    written = (
        before.cache_write_tokens if usage.cache_creation_input_tokens is None else usage.cache_creation_input_tokens
    )
    rest = before.input_tokens - before.cached_tokens - before.cache_write_tokens
    output = usage.output_tokens or before.output_tokens
    thinking = usage.output_tokens_details.thinking_tokens if usage.output_tokens_details else None
    return ModelUsage(
        input_tokens=(rest if usage.input_tokens is None else usage.input_tokens) + cached + written,
        cached_tokens=cached,
        cache_write_tokens=written,
        output_tokens=output,
        reasoning_tokens=min(before.reasoning_tokens if thinking is None else thinking, output),
    )


def _is_system(message: Message) -> bool:
    return message.role in ("system", "developer")


def _turns(messages: list[Message]) -> list[dict[str, Any]]:
    """The conversation in turns of user and assistant; what tools answered is the user's."""
    turns: list[dict[str, Any]] = []
    for message in messages:
        if _is_system(message):
            continue
        role = "assistant" if message.role == "assistant" else "user"
        content = _content(message)
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += content
        elif content:
            turns.append({"role": role, "content": content})
    return turns


def _content(message: Message) -> list[dict[str, Any]]:
    if message.role == "tool":
        content = list(map(_part, message.parts))
        return [{"type": "tool_result", "tool_use_id": message.tool_call_id or "", "content": content}]
    calls = [
        {"type": "tool_use", "id": call.id, "name": call.function.name, "input": _input(call.function.arguments)}
        for call in message.tool_calls or ()
    ]
    return [*map(_part, message.parts), *calls]


def _input(arguments: str) -> dict[str, Any]:
    """What a model wrote that is no object, which Anthropic does not take, is said as it is."""
    try:
        return msgspec.json.decode(arguments or "{}", type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeEncodeError, RecursionError):
        return {"arguments": arguments}


def _tool(tool: Tool) -> dict[str, Any]:
    described = {} if tool.function.description is None else {"description": tool.function.description}
    return {
        "name": tool.function.name,
        **described,
        "input_schema": tool.function.parameters or {"type": "object", "properties": {}},
    }


def _choice(choice: Any) -> dict[str, Any] | None:
    match choice:
        case "required":
            return {"type": "any"}
        case "auto" | "none":
            return {"type": choice}
        case {"function": {"name": name}}:
            return {"type": "tool", "name": name}
        case dict():
            return choice
    return None


def _part(part: dict[str, Any]) -> dict[str, Any]:
    """What is not known here is passed on as it is."""
    match part:
        case {"type": "image_url", "image_url": {"url": str(url)}}:
            return {"type": "image", "source": _source(url)}
        case {"type": "file", "file": {"file_data": str(url)}}:
            return {"type": "document", "source": _source(url)}
    return dict(part)


def _source(url: str) -> dict[str, Any]:
    kind, found, data = url.removeprefix("data:").partition(";base64,")
    if url.startswith("data:") and found:
        return {"type": "base64", "media_type": kind, "data": data}
    return {"type": "url", "url": url}
