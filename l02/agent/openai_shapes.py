"""OpenAI's two APIs as `ctx.model` has it: what was asked, and the answer, whole or as a stream.

What would differ from run to run (times, random ids) is left out, so that an execution that runs again sees the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import msgspec

from l02.agent.answer import Answer
from l02.domain.inference import FinishReason


class Unsupported(Exception):
    """A request wants what cannot be given here."""


class Shape(Protocol):
    """One of the two."""

    def asked(self, body: dict[str, Any]) -> dict[str, Any]:
        """The arguments of `ctx.model`. Raises Unsupported, KeyError, TypeError or ValueError for what is none."""

    def whole(self, name: str, answer: Answer, body: dict[str, Any]) -> dict[str, Any]:
        """The answer's body; `name` is unique in the execution."""

    def events(self, name: str, answer: Answer, body: dict[str, Any]) -> Iterator[bytes]:
        """The same as a stream."""


class _Chat:
    """Chat completions."""

    _OWN = {"model", "messages", "tools", "tool_choice", "response_format", "max_tokens", "max_completion_tokens"} | {
        *("temperature", "stream", "stream_options")
    }

    def asked(self, body: dict[str, Any]) -> dict[str, Any]:
        """See Shape."""
        return {
            "model": body["model"],
            "messages": body["messages"],
            "tools": body.get("tools"),
            "tool_choice": body.get("tool_choice"),
            "output_schema": _schema((body.get("response_format") or {}), "json_schema"),
            "max_tokens": body.get("max_completion_tokens", body.get("max_tokens")),
            "temperature": body.get("temperature"),
            "parameters": _rest(body, self._OWN),
        }

    def whole(self, name: str, answer: Answer, body: dict[str, Any]) -> dict[str, Any]:
        """See Shape."""
        message: dict[str, Any] = {"role": "assistant", "content": answer.text or None, "refusal": None}
        if answer.tool_calls:
            message["tool_calls"] = self._calls(answer)
        choice = {"index": 0, "message": message, "finish_reason": answer.finish_reason, "logprobs": None}
        return self._head(name, answer, "chat.completion") | {"choices": [choice], "usage": self._usage(answer)}

    def events(self, name: str, answer: Answer, body: dict[str, Any]) -> Iterator[bytes]:
        """See Shape."""
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
        deltas += [{"content": answer.text}] if answer.text else []
        deltas += [{"tool_calls": [{"index": at, **call}]} for at, call in enumerate(self._calls(answer))]
        for delta in deltas:
            yield self._chunk(name, answer, [{"index": 0, "delta": delta, "finish_reason": None, "logprobs": None}])
        yield self._chunk(name, answer, [{"index": 0, "delta": {}, "finish_reason": answer.finish_reason}])
        if (body.get("stream_options") or {}).get("include_usage"):
            yield self._chunk(name, answer, [], self._usage(answer))
        yield b"data: [DONE]\n\n"

    def _chunk(
        self, name: str, answer: Answer, choices: list[dict[str, Any]], usage: dict[str, Any] | None = None
    ) -> bytes:
        return _event(self._head(name, answer, "chat.completion.chunk") | {"choices": choices, "usage": usage})

    def _head(self, name: str, answer: Answer, kind: str) -> dict[str, Any]:
        return {"id": f"chatcmpl-{name}", "object": kind, "created": 0, "model": answer.model}

    def _calls(self, answer: Answer) -> list[dict[str, Any]]:
        return [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in answer.tool_calls
        ]

    def _usage(self, answer: Answer) -> dict[str, Any]:
        usage = answer.usage
        return {
            "prompt_tokens": usage.input_tokens,
            "completion_tokens": usage.output_tokens,
            "total_tokens": usage.tokens,
            "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
            "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        }


class _Responses:
    """Responses. Nothing is kept of them here: a request has the whole conversation in it."""

    _OWN = {"model", "input", "instructions", "tools", "tool_choice", "text", "max_output_tokens", "temperature"} | {
        *("stream", "stream_options", "store", "include", "metadata", "truncation", "background", "reasoning")
    }

    def asked(self, body: dict[str, Any]) -> dict[str, Any]:
        """See Shape."""
        if body.get("previous_response_id") is not None or body.get("conversation") is not None:
            raise Unsupported("earlier responses are not kept: send the conversation as `input`")
        said = body["input"]
        messages = [] if body.get("instructions") is None else [{"role": "system", "content": body["instructions"]}]
        for item in [{"role": "user", "content": said}] if isinstance(said, str) else said:
            messages += self._message(item, messages)
        choice = body.get("tool_choice")
        if isinstance(choice, dict):
            choice = {"type": "function", "function": {"name": choice["name"]}}
        effort = (body.get("reasoning") or {}).get("effort")
        return {
            "model": body["model"],
            "messages": messages,
            "tools": [*map(self._tool, body["tools"])] if body.get("tools") else None,
            "tool_choice": choice if body.get("tools") else None,
            "output_schema": _schema((body.get("text") or {}).get("format") or {}, None),
            "max_tokens": body.get("max_output_tokens"),
            "temperature": body.get("temperature"),
            "parameters": _rest(body, self._OWN) | ({} if effort is None else {"reasoning_effort": effort}),
        }

    def _message(self, item: dict[str, Any], before: list[dict[str, Any]]) -> list[dict[str, Any]]:
        match item.get("type", "message"):
            case "message":
                content = item["content"]
                return [
                    {"role": item["role"], "content": content if isinstance(content, str) else [*map(_part, content)]}
                ]
            case "function_call":
                function = {"name": item["name"], "arguments": item["arguments"]}
                call = {"id": item["call_id"], "type": "function", "function": function}
                if before and before[-1]["role"] == "assistant":  # one message, as the model has said it
                    before[-1]["tool_calls"] = [*before[-1].get("tool_calls", ()), call]
                    return []
                return [{"role": "assistant", "content": None, "tool_calls": [call]}]
            case "function_call_output":
                output = item["output"]
                text = output if isinstance(output, str) else msgspec.json.encode(output).decode()
                return [{"role": "tool", "tool_call_id": item["call_id"], "content": text}]
            case "reasoning":
                return []
            case other:
                raise Unsupported(f"input of type {other!r}")

    def _tool(self, tool: dict[str, Any]) -> dict[str, Any]:
        if tool.get("type") != "function":
            raise Unsupported(f"a tool of type {tool.get('type')!r}: the agent itself calls tools, by `function`")
        return {"type": "function", "function": {key: value for key, value in tool.items() if key != "type"}}

    def whole(self, name: str, answer: Answer, body: dict[str, Any]) -> dict[str, Any]:
        """See Shape."""
        return self._response(name, answer, body, "completed", [*self._items(name, answer)])

    def events(self, name: str, answer: Answer, body: dict[str, Any]) -> Iterator[bytes]:
        """See Shape."""
        for number, event in enumerate(self._steps(name, answer, body)):
            yield _event(event | {"sequence_number": number}, event["type"])

    def _steps(self, name: str, answer: Answer, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        yield {"type": "response.created", "response": self._response(name, answer, body, "in_progress", [])}
        items = [*self._items(name, answer)]
        for at, item in enumerate(items):
            place = {"output_index": at, "item_id": item["id"]}
            is_text = item["type"] == "message"
            begun: dict[str, Any] = {"content": []} if is_text else {"arguments": ""}
            added = item | begun | {"status": "in_progress"}
            yield {"type": "response.output_item.added", "output_index": at, "item": added}
            if is_text:
                [part] = item["content"]
                place |= {"content_index": 0}
                yield {"type": "response.content_part.added", **place, "part": part | {"text": ""}}
                yield {"type": "response.output_text.delta", **place, "delta": part["text"], "logprobs": []}
                yield {"type": "response.output_text.done", **place, "text": part["text"], "logprobs": []}
                yield {"type": "response.content_part.done", **place, "part": part}
            else:
                arguments = item["arguments"]
                yield {"type": "response.function_call_arguments.delta", **place, "delta": arguments}
                done = {"arguments": arguments, "name": item["name"]}
                yield {"type": "response.function_call_arguments.done", **place, **done}
            yield {"type": "response.output_item.done", "output_index": at, "item": item}
        response = self._response(name, answer, body, "completed", items)
        yield {"type": f"response.{response['status']}", "response": response}

    def _items(self, name: str, answer: Answer) -> Iterator[dict[str, Any]]:
        if answer.text or not answer.tool_calls:
            content = [{"type": "output_text", "text": answer.text, "annotations": [], "logprobs": []}]
            yield {
                "type": "message",
                "id": f"msg_{name}",
                "status": "completed",
                "role": "assistant",
                "content": content,
            }
        for at, call in enumerate(answer.tool_calls):
            said = {"call_id": call.id, "name": call.name, "arguments": call.arguments}
            yield {"type": "function_call", "id": f"fc_{name}_{at}", "status": "completed", **said}

    def _response(
        self, name: str, answer: Answer, body: dict[str, Any], status: str, output: list[dict[str, Any]]
    ) -> dict[str, Any]:
        usage = answer.usage
        is_cut = status == "completed" and answer.finish_reason is FinishReason.LENGTH
        return {
            "id": f"resp_{name}",
            "object": "response",
            "created_at": 0,
            "status": "incomplete" if is_cut else status,
            "incomplete_details": {"reason": "max_output_tokens"} if is_cut else None,
            "error": None,
            "instructions": body.get("instructions"),
            "metadata": {},
            "model": answer.model,
            "output": output,
            "parallel_tool_calls": True,
            "temperature": body.get("temperature"),
            "tool_choice": body.get("tool_choice", "auto"),
            "tools": body.get("tools", []),
            "top_p": body.get("top_p"),
            "usage": {
                "input_tokens": usage.input_tokens,
                "input_tokens_details": {"cached_tokens": usage.cached_tokens},
                "output_tokens": usage.output_tokens,
                "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
                "total_tokens": usage.tokens,
            },
        }


SHAPES: dict[str, Shape] = {"/chat/completions": _Chat(), "/responses": _Responses()}
"""By how the path ends."""


def _schema(wanted: dict[str, Any], key: str | None) -> dict[str, Any] | None:
    """The schema of a `response_format`, or of a format of responses, which has it one level higher."""
    match wanted.get("type", "text"):
        case "text":
            return None
        case "json_object":
            return {"type": "object"}
        case "json_schema":
            schema: dict[str, Any] = (wanted if key is None else wanted[key])["schema"]
            return schema
        case other:
            raise Unsupported(f"an answer of type {other!r}")


def _part(part: dict[str, Any]) -> dict[str, Any]:
    match part["type"]:
        case "input_text" | "output_text" | "text":
            return {"type": "text", "text": part["text"]}
        case "input_image":
            return {"type": "image_url", "image_url": {"url": part["image_url"]}}
        case other:
            raise Unsupported(f"content of type {other!r}")


def _rest(body: dict[str, Any], own: set[str]) -> dict[str, Any]:
    return {key: value for key, value in body.items() if key not in own and value is not None}


def _event(data: dict[str, Any], name: str | None = None) -> bytes:
    return (f"event: {name}\n" if name else "").encode() + b"data: " + msgspec.json.encode(data) + b"\n\n"
