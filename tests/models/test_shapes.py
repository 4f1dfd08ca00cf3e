"""The three kinds of endpoints: what is asked of each, and what is understood, whole and as a stream."""

from __future__ import annotations

from typing import Any

import pytest

from l02.domain.inference import FinishReason, ModelRequest, ModelUsage, ToolCall
from tests.models.conftest import Bridge
from tests.models.endpoint import ScriptedEndpoint
from tests.models.shapes import Call, Say

APIS = ("chat", "responses", "anthropic")
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}
TOOL = {"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": SCHEMA}}
IMAGE = "data:image/png;base64,iVBORw0KGgo="
CONVERSATION: tuple[dict[str, Any], ...] = (
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "Look"}, {"type": "image_url", "image_url": {"url": IMAGE}}]},
    {
        "role": "assistant",
        "content": "I see",
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"n": 1}'}},
            {"id": "c2", "type": "function", "function": {"name": "add", "arguments": "no JSON"}},
        ],
    },
    {"role": "tool", "tool_call_id": "c1", "content": "2"},
    {"role": "tool", "tool_call_id": "c2", "content": [{"type": "text", "text": "failed"}]},
)


@pytest.fixture(params=APIS)
def api(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=[False, True], ids=["whole", "stream"])
def stream(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


async def test_text_tool_calls_and_usage(bridge: Bridge, endpoint: ScriptedEndpoint, api: str, stream: bool) -> None:
    calls = [Call("add", '{"n": 1}', "c1"), Call("add", '{"n": 22}', "c2")]
    endpoint.say(Say("Let me see", calls, usage=(100, 20, 60)))
    price = {"input": 1, "cached_input": 0.1, "output": 10}
    await bridge.have({"endpoint": endpoint.url, "model": "any", "api": api, "price": price})
    outcome = await bridge.ask(stream=stream, tools=(TOOL,))
    answer, [attempt] = outcome.answer, outcome.attempts
    assert outcome.failure is None
    assert answer is not None
    assert (answer.text, answer.model, answer.finish_reason) == ("Let me see", "scripted-1", FinishReason.TOOL_CALLS)
    assert answer.tool_calls == tuple(ToolCall(id=call.id, name="add", arguments=call.arguments) for call in calls)
    assert attempt.usage == ModelUsage(input_tokens=100, cached_tokens=60, output_tokens=20)
    assert (attempt.cost, attempt.endpoint, attempt.model) == (
        40 + 6 + 200,
        endpoint.url.removeprefix("http://").removesuffix("/v1"),
        "any",
    )
    assert bridge.heard == (["Let", " me", " see"] if stream else [])
    assert endpoint.requests[0].shape == api


async def test_reasoning_counts(bridge: Bridge, endpoint: ScriptedEndpoint, stream: bool) -> None:
    endpoint.say(Say("Hello", usage=(10, 20, 0, 15)))
    for api in ("chat", "responses"):
        await bridge.have({"endpoint": endpoint.url, "model": "any", "api": api})
        outcome = await bridge.ask(stream=stream)
        assert outcome.usage == ModelUsage(input_tokens=10, output_tokens=20, reasoning_tokens=15)


async def test_what_is_not_said_is_estimated(
    bridge: Bridge, endpoint: ScriptedEndpoint, api: str, stream: bool
) -> None:
    endpoint.say(Say("Hello", usage=None))
    await bridge.have({"endpoint": endpoint.url, "model": "any", "api": api, "price": {"input": 1, "output": 1}})
    outcome = await bridge.ask(stream=stream, max_tokens=1000)
    assert outcome.answer is not None
    request = ModelRequest(messages=({"role": "user", "content": "Hi"},), max_tokens=1000, stream=stream)
    quoted = bridge.quote("m", request)
    assert outcome.usage.estimated
    assert (outcome.usage.tokens, outcome.cost) == (quoted.tokens, quoted.cost)


@pytest.mark.parametrize(
    ("api", "finish", "understood"),
    [
        ("chat", "length", FinishReason.LENGTH),
        ("chat", "content_filter", FinishReason.CONTENT_FILTER),
        ("chat", "whatever", FinishReason.STOP),
        ("responses", "max_output_tokens", FinishReason.LENGTH),
        ("responses", "content_filter", FinishReason.CONTENT_FILTER),
        ("anthropic", "max_tokens", FinishReason.LENGTH),
        ("anthropic", "refusal", FinishReason.CONTENT_FILTER),
        ("anthropic", "stop_sequence", FinishReason.STOP),
    ],
)
async def test_why_it_ended(
    bridge: Bridge, endpoint: ScriptedEndpoint, api: str, finish: str, understood: FinishReason, stream: bool
) -> None:
    endpoint.say(Say("Hello", finish=finish))
    await bridge.have({"endpoint": endpoint.url, "model": "any", "api": api})
    outcome = await bridge.ask(stream=stream)
    assert outcome.answer is not None
    assert outcome.answer.finish_reason is understood


async def test_a_schema_is_asked_for_and_read(
    bridge: Bridge, endpoint: ScriptedEndpoint, api: str, stream: bool
) -> None:
    endpoint.say(Say('{"n": 3}'), Say("no JSON"))
    await bridge.have({"endpoint": endpoint.url, "model": "any", "api": api})
    answers = [(await bridge.ask(stream=stream, output_schema=SCHEMA)).answer for _ in range(2)]
    assert [answer.output if answer else "none" for answer in answers] == [{"n": 3}, None]
    body = endpoint.requests[0].body
    named = {"name": "output", "schema": SCHEMA, "strict": True}
    assert {
        "chat": lambda: body["response_format"] == {"type": "json_schema", "json_schema": named},
        "responses": lambda: body["text"] == {"format": {"type": "json_schema"} | named},
        "anthropic": lambda: body["output_config"] == {"format": {"type": "json_schema", "schema": SCHEMA}},
    }[api]()


async def _asked(bridge: Bridge, endpoint: ScriptedEndpoint, api: str, **more: Any) -> dict[str, Any]:
    await bridge.have(
        {"endpoint": endpoint.url, "model": "any", "api": api, "parameters": {"top_p": 0.5}, "max_output": 99}
    )
    request = ModelRequest(messages=CONVERSATION, tools=(TOOL,), temperature=0.5, **more)
    assert (await bridge.call("m", request, agent_id="a1")).failure is None
    return endpoint.requests[-1].body


async def test_a_conversation_as_chat(bridge: Bridge, endpoint: ScriptedEndpoint) -> None:
    named = {"type": "function", "function": {"name": "add"}}
    assert await _asked(bridge, endpoint, "chat", tool_choice=named, parameters={"seed": 1, "n": 1, "top_p": 1}) == {
        "seed": 1,
        "top_p": 0.5,  # what the settings say holds
        "model": "any",
        "messages": [*CONVERSATION],
        "max_tokens": 99,
        "tools": [TOOL],
        "tool_choice": named,
        "temperature": 0.5,
    }


async def test_a_conversation_as_responses(bridge: Bridge, endpoint: ScriptedEndpoint) -> None:
    named = {"type": "function", "function": {"name": "add"}}
    assert await _asked(bridge, endpoint, "responses", tool_choice=named, parameters={"reasoning_effort": "low"}) == {
        "top_p": 0.5,
        "model": "any",
        "reasoning": {"effort": "low"},
        "input": [
            {"role": "system", "content": [{"type": "input_text", "text": "Be brief."}]},
            {
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "Look"},
                    {"type": "input_image", "image_url": IMAGE, "detail": "auto"},
                ],
            },
            {"role": "assistant", "content": [{"type": "output_text", "text": "I see"}]},
            {"type": "function_call", "call_id": "c1", "name": "add", "arguments": '{"n": 1}'},
            {"type": "function_call", "call_id": "c2", "name": "add", "arguments": "no JSON"},
            {"type": "function_call_output", "call_id": "c1", "output": "2"},
            {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "failed"}]},
        ],
        "max_output_tokens": 99,
        "store": False,
        "tools": [
            {"type": "function", "strict": False, "name": "add", "description": "Adds.", "parameters": SCHEMA},
        ],
        "tool_choice": {"type": "function", "name": "add"},
        "temperature": 0.5,
    }


async def test_a_conversation_as_messages(bridge: Bridge, endpoint: ScriptedEndpoint) -> None:
    kept = {"cache_control": {"type": "ephemeral"}}
    given = {"stop": "END", "parallel_tool_calls": False}
    assert await _asked(bridge, endpoint, "anthropic", tool_choice="required", parameters=given) == {
        "top_p": 0.5,
        "model": "any",
        "max_tokens": 99,
        "system": [{"type": "text", "text": "Be brief."} | kept],
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Look"},
                    {
                        "type": "image",
                        "source": {"type": "base64", "media_type": "image/png", "data": IMAGE.split(",")[1]},
                    },
                ],
            },
            {
                "role": "assistant",
                "content": [
                    {"type": "text", "text": "I see"},
                    {"type": "tool_use", "id": "c1", "name": "add", "input": {"n": 1}},
                    {"type": "tool_use", "id": "c2", "name": "add", "input": {"arguments": "no JSON"}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "c1", "content": [{"type": "text", "text": "2"}]},
                    {"type": "tool_result", "tool_use_id": "c2", "content": [{"type": "text", "text": "failed"}]}
                    | kept,
                ],
            },
        ],
        "stop_sequences": ["END"],
        "tools": [{"name": "add", "description": "Adds.", "input_schema": SCHEMA}],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
        "temperature": 0.5,
    }
    assert "cache_control" not in str(CONVERSATION)


async def test_the_connection_is_kept(bridge: Bridge, endpoint: ScriptedEndpoint, api: str) -> None:
    await bridge.have({"endpoint": endpoint.url, "model": "any", "api": api})
    for stream in (False, True, False, True):
        assert (await bridge.ask(stream=stream)).answer is not None
    assert endpoint.connections == 1
