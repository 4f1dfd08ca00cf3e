"""The tool calls of one answer of a model: made side by side, and whatever is wrong with one goes back to the model."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec

from l02.agent.context import Context, ToolError
from l02.agent.thinking.conversation import Message, tool_result
from l02.agent.thinking.names import Names
from l02.bus.wire.agent.meter import without_binary
from l02.bus.wire.agent.texts import cut
from l02.domain.inference import ToolCall
from l02.domain.values import MAX_DEPTH, is_deeper
from l02.domain.weight import WEIGHT_IN_WORDS, is_too_heavy

MAX_CALLS = 64
"""Of one answer; the others are refused."""
_SHOWN_NAMES = 50
_LEAST_BYTES = 4 * 1024
_MAX_DEPTH = MAX_DEPTH - 10
"""They stand some levels deep in what is recorded."""


class _Unfit(Exception):
    """A call that cannot be made, in words for the model."""


def with_ids(calls: Sequence[ToolCall], before: int) -> list[ToolCall]:
    """The calls, each with an id that no other has: an answer to it must be known by that."""
    seen: set[str] = set()
    found = []
    for number, call in enumerate(calls):
        if not call.id or call.id in seen:
            call = msgspec.structs.replace(call, id=f"call_{before}_{number}")
        seen.add(call.id)
        found.append(call)
    return found


def as_message(text: str, calls: Sequence[ToolCall]) -> Message:
    """The answer, as it stands in the conversation."""
    message: Message = {"role": "assistant", "content": text}
    if calls:
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in calls
        ]
    return message


async def results_of(
    ctx: Context, calls: Sequence[ToolCall], names: Names, room: int, *, cut_off: bool
) -> list[Message]:
    """What came of each call, in their order, in about `room` bytes; `cut_off` if the answer's end is missing."""
    most = max(_LEAST_BYTES, min(room // 4, room // len(calls)))
    texts = await asyncio.gather(
        *(_made(ctx, number, call, names, cut_off=cut_off) for number, call in enumerate(calls))
    )
    return [tool_result(call.id, cut(text, most)) for call, text in zip(calls, texts, strict=True)]


async def _made(ctx: Context, number: int, call: ToolCall, names: Names, *, cut_off: bool) -> str:
    try:
        if number >= MAX_CALLS:
            raise _Unfit(f"only {MAX_CALLS} calls are made at once; this one was not")
        tool = names.tool(call.name)
        if tool is None:
            there = ", ".join(list(names)[:_SHOWN_NAMES]) or "none"
            raise _Unfit(f"there is no tool {cut(call.name, 256)!r}; there are: {there}")
        return _as_text(await ctx.tool(tool.name, **_arguments(call, cut_off=cut_off)))
    except _Unfit as error:
        return f"error: {error}"
    except ToolError as error:
        said = f"error: {error.code} {error.name}: {error.message}"
        return said if error.content is None else f"{said}\n{_as_text(error.content)}"


def _arguments(call: ToolCall, *, cut_off: bool) -> dict[str, Any]:
    raw = call.arguments.strip().encode(errors="replace") or b"{}"
    if is_too_heavy(raw):
        raise _Unfit(f"the arguments hold {WEIGHT_IN_WORDS}, so that the tool was not called; call it with less")
    try:
        arguments = msgspec.json.decode(raw)
    except (ValueError, RecursionError) as error:
        if cut_off:
            raise _Unfit(
                "the answer reached its limit before the arguments ended, so that the tool was not called; "
                "call it with less, or do it in several calls"
            ) from error
        raise _Unfit(f"the arguments are not JSON, so that the tool was not called: {error}") from error
    if not isinstance(arguments, dict):
        raise _Unfit("the arguments are not an object, so that the tool was not called")
    if is_deeper(arguments, _MAX_DEPTH):
        raise _Unfit("the arguments are nested too deeply, so that the tool was not called")
    return arguments


def _as_text(result: Any) -> str:
    """Images, sound and other blobs are left out: they are no text."""
    shown = without_binary(result)
    text = shown if isinstance(shown, str) else msgspec.json.encode(shown).decode()
    return text if shown is result else f"{text}\n(the bytes of images, sound or other blobs are left out)"
