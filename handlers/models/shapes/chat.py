"""Chat completions, as OpenAI has them and most others too."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec
from msgspec import Raw, Struct

from l02.domain.inference import FinishReason, ModelUsage
from l02.handlers.models.conversation import Checked
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

FINISH = {
    "length": FinishReason.LENGTH,
    "content_filter": FinishReason.CONTENT_FILTER,
    "tool_calls": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
}


class _Function(Struct):
    name: str | None = None
    arguments: Raw = NOTHING


class _Call(Struct):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None


class _Part(Struct):
    type: str = ""
    text: str | None = None


class _Message(Struct):
    content: str | list[_Part] | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[_Call] | None = None


class _Choice(Struct):
    index: int | None = None
    message: _Message | None = None
    delta: _Message | None = None
    finish_reason: str | None = None


class _Completion(Struct):
    """An answer, or a piece of one."""

    model: str | None = None
    choices: list[_Choice] | None = None
    usage: Raw = NOTHING
    error: Raw = NOTHING


class _Usage(Struct):
    prompt_tokens: Tokens
    completion_tokens: Tokens = 0
    prompt_tokens_details: Cached | None = None
    completion_tokens_details: Reasoning | None = None

    def counted(self) -> ModelUsage:
        """As we count."""
        cached, reasoning = self.prompt_tokens_details, self.completion_tokens_details
        return usage_of(self.prompt_tokens, cached, self.completion_tokens, reasoning)


_COMPLETIONS = msgspec.json.Decoder(_Completion)
_TEXTS = msgspec.json.Decoder(str)
_USAGES = msgspec.json.Decoder(_Usage | None)


class Chat(Shape):
    """`POST /chat/completions`."""

    path: ClassVar[str] = "/chat/completions"

    def headers(self, key: str | None) -> dict[str, str]:
        return bearer(key)

    def body(self, endpoint: Endpoint, asked: Checked, max_tokens: int) -> dict[str, Any]:
        request = asked.request
        body: dict[str, Any] = {
            **asked.parameters,
            **endpoint.parameters,
            "model": endpoint.model,
            "messages": request.messages,
            endpoint.max_tokens_key: max_tokens,
        }
        if request.tools:
            body["tools"] = request.tools
        if request.tool_choice is not None:
            body["tool_choice"] = request.tool_choice
        if request.temperature is not None:
            body["temperature"] = request.temperature
        if (schema := request.output_schema) is not None:
            body["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "output", "schema": schema, "strict": is_strict(schema)},
            }
        if request.stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        return body

    def whole(self, body: bytes, draft: Draft) -> None:
        self._take(read(_COMPLETIONS, body), draft)
        draft.ended = draft.answered

    def piece(self, data: str, draft: Draft) -> str:
        if data.strip() == "[DONE]":
            draft.ended = True
            return ""
        return self._take(read(_COMPLETIONS, data), draft)

    def _take(self, completion: _Completion, draft: Draft) -> str:
        refuse_error(completion.error)
        draft.model = draft.model or completion.model or ""
        usage: _Usage | None = read_if_any(_USAGES, completion.usage)
        if usage is not None:
            draft.usage = usage.counted()
        text = ""
        for choice in completion.choices or ():
            if choice.index:
                continue
            message = choice.message or choice.delta
            if message is not None:
                text += _message(message, draft)
            if choice.finish_reason:
                draft.finish = FINISH.get(choice.finish_reason, FinishReason.STOP)
            draft.answered = True
        return text


def _message(message: _Message, draft: Draft) -> str:
    content = message.content
    if isinstance(content, list):
        content = "".join(part.text or "" for part in content if part.type == "text")
    text = (content or "") + (message.refusal or "")
    if text:
        draft.text(text)
    if message.refusal:
        draft.refused = True
    if message.reasoning_content or message.reasoning:
        draft.thought()
    for call in message.tool_calls or ():
        function = call.function or _Function()
        draft.call(call.index, call.id or "", function.name or "", _arguments(function.arguments))
    return text


def _arguments(raw: Raw) -> str:
    """A text; some give the object itself."""
    text = bytes(raw)
    if text.startswith(b'"'):
        return _TEXTS.decode(text)
    return "" if raw == NOTHING else text.decode()
