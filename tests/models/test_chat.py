"""Chat completions: what is asked, what is understood, whole and as a stream."""

from __future__ import annotations

import pytest

from l02.domain.inference import FinishReason, ModelUsage, ToolCall
from tests.models.conftest import Bridge
from tests.models.endpoint import ScriptedEndpoint
from tests.models.shapes import Call, Say

TOOL = {"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": {"type": "object"}}}


@pytest.mark.parametrize("stream", [False, True])
async def test_text_tools_and_usage(bridge: Bridge, endpoint: ScriptedEndpoint, stream: bool) -> None:
    endpoint.say(
        Say("Let me see", [Call("add", '{"a": 1}', "c1"), Call("add", '{"a": 2}', "c2")], usage=(100, 20, 60, 7))
    )
    await bridge.have(
        {"endpoint": endpoint.url, "model": "any", "price": {"input": 1, "cached_input": 0.1, "output": 10}}
    )
    outcome = await bridge.ask(stream=stream, tools=(TOOL,), max_tokens=77, temperature=0.5)
    answer, [attempt] = outcome.answer, outcome.attempts
    assert outcome.failure is None
    assert answer is not None
    assert (answer.text, answer.model, answer.finish_reason) == ("Let me see", "scripted-1", FinishReason.TOOL_CALLS)
    assert answer.tool_calls == (
        ToolCall(id="c1", name="add", arguments='{"a": 1}'),
        ToolCall(id="c2", name="add", arguments='{"a": 2}'),
    )
    assert attempt.usage == ModelUsage(input_tokens=100, cached_tokens=60, output_tokens=20, reasoning_tokens=7)
    assert attempt.cost == 40 * 1 + 60 * 0.1 + 20 * 10
    assert bridge.heard == (["Let", " me", " see"] if stream else [])
    body = endpoint.requests[0].body
    assert body == {
        "model": "any",
        "messages": [{"role": "user", "content": "Hi"}],
        "max_tokens": 77,
        "temperature": 0.5,
        "tools": [TOOL],
    } | ({"stream": True, "stream_options": {"include_usage": True}} if stream else {})


async def test_the_connection_is_kept(bridge: Bridge, endpoint: ScriptedEndpoint) -> None:
    await bridge.have({"endpoint": endpoint.url, "model": "any"})
    for stream in (False, True, False, True):
        assert (await bridge.ask(stream=stream)).answer is not None
    assert endpoint.connections == 1
